"""``TrickleClient``: one stream through a processor, without a service around it."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any
from uuid import uuid4

import trio
from attrs import define, evolve, field, frozen

from trickle_trio.media.encode import AudioEncoderSettings, VideoEncoderSettings
from trickle_trio.media.frames import VideoFrame
from trickle_trio.processor import FrameSkipConfig, OverlayConfig, as_processor
from trickle_trio.service.defaults import stream_defaults
from trickle_trio.service.schemas import checked_update
from trickle_trio.stream.ending import Outcome
from trickle_trio.stream.meters import StreamStatistics
from trickle_trio.stream.pipeline import Stream
from trickle_trio.stream.settings import DEFAULT_FRAMERATE, StreamPolicy, StreamSettings


@frozen(eq=False)
class Stopping:
    """A stop that is under way: awaiting it waits until everything is closed; it need not be awaited."""

    _ended: trio.Event

    def __await__(self) -> Generator[Any, Any, None]:
        return self._ended.wait().__await__()

    @classmethod
    def over(cls) -> Stopping:
        """One that has nothing to wait for."""
        stopping = cls(trio.Event())
        stopping._ended.set()
        return stopping


@define(eq=False)
class _Run:
    """One ``start``, while it lasts. ``stream`` is there once the model is loaded."""

    stream: Stream | None = None
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    ended: trio.Event = field(factory=trio.Event)


class TrickleClient:
    """Runs a stream through a processor, in any form that ``serve`` takes; without one, pictures pass unchanged.

    An address that is None is not used. ``width`` and ``height``: the size that the handler gets, both or neither;
    ``max_framerate``: frames a second at most. ``policy``, ``video``, ``audio`` and ``relay_tokens``: as for
    ``serve``.
    ``overlay_config`` and ``frame_skip_config``: instead of what the processor says. Raises TypeError for
    what is no processor, ValueError for an address that is none of a channel, or a size that is half.
    """

    def __init__(
        self,
        subscribe_url: str | None = None,
        publish_url: str | None = None,
        control_url: str | None = None,
        events_url: str | None = None,
        data_url: str | None = None,
        *,
        width: int | None = None,
        height: int | None = None,
        max_framerate: int = DEFAULT_FRAMERATE,
        frame_processor: Any = None,
        policy: StreamPolicy | None = None,
        video: VideoEncoderSettings | None = None,
        audio: AudioEncoderSettings | None = None,
        relay_tokens: Mapping[str, str] | None = None,
        overlay_config: OverlayConfig | None = None,
        frame_skip_config: FrameSkipConfig | None = None,
    ) -> None:
        chosen = stream_defaults(policy, video, audio, relay_tokens)
        self._settings = StreamSettings(
            request_id="",
            subscribe_url=subscribe_url,
            publish_url=publish_url,
            control_url=control_url,
            events_url=events_url,
            data_url=data_url,
            width=width,
            height=height,
            max_framerate=max_framerate,
            policy=chosen.policy,
            video=chosen.video,
            audio=chosen.audio,
            relay_tokens=chosen.relay_tokens,
            overlay=overlay_config,
            frame_skip=frame_skip_config,
        )
        self._handlers = as_processor(_unchanged if frame_processor is None else frame_processor)
        self._run: _Run | None = None

    @property
    def running(self) -> bool:
        """Whether ``start`` runs."""
        return self._run is not None

    async def start(
        self, request_id: str | None = None, params: Mapping[str, Any] | None = None
    ) -> Outcome | None:
        """Load the model if that is still to be done, and run the stream until it ends or is stopped.

        Returns why it ended, None after ``stop``. ``params`` go to the processor; ``request_id`` stands in events, and
        is made up when it is missing. May be called again afterwards. Raises HandlerError when the model cannot be
        loaded or ``on_stream_start`` fails, ValueError for ``params`` that the processor refuses, RuntimeError while
        it runs already. Cancelling is safe: the open segment is ended, within a bounded time.
        """
        if self._run is not None:
            raise RuntimeError("this client runs already: one stream at a time")
        settings = evolve(
            self._settings, request_id=request_id or uuid4().hex, params=dict(params or {})
        )
        run = self._run = _Run()
        try:
            with run.scope:
                await self._handlers.load()
                await self._handlers.prepare()
                run.stream = Stream(settings, self._handlers, checked_update)
                return await run.stream.run()
        finally:
            self._run = None
            run.ended.set()
        return None

    def stop(self) -> Stopping:
        """End the stream that runs, if one does. Does not block; ``await`` it to wait until everything is closed."""
        if self._run is None:
            return Stopping.over()
        self._run.scope.cancel()
        return Stopping(self._run.ended)

    async def update_params(self, params: Mapping[str, Any]) -> None:
        """Change parameters of the running stream, as the control channel does.

        Raises ValueError, naming the field, when one is wrong, RuntimeError when no stream runs.
        """
        if self._stream is None:
            raise RuntimeError("no stream runs: start() one")
        await self._stream.update_params(params)

    def statistics(self) -> StreamStatistics | None:
        """Return the numbers of the running stream; None when none runs, which is so too while the model loads."""
        stream = self._stream
        return None if stream is None else stream.statistics()

    @property
    def _stream(self) -> Stream | None:
        return None if self._run is None else self._run.stream


class SimpleTrickleClient:
    """A client that is told what to do with the stream when it runs it."""

    def __init__(self, subscribe_url: str, publish_url: str) -> None:
        self.subscribe_url = subscribe_url
        self.publish_url = publish_url
        self._client: TrickleClient | None = None

    async def process_stream(
        self,
        frame_processor: Any,
        request_id: str | None = None,
        width: int | None = None,
        height: int | None = None,
        **options: Any,
    ) -> Outcome | None:
        """Run the stream through a processor until it ends or is stopped; all as in ``TrickleClient``."""
        if self._client is not None and self._client.running:
            raise RuntimeError("this client runs already: one stream at a time")
        self._client = TrickleClient(
            self.subscribe_url,
            self.publish_url,
            width=width,
            height=height,
            frame_processor=frame_processor,
            **options,
        )
        return await self._client.start(request_id)

    def stop(self) -> Stopping:
        """End the stream that runs, if one does; as in ``TrickleClient``."""
        return Stopping.over() if self._client is None else self._client.stop()


async def _unchanged(frame: VideoFrame) -> None:
    """Pass every picture on."""
