"""A publisher waits for readers at work, and for nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trickle_core.window.states import ACCEPTED, END, NEED_ROOM

if TYPE_CHECKING:
    from tests.core.relay.conftest import House, HouseOf

WINDOW = 5


def fill(house: House, count: int = WINDOW, size: int = 100) -> None:
    for seq in range(count):
        house.post(f"/a/{seq}", bytes(size))


def test_a_publisher_waits_for_a_reader_at_work(house: House) -> None:
    fill(house)
    reader = house.reader("/a/0")
    writer = house.writer("/a/5")
    assert writer.write(b"x", house.now) is NEED_ROOM
    assert house.next_write("a") == 5
    seen = house.drain(reader, close=False)
    assert seen.last is END
    assert writer.write(b"x", house.now) is NEED_ROOM, "all is pulled, not all is sent"
    house.woken.clear()
    reader.close(house.now)
    assert house.woken == [writer]
    following = house.reader("/a/1")
    assert writer.write(b"x", house.now) is ACCEPTED
    assert house.answer("GET", "/a/0").status == 470
    assert house.drain(following).body == bytes(100)


def test_a_reader_that_pulled_all_before_the_end_is_still_sending(house: House) -> None:
    first = house.writer("/a/0")
    house.write(first, b"0123")
    reader = house.reader("/a/0")
    house.drain(reader)
    house.end(first)
    for seq in range(1, 5):
        house.post(f"/a/{seq}", b"x")
    writer = house.writer("/a/5")
    assert writer.write(b"x", house.now) is NEED_ROOM
    house.drain(reader)
    assert writer.write(b"x", house.now) is ACCEPTED


def test_it_waits_with_an_empty_segment_too(house: House) -> None:
    fill(house)
    house.reader("/a/0")
    writer = house.writer("/a/5")
    assert writer.end(house.now) is NEED_ROOM
    house.wait(1)
    assert house.end(writer).status == 200


def test_it_waits_for_a_reader_that_is_expected(house: House) -> None:
    fill(house)
    house.post("/a/5", b"x")
    reader = house.reader("/a/1")
    house.drain(reader, close=False)
    held = house.reader("/a/2")
    held.close(house.now)
    writer = house.writer("/a/6")
    assert writer.write(b"x", house.now) is NEED_ROOM, "1 is still being sent"
    reader.close(house.now)
    assert writer.write(b"x", house.now) is ACCEPTED
    following = house.writer("/a/7")
    assert following.write(b"x", house.now) is NEED_ROOM, "who finished 1 comes for 2"
    reader = house.reader("/a/2")
    assert following.write(b"x", house.now) is NEED_ROOM
    house.drain(reader)
    assert following.write(b"x", house.now) is ACCEPTED


def test_it_waits_for_an_expected_reader_only_for_the_grace(house: House) -> None:
    fill(house)
    house.read("/a/0")
    house.post("/a/5", b"x")
    writer = house.writer("/a/6")
    assert writer.write(b"x", house.now) is NEED_ROOM
    house.wait(0.49)
    assert writer.write(b"x", house.now) is NEED_ROOM
    house.woken.clear()
    house.wait(0.01)
    assert writer in house.woken
    assert writer.write(b"x", house.now) is ACCEPTED


def test_a_reader_that_preconnects_is_not_expected_twice(house: House) -> None:
    fill(house)
    first, second = house.reader("/a/0"), house.reader("/a/1")
    house.drain(first)
    house.drain(second)
    house.post("/a/5", b"x")
    house.post("/a/6", b"x")


def test_a_reader_that_waits_in_a_broken_segment_is_not_at_work(house: House) -> None:
    broken = house.writer("/a/0")
    house.write(broken, b"half")
    broken.abort(house.now)
    house.writer("/a/0")  # to carry it on: so it stays open
    reader = house.reader("/a/0")
    seen = house.drain(reader)
    for seq in range(1, 6):
        house.post(f"/a/{seq}", b"x")
    assert house.drain(reader, seen).last is END
    assert seen.body == b"half", "it loses nothing: the segment it waited in has ended"


def test_a_reader_that_stands_still_is_not_waited_for(house: House) -> None:
    fill(house)
    reader = house.reader("/a/0")
    house.wait(0.5)
    house.post("/a/5", b"x")
    assert house.drain(reader).body == bytes(100), "what it is in, it may finish"


def test_patience_ends(house_of: HouseOf) -> None:
    house = house_of(patience=1.0, grace=0.5)
    fill(house, size=1000)
    reader = house.reader("/a/0")
    reader.pull(1, house.now)
    writer = house.writer("/a/5")
    for _ in range(10):
        assert writer.write(b"x", house.now) is NEED_ROOM
        house.pieces(reader, 10)
        house.wait(0.1)
    assert writer.write(b"x", house.now) is ACCEPTED


def test_a_live_publisher_is_never_held_up(house: House) -> None:
    for seq in range(WINDOW):
        house.post(f"/a/{seq}", bytes(1000))
        house.wait(1)
    slow = house.reader("/a/0")
    slow.pull(1, house.now)
    house.pieces(slow, 1)
    house.post("/a/5", b"x")


def test_the_time_that_it_waited_is_not_its_own(house: House) -> None:
    """Else a publisher that is held up would look live, and be let go on too early."""
    fill(house)
    for seq in range(WINDOW, 20):
        reader = house.reader(f"/a/{seq - WINDOW}")
        reader.pull(1, house.now)
        writer = house.writer(f"/a/{seq}")
        for _ in range(3):
            assert writer.write(bytes(100), house.now) is NEED_ROOM
            house.wait(0.3)
            house.pieces(reader, 10)
        house.drain(reader)
        house.write(writer, bytes(100))
        house.end(writer)
        house.wait(0.2)


def test_a_writer_that_gives_up_leaves_the_window_as_it_was(house: House) -> None:
    fill(house)
    reader = house.reader("/a/0")
    writer = house.writer("/a/5")
    assert writer.write(b"x", house.now) is NEED_ROOM
    writer.abort(house.now)
    assert house.body("/a/4") == bytes(100)
    assert house.next_write("a") == 5
    house.drain(reader)
    house.post("/a/5", b"x")


def test_a_held_writer_is_answered_when_the_channel_goes(house: House) -> None:
    fill(house)
    house.reader("/a/0")
    writer = house.writer("/a/5")
    assert writer.write(b"x", house.now) is NEED_ROOM
    house.answer("DELETE", "/a")
    assert writer.write(b"x", house.now) is writer.answer


def test_shedding_memory_waits_for_readers_too(house_of: HouseOf) -> None:
    house = house_of(max_channel_bytes=250)
    house.post("/a/0", bytes(100))
    house.post("/a/1", bytes(100))
    reader = house.reader("/a/0")
    writer = house.writer("/a/2")
    house.write(writer, bytes(50))
    assert writer.write(b"x", house.now) is NEED_ROOM
    house.drain(reader)
    house.write(writer, b"x")
    assert house.answer("GET", "/a/0").status == 470


@pytest.mark.parametrize("readers", [1, 3])
def test_an_unthrottled_publisher_and_readers_that_keep_up(house: House, readers: int) -> None:
    """Not one byte is lost, however the turns fall."""
    got: list[list[int]] = [[] for _ in range(readers)]
    current = [house.reader("/a/0") for _ in range(readers)]
    writer, seq, turn = None, 0, 0
    while min(map(len, got)) < 200:
        turn += 1
        house.wait(0.001)
        while seq < 200:
            writer = writer or house.writer(f"/a/{seq}")
            if writer.write(bytes([seq]), house.now) is NEED_ROOM:
                break
            house.end(writer)
            writer, seq = None, seq + 1
        for index in [index for index in range(readers) if turn % (index + 1) == 0]:
            if len(got[index]) < 200:
                seen = house.drain(current[index])
                if seen.last is END:
                    got[index].append(seen.body[0])
                    current[index] = house.reader(f"/a/{len(got[index])}")
    assert all(each == list(range(200)) for each in got)


def books(house: House) -> dict[int, object]:
    return dict(house.relay.channels["a"]._fairness._finished)


def test_what_finished_readers_leave_in_the_books_is_bounded(house: House) -> None:
    for seq in range(50):
        house.post(f"/a/{seq}", b"x")
        house.read(f"/a/{seq}")
        house.wait(1)
    assert set(books(house)) == {44, 45, 46, 47, 48, 49}


def test_who_finishes_long_after_is_not_expected_anywhere(house: House) -> None:
    house.post("/a/0", b"x")
    late = house.reader("/a/0")
    house.wait(1)
    fill(house, 20)
    house.drain(late)
    assert books(house) == {}


def test_falling_back_forgets_who_finished_what(house: House) -> None:
    fill(house, 5)
    house.read("/a/3")
    house.wait(1)
    house.post("/a/0", b"new")
    assert books(house) == {}
