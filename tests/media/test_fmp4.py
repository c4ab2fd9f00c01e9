"""The live file for players, judged by libavformat: what it reads back is what went in."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
import pytest
from attrs import evolve
from av.audio.codeccontext import AudioCodecContext
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from trickle_core.mpegts.units import CLOCK_RATE, AccessUnit, Codec, ElementaryStream
from trickle_trio.media.fmp4 import (
    GATHERED_UNITS,
    PICTURE_PATIENCE,
    SOUND_PATIENCE,
    FragmentedMp4,
    State,
    UnplayableError,
)

VIDEO = ElementaryStream(256, Codec.H264)
AAC = ElementaryStream(257, Codec.AAC)
OPUS = ElementaryStream(257, Codec.OPUS, channels=2)
FRAME = CLOCK_RATE // 30
START = 123_456_789


def pictures(
    count: int, *, size: tuple[int, int] = (320, 180), profile: str = "baseline", reorder: int = 0
) -> Iterator[AccessUnit]:
    context = av.CodecContext.create("libx264", "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height = size
    context.pix_fmt = {"high422": "yuv422p10le", "high444": "yuv444p"}.get(profile, "yuv420p")
    context.time_base = Fraction(1, CLOCK_RATE)
    context.framerate = Fraction(30)
    context.options = {
        "preset": "ultrafast", "profile": profile, "g": "15", "bf": str(reorder), "forced-idr": "1"
    }  # fmt: skip
    if not reorder:
        context.options |= {"tune": "zerolatency"}
    for index in range(count):
        gray = np.full((size[1], size[0], 3), index * 5 % 256, np.uint8)
        frame = av.VideoFrame.from_ndarray(gray, format="rgb24")
        frame.pts = START + index * FRAME
        frame.time_base = Fraction(1, CLOCK_RATE)
        yield from map(as_picture, context.encode(frame))
    yield from map(as_picture, context.encode(None))


def as_picture(packet: av.Packet[VideoStream]) -> AccessUnit:
    assert packet.pts is not None
    assert packet.dts is not None
    return AccessUnit(VIDEO, bytes(packet), packet.pts, packet.dts, key=packet.is_keyframe)


def sounds(count: int, *, codec: str = "aac", layout: str = "stereo") -> Iterator[AccessUnit]:
    context = av.CodecContext.create(codec, "w")
    assert isinstance(context, AudioCodecContext)
    context.sample_rate = 48000
    context.layout = layout
    context.format = "fltp" if codec == "aac" else "s16"
    context.open()
    channels = context.layout.nb_channels
    stream = AAC if codec == "aac" else ElementaryStream(257, Codec.OPUS, channels=channels)
    size = context.frame_size
    kind, shape = (
        (np.float32, (channels, size)) if codec == "aac" else (np.int16, (1, channels * size))
    )
    for index in range(count):
        frame = av.AudioFrame.from_ndarray(
            np.zeros(shape, kind), format=str(context.format.name), layout=layout
        )
        frame.sample_rate = 48000
        for packet in context.encode(frame):
            data = bytes(packet)
            pts = START + round(index * size * CLOCK_RATE / 48000)
            yield AccessUnit(
                stream, adts(data, channels) if codec == "aac" else data, pts, pts, key=True
            )


def adts(data: bytes, channels: int) -> bytes:
    size = len(data) + 7
    head = 0xFFF1 << 40 | 1 << 38 | 3 << 34 | channels << 30 | size << 13 | 0x7FF << 2
    return head.to_bytes(7, "big") + data


def opened(data: bytes) -> InputContainer:
    return av.open(io.BytesIO(data), mode="r")


def interleaved(*tracks: Iterator[AccessUnit]) -> list[AccessUnit]:
    return sorted((unit for track in tracks for unit in track), key=lambda unit: unit.dts)


def written(units: list[AccessUnit]) -> tuple[FragmentedMp4, bytes]:
    file = FragmentedMp4()
    data = b"".join(map(file.write, units)) + file.finish()
    return file, data


def test_pictures_and_sound_come_back_as_they_went_in() -> None:
    units = interleaved(pictures(45), sounds(70))
    file, data = written(units)
    assert file.mime_type == 'video/mp4; codecs="avc1.42C00D, mp4a.40.2"'
    with opened(data) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.width, video.height) == (320, 180)
        assert (audio.rate, audio.channels) == (48000, 2)
        frames = list(container.decode(video))
    assert [frame.pts for frame in frames] == [index * FRAME for index in range(45)]
    assert [int(frame.to_ndarray(format="gray8")[50, 50]) for frame in frames] == pytest.approx(
        [index * 5 % 256 for index in range(45)], abs=8
    )
    with opened(data) as container:
        heard = [frame.pts for frame in container.decode(audio=0)]
    assert heard == [unit.pts - START for unit in units if unit.stream is AAC]


@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1"])
def test_opus_of_any_layout(layout: str) -> None:
    file, data = written(interleaved(pictures(15), sounds(25, codec="libopus", layout=layout)))
    assert file.mime_type == 'video/mp4; codecs="avc1.42C00D, opus"'
    with opened(data) as container:
        audio = container.streams.audio[0]
        assert audio.channels == {"mono": 1, "stereo": 2, "5.1": 6}[layout]
        assert len(list(container.decode(audio))) == 25


@pytest.mark.parametrize("layout", ["mono", "5.1"])
def test_aac_of_any_layout(layout: str) -> None:
    _, data = written(interleaved(pictures(15), sounds(25, layout=layout)))
    with opened(data) as container:
        assert container.streams.audio[0].channels == {"mono": 1, "5.1": 6}[layout]


@pytest.mark.parametrize("profile", ["baseline", "main", "high", "high422", "high444"])
@pytest.mark.parametrize("size", [(320, 180), (64, 64), (322, 182)])
def test_the_size_is_read_off_every_profile(profile: str, size: tuple[int, int]) -> None:
    _, data = written(list(pictures(20, size=size, profile=profile)))
    with opened(data) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == size
        assert [(frame.width, frame.height) for frame in container.decode(stream)] == [size] * 20


def test_reordered_pictures_keep_their_times() -> None:
    units = list(pictures(30, profile="main", reorder=2))
    assert any(unit.pts != unit.dts for unit in units)
    _, data = written(units)
    with opened(data) as container:
        times = [frame.pts for frame in container.decode(video=0)]
    assert times == [START + index * FRAME - units[0].dts for index in range(30)]


def test_a_file_begins_at_a_key_picture_near_zero_with_its_sound_in_step() -> None:
    units = [unit for unit in interleaved(pictures(45), sounds(70)) if unit.dts > START + 5 * FRAME]
    _, data = written(units)
    with opened(data) as container:
        packets = [(packet.stream.type, packet.pts) for packet in container.demux()]
    shown = [pts for kind, pts in packets if kind == "video" and pts is not None]
    heard = [pts for kind, pts in packets if kind == "audio" and pts is not None]
    assert shown == [index * FRAME for index in range(30)]
    assert 0 <= heard[0] < 1024 * CLOCK_RATE // 48000
    # The sound that was coded for the 16th picture's time is still the sound of that time.
    offset = round(24 * 1024 * CLOCK_RATE / 48000) - 15 * FRAME
    assert offset in heard


def test_a_picture_is_sent_when_the_next_one_comes_and_sound_at_once() -> None:
    file = FragmentedMp4()
    units = interleaved(pictures(10), sounds(15))
    for unit in units[:4]:
        file.write(unit)
    for unit in units[4:]:
        data = file.write(unit)
        assert data.count(b"moof") == 1
        assert (bytes(unit.data[7:]) in data) == (unit.stream is AAC)


def test_without_sound_the_head_waits_for_half_a_second_of_pictures_and_not_longer() -> None:
    file = FragmentedMp4()
    heads = [unit.dts - START for unit in pictures(30) if b"moov" in file.write(unit)]
    assert heads == [SOUND_PATIENCE]
    assert file.mime_type == 'video/mp4; codecs="avc1.42C00D"'


def test_sound_alone_is_a_file_too() -> None:
    units = list(sounds(150))
    file, data = written(units)
    assert file.mime_type == 'video/mp4; codecs="mp4a.40.2"'
    with opened(data) as container:
        assert len(list(container.decode(audio=0))) == len(units)


@pytest.mark.parametrize("first", [VIDEO, AAC])
def test_a_track_that_turns_up_late_ends_the_file_so_that_the_player_comes_again(
    first: ElementaryStream,
) -> None:
    units = interleaved(pictures(150), sounds(240))
    late = START + 3 * CLOCK_RATE
    file, data = written([unit for unit in units if unit.stream is first or unit.dts > late])
    assert file.state is State.ENDED
    with opened(data) as container:
        assert [stream.type for stream in container.streams] == [
            "video" if first is VIDEO else "audio"
        ]


def test_sound_waits_longer_for_its_picture_than_a_picture_for_its_sound() -> None:
    file = FragmentedMp4()
    units = interleaved(pictures(90), sounds(140))
    late = START + PICTURE_PATIENCE - FRAME
    for unit in units:
        if unit.stream is AAC or unit.dts > late:
            file.write(unit)
    assert file.mime_type == 'video/mp4; codecs="avc1.42C00D, mp4a.40.2"'


def test_another_size_ends_the_file_with_everything_before_it() -> None:
    later = (
        evolve(unit, pts=unit.pts + 15 * FRAME, dts=unit.dts + 15 * FRAME)
        for unit in pictures(5, size=(64, 48))
    )
    file, data = written([*pictures(15), *later])
    assert file.state is State.ENDED
    with opened(data) as container:
        assert [(f.width, f.height) for f in container.decode(video=0)] == [(320, 180)] * 15


def test_another_layout_of_the_sound_ends_the_file() -> None:
    later = (
        evolve(unit, pts=unit.pts + CLOCK_RATE, dts=unit.dts + CLOCK_RATE)
        for unit in sounds(5, layout="mono")
    )
    file, _ = written(interleaved(pictures(30), sounds(40), later))
    assert file.state is State.ENDED
    assert file.write(next(pictures(1))) == b""


def test_an_encoder_that_was_opened_anew_with_the_same_settings_does_not_end_the_file() -> None:
    later = (
        evolve(unit, pts=unit.pts + 15 * FRAME, dts=unit.dts + 15 * FRAME) for unit in pictures(15)
    )
    file, data = written([*pictures(15), *later])
    assert file.state is State.WRITING
    with opened(data) as container:
        assert len(list(container.decode(video=0))) == 30


def test_a_gap_is_bridged_by_the_picture_before_it() -> None:
    units = list(pictures(31))
    _, data = written([*units[:10], *units[15:]])
    with opened(data) as container:
        lasting = [packet.duration for packet in container.demux(video=0) if packet.pts is not None]
    assert lasting[9] == 6 * FRAME
    assert set(lasting[:9] + lasting[10:]) == {FRAME}


def test_what_is_gathered_is_bounded_when_the_clock_stands_still() -> None:
    file = FragmentedMp4()
    first = next(pictures(1))
    heads = [
        index for index in range(GATHERED_UNITS + 1) if file.write(evolve(first, key=index == 0))
    ]
    assert heads[0] == GATHERED_UNITS - 1


def test_sound_before_the_first_key_picture_is_bounded() -> None:
    file = FragmentedMp4()
    late = evolve(next(pictures(1)), key=False)
    file.write(late)
    for unit in sounds(400):
        assert file.write(unit) == b""
    assert len(file._gathered) <= 32


def test_tracks_that_no_player_knows_are_left_out() -> None:
    mp2 = ElementaryStream(258, Codec.MP2)
    second = ElementaryStream(259, Codec.AAC)
    units = interleaved(pictures(30), sounds(50))
    noise = [evolve(unit, stream=stream) for unit in units for stream in (mp2, second)]
    _, data = written(sorted([*units, *noise], key=lambda unit: unit.dts))
    with opened(data) as container:
        assert len(container.streams) == 2
    with pytest.raises(UnplayableError, match=r"H\.265"):
        FragmentedMp4().write(
            AccessUnit(ElementaryStream(256, Codec.H265), b"\0\0\1\x26", 0, 0, key=True)
        )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\1",
        b"\0\0\1\x65\x88",
        b"\0\0\1\x67\x42\0\0\1\x68\xce",
        b"\0\0\1\x67\x64\0\x1f\0\0\1\x68\xce",
        b"\xff" * 40,
    ],
)
def test_a_key_picture_that_does_not_say_what_it_is_is_passed_over(data: bytes) -> None:
    file = FragmentedMp4()
    assert file.write(AccessUnit(VIDEO, data, START, START, key=True)) == b""
    assert file.write(AccessUnit(AAC, data, START, START, key=True)) == b""
    assert file.mime_type is None
    assert file.finish() == b""


def test_a_damaged_adts_header_costs_that_sound_alone() -> None:
    units = interleaved(pictures(15), sounds(24))
    broken = [
        evolve(unit, data=b"\0" * 20) if unit.stream is AAC and index > 30 else unit
        for index, unit in enumerate(units)
    ]
    file, data = written(broken)
    assert file.state is State.WRITING
    with opened(data) as container:
        assert len(list(container.decode(video=0))) == 15
