"""Seven effects, switched while the stream runs.

    trickle serve examples/effects.py:Effects
    trickle stream params --param effect=invert --param intensity=1

``effect`` is the name of one of the functions below, or none; ``intensity`` says how much of it, from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import trio
from torch import Tensor

from trickle_trio import FrameProcessor, VideoFrame, serve

Effect = Callable[[Tensor, float], Tensor]
"""Takes a picture, [height, width, 3] in 0..1, and gives another. What leaves 0..1 is clipped when it is encoded."""


def tint(channel: int, picture: Tensor, intensity: float) -> Tensor:
    """Add one of the colours."""
    return picture + intensity * torch.eye(3)[channel]


def grayscale(picture: Tensor, intensity: float) -> Tensor:
    """Take the colours away."""
    gray = picture @ torch.tensor([0.2126, 0.7152, 0.0722])
    return picture.lerp(gray.unsqueeze(-1).expand_as(picture), intensity)


def invert(picture: Tensor, intensity: float) -> Tensor:
    """Turn bright into dark."""
    return picture.lerp(1 - picture, intensity)


def brightness(picture: Tensor, intensity: float) -> Tensor:
    """Make everything brighter."""
    return picture * (1 + intensity)


def color_shift(picture: Tensor, intensity: float) -> Tensor:
    """Give each colour's place to the next."""
    return picture.lerp(picture.roll(1, dims=-1), intensity)


EFFECTS: dict[str, Effect] = {
    "red_tint": partial(tint, 0),
    "green_tint": partial(tint, 1),
    "blue_tint": partial(tint, 2),
    "grayscale": grayscale,
    "invert": invert,
    "brightness": brightness,
    "color_shift": color_shift,
}


class Effects(FrameProcessor):
    """Applies the effect that was asked for last."""

    effect: Effect | None = EFFECTS["red_tint"]
    intensity = 0.3

    async def on_stream_start(self, params: dict[str, Any]) -> None:
        """Begin as the start says."""
        await self.update_params(params)

    async def update_params(self, params: dict[str, Any]) -> None:
        """Switch; what is wrong changes nothing, and is reported."""
        effect = self.effect
        if "effect" in params:
            name = params["effect"]
            if name not in ("none", *EFFECTS):
                raise ValueError(f"effect: expected none, {', '.join(EFFECTS)}; got {name!r}")
            effect = EFFECTS.get(name)
        self.intensity = min(max(float(params.get("intensity", self.intensity)), 0.0), 1.0)
        self.effect = effect

    async def process_video_async(self, frame: VideoFrame) -> VideoFrame:
        """Apply the effect."""
        if self.effect is None:
            return frame
        return frame.replace_tensor(self.effect(frame.tensor, self.intensity))


if __name__ == "__main__":
    trio.run(serve(Effects()))
