"""Our transport streams against libavformat's: each must read what the other writes, to the byte."""

from __future__ import annotations

import io
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from fractions import Fraction
from functools import cache
from typing import TypeAlias

import attrs
import av
import av.logging
import numpy as np
import pytest

from trickle_core.mpegts import (
    CLOCK_WRAP,
    AccessUnit,
    Codec,
    Damage,
    DamageReason,
    Demuxer,
    ElementaryStream,
    Muxer,
    ProgramMap,
    Timeline,
    TsEvent,
    adts_header,
    opus_head,
    opus_samples,
    parameter_sets,
)

Packet: TypeAlias = "av.Packet[av.stream.Stream]"

SIZE = 188
PICTURES = 20
FPS = 25


@attrs.frozen
class Source:
    """What to encode; ``mux``: libavformat's options as pairs."""

    video: str = ""
    audio: str = ""
    layout: str = "stereo"
    rate: int = 48_000
    encoder: tuple[tuple[str, str], ...] = ()
    mux: tuple[tuple[str, str], ...] = ()
    size: tuple[int, int] = (160, 96)
    noise: int = 8

    def __str__(self) -> str:
        names = (self.video, self.audio, self.audio and self.layout, *(k for k, _ in self.mux))
        return "-".join(filter(None, names))


X264 = (("preset", "ultrafast"), ("tune", "zerolatency"))
B_FRAMES = (("preset", "ultrafast"), ("bf", "2"), ("b-adapt", "0"))
X265 = (("preset", "ultrafast"), ("x265-params", "log-level=none:keyint=10:bframes=2"))
SURROUND = (("mapping_family", "1"),)

H264 = Source("libx264", encoder=X264)
BOTH = Source("libx264", "aac", encoder=X264)
MANY = attrs.evolve(BOTH, noise=80)
SOURCES = [
    H264,
    Source("libx264", encoder=B_FRAMES),
    Source("libx265", encoder=X265),
    BOTH,
    Source(audio="aac", layout="mono", rate=22_050),
    Source(audio="aac", layout="stereo", rate=44_100),
    Source(audio="aac", layout="5.1"),
    Source(audio="libopus", layout="mono"),
    Source(audio="libopus", layout="stereo"),
    Source(audio="libopus", layout="stereo", encoder=(("frame_duration", "60"),)),
    Source(audio="libopus", layout="5.1", encoder=SURROUND),
    Source(audio="mp2", layout="stereo"),
    Source(audio="mp2", layout="mono", rate=22_050),
    Source(audio="libmp3lame", layout="stereo", rate=44_100),
    Source("libx265", "libopus", encoder=X265),
    Source("libx264", "mp2", encoder=B_FRAMES),
]
WAYS = [
    # One audio frame a PES; video PES with their length; a constant rate, which puts null packets
    # and packets of nothing but a clock in between; tables at every picture; clocks all the time.
    attrs.evolve(BOTH, mux=(("pes_payload_size", "0"),)),
    attrs.evolve(BOTH, mux=(("omit_video_pes_length", "0"),)),
    attrs.evolve(BOTH, mux=(("muxrate", "3000000"),)),
    attrs.evolve(BOTH, mux=(("mpegts_flags", "pat_pmt_at_frames+initial_discontinuity"),)),
    attrs.evolve(BOTH, mux=(("pcr_period", "1"),)),
]


@pytest.fixture(autouse=True)
def _speaking() -> Iterator[None]:
    """Have libav say what it does not like."""
    before = av.logging.get_level()
    av.logging.set_level(av.logging.WARNING)
    yield
    av.logging.set_level(before)


@cache
def written(source: Source) -> bytes:
    """A transport stream of libavformat's."""
    buffer = io.BytesIO()
    with (
        av.logging.Capture(local=False),
        av.open(buffer, "w", format="mpegts", options=dict(source.mux)) as container,
    ):
        packets: list[Packet] = []
        if source.video:
            packets += pictures(container, source)
        if source.audio:
            packets += sounds(container, source)
        packets.sort(key=lambda p: p.dts * p.time_base if p.dts is not None else 0)
        container.mux(packets)
    return buffer.getvalue()


def pictures(container: av.container.OutputContainer, source: Source) -> list[Packet]:
    options = dict(source.encoder) | {"g": "10"}
    stream = container.add_stream(source.video, rate=FPS, options=options)
    assert isinstance(stream, av.VideoStream)
    stream.width, stream.height = source.size
    stream.pix_fmt = "yuv420p"
    dice = np.random.default_rng(1)
    packets = []
    for n in range(PICTURES):
        noise = dice.integers(0, source.noise, (*reversed(source.size), 3), dtype=np.uint8)
        slope = np.arange(source.size[0], dtype=np.uint8)[None, :, None]
        frame = av.VideoFrame.from_ndarray(noise + np.roll(slope, 4 * n, 1), format="rgb24")
        frame.pts, frame.time_base = n, Fraction(1, FPS)
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def sounds(container: av.container.OutputContainer, source: Source) -> list[Packet]:
    options = dict(source.encoder) if not source.video else {}
    stream = container.add_stream(
        source.audio, rate=source.rate, layout=source.layout, options=options
    )
    assert isinstance(stream, av.AudioStream)
    count = source.rate * PICTURES // FPS
    tone = 0.3 * np.sin(np.arange(count) * 2 * np.pi * 440 / source.rate)
    channels = av.AudioLayout(source.layout).nb_channels
    samples = np.tile(tone.astype(np.float32), (channels, 1))
    frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=source.layout)
    frame.rate, frame.pts, frame.time_base = source.rate, 0, Fraction(1, source.rate)
    resampler = av.AudioResampler(
        format=stream.format, layout=source.layout, rate=source.rate, frame_size=stream.frame_size
    )
    packets = []
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        packets += stream.encode(part)
    return packets + stream.encode(None)


Read = dict[int, list[tuple[bytes, int, int, bool]]]


def read_by_libavformat(data: bytes) -> Read:
    """By PID: content, pts, dts, key; of every packet that libavformat's parsers find."""
    found: Read = defaultdict(list)
    with complaints() as said, av.open(io.BytesIO(data), "r", format="mpegts") as container:
        for packet in container.demux():
            if packet.size:
                assert packet.pts is not None
                assert packet.dts is not None
                one = (bytes(packet), packet.pts, packet.dts, packet.is_keyframe)
                found[packet.stream.id].append(one)
    assert said == []
    return found


class complaints:  # noqa: N801 - reads as the function that it stands for
    """Collects what libav says at the level of warnings and above."""

    def __enter__(self) -> list[tuple[int, str, str]]:
        self._capture = av.logging.Capture(local=False)
        return self._capture.__enter__()

    def __exit__(self, *exception: object) -> None:
        self._capture.__exit__(None, None, None)


def as_read(units: list[AccessUnit]) -> Read:
    found: Read = defaultdict(list)
    for unit in units:
        found[unit.stream.pid].append((unit.data, unit.pts, unit.dts, unit.key))
    return found


def events_of(data: bytes, step: int = 4096) -> list[TsEvent]:
    demuxer = Demuxer()
    parts = (data[at : at + step] for at in range(0, len(data), step))
    return [event for part in parts for event in demuxer.feed(part)] + demuxer.flush()


def units_of(events: list[TsEvent]) -> list[AccessUnit]:
    return [event for event in events if isinstance(event, AccessUnit)]


def streams_of(events: list[TsEvent]) -> tuple[ElementaryStream, ...]:
    (streams,) = [event.streams for event in events if isinstance(event, ProgramMap)]
    return streams


def rewritten(data: bytes) -> bytes:
    """Read by our demuxer, written by our muxer, in the order of dts."""
    events = events_of(data)
    muxer = Muxer(streams_of(events))
    units = sorted(units_of(events), key=lambda unit: unit.dts)
    return muxer.tables() + b"".join(muxer.write(unit) for unit in units)


def kind_of(frame: object) -> str:
    """A picture's size, or the channels of sound."""
    if isinstance(frame, av.VideoFrame):
        return f"{frame.width}x{frame.height}"
    assert isinstance(frame, av.AudioFrame)
    return frame.layout.name


def decoded(data: bytes) -> Mapping[str, list[int]]:
    """By kind: the pts of every frame that libav decodes; it must not complain."""
    frames: dict[str, list[int]] = defaultdict(list)
    with complaints() as said, av.open(io.BytesIO(data), "r", format="mpegts") as container:
        for frame in container.decode():
            assert frame.pts is not None
            frames[kind_of(frame)].append(frame.pts)
    assert said == []
    return frames


@pytest.mark.parametrize("source", [*SOURCES, *WAYS], ids=str)
def test_ours_reads_what_libavformat_writes(source: Source) -> None:
    data = written(source)
    events = events_of(data)
    assert [event for event in events if isinstance(event, Damage)] == []
    theirs = read_by_libavformat(data)
    assert as_read(units_of(events)) == theirs
    assert sum(map(len, theirs.values())) >= 10


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_libavformat_reads_what_ours_writes(source: Source) -> None:
    original = written(source)
    data = rewritten(original)
    assert read_by_libavformat(data) == read_by_libavformat(original)
    assert decoded(data) == decoded(original)


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_ours_reads_what_ours_writes_without_waiting(source: Source) -> None:
    original = units_of(events_of(written(source)))
    demuxer = Demuxer()
    units = units_of(demuxer.feed(rewritten(written(source))))
    assert demuxer.flush() == []
    assert as_read(units) == as_read(original)


@pytest.mark.parametrize("source", [MANY, *WAYS], ids=str)
def test_a_picture_of_libavformats_is_out_with_its_last_packet(source: Source) -> None:
    """But where that packet happens to be full and no length is told: then with the next picture."""
    demuxer, late, full, before = Demuxer(), 0, 0, b""
    packets = [p for p in packets_of(written(source)) if int.from_bytes(p[1:3]) & 0x1FFF == 0x100]
    tables = packets_of(written(source))[:3]
    demuxer.feed(b"".join(tables))
    for packet in packets:
        found = demuxer.feed(packet)
        starts = bool(packet[1] & 0x40)
        full += starts and before != b"" and not before[3] & 0x20
        late += starts and any(unit.data[-80:] not in packet for unit in units_of(found))
        before = packet
    assert late == (0 if source.mux == (("omit_video_pes_length", "0"),) else full)
    assert late < PICTURES // 4


def test_pictures_too_big_for_a_length() -> None:
    source = Source("libx264", encoder=(*X264, ("qp", "1")), size=(640, 480), noise=255)
    data = rewritten(written(source))
    assert max(len(unit.data) for unit in units_of(events_of(data))) > 1 << 16
    assert read_by_libavformat(data) == read_by_libavformat(written(source))
    assert len(decoded(data)["640x480"]) == PICTURES


def test_segments_play_alone_and_in_a_row() -> None:
    events = events_of(written(BOTH))
    muxer = Muxer(streams_of(events))
    segments: list[bytes] = []
    for unit in sorted(units_of(events), key=lambda unit: unit.dts):
        if unit.key and unit.stream.codec is Codec.H264:
            segments.append(muxer.tables())
        if segments:
            segments[-1] += muxer.write(unit)
    assert len(segments) == 2
    counts = [len(decoded(segment)["160x96"]) for segment in segments]
    assert counts == [10, 10]
    assert len(decoded(b"".join(segments))["160x96"]) == 20


def test_times_wrap() -> None:
    events = events_of(written(BOTH))
    muxer = Muxer(streams_of(events))
    units = sorted(units_of(events), key=lambda unit: unit.dts)
    shift = CLOCK_WRAP - units[len(units) // 2].dts
    moved = [attrs.evolve(u, pts=u.pts + shift, dts=u.dts + shift) for u in units]
    data = muxer.tables() + b"".join(muxer.write(unit) for unit in moved)
    theirs, plain = read_by_libavformat(data), read_by_libavformat(written(BOTH))
    for pid, packets in plain.items():
        # libavformat goes on without the wrap, or begins below 0; it knows the first of all times.
        assert [p[0] for p in packets] == [p[0] for p in theirs[pid]]
        apart = {
            (p[1] + shift - q[1]) % CLOCK_WRAP for p, q in zip(packets, theirs[pid], strict=True)
        }
        assert apart == {0}
    timeline = Timeline()
    placed = [timeline.place(unit) for unit in units_of(events_of(data))]
    assert {(u.stream.pid, u.dts) for u in placed} == {(u.stream.pid, u.dts) for u in moved}


def test_a_change_of_streams_is_followed() -> None:
    first, second = written(H264), written(Source("libx265", "libopus", encoder=X265))
    demuxer = Demuxer()
    events = demuxer.feed(first) + demuxer.flush() + demuxer.feed(second) + demuxer.flush()
    maps = [event.streams for event in events if isinstance(event, ProgramMap)]
    assert [[stream.codec for stream in streams] for streams in maps] == [
        [Codec.H264],
        [Codec.H265, Codec.OPUS],
    ]
    assert as_read(units_of(events[events.index(ProgramMap(maps[1])) :])) == read_by_libavformat(
        second
    )


# --- headers of frames ----------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1"])
def test_adts_headers_are_libavformats(layout: str) -> None:
    rate = 22_050 if layout == "mono" else 44_100 if layout == "stereo" else 48_000
    units = units_of(events_of(written(Source(audio="aac", layout=layout, rate=rate))))
    channels = av.AudioLayout(layout).nb_channels
    for unit in units:
        assert adts_header(len(unit.data) - 7, rate=rate, channels=channels) == unit.data[:7]


@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1"])
def test_opus_units_decode_with_the_head_made_from_the_container(layout: str) -> None:
    encoder = SURROUND if layout == "5.1" else ()
    events = events_of(written(Source(audio="libopus", layout=layout, encoder=encoder)))
    (stream,) = streams_of(events)
    assert stream.channels == av.AudioLayout(layout).nb_channels
    context = av.CodecContext.create("opus", "r")
    assert isinstance(context, av.AudioCodecContext)
    context.extradata = opus_head(stream.channels)
    for unit in units_of(events):
        (frame,) = context.decode(av.Packet(unit.data))
        assert frame.layout.name == layout
        assert frame.samples == opus_samples(unit.data)


@pytest.mark.parametrize(("source", "name"), [(SOURCES[0], "h264"), (SOURCES[2], "hevc")], ids=str)
def test_parameter_sets_are_what_a_decoder_needs(source: Source, name: str) -> None:
    first = units_of(events_of(written(source)))[0]
    assert first.key
    sets = parameter_sets(first.data, first.stream.codec).annex_b()
    assert sets
    context = av.CodecContext.create(name, "r")
    assert isinstance(context, av.VideoCodecContext)
    context.extradata = sets
    slices = first.data[first.data.index(sets[-20:]) + 20 :]
    frames = [*context.decode(av.Packet(slices)), *context.decode(None)]
    assert [(frame.width, frame.height) for frame in frames] == [(160, 96)]


# --- bad lines ------------------------------------------------------------------------------------


def packets_of(data: bytes) -> list[bytes]:
    return [data[at : at + SIZE] for at in range(0, len(data), SIZE)]


@pytest.mark.parametrize("seed", range(5))
def test_lost_packets_are_marked(seed: int) -> None:
    dice = random.Random(seed)
    data = written(MANY)
    whole = {unit.data for unit in units_of(events_of(data))}
    kept = [packet for n, packet in enumerate(packets_of(data)) if n < 4 or dice.random() > 0.03]
    events = events_of(b"".join(kept))
    assert Damage(0x100, DamageReason.PACKETS_LOST) in events
    assert {unit.data for unit in units_of(events) if not unit.damaged} <= whole


@pytest.mark.parametrize("seed", range(5))
def test_doubled_packets_are_dropped(seed: int) -> None:
    dice = random.Random(seed)
    data = written(MANY)
    doubled = [packet * (1 + (dice.random() < 0.05)) for packet in packets_of(data)]
    assert events_of(b"".join(doubled)) == events_of(data)


@pytest.mark.parametrize("seed", range(5))
def test_broken_packets_do_no_harm_to_others(seed: int) -> None:
    dice = random.Random(seed)
    packets = [bytearray(packet) for packet in packets_of(written(MANY))]
    for packet in packets[4:]:
        if dice.random() < 0.05:
            packet[dice.randrange(12)] ^= 1 << dice.randrange(8)
    timeline, last = Timeline(), dict[int, int]()
    units = [timeline.place(unit) for unit in units_of(events_of(b"".join(packets)))]
    for unit in units:
        assert unit.dts > last.get(unit.stream.pid, -1)
        last[unit.stream.pid] = unit.dts
    assert len(units) > 30
