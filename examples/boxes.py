"""Objects with boxes: drawn into the picture, and sent as data beside it.

    trickle serve examples/boxes.py:Boxes
    trickle stream start --subscribe-url http://127.0.0.1:3389/in --publish-url http://127.0.0.1:3389/out \
                         --data-url http://127.0.0.1:3389/data
    trickle subscribe http://127.0.0.1:3389/data

The model looks for red things: a convolution with weights made by hand, so that nothing is to be downloaded. Any other
that gives boxes can stand in its place.
"""

from __future__ import annotations

import torch
import trio
from attrs import asdict, frozen
from torch import Tensor, nn

from trickle_trio import FrameProcessor, VideoFrame, serve

CELL = 8
"""Pixels a side of what the model sees as one."""


@frozen
class Box:
    """An object: corners in pixels, the second one outside."""

    label: str
    score: float
    left: int
    top: int
    right: int
    bottom: int


class RedDetector(nn.Module):
    """Pictures [1, 3, height, width] in, how red each cell is, in 0..1, out."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.AvgPool2d(CELL)
        self.redness = nn.Conv2d(3, 1, kernel_size=1, bias=False)
        self.redness.weight = nn.Parameter(torch.tensor([1.0, -0.7, -0.7]).view(1, 3, 1, 1))

    def forward(self, picture: Tensor) -> Tensor:
        """Score the cells."""
        return self.redness(self.cells(picture)).clamp(0, 1)[0, 0]  # type: ignore[no-any-return]


class Boxes(FrameProcessor):
    """Finds, draws and tells."""

    threshold = 0.4

    def load_model(self) -> None:
        """Make the model."""
        self.model = RedDetector().eval()

    async def process_video_async(self, frame: VideoFrame) -> VideoFrame:
        """Look for objects, in a thread so that the loop goes on meanwhile."""
        found = await trio.to_thread.run_sync(self.detect, frame.to_tensor(layout="BCHW"))
        await self.send_data({"seconds": frame.seconds, "objects": [asdict(box) for box in found]})
        return frame.replace_tensor(draw(frame.tensor, found))

    def detect(self, picture: Tensor) -> list[Box]:
        """Run the model; what is red is taken for one object."""
        with torch.inference_mode():
            scores = self.model(picture)
        rows, columns = torch.where(scores > self.threshold)
        if not len(rows):
            return []
        left, top = int(columns.min()) * CELL, int(rows.min()) * CELL
        right, bottom = (int(columns.max()) + 1) * CELL, (int(rows.max()) + 1) * CELL
        return [Box("red", float(scores.max()), left, top, right, bottom)]


def draw(picture: Tensor, boxes: list[Box], width: int = 2) -> Tensor:
    """Draw boxes into a picture, in white."""
    for box in boxes:
        inside = picture[box.top : box.bottom, box.left : box.right]
        inside[:width] = inside[-width:] = 1
        inside[:, :width] = inside[:, -width:] = 1
    return picture


if __name__ == "__main__":
    trio.run(serve(Boxes()))
