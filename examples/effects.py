"""Seven effects, switched while the stream runs.

    trickle serve examples/effects.py:Effects
    trickle stream params --param effect=invert --param intensity=1

``effect`` is the name of one of the functions below, or none; ``intensity`` says how much of it, from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import trio
from attrs import field, frozen
from attrs.validators import ge, in_, le
from torch import Tensor

from trickle_trio import VideoFrame, param_updater, serve, video_handler

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


class Effects:
    """Applies the effect that was asked for last."""

    @frozen
    class Params:
        """What may be asked for. Wrong values are refused by name, and the dashboard draws a control for each."""

        effect: str = field(default="red_tint", validator=in_(["none", *EFFECTS]))
        """Which of the functions above."""
        intensity: float = field(default=0.3, validator=[ge(0), le(1)])
        """How much of it."""

    params = Params()

    @param_updater
    async def change(self, params: Params) -> None:
        """Take all parameters as they are from now on: at the start, and at each change."""
        self.params = params

    @video_handler
    async def picture(self, frame: VideoFrame) -> VideoFrame:
        """Apply the effect."""
        if self.params.effect == "none":
            return frame
        effect = EFFECTS[self.params.effect]
        return frame.replace_tensor(effect(frame.tensor, self.params.intensity))


if __name__ == "__main__":
    trio.run(serve(Effects()))
