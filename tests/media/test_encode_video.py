"""An encoder makes units that play, with the times, sizes and colours of the frames, and starts anew when it fails."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
import torch

from trickle_core.mpegts.nal import nal_type, nal_units, parameter_sets
from trickle_core.mpegts.units import AccessUnit, Codec, ElementaryStream
from trickle_trio.media.colour import BT709, Colour
from trickle_trio.media.decode import VideoDecoder
from trickle_trio.media.encode import VideoEncoder, VideoEncoderSettings
from trickle_trio.media.frames import VideoFrame

if TYPE_CHECKING:
    from tests.media.conftest import Footage

DELIMITER, SPS, PPS, IDR = 9, 7, 8, 5


def frames(footage: Footage, count: int, start: int = 0, **kind: Any) -> list[VideoFrame]:
    numbers = range(start, start + count)
    return [VideoFrame.from_av_frame(footage.picture(number, **kind)) for number in numbers]


def noise(footage: Footage, count: int, start: int = 0) -> list[VideoFrame]:
    random = np.random.default_rng(start)
    arrays = random.integers(0, 255, (count, 90, 160, 3)).astype(np.uint8)
    return [
        VideoFrame.from_ndarray(array, number * footage.tick)
        for number, array in enumerate(arrays, start)
    ]


def rate_control(unit: AccessUnit) -> str | None:
    """What libx264 says of itself in an encoder's first picture."""
    told = re.search(rb" rc=(\w+)", unit.data)
    return told and told[1].decode()


def encoded(encoder: VideoEncoder, given: Iterable[VideoFrame]) -> list[AccessUnit]:
    return [unit for frame in given for unit in encoder.encode(frame)]


def shown(units: Iterable[AccessUnit], codec: Codec = Codec.H264) -> list[VideoFrame]:
    decoder = VideoDecoder(codec)
    pictures = [frame for unit in units for frame in decoder.decode(unit)] + decoder.flush()
    assert decoder.statistics().errors == 0
    return pictures


def kinds(unit: AccessUnit) -> list[int]:
    return [nal_type(nal[0], unit.stream.codec) for nal in nal_units(unit.data)]


@pytest.mark.parametrize("threads", [1, 3])
def test_each_frame_becomes_a_unit_at_once_with_its_time(footage: Footage, threads: int) -> None:
    encoder = VideoEncoder(VideoEncoderSettings(threads=threads), pid=300)
    start = 1 << 35
    for number in range(6):
        frame = VideoFrame.from_av_frame(footage.picture(number))
        frame.timestamp += start
        (unit,) = encoder.encode(frame)
        assert (unit.pts, unit.dts) == (start + number * footage.tick,) * 2
        assert unit.key is (number == 0)
        assert unit.stream == ElementaryStream(300, Codec.H264) == encoder.stream
    assert encoder.flush() == []
    assert encoder.statistics().encoded == 6


def test_what_comes_out_is_what_went_in(footage: Footage) -> None:
    given = frames(footage, 6)
    for frame, out in zip(given, shown(encoded(VideoEncoder(), given)), strict=True):
        assert out.timestamp == frame.timestamp
        assert footage.difference(out.to_av_frame(), frame.to_av_frame()) < 3


def test_a_key_frame_comes_when_asked_for_and_starts_a_segment(footage: Footage) -> None:
    encoder = VideoEncoder()
    units = [
        unit
        for number, frame in enumerate(frames(footage, 9))
        for unit in encoder.encode(frame, key=number == 4)
    ]
    assert [unit.key for unit in units] == [number in (0, 4) for number in range(9)]
    for unit in units:
        assert kinds(unit)[0] == DELIMITER
        assert (
            {SPS, PPS, IDR} <= set(kinds(unit)) if unit.key else not {SPS, IDR} & set(kinds(unit))
        )
    assert len(shown(units[4:])) == 5


def test_key_frames_come_by_themselves_at_the_longest_gop_alone(footage: Footage) -> None:
    encoder = VideoEncoder(VideoEncoderSettings(max_gop=5, max_bit_rate=1 << 30))
    given = noise(footage, 12)  # every picture another scene
    assert [unit.key for unit in encoded(encoder, given)] == [
        number % 5 == 0 for number in range(12)
    ]


def test_what_a_picture_was_in_its_old_stream_does_not_matter(footage: Footage) -> None:
    decoder = VideoDecoder(Codec.H264)
    again = [frame for unit in footage.video(12, gop=3) for frame in decoder.decode(unit)]
    assert [unit.key for unit in encoded(VideoEncoder(), again)] == [True] + [False] * 11


def test_a_passed_picture_is_encoded_without_a_copy(footage: Footage) -> None:
    picture = footage.picture(0)
    VideoEncoder().encode(VideoFrame.from_av_frame(picture))
    assert (picture.pts, picture.time_base) == (0, Fraction(1, 90_000))


@pytest.mark.parametrize("time_base", [Fraction(1, 30), Fraction(1, 1000), Fraction(1001, 30_000)])
def test_times_in_other_units_become_ticks(footage: Footage, time_base: Fraction) -> None:
    encoder = VideoEncoder()
    times = []
    for number in range(1, 5):
        frame = VideoFrame.from_ndarray(footage.rgb(number), number * 33, time_base)
        times += [unit.pts for unit in encoder.encode(frame)]
    assert times == [round(number * 33 * time_base * 90_000) for number in range(1, 5)]


def test_time_that_does_not_rise_is_left_out_and_counted(footage: Footage) -> None:
    encoder = VideoEncoder()
    given = frames(footage, 4)
    units = encoded(encoder, [given[0], given[2], given[1], given[2], given[3]])
    assert [unit.pts for unit in units] == [0, 6000, 9000]
    assert encoder.statistics().misordered == 2


def test_a_key_frame_that_was_left_out_is_still_due(footage: Footage) -> None:
    encoder = VideoEncoder()
    first, second, third = frames(footage, 3)
    encoder.encode(second)
    assert encoder.encode(first, key=True) == []
    assert [unit.key for unit in encoder.encode(third)] == [True]


# --- sizes


@pytest.mark.parametrize(("width", "height"), [(33, 17), (2, 2), (3, 65), (640, 360)])
def test_any_size_can_be_encoded_odd_ones_lose_a_row(width: int, height: int) -> None:
    frame = VideoFrame.from_ndarray(np.zeros((height, width, 3), np.uint8))
    (out,) = shown(VideoEncoder().encode(frame))
    assert (out.width, out.height) == (width & ~1, height & ~1)


def test_another_size_is_told_and_fitted_until_the_caller_flushes(footage: Footage) -> None:
    encoder = VideoEncoder()
    small = VideoFrame.from_ndarray(footage.rgb(0, 160, 90))
    larger = VideoFrame.from_ndarray(footage.rgb(1, 320, 180), 3000)
    largest = VideoFrame.from_ndarray(footage.rgb(2, 321, 181), 6000)
    assert not encoder.needs_new(larger)
    units = encoder.encode(small)
    assert not encoder.needs_new(small)
    assert encoder.needs_new(larger)
    units += encoder.encode(larger)
    units += encoder.flush()
    assert not encoder.needs_new(larger)
    units += encoder.encode(largest)
    assert [unit.key for unit in units] == [True, False, True]
    assert [(out.width, out.height) for out in shown(units)] == [(160, 90), (160, 90), (320, 180)]
    assert not encoder.needs_new(larger)
    assert encoder.statistics().opened == 2


def test_a_size_beyond_the_codec_is_a_failure_not_an_end(footage: Footage) -> None:
    encoder = VideoEncoder()
    endless = VideoFrame.from_ndarray(np.broadcast_to(np.uint8(0), (4, 40_000, 3)))
    assert encoder.encode(endless) == []
    assert encoder.statistics().failures == 1
    assert len(encoder.encode(frames(footage, 1)[0])) == 1


# --- colours


@pytest.mark.parametrize(
    ("pixel_format", "coded"),
    [
        ("yuv420p", "yuv420p"),
        ("yuvj420p", "yuvj420p"),
        ("yuv422p", "yuv420p"),
        ("yuvj444p", "yuvj420p"),
        ("yuv420p10le", "yuv420p"),
        ("gbrp", "yuv420p"),
    ],
)
@pytest.mark.parametrize("touched", [False, True])
def test_colours_and_their_tags_go_through(
    footage: Footage, pixel_format: str, coded: str, touched: bool
) -> None:
    full_range = pixel_format.startswith("yuvj")
    colour = Colour(matrix=6, full_range=full_range, primaries=5, transfer=6)
    frame = VideoFrame.from_av_frame(footage.picture(0, 320, 180, pixel_format, colour))
    given = frame.replace_tensor(frame.tensor) if touched else frame
    settings = VideoEncoderSettings(crf=10)
    (out,) = shown(VideoEncoder(settings).encode(given))
    assert out.to_av_frame().format.name == coded
    assert out.colour == colour
    assert np.abs(out.to_ndarray().astype(int) - footage.rgb(0)).mean() < 5


def test_another_colour_or_pixel_shape_wants_a_new_encoder(footage: Footage) -> None:
    encoder = VideoEncoder()
    picture = footage.picture(0)
    encoder.encode(VideoFrame.from_av_frame(picture))
    assert encoder.needs_new(VideoFrame.from_av_frame(picture, Fraction(4, 3)))
    other = footage.picture(1, colour=Colour(BT709, full_range=True), pixel_format="yuvj420p")
    full = VideoFrame.from_av_frame(other)
    assert encoder.needs_new(full)
    (unit,) = encoder.encode(full)
    assert not unit.key


def test_the_shape_of_pixels_goes_through(footage: Footage) -> None:
    frame = VideoFrame.from_av_frame(footage.picture(0), Fraction(64, 45))
    (out,) = shown(VideoEncoder().encode(frame))
    assert out.pixel_aspect == Fraction(64, 45)


# --- settings


def test_h265_works_the_same(footage: Footage) -> None:
    encoder = VideoEncoder(VideoEncoderSettings(codec="libx265"))
    given = frames(footage, 4)
    units = [unit for n, frame in enumerate(given) for unit in encoder.encode(frame, key=n == 2)]
    units += encoder.flush()
    assert encoder.stream.codec is Codec.H265
    assert [unit.key for unit in units] == [True, False, True, False]
    assert [out.timestamp for out in shown(units[2:], Codec.H265)] == [6000, 9000]


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("rate", [Fraction(10), Fraction(60)])
def test_no_frame_rate_is_told_that_is_only_a_guess(
    footage: Footage, codec: str, rate: Fraction
) -> None:
    encoder = VideoEncoder(VideoEncoderSettings(codec=codec, frame_rate=rate))
    units = encoded(encoder, frames(footage, 6))
    reader = av.CodecContext.create(encoder.stream.codec.value, "r")
    assert isinstance(reader, av.VideoCodecContext)
    for unit in units:
        reader.decode(av.Packet(unit.data))
    assert not reader.framerate
    assert len(shown(units, encoder.stream.codec)) == 6


def test_parameters_that_are_chosen_go_beside_ours(footage: Footage) -> None:
    settings = VideoEncoderSettings(codec="libx265", options={"x265-params": "ref=2"})
    encoder = VideoEncoder(settings)
    given = frames(footage, 4)
    units = [unit for n, frame in enumerate(given) for unit in encoder.encode(frame, key=n == 2)]
    assert parameter_sets(units[2].data, Codec.H265).sps
    assert len(shown(units[2:], Codec.H265)) == 2


def test_b_frames_keep_decoding_time_before_showing_time(footage: Footage) -> None:
    options = {"bf": "2", "tune": "psnr", "rc-lookahead": "4"}
    encoder = VideoEncoder(VideoEncoderSettings(options=options))
    units = encoded(encoder, frames(footage, 12)) + encoder.flush()
    assert sorted(unit.pts for unit in units) == [number * footage.tick for number in range(12)]
    assert all(unit.dts <= unit.pts for unit in units)
    assert [unit.dts for unit in units] == sorted({unit.dts for unit in units})
    assert len(shown(units)) == 12


def test_the_cap_holds(footage: Footage) -> None:
    settings = VideoEncoderSettings(max_bit_rate=300_000)
    bits = 8 * sum(len(unit.data) for unit in encoded(VideoEncoder(settings), noise(footage, 60)))
    assert bits < 2 * 300_000 + 300_000  # two seconds, and a buffer of one


def test_the_rate_is_controlled_only_where_it_would_be_too_high(footage: Footage) -> None:
    encoder = VideoEncoder(VideoEncoderSettings(max_bit_rate=300_000))
    units = encoded(encoder, frames(footage, 30, width=160, height=90))
    units += encoded(encoder, noise(footage, 60, start=30))
    for frame in frames(footage, 20, start=90, width=160, height=90):
        frame.timestamp = frame.timestamp * 30  # one a second, so what is left of the burst drains
        units += encoder.encode(frame, key=True)
    told = [rate_control(unit) for unit in units if unit.key]
    assert [control for control in told if control] == ["cqp", "crf", "cqp"]
    assert len(shown(units)) == len(units) == 110
    assert encoder.statistics().opened == 3


@pytest.mark.parametrize(("crf", "quantiser"), [(51, 50), (23, 22), (2, 1), (1, 1), (0, 0)])
def test_the_quantiser_is_a_step_finer_but_lossless_only_where_asked_for(
    footage: Footage, crf: int, quantiser: int
) -> None:
    (unit,) = VideoEncoder(VideoEncoderSettings(crf=crf)).encode(*frames(footage, 1))
    assert re.findall(rb" qp=(\d+)", unit.data) == [b"%d" % quantiser]


@pytest.mark.parametrize(
    ("chosen", "control"),
    [({"options": {"aq-mode": "1"}}, "crf"), ({"bit_rate": 900_000}, "cbr")],
)
def test_who_chooses_options_or_a_rate_gets_the_rate_control(
    footage: Footage, chosen: dict[str, Any], control: str
) -> None:
    encoder = VideoEncoder(VideoEncoderSettings(**chosen))
    assert [rate_control(unit) for unit in encoded(encoder, frames(footage, 1))] == [control]


def test_a_bit_rate_takes_the_place_of_quality(footage: Footage) -> None:
    low, high = (
        sum(
            len(unit.data)
            for unit in encoded(
                VideoEncoder(VideoEncoderSettings(bit_rate=rate)), frames(footage, 30)
            )
        )
        for rate in (50_000, 2_000_000)
    )
    assert low * 2 < high


@pytest.mark.parametrize(
    "wrong",
    [
        {"codec": "libx999"},
        {"codec": "aac"},
        {"codec": "mpeg2video"},
        {"crf": 52},
        {"bit_rate": 0},
        {"max_gop": 0},
        {"threads": 0},
        {"frame_rate": Fraction(0)},
    ],
)
def test_settings_are_checked_once_where_they_are_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        VideoEncoderSettings(**wrong)


# --- failures


def test_a_failure_is_counted_and_the_next_frame_starts_anew_with_a_key_frame(
    footage: Footage,
) -> None:
    encoder = VideoEncoder()
    given = frames(footage, 5)
    units = encoded(encoder, given[:2])
    # libav makes no picture of 400 million pixels
    given[2] = VideoFrame.from_ndarray(np.broadcast_to(np.uint8(0), (20_000, 20_000, 3)), 6000)
    assert encoder.encode(given[2], key=True) == []
    statistics = encoder.statistics()
    assert (statistics.failures, statistics.failures_in_a_row) == (1, 1)
    assert statistics.last_error
    units += encoded(encoder, given[3:])
    assert [unit.key for unit in units] == [True, False, True, False]
    assert [out.timestamp for out in shown(units)] == [0, 3000, 9000, 12000]
    statistics = encoder.statistics()
    assert (statistics.encoded, statistics.failures_in_a_row, statistics.opened) == (4, 0, 2)


def test_a_gpu_that_gives_no_pixels_costs_the_frame_alone(footage: Footage) -> None:
    encoder = VideoEncoder()
    first, second, third = frames(footage, 3)
    units = encoder.encode(first)
    assert (
        encoder.encode(second.replace_tensor(torch.zeros(8, 8, 3, device="meta")), key=True) == []
    )
    units += encoder.encode(third)
    assert [unit.key for unit in units] == [True, True]
    statistics = encoder.statistics()
    assert (statistics.failures, statistics.opened) == (1, 1)
    assert "meta" in str(statistics.last_error)


def test_an_encoder_that_never_opens_counts_every_frame(footage: Footage) -> None:
    encoder = VideoEncoder(VideoEncoderSettings(options={"presett": "fast"}))
    assert encoded(encoder, frames(footage, 3)) == []
    statistics = encoder.statistics()
    assert (statistics.encoded, statistics.failures_in_a_row, statistics.opened) == (0, 3, 0)


def test_a_closed_encoder_says_so(footage: Footage) -> None:
    encoder = VideoEncoder()
    encoder.encode(frames(footage, 1)[0])
    encoder.close()
    encoder.close()
    assert encoder.flush() == []
    with pytest.raises(RuntimeError, match="closed"):
        encoder.encode(frames(footage, 1, start=1)[0])
