"""What a processor can say to the stream it runs in, beside the frames it returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import trio
from attrs import define

from trickle_trio.media.frames import AudioFrame, VideoFrame
from trickle_trio.processor.spoken import json_text


class StreamLink(Protocol):
    """A running stream, as the processor in it sees it. The pipeline implements it.

    Nothing here waits for the network: what cannot be queued is counted there and answered with False. What is no
    coroutine may be called from any thread.
    """

    def send_data(self, text: str) -> bool:
        """Queue a line for the data channel."""
        ...

    def send_event(self, event: Mapping[str, Any], event_type: str) -> bool:
        """Queue an event for the events channel; ``event_type`` becomes its ``queue_event_type``."""
        ...

    async def send_input_frame(self, frame: VideoFrame | AudioFrame) -> bool:
        """Put a frame into the input, as if it had been decoded; waits while the input is full."""
        ...

    def set_loading_overlay(self, enabled: bool) -> bool:  # noqa: FBT001  the users' signature
        """Show the loading overlay, or leave it to its rules."""
        ...

    def set_loading_progress(self, progress: float | None, message: str | None = None) -> bool:
        """Say how far the loading is. May be called from any thread."""
        ...


@define(eq=False)
class Outlet:
    """Where a processor's stream is plugged in. Without one, whatever is sent goes nowhere and says so: False."""

    link: StreamLink | None = None

    def attach(self, link: StreamLink) -> None:
        """Plug a stream in. Raises RuntimeError when there is one: its data would go to the wrong place."""
        if self.link is not None:
            raise RuntimeError("this processor already runs in a stream")
        self.link = link

    def detach(self, link: StreamLink) -> None:
        """Unplug this stream; another one stays."""
        if self.link is link:
            self.link = None


class SendsToStream:
    """The methods by which user code reaches its stream; each returns whether there was one that took it.

    An async handler awaits ``send_data``; a plain one, which runs in a thread, calls ``send_data_nowait``. Both do the
    same and keep their order; likewise for events.
    """

    @property
    def _outlet(self) -> Outlet:
        raise NotImplementedError

    async def send_data(self, data: Any) -> bool:
        """Publish text, or anything that JSON can hold, on the data channel: a line of it, or several.

        Numbers, arrays and tensors of numpy and torch are written as numbers and lists. Returns whether there was a
        channel that took it: False outside a stream, and in one that has no data channel. Does not block; when it is
        cancelled, the data has been sent all the same. Raises TypeError or ValueError for what JSON cannot hold.
        """
        sent = self.send_data_nowait(data)
        await trio.lowlevel.checkpoint()
        return sent

    def send_data_nowait(self, data: Any) -> bool:
        """Publish on the data channel as ``send_data`` does. Never blocks; any thread may call it."""
        text = data if isinstance(data, str) else json_text(data)
        link = self._outlet.link
        return link is not None and link.send_data(text)

    async def send_monitoring_event(
        self, event: Mapping[str, Any], event_type: str = "stream_trace"
    ) -> bool:
        """Publish an event on the events channel, under this ``queue_event_type``. Does not block."""
        sent = self.send_monitoring_event_nowait(event, event_type)
        await trio.lowlevel.checkpoint()
        return sent

    def send_monitoring_event_nowait(
        self, event: Mapping[str, Any], event_type: str = "stream_trace"
    ) -> bool:
        """Publish an event as ``send_monitoring_event`` does. Never blocks; any thread may call it."""
        link = self._outlet.link
        return link is not None and link.send_event(event, event_type)

    async def send_input_frame(self, frame: VideoFrame | AudioFrame) -> bool:
        """Put a frame of one's own into the input. Waits while the input is full; cancelling is safe."""
        link = self._outlet.link
        if link is None:
            await trio.lowlevel.checkpoint()
            return False
        return await link.send_input_frame(frame)

    def set_loading_overlay(self, enabled: bool) -> bool:  # noqa: FBT001  the users' signature
        """Show the loading overlay from the next frame on, or leave it to its rules again.

        While it is shown so, frames do not reach the handler. Never blocks; any thread may call it.
        """
        link = self._outlet.link
        return link is not None and link.set_loading_overlay(enabled)

    def set_loading_progress(self, progress: float | None, message: str | None = None) -> bool:
        """Say on the loading overlay how far it is: 0..1, or None where nobody knows; and with which words.

        A message of None leaves that as it is; it does not make the overlay appear. Never blocks; any thread may call
        it. Raises TypeError or ValueError for what is no number, or no text.
        """
        link = self._outlet.link
        return link is not None and link.set_loading_progress(progress, message)
