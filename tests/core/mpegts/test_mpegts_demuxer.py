from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

from trickle_core.mpegts.audio import adts_header
from trickle_core.mpegts.demuxer import MAX_TRACKS, Demuxer
from trickle_core.mpegts.findings import Damage, DamageReason, ProgramMap, TsEvent
from trickle_core.mpegts.packets import PAYLOAD, SIZE, stretched
from trickle_core.mpegts.pes import pes_header
from trickle_core.mpegts.tables import Program, build_pat, build_pmt
from trickle_core.mpegts.units import AccessUnit, Codec, ElementaryStream

PMT_PID = 0x1000
VIDEO = ElementaryStream(0x100, Codec.H264)
AUDIO = ElementaryStream(0x101, Codec.AAC)
BOTH = (VIDEO, AUDIO)
LIMIT = 70_000


class Writer:
    """Packets put together by hand, so that they can be wrong."""

    def __init__(self) -> None:
        self.counters: dict[int, int] = {}

    def packet(
        self,
        pid: int,
        payload: bytes = b"",
        *,
        start: bool = False,
        field: bytes = b"",
        flags: int = 0,
        counter: int | None = None,
    ) -> bytes:
        """One packet; a short payload is filled up by stuffing."""
        if counter is None:
            counter = self.counters.get(pid, 0)
            self.counters[pid] = counter + 1
        field = stretched(field, PAYLOAD - len(field) - len(payload))
        head = 0x47000010 | start << 22 | pid << 8 | bool(field) << 5 | flags | counter & 0xF
        return head.to_bytes(4) + field + payload

    def bare(self, pid: int, field: bytes, *, counter: int) -> bytes:
        head = 0x47000020 | pid << 8 | counter & 0xF
        return head.to_bytes(4) + stretched(field, PAYLOAD - len(field))

    def packets(self, pid: int, content: bytes) -> list[bytes]:
        parts = [content[at : at + PAYLOAD] for at in range(0, len(content), PAYLOAD)]
        return [self.packet(pid, part, start=not n) for n, part in enumerate(parts)]

    def section(self, pid: int, section: bytes) -> bytes:
        return self.packet(pid, (b"\x00" + section).ljust(PAYLOAD, b"\xff"), start=True)

    def tables(self, streams: Sequence[ElementaryStream] = BOTH, *, version: int = 0) -> bytes:
        program = Program(1, PMT_PID)
        pmt = build_pmt(
            program, streams, clock=streams[0].pid if streams else 0x100, version=version
        )
        return self.section(0, build_pat(program)) + self.section(PMT_PID, pmt)

    def video(
        self, data: bytes, time: int, *, open_end: bool = False, pid: int = 0x100
    ) -> list[bytes]:
        header = pes_header(0xE0, len(data), time, time)
        if open_end:
            header = header[:4] + b"\x00\x00" + header[6:]
        return self.packets(pid, header + data)

    def audio(self, data: bytes, time: int) -> list[bytes]:
        return self.packets(0x101, pes_header(0xC0, len(data), time, time) + data)


def picture(fill: int, size: int = 500) -> bytes:
    return b"\x00\x00\x00\x01\x41" + bytes([fill]) * size


def full(fill: int) -> bytes:
    """A picture whose PES fills its last packet."""
    return picture(fill, 3 * PAYLOAD - 14 - 5)


def frame(fill: int, size: int = 100) -> bytes:
    return adts_header(size, rate=48_000, channels=2) + bytes([fill]) * size


def shown(data: bytes, time: int, *, damaged: bool = False, lost: bool = False) -> AccessUnit:
    return AccessUnit(VIDEO, data, time, time, False, damaged, lost)


def heard(data: bytes, time: int, *, lost: bool = False) -> AccessUnit:
    return AccessUnit(AUDIO, data, time, time, key=True, lost_before=lost)


def damage(reason: DamageReason, pid: int | None = 0x100) -> Damage:
    return Damage(pid, reason)


@pytest.fixture
def ts() -> Writer:
    return Writer()


@pytest.fixture
def demuxer(ts: Writer) -> Demuxer:
    """One that knows its program: video and audio."""
    demuxer = Demuxer(max_unit_bytes=LIMIT)
    assert demuxer.feed(ts.tables() + ts.packet(0x1FFF)) == [ProgramMap(BOTH)]
    return demuxer


def feed(demuxer: Demuxer, packets: Iterable[bytes]) -> list[TsEvent]:
    return demuxer.feed(b"".join(packets))


# --- the end of a picture -------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 160, 164, 166, 167, 500, 5000])
@pytest.mark.parametrize("open_end", [True, False])
def test_a_picture_is_out_with_its_last_packet(
    ts: Writer, demuxer: Demuxer, size: int, open_end: bool
) -> None:
    packets = ts.video(picture(1, size), 9000, open_end=open_end)
    assert feed(demuxer, packets[:-1]) == []
    assert feed(demuxer, packets[-1:]) == [shown(picture(1, size), 9000)]
    assert demuxer.flush() == []


def test_a_full_last_packet_with_a_length_ends_at_once(ts: Writer, demuxer: Demuxer) -> None:
    assert feed(demuxer, ts.video(full(1), 9000)) == [shown(full(1), 9000)]


def test_a_full_last_packet_without_a_length_ends_with_the_next(
    ts: Writer, demuxer: Demuxer
) -> None:
    assert feed(demuxer, ts.video(full(1), 9000, open_end=True)) == []
    assert feed(demuxer, ts.video(full(2), 12_000, open_end=True)) == [shown(full(1), 9000)]


def test_a_full_last_packet_without_a_length_ends_with_the_segment(
    ts: Writer, demuxer: Demuxer
) -> None:
    assert feed(demuxer, ts.video(full(1), 9000, open_end=True)) == []
    assert demuxer.flush() == [shown(full(1), 9000)]
    assert demuxer.flush() == []


def test_what_stands_behind_the_length_is_left_out(ts: Writer, demuxer: Demuxer) -> None:
    data = picture(1, 100)
    packet = ts.packet(
        0x100, (pes_header(0xE0, 105, 9, 9) + data).ljust(PAYLOAD, b"\xff"), start=True
    )
    assert demuxer.feed(packet) == [shown(data, 9)]


def test_a_clock_in_the_middle_is_no_stuffing(ts: Writer, demuxer: Demuxer) -> None:
    content = pes_header(0xE0, 70_000, 9, 9) + picture(1, 400)
    pcr = b"\x07\x10" + bytes(6)
    packets = [
        ts.packet(0x100, content[:184], start=True),
        ts.packet(0x100, content[184:360], field=pcr),
        ts.packet(0x100, content[360:]),
    ]
    assert feed(demuxer, packets[:2]) == []
    assert feed(demuxer, packets[2:]) == [shown(picture(1, 400), 9)]


def test_a_publisher_that_stuffs_in_the_middle_is_seen_through(
    ts: Writer, demuxer: Demuxer
) -> None:
    wrong = damage(DamageReason.WRONG_END)

    def stuffed_midway(fill: int, time: int) -> list[bytes]:
        content = pes_header(0xE0, 70_000, time, time) + picture(fill, 300)
        return [ts.packet(0x100, content[:100], start=True), *_rest(content[100:])]

    def _rest(content: bytes) -> list[bytes]:
        return [ts.packet(0x100, content[:100]), ts.packet(0x100, content[100:])]

    head = picture(1, 300)[: 100 - 14]
    assert feed(demuxer, stuffed_midway(1, 0)) == [shown(head, 0), wrong]
    head = picture(2, 300)[: 100 - 14]
    assert feed(demuxer, stuffed_midway(2, 1)) == [shown(head, 1, lost=True), wrong]
    # From here on its units end with the next one, whole.
    assert feed(demuxer, stuffed_midway(3, 2)) == []
    assert feed(demuxer, stuffed_midway(4, 3)) == [shown(picture(3, 300), 2, lost=True)]
    assert demuxer.flush() == [shown(picture(4, 300), 3)]


def test_a_wrong_end_now_and_then_is_forgiven(ts: Writer, demuxer: Demuxer) -> None:
    content = pes_header(0xE0, 70_000, 0, 0) + picture(1, 300)
    for _ in range(3):
        packets = [ts.packet(0x100, content[:100], start=True), ts.packet(0x100, content[100:200])]
        assert feed(demuxer, packets)[1:] == [damage(DamageReason.WRONG_END)]
        for n in range(100):
            # Still each is out with its own last packet.
            assert len(feed(demuxer, ts.video(picture(2), n, open_end=True))) == 1


def test_a_publisher_whose_lengths_are_wrong_is_seen_through(ts: Writer, demuxer: Demuxer) -> None:
    wrong = damage(DamageReason.WRONG_END)

    def too_long(fill: int, time: int) -> list[bytes]:
        return ts.packets(0x100, pes_header(0xE0, 9000, time, time) + full(fill))

    assert feed(demuxer, too_long(1, 0)) == []
    # No packet is missing, so all of the picture is there.
    assert feed(demuxer, too_long(2, 1)) == [wrong, shown(full(1), 0)]
    assert feed(demuxer, too_long(3, 2)) == [wrong, shown(full(2), 1)]
    assert feed(demuxer, too_long(4, 3)) == [shown(full(3), 2)]
    assert demuxer.flush() == [shown(full(4), 3)]


def test_the_segment_ends_before_the_length(ts: Writer, demuxer: Demuxer) -> None:
    assert feed(demuxer, ts.video(picture(1), 9000)[:-1]) == []
    assert demuxer.flush() == [
        damage(DamageReason.TRUNCATED),
        shown(picture(1)[: 2 * PAYLOAD - 14], 9000, damaged=True),
    ]
    assert feed(demuxer, ts.video(picture(2), 12_000)) == [shown(picture(2), 12_000, lost=True)]


def test_the_segment_ends_within_a_packet(ts: Writer, demuxer: Demuxer) -> None:
    assert demuxer.feed(ts.video(picture(1), 9000)[0][:100]) == []
    assert demuxer.flush() == [damage(DamageReason.TRUNCATED, None)]


def test_a_segment_of_another_muxer_has_counters_of_its_own(ts: Writer, demuxer: Demuxer) -> None:
    feed(demuxer, ts.video(picture(1), 9000))
    demuxer.flush()
    other = Writer()
    other.counters = {0: 3, PMT_PID: 5, 0x100: 11}
    assert demuxer.feed(other.tables() + b"".join(other.video(picture(2), 1))) == [
        shown(picture(2), 1)
    ]


def test_a_unit_above_the_bound_is_thrown_away(ts: Writer, demuxer: Demuxer) -> None:
    big = picture(1, LIMIT)
    oversized = damage(DamageReason.OVERSIZED)
    assert feed(demuxer, ts.video(big, 9000, open_end=True)) == [oversized]
    assert feed(demuxer, ts.video(picture(2), 9)) == [shown(picture(2), 9, lost=True)]


def test_audio_without_a_length_has_a_bound_too(ts: Writer, demuxer: Demuxer) -> None:
    content = pes_header(0xC0, 70_000, 0, 0) + frame(1) * 700
    assert damage(DamageReason.OVERSIZED, 0x101) in feed(demuxer, ts.packets(0x101, content))


def test_a_bound_below_one_pes_is_refused() -> None:
    with pytest.raises(ValueError, match="65535"):
        Demuxer(max_unit_bytes=65_534)


# --- continuity -----------------------------------------------------------------------------------


def test_a_hole_in_a_picture(ts: Writer, demuxer: Demuxer) -> None:
    packets = ts.video(picture(1), 9000)
    holed = picture(1)[: PAYLOAD - 14] + picture(1)[2 * PAYLOAD - 14 :]
    assert feed(demuxer, [packets[0], *packets[2:]]) == [
        damage(DamageReason.PACKETS_LOST),
        shown(holed, 9000, damaged=True),
    ]
    assert feed(demuxer, ts.video(picture(2), 12_000)) == [shown(picture(2), 12_000)]


def test_a_hole_in_a_picture_that_fills_its_packets(ts: Writer, demuxer: Demuxer) -> None:
    packets = ts.video(full(1), 9000)
    assert feed(demuxer, [packets[0], packets[2]]) == [damage(DamageReason.PACKETS_LOST)]
    holed = full(1)[: PAYLOAD - 14] + full(1)[2 * PAYLOAD - 14 :]
    assert feed(demuxer, ts.video(picture(2), 12_000)) == [
        shown(holed, 9000, damaged=True),
        shown(picture(2), 12_000),
    ]


def test_a_lost_end(ts: Writer, demuxer: Demuxer) -> None:
    assert feed(demuxer, ts.video(picture(1), 9000)[:-1]) == []
    assert feed(demuxer, ts.video(picture(2), 12_000)) == [
        damage(DamageReason.PACKETS_LOST),
        shown(picture(1)[: 2 * PAYLOAD - 14], 9000, damaged=True),
        shown(picture(2), 12_000, lost=True),
    ]


def test_a_lost_start(ts: Writer, demuxer: Demuxer) -> None:
    feed(demuxer, ts.video(picture(1), 9000))
    assert feed(demuxer, ts.video(picture(2), 12_000)[1:]) == [damage(DamageReason.PACKETS_LOST)]
    assert feed(demuxer, ts.video(picture(3), 15_000)) == [shown(picture(3), 15_000, lost=True)]


def test_a_lost_picture(ts: Writer, demuxer: Demuxer) -> None:
    feed(demuxer, ts.video(picture(1), 9000))
    ts.video(picture(2), 12_000)
    assert feed(demuxer, ts.video(picture(3), 15_000)) == [
        damage(DamageReason.PACKETS_LOST),
        shown(picture(3), 15_000, lost=True),
    ]


def test_who_joins_in_the_middle_waits_for_a_start(ts: Writer, demuxer: Demuxer) -> None:
    assert feed(demuxer, ts.video(picture(1), 9000)[1:]) == []
    assert feed(demuxer, ts.video(picture(2), 12_000)) == [shown(picture(2), 12_000, lost=True)]


def test_a_hole_in_sound(ts: Writer, demuxer: Demuxer) -> None:
    packets = ts.audio(b"".join(frame(n) for n in range(8)), 0)
    events = feed(demuxer, [packets[0], packets[1], *packets[3:]])
    whole = [heard(frame(n), 1920 * n) for n in range(3)]
    assert events == [damage(DamageReason.PACKETS_LOST, 0x101), *whole]
    assert feed(demuxer, ts.audio(frame(9), 90_000)) == [heard(frame(9), 90_000, lost=True)]


def test_packets_that_come_twice_count_once(ts: Writer, demuxer: Demuxer) -> None:
    packets = (
        ts.video(picture(1), 9000) + ts.video(full(2), 12_000) + ts.video(picture(3, 9), 15_000)
    )
    doubled = [packet for packet in packets for _ in range(2)]
    assert feed(demuxer, doubled) == [
        shown(picture(1), 9000),
        shown(full(2), 12_000),
        shown(picture(3, 9), 15_000),
    ]


def test_a_packet_that_comes_thrice_is_a_loss(ts: Writer, demuxer: Demuxer) -> None:
    first, second, third = ts.video(picture(1), 9000)
    lost = damage(DamageReason.PACKETS_LOST)
    assert feed(demuxer, [first, second, second]) == []
    assert feed(demuxer, [second]) == [lost]
    events = feed(demuxer, [third])
    assert [event.damaged for event in events if isinstance(event, AccessUnit)] == [True]


def test_a_counter_that_stands_still_over_new_content_is_a_loss(
    ts: Writer, demuxer: Demuxer
) -> None:
    # Fifteen packets are missing, or any number that the counter does not show.
    first, second, third = ts.video(picture(1), 9000)
    again = ts.packet(0x100, bytes(184), counter=second[3] & 0xF)
    assert feed(demuxer, [first, second, again]) == [damage(DamageReason.PACKETS_LOST)]
    assert len(feed(demuxer, [third])) == 1


def test_an_announced_discontinuity_is_no_loss(ts: Writer, demuxer: Demuxer) -> None:
    feed(demuxer, ts.video(picture(1), 9000))
    ts.counters[0x100] += 5
    content = pes_header(0xE0, 100, 9, 9) + picture(2, 95)
    jumped = ts.packet(0x100, content, start=True, field=b"\x01\x80")
    assert demuxer.feed(jumped) == [shown(picture(2, 95), 9)]


def test_a_discontinuity_may_be_announced_in_a_packet_of_its_own(
    ts: Writer, demuxer: Demuxer
) -> None:
    feed(demuxer, ts.video(picture(1), 9000))
    ts.counters[0x100] += 5
    bare = ts.bare(0x100, b"\x01\x80", counter=ts.counters[0x100] - 1)
    assert feed(demuxer, [bare, *ts.video(picture(2), 9)]) == [shown(picture(2), 9)]


def test_packets_without_a_payload_are_not_counted(ts: Writer, demuxer: Demuxer) -> None:
    first, *others = ts.video(picture(1), 9000)
    pcr = ts.bare(0x100, b"\x07\x10" + bytes(6), counter=0)
    assert feed(demuxer, [pcr, first, pcr, pcr, *others]) == [shown(picture(1), 9000)]


def test_a_packet_marked_as_broken_is_dropped(ts: Writer, demuxer: Demuxer) -> None:
    first, second, third = ts.video(picture(1), 9000)
    broken = second[:1] + bytes([second[1] | 0x80]) + second[2:]
    events = feed(demuxer, [first, broken, third])
    reasons = [event.reason for event in events if isinstance(event, Damage)]
    assert reasons == [DamageReason.TRANSPORT_ERROR, DamageReason.PACKETS_LOST]


def test_an_unreadable_packet_is_a_lost_one(ts: Writer, demuxer: Demuxer) -> None:
    first, second, third = ts.video(picture(1), 9000)
    broken = second[:3] + bytes([second[3] | 0x20, 200]) + second[5:]
    events = feed(demuxer, [first, broken, third])
    assert events[0] == damage(DamageReason.PACKETS_LOST)


def test_scrambled_packets_are_dropped_and_told_once(ts: Writer, demuxer: Demuxer) -> None:
    def scrambled(packets: list[bytes]) -> list[bytes]:
        return [packet[:3] + bytes([packet[3] | 0x80]) + packet[4:] for packet in packets]

    told = damage(DamageReason.SCRAMBLED)
    first, second, third = ts.video(picture(1), 9000)
    assert feed(demuxer, [first, second]) == []
    assert feed(demuxer, scrambled([third])) == [
        told,
        shown(picture(1)[: 2 * PAYLOAD - 14], 9000, damaged=True),
    ]
    assert feed(demuxer, scrambled(ts.video(picture(2), 9))) == []
    assert feed(demuxer, ts.video(picture(3), 12)[1:]) == []
    assert feed(demuxer, ts.video(picture(4), 15)) == [shown(picture(4), 15, lost=True)]
    assert feed(demuxer, scrambled(ts.video(picture(5), 18))) == [told]


# --- malformed PES --------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"\x00\x00\x02\xe0\x00\x00\x80\x00\x00", b"\x00\x00\x01\xe0"])
def test_what_does_not_start_a_pes(ts: Writer, demuxer: Demuxer, content: bytes) -> None:
    bad = damage(DamageReason.BAD_PES)
    assert demuxer.feed(ts.packet(0x100, content, start=True)) == [bad]
    assert feed(demuxer, ts.video(picture(2), 9)) == [shown(picture(2), 9, lost=True)]


def test_a_pes_with_a_broken_header(ts: Writer, demuxer: Demuxer) -> None:
    content = b"\x00\x00\x01\xe0\x00\x05\x80\x80\xff\x00\x00\x00"
    bad = damage(DamageReason.BAD_PES)
    assert demuxer.feed(ts.packet(0x100, content, start=True)) == [bad]
    assert feed(demuxer, ts.video(picture(2), 9)) == [shown(picture(2), 9, lost=True)]


def test_a_loss_is_told_with_the_next_unit_and_not_with_an_empty_pes(
    ts: Writer, demuxer: Demuxer
) -> None:
    feed(demuxer, ts.video(picture(1), 9000)[1:])
    assert feed(demuxer, ts.video(b"", 10)) == []
    assert feed(demuxer, ts.video(picture(2), 20)) == [shown(picture(2), 20, lost=True)]


def test_units_before_any_time_are_told(ts: Writer, demuxer: Demuxer) -> None:
    content = b"\x00\x00\x01\xe0\x00\x00\x80\x00\x00" + picture(1, 10)
    untimed = damage(DamageReason.NO_TIMESTAMP)
    assert demuxer.feed(ts.packet(0x100, content, start=True)) == [untimed]


# --- the program ----------------------------------------------------------------------------------


def maps(events: Iterable[TsEvent]) -> list[tuple[ElementaryStream, ...]]:
    return [event.streams for event in events if isinstance(event, ProgramMap)]


def test_tables_sent_again_say_nothing_new(ts: Writer, demuxer: Demuxer) -> None:
    assert demuxer.feed(ts.tables() * 3 + ts.tables(version=7)) == []


def test_a_stream_may_join_and_leave(ts: Writer, demuxer: Demuxer) -> None:
    feed(demuxer, ts.video(full(1), 9000, open_end=True))
    second = ElementaryStream(0x102, Codec.OPUS, 2)
    assert demuxer.feed(ts.tables((VIDEO, AUDIO, second), version=1)) == [
        ProgramMap((VIDEO, AUDIO, second))
    ]
    # What stays goes on, with its open picture.
    assert feed(demuxer, ts.video(picture(2), 12_000))[0] == shown(full(1), 9000)
    feed(demuxer, ts.video(full(3), 15_000, open_end=True))
    assert demuxer.feed(ts.tables((AUDIO,), version=2)) == [
        shown(full(3), 15_000),
        ProgramMap((AUDIO,)),
    ]
    assert feed(demuxer, ts.video(picture(4), 18_000)) == []


@pytest.mark.parametrize("ended", [True, False])
def test_another_muxer_may_count_the_same_and_say_something_else(ended: bool) -> None:
    """Each of its tables comes once a segment, so that all of them have the counter 0."""
    demuxer = Demuxer()
    found = []
    for streams in (BOTH, (VIDEO,), BOTH):
        events = demuxer.feed(Writer().tables(streams) + Writer().packet(0x1FFF))
        found += maps(events + (demuxer.flush() if ended else []))
    assert found == [BOTH, (VIDEO,), BOTH]


def test_a_codec_may_change_on_its_pid(ts: Writer, demuxer: Demuxer) -> None:
    h265 = ElementaryStream(0x100, Codec.H265)
    assert maps(demuxer.feed(ts.tables((h265,), version=1))) == [(h265,)]
    events = feed(demuxer, ts.video(picture(1), 9))
    assert [event.stream for event in events if isinstance(event, AccessUnit)] == [h265]


def test_a_program_without_streams(ts: Writer, demuxer: Demuxer) -> None:
    assert demuxer.feed(ts.tables((), version=1)) == [ProgramMap(())]


def test_several_tracks_of_a_kind_are_all_delivered(ts: Writer) -> None:
    demuxer = Demuxer()
    second = ElementaryStream(0x110, Codec.H264)
    assert maps(demuxer.feed(ts.tables((VIDEO, second, AUDIO)) + ts.tables())) == [
        (VIDEO, second, AUDIO),
        BOTH,
    ]


def test_the_program_may_move_to_another_pid(ts: Writer, demuxer: Demuxer) -> None:
    program = Program(2, 0x1001)
    pat = ts.section(0, build_pat(program))
    old = ts.tables((VIDEO,), version=9)[SIZE:]
    assert demuxer.feed(pat + old) == []
    pmt = ts.section(0x1001, build_pmt(program, (VIDEO,), clock=0x100, version=0))
    assert demuxer.feed(pmt) == [ProgramMap((VIDEO,))]


def test_the_first_of_several_programs(ts: Writer) -> None:
    demuxer = Demuxer()
    both = Program(5, PMT_PID)
    other = build_pmt(Program(6, PMT_PID), (AUDIO,), clock=0x101, version=0)
    mine = build_pmt(both, (VIDEO,), clock=0x100, version=0)
    data = ts.section(0, build_pat(both)) + ts.section(PMT_PID, other) + ts.section(PMT_PID, mine)
    assert demuxer.feed(data + ts.packet(0x1FFF)) == [ProgramMap((VIDEO,))]


def test_a_table_with_a_wrong_checksum_is_damage(ts: Writer, demuxer: Demuxer) -> None:
    section = bytearray(build_pmt(Program(1, PMT_PID), (VIDEO,), clock=0x100, version=1))
    section[-1] ^= 1
    bad = damage(DamageReason.BAD_SECTION, PMT_PID)
    assert demuxer.feed(ts.section(PMT_PID, bytes(section))) == [bad]


def test_a_pat_without_a_program_changes_nothing(ts: Writer, demuxer: Demuxer) -> None:
    empty = build_pat(Program(0, 0x30))
    assert demuxer.feed(ts.section(0, empty)) == []
    assert feed(demuxer, ts.video(picture(1), 9)) == [shown(picture(1), 9)]


def test_streams_on_impossible_pids_are_left_out(ts: Writer) -> None:
    demuxer = Demuxer()
    pids = (0, 0x11, PMT_PID, 0x1FFF, 0x100, 0x100)
    streams = [ElementaryStream(pid, Codec.H264) for pid in pids]
    streams.append(ElementaryStream(0x100, Codec.AAC))
    assert maps(demuxer.feed(ts.tables(streams) + ts.packet(0x1FFF))) == [(VIDEO,)]


def test_the_number_of_tracks_is_bounded(ts: Writer) -> None:
    demuxer = Demuxer()
    streams = [ElementaryStream(0x100 + n, Codec.H264) for n in range(MAX_TRACKS + 5)]
    found = maps(demuxer.feed(ts.tables(streams) + ts.packet(0x1FFF)))
    assert found == [tuple(streams[:MAX_TRACKS])]


def test_other_pids_are_passed_over(ts: Writer, demuxer: Demuxer) -> None:
    first, *others = ts.video(picture(1), 9000)
    private = ts.packets(0x200, pes_header(0xBD, 500, 0, 0) + bytes(500))
    noise = [*private, ts.packet(0x1FFF)]
    assert feed(demuxer, [first, *noise, *others]) == [shown(picture(1), 9000)]


def test_packets_of_a_track_that_a_table_ends_between_them(ts: Writer, demuxer: Demuxer) -> None:
    first, second, third = ts.video(full(1), 9000, open_end=True)
    events = feed(demuxer, [first, second, ts.tables((AUDIO,), version=1), third])
    assert events == [shown(full(1)[: 2 * PAYLOAD - 14], 9000), ProgramMap((AUDIO,))]


# --- in step --------------------------------------------------------------------------------------


def stream(ts: Writer, count: int = 3) -> bytes:
    pictures = [ts.video(picture(n), 3000 * n) for n in range(count)]
    return ts.tables() + b"".join(b"".join(packets) for packets in pictures)


EXPECTED: list[TsEvent] = [ProgramMap(BOTH), *(shown(picture(n), 3000 * n) for n in range(3))]
LOST = damage(DamageReason.SYNC_LOST, None)


@pytest.mark.parametrize("size", [1, 3, 100, 187, 188, 189, 376, 377, 1000, 100_000])
def test_bytes_may_be_cut_anywhere(ts: Writer, size: int) -> None:
    demuxer, data = Demuxer(), memoryview(stream(ts))
    events = [e for at in range(0, len(data), size) for e in demuxer.feed(data[at : at + size])]
    assert events + demuxer.flush() == EXPECTED


@pytest.mark.parametrize("garbage", [b"x", b"G", b"G" * 300, b"x" * 188, bytes(1000)])
def test_garbage_in_front(ts: Writer, garbage: bytes) -> None:
    assert Demuxer().feed(garbage + stream(ts)) == [LOST, *EXPECTED]


def test_garbage_between_packets(ts: Writer) -> None:
    data = stream(ts)
    cut = 5 * SIZE
    events = Demuxer().feed(data[:cut] + b"garbage" + data[cut:])
    assert events == [*EXPECTED[:2], LOST, *EXPECTED[2:]]


def test_a_broken_sync_byte_costs_its_packet(ts: Writer) -> None:
    data = bytearray(stream(ts))
    data[6 * SIZE] = 0
    events = Demuxer().feed(bytes(data))
    assert events[:4] == [*EXPECTED[:2], LOST, damage(DamageReason.PACKETS_LOST)]
    assert [e.damaged for e in events[4:] if isinstance(e, AccessUnit)] == [True, False]


def test_nothing_but_garbage_is_told_once_a_segment() -> None:
    demuxer = Demuxer()
    assert demuxer.feed(b"garbage" * 100) == [LOST]
    assert demuxer.feed(b"garbage" * 100) == []
    assert demuxer.flush() == []
    assert demuxer.feed(b"garbage" * 100) == [LOST]


def test_short_garbage_is_told_at_the_end() -> None:
    demuxer = Demuxer()
    assert demuxer.feed(b"garbage") == []
    assert demuxer.flush() == [LOST]


def test_a_segment_of_few_packets(ts: Writer) -> None:
    demuxer = Demuxer()
    assert demuxer.feed(ts.tables()) == []
    assert demuxer.flush() == [ProgramMap(BOTH)]
    assert feed(demuxer, ts.video(picture(1, 20), 9)) == [shown(picture(1, 20), 9)]


def test_a_segment_of_few_packets_behind_garbage(ts: Writer) -> None:
    demuxer = Demuxer()
    assert demuxer.feed(b"garbage" + ts.tables()) == [LOST]
    assert demuxer.flush() == [ProgramMap(BOTH)]


def test_a_segment_that_falls_out_of_step_at_its_end(ts: Writer) -> None:
    demuxer = Demuxer()
    data = ts.tables()[:SIZE] + b"G" + bytes(186)
    assert demuxer.feed(data) == []
    # Two sync bytes do at the end; then the rest is no packet.
    assert demuxer.flush() == [damage(DamageReason.TRUNCATED, None)]
    assert demuxer.feed(b"x" * SIZE) == [LOST]


def test_what_only_looks_like_packets_is_left_quickly(ts: Writer) -> None:
    trap = (b"G" + bytes(187)) * 3 + b"x"
    demuxer = Demuxer()
    events = demuxer.feed(trap * 50 + stream(ts))
    assert events == [*[LOST] * 50, *EXPECTED]


def test_long_streams_are_worked_off_in_blocks(ts: Writer) -> None:
    data = stream(ts, 200)
    events = Demuxer().feed(data)
    assert len(events) == 201


def test_a_table_that_is_packed_in_another_way_is_the_same_table(
    ts: Writer, demuxer: Demuxer
) -> None:
    section = build_pmt(Program(1, PMT_PID), BOTH, clock=0x100, version=0)
    moved = (b"\x02\xff\xff" + section).ljust(PAYLOAD, b"\xff")
    assert demuxer.feed(ts.packet(PMT_PID, moved, start=True) + ts.packet(0x1FFF)) == []
    assert feed(demuxer, ts.video(picture(1, 160), 9000)) == [shown(picture(1, 160), 9000)]
