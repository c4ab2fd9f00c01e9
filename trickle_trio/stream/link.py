"""A stream as the processor in it sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import trio
from attrs import frozen

from trickle_trio.media.frames import AudioFrame, VideoFrame
from trickle_trio.stream.events import Events
from trickle_trio.stream.outbox import Outbox
from trickle_trio.stream.overlay import Overlay
from trickle_trio.stream.times import stamped, ticks_of
from trickle_trio.stream.tracks import Tracks
from trickle_trio.stream.waiting import WaitingFrames


@frozen(eq=False)
class Link:
    """Where what the processor sends reaches the stream: a ``StreamLink``."""

    events: Events
    data: Outbox | None
    frames: WaitingFrames
    tracks: Tracks
    overlay: Overlay

    def send_data(self, text: str) -> bool:
        """Queue a line for the data channel; False: there is none. Never blocks, for any thread."""
        return self.data is not None and self.data.put(text)

    def send_event(self, event: Mapping[str, Any], event_type: str) -> bool:
        """Queue an event; False: there is no events channel. Never blocks, for any thread.

        ``TypeError`` or ``ValueError``: JSON cannot hold it.
        """
        return self.events.send(event, event_type)

    async def send_input_frame(self, frame: VideoFrame | AudioFrame) -> bool:
        """Put a picture before the handler, as if it had been decoded; False: sound cannot be put
        there, and nothing can once the input has ended.

        Waits while the input is full where every frame counts. Cancelling is safe.
        ``ValueError``: the frame has no time.
        """
        if isinstance(frame, AudioFrame):
            await trio.lowlevel.checkpoint()
            return False
        ticks = ticks_of(frame)
        if ticks is None:
            raise ValueError(f"{frame.timestamp!r} in units of {frame.time_base!r} is no time")
        self.tracks.expect_picture()
        return await self.frames.put(stamped(frame, ticks))

    def set_loading_overlay(self, enabled: bool) -> bool:  # noqa: FBT001  the users' signature
        """Show the loading overlay from the next frame on, or leave it to its rules again; False:
        it is turned off by configuration. Any thread may call it.
        """
        return self.overlay.ask(enabled)

    def set_loading_progress(self, progress: float | None, message: str | None = None) -> bool:
        """Have the overlay say something else; False as above. Any thread may call it.

        ``TypeError``, ``ValueError``: it cannot be said.
        """
        return self.overlay.say(progress, message)
