"""A decoder gives every whole picture once, in order, and nothing that is smeared, whatever it is fed."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trickle_core.mpegts.units import AccessUnit, Codec
from trickle_trio.media.colour import Colour
from trickle_trio.media.decode import DecoderState, VideoDecoder
from trickle_trio.media.frames import VideoFrame

if TYPE_CHECKING:
    from tests.media.conftest import Footage


def decoded(decoder: VideoDecoder, units: Iterable[AccessUnit]) -> list[VideoFrame]:
    return [frame for unit in units for frame in decoder.decode(unit)]


def times(frames: Iterable[VideoFrame]) -> list[int]:
    return [frame.timestamp for frame in frames]


@pytest.mark.parametrize("codec", [Codec.H264, Codec.H265])
def test_every_unit_becomes_the_picture_that_went_in_at_once(
    footage: Footage, codec: Codec
) -> None:
    options = {"tune": "zerolatency"}
    units = footage.video(8, codec=codec, start=1 << 40, options=options)
    decoder = VideoDecoder(codec)
    for number, unit in enumerate(units):
        (frame,) = decoder.decode(unit)
        assert (frame.width, frame.height, frame.time_base) == (320, 180, Fraction(1, 90_000))
        assert frame.timestamp == (1 << 40) + number * footage.tick
        assert footage.difference(frame.to_av_frame(), footage.picture(number)) < 4
    assert decoder.statistics().decoded == 8


@pytest.mark.parametrize("codec", [Codec.H264, Codec.H265])
def test_reordered_pictures_come_out_in_the_order_in_which_they_are_shown(
    footage: Footage, codec: Codec
) -> None:
    units = footage.video(24, codec=codec, bframes=2)
    assert [unit.pts for unit in units] != sorted(unit.pts for unit in units)
    decoder = VideoDecoder(codec)
    frames = decoded(decoder, units) + decoder.flush()
    assert times(frames) == [number * footage.tick for number in range(24)]
    assert decoder.statistics().misordered == 0


def test_decoding_waits_for_a_key_unit(footage: Footage) -> None:
    units = footage.video(24)
    decoder = VideoDecoder(Codec.H264)
    assert times(decoded(decoder, units[5:])) == [unit.pts for unit in units[12:]]
    assert decoder.statistics().skipped == 7
    assert decoder.statistics().errors == 0


def test_a_loss_between_units_shows_nothing_before_the_next_key_unit(footage: Footage) -> None:
    units = footage.video(24)
    cut = [*units[:4], evolve(units[6], lost_before=True), *units[7:]]
    decoder = VideoDecoder(Codec.H264)
    assert times(decoded(decoder, cut)) == [unit.pts for unit in units[:4] + units[12:]]


def test_a_loss_right_before_a_key_unit_costs_nothing_more(footage: Footage) -> None:
    units = footage.video(24)
    cut = [*units[:4], evolve(units[12], lost_before=True), *units[13:]]
    assert times(decoded(VideoDecoder(Codec.H264), cut)) == [u.pts for u in units[:4] + units[12:]]


def test_what_was_whole_before_a_loss_is_still_shown(footage: Footage) -> None:
    units = footage.video(24, bframes=2)
    cut = [*units[:7], evolve(units[9], lost_before=True), *units[10:]]
    decoder = VideoDecoder(Codec.H264)
    shown = times(decoded(decoder, cut) + decoder.flush())
    assert shown == sorted(unit.pts for unit in units[:7]) + sorted(unit.pts for unit in units[12:])


def test_a_damaged_unit_is_counted_and_not_shown(footage: Footage) -> None:
    units = footage.video(24)
    broken = [evolve(unit, damaged=number == 5) for number, unit in enumerate(units)]
    decoder = VideoDecoder(Codec.H264)
    assert times(decoded(decoder, broken)) == [unit.pts for unit in units[:5] + units[12:]]
    statistics = decoder.statistics()
    assert (statistics.errors, statistics.skipped) == (1, 6)


def test_a_damaged_key_unit_is_no_start(footage: Footage) -> None:
    units = footage.video(36)
    broken = [evolve(unit, damaged=number == 12) for number, unit in enumerate(units)]
    assert times(decoded(VideoDecoder(Codec.H264), broken)) == [
        u.pts for u in units[:12] + units[24:]
    ]


@pytest.mark.parametrize(
    "harm",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:40] + bytes(byte ^ 0xFF for byte in data[40:60]) + data[60:],
        lambda data: b"no start code anywhere",
        lambda data: b"",
        lambda data: b"\0\0\0\1\x65" + bytes(range(60)),
    ],
    ids=["half", "flipped", "text", "empty", "slice of nothing"],
)
def test_a_broken_unit_that_nobody_marked_is_noticed(footage: Footage, harm: object) -> None:
    assert callable(harm)
    units = footage.video(24, size=(640, 360))
    harmed = [*units[:5], evolve(units[5], data=harm(units[5].data)), *units[6:]]
    decoder = VideoDecoder(Codec.H264)
    assert times(decoded(decoder, harmed)) == [unit.pts for unit in units[:5] + units[12:]]
    assert decoder.statistics().errors == 1
    assert decoder.statistics().last_error
    assert decoder.state is DecoderState.DECODING


def test_the_size_and_the_pixel_format_may_change_on_the_way(footage: Footage) -> None:
    tick = footage.tick
    units = footage.video(6, bframes=2)
    units += footage.video(6, size=(160, 90), start=6 * tick)
    units += footage.video(6, size=(160, 90), pixel_format="yuv444p", start=12 * tick)
    decoder = VideoDecoder(Codec.H264)
    frames = decoded(decoder, units) + decoder.flush()
    assert times(frames) == [number * tick for number in range(18)]
    kinds = [(frame.width, frame.to_av_frame().format.name) for frame in frames]
    assert kinds == [(320, "yuv420p")] * 6 + [(160, "yuv420p")] * 6 + [(160, "yuv444p")] * 6


def test_an_open_gop_is_entered_at_its_key_unit_without_its_leading_pictures(
    footage: Footage,
) -> None:
    params = "open-gop=1:keyint=12:min-keyint=12:rc-lookahead=0:b-adapt=0"
    units = footage.video(36, bframes=2, options={"x264-params": params})
    start = next(n for n, unit in enumerate(units) if n and unit.key)
    decoder = VideoDecoder(Codec.H264)
    frames = decoded(decoder, units[start:]) + decoder.flush()
    assert times(frames) == sorted(unit.pts for unit in units if unit.pts >= units[start].pts)
    assert decoder.statistics().errors == 0


def test_colour_and_pixel_aspect_come_with_the_frames(footage: Footage) -> None:
    colour = Colour(matrix=6, full_range=True, primaries=5, transfer=6)
    units = footage.video(
        2, pixel_format="yuvj420p", colour=colour, sample_aspect_ratio=Fraction(64, 45)
    )
    frame = decoded(VideoDecoder(Codec.H264), units)[0]
    assert frame.colour == colour
    assert frame.pixel_aspect == Fraction(64, 45)


def test_after_a_flush_time_may_start_anew(footage: Footage) -> None:
    units = footage.video(4)
    decoder = VideoDecoder(Codec.H264)
    later = [evolve(unit, pts=unit.pts + 900_000, dts=unit.dts + 900_000) for unit in units]
    assert len(decoded(decoder, later)) == 4
    assert decoder.flush() == []
    assert times(decoded(decoder, units)) == [unit.pts for unit in units]


def test_time_never_goes_back_without_a_flush(footage: Footage) -> None:
    units = footage.video(4)
    decoder = VideoDecoder(Codec.H264)
    decoded(decoder, units)
    assert decoded(decoder, units) == []
    assert decoder.statistics().misordered == 4


def test_a_closed_decoder_says_so(footage: Footage) -> None:
    decoder = VideoDecoder(Codec.H264)
    decoder.close()
    decoder.close()
    with pytest.raises(RuntimeError, match="closed"):
        decoder.decode(footage.video(1)[0])
    with pytest.raises(RuntimeError, match="closed"):
        decoder.flush()


def test_sound_is_no_picture() -> None:
    with pytest.raises(ValueError, match="video"):
        VideoDecoder(Codec.AAC)


def test_a_decoder_may_use_threads_without_holding_pictures_back(footage: Footage) -> None:
    decoder = VideoDecoder(Codec.H264, threads=2)
    assert [len(decoder.decode(unit)) for unit in footage.video(4)] == [1] * 4


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_bytes_make_a_decoder_raise(footage: Footage, data: st.DataObject) -> None:
    units = footage.video(12, gop=4, size=(64, 48))
    decoder = VideoDecoder(Codec.H264)
    shown = []
    for unit in units:
        harm = data.draw(
            st.sampled_from(["none", "none", "bytes", "cut", "flip", "damaged", "lost"])
        )
        shown += decoder.decode(_harmed(unit, harm, data))
    shown += decoder.flush()
    assert times(shown) == sorted(set(times(shown)))
    statistics = decoder.statistics()
    assert statistics.decoded == len(shown)


def _harmed(unit: AccessUnit, harm: str, data: st.DataObject) -> AccessUnit:
    if harm == "bytes":
        return evolve(unit, data=data.draw(st.binary(max_size=80)))
    if harm in ("cut", "flip"):
        place = data.draw(st.integers(0, len(unit.data) - 1))
        tail = bytes([unit.data[place] ^ 0x55]) + unit.data[place + 1 :] if harm == "flip" else b""
        return evolve(unit, data=unit.data[:place] + tail)
    return evolve(unit, damaged=harm == "damaged", lost_before=harm == "lost")
