"""Digits as little pictures: no font file, readable after any encoding."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

WIDTH: Final = 6
HEIGHT: Final = 7
"""Dots of one character, with the gap behind it."""

_DOTS: Final = {
    # One number a row from the top; its five bits are the dots from the left.
    "0": (0x0E, 0x11, 0x13, 0x15, 0x19, 0x11, 0x0E),
    "1": (0x04, 0x0C, 0x04, 0x04, 0x04, 0x04, 0x0E),
    "2": (0x0E, 0x11, 0x01, 0x06, 0x08, 0x10, 0x1F),
    "3": (0x1F, 0x01, 0x02, 0x06, 0x01, 0x11, 0x0E),
    "4": (0x02, 0x06, 0x0A, 0x12, 0x1F, 0x02, 0x02),
    "5": (0x1F, 0x10, 0x1E, 0x01, 0x01, 0x11, 0x0E),
    "6": (0x06, 0x08, 0x10, 0x1E, 0x11, 0x11, 0x0E),
    "7": (0x1F, 0x01, 0x02, 0x04, 0x08, 0x08, 0x08),
    "8": (0x0E, 0x11, 0x11, 0x0E, 0x11, 0x11, 0x0E),
    "9": (0x0E, 0x11, 0x11, 0x0F, 0x01, 0x02, 0x0C),
    ":": (0x00, 0x04, 0x04, 0x00, 0x04, 0x04, 0x00),
    ".": (0x00, 0x00, 0x00, 0x00, 0x00, 0x0C, 0x0C),
}


class Glyphs:
    """Digits, colon and point, ``scale`` pixels a dot, in two brightnesses."""

    def __init__(self, scale: int, ink: int, paper: int) -> None:
        self._glyphs = {sign: _drawn(dots, scale, ink, paper) for sign, dots in _DOTS.items()}

    def write(self, plane: NDArray[np.uint8], x: int, y: int, text: str) -> None:
        """Draw a text into a plane, its upper left corner at x, y. ``KeyError``: a sign that there is none of."""
        line = np.concatenate([self._glyphs[sign] for sign in text], axis=1)
        plane[y : y + line.shape[0], x : x + line.shape[1]] = line


def _drawn(dots: tuple[int, ...], scale: int, ink: int, paper: int) -> NDArray[np.uint8]:
    rows = [[ink if row >> bit & 1 else paper for bit in range(WIDTH - 2, -1, -1)] for row in dots]
    return np.array([[*row, paper] for row in rows], np.uint8).repeat(scale, 0).repeat(scale, 1)
