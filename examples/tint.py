"""A green tint: the smallest processor. Run it with ``trickle serve examples/tint.py:tint``, or as a program."""

from __future__ import annotations

import trio

from trickle_trio import VideoFrame, serve


async def tint(frame: VideoFrame) -> VideoFrame:
    """Make the picture greener. The tensor is [height, width, 3], float32 in 0..1."""
    tensor = frame.tensor.clone()
    tensor[..., 1] = (tensor[..., 1] * 1.5).clamp(0, 1)
    return frame.replace_tensor(tensor)


if __name__ == "__main__":
    trio.run(serve(tint, port=8000))
