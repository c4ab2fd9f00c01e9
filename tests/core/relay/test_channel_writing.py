"""What a writer sees: protocol.md's sentences, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trickle_core.answer import Answer
from trickle_core.channel import LATE
from trickle_core.errors import LocalProtocolError
from trickle_core.window.states import ACCEPTED, END, NEED_DATA

if TYPE_CHECKING:
    from tests.core.relay.conftest import House, HouseOf


def headers_of(answer: Answer | None) -> dict[str, str]:
    assert answer is not None
    return dict(answer.headers)


def test_a_segment_is_answered_with_its_number(house: House) -> None:
    answer = house.post("/a/0", b"x")
    assert (answer.status, answer.headers) == (200, (("lp-trickle-seq", "0"),))
    assert house.next_write("a") == 1


def test_minus_one_writes_at_next_write(house: House) -> None:
    house.post("/a/0", b"x")
    assert headers_of(house.post("/a/-1", b"y"))["lp-trickle-seq"] == "1"
    assert headers_of(house.post("/a/-1"))["lp-trickle-seq"] == "2"
    assert house.body("/a/1") == b"y"


def test_two_preconnected_at_minus_one_write_two_segments(house: House) -> None:
    first, second = house.writer("/a/-1"), house.writer("/a/-1")
    house.write(second, b"second")
    house.write(first, b"first")
    house.write(second, b"!")
    assert headers_of(house.end(second))["lp-trickle-seq"] == "0"
    assert headers_of(house.end(first))["lp-trickle-seq"] == "1"
    assert house.body("/a/0") == b"second!"
    assert house.body("/a/1") == b"first"


def test_an_empty_piece_changes_nothing(house: House) -> None:
    writer = house.writer("/a/0")
    assert writer.write(b"", house.now) is ACCEPTED
    assert house.next_write("a") == 0


def test_next_write_moves_with_the_first_byte(house: House) -> None:
    writer = house.writer("/a/0")
    assert house.next_write("a") == 0
    house.write(writer, b"x")
    assert house.next_write("a") == 1


def test_a_writer_deleted_under_way_is_answered_at_once(house: House) -> None:
    begun, preconnected, unnumbered = (
        house.writer("/a/0"),
        house.writer("/a/1"),
        house.writer("/a/-1"),
    )
    house.write(begun, b"x")
    house.answer("DELETE", "/a")
    assert house.woken == [begun, preconnected, unnumbered]
    for writer in (begun, preconnected, unnumbered):
        headers = headers_of(writer.answer)
        assert headers["lp-trickle-closed"] == "terminated"
        assert headers["connection"] == "close"
        assert writer.write(b"more", house.now) is writer.answer
        assert writer.end(house.now) is writer.answer
        writer.abort(house.now)
    assert house.relay.statistics().writers == 0


def test_a_writer_whose_segment_is_closed_is_answered_at_once(house: House) -> None:
    writer = house.writer("/a/0")
    assert house.answer("DELETE", "/a/0").status == 200
    headers = headers_of(writer.answer)
    assert headers == {"lp-trickle-seq": "0", "lp-trickle-size": "0", "connection": "close"}
    assert house.next_write("a") == 1, (
        "as an empty segment, or GET -1 would find it closed for ever"
    )


def test_closing_a_segment_lets_its_readers_go_on(house: House) -> None:
    writer, reader = house.writer("/a/0"), house.reader("/a/0")
    house.write(writer, b"half")
    seen = house.drain(reader)
    assert house.answer("DELETE", "/a/0").status == 200
    assert house.drain(reader, seen).last is END
    assert house.answer("DELETE", "/a/0").status == 200


@pytest.mark.parametrize("seq", ["1", "7", "-1", "x", ""])
def test_closing_what_is_not_there_is_400(house: House, seq: str) -> None:
    house.post("/a/0", b"x")
    assert house.answer("DELETE", f"/a/{seq}").status == 400


def test_a_body_that_breaks_off_leaves_the_segment_open(house: House) -> None:
    writer, reader = house.writer("/a/0"), house.reader("/a/0")
    house.write(writer, b"half")
    writer.abort(house.now)
    writer.abort(house.now)
    seen = house.drain(reader)
    assert (seen.body, seen.last) == (b"half", NEED_DATA)
    house.post("/a/0", b" and half")
    assert house.drain(reader, seen).body == b"half and half"
    assert seen.last is END


def test_an_abandoned_segment_is_closed_after_a_time(house: House) -> None:
    writer, reader = house.writer("/a/0"), house.reader("/a/0")
    house.write(writer, b"half")
    writer.abort(house.now)
    seen = house.drain(reader)
    house.wait(9.9)
    assert house.drain(reader, seen).last is NEED_DATA
    house.wait(0.1)
    assert house.drain(reader, seen).last is END


def test_who_goes_on_behind_an_abandoned_segment_has_given_it_up(house: House) -> None:
    writer = house.writer("/a/0")
    house.write(writer, b"half")
    reader = house.reader("/a/0")
    seen = house.drain(reader)
    writer.abort(house.now)
    following = house.writer("/a/1")
    assert house.drain(reader, seen).last is NEED_DATA, "it may still be carried on"
    house.write(following, b"x")
    assert house.drain(reader, seen).last is END


def test_a_segment_that_is_carried_on_is_not_given_up(house: House) -> None:
    writer = house.writer("/a/0")
    house.write(writer, b"half")
    writer.abort(house.now)
    again = house.writer("/a/0")
    house.post("/a/1", b"x")
    house.write(again, b" and half")
    house.end(again)
    assert house.body("/a/0") == b"half and half"


def test_a_segment_that_is_carried_on_is_not_abandoned_abandoned(house: House) -> None:
    first, reader = house.writer("/a/0"), house.reader("/a/0")
    house.write(first, b"one")
    first.abort(house.now)
    house.wait(5)
    second = house.writer("/a/0")
    house.write(second, b"two")
    seen = house.drain(reader)
    house.wait(20)
    assert house.drain(reader, seen).last is NEED_DATA
    third = house.writer("/a/0")
    second.abort(house.now)
    house.wait(20)
    assert house.drain(reader, seen).last is NEED_DATA, "the third may still come to write"
    third.abort(house.now)
    house.wait(9)
    assert house.drain(reader, seen).last is NEED_DATA
    house.wait(1)
    assert house.drain(reader, seen).last is END


def test_the_second_break_counts_from_its_own_time(house: House) -> None:
    for _ in range(2):
        writer = house.writer("/a/0")
        house.write(writer, b"x")
        writer.abort(house.now)
        house.wait(6)
    reader = house.reader("/a/0")
    seen = house.drain(reader)
    assert seen.last is NEED_DATA
    house.wait(4)
    assert house.drain(reader, seen).last is END


def test_an_abandoned_segment_may_be_gone_before_its_time(house: House) -> None:
    writer = house.writer("/a/0")
    house.write(writer, b"x")
    writer.abort(house.now)
    for seq in range(1, 6):
        house.post(f"/a/{seq}", b"x")
    house.wait(20)
    assert house.answer("GET", "/a/0").status == 470


def test_a_body_that_breaks_before_its_first_byte_can_be_sent_again(house: House) -> None:
    house.writer("/a/0").abort(house.now)
    house.writer("/a/-1").abort(house.now)
    assert house.next_write("a") == 0
    house.post("/a/0", b"x")
    assert house.body("/a/0") == b"x"


def test_a_waiting_reader_outlives_the_preconnected_writer(house: House) -> None:
    writer, reader = house.writer("/a/0"), house.reader("/a/0")
    house.drain(reader)
    writer.abort(house.now)
    house.post("/a/0", b"x")
    assert house.drain(reader).body == b"x"


def test_an_old_number_written_again_makes_next_write_fall_back(house: House) -> None:
    for seq in range(5):
        house.post(f"/a/{seq}", b"old")
    house.post("/a/1", b"new")
    assert house.next_write("a") == 2
    assert house.body("/a/1") == b"new", "a closed segment starts anew"
    assert house.body("/a/0") == b"old"
    assert house.drain(house.reader("/a/-1")).last is NEED_DATA, "what was ahead is gone"
    assert house.answer("GET", "/a/4").status == 470
    assert house.relay.statistics().size == len(b"new") + len(b"old")


def test_who_reads_the_old_one_reads_on_in_it(house: House) -> None:
    house.post("/a/0", b"old")
    reader = house.reader("/a/0")
    reader.pull(1, house.now)
    writer = house.writer("/a/0")
    assert house.body("/a/0") == b"old", "until the first byte of the new one"
    house.write(writer, b"new")
    assert b"".join(house.pieces(reader)) == b"old"
    assert house.read("/a/0").body == b"new"


def test_an_empty_body_to_an_old_number_does_not_fall_back(house: House) -> None:
    for seq in range(3):
        house.post(f"/a/{seq}", b"old")
    house.post("/a/0")
    assert house.next_write("a") == 3


def test_falling_back_spares_what_is_being_written_or_waited_for(house: House) -> None:
    for seq in range(3):
        house.post(f"/a/{seq}", b"old")
    ahead, preconnected = house.writer("/a/3"), house.writer("/a/4")
    house.write(ahead, b"one")
    house.post("/a/0", b"new")
    assert house.next_write("a") == 1
    house.write(ahead, b"two")
    house.end(ahead)
    assert house.body("/a/3") == b"onetwo"
    assert preconnected.answer is None
    assert house.answer("GET", "/a/2").status == 470


def test_a_stray_far_ahead_of_a_publisher_at_work_is_refused(house: House) -> None:
    for seq in range(5):
        house.post(f"/a/{seq}", b"x")
    at_work, reader = house.writer("/a/5"), house.reader("/a/5")
    stray = house.answer("POST", "/a/1000000")
    assert (stray.status, stray.closes) == (409, True)
    assert (at_work.answer, house.next_write("a")) == (None, 5)
    house.write(at_work, b"goes on")
    assert house.drain(reader).body == b"goes on"


def test_one_at_minus_one_is_at_work_too(house: House) -> None:
    house.writer("/a/-1")
    assert house.answer("POST", "/a/1000000").status == 409


@pytest.mark.parametrize("seq", [0, 10])
def test_what_can_be_under_way_at_once_is_no_stray(house: House, seq: int) -> None:
    below, ahead = house.writer("/a/0"), house.writer(f"/a/{seq}")
    assert below.answer is ahead.answer is None


def test_who_writes_alone_may_begin_anywhere(house: House) -> None:
    ahead = house.writer("/a/2000000")
    house.post("/a/1000000", b"x")
    assert (ahead.answer, house.next_write("a")) == (None, 1_000_001)


def test_who_says_that_it_begins_anew_may_begin_anywhere(house: House) -> None:
    old = house.writer("/a/0")
    anew = house.writer("/a/1000000", lp_trickle_reset="1")
    assert old.answer is not None
    house.write(anew, b"x")
    assert house.next_write("a") == 1_000_001


def test_a_stray_that_came_between_two_segments_is_forgotten(house: House) -> None:
    house.post("/a/4", b"x")
    stray = house.writer("/a/1000000")
    house.write(stray, b"stray")
    reader = house.reader("/a/-2")
    seen = house.drain(reader)
    house.post("/a/5", b"goes on")
    assert house.next_write("a") == 6
    assert headers_of(stray.answer)["lp-trickle-seq"] == "1000000"
    assert house.drain(reader, seen).last is END, "nobody hangs in it"
    assert house.body("/a/-2") == b"goes on"


def test_reset_closes_all_below_and_spares_what_is_ahead(house: House) -> None:
    house.post("/a/0", b"whole")
    hanging, waiting = house.writer("/a/1"), house.writer("/a/2")
    house.write(hanging, b"half")
    reader = house.reader("/a/1")
    seen = house.drain(reader)
    ahead = house.writer("/a/6")
    anew = house.writer("/a/5", lp_trickle_reset="1")
    assert house.drain(reader, seen).last is END
    assert headers_of(hanging.answer)["lp-trickle-seq"] == "1"
    assert headers_of(waiting.answer)["lp-trickle-seq"] == "2"
    assert ahead.answer is None
    assert house.body("/a/1") == b"half", "written bytes stay readable"
    house.write(anew, b"x")
    assert house.next_write("a") == 6


def test_reset_at_minus_one_closes_what_is_written(house: House) -> None:
    hanging = house.writer("/a/0")
    house.write(hanging, b"half")
    anew = house.writer("/a/-1", lp_trickle_reset="1")
    assert hanging.answer is not None
    house.write(anew, b"x")
    assert headers_of(house.end(anew))["lp-trickle-seq"] == "1"


def test_a_hole_lets_its_readers_go_on(house: House) -> None:
    reader = house.reader("/a/0")
    house.drain(reader)
    house.post("/a/3", b"x")
    seen = house.drain(reader)
    assert (seen.last, seen.headers["lp-trickle-latest"]) == (END, "4")


def test_a_hole_just_below_may_be_late(house: House) -> None:
    reader = house.reader("/a/0")
    house.drain(reader)
    house.post("/a/1", b"one")
    assert house.drain(reader).last is NEED_DATA
    house.post("/a/0", b"zero")
    assert house.drain(reader).body == b"zero"
    assert house.drain(house.reader("/a/1")).body == b"one"


def test_a_hole_just_below_is_closed_when_nothing_came_for_it(house: House) -> None:
    reader = house.reader("/a/0")
    house.drain(reader)
    house.post("/a/1", b"one")
    house.wait(LATE)
    assert house.drain(reader).last is END


def test_a_hole_that_was_filled_in_time_is_left_alone(house: House) -> None:
    reader = house.reader("/a/0")
    house.drain(reader)
    house.post("/a/1", b"one")
    late = house.writer("/a/0")
    house.wait(LATE)
    house.write(late, b"zero")
    assert house.drain(reader).body == b"zero"


def test_first_bytes_that_overtake_each_other_lose_nothing(house: House) -> None:
    first, second = house.writer("/a/0"), house.writer("/a/1")
    house.write(second, b"one")
    house.end(second)
    house.write(first, b"zero")
    house.end(first)
    assert house.next_write("a") == 2
    assert house.drain(house.reader("/a/0")).body == b"zero"
    assert house.drain(house.reader("/a/1")).body == b"one"


def test_a_preconnected_number_below_is_no_hole(house: House) -> None:
    late, reader = house.writer("/a/0"), house.reader("/a/0")
    house.post("/a/1", b"one")
    assert house.drain(reader).last is NEED_DATA
    house.write(late, b"zero")
    assert house.drain(reader).body == b"zero"


def test_a_writer_is_pushed_out_with_its_segment(house: House) -> None:
    late = house.writer("/a/0")
    for seq in range(1, 6):
        house.post(f"/a/{seq}", b"x")
    assert headers_of(late.answer)["lp-trickle-seq"] == "0"


def test_the_window_keeps_so_many_written_segments(house_of: HouseOf) -> None:
    house = house_of(window=2)
    for seq in range(5):
        house.post(f"/a/{seq}", b"x")
    waiting = house.reader("/a/5")
    house.drain(waiting)
    assert house.body("/a/3") == house.body("/a/4") == b"x", "waiting pushes nothing out"
    assert house.answer("GET", "/a/2").status == 470


@pytest.mark.parametrize("call", ["write", "end"])
@pytest.mark.parametrize("last", ["end", "abort"])
def test_after_the_last_call_there_is_no_other(house: House, call: str, last: str) -> None:
    writer = house.writer("/a/0")
    getattr(writer, last)(house.now)
    with pytest.raises(LocalProtocolError):
        writer.write(b"x", house.now) if call == "write" else writer.end(house.now)


def test_a_segment_too_large_is_refused_and_closed(house_of: HouseOf) -> None:
    house = house_of(max_segment_bytes=10)
    writer = house.writer("/a/0")
    house.write(writer, bytes(10))
    reader = house.reader("/a/0")
    seen = house.drain(reader)
    answer = writer.write(b"x", house.now)
    assert isinstance(answer, Answer)
    assert (answer.status, answer.closes) == (413, True)
    assert writer.end(house.now) is answer
    writer.abort(house.now)
    assert house.drain(reader, seen).last is END
    assert house.relay.statistics().writers == 0


def test_a_channel_sheds_its_oldest_segments_for_new_ones(house_of: HouseOf) -> None:
    house = house_of(max_channel_bytes=25, max_segment_bytes=20)
    for seq in range(3):
        house.post(f"/a/{seq}", bytes(10))
    assert house.answer("GET", "/a/0").status == 470
    assert house.body("/a/1") == house.body("/a/2") == bytes(10)
    assert house.relay.statistics().size == 20


def test_where_nothing_can_be_shed_a_write_is_refused(house_of: HouseOf) -> None:
    house = house_of(max_channel_bytes=50, max_total_bytes=50)
    house.post("/a/0", bytes(40))
    writer = house.writer("/b/0")
    house.write(writer, bytes(10))
    answer = writer.write(b"x", house.now)
    assert isinstance(answer, Answer)
    assert (answer.status, answer.closes) == (507, True)
    assert house.body("/a/0") == bytes(40), "a channel sheds only its own"


def test_publishers_beyond_the_limit_are_refused(house_of: HouseOf) -> None:
    house = house_of(max_writers=1)
    house.writer("/a/0")
    answer = house.answer("POST", "/a/1")
    assert (answer.status, answer.closes) == (503, True)


def test_segments_closed_far_apart_do_not_pile_up(house: House) -> None:
    for seq in range(0, 1000, 10):
        house.writer(f"/a/{seq}")
        assert house.answer("DELETE", f"/a/{seq}").status == 200
    assert house.relay.statistics().segments <= 5


def test_empty_segments_below_the_window_do_not_pile_up(house: House) -> None:
    house.post("/a/1000", b"x")
    for seq in range(100):
        house.post(f"/a/{seq}")
    assert house.next_write("a") == 1001
    assert house.relay.statistics().segments == 1
    assert house.relay.channels["a"].size == 1


def test_resets_far_apart_do_not_pile_up(house: House) -> None:
    for seq in range(0, 1000, 10):
        house.writer(f"/a/{seq}", lp_trickle_reset="1").abort(house.now)
        waiting = house.reader("/a/-1")
        house.writer(f"/a/{seq + 5}", lp_trickle_reset="1").abort(house.now)
        house.drain(waiting)
    assert house.relay.statistics().segments <= 6
