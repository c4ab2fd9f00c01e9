"""The test card: colour bars, a disc that sweeps over them, the time, a count, and a lamp that flashes.

Drawn in YUV at once. What stays is drawn once and copied; a frame costs 0.1 ms at 640x360.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, Final, TypeAlias

import av
import numpy as np
from numpy.typing import NDArray

from trickle_trio.media.colour import BT709, Colour
from trickle_trio.media.sources.glyphs import HEIGHT, WIDTH, Glyphs

Plane: TypeAlias = NDArray[np.uint8]

FLASH_SECONDS: Final = 0.1
"""From the beginning of each second: three frames at 30 a second, one at 10."""

SWEEP_SECONDS: Final = 4.0
"""The disc's way over the picture and back."""

BARS: Final = (
    # RGB at 75 %, by falling brightness, as EBU and SMPTE bars are.
    (0.75, 0.75, 0.75), (0.75, 0.75, 0.0), (0.0, 0.75, 0.75), (0.0, 0.75, 0.0),
    (0.75, 0.0, 0.75), (0.75, 0.0, 0.0), (0.0, 0.0, 0.75),
)  # fmt: skip

BLACK: Final = 16
WHITE: Final = 235
GREY: Final = 128
"""Of limited range; chroma of anything without a colour."""

_SIGNS: Final = 22
"""Across the lower part: twelve of the time, seven of the count, a gap, the lamp, margins."""

SMALLEST: Final = (_SIGNS * WIDTH, 72)
"""Pixels a side at which a dot of a digit is a pixel."""


class Card:
    """Draws the frames of a test picture; every one by its number alone."""

    def __init__(self, width: int, height: int, fps: int) -> None:
        self._width, self._height, self._fps = width, height, fps
        self._colour = Colour.usual(width, height)
        self._bars_height = height * 3 // 4 & ~1
        self._still = self._draw_still()
        self._disc = _Disc(self._bars_height // 6)
        scale = max(1, min(height // 90, width // SMALLEST[0]))
        self._glyphs = Glyphs(scale, WHITE, BLACK)
        self._sign = scale * WIDTH
        self._text_top = (self._bars_height + height - scale * HEIGHT) // 2

    @property
    def lamp(self) -> tuple[slice, slice]:
        """Rows and columns of the lamp."""
        panel = self._height - self._bars_height
        side = panel * 2 // 3 & ~1
        top, left = self._bars_height + (panel - side) // 2, self._width - side - panel // 3
        return slice(top, top + side), slice(left, left + side)

    def draw(self, index: int) -> av.VideoFrame:
        """Draw frame number ``index`` anew, in yuv420p; its time is the caller's to set."""
        frame = av.VideoFrame(self._width, self._height, "yuv420p")
        self._colour.tag(frame)
        planes = [_view(frame, number) for number in range(3)]
        for plane, still in zip(planes, self._still, strict=True):
            plane[:] = still
        self._draw_disc(planes, index)
        self._draw_text(planes[0], index)
        if is_flash(index, self._fps):
            planes[0][self.lamp] = WHITE
        return frame

    def _draw_still(self) -> list[Plane]:
        luma = np.full((self._height, self._width), BLACK, np.uint8)
        blue, red = (
            np.full((self._height // 2, self._width // 2), GREY, np.uint8) for _ in range(2)
        )
        edges = [self._width * bar // len(BARS) & ~1 for bar in range(len(BARS))] + [self._width]
        for bar, (start, end) in enumerate(pairwise(edges)):
            y, u, v = _yuv(BARS[bar], self._colour)
            luma[: self._bars_height, start:end] = y
            blue[: self._bars_height // 2, start // 2 : end // 2] = u
            red[: self._bars_height // 2, start // 2 : end // 2] = v
        luma[self.lamp] = BLACK + (WHITE - BLACK) // 8
        return [luma, blue, red]

    def _draw_disc(self, planes: list[Plane], index: int) -> None:
        reach = (self._width - self._disc.side) / 2
        turn = math.tau * index / (self._fps * SWEEP_SECONDS)
        self._disc.draw(planes, round(reach * (1 + math.sin(turn))), self._bars_height // 3)

    def _draw_text(self, luma: Plane, index: int) -> None:
        seconds, rest = divmod(index, self._fps)
        clock = f"{seconds // 3600 % 100:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        time = f"{clock}.{rest * 1000 // self._fps:03}"
        self._glyphs.write(luma, self._sign // 2, self._text_top, time)
        self._glyphs.write(luma, 13 * self._sign, self._text_top, f"{index % 10_000_000:07}"[-6:])


def is_flash(index: int, fps: int) -> bool:
    """Whether the lamp is lit in frame ``index``: during the beep."""
    return index % fps < FLASH_SECONDS * fps


class _Disc:
    """A white disc without jags: how much of each pixel it covers, in 1/256."""

    def __init__(self, radius: int) -> None:
        self.side = 2 * (radius + 1)
        across = np.arange(self.side) - (self.side - 1) / 2
        distance = np.hypot(across, across[:, None])
        self._luma = (256 * np.clip(radius - distance + 0.5, 0, 1)).astype(np.uint16)
        self._chroma = self._luma[::2, ::2]

    def draw(self, planes: list[Plane], x: int, y: int) -> None:
        """Draw it with its upper left corner at x, y; the colour, which has half the pixels, as near as that goes."""
        y &= ~1
        _blend(planes[0][y : y + self.side, x : x + self.side], self._luma, WHITE)
        half = self.side // 2
        for plane in planes[1:]:
            region = plane[y // 2 : y // 2 + half, x // 2 : x // 2 + half]
            _blend(region, self._chroma[:, : region.shape[1]], GREY)


def _blend(region: Plane, cover: NDArray[np.uint16], value: int) -> None:
    region[:] = (region * (256 - cover) + value * cover) >> 8


def _yuv(rgb: tuple[float, float, float], colour: Colour) -> tuple[int, int, int]:
    """A colour of 0..1 in limited range, by the matrix that a picture of this size has (ITU-R BT.709, BT.601)."""
    red, blue = (0.2126, 0.0722) if colour.matrix == BT709 else (0.299, 0.114)
    luma = red * rgb[0] + (1 - red - blue) * rgb[1] + blue * rgb[2]
    u, v = (rgb[2] - luma) / (2 - 2 * blue), (rgb[0] - luma) / (2 - 2 * red)
    return round(16 + 219 * luma), round(128 + 224 * u), round(128 + 224 * v)


def _view(frame: av.VideoFrame, number: int) -> Plane:
    plane: Any = frame.planes[number]  # PyAV's stubs do not say that a plane is a buffer
    shape, strides = (plane.height, plane.width), (plane.line_size, 1)
    return np.ndarray(shape, np.uint8, buffer=plane, strides=strides)
