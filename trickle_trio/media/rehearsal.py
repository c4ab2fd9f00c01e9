"""A small picture goes the way of a frame, so that the first one that counts does not go it first."""

from __future__ import annotations

from typing import Final

import av

from trickle_trio.media.convert import Look
from trickle_trio.media.video_frame import VideoFrame

SIZE: Final = 64
"""Pixels a side."""


def rehearse_tensors() -> None:
    """Make a tensor of a picture, work on it, and draw it. Blocks for a millisecond or two, and for torch's import.

    swscale, numpy and torch each set something up when they are first called, and their code is read from the disk: in
    all, a stream's first frame took 20 ms longer.
    """
    frame = VideoFrame.from_av_frame(av.VideoFrame(SIZE, SIZE, "yuv420p"))
    tensor = frame.tensor.clone()
    tensor[..., 0] = (tensor[..., 0] * 0.5 + tensor.mean()).clamp(0, 1)
    frame.replace_tensor(tensor).rendered(Look(SIZE, SIZE, "yuv420p", frame.colour))
