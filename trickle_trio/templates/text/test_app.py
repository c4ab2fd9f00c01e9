"""What moves is told, once. Run by ``pytest``; no network, no codecs."""

from __future__ import annotations

import json

import numpy as np

from app import Motion
from trickle_trio import VideoFrame
from trickle_trio.testing import open_stream


def picture(brightness: int, number: int) -> VideoFrame:
    """A grey picture, the so many-th of 30 a second."""
    return VideoFrame.from_ndarray(np.full((72, 128, 3), brightness, np.uint8), 3000 * number)


async def test_it_tells_when_something_begins_to_move_and_when_it_ceases() -> None:
    async with open_stream(Motion()) as stream:
        for number, brightness in enumerate((50, 50, 90, 130, 130, 130)):
            frame = picture(brightness, number)
            assert await stream.video(frame) is frame
    told = [json.loads(text) for text in stream.data]
    assert [line["moves"] for line in told] == [True, False]
    assert [round(30 * line["seconds"]) for line in told] == [2, 4]


async def test_how_much_is_moving_is_a_parameter() -> None:
    async with open_stream(Motion(), params={"threshold": 0.5}) as stream:
        for number, brightness in enumerate((50, 90, 250)):
            await stream.video(picture(brightness, number))
    assert [json.loads(text)["moves"] for text in stream.data] == [True]
