"""Bright comes out dark. Run by ``pytest``; no network, no codecs."""

from __future__ import annotations

import numpy as np

from app import invert
from trickle_trio import VideoFrame
from trickle_trio.testing import open_stream


async def test_bright_comes_out_dark() -> None:
    bright = VideoFrame.from_ndarray(np.full((72, 128, 3), 250, np.uint8))
    async with open_stream(invert) as stream:
        shown = await stream.video(bright)
    assert isinstance(shown, VideoFrame)
    assert (shown.to_ndarray() == 5).all()
