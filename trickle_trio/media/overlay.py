"""The picture that is shown while there is none: a dim, blurred background, a message, a bar that moves.

Everything is drawn into the planes that the encoder wants, so nothing is converted there and back; what does not change
from one picture to the next, the message above all, is drawn once for each size. Letters are Pillow's: it brings
FreeType and a font of its own, so no font file has to be found (libavfilter's drawtext wants one, and is not in PyAV's
wheels). Shapes are drawn from their distance to each pixel's middle, which gives smooth edges at any size.

Measured on one thread, from a source of the same size: 0.8 ms a picture at 720p, 1.2 ms at 1080p, 3.9 ms at 2160p;
2 ms more where the letters are new.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeAlias

import av
import numpy as np
from attrs import define, frozen
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from trickle_trio.media.colour import Colour
from trickle_trio.media.convert import RGB, Look, draw
from trickle_trio.media.fit import Fit, place
from trickle_trio.media.pixels import SMALLEST, packed_view
from trickle_trio.media.video_frame import VideoFrame

Mask: TypeAlias = NDArray[np.float32]
"""How much of each pixel is covered, 0..1; [rows, columns], both even: chroma has half of them."""

Rgb: TypeAlias = tuple[int, int, int]

WHITE: Final[Rgb] = (244, 246, 250)
ACCENT: Final[Rgb] = (92, 184, 255)

BACKGROUND: Final = 64
"""Pixels of the background's longer side before it is stretched: that is the blur, the same at every size, and makes
all that happens to it cheap."""
DIMMED: Final = 0.34
"""How much of the background's brightness is left: white letters stand out from whatever is there."""

TRACK: Final = 0.2
PERIOD: Final = 1.7
"""Seconds that the shimmer takes from one end of the bar to the other."""
SHIMMER: Final = 0.16
"""Its width, as a share of the bar's."""

SMALLEST_LETTERS: Final = 9
"""Pixels. Smaller ones cannot be read when they have been encoded; they are left out."""
LONGEST: Final = 160
"""Letters of a message that are looked at; what does not fit into two lines is cut off before that."""
LINES: Final = 2


@frozen
class Caption:
    """What the overlay says. ``progress``: 0..1, or None where nobody knows."""

    message: str = ""
    progress: float | None = None


@frozen
class Canvas:
    """The picture that is wanted: as the real ones, so that the encoder need not start anew between them."""

    width: int
    height: int
    colour: Colour
    pixel_aspect: Fraction = Fraction(1)

    @property
    def look(self) -> Look:
        """The look that encoders want, which have no odd sizes."""
        pixel_format = "yuvj420p" if self.colour.full_range else "yuv420p"
        return Look(self.width & ~1, self.height & ~1, pixel_format, self.colour)


@frozen
class _Ink:
    """A colour as the numbers of the three planes."""

    planes: tuple[int, int, int]

    @classmethod
    @lru_cache(maxsize=16)
    def of(cls, rgb: Rgb, look: Look) -> _Ink:
        patch = av.VideoFrame(SMALLEST, SMALLEST, RGB)
        packed_view(patch)[:] = rgb
        sides = (SMALLEST, SMALLEST)
        wanted = Look(*sides, look.format, look.colour)
        drawn = draw(patch, look.colour, place(sides, sides, Fit.STRETCH), wanted)
        luma, cb, cr = (int(plane[0, 0]) for plane in planes_of(drawn))
        return cls((luma, cb, cr))


@frozen(eq=False)
class _Stencil:
    """A shape in its place: ``x`` and ``y`` are even."""

    x: int
    y: int
    mask: Mask
    half: Mask
    """The mask for the planes of half the size."""

    @classmethod
    def at(cls, x: int, y: int, mask: Mask) -> _Stencil:
        rows, columns = mask.shape
        return cls(x, y, mask, mask.reshape(rows // 2, 2, columns // 2, 2).mean(axis=(1, 3)))

    def spray(self, picture: av.VideoFrame, ink: _Ink, across: Mask | float = 1.0) -> None:
        """Print the shape; ``across``: how strongly, in each column."""
        for index, plane in enumerate(planes_of(picture)):
            step = 2 if index else 1
            mask = (self.half if index else self.mask) * (
                across if isinstance(across, float) else across[::step]
            )
            x, y = self.x // step, self.y // step
            part = plane[y : y + mask.shape[0], x : x + mask.shape[1]]
            part[:] = np.rint(part + (ink.planes[index] - part.astype(np.float32)) * mask)


@frozen
class _Layout:
    """Where things go in a picture of a size, in pixels."""

    width: int
    height: int

    @property
    def bar(self) -> tuple[int, int]:
        """The bar's size: a share of what is narrower, wide or tall as the picture may be."""
        width = max(_even(min(0.7 * self.width, 0.62 * self.height)), SMALLEST)
        return width, max(_even(width / 46), SMALLEST)

    @property
    def letters(self) -> int:
        """The height of the message's letters, before it is made to fit."""
        return max(round(self.bar[0] / 13), SMALLEST_LETTERS)

    @property
    def line(self) -> int:
        """The room for a line of the message."""
        return int(0.88 * self.width)


@define(eq=False)
class OverlayPainter:
    """Paints overlays, one after another. ``font``: a file of a TrueType or OpenType font; None: Pillow's own.

    Not for two threads at once.
    """

    font: Path | None = None
    _known: tuple[Any, tuple[_Stencil, ...]] | None = None

    def paint(self, frame: VideoFrame, canvas: Canvas, caption: Caption) -> VideoFrame:
        """Paint over what ``frame`` shows, a new frame with its time. Blocks, about a millisecond at 1080p.

        ``UnreadablePixelsError``: the device that holds the frame does not give it back.
        """
        picture = _background(frame, canvas.look)
        for text in self._texts(canvas.look, caption):
            text.spray(picture, _Ink.of(WHITE, canvas.look))
        _draw_bar(picture, canvas.look, caption.progress, frame.seconds)
        return VideoFrame(
            picture,
            timestamp=frame.timestamp,
            time_base=frame.time_base,
            colour=canvas.colour,
            pixel_aspect=canvas.pixel_aspect,
        )

    def _texts(self, look: Look, caption: Caption) -> tuple[_Stencil, ...]:
        percent = None if caption.progress is None else f"{math.floor(100 * caption.progress)} %"
        key = (look.width, look.height, caption.message, percent)
        if self._known is None or self._known[0] != key:
            layout = _Layout(look.width, look.height)
            self._known = key, tuple(self._written(layout, caption.message, percent))
        return self._known[1]

    def _written(self, layout: _Layout, message: str, percent: str | None) -> list[_Stencil]:
        """The message above the bar, and the percentage below."""
        gap = layout.letters * 0.75 + layout.bar[1] / 2
        middle = layout.height / 2
        message_size, lines = self._fitting(layout, message)
        above = _written(self._letters(message_size), lines, layout, middle - gap, "bottom", 0.94)
        percent_size = round(0.8 * layout.letters)
        lines = [percent] if percent and percent_size >= SMALLEST_LETTERS else []
        below = _written(self._letters(percent_size), lines, layout, middle + gap, "top", 0.7)
        return [text for text in (above, below) if text is not None]

    def _fitting(self, layout: _Layout, message: str) -> tuple[int, list[str]]:
        """The size at which a message fits into two lines; at the smallest one, what fits of it."""
        words = "".join(sign for sign in message[:LONGEST] if sign.isprintable() or sign.isspace())
        size = layout.letters
        while True:
            lines = _wrapped(self._letters(size), words.split(), layout.line)
            if len(lines) <= LINES or size == SMALLEST_LETTERS:
                return size, _cut(self._letters(size), lines[:LINES], layout.line)
            size = max(round(0.88 * size), SMALLEST_LETTERS)

    def _letters(self, size: int) -> Any:
        # Any: Pillow's two kinds of fonts have no common type, and without FreeType there is a third
        size = max(size, 1)
        return ImageFont.truetype(self.font, size) if self.font else ImageFont.load_default(size)


def _background(frame: VideoFrame, look: Look) -> av.VideoFrame:
    """The frame's picture in a new one, blurred by stretching a small one, and dim."""
    scale = min(1.0, BACKGROUND / max(look.width, look.height))
    sides = max(_even(look.width * scale), SMALLEST), max(_even(look.height * scale), SMALLEST)
    small = Look(*sides, look.format, look.colour)
    given = frame.rendered(small)
    dim = av.VideoFrame(*sides, look.format)  # not into the given one: that may be the decoder's
    for index, (shown, plane) in enumerate(zip(planes_of(given), planes_of(dim), strict=True)):
        zero = 128 if index else 0 if look.colour.full_range else 16
        plane[:] = np.rint(zero + (_smooth(shown) - zero) * DIMMED)
    placement = place(sides, (look.width, look.height), Fit.STRETCH)
    return draw(dim, look.colour, placement, look)


def _smooth(plane: NDArray[np.uint8]) -> Mask:
    """Spread each pixel over its neighbours, so that no squares are seen when it is stretched."""
    spread: Mask = plane.astype(np.float32)
    for axis in (0, 1):
        ends = [(1, 1) if axis == side else (0, 0) for side in (0, 1)]
        padded = np.pad(spread, ends, mode="edge")
        count = spread.shape[axis]
        parts = [np.take(padded, range(start, start + count), axis) for start in range(3)]
        spread = (parts[0] + parts[1] + parts[1] + parts[2]) * np.float32(0.25)
    return spread


def _draw_bar(picture: av.VideoFrame, look: Look, progress: float | None, seconds: float) -> None:
    track = _bar(look.width, look.height)
    ink = _Ink.of(ACCENT, look)
    columns = np.arange(track.mask.shape[1], dtype=np.float32)
    track.spray(picture, _Ink.of(WHITE, look), TRACK)
    phase = seconds % PERIOD / PERIOD
    if progress is None:
        track.spray(picture, ink, _shimmer(columns, phase))
        return
    done = _filled(look.width, look.height, round(progress * (len(columns) - 1)) + 1)
    if progress > 0:
        done.spray(picture, ink)
        done.spray(picture, _Ink.of(WHITE, look), 0.45 * _shimmer(columns, phase))


def _shimmer(columns: Mask, phase: float) -> Mask:
    """How bright each column is: a soft hill that moves from before the bar's beginning to behind its end, fast in the
    middle, with time to breathe.
    """
    eased = phase * phase * (3 - 2 * phase)
    middle = (-2 * SHIMMER + eased * (1 + 4 * SHIMMER)) * len(columns)
    hill: Mask = np.exp(-(((columns - middle) / (SHIMMER * len(columns))) ** 2))
    return hill


@lru_cache(maxsize=8)
def _bar(width: int, height: int) -> _Stencil:
    return _filled(width, height, _Layout(width, height).bar[0])


@lru_cache(maxsize=8)
def _filled(width: int, height: int, length: int) -> _Stencil:
    """The bar's first ``length`` pixels, with round ends."""
    columns, rows = _Layout(width, height).bar
    mask = np.zeros((rows, columns), np.float32)
    mask[:, :length] = _rounded(length, rows)
    return _Stencil.at(_even((width - columns) / 2), _even((height - rows) / 2), mask)


def _rounded(width: int, height: int) -> Mask:
    """A box whose ends are half circles: from each pixel's distance to its edge."""
    radius = min(width, height) / 2
    x = np.abs(np.arange(width, dtype=np.float32) + 0.5 - width / 2) - (width / 2 - radius)
    y = np.abs(np.arange(height, dtype=np.float32) + 0.5 - height / 2) - (height / 2 - radius)
    distance = np.hypot(np.maximum(x, 0)[None, :], np.maximum(y, 0)[:, None]) - radius
    mask: Mask = np.clip(0.5 - distance, 0, 1).astype(np.float32)
    return mask


def _wrapped(letters: Any, words: list[str], room: int) -> list[str]:
    """Words in lines, each as long as there is room, or of one word."""
    lines: list[str] = []
    for word in words:
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and letters.getlength(longer) <= room:
            lines[-1] = longer
        else:
            lines.append(word)
    if any(letters.getlength(line) > room for line in lines):
        return [*lines, *([""] * LINES)]  # it does not fit: too many lines, whatever they are
    return lines


def _cut(letters: Any, lines: list[str], room: int) -> list[str]:
    cut = []
    for line in filter(None, lines):
        shown = line
        while shown and letters.getlength(shown) > room:
            shown = shown.rstrip("…")[:-1] + "…" if len(shown) > 2 else ""
        cut.append(shown)
    return [line for line in cut if line]


def _written(
    letters: Any, lines: list[str], layout: _Layout, y: float, side: str, strength: float
) -> _Stencil | None:
    """Lines in the middle of the picture, with their ``side`` ("top" or "bottom") at ``y``; None: no room."""
    text = "\n".join(lines)
    box = ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox((0, 0), text, letters)
    width, height = _even(box[2] - box[0] + 3), _even(box[3] - box[1] + 3)
    left = _even((layout.width - width) / 2)
    top = _even(y - height if side == "bottom" else y)
    if not lines or left < 0 or top < 0 or top + height > layout.height:
        return None
    image = Image.new("L", (width, height))
    ImageDraw.Draw(image).multiline_text(
        (1 - box[0], 1 - box[1]), text, fill=255, font=letters, align="center"
    )
    return _Stencil.at(left, top, np.asarray(image, np.float32) * (strength / 255))


def _even(length: float) -> int:
    return int(length) & ~1


def planes_of(picture: av.VideoFrame) -> list[NDArray[np.uint8]]:
    """Luma and the two chroma planes of a 4:2:0 picture, its own memory."""
    return [_view(plane) for plane in picture.planes]


def _view(plane: Any) -> NDArray[np.uint8]:
    # Any: PyAV's stubs do not say that its planes are buffers
    return np.ndarray((plane.height, plane.width), np.uint8, plane, strides=(plane.line_size, 1))
