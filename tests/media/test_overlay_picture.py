"""The overlay's picture: at any size, in any colours, whatever it is to say."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import ImageFont

from trickle_trio.media.colour import BT709, SMPTE170M, Colour
from trickle_trio.media.encode import VideoEncoder, VideoEncoderSettings
from trickle_trio.media.overlay import ACCENT, Canvas, Caption, OverlayPainter, planes_of
from trickle_trio.media.video_frame import VideoFrame

SIZES = [(16, 16), (64, 64), (320, 240), (321, 241), (1280, 720), (720, 1280), (1000, 8)]
GREY = 120


def source(width: int = 320, height: int = 180, value: Any = GREY) -> VideoFrame:
    pixels = np.full((height, width, 3), value, np.uint8)
    return VideoFrame.from_ndarray(pixels, 90_000)


def canvas(width: int, height: int, **options: Any) -> Canvas:
    return Canvas(width, height, Colour.usual(width, height), **options)


def painted(
    width: int, height: int, caption: Caption | None = None, **options: Any
) -> NDArray[np.uint8]:
    """As a player shows it."""
    given = source(**options)
    frame = OverlayPainter().paint(given, canvas(width, height), caption or Caption("Loading..."))
    return frame.to_ndarray()


def rows_with_letters(picture: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Rows that have something nearly white in them."""
    return np.nonzero((picture.min(axis=2) > 180).any(axis=1))[0]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_it_fits_any_size(width: int, height: int) -> None:
    picture = painted(width, height)
    assert picture.shape == (height & ~1, width & ~1, 3)
    assert 30 < np.median(picture) < 60, "the background is dim"
    assert picture[0].max() < 60, "and nothing reaches the edge"


@pytest.mark.parametrize(("width", "height"), [(16, 16), (64, 64), (320, 240), (1280, 720)])
def test_the_bar_is_in_the_middle_and_leaves_room_beside(width: int, height: int) -> None:
    picture = painted(width, height, Caption("", 1.0))
    blue = picture[..., 2].astype(int) - picture[..., 0] > 60
    rows, columns = np.nonzero(blue)
    assert abs(rows.mean() - height / 2) <= 2
    assert abs(columns.mean() - width / 2) <= 2
    assert columns.min() >= width * 0.12


def test_letters_are_drawn_where_there_is_room_for_them() -> None:
    assert len(rows_with_letters(painted(16, 16))) == 0
    for width, height in [(64, 64), (320, 240), (1280, 720), (720, 1280)]:
        rows = rows_with_letters(painted(width, height))
        assert 4 < len(rows) <= height / 8
        assert rows.max() < height / 2, "above the bar"


def test_a_long_message_gets_smaller_then_breaks_then_ends() -> None:
    short, longer, longest = (painted(320, 240, Caption("word " * count)) for count in (2, 12, 400))
    heights = [np.ptp(rows_with_letters(each)) for each in (short, longer, longest)]
    assert heights[1] > heights[0], "two lines"
    for picture in (longer, longest):
        assert picture[:, :8].max() < 60
        assert picture[:, -8:].max() < 60


def test_the_percentage_stands_below() -> None:
    without, with_it = painted(1280, 720, Caption("", None)), painted(1280, 720, Caption("", 0.63))
    assert np.array_equal(without[:340], with_it[:340])
    assert with_it[380:440].max() > without[380:440].max() + 60


@given(st.text(max_size=200), st.one_of(st.none(), st.floats(0, 1)))
@settings(max_examples=60, deadline=None)
def test_whatever_it_is_to_say_it_says_or_leaves_out(message: str, progress: float | None) -> None:
    picture = painted(160, 120, Caption(message, progress))
    assert picture[0].max() < 60


@given(st.integers(2, 400), st.integers(2, 400))
@settings(max_examples=60, deadline=None)
def test_every_size_works(width: int, height: int) -> None:
    caption = Caption("Warming up the model", 0.4)
    assert painted(width, height, caption).shape == (height & ~1, width & ~1, 3)


def done(picture: NDArray[np.uint8]) -> int:
    """How many columns of the bar's middle row are done."""
    row = picture[picture.shape[0] // 2].astype(int)
    return int((row[:, 2] - row[:, 0] > 60).sum())


def test_the_bar_grows_with_the_progress() -> None:
    lengths = [done(painted(640, 360, Caption("", share / 10))) for share in range(11)]
    assert lengths[0] == 0
    assert all(a < b for a, b in pairwise(lengths))
    assert lengths[5] == pytest.approx(lengths[10] / 2, abs=3)


def test_unknown_progress_moves() -> None:
    painter, middles = OverlayPainter(), []
    for index in range(1, 8):
        frame = source()
        frame.timestamp = int(index * 0.2 * 90_000)
        picture = painter.paint(frame, canvas(640, 360), Caption("")).to_ndarray()
        middles.append(picture[180, :, 2].astype(int).argmax())
    assert all(a < b for a, b in pairwise(middles))


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", [BT709, SMPTE170M])
@pytest.mark.parametrize("size", [(160, 96), (1280, 720)])
def test_colours_are_what_a_player_makes_of_the_tags(
    matrix: int, full_range: bool, size: tuple[int, int]
) -> None:
    colour = Colour(matrix, full_range)
    given = source(value=(30, 90, 200))
    given.timestamp = 0  # the shimmer has not come yet
    frame = OverlayPainter().paint(given, Canvas(*size, colour), Caption("", 1.0))
    picture = frame.to_ndarray()
    assert picture[4, 4].tolist() == pytest.approx([10, 31, 68], abs=3), "a third of the input's"
    bar = picture[size[1] // 2 - 1, size[0] // 2]
    assert bar.tolist() == pytest.approx(ACCENT, abs=12)


def test_what_it_was_given_stays_as_it_was() -> None:
    """A decoded picture may be a reference for the next ones."""
    decoded = av.VideoFrame(64, 64, "yuv420p")
    for plane in planes_of(decoded):
        plane[:] = 100
    decoded.pts = 90_000
    OverlayPainter().paint(VideoFrame.from_av_frame(decoded), canvas(64, 64), Caption("x", 0.5))
    assert all((plane == 100).all() for plane in planes_of(decoded))


def test_the_time_stays_and_the_shape_of_the_pixels_is_the_canvas() -> None:
    given = source()
    shape = canvas(320, 180, pixel_aspect=Fraction(4, 3))
    frame = OverlayPainter().paint(given, shape, Caption())
    assert (frame.timestamp, frame.time_base) == (given.timestamp, given.time_base)
    assert frame.pixel_aspect == Fraction(4, 3)


def test_the_encoder_goes_on_between_it_and_the_real_pictures() -> None:
    encoder = VideoEncoder(VideoEncoderSettings())
    painter = OverlayPainter()
    for index in range(6):
        frame = source()
        frame.timestamp = index * 3000
        if index % 2:
            wanted = Canvas(frame.width, frame.height, frame.colour, frame.pixel_aspect)
            frame = painter.paint(frame, wanted, Caption("x"))
        encoder.encode(frame)
    assert encoder.statistics().opened == 1
    assert encoder.statistics().encoded == 6
    encoder.close()


def test_a_font_of_ones_own(tmp_path: Path) -> None:
    own = ImageFont.load_default(20)
    assert isinstance(own, ImageFont.FreeTypeFont)
    path = tmp_path / "font.otf"
    path.write_bytes(own.font_bytes)
    with_it = OverlayPainter(path).paint(source(), canvas(320, 240), Caption("Loading..."))
    assert len(rows_with_letters(with_it.to_ndarray())) > 4
