from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trickle_core.mpegts.packets import PAYLOAD, plain_header
from trickle_core.mpegts.sections import SectionReader, mpeg_crc
from trickle_core.mpegts.tables import (
    Program,
    build_pat,
    build_pmt,
    is_sound,
    parse_pat,
    parse_pmt,
)
from trickle_core.mpegts.units import Codec, ElementaryStream

START = 0x400000
PROGRAM = Program(1, 0x1000)
STREAMS = (
    ElementaryStream(0x100, Codec.H264),
    ElementaryStream(0x101, Codec.H265),
    ElementaryStream(0x102, Codec.AAC),
    ElementaryStream(0x103, Codec.MP2),
    ElementaryStream(0x104, Codec.OPUS, 6),
)


def table(kind: int, content: bytes, *, extension: int = 1, last: bytes = b"\xc1\x00\x00") -> bytes:
    """A section put together by hand."""
    head = bytes([kind]) + (0xB000 | len(content) + 9).to_bytes(2) + extension.to_bytes(2) + last
    return head + content + mpeg_crc(head + content).to_bytes(4)


def packets(content: bytes, *, counter: int = 0) -> Iterator[tuple[int, bytes]]:
    """Headers and bodies of a unit that starts with the first; the rest is padded."""
    for at in range(0, len(content), PAYLOAD):
        flags = 0 if at else START
        body = content[at : at + PAYLOAD].ljust(PAYLOAD, b"\xff")
        yield plain_header(0x1000, counter + at // PAYLOAD) | flags, body


def read(reader: SectionReader, content: bytes, *, counter: int = 0) -> list[bytes]:
    return [
        section
        for header, body in packets(content, counter=counter)
        for section in reader.read(header, body)
    ]


def test_the_crc_of_the_standard() -> None:
    # The check value of CRC-32/MPEG-2, and the residue of a sound section.
    assert mpeg_crc(b"123456789") == 0x0376E6E7
    assert mpeg_crc(b"123456789" + bytes.fromhex("0376e6e7")) == 0


def test_a_pat_as_libavformat_writes_it() -> None:
    section = bytes.fromhex("00b00d0001c100000001f0002ab104b2")
    assert is_sound(section)
    assert parse_pat(section) == PROGRAM
    assert build_pat(PROGRAM) == section


def test_a_pmt_says_what_it_was_told() -> None:
    section = build_pmt(PROGRAM, STREAMS, clock=0x100, version=3)
    assert is_sound(section)
    assert section[5] == 0xC7
    assert parse_pmt(section, 1) == STREAMS


def test_the_version_counts_modulo_32() -> None:
    assert build_pmt(PROGRAM, STREAMS, clock=0x100, version=33)[5] == 0xC3


def test_opus_of_unsaid_channels_is_written_as_stereo() -> None:
    section = build_pmt(PROGRAM, [ElementaryStream(0x100, Codec.OPUS)], clock=0x100, version=0)
    assert parse_pmt(section, 1) == (ElementaryStream(0x100, Codec.OPUS, 2),)


def test_a_pmt_has_its_bounds() -> None:
    many = [ElementaryStream(0x100 + at, Codec.OPUS, 2) for at in range(70)]
    with pytest.raises(ValueError, match="does not fit"):
        build_pmt(PROGRAM, many, clock=0x100, version=0)


@pytest.mark.parametrize(
    ("section", "program"),
    [
        (table(0, bytes.fromhex("0000e010 0007e100 0008e200")), Program(7, 0x100)),
        (table(0, bytes.fromhex("0007e100 00")), Program(7, 0x100)),
        (table(0, bytes.fromhex("0007e000 0008e200")), Program(8, 0x200)),
        (table(0, bytes.fromhex("0007ffff 0008e200")), Program(8, 0x200)),
        (table(0, b""), None),
        (table(0, bytes.fromhex("0000e010")), None),
        (table(0, bytes.fromhex("0007e100"), last=b"\xc0\x00\x00"), None),  # not yet in force
        (table(0, bytes.fromhex("0007e100"), last=b"\xc1\x01\x01"), None),  # the second section
        (table(2, bytes.fromhex("0007e100")), None),
    ],
)
def test_the_first_program(section: bytes, program: Program | None) -> None:
    assert is_sound(section)
    assert parse_pat(section) == program


OPUS = "06e104"


@pytest.mark.parametrize(
    ("entries", "streams"),
    [
        ("1be100f000", [ElementaryStream(0x100, Codec.H264)]),
        (
            "03e100f000 04e101f000",
            [ElementaryStream(0x100, Codec.MP2), ElementaryStream(0x101, Codec.MP2)],
        ),
        ("02e100f000 11e101f000 86e102f000", []),
        ("06e100f000", []),
        ("06e100f006 0504 41432d33", []),  # registration "AC-3"
        (OPUS + "f006 0504 4f707573", [ElementaryStream(0x104, Codec.OPUS)]),
        (OPUS + "f00a 0504 4f707573 7f028001", [ElementaryStream(0x104, Codec.OPUS, 1)]),
        (OPUS + "f00a 7f028008 0504 4f707573", [ElementaryStream(0x104, Codec.OPUS, 8)]),
        (OPUS + "f00a 0504 4f707573 7f020601", [ElementaryStream(0x104, Codec.OPUS)]),
        (OPUS + "f009 0504 4f707573 7f0180", [ElementaryStream(0x104, Codec.OPUS)]),
        (OPUS + "f00a 0504 4f707573 7f028000", []),  # dual mono
        (OPUS + "f00a 0504 4f707573 7f028009", []),
        (OPUS + "f00a 7f02", []),
        (OPUS + "ffff 0504 4f707573", [ElementaryStream(0x104, Codec.OPUS)]),
        ("1be100f0", []),
        ("1be100f00405", [ElementaryStream(0x100, Codec.H264)]),
    ],
)
def test_the_streams_of_a_program(entries: str, streams: list[ElementaryStream]) -> None:
    section = table(2, bytes.fromhex("e100f000" + entries.replace(" ", "")))
    assert parse_pmt(section, 1) == tuple(streams)


def test_descriptors_of_the_program_are_passed_over() -> None:
    section = table(2, bytes.fromhex("e100f0060504484446561be100f000"))
    assert parse_pmt(section, 1) == (ElementaryStream(0x100, Codec.H264),)


@pytest.mark.parametrize(
    "section",
    [
        table(2, bytes.fromhex("e100f000"), extension=2),
        table(2, bytes.fromhex("e100f000"), last=b"\xc0\x00\x00"),
        table(0, bytes.fromhex("e100f000")),
    ],
)
def test_what_is_not_this_programs_pmt(section: bytes) -> None:
    assert parse_pmt(section, 1) is None


@pytest.mark.parametrize("section", [b"", bytes(11), build_pat(PROGRAM)[:-1], bytes(12) + b"\x01"])
def test_what_is_not_sound(section: bytes) -> None:
    assert not is_sound(section)


@given(st.binary(max_size=60))
def test_any_content_can_be_parsed(content: bytes) -> None:
    assert isinstance(parse_pmt(table(2, content), 1), tuple)
    program = parse_pat(table(0, content))
    assert program is None or program.number > 0


# --- joining ---------------------------------------------------------------------------------------

LONG = table(
    2, bytes.fromhex("e100f000") + b"".join(bytes.fromhex("1be100f000") for _ in range(90))
)


def test_a_section_in_one_packet() -> None:
    assert read(SectionReader(), b"\x00" + build_pat(PROGRAM)) == [build_pat(PROGRAM)]


def test_a_section_over_several_packets() -> None:
    assert len(LONG) > 2 * PAYLOAD
    assert read(SectionReader(), b"\x00" + LONG) == [LONG]


def test_several_sections_in_one_packet() -> None:
    pat = build_pat(PROGRAM)
    assert read(SectionReader(), b"\x00" + pat + pat + pat) == [pat, pat, pat]


def test_a_section_ends_where_the_next_one_starts() -> None:
    reader, pat = SectionReader(), build_pat(PROGRAM)
    rest = LONG[PAYLOAD - 1 :]
    assert read(reader, b"\x00" + LONG[: PAYLOAD - 1]) == []
    assert list(reader.read(plain_header(0, 1), rest[:PAYLOAD])) == []
    tail = rest[PAYLOAD:]
    assert read(reader, bytes([len(tail)]) + tail + pat, counter=2) == [LONG, pat]


def test_a_head_cut_by_the_end_of_a_packet() -> None:
    pat = build_pat(PROGRAM)
    for cut in (1, 2, 3, 8):
        reader = SectionReader()
        before = table(2, bytes(PAYLOAD - cut - 13))
        assert read(reader, b"\x00" + before + pat[:cut]) == [before]
        body = pat[cut:].ljust(PAYLOAD, b"\xff")
        assert list(reader.read(plain_header(0, 1), body)) == [pat]


def test_a_hole_costs_the_section_in_which_it_is() -> None:
    reader = SectionReader()
    parts = list(packets(b"\x00" + LONG))
    assert [s for header, body in (parts[0], parts[2]) for s in reader.read(header, body)] == []
    assert read(reader, b"\x00" + LONG, counter=3) == [LONG]


def test_an_announced_discontinuity_is_no_hole() -> None:
    reader = SectionReader()
    first, second, *rest = packets(b"\x00" + LONG)
    field = b"\x01\x80"
    late = plain_header(0x1000, 9) | 0x20
    assert list(reader.read(*first)) == []
    # Two bytes less fit, so the section goes on shifted by as many.
    content = second[1] + b"".join(body for _, body in rest)
    assert list(reader.read(late, field + content[: PAYLOAD - 2])) == []
    remains = content[PAYLOAD - 2 :]
    sections = [
        section
        for at in range(0, len(remains), PAYLOAD)
        for section in reader.read(
            plain_header(0x1000, 10 + at // PAYLOAD), remains[at : at + PAYLOAD]
        )
    ]
    assert sections == [LONG]


def test_a_packet_sent_twice_counts_once() -> None:
    reader = SectionReader()
    doubled = [packet for packet in packets(b"\x00" + LONG) for _ in range(2)]
    assert [s for header, body in doubled for s in reader.read(header, body)] == [LONG]


def test_a_broken_header_costs_one_table() -> None:
    """What comes again and again was not read when its first header was broken."""
    reader, body = SectionReader(), (b"\x00" + build_pat(PROGRAM)).ljust(PAYLOAD, b"\xff")
    header = plain_header(0, 0) | START
    assert list(reader.read(header ^ START, body)) == []
    assert list(reader.read(header + 1, body)) == [build_pat(PROGRAM)]
    assert list(reader.read(header + 2, body)) == []


def test_packets_without_a_start_or_a_payload_give_nothing() -> None:
    reader = SectionReader()
    assert list(reader.read(plain_header(0, 0), bytes(PAYLOAD))) == []
    assert list(reader.read(plain_header(0, 0) & ~0x10 | 0x20, b"\xb7" + bytes(183))) == []
    assert list(reader.read(plain_header(0, 1) | 0x20, b"\xb8" + bytes(183))) == []
    assert read(reader, b"\x00" + build_pat(PROGRAM), counter=1) == [build_pat(PROGRAM)]


@given(st.lists(st.tuples(st.integers(0, 0xFFFFFFFF), st.binary(min_size=184, max_size=184))))
def test_any_packets_can_be_read(parts: list[tuple[int, bytes]]) -> None:
    reader = SectionReader()
    for header, body in parts:
        assert all(len(section) <= 4098 for section in reader.read(header, body))
