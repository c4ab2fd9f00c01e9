"""What ``trickle demo`` does to the picture: its colours drift, as ``strength`` says."""

from __future__ import annotations

import math
from typing import Any

from trickle_trio import FrameProcessor, VideoFrame

TURN = 6.0
"""Seconds until the same colour comes again."""


class Drift(FrameProcessor):
    """Multiplies each colour by a slow wave."""

    strength = 0.5

    def load_model(self) -> None:
        """Import torch before the first frame needs it: that takes a second, and a thread is the
        place for it.
        """
        import torch

        self.phases = torch.tensor([0.0, 1.0, 2.0]) * (2 * math.pi / 3)

    async def process_video_async(self, frame: VideoFrame) -> VideoFrame:
        """Tint one frame."""
        wave = 0.5 + 0.5 * (self.phases + 2 * math.pi * frame.seconds / TURN).cos()
        return frame.replace_tensor(frame.tensor.mul_(1 - self.strength * wave))

    def update_params(self, params: dict[str, Any]) -> None:
        """Take a new ``strength``, from 0 to 1."""
        self.strength = min(max(float(params.get("strength", self.strength)), 0.0), 1.0)
