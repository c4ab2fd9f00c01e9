from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trickle_core.errors import LocalProtocolError
from trickle_core.window.segment import RUN, SMALL, Segment
from trickle_core.window.states import (
    READER_TRANSITIONS,
    SEGMENT_TRANSITIONS,
    WRITER_TRANSITIONS,
    Input,
    SegmentState,
    step,
)


def read_all(segment: Segment, max_bytes: int) -> bytes:
    found = b""
    while pieces := segment.read(len(found), max_bytes):
        assert sum(map(len, pieces)) <= max_bytes
        found += b"".join(pieces)
    return found


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=300),
    st.integers(min_value=1, max_value=500),
)
def test_bytes_come_out_as_they_went_in(writes: list[bytes], max_bytes: int) -> None:
    segment = Segment(0)
    for data in writes:
        segment.append(data)
    assert read_all(segment, max_bytes) == b"".join(writes)
    assert segment.size == len(b"".join(writes))


@given(st.lists(st.sampled_from([1, 100, SMALL - 1, SMALL]), max_size=400))
def test_pieces_are_few_whatever_their_sizes(sizes: list[int]) -> None:
    segment = Segment(0)
    for size in sizes:
        segment.append(bytes(size))
    assert segment.pieces <= 2 * RUN + 2 * (segment.size // SMALL)


def test_a_byte_at_a_time_is_joined() -> None:
    segment = Segment(0)
    for number in range(3 * SMALL):
        segment.append(bytes([number % 251]))
    assert segment.pieces < 2 * RUN
    assert read_all(segment, 1 << 20) == bytes(number % 251 for number in range(3 * SMALL))


def test_a_view_taken_before_joining_stays_as_it_was() -> None:
    segment = Segment(0)
    for number in range(RUN - 1):
        segment.append(bytes([number]))
    views = segment.read(0, 1000)
    segment.append(b"!")
    assert segment.pieces == 1
    assert b"".join(views) == bytes(range(RUN - 1))


def test_large_pieces_are_shared_not_copied() -> None:
    data = bytes(SMALL)
    segment = Segment(0)
    segment.append(data)
    [one], [other] = segment.read(0, SMALL), segment.read(0, SMALL)
    assert isinstance(one, memoryview)
    assert isinstance(other, memoryview)
    assert one.obj is other.obj is data


def test_a_view_on_foreign_memory_is_copied() -> None:
    large = bytearray(b"0123456789")
    segment = Segment(0)
    segment.append(memoryview(large)[2:4])
    large[2:4] = b"xx"
    assert read_all(segment, 10) == b"23"


def test_reading_starts_inside_a_piece_and_ends_inside_another() -> None:
    segment = Segment(0)
    segment.append(b"abcd")
    segment.append(b"efgh")
    assert b"".join(segment.read(2, 4)) == b"cdef"
    assert segment.read(8, 4) == []


def test_a_closed_segment_takes_no_more() -> None:
    segment = Segment(0)
    segment.close()
    segment.close()
    with pytest.raises(LocalProtocolError, match="BYTES is illegal in state CLOSED"):
        segment.append(b"x")


@pytest.mark.parametrize("table", [SEGMENT_TRANSITIONS, READER_TRANSITIONS, WRITER_TRANSITIONS])
def test_every_state_times_every_input_is_legal_or_an_error(table: Any) -> None:
    assert set(table) == set(type(next(iter(table))).__members__.values())
    for state, row in table.items():
        for happening in Input:
            if happening in row:
                assert step(table, state, happening) is row[happening]
            else:
                with pytest.raises(LocalProtocolError):
                    step(table, state, happening)


def test_tables_have_one_way_out() -> None:
    assert SEGMENT_TRANSITIONS[SegmentState.CLOSED] == {Input.CLOSE: SegmentState.CLOSED}
    for table in (READER_TRANSITIONS, WRITER_TRANSITIONS):
        for row in table.values():
            assert Input.LEAVE in row, "whatever happened, the adapter can leave"
