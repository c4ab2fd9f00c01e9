"""What goes in comes out. Run by ``pytest``; no network, no codecs."""

from __future__ import annotations

import numpy as np

from app import Passthrough
from trickle_trio import AudioFrame, VideoFrame
from trickle_trio.testing import open_stream


async def test_pictures_and_sound_come_out_as_they_went_in() -> None:
    picture = VideoFrame.from_ndarray(np.full((72, 128, 3), 90, np.uint8))
    sound = AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32))
    async with open_stream(Passthrough(), params={"anything": 1}) as stream:
        assert await stream.video(picture) is picture
        assert await stream.audio(sound) == [sound]
        await stream.update_params({"anything": 2})
