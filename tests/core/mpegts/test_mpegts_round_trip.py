"""Muxer and demuxer against each other, and the demuxer against anything at all."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trickle_core.mpegts.audio import adts_header
from trickle_core.mpegts.demuxer import Demuxer
from trickle_core.mpegts.findings import Damage, ProgramMap, TsEvent
from trickle_core.mpegts.muxer import Muxer
from trickle_core.mpegts.nal import DELIMITERS
from trickle_core.mpegts.packets import SIZE
from trickle_core.mpegts.timeline import Timeline
from trickle_core.mpegts.units import CLOCK_WRAP, AccessUnit, Codec, ElementaryStream

STREAMS = (
    ElementaryStream(0x100, Codec.H264),
    ElementaryStream(0x101, Codec.H265),
    ElementaryStream(0x102, Codec.AAC),
    ElementaryStream(0x103, Codec.OPUS, 6),
    ElementaryStream(0x104, Codec.MP2),
)
LIMIT = 1 << 17

SLICES = {
    Codec.H264: {True: b"\x00\x00\x00\x01\x65", False: b"\x00\x00\x00\x01\x41"},
    Codec.H265: {True: b"\x00\x00\x00\x01\x26\x01", False: b"\x00\x00\x00\x01\x02\x01"},
}
MP2_FRAME = bytes.fromhex("fffd84c4").ljust(384, b"\x55")

sizes = st.one_of(st.integers(1, 2000), st.integers(65_400, 65_700))
times = st.integers(-(1 << 34), 1 << 34)


@st.composite
def units(draw: st.DrawFn) -> AccessUnit:
    stream = draw(st.sampled_from(STREAMS))
    dts = draw(times)
    if stream.codec.is_video:
        key = draw(st.booleans())
        data = DELIMITERS[stream.codec] + SLICES[stream.codec][key] + b"\xaa" * draw(sizes)
        return AccessUnit(stream, data, dts + draw(st.sampled_from([0, 1, 3000])), dts, key)
    size = draw(st.integers(1, 3000))
    data = {
        Codec.AAC: adts_header(size, rate=48_000, channels=2) + b"\xaa" * size,
        Codec.OPUS: b"\xfc" + b"\xaa" * size,
        Codec.MP2: MP2_FRAME,
    }[stream.codec]
    return AccessUnit(stream, data, dts, dts, key=True)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    borders = [0, *sorted(where % (len(data) + 1) for where in at), len(data)]
    return [data[a:b] for a, b in pairwise(borders)]


def wrapped(unit: AccessUnit) -> AccessUnit:
    pts, dts = unit.pts % CLOCK_WRAP, unit.dts % CLOCK_WRAP
    return AccessUnit(unit.stream, unit.data, pts, dts, unit.key)


@given(
    plan=st.lists(st.lists(units(), max_size=5), min_size=1, max_size=3),
    borders=st.lists(st.integers(0, 1 << 20), max_size=10),
)
@settings(max_examples=60)
def test_what_was_written_is_read(plan: list[list[AccessUnit]], borders: list[int]) -> None:
    """Segments of one muxer, cut anywhere; every unit is out before the segment ends."""
    muxer, demuxer = Muxer(STREAMS), Demuxer()
    events: list[TsEvent] = []
    for segment in plan:
        data = muxer.tables() + b"".join(muxer.write(unit) for unit in segment)
        events += [event for part in cut(data, borders) for event in demuxer.feed(part)]
        late = demuxer.flush()
        assert late == [] or len(segment) == 0
        events += late
    assert events == [ProgramMap(STREAMS), *(wrapped(unit) for part in plan for unit in part)]


def held(demuxer: Demuxer) -> int:
    """Bytes that a demuxer keeps between calls."""
    tracks = sum(len(track._held) for track in demuxer._tracks.values())
    rests = sum(len(getattr(track.framer, "_rest", b"")) for track in demuxer._tracks.values())
    readers = sum(len(reader._held or b"") for reader in demuxer._readers.values())
    return len(demuxer._held) + tracks + rests + readers


def drained(demuxer: Demuxer, data: bytes, step: int) -> list[TsEvent]:
    events: list[TsEvent] = []
    for at in range(0, len(data), step):
        events += demuxer.feed(data[at : at + step])
        assert held(demuxer) <= len(STREAMS) * (LIMIT + SIZE) + 5000
    return events + demuxer.flush()


def check(events: list[TsEvent]) -> None:
    timeline = Timeline()
    for event in events:
        if isinstance(event, AccessUnit):
            assert event.data
            assert 0 <= event.dts < CLOCK_WRAP
            assert 0 <= event.pts < CLOCK_WRAP
            placed = timeline.place(event)
            assert placed.pts >= placed.dts


@given(st.binary(max_size=3000), st.integers(1, 3000))
def test_any_bytes_can_be_fed(data: bytes, step: int) -> None:
    check(drained(Demuxer(), data, step))


@given(st.lists(st.binary(min_size=187, max_size=187), max_size=20))
def test_any_packets_can_be_fed(bodies: list[bytes]) -> None:
    check(drained(Demuxer(), b"".join(b"G" + body for body in bodies), 1000))


# Headers of packets of the five streams and the tables, more or less right.
headers = st.builds(
    lambda pid, start, control: (0x47000000 | pid << 8 | start << 22 | control).to_bytes(4),
    st.sampled_from([0, 0x1000, *(stream.pid for stream in STREAMS)]),
    st.booleans(),
    st.integers(0, 0x3F),
)
starts = st.sampled_from(
    [b"", b"\x00\x00\x01\xe0", b"\x00\x00\x01\xc0\x00\x40\x80\x80\x05", b"\x07\x50"]
)


@given(st.lists(st.tuples(headers, starts, st.binary(max_size=184)), max_size=40))
def test_any_packets_of_known_streams_can_be_fed(parts: list[tuple[bytes, bytes, bytes]]) -> None:
    demuxer = Demuxer(max_unit_bytes=LIMIT)
    packets = [(head + start + body).ljust(SIZE, b"\xff")[:SIZE] for head, start, body in parts]
    events = demuxer.feed(Muxer(STREAMS).tables() + b"".join(packets))
    check(events + drained(demuxer, b"", 1))


def sample() -> bytes:
    """Half a second of all five streams."""
    muxer = Muxer(STREAMS)
    data = muxer.tables()
    for n in range(15):
        for stream in STREAMS[:2]:
            nal = SLICES[stream.codec][n % 5 == 0]
            unit = AccessUnit(
                stream, nal + b"\xaa" * (300 + 97 * n), 3000 * n, 3000 * n, n % 5 == 0
            )
            data += muxer.write(unit)
        for stream, frame in zip(STREAMS[2:], (ADTS, b"\xfc" + bytes(200), MP2_FRAME), strict=True):
            data += muxer.write(AccessUnit(stream, frame, 3000 * n, 3000 * n, key=True))
    return data


ADTS = adts_header(300, rate=48_000, channels=2) + b"\xaa" * 300
SAMPLE = sample()
UNDAMAGED = {event.data for event in Demuxer().feed(SAMPLE) if isinstance(event, AccessUnit)}
indexes = st.integers(0, len(SAMPLE) // SIZE - 1)


def packets_of(data: bytes) -> list[bytes]:
    return [data[at : at + SIZE] for at in range(0, len(data), SIZE)]


@given(st.sets(indexes, min_size=1, max_size=10))
def test_lost_packets_are_noticed(lost: set[int]) -> None:
    """Behind the tables, what is not marked as damaged is as it was sent."""
    kept = [packet for n, packet in enumerate(packets_of(SAMPLE)) if n not in lost or n < 2]
    events = drained(Demuxer(), b"".join(kept), 4096)
    check(events)
    whole = [event for event in events if isinstance(event, AccessUnit) and not event.damaged]
    assert {unit.data for unit in whole} <= UNDAMAGED


@given(st.sets(indexes, min_size=1, max_size=10))
def test_doubled_packets_are_not_noticed(doubled: set[int]) -> None:
    parts = [packet * (1 + (n in doubled)) for n, packet in enumerate(packets_of(SAMPLE))]
    assert drained(Demuxer(), b"".join(parts), 4096) == drained(Demuxer(), SAMPLE, 4096)


@given(st.lists(st.tuples(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255)), max_size=20))
def test_broken_bytes_break_nothing_else(broken: list[tuple[int, int]]) -> None:
    data = bytearray(SAMPLE)
    for at, value in broken:
        data[at] = value
    check(drained(Demuxer(max_unit_bytes=LIMIT), bytes(data), 4096))


@given(st.lists(st.tuples(indexes, st.integers(0, 15), st.integers(0, 255)), max_size=20))
def test_broken_headers_break_nothing_else(broken: list[tuple[int, int, int]]) -> None:
    """As above, where it hurts: in packet headers, adaptation fields and PES headers."""
    data = bytearray(SAMPLE)
    for packet, at, value in broken:
        data[packet * SIZE + at] = value
    check(drained(Demuxer(max_unit_bytes=LIMIT), bytes(data), 4096))


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    """Units of a few packets, or of more than is allowed, with packets lost, doubled, moved and
    broken, counters and flags first of all.
    """
    muxer = Muxer(STREAMS[:3])
    data = muxer.tables()
    for n in range(draw(st.integers(1, 4))):
        for stream in STREAMS[:2]:
            nal = SLICES[stream.codec][n == 0]
            size = draw(st.sampled_from([100, 184, 3000, 20_000, LIMIT + 1000]))
            data += muxer.write(
                AccessUnit(stream, nal + b"\xaa" * size, 3000 * n, 3000 * n, n == 0)
            )
        data += muxer.write(AccessUnit(STREAMS[2], ADTS, 3000 * n, 3000 * n, key=True))
    packets = packets_of(data)
    places = st.integers(2, len(packets) - 1)
    edits = st.sampled_from(["lose", "double", "move", "count", "flag", "announce", "tables"])
    for at, edit, value in draw(
        st.lists(st.tuples(places, edits, st.integers(0, 255)), max_size=8)
    ):
        _spoil(packets, at, edit, value)
    return b"".join(packets)


def _spoil(packets: list[bytes], at: int, edit: str, value: int) -> None:
    packet = bytearray(packets[at] or bytes(SIZE))
    match edit:
        case "lose":
            packet.clear()
        case "double":
            packet *= 2
        case "move":
            packets[value % len(packets)] += packet
        case "count":
            packet[3] = packet[3] & 0xF0 | value & 0xF
        case "flag":
            packet[1 + 2 * (value & 1)] ^= 1 << (4 + value % 4)
        case "announce":
            packet[3:6] = bytes([packet[3] | 0x20, 1, 0x80])
        case _:
            packet += packets[0] + packets[1]
    packets[at] = bytes(packet)


@given(spoiled())
def test_runs_of_packets_are_taken_as_one_by_one(data: bytes) -> None:
    whole = drained(Demuxer(max_unit_bytes=LIMIT), data, len(data) or 1)
    assert whole == drained(Demuxer(max_unit_bytes=LIMIT), data, SIZE)


@given(st.lists(st.tuples(indexes, st.binary(max_size=400)), max_size=8))
def test_garbage_between_packets_costs_nothing(parts: list[tuple[int, bytes]]) -> None:
    # Three packets must be in step to be trusted, so there are as many between garbage and garbage.
    garbage = {n // 3 * 3: content for n, content in parts}
    # A sync byte in it may look like a packet; that is another test.
    pieces = [
        garbage.get(n, b"").replace(b"G", b"g") + packet
        for n, packet in enumerate(packets_of(SAMPLE))
        if n < len(SAMPLE) // SIZE - 2
    ]
    events = drained(Demuxer(), b"".join(pieces), 4096)
    units = [event for event in events if isinstance(event, AccessUnit)]
    plain = drained(Demuxer(), SAMPLE[: -2 * SIZE], 4096)
    assert units == [event for event in plain if isinstance(event, AccessUnit)]


@pytest.mark.parametrize("step", [1, 5, 188])
def test_small_steps_are_as_good_as_large_ones(step: int) -> None:
    assert drained(Demuxer(), SAMPLE, step) == drained(Demuxer(), SAMPLE, len(SAMPLE))


def test_a_stream_that_never_ends_a_unit_is_held_within_the_bound() -> None:
    """Saturation: packets without end, of every stream, and no unit complete."""
    demuxer = Demuxer(max_unit_bytes=LIMIT)
    demuxer.feed(Muxer(STREAMS).tables())
    reasons = set()
    for n in range(3 * LIMIT // SIZE):
        for stream in STREAMS:
            start = (0x47400010 if n % 1000 == 0 else 0x47000010) | stream.pid << 8 | n & 0xF
            body = b"\x00\x00\x01\xe0\x00\x00\x80\x00\x00" if n % 1000 == 0 else b""
            events = demuxer.feed(start.to_bytes(4) + body.ljust(184, b"\x7f"))
            reasons |= {event.reason.name for event in events if isinstance(event, Damage)}
        assert held(demuxer) <= len(STREAMS) * (LIMIT + SIZE) + 5000
    assert "OVERSIZED" in reasons
