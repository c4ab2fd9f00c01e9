"""One function, frame in, frame out: the smallest processor."""

from __future__ import annotations

import trio

from trickle_trio import VideoFrame, serve


async def invert(frame: VideoFrame) -> VideoFrame:
    """Turn bright into dark. ``frame.tensor`` is [height, width, 3], float32 in 0..1."""
    return frame.replace_tensor(1 - frame.tensor)


if __name__ == "__main__":
    trio.run(serve(invert))
