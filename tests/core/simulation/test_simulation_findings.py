"""What the simulation found, as short scripts: one for each."""

from __future__ import annotations

import pytest

from trickle_core import wire
from trickle_core.answer import Answer, Head
from trickle_core.channel import LATE
from trickle_core.commands import Command, Delete, Discard, EndBody, OpenPost
from trickle_core.events import ResponseStarted
from trickle_core.publisher import Publisher, PublisherSettings
from trickle_core.relay import Relay
from trickle_core.relay_settings import RelayRequest, RelaySettings
from trickle_core.window.reader import Reader
from trickle_core.window.states import ACCEPTED, END, NEED_DATA, NEED_ROOM, Signal
from trickle_core.window.writer import Writer


def relay_with_a_writer() -> tuple[Relay, Writer]:
    relay = Relay()
    writer = relay.handle(RelayRequest("POST", "/a/0"), 0.0)
    assert isinstance(writer, Writer)
    return relay, writer


def publisher_with_an_ended_segment() -> tuple[Publisher, int]:
    machine = Publisher(PublisherSettings(first=0))
    [post] = machine.start(0.0)
    assert isinstance(post, OpenPost)
    machine.begin_segment(0.0)
    assert machine.end_segment(1.0) == [EndBody(post.request)]
    return machine, post.request


def post(relay: Relay, seq: int) -> Writer:
    writer = relay.handle(RelayRequest("POST", f"/a/{seq}"), 0.0)
    assert isinstance(writer, Writer)
    return writer


def get(relay: Relay, seq: int) -> Reader:
    reader = relay.handle(RelayRequest("GET", f"/a/{seq}"), 0.0)
    assert isinstance(reader, Reader)
    return reader


def read_all(reader: Reader) -> None:
    while not isinstance(reader.pull(1000, 0.0), Signal):
        pass
    reader.close(0.0)


# A segment that was closed before all of its bytes had come was confirmed to a publisher that had
# sent them all and its end.


def test_an_early_answer_says_how_much_of_the_segment_came() -> None:
    relay, writer = relay_with_a_writer()
    writer.write(b"abc", 0.0)
    relay.handle(RelayRequest("DELETE", "/a/0"), 1.0)
    assert isinstance(writer.answer, Answer)
    assert dict(writer.answer.headers)[wire.SIZE] == "3"


def settled_with(size: str | None) -> tuple[list[Command], Publisher, int]:
    machine, request = publisher_with_an_ended_segment()
    headers = {} if size is None else {wire.SIZE: size}
    return machine.receive(ResponseStarted(request, 200, headers, 5), 2.0), machine, request


def test_a_segment_of_which_the_server_has_less_is_lost() -> None:
    for size in ("0", "4"):
        orders, machine, _ = settled_with(size)
        assert machine.lost == 1
        assert [order.seq for order in orders if isinstance(order, Delete)] == [0]


def test_a_segment_of_which_it_has_all_has_arrived() -> None:
    for size in ("5", None, "many"):
        orders, machine, request = settled_with(size)
        assert (orders, machine.lost) == ([Discard(request)], 0)


# A reader that began at a segment was counted for one that was still to come to it, and that one
# lost the segment to a publisher who went as fast as it could.


def beginner_at_1(relay: Relay, asked: int) -> Reader:
    """A window of whole segments, and a reader that began at 1 by asking so."""
    beginner: Reader | None = None
    for seq in range(5):
        if seq == 1 and asked == wire.NEXT_WRITE:
            beginner = get(relay, asked)
        writer = post(relay, seq)
        writer.write(b"x", 0.0)
        if seq == 1 and asked == wire.LIVE_EDGE:
            beginner = get(relay, asked)
        writer.end(0.0)
    return beginner or get(relay, asked)


@pytest.mark.parametrize("asked", [1, -5, wire.NEXT_WRITE, wire.LIVE_EDGE])
def test_who_begins_at_a_segment_does_not_stand_for_who_comes_to_it(asked: int) -> None:
    relay = Relay()
    beginner = beginner_at_1(relay, asked)
    assert beginner.segment.seq == 1
    read_all(get(relay, 0))
    read_all(beginner)
    assert post(relay, 5).write(b"x", 0.0) is ACCEPTED
    pushing = post(relay, 6)
    assert pushing.write(b"x", 0.0) is NEED_ROOM, "somebody comes from 0"
    read_all(get(relay, 1))
    assert pushing.write(b"x", 0.0) is ACCEPTED


def test_who_follows_from_a_segment_outside_of_the_window_follows() -> None:
    relay = Relay()
    for seq in range(2):
        post_whole(relay, seq)
    slow = get(relay, 0)
    slow.pull(1000, 0.0)  # the head
    slow.pull(1000, 0.0)
    for seq in range(2, 5):
        post_whole(relay, seq)
    pushing = post(relay, 5)
    assert pushing.write(b"x", 2.0) is ACCEPTED, "it stands still"
    follower = get(relay, 1)
    assert slow.pull(1000, 2.0) is END
    slow.close(2.0)
    read_all(follower)
    assert post(relay, 6).write(b"x", 2.0) is ACCEPTED, "nobody else comes from 0"


def post_whole(relay: Relay, seq: int) -> None:
    writer = post(relay, seq)
    writer.write(b"x", 0.0)
    writer.end(0.0)


# A reader that came for a number that was late, or that the publisher had passed over, was told
# that it had fallen behind, and jumped over segments that it could have read.


def relay_where_1_is_missing() -> Relay:
    relay = Relay()
    post_whole(relay, 0)
    post_whole(relay, 2)
    return relay


def test_a_reader_waits_for_a_segment_that_another_overtook() -> None:
    relay = relay_where_1_is_missing()
    reader = get(relay, 1)
    assert reader.pull(100, 0.0) is NEED_DATA
    post_whole(relay, 1)
    assert isinstance(reader.pull(100, 0.5), Head)
    assert reader.pull(100, 0.5) == [b"x"]
    assert reader.pull(100, 0.5) is END


def test_but_not_for_ever() -> None:
    relay = relay_where_1_is_missing()
    reader = get(relay, 1)
    assert reader.pull(100, 0.0) is NEED_DATA
    relay.handle_timeout(LATE)
    assert isinstance(reader.pull(100, LATE), Head)
    assert reader.pull(100, LATE) is END


def test_and_a_number_that_was_passed_over_is_an_empty_segment() -> None:
    relay = relay_where_1_is_missing()
    reader = relay.handle(RelayRequest("GET", "/a/1"), LATE)
    assert isinstance(reader, Reader)
    head = reader.pull(100, LATE)
    assert isinstance(head, Head)
    assert (head.status, dict(head.headers)[wire.SEQ]) == (200, "1")
    assert reader.pull(100, LATE) is END


def test_what_comes_even_later_is_still_not_old() -> None:
    relay = relay_where_1_is_missing()
    get(relay, 1)
    relay.handle_timeout(LATE)
    post_whole(relay, 1)
    assert relay.channels["a"].next_write == 3
    assert get(relay, 1).segment.size == 1


def test_what_the_relay_itself_let_go_of_is_told_as_missed() -> None:
    relay = Relay(RelaySettings(max_channel_bytes=2))
    for seq in range(3):
        post_whole(relay, seq)
    answer = relay.handle(RelayRequest("GET", "/a/0"), 5.0)
    assert isinstance(answer, Answer)
    assert answer.status == wire.NO_SUCH_SEGMENT


# A publisher that began anew below the window wrote into nowhere.


def test_a_number_below_the_window_is_old_also_where_its_post_is_open() -> None:
    relay = Relay()
    for seq in range(20):
        post_whole(relay, seq)
    post_whole(relay, 3)
    assert relay.channels["a"].next_write == 4
    assert get(relay, wire.LIVE_EDGE).segment.seq == 3
