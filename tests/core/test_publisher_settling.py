"""How many segments wait for the server's answer: what tells a writer that all have arrived."""

from __future__ import annotations

from trickle_core.commands import EndBody, OpenPost
from trickle_core.events import Cause, RequestFailed, ResponseStarted
from trickle_core.publisher import Publisher, PublisherSettings


def started() -> tuple[Publisher, int]:
    """A publisher with one segment that has ended, and that segment's request."""
    machine = Publisher(PublisherSettings(first=0))
    [post] = machine.start(0.0)
    assert isinstance(post, OpenPost)
    machine.begin_segment(0.0)
    assert machine.settling == 0
    assert machine.end_segment(1.0) == [EndBody(post.request)]
    return machine, post.request


def test_an_ended_segment_settles_until_it_is_answered() -> None:
    machine, request = started()
    assert machine.settling == 1
    machine.receive(ResponseStarted(request, 200, {}, 5), 1.5)
    assert (machine.settling, machine.lost) == (0, 0)


def test_or_until_it_is_lost() -> None:
    machine, request = started()
    machine.receive(RequestFailed(request, Cause.BROKEN, 5), 1.5)
    assert (machine.settling, machine.lost) == (0, 1)


def test_or_until_nobody_waits_any_more() -> None:
    machine, _ = started()
    machine.handle_timeout(1.0 + machine.settings.settle)
    assert (machine.settling, machine.lost) == (0, 1)
