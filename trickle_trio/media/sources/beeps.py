"""The sound of the test card: a quiet tone, and a beep at the beginning of each second."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from trickle_trio.media.sources.card import FLASH_SECONDS

RATE: Final = 48_000
BEEP_HERTZ: Final = 1000
TONE_HERTZ: Final = 220
"""Whole numbers: after a second everything repeats, so one second is all that is ever made."""

BEEP_LEVEL: Final = 0.5
TONE_LEVEL: Final = 0.03
"""Of full scale: enough to hear whether the sound breaks off, and no more."""

RAMP_SECONDS: Final = 0.002
"""How long the beep takes to begin and end: it would click otherwise."""


class Beeps:
    """The samples that belong to each frame of a picture, mono."""

    def __init__(self, fps: int) -> None:
        self._fps = fps
        second = _one_second()
        self._sound = np.concatenate((second, second))

    def first_sample(self, index: int) -> int:
        """The number of the sample that is heard when frame ``index`` is shown."""
        return index * RATE // self._fps

    def samples(self, index: int) -> NDArray[np.float32]:
        """What is heard from frame ``index`` to the next: [1, samples]."""
        first, end = self.first_sample(index), self.first_sample(index + 1)
        start = first % RATE
        return self._sound[np.newaxis, start : start + end - first]


def _one_second() -> NDArray[np.float32]:
    time = np.arange(RATE) / RATE
    ramp = np.clip(np.minimum(time, FLASH_SECONDS - time) / RAMP_SECONDS, 0, 1)
    beep = BEEP_LEVEL * ramp * np.sin(2 * np.pi * BEEP_HERTZ * time)
    return (beep + TONE_LEVEL * np.sin(2 * np.pi * TONE_HERTZ * time)).astype(np.float32)
