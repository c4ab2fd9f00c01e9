"""A picture that went through RGB and back is the picture that it was; sizes come out as they were wanted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, VideoReformatter
from hypothesis import given
from hypothesis import strategies as st

from trickle_trio.media.colour import BT709, SMPTE170M, UNSPECIFIED, Colour
from trickle_trio.media.convert import BenchPool, Look
from trickle_trio.media.fit import Fit, Placement, place
from trickle_trio.media.frames import VideoFrame

if TYPE_CHECKING:
    from tests.media.conftest import Footage

BT470BG, BT2020 = 5, 9


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", [BT709, SMPTE170M, BT470BG, BT2020])
@pytest.mark.parametrize(
    "pixel_format", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "nv12"]
)
@pytest.mark.parametrize("size", [(320, 180), (321, 181)])
def test_a_round_trip_through_floats_changes_hardly_anything(
    footage: Footage, pixel_format: str, matrix: int, full_range: bool, size: tuple[int, int]
) -> None:
    if size[0] % 2 and pixel_format not in ("yuv444p", "yuv422p"):
        size = (size[0] & ~1, size[1] & ~1)
    if full_range and pixel_format in ("yuv420p", "yuv422p", "yuv444p"):
        pixel_format = pixel_format.replace("yuv", "yuvj")
    colour = Colour(matrix, full_range)
    frame = VideoFrame.from_av_frame(footage.picture(1, *size, pixel_format, colour))
    assert frame.colour == colour
    look = Look(size[0] & ~1, size[1] & ~1, "yuvj420p" if full_range else "yuv420p", colour)
    there = frame.rendered(look)
    back = frame.replace_tensor(frame.tensor).rendered(look)
    assert footage.difference(back, there) < 2
    assert Colour.of(back) == colour
    assert Colour.of(there) == colour


def test_bright_and_dark_stay_what_they_are(footage: Footage) -> None:
    for full_range, black, white in ((False, 16, 235), (True, 0, 255)):
        colour = Colour(BT709, full_range)
        look = Look(16, 16, "yuvj420p" if full_range else "yuv420p", colour)
        array = np.zeros((16, 16, 3), np.uint8)
        array[:8] = 255
        picture = av.VideoFrame.from_ndarray(array, "rgb24")
        luma = footage.planes(VideoFrame(picture, colour=colour).rendered(look))[0]
        assert np.abs(luma[:7] - white).max() <= 1
        assert np.abs(luma[9:] - black).max() <= 1


def test_the_matrix_matters(footage: Footage) -> None:
    wide, narrow = Colour(BT709), Colour(SMPTE170M)
    frame = VideoFrame.from_av_frame(footage.picture(0, 64, 64, "yuv444p", wide))
    taken_wrong = VideoFrame.from_av_frame(footage.picture(0, 64, 64, "yuv444p", wide))
    narrow.tag(taken_wrong.to_av_frame())
    wrong = VideoFrame.from_av_frame(taken_wrong.to_av_frame()).to_ndarray().astype(int)
    right = frame.to_ndarray().astype(int)
    assert np.abs(right - footage.rgb(0, 64, 64)).mean() < 2
    assert np.abs(wrong - footage.rgb(0, 64, 64)).mean() > 4


@pytest.mark.parametrize(
    ("size", "matrix"),
    [((640, 360), SMPTE170M), ((720, 576), SMPTE170M), ((1280, 720), BT709), ((720, 1280), BT709)],
)
def test_what_says_nothing_is_taken_by_its_size(size: tuple[int, int], matrix: int) -> None:
    picture = av.VideoFrame(*size, "yuv420p")
    assert picture.colorspace == UNSPECIFIED
    assert Colour.of(picture) == Colour(matrix, full_range=False)
    assert Colour.usual(*size) == Colour(matrix)


def test_full_range_is_known_by_its_tag_or_by_its_format() -> None:
    picture = av.VideoFrame(64, 64, "yuv420p")
    picture.color_range = ColorRange.JPEG
    assert Colour.of(picture).full_range
    assert Colour.of(av.VideoFrame(64, 64, "yuvj420p")).full_range
    assert not Colour.of(av.VideoFrame(64, 64, "rgb24")).full_range


def test_a_matrix_that_swscale_does_not_know_still_makes_a_picture(footage: Footage) -> None:
    colour = Colour(matrix=8)  # YCgCo
    frame = VideoFrame.from_av_frame(footage.picture(0, 64, 64, colour=colour))
    assert frame.colour.matrix == 8
    back = frame.replace_tensor(frame.tensor).rendered(Look(64, 64, "yuv420p", colour))
    assert footage.difference(back, frame.to_av_frame()) < 2
    assert back.colorspace == 8


def test_a_passthrough_at_another_size_stays_in_yuv(footage: Footage) -> None:
    picture = footage.picture(0, 320, 180)
    wanted = VideoFrame.from_av_frame(picture).rendered(
        Look(160, 90, "yuv420p", Colour.usual(320, 180))
    )
    expected = VideoReformatter().reformat(picture, width=160, height=90, threads=1)
    assert footage.difference(wanted, expected) == 0


def test_a_tensor_at_another_size_is_one_conversion(footage: Footage) -> None:
    picture = footage.picture(0, 320, 180)
    fitted = VideoFrame.from_av_frame(picture).fitted(160, 90).to_ndarray()
    expected = VideoReformatter().reformat(picture, width=160, height=90, format="rgb24", threads=1)
    assert np.array_equal(fitted, expected.to_ndarray())


def test_a_change_of_range_is_made_by_the_way(footage: Footage) -> None:
    frame = VideoFrame.from_av_frame(
        footage.picture(0, 64, 64, "yuvj420p", Colour(BT709, full_range=True))
    )
    limited = frame.rendered(Look(64, 64, "yuv420p", Colour(BT709)))
    assert limited.color_range == ColorRange.MPEG
    expected = footage.picture(0, 64, 64, "yuv420p", Colour(BT709))
    assert footage.difference(limited, expected) < 2


def test_threads_convert_at_the_same_time_without_mixing_pictures(footage: Footage) -> None:
    arrays = [footage.rgb(number, 64 + 2 * number, 48) for number in range(8)]

    def turn(number: int) -> bool:
        frame = VideoFrame.from_ndarray(arrays[number % 8])
        for _ in range(10):
            look = Look(frame.width, frame.height, "yuv444p", Colour(BT709))
            shown = VideoFrame.from_av_frame(frame.rendered(look)).to_ndarray().astype(int)
            if np.abs(shown - arrays[number % 8]).mean() > 3:
                return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(turn, range(16)))


def test_only_so_many_benches_are_kept() -> None:
    pool = BenchPool(idle=2)
    with pool.lend("a") as a, pool.lend("a") as other, pool.lend("b") as b:
        assert len({id(a), id(other), id(b)}) == 3
    assert len(pool) == 2
    with pool.lend("a") as again:
        assert again is a
    with pool.lend("c"):
        pass
    assert len(pool) == 2


def test_a_bench_comes_back_after_a_failure() -> None:
    pool = BenchPool()
    with pytest.raises(ZeroDivisionError), pool.lend("a") as bench:
        raise ZeroDivisionError
    with pool.lend("a") as again:
        assert again is bench


SIZES = st.tuples(st.integers(2, 4000), st.integers(2, 4000))
ASPECTS = st.fractions(Fraction(1, 4), Fraction(4), max_denominator=99)


@given(SIZES, SIZES, st.sampled_from(Fit), ASPECTS)
def test_a_placement_stays_within_both_pictures(
    source: tuple[int, int], wanted: tuple[int, int], fit: Fit, aspect: Fraction
) -> None:
    placed = place(source, wanted, fit, aspect)
    assert (placed.width, placed.height) == wanted
    for box, room in ((placed.crop, source), (placed.inner, wanted)):
        assert box.width >= 2
        assert box.height >= 2
        assert 0 <= box.x <= room[0] - box.width
        assert 0 <= box.y <= room[1] - box.height
        assert box.x % 2 == box.y % 2 == 0
    assert placed.has_bars is ((placed.inner.width, placed.inner.height) != wanted)


@given(SIZES, SIZES, ASPECTS)
def test_covering_and_containing_keep_the_aspect_to_a_pixel_or_two(
    source: tuple[int, int], wanted: tuple[int, int], aspect: Fraction
) -> None:
    covered = place(source, wanted, Fit.COVER, aspect)
    assert (covered.inner.width, covered.inner.height) == wanted
    assert covered.crop.width == source[0] or covered.crop.height == source[1]
    contained = place(source, wanted, Fit.CONTAIN, aspect)
    assert (contained.crop.width, contained.crop.height) == source
    assert contained.inner.width == wanted[0] or contained.inner.height == wanted[1]
    scale = min(wanted[0] / (source[0] * aspect), Fraction(wanted[1], source[1]))
    assert abs(contained.inner.width - source[0] * aspect * scale) <= 2
    assert abs(contained.inner.height - source[1] * scale) <= 2


def test_the_usual_case_moves_nothing() -> None:
    assert place((1280, 720), (1280, 720), Fit.COVER) == Placement.whole(1280, 720)
    assert place((1280, 720), (1280, 720), Fit.CONTAIN) == Placement.whole(1280, 720)
    assert place((1280, 720), (640, 360), Fit.COVER).crop == Placement.whole(1280, 720).crop
    square = place((1280, 720), (512, 512), Fit.COVER)
    assert (square.crop.x, square.crop.width, square.crop.height) == (280, 720, 720)
