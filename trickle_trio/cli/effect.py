"""What ``trickle demo`` does to the picture: its colours drift."""

from __future__ import annotations

import math

from attrs import field, frozen, validators

from trickle_trio import FrameProcessor, VideoFrame


class Drift(FrameProcessor):
    """Multiplies each colour by a slow wave."""

    @frozen
    class Params:
        """How the colours drift."""

        strength: float = field(default=0.5, validator=[validators.ge(0), validators.le(1)])
        """How much of the colour goes at its lowest."""
        turn: float = field(default=6.0, validator=[validators.ge(1), validators.le(30)])
        """Seconds until the same colour comes again."""

    now = Params()

    def load_model(self) -> None:
        """Import torch before the first frame needs it: that takes a second, and a thread is the
        place for it.
        """
        import torch

        self.phases = torch.tensor([0.0, 1.0, 2.0]) * (2 * math.pi / 3)

    async def process_video_async(self, frame: VideoFrame) -> VideoFrame:
        """Tint one frame."""
        wave = 0.5 + 0.5 * (self.phases + 2 * math.pi * frame.seconds / self.now.turn).cos()
        return frame.replace_tensor(frame.tensor.mul_(1 - self.now.strength * wave))

    async def update_params(self, params: Params) -> None:  # type: ignore[override]  # an object of all
        """Take all parameters as they are by now."""
        self.now = params
