"""What the simulation found, as short scripts: one for each."""

from __future__ import annotations

from trickle_core import wire
from trickle_core.answer import Answer
from trickle_core.commands import Command, Delete, Discard, EndBody, OpenPost
from trickle_core.events import ResponseStarted
from trickle_core.publisher import Publisher, PublisherSettings
from trickle_core.relay import Relay
from trickle_core.relay_settings import RelayRequest
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
