"""What was asked of the picture."""

from __future__ import annotations

from attrs import define

from trickle_trio.media.frames import Fit, VideoFrame
from trickle_trio.stream.throttle import Throttle


@define(eq=False)
class Wishes:
    """What was asked of the picture; may change while the stream runs."""

    size: tuple[int, int] | None
    throttle: Throttle
    keep_size: bool
    """The output keeps the size that the handler was given, whatever it returns."""
    fit: Fit = Fit.COVER

    def fitted(self, frame: VideoFrame) -> VideoFrame:
        """The frame at the size that was asked for. Quick: nothing is scaled before somebody looks."""
        return frame.fitted(*self.size, self.fit) if self.size else frame
