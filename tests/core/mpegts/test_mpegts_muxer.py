from __future__ import annotations

from itertools import pairwise

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trickle_core.errors import LocalProtocolError
from trickle_core.mpegts.clock import LEAD, ProgramClock, Ticks
from trickle_core.mpegts.demuxer import Demuxer
from trickle_core.mpegts.findings import ProgramMap, TsEvent
from trickle_core.mpegts.muxer import Muxer
from trickle_core.mpegts.nal import DELIMITERS
from trickle_core.mpegts.packets import PAYLOAD, SIZE
from trickle_core.mpegts.units import CLOCK_WRAP, AccessUnit, Codec, ElementaryStream

VIDEO = ElementaryStream(0x100, Codec.H264)
AUDIO = ElementaryStream(0x101, Codec.AAC)
OPUS = ElementaryStream(0x102, Codec.OPUS, 2)
STREAMS = (VIDEO, AUDIO, OPUS)

KEY = DELIMITERS[Codec.H264] + b"\x00\x00\x00\x01\x65\x88"
PICTURE = DELIMITERS[Codec.H264] + b"\x00\x00\x00\x01\x41\x9a"
FULL = PAYLOAD - 8 - 14  # what fits one packet beside clock and header


@attrs.frozen
class Packet:
    """One packet taken apart by hand."""

    pid: int
    starts: bool
    counter: int
    field: bytes
    payload: bytes

    @property
    def pcr(self) -> int | None:
        if len(self.field) < 7 or not self.field[0] & 0x10:
            return None
        clock = int.from_bytes(self.field[1:7])
        assert clock & 0x7FFF == 0x7E00
        return clock >> 15

    @property
    def random_access(self) -> bool:
        return bool(self.field) and bool(self.field[0] & 0x40)


def taken_apart(data: bytes) -> list[Packet]:
    assert len(data) % SIZE == 0
    return [_packet(data[at : at + SIZE]) for at in range(0, len(data), SIZE)]


def _packet(data: bytes) -> Packet:
    assert data[0] == 0x47
    assert data[1] & 0x80 == 0
    assert data[3] & 0xC0 == 0
    pid, starts, counter = int.from_bytes(data[1:3]) & 0x1FFF, bool(data[1] & 0x40), data[3] & 0xF
    field, payload = b"", data[4:]
    if data[3] & 0x20:
        field, payload = data[5 : 5 + data[4]], data[5 + data[4] :]
    if not data[3] & 0x10:
        assert payload == b""
        assert data[4] == PAYLOAD - 1
    return Packet(pid, starts, counter, field, payload)


def video(size: int, dts: int, *, key: bool = False, pts: int | None = None) -> AccessUnit:
    data = (KEY if key else PICTURE) + bytes([0x55]) * (size - len(PICTURE))
    return AccessUnit(VIDEO, data, dts if pts is None else pts, dts, key)


def audio(dts: int, stream: ElementaryStream = AUDIO, size: int = 200) -> AccessUnit:
    return AccessUnit(stream, bytes([0xFC]) * size, dts, dts, key=True)


def demuxed(data: bytes) -> list[TsEvent]:
    demuxer = Demuxer()
    events = demuxer.feed(data)
    # Nothing waits for the next unit: each one's end is told by its own packets.
    assert all(isinstance(event, ProgramMap) for event in demuxer.flush())
    return events


# --- packets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size",
    [
        20,
        FULL - 2,
        FULL - 1,
        FULL,
        FULL + 1,
        FULL + 183,
        FULL + 184,
        FULL + 185,
        5000,
        65_000,
        65_527,
    ],
)
def test_a_picture_of_any_size(size: int) -> None:
    unit = video(size, 90_000)
    muxer = Muxer(STREAMS)
    data = muxer.tables() + muxer.write(unit)
    assert demuxed(data) == [ProgramMap(STREAMS), unit]
    first = taken_apart(data)[2]
    assert int.from_bytes(first.payload[4:6]) == size + 8


@pytest.mark.parametrize("extra", range(158, 168))
def test_a_picture_too_big_for_a_length_ends_by_stuffing(extra: int) -> None:
    unit = video(PAYLOAD * 400 + extra, 90_000)
    muxer = Muxer(STREAMS)
    data = muxer.tables() + muxer.write(unit)
    assert demuxed(data) == [ProgramMap(STREAMS), unit]
    packets = taken_apart(data)
    assert packets[2].payload[4:6] == b"\x00\x00"
    assert len(packets[-1].payload) < PAYLOAD


@given(sizes=st.lists(st.integers(20, 9000), min_size=1, max_size=8), start=st.integers(0, 1 << 34))
def test_counters_run_on(sizes: list[int], start: int) -> None:
    muxer = Muxer(STREAMS)
    data = b""
    for n, size in enumerate(sizes):
        data += muxer.tables() + muxer.write(video(size, start + 3000 * n))
        data += muxer.write(audio(start + 3000 * n))
    counters: dict[int, int] = {}
    for packet in taken_apart(data):
        if packet.payload:
            assert packet.counter == (counters.get(packet.pid, -1) + 1) % 16
            counters[packet.pid] = packet.counter
        else:
            assert packet.counter == counters[packet.pid]
    assert {packet.pid for packet in taken_apart(data)} == {0, 0x1000, 0x100, 0x101}


def test_only_keys_are_random_access_points() -> None:
    muxer = Muxer(STREAMS)
    key, other = muxer.write(video(500, 0, key=True)), muxer.write(video(500, 3000))
    sound = muxer.write(audio(0))
    assert [packet.random_access for packet in taken_apart(key)] == [True, False, False]
    assert not any(packet.random_access for packet in taken_apart(other + sound))


def test_a_key_whose_clock_cannot_be_told_is_a_random_access_point_still() -> None:
    muxer = Muxer(STREAMS)
    muxer.write(video(500, 90_000))
    (packet, *_) = taken_apart(muxer.write(video(500, 0, key=True)))
    assert packet.random_access
    assert packet.pcr is None


def test_a_delimiter_is_put_in_front_of_a_picture_without() -> None:
    muxer = Muxer(STREAMS)
    bare = attrs.evolve(video(50, 0), data=b"\x00\x00\x00\x01\x41\x9a")
    (_, unit) = demuxed(muxer.tables() + muxer.write(bare))
    assert isinstance(unit, AccessUnit)
    assert unit.data == PICTURE


def test_times_wrap_on_the_wire() -> None:
    muxer = Muxer(STREAMS, lead=10)
    unit = video(50, CLOCK_WRAP - 5, pts=CLOCK_WRAP + 5)
    data = muxer.write(unit)
    assert taken_apart(data)[0].pcr == CLOCK_WRAP - 15
    later = video(50, 3 * CLOCK_WRAP + 7)
    assert taken_apart(muxer.write(later))[-1].pcr == CLOCK_WRAP - 3
    muxer = Muxer([VIDEO])
    (_, first) = demuxed(muxer.tables() + muxer.write(unit))
    assert first == attrs.evolve(unit, pts=5)
    (second,) = demuxed(Muxer([VIDEO]).tables() + muxer.write(later))[1:]
    assert second == attrs.evolve(later, pts=7, dts=7)


@pytest.mark.parametrize("size", [1, 254, 255, 256, 510, 5000, 50_000])
def test_opus_has_its_control_header(size: int) -> None:
    muxer = Muxer([OPUS])
    unit = audio(0, OPUS, size)
    data = muxer.write(unit)
    payload = b"".join(packet.payload for packet in taken_apart(data))
    control = b"\x7f\xe0" + b"\xff" * (size // 255) + bytes([size % 255])
    assert payload[3] == 0xBD
    assert payload[14:] == control + unit.data
    assert demuxed(muxer.tables() + data) == [ProgramMap((OPUS,)), unit]


# --- the program ----------------------------------------------------------------------------------


def test_tables_come_whole_each_time() -> None:
    muxer = Muxer(STREAMS)
    for _ in range(3):
        packets = taken_apart(muxer.tables())
        assert [(packet.pid, packet.starts) for packet in packets] == [(0, True), (0x1000, True)]
        assert all(packet.field == b"" for packet in packets)


def test_a_table_may_need_several_packets() -> None:
    streams = [ElementaryStream(0x1000 + n, Codec.OPUS, 2) for n in range(14)]
    muxer = Muxer(streams)
    packets = taken_apart(muxer.tables())
    assert [packet.pid for packet in packets] == [0, 0x100E, 0x100E]
    data = muxer.tables() + muxer.write(audio(0, streams[0]))
    assert demuxed(data) == [ProgramMap(tuple(streams)), audio(0, streams[0])]


def test_a_program_may_change() -> None:
    muxer = Muxer([VIDEO])
    before = muxer.tables() + muxer.write(video(50, 0))
    muxer.change([VIDEO, OPUS])
    after = muxer.tables() + muxer.write(video(50, 3000)) + muxer.write(audio(3000, OPUS))
    assert demuxed(before + after) == [
        ProgramMap((VIDEO,)),
        video(50, 0),
        ProgramMap((VIDEO, OPUS)),
        video(50, 3000),
        audio(3000, OPUS),
    ]
    assert taken_apart(muxer.tables())[1].payload[6] == 0xC3  # version 1, in force


@pytest.mark.parametrize(
    "streams",
    [
        [],
        [VIDEO, ElementaryStream(0x100, Codec.AAC)],
        [ElementaryStream(0x1F, Codec.H264)],
        [ElementaryStream(0x1FFF, Codec.H264)],
        [ElementaryStream(0x100 + n, Codec.OPUS) for n in range(70)],
    ],
)
def test_what_is_no_program(streams: list[ElementaryStream]) -> None:
    with pytest.raises(LocalProtocolError):
        Muxer(streams)


def test_a_refused_change_changes_nothing() -> None:
    muxer = Muxer([VIDEO])
    with pytest.raises(LocalProtocolError):
        muxer.change([])
    assert demuxed(muxer.tables() + muxer.write(video(50, 0))) == [
        ProgramMap((VIDEO,)),
        video(50, 0),
    ]


@pytest.mark.parametrize(
    "unit",
    [
        audio(0),
        AccessUnit(ElementaryStream(0x100, Codec.H265), KEY, 0, 0),
        AccessUnit(VIDEO, KEY, 0, 1),
        audio(0, OPUS, 65_300),
    ],
)
def test_a_unit_that_cannot_be_written(unit: AccessUnit) -> None:
    with pytest.raises(LocalProtocolError):
        Muxer([VIDEO, OPUS]).write(unit)


def test_an_equal_stream_is_the_same_stream() -> None:
    twin = ElementaryStream(0x100, Codec.H264)
    assert Muxer([VIDEO]).write(attrs.evolve(video(50, 0), stream=twin))


# --- the clock ------------------------------------------------------------------------------------

PERIOD = 3000
FRAME = 1920


def test_each_picture_brings_the_clock() -> None:
    clock = ProgramClock(VIDEO.pid)
    ticks = [clock.tick(video(50, 100_000 + n * PERIOD)) for n in range(5)]
    assert ticks == [Ticks((), 100_000 - LEAD + n * PERIOD) for n in range(5)]


def test_rare_pictures_are_preceded_by_the_clock() -> None:
    clock = ProgramClock(VIDEO.pid, lead=0)
    clock.tick(video(50, 0))
    ticks = clock.tick(video(50, 22_500))
    assert ticks == Ticks((9000, 18_000), 22_500)


def test_the_packets_of_the_clock_alone_are_not_counted() -> None:
    muxer = Muxer(STREAMS)
    muxer.write(video(500, 0))
    *bare, first, second, third = taken_apart(muxer.write(video(500, 22_500)))
    assert [(packet.counter, packet.payload) for packet in bare] == [(2, b"")] * 2
    assert [packet.counter for packet in (first, second, third)] == [3, 4, 5]


def test_a_long_gap_is_not_filled() -> None:
    clock = ProgramClock(VIDEO.pid, lead=0)
    clock.tick(video(50, 0))
    ticks = clock.tick(video(50, 90_000 * 3600))
    assert len(ticks.before) == 10
    assert ticks.before[0] == 90_000 * 3599


def test_sound_brings_the_clock_now_and_then() -> None:
    clock = ProgramClock(AUDIO.pid, lead=0)
    ticks = [clock.tick(audio(n * FRAME)).own for n in range(5)]
    assert ticks == [0, None, 2 * FRAME, None, 4 * FRAME]


def test_sound_keeps_the_clock_going_when_the_picture_stops() -> None:
    clock = ProgramClock(VIDEO.pid, lead=0)
    clock.tick(video(50, 0))
    ticks = [list(clock.tick(audio(40_000 + n * FRAME)).before) for n in range(6)]
    # By the time that passed, however far ahead the sound is.
    assert ticks == [[], [], [2 * FRAME], [], [4 * FRAME], []]
    assert clock.tick(video(50, 5 * FRAME)) == Ticks((), 5 * FRAME)


def test_sound_before_the_first_picture_starts_the_clock() -> None:
    clock = ProgramClock(VIDEO.pid, lead=100)
    assert clock.tick(audio(9000)) == Ticks((8900,))
    assert clock.tick(video(50, 9000)).own == 8901


def test_the_clock_is_never_after_a_unit() -> None:
    clock = ProgramClock(VIDEO.pid, lead=0)
    clock.tick(video(50, 9000))
    assert clock.tick(video(50, 6000)) == Ticks()
    assert [clock.tick(audio(n * FRAME)) for n in range(4)] == [Ticks()] * 4


steps = st.lists(st.tuples(st.integers(1, 20_000), st.booleans()), min_size=2, max_size=40)


@given(steps=steps, lead=st.integers(0, 40_000), start=st.integers(-(1 << 34), 1 << 34))
def test_the_clock_rises_and_comes_often(
    steps: list[tuple[int, bool]], lead: int, start: int
) -> None:
    """Units in the order of their time, pictures and sound mixed."""
    clock = ProgramClock(VIDEO.pid, lead=lead)
    dts, last = start, None
    for step, is_video in steps:
        dts += step
        ticks = clock.tick(video(50, dts) if is_video else audio(dts))
        for value in (*ticks.before, *(() if ticks.own is None else (ticks.own,))):
            assert value <= dts
            assert last is None or value > last
            last = value
        assert last is not None
        if is_video:
            assert last >= dts - lead


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=30),
    st.integers(0, LEAD - 9000),
    st.sampled_from([960, 1920, 2400]),
)
def test_a_clock_value_at_least_every_100_ms(pauses: list[int], ahead: int, frame: int) -> None:
    """Sound without a gap, some way ahead of pictures that come at odd times."""
    clock = ProgramClock(VIDEO.pid)
    due, sound = 0, 0
    values: list[int] = []
    for pause in pauses:
        due += pause * 3000
        while sound < due + ahead:
            values += clock.tick(audio(sound)).before
            sound += frame
        ticks = clock.tick(video(50, due))
        values += [*ticks.before, due if ticks.own is None else ticks.own]
    assert all(0 < b - a <= 9000 for a, b in pairwise(values))
