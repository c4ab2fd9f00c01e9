"""The test card and its sound, as they come out of a player."""

from __future__ import annotations

import io
from itertools import pairwise
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from trickle_core.mpegts import CLOCK_RATE, Codec
from trickle_trio.media.sources import TestSource
from trickle_trio.media.sources.beeps import BEEP_LEVEL, RATE, Beeps
from trickle_trio.media.sources.card import FLASH_SECONDS, WHITE, Card, is_flash
from trickle_trio.media.sources.glyphs import HEIGHT, WIDTH, Glyphs


def lumas(wire: bytes) -> list[tuple[float, NDArray[np.uint8]]]:
    with av.open(io.BytesIO(wire), "r", format="mpegts") as container:
        return [(frame.time or 0.0, luma(frame)) for frame in container.decode(video=0)]


def luma(frame: av.VideoFrame) -> NDArray[np.uint8]:
    plane: Any = frame.planes[0]
    whole = np.frombuffer(plane, np.uint8).reshape(frame.height, plane.line_size)
    return whole[:, : frame.width].copy()


@pytest.mark.parametrize("fps", [10, 25, 30, 60])
def test_flash_and_beep_are_in_sync(fps: int, publish: Any, onsets: Any) -> None:
    source = TestSource(width=160, height=90, fps=fps)
    published = publish(source, seconds=3.2)
    played = published.played()
    assert played.complaints == []
    lit = [
        (time, picture[source.card.lamp].mean() > 150) for time, picture in lumas(published.wire())
    ]
    flashes = [b[0] for a, b in pairwise([(0.0, False), *lit]) if b[1] and not a[1]]
    beeps = onsets(played.sound, played.rate, BEEP_LEVEL / 4, quiet=0.5)
    assert flashes == pytest.approx([1, 2, 3, 4], abs=1e-4)
    assert beeps == pytest.approx(flashes, abs=0.01)


def test_sizes_and_rates(publish: Any) -> None:
    for width, height, fps in [(640, 360, 30), (480, 360, 24), (360, 640, 25), (1280, 720, 50)]:
        published = publish(TestSource(width=width, height=height, fps=fps), seconds=0.5)
        assert published.codecs == [Codec.H264, Codec.AAC]
        [(first, picture), (second, _)] = lumas(published.wire())[:2]
        assert picture.shape == (height, width)
        assert second - first == pytest.approx(1 / fps, abs=1e-4)


def test_a_key_picture_each_gop(publish: Any) -> None:
    pictures = publish(
        TestSource(width=160, height=90, fps=10, gop_seconds=0.5), seconds=2
    ).pictures
    assert [number for number, unit in enumerate(pictures) if unit.key] == [0, 5, 10, 15]


def test_units_are_even_and_in_order(publish: Any) -> None:
    published = publish(TestSource(width=160, height=90), seconds=2)
    dts = [unit.dts for unit in published.units]
    assert dts == sorted(dts)
    assert {b.dts - a.dts for a, b in pairwise(published.pictures)} == {CLOCK_RATE // 30}
    assert {b.dts - a.dts for a, b in pairwise(published.sounds)} == {1024 * CLOCK_RATE // RATE}


def test_the_time_and_the_count_can_be_read(publish: Any) -> None:
    """They are still there after coding: every digit is nearer to its own picture than to any other."""
    published = publish(TestSource(width=640, height=360, fps=30), seconds=1.5)
    _, picture = lumas(published.wire())[37]
    glyphs = Glyphs(4, WHITE, 16)
    panel = picture[270:].astype(np.float32)
    rows = slice(31, 31 + 4 * HEIGHT)

    def read(x: int) -> str:
        seen = panel[rows, x : x + 4 * WIDTH]
        apart = {}
        for sign in "0123456789:.":
            plane = np.zeros((4 * HEIGHT, 4 * WIDTH), np.uint8)
            glyphs.write(plane, 0, 0, sign)
            apart[sign] = float(np.abs(seen - plane).mean())
        return min(apart, key=lambda sign: apart[sign])

    assert "".join(read(12 + 24 * sign) for sign in range(12)) == "00:00:01.233"
    assert "".join(read(13 * 24 + 24 * sign) for sign in range(6)) == "000037"


def test_the_disc_moves_smoothly() -> None:
    card = Card(640, 360, 30)
    places = []
    for index in range(120):
        row = luma(card.draw(index))[card._bars_height // 3 + card._disc.side // 2]
        places.append(float(np.flatnonzero(row > 220).mean()))
    steps = [abs(b - a) for a, b in pairwise(places)]
    assert max(steps) < 16
    assert max(places) - min(places) > 500
    assert max(abs(b - a) for a, b in pairwise(steps)) <= 2


def test_frames_are_drawn_by_their_number_alone() -> None:
    one, other = Card(320, 180, 30), Card(320, 180, 30)
    one.draw(3)
    assert (luma(one.draw(70)) == luma(other.draw(70))).all()
    assert (luma(one.draw(70)) != luma(other.draw(71))).any()


def test_colours_are_those_of_the_picture_s_size() -> None:
    """BT.601 below 720 lines, BT.709 from there on: the yellow bar is yellow in both."""
    for width, height in [(640, 360), (1280, 720)]:
        frame = Card(width, height, 30).draw(0)
        rgb = frame.to_ndarray(format="rgb24")[2, width * 3 // 14]
        assert np.abs(rgb.astype(int) - (191, 191, 0)).max() < 40


def test_the_sound_repeats_each_second_without_a_seam() -> None:
    for fps in (7, 24, 30):
        beeps = Beeps(fps)
        blocks = [beeps.samples(index) for index in range(3 * fps)]
        whole = np.concatenate(blocks, axis=1)[0]
        assert len(whole) == 3 * RATE
        assert (whole[:RATE] == whole[RATE : 2 * RATE]).all()
        assert np.abs(np.diff(whole)).max() < 0.1


@pytest.mark.parametrize("fps", [1, 24, 30, 60])
def test_the_lamp_is_lit_while_it_beeps(fps: int) -> None:
    beeps = Beeps(fps)
    for index in range(2 * fps):
        begins_loud = beeps.first_sample(index) % RATE < FLASH_SECONDS * RATE
        assert is_flash(index, fps) is begins_loud


@pytest.mark.parametrize(
    ("setting", "value"),
    [("width", 641), ("height", 101), ("width", 96), ("height", 40), ("fps", 0), ("fps", 121)],
)
def test_settings_are_checked(setting: str, value: int) -> None:
    with pytest.raises(ValueError, match=setting):
        TestSource(**{setting: value})


def test_closing_ends_it() -> None:
    source = TestSource(width=160, height=90)
    with source:
        assert source.read()
    assert source.read() == []
