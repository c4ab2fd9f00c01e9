"""Where a picture goes when it is wanted at another size: what is cut off, what is scaled, what is black."""

from __future__ import annotations

from enum import Enum
from fractions import Fraction
from functools import lru_cache
from typing import Final

from attrs import frozen


class Fit(Enum):
    """What happens where the wanted shape is another than the picture's."""

    COVER = "cover"
    """Fills the wanted size, keeps the aspect, cuts off what stands over, equally on both sides."""
    CONTAIN = "contain"
    """All of the picture is seen, keeps the aspect, black bars beside it."""
    STRETCH = "stretch"
    """Fills the wanted size with all of the picture; the aspect goes."""


@frozen
class Box:
    """A rectangle, in pixels."""

    x: int
    y: int
    width: int
    height: int


@frozen
class Placement:
    """``crop`` of the source is scaled to ``inner`` of an output of ``width`` x ``height``; the rest is black."""

    crop: Box
    inner: Box
    width: int
    height: int

    @staticmethod
    @lru_cache(maxsize=64)
    def whole(width: int, height: int) -> Placement:
        """Nothing is scaled or added: all of a source of this size, or the upper left part of a larger one."""
        return Placement(Box(0, 0, width, height), Box(0, 0, width, height), width, height)

    @property
    def has_bars(self) -> bool:
        """Whether the source leaves some of the output uncovered."""
        return (self.inner.width, self.inner.height) != (self.width, self.height)


@lru_cache(maxsize=64)
def place(
    source: tuple[int, int],
    wanted: tuple[int, int],
    fit: Fit,
    pixel_aspect: Fraction = Fraction(1),
) -> Placement:
    """Work out how a source (width, height) comes to the wanted (width, height).

    ``pixel_aspect`` is the width of a source pixel over its height; the output's pixels are square. Cuts and bars fall
    on even pixels, so that 4:2:0 chroma stays where it belongs.
    """
    seen_width = source[0] * pixel_aspect
    if fit is Fit.STRETCH:
        crop, inner = source, wanted
    elif fit is Fit.COVER:
        crop, inner = _cover(seen_width, source, wanted)
    else:
        crop, inner = _contain(seen_width, source, wanted)
    return Placement(_centred(crop, source), _centred(inner, wanted), *wanted)


def _cover(
    seen_width: Fraction, source: tuple[int, int], wanted: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    width, height = source
    scale = max(wanted[0] / seen_width, Fraction(wanted[1], height))
    crop = (
        _near(wanted[0] / scale * width / seen_width, width),
        _near(wanted[1] / scale, height),
    )
    return crop, wanted


def _contain(
    seen_width: Fraction, source: tuple[int, int], wanted: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    scale = min(wanted[0] / seen_width, Fraction(wanted[1], source[1]))
    return source, (_near(seen_width * scale, wanted[0]), _near(source[1] * scale, wanted[1]))


SLACK: Final = 2
"""A cut or a bar of fewer pixels than this is not worth making: the aspect is off by less than an even pixel."""


def _near(length: Fraction, whole: int) -> int:
    """Round to an even length of at least two, or to the whole where hardly anything is missing."""
    if whole - length < SLACK:
        return whole
    return max(min(2, whole), 2 * round(length / 2))


def _centred(size: tuple[int, int], room: tuple[int, int]) -> Box:
    x, y = ((room[i] - size[i]) // 2 & ~1 for i in (0, 1))
    return Box(x, y, *size)
