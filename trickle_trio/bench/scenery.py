"""A moving picture that an encoder finds about as hard as real footage: texture at every scale, a slow pan, something
that moves against it, and the grain of a camera. The same one each time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count
from typing import Any, Final, TypeAlias

import av
import numpy as np
from numpy.typing import NDArray

from trickle_trio.media.colour import Colour

Plane: TypeAlias = NDArray[np.uint8]

MARGIN: Final = 1 / 4
"""How far the pan goes, in heights of the picture."""

OCTAVES: Final = ((3, 70.0), (9, 32.0), (36, 20.0), (180, 10.0))
"""Patches in a height of the picture, and how bright they are at most, of 255."""

GRAIN: Final = 2.0
"""Its standard deviation, of 255."""
GRAINS: Final = 8
"""Different ones, drawn once, each shown at another place each time."""

PERIOD: Final = 240
"""Pictures until the pan is where it was."""


class Scenery:
    """Draws it: pictures of ``width`` times ``height`` pixels, in yuv420p."""

    def __init__(self, width: int, height: int) -> None:
        self._width, self._height = width, height
        self._dice = np.random.default_rng(7)
        self._margin = max(2, int(height * MARGIN) & ~1)
        wide, high = width + 2 * self._margin, height + 2 * self._margin
        self._ground = self._texture(wide, high, height)
        self._object = 255 - self._texture(height // 2, height // 2, height)
        self._tints = [self._texture(wide // 2, high // 2, height * 2) // 4 + 96 for _ in range(2)]
        shape = (GRAINS, height + 16, width + 16)
        self._grains = self._dice.normal(0, GRAIN, shape).round().astype(np.int16)

    def frames(self) -> Iterator[av.VideoFrame]:
        """One picture after another, for ever."""
        colour = Colour.usual(self._width, self._height)
        for index in count():
            frame = av.VideoFrame(self._width, self._height, "yuv420p")
            colour.tag(frame)
            self._draw(frame, index)
            yield frame

    def _draw(self, frame: av.VideoFrame, index: int) -> None:
        turn = math.tau * index / PERIOD
        x = self._place(math.sin(turn), self._margin)
        y = self._place(math.sin(2 * turn), self._margin)
        luma = self._ground[y : y + self._height, x : x + self._width].astype(np.int16)
        self._draw_object(luma, turn)
        _view(frame, 0)[:] = np.clip(luma + self._grain(index), 16, 235)
        for number, tint in enumerate(self._tints, 1):
            plane = _view(frame, number)
            high, wide = plane.shape
            plane[:] = tint[y // 2 : y // 2 + high, x // 2 : x // 2 + wide]

    def _draw_object(self, luma: NDArray[np.int16], turn: float) -> None:
        side = self._height // 2
        left = self._place(-math.sin(3 * turn), (self._width - side) // 2)
        top = self._place(math.cos(2 * turn), (self._height - side) // 2)
        luma[top : top + side, left : left + side] = self._object[:side, :side]

    def _grain(self, index: int) -> NDArray[np.int16]:
        y, x = index * 5 % 16, index * 11 % 16
        return self._grains[index % GRAINS, y : y + self._height, x : x + self._width]

    @staticmethod
    def _place(way: float, reach: int) -> int:
        """From -1 to 1, to pixels from 0 to twice the reach; even, so that the colour keeps up."""
        return round(reach * (1 + way)) & ~1

    def _texture(self, width: int, height: int, scale: int) -> Plane:
        total = np.full((height, width), 126.0, np.float32)
        for patches, strength in OCTAVES:
            shape = (height * patches // scale + 3, width * patches // scale + 3)
            rough = self._dice.integers(0, 256, shape, np.uint8)
            smooth = av.VideoFrame.from_ndarray(rough, format="gray8")
            smooth = smooth.reformat(width, height, interpolation="BICUBIC")
            total += (smooth.to_ndarray() / 255.0 - 0.5) * strength
        return np.clip(total, 16, 235).astype(np.uint8)


def _view(frame: av.VideoFrame, number: int) -> Plane:
    plane: Any = frame.planes[number]  # PyAV's stubs do not say that a plane is a buffer
    shape, strides = (plane.height, plane.width), (plane.line_size, 1)
    return np.ndarray(shape, np.uint8, buffer=plane, strides=strides)
