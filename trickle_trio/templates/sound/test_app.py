"""Soft sound becomes louder, loud sound is not clipped. Run by ``pytest``; no network, no codecs."""

from __future__ import annotations

import numpy as np
import pytest

from app import Volume
from trickle_trio import AudioFrame
from trickle_trio.testing import open_stream


def tone(loudness: float) -> AudioFrame:
    """A stretch of a tone of 440 Hz, in stereo."""
    wave = loudness * np.sin(np.arange(1024) * (2 * np.pi * 440 / 48_000), dtype=np.float32)
    return AudioFrame.from_ndarray(np.stack([wave, wave]))


async def test_soft_sound_becomes_louder_and_loud_sound_is_not_clipped() -> None:
    async with open_stream(Volume(), params={"gain": 3}) as stream:
        [soft] = await stream.audio(tone(0.01))
        assert np.abs(soft.samples).max() == pytest.approx(0.03, rel=0.01)
        [loud] = await stream.audio(tone(1.0))
        assert 0.9 < np.abs(loud.samples).max() < 1.0


async def test_the_gain_changes_while_the_stream_runs() -> None:
    async with open_stream(Volume()) as stream:
        await stream.update_params({"gain": 0})
        [silent] = await stream.audio(tone(0.5))
    assert not silent.samples.any()
