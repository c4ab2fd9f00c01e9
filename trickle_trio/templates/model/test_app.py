"""The model is loaded, and its result shown. Run by ``pytest``; no network, no codecs."""

from __future__ import annotations

import numpy as np
import pytest

from app import Model
from trickle_trio import ParamsError, VideoFrame
from trickle_trio.testing import open_stream

HALVES = np.zeros((72, 128, 3), np.uint8)
HALVES[:, 64:] = 255
"""Black and white, with an edge between columns 63 and 64."""


async def test_edges_are_bright_and_the_rest_is_dark() -> None:
    async with open_stream(Model()) as stream:
        shown = await stream.video(VideoFrame.from_ndarray(HALVES))
    assert isinstance(shown, VideoFrame)
    bright = shown.to_ndarray().mean(axis=(0, 2))
    assert (bright[63:65] == 255).all()
    assert bright.sum() == 2 * 255


async def test_the_strength_is_a_parameter() -> None:
    async with open_stream(Model(), params={"strength": 0}) as stream:
        shown = await stream.video(VideoFrame.from_ndarray(HALVES))
        assert isinstance(shown, VideoFrame)
        assert (shown.to_ndarray() == HALVES).all()
        with pytest.raises(ParamsError, match="strength"):
            await stream.update_params({"strength": 2})
