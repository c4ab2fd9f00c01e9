"""What a reader sees: protocol.md's sentences, one after the other."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING

import pytest

from trickle_core.answer import Answer
from trickle_core.errors import LocalProtocolError
from trickle_core.window.states import CUT, END, NEED_DATA

if TYPE_CHECKING:
    from tests.core.relay.conftest import House, HouseOf


def fill(house: House, count: int, name: str = "a") -> None:
    for seq in range(count):
        house.post(f"/{name}/{seq}", f"segment {seq}".encode())


def test_a_segment_is_read_from_its_first_byte(house: House) -> None:
    house.post("/a/0", b"one", b"two")
    seen = house.read("/a/0")
    assert seen.body == b"onetwo"
    assert seen.headers == {
        "content-type": "video/mp2t",
        "lp-trickle-seq": "0",
        "lp-trickle-size": "6",
        "lp-trickle-latest": "1",
    }


def test_what_is_not_written_yet_trickles_in(house: House) -> None:
    writer = house.writer("/a/0")
    house.write(writer, b"one")
    reader = house.reader("/a/0")
    seen = house.drain(reader)
    assert (seen.body, seen.last) == (b"one", NEED_DATA)
    house.write(writer, b"two")
    assert house.woken == [reader]
    assert house.drain(reader, seen).body == b"onetwo"
    house.end(writer)
    assert house.woken == [reader, reader]
    assert house.drain(reader, seen).last is END


def test_the_head_comes_only_with_the_first_byte(house: House) -> None:
    reader = house.reader("/a/0")
    seen = house.drain(reader)
    assert (seen.head, seen.last) == (None, NEED_DATA)
    writer = house.writer("/a/0")
    assert house.woken == []
    house.write(writer, b"x")
    assert house.drain(reader, seen).headers["lp-trickle-seq"] == "0"


def test_a_preconnected_reader_is_told_no_latest_and_no_size(house: House) -> None:
    reader = house.reader("/a/0")
    house.post("/a/0", b"xyz")
    headers = house.drain(reader).headers
    assert "lp-trickle-latest" not in headers
    assert headers["lp-trickle-size"] == "0"


def test_minus_one_waits_for_the_next_segment(house: House) -> None:
    fill(house, 2)
    reader = house.reader("/a/-1")
    assert house.drain(reader).last is NEED_DATA
    house.post("/a/2", b"new")
    assert house.drain(reader).body == b"new"


def test_minus_two_is_the_live_edge(house: House) -> None:
    reader = house.reader("/a/-2")
    assert reader.segment.seq == 0, "on an empty channel the live edge is 0"
    fill(house, 2)
    assert house.drain(reader).body == b"segment 0"
    assert house.body("/a/-2") == b"segment 1"
    writer = house.writer("/a/2")
    assert house.body("/a/-2") == b"segment 1", "a preconnected segment is not written yet"
    house.write(writer, b"x")
    assert house.read("/a/-2").headers["lp-trickle-seq"] == "2"


@pytest.mark.parametrize(("asked", "found"), [(-3, 5), (-4, 4), (-6, 2)])
def test_minus_n_is_the_nth_from_last(house: House, asked: int, found: int) -> None:
    fill(house, 7)
    seen = house.read(f"/a/{asked}")
    assert seen.body == f"segment {found}".encode()
    assert seen.headers["lp-trickle-seq"] == str(found)


@pytest.mark.parametrize(("asked", "told"), [(-7, "1"), (-9, "-9"), (1, "1"), (9, "9")])
def test_outside_the_window_is_470(house: House, asked: int, told: str) -> None:
    fill(house, 7)
    answer = house.answer("GET", f"/a/{asked}")
    assert (answer.status, answer.body) == (470, b"Entry not found")
    headers = dict(answer.headers)
    assert (headers["lp-trickle-latest"], headers["lp-trickle-seq"]) == ("7", told)


def test_a_reader_can_wait_for_next_write_but_not_beyond(house: House) -> None:
    fill(house, 2)
    assert house.drain(house.reader("/a/2")).last is NEED_DATA
    assert house.answer("GET", "/a/3").status == 470


def test_on_an_empty_channel_one_can_be_waited_for_too(house: House) -> None:
    reader = house.reader("/a/1")
    assert house.drain(reader).last is NEED_DATA
    assert house.answer("GET", "/a/2").status == 470
    fill(house, 2)
    seen = house.drain(reader)
    assert (seen.body, seen.headers["lp-trickle-latest"]) == (b"segment 1", "2")


def test_a_segment_that_is_only_preconnected_can_be_waited_for(house: House) -> None:
    writer = house.writer("/a/7")
    reader = house.reader("/a/7")
    assert house.drain(reader).last is NEED_DATA
    house.write(writer, b"x")
    assert house.drain(reader).body == b"x"


def test_who_only_waited_leaves_nothing_behind(house: House) -> None:
    first, second = house.reader("/a/0"), house.reader("/a/0")
    for reader in (first, second):
        assert house.drain(reader).last is NEED_DATA
        reader.close(house.now)
        reader.close(house.now)
    writer = house.writer("/a/5")
    writer.abort(house.now)
    assert house.relay.statistics().segments == 0


def test_a_reader_that_left_is_not_woken(house: House) -> None:
    gone, here = house.reader("/a/0"), house.reader("/a/0")
    house.drain(gone), house.drain(here)
    gone.close(house.now)
    house.post("/a/0", b"x")
    assert gone not in house.woken
    assert here in house.woken


def test_an_empty_segment_is_legal(house: House) -> None:
    reader = house.reader("/a/0")
    assert house.post("/a/0").status == 200
    seen = house.drain(reader)
    assert (seen.body, seen.last) == (b"", END)
    assert seen.headers["lp-trickle-seq"] == "0"
    assert seen.headers["lp-trickle-latest"] == "1"
    assert "lp-trickle-closed" not in seen.headers
    assert house.next_write("a") == 1


def test_readers_share_memory(house: House) -> None:
    data = bytes(100_000)
    house.post("/a/0", data)
    parts = []
    for _ in range(20):
        reader = house.reader("/a/0")
        reader.pull(1, house.now)
        [part] = house.pieces(reader)
        parts.append(part)
    assert all(part.obj is data for part in parts)
    assert house.relay.statistics().size == len(data)


def test_a_pull_gives_no_more_than_asked_for(house: House) -> None:
    house.post("/a/0", b"0123456789")
    reader = house.reader("/a/0")
    reader.pull(4, house.now)
    sizes = []
    while isinstance(pulled := reader.pull(4, house.now), list):
        sizes.append(sum(map(len, pulled)))
    assert sizes == [4, 4, 2]
    assert pulled is END
    assert reader.pull(4, house.now) is END


def test_a_closed_reader_is_not_to_be_pulled(house: House) -> None:
    reader = house.reader("/a/0")
    reader.close(house.now)
    with pytest.raises(LocalProtocolError):
        reader.pull(1, house.now)


def test_what_falls_out_of_the_window_is_read_to_its_end(house: House) -> None:
    house.post("/a/0", b"0123456789")
    reader = house.reader("/a/0")
    reader.pull(4, house.now)
    reader.pull(4, house.now)
    house.wait(60)
    for seq in range(1, 6):
        house.post(f"/a/{seq}", b"x")
    assert house.answer("GET", "/a/0").status == 470
    assert house.relay.statistics().segments == 6
    assert b"".join(house.pieces(reader)) == b"456789"
    assert house.drain(reader).last is END
    assert house.relay.statistics().segments == 5
    assert house.relay.statistics().size == 5


def test_readers_waiting_in_a_closed_channel_are_told(house: House) -> None:
    house.post("/a/0", b"x")
    waiting, inside = house.reader("/a/1"), house.reader("/a/0")
    house.drain(waiting)
    seen = house.drain(inside, close=False)
    assert house.answer("DELETE", "/a").status == 200
    assert waiting in house.woken
    closed = house.drain(waiting)
    assert (closed.body, closed.last) == (b"", END)
    assert closed.headers["lp-trickle-closed"] == "terminated"
    assert closed.headers["lp-trickle-seq"] == "1"
    assert house.drain(inside, seen).body == b"x"
    assert "lp-trickle-closed" not in seen.headers
    assert house.answer("GET", "/a/1").status == 404
    assert house.relay.statistics().size == 0


def test_a_lingering_channel_is_read_to_its_end(house_of: HouseOf) -> None:
    house = house_of(linger=5.0)
    fill(house, 2)
    assert house.answer("DELETE", "/a").status == 200
    assert house.body("/a/1") == b"segment 1"
    past = house.answer("GET", "/a/2")
    assert (past.status, past.body) == (200, b"")
    assert dict(past.headers) == {
        "lp-trickle-seq": "2",
        "lp-trickle-latest": "2",
        "lp-trickle-closed": "terminated",
    }
    asked = house.answer("GET", "/a/next")
    assert (asked.body, dict(asked.headers)["lp-trickle-closed"]) == (b"2", "terminated")
    assert house.answer("GET", "/a/-9").status == 470
    house.wait(5)
    assert house.answer("GET", "/a/1").status == 404
    assert house.relay.statistics().segments == 0


def test_a_reader_that_is_behind_gets_what_a_deleted_channel_held(house: House) -> None:
    fill(house, 3)
    reader = house.reader("/a/0")
    house.answer("DELETE", "/a")
    assert house.drain(reader).body == b"segment 0"
    assert house.body("/a/1") == b"segment 1"
    house.wait(2)
    assert house.body("/a/2") == b"segment 2"
    past = house.answer("GET", "/a/3")
    assert dict(past.headers)["lp-trickle-closed"] == "terminated"
    house.wait(8)
    assert house.answer("GET", "/a/3").status == 404
    assert house.relay.statistics().size == 0


def test_an_empty_segment_is_not_the_end_of_a_deleted_channel(house: House) -> None:
    """What follows it would never be asked for, by readers that are behind."""
    fill(house, 1)
    reader, waiting = house.reader("/a/0"), house.reader("/a/1")
    house.post("/a/1", b"")
    house.post("/a/2", b"segment 2")
    house.answer("DELETE", "/a")
    house.drain(reader)
    for empty in (house.drain(waiting), house.drain(house.reader("/a/1"))):
        assert empty.body == b""
        assert "lp-trickle-closed" not in empty.headers
    assert house.body("/a/2") == b"segment 2"
    assert house.answer("GET", "/a/3").headers[-1] == ("lp-trickle-closed", "terminated")


def test_nor_is_one_that_lies_ahead_of_a_publisher_that_fell_back(house: House) -> None:
    fill(house, 6)
    ahead = house.reader("/a/5")
    house.post("/a/3", b"again")
    assert house.next_write("a") == 4
    house.answer("DELETE", "/a")
    seen = house.drain(ahead)
    assert seen.body == b"segment 5"
    assert "lp-trickle-closed" not in seen.headers


def test_one_that_has_just_finished_a_segment_may_come_for_the_next(house: House) -> None:
    fill(house, 3)
    house.body("/a/0")
    house.wait(9)
    house.answer("DELETE", "/a")
    assert house.body("/a/1") == b"segment 1"


def test_one_that_does_not_come_for_long_is_not_waited_for(house: House) -> None:
    fill(house, 3)
    house.body("/a/0")
    house.wait(11)
    house.answer("DELETE", "/a")
    assert house.answer("GET", "/a/1").status == 404


def test_one_that_was_seen_to_leave_is_not_waited_for(house: House) -> None:
    fill(house, 3)
    left, broke_off = house.reader("/a/0"), house.reader("/a/0")
    house.drain(left)
    broke_off.close(house.now)
    for reader in (left, left, broke_off):
        reader.client_left()
    house.answer("DELETE", "/a")
    assert house.answer("GET", "/a/1").status == 404


def test_one_that_is_closed_keeps_no_memory(house: House) -> None:
    """Connections remember whom they served last; what that one read is not theirs to keep."""
    fill(house, 1)
    reader = house.reader("/a/0")
    segment = weakref.ref(reader.segment)
    house.drain(reader)
    house.answer("DELETE", "/a")
    gc.collect()
    assert segment() is None
    reader.client_left()


def test_one_that_left_long_after_changes_nothing(house: House) -> None:
    fill(house, 1)
    reader = house.reader("/a/0")
    house.drain(reader)
    house.wait(1)
    for seq in range(1, 20):
        house.post(f"/a/{seq}", b"x")
    reader.client_left()
    assert house.body("/a/19") == b"x"


def test_whose_readers_have_read_to_the_end_goes_at_once(house: House) -> None:
    fill(house, 2)
    house.body("/a/0")
    last = house.reader("/a/1")
    waiting = house.reader("/a/2")
    house.answer("DELETE", "/a")
    assert house.answer("GET", "/a/1").status == 404
    assert house.drain(last).body == b"segment 1"
    assert house.drain(waiting).headers["lp-trickle-closed"] == "terminated"
    assert house.relay.statistics().size == 0


def test_a_relay_may_forget_at_once_whoever_is_behind(house_of: HouseOf) -> None:
    house = house_of(catch_up=0)
    fill(house, 3)
    reader = house.reader("/a/0")
    house.answer("DELETE", "/a")
    assert house.answer("GET", "/a/1").status == 404
    assert house.drain(reader).body == b"segment 0"


def test_a_lingering_channel_gives_way_to_a_new_one(house_of: HouseOf) -> None:
    house = house_of(linger=5.0)
    fill(house, 2)
    house.answer("DELETE", "/a")
    assert house.answer("DELETE", "/a").status == 400
    assert house.answer("DELETE", "/a/0").status == 404
    house.post("/a/0", b"new")
    assert house.body("/a/0") == b"new"
    house.wait(10)
    assert house.body("/a/0") == b"new", "the old one's end is not the new one's"


def test_readers_beyond_the_limit_are_refused(house_of: HouseOf) -> None:
    house = house_of(max_readers=2)
    house.answer("POST", "/a")
    readers = [house.reader("/a/0"), house.reader("/a/0")]
    assert house.answer("GET", "/a/0").status == 503
    readers[0].close(house.now)
    assert not isinstance(house.ask("GET", "/a/0"), Answer)


def test_a_reader_is_cut_where_memory_is_needed(house_of: HouseOf) -> None:
    house = house_of(max_channel_bytes=100, max_segment_bytes=60)
    house.post("/a/0", bytes(60))
    slow, waiting = house.reader("/a/0"), house.reader("/a/0")
    slow.pull(10, house.now)
    house.wait(60)
    house.post("/a/1", bytes(60))
    assert slow in house.woken
    assert slow.pull(10, house.now) is CUT
    assert slow.pull(10, house.now) is CUT
    assert house.drain(waiting).last is CUT
    slow.close(house.now)
    assert house.relay.statistics().size == 60
