"""Twice as large: the output takes the size of what the handler gives back.

    trickle serve examples/super_resolution.py:SuperResolution

The model enlarges and sharpens; a trained one can stand in its place.
"""

from __future__ import annotations

import torch
import trio
from torch import Tensor, nn

from trickle_trio import VideoFrame, model_loader, serve, video_handler


class Enlarger(nn.Module):
    """Pictures [1, 3, height, width] in, [1, 3, 2 * height, 2 * width] out."""

    def __init__(self) -> None:
        super().__init__()
        self.enlarge = nn.Upsample(scale_factor=2, mode="bicubic")
        self.sharpen = nn.Conv2d(3, 3, 3, padding=1, padding_mode="replicate", groups=3, bias=False)
        kernel = torch.tensor([[0.0, -0.25, 0.0], [-0.25, 2.0, -0.25], [0.0, -0.25, 0.0]])
        self.sharpen.weight = nn.Parameter(kernel.expand(3, 1, 3, 3).clone())

    def forward(self, picture: Tensor) -> Tensor:
        """Enlarge."""
        return self.sharpen(self.enlarge(picture))  # type: ignore[no-any-return]


class SuperResolution:
    """Gives back pictures of twice the width and height."""

    @model_loader
    def load(self) -> None:
        """Make the model."""
        self.model = Enlarger().eval()

    @video_handler
    def picture(self, frame: VideoFrame) -> Tensor:
        """Enlarge one picture, in a thread. A bare tensor gets the frame's time."""
        with torch.inference_mode():
            return self.model(frame.to_tensor(layout="BCHW"))  # type: ignore[no-any-return]


if __name__ == "__main__":
    trio.run(serve(SuperResolution()))
