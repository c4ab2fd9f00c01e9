"""For tests of a processor: it runs as in a stream, without a network, without codecs and without waiting.

    async def test_it_inverts() -> None:
        black = VideoFrame.from_ndarray(np.zeros((72, 128, 3), np.uint8))
        async with open_stream(invert) as stream:
            shown = await stream.video(black)
        assert shown.to_ndarray().min() == 255

That is a test for pytest-trio; ``trio.run`` runs it anywhere else. For a test with a network in it, ``serve_relay`` and
``serve`` run in the nursery of a test as they do anywhere: both take port 0, and report their address.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import trio
from attrs import define, evolve, field

from trickle_trio.media.frames import AudioFrame, VideoFrame
from trickle_trio.processor import Handlers, OverlayConfig, VideoProcessingResult
from trickle_trio.processor.spoken import json_text
from trickle_trio.service.processors import processors_for
from trickle_trio.stream.pipeline import OURS, STOP_HANDLER

NO_PARAMS: Final[Mapping[str, Any]] = {}


@define(eq=False)
class ProcessorStream:
    """A stream as the processor in it sees it. What it sends is kept, in its order."""

    handlers: Handlers
    params: dict[str, Any] = field(factory=dict)
    """What holds by now, with the defaults that the processor declares."""
    data: list[str] = field(factory=list)
    """Texts for the data channel: of ``send_data(value)`` the JSON."""
    events: list[tuple[str, dict[str, Any]]] = field(factory=list)
    """Events of the processor's own, each with its type."""
    inputs: list[VideoFrame] = field(factory=list)
    """Pictures that it put into its own input; nobody hands them to it here."""
    overlay: OverlayConfig = field(init=False)
    """The loading overlay, with what it would say by now. It is shown to nobody, and holds no frame back."""
    is_overlay_on: bool = False
    """Whether the processor asked for it last."""

    def __attrs_post_init__(self) -> None:
        self.overlay = self.handlers.overlay_config or OverlayConfig()

    async def video(self, frame: VideoFrame) -> VideoFrame | VideoProcessingResult:
        """Have a picture processed: what would be shown, or ``Withheld``.

        Blocks as long as the handler does; cancelling is safe. Raises ``HandlerError`` where the handler raises, or
        gives back what is no picture; in a stream, the input would be shown then.
        """
        return await self.handlers.video(frame)

    async def audio(self, frame: AudioFrame) -> list[AudioFrame]:
        """Have a stretch of sound processed: what would be heard in its place. Otherwise as ``video``."""
        return await self.handlers.audio(frame)

    async def update_params(self, params: Mapping[str, Any]) -> None:
        """Change parameters; those of the stream (its size, its frame rate) do not reach the processor.

        Raises ``ParamsError``, naming the field, for what the processor's declaration refuses, and ``HandlerError``
        where its updater does; nothing has changed then.
        """
        changes = self.handlers.changed_params(self.params, _processors(params))
        await self.handlers.update_params(changes, self.params)
        self.params.update(changes)

    # -- what the processor calls: a ``StreamLink``

    def send_data(self, text: str) -> bool:
        """Keep it."""
        self.data.append(text)
        return True

    def send_event(self, event: Mapping[str, Any], event_type: str) -> bool:
        """Keep it. Raises ``TypeError`` or ``ValueError`` for what JSON cannot hold, as in a stream."""
        self.events.append((event_type, json.loads(json_text(event))))
        return True

    async def send_input_frame(self, frame: VideoFrame | AudioFrame) -> bool:
        """Keep a picture; False: sound cannot be put there."""
        await trio.lowlevel.checkpoint()
        if isinstance(frame, VideoFrame):
            self.inputs.append(frame)
        return isinstance(frame, VideoFrame)

    def set_loading_overlay(self, enabled: bool) -> bool:  # noqa: FBT001  the users' signature
        """Keep what was asked for; False: the processor's configuration has none."""
        self.is_overlay_on = enabled and self.overlay.enabled
        return self.overlay.enabled

    def set_loading_progress(self, progress: float | None, message: str | None = None) -> bool:
        """Keep what would be said. Raises ``TypeError`` or ``ValueError`` for what cannot be."""
        words = self.overlay.message if message is None else message
        self.overlay = evolve(self.overlay, progress=progress, message=words)
        return self.overlay.enabled


@asynccontextmanager
async def open_stream(
    processor: object,
    *,
    params: Mapping[str, Any] = NO_PARAMS,
    load: Mapping[str, Any] = NO_PARAMS,
) -> AsyncIterator[ProcessorStream]:
    """Load a processor's model, with ``load`` for its loader, start a stream with ``params``, and stop it at the end.

    ``processor``: whatever ``serve`` takes. Its model is loaded once, however many streams it is in, one after another;
    of a class, a processor is made. Parameters of the stream (its size, its frame rate) do not reach the processor.
    Raises ``HandlerError`` where what is loaded, called at the start or at the stop raises; ``ParamsError`` for
    parameters that its declaration refuses; ``TypeError`` for what is no processor; ``RuntimeError`` while it is in
    another stream. Cancelling is safe. What is called at the stop has five seconds, as in a stream; here it is a
    ``trio.TooSlowError`` that it needs longer.
    """
    [handlers] = processors_for(processor, 1)
    await handlers.load(**load)
    stream = ProcessorStream(handlers, handlers.first_params(_processors(params)))
    handlers.attach(stream)
    try:
        await handlers.prepare()
        try:
            await handlers.stream_started(stream.params)
            yield stream
        finally:
            with trio.fail_after(STOP_HANDLER, shield=True):
                await handlers.stream_stopped()
    finally:
        handlers.detach(stream)


def _processors(params: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are not the stream's own."""
    return {key: value for key, value in params.items() if key not in OURS}
