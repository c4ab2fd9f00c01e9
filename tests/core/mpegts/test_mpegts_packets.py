from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trickle_core.mpegts.packets import (
    PAYLOAD,
    SIZE,
    adaptation,
    cut_headers_out,
    full_payloads,
    headers_of,
    is_discontinuous,
    is_stuffed,
    payload_of,
    plain_header,
    stretched,
)
from trickle_core.mpegts.pes import open_pes, pes_header, read_time, write_time
from trickle_core.mpegts.units import CLOCK_WRAP

PLAIN = plain_header(0x123, 5)
ADAPTED = PLAIN | 0x20
BARE = ADAPTED & ~0x10


def body(field: bytes) -> bytes:
    return field + bytes(PAYLOAD - len(field))


def test_a_header_as_a_number() -> None:
    assert PLAIN == 0x47012315


def test_a_plain_packet_is_all_payload() -> None:
    assert payload_of(PLAIN, bytes(184)) == bytes(184)
    assert not is_stuffed(PLAIN, bytes(184))
    assert not is_discontinuous(PLAIN, b"\x01\x80" + bytes(182))


@pytest.mark.parametrize(
    ("field", "stuffed"),
    [
        (b"\x00", True),  # one byte of stuffing
        (b"\x01\x00", True),  # two
        (b"\x05\x00\xff\xff\xff\xff", True),
        (b"\x01\x40", False),  # random access: that is worth its two bytes
        (b"\x02\x40\xff", True),
        (b"\x07\x10" + bytes(6), False),  # PCR
        (b"\x08\x10" + bytes(6) + b"\xff", True),
        (b"\x0d\x18" + bytes(12), False),  # PCR and OPCR
        (b"\x02\x04\x00", False),  # splice countdown
        (b"\x04\x02\x02ab", False),  # private data
        (b"\x05\x02\x02ab\xff", True),
        (b"\x03\x01\x01\x1f", False),  # extension
        (b"\x06\x03\x01a\x01\x1f\xff", True),
        (b"\x02\x02\xff", False),  # private data beyond the field: not for us to say
    ],
)
def test_stuffing_is_what_the_fields_do_not_need(field: bytes, stuffed: bool) -> None:
    assert payload_of(ADAPTED, body(field)) == bytes(PAYLOAD - len(field))
    assert is_stuffed(ADAPTED, body(field)) is stuffed


def test_a_discontinuity_is_told() -> None:
    assert is_discontinuous(ADAPTED, body(b"\x01\x80"))
    assert not is_discontinuous(ADAPTED, body(b"\x01\x40"))
    assert not is_discontinuous(ADAPTED, b"\x00\x80" + bytes(182))  # that is payload


def test_a_packet_may_have_no_payload() -> None:
    assert payload_of(BARE, body(b"\xb7\x10")) == b""
    assert is_stuffed(BARE, body(b"\xb7\x10"))
    assert payload_of(PLAIN & ~0x10, bytes(184)) == b""


@pytest.mark.parametrize("length", [184, 255])
def test_a_field_longer_than_its_packet_is_unreadable(length: int) -> None:
    assert payload_of(ADAPTED, body(bytes([length]))) is None


def test_a_field_that_fills_the_packet_leaves_nothing() -> None:
    assert payload_of(ADAPTED, body(b"\xb7\x00")) == b""
    assert is_stuffed(ADAPTED, body(b"\xb7\x00"))


@given(st.integers(0, 0xFFFFFFFF), st.binary(min_size=184, max_size=184))
def test_any_packet_can_be_opened(header: int, content: bytes) -> None:
    payload = payload_of(header, content)
    assert payload is None or content.endswith(payload)
    assert is_stuffed(header, content) in (True, False)
    assert is_discontinuous(header, content) in (True, False)


@given(
    st.lists(st.binary(min_size=SIZE, max_size=SIZE), min_size=1, max_size=20),
    st.binary(max_size=300),
)
def test_packets_are_cut_into_headers_and_bodies(packets: list[bytes], before: bytes) -> None:
    data = b"".join(packets)
    assert headers_of(memoryview(data)) == b"".join(packet[:4] for packet in packets)
    held = bytearray(before + data)
    cut_headers_out(held, len(before))
    assert held == before + b"".join(packet[4:] for packet in packets)


@pytest.mark.parametrize("size", [0, 1, 183, 184, 185, 368, 184 * 256, 184 * 600 + 50])
@pytest.mark.parametrize("start", [0, 1, 170])
def test_content_is_cut_into_full_payloads(size: int, start: int) -> None:
    content = bytes(n % 251 for n in range(start + size))
    payloads = full_payloads(content, start)
    assert all(len(payload) == PAYLOAD for payload in payloads)
    assert b"".join(payloads) == content[start : start + size - size % PAYLOAD]


@given(
    st.sampled_from([0, 0x40]), st.none() | st.integers(-(1 << 34), 1 << 34), st.integers(0, 100)
)
def test_a_field_can_be_stretched(flags: int, pcr: int | None, size: int) -> None:
    field = adaptation(flags, pcr=pcr)
    longer = stretched(field, size)
    assert len(longer) == len(field) + size
    if longer:
        assert payload_of(ADAPTED, body(longer)) == bytes(PAYLOAD - len(longer))
        assert is_stuffed(ADAPTED, body(longer)) is (size > 0)


def test_a_clock_value() -> None:
    # 33 bits, six reserved ones, nine of the extension.
    assert adaptation(0x40, pcr=1) == bytes.fromhex("0750 00000000fe00")
    assert adaptation(0, pcr=CLOCK_WRAP + 2) == bytes.fromhex("0710 000000017e00")
    assert adaptation(0, pcr=-1) == bytes.fromhex("0710 fffffffffe00")
    assert adaptation(0) == b""
    assert adaptation(0x40) == b"\x01\x40"


# --- PES ------------------------------------------------------------------------------------------


@given(st.integers(0, CLOCK_WRAP - 1), st.sampled_from([1, 2, 3]))
def test_a_time_is_read_as_written(time: int, mark: int) -> None:
    field = write_time(mark, time)
    assert field[0] >> 4 == mark
    assert field[0] & field[2] & field[4] & 1
    assert read_time(field) == time
    assert write_time(mark, time + CLOCK_WRAP) == field


def test_a_time_as_libavformat_writes_it() -> None:
    assert read_time(bytes.fromhex("210007d861")) == 126_000


@given(
    st.binary(min_size=1, max_size=50),
    st.integers(0, CLOCK_WRAP - 1),
    st.integers(0, 90_000),
    st.integers(0, 3),
)
def test_a_pes_is_read_as_written(data: bytes, dts: int, later: int, spare: int) -> None:
    pts = (dts + later) % CLOCK_WRAP
    header = pes_header(0xE0, len(data), pts, dts, spare=spare)
    assert int.from_bytes(header[4:6]) == len(header) + len(data) - 6
    assert open_pes(header + data) == (data, pts, None if pts == dts else dts)
    assert open_pes(header + data + b"more", len(header) + len(data)) == (
        data,
        pts,
        None if pts == dts else dts,
    )


def test_a_length_that_does_not_fit_is_left_open() -> None:
    assert pes_header(0xE0, 65_535 - 8, 1, 1)[4:6] == b"\xff\xff"
    assert pes_header(0xE0, 65_535 - 7, 1, 1)[4:6] == b"\x00\x00"


def test_a_pes_without_times() -> None:
    assert open_pes(b"\x00\x00\x01\xe0\x00\x00\x80\x00\x00data") == (b"data", None, None)


@pytest.mark.parametrize(
    "pes",
    [
        "000001e000008080",  # cut off
        "000001e0000040800521000100010000",  # not '10'
        "000001e00000b0800521000100010000",  # scrambled
        "000001e000008080042100010001",  # a time, and no room for it
        "000001e00000808005210001",  # longer than it is
        "000001e0000080c005210001000111000100",  # two times, room for one
    ],
)
def test_a_malformed_pes(pes: str) -> None:
    assert open_pes(bytes.fromhex(pes)) is None


def test_a_dts_alone_is_not_legal_and_passed_over() -> None:
    assert open_pes(bytes.fromhex("000001e0000080400511000100017a")) == (b"\x7a", None, None)


@given(st.binary(max_size=40))
def test_any_bytes_can_be_opened(data: bytes) -> None:
    pes = open_pes(data)
    assert pes is None or data.endswith(pes[0])
