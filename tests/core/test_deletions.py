"""Segments that have to be closed on the server: one DELETE after another, each until it is
answered.
"""

from __future__ import annotations

import math
from itertools import count

import pytest

from trickle_core import wire
from trickle_core.commands import Abort, Delete, Discard
from trickle_core.deletions import Deletions
from trickle_core.events import Cause, Event, RequestFailed, RequestFinished, ResponseStarted
from trickle_core.retry import Backoff, RetryPolicy

RETRY = RetryPolicy(first=0.1, growth=2, longest=5, give_up_after=30)


@pytest.fixture
def deletions() -> Deletions:
    return Deletions(count(1).__next__, 10.0, Backoff(RETRY))


def test_one_after_another(deletions: Deletions) -> None:
    assert not deletions.pending
    assert deletions.deadline() == math.inf
    assert deletions.add(3, now=1.0) == [Delete(1, 3)]
    assert deletions.deadline() == 11.0
    assert deletions.add(None, now=1.0) == []
    assert deletions.receive(ResponseStarted(1, 200, {}), now=1.1) == [Discard(1), Delete(2, None)]
    assert deletions.receive(ResponseStarted(2, 200, {}), now=1.2) == [Discard(2)]
    assert not deletions.pending
    assert deletions.deadline() == math.inf


@pytest.mark.parametrize("status", [200, 204, 400, 401, 404])
def test_any_answer_for_good_will_do(deletions: Deletions, status: int) -> None:
    deletions.add(3, now=1.0)
    assert deletions.receive(ResponseStarted(1, status, {}), now=1.1) == [Discard(1)]
    assert not deletions.pending


@pytest.mark.parametrize(
    "trouble",
    [
        ResponseStarted(1, 500, {}),
        ResponseStarted(1, 429, {}),
        RequestFailed(1, Cause.BROKEN),
        RequestFailed(1, Cause.REFUSED),
        RequestFinished(1),
    ],
    ids=repr,
)
def test_what_is_not_answered_is_sent_again(deletions: Deletions, trouble: Event) -> None:
    deletions.add(3, now=1.0)
    expected = [Discard(1)] if isinstance(trouble, ResponseStarted) else []
    assert deletions.receive(trouble, now=1.0) == expected
    assert deletions.handle_timeout(now=1.05) == []
    assert deletions.handle_timeout(now=1.1) == [Delete(2, 3)]
    assert deletions.receive(ResponseStarted(1, 200, {}), now=1.2) == []  # of the first try
    assert deletions.receive(ResponseStarted(2, 200, {}), now=1.2) == [Discard(2)]


def test_so_is_one_that_hangs(deletions: Deletions) -> None:
    deletions.add(3, now=1.0)
    assert deletions.handle_timeout(now=11.0) == [Abort(1)]
    assert deletions.handle_timeout(now=11.1) == [Delete(2, 3)]


def test_not_for_ever(deletions: Deletions) -> None:
    deletions.add(3, now=0.0)
    deletions.add(4, now=0.0)
    now, tries = 0.0, 1
    while True:
        orders = deletions.receive(RequestFailed(tries, Cause.REFUSED), now)
        tries += 1
        if orders:
            break
        now = deletions.deadline()
        assert deletions.handle_timeout(now) == [Delete(tries, 3)]
    assert orders == [Delete(tries, 4)]
    assert 30 <= now <= 35
    # The next one has its own patience.
    assert deletions.receive(RequestFailed(tries, Cause.REFUSED), now) == []
    assert deletions.deadline() == pytest.approx(now + 0.1)


def test_what_has_left_the_window_is_forgotten(deletions: Deletions) -> None:
    for seq in range(100):
        deletions.add(seq, now=1.0)
    left = []
    for request in range(1, 1 + wire.WINDOW):
        orders = deletions.receive(ResponseStarted(request, 200, {}), now=2.0)
        left += [order.seq for order in orders if isinstance(order, Delete)]
    assert left == [96, 97, 98, 99]
    assert not deletions.pending


def test_all_can_be_given_up(deletions: Deletions) -> None:
    assert deletions.clear() == []
    deletions.add(3, now=1.0)
    deletions.add(4, now=1.0)
    assert deletions.clear() == [Abort(1)]
    assert not deletions.pending
    assert deletions.deadline() == math.inf
    assert deletions.receive(ResponseStarted(1, 200, {}), now=1.1) == []
    assert deletions.add(5, now=2.0) == [Delete(2, 5)]


def test_also_in_a_pause(deletions: Deletions) -> None:
    deletions.add(3, now=1.0)
    deletions.receive(RequestFailed(1, Cause.REFUSED), now=1.0)
    assert deletions.clear() == []
    assert deletions.deadline() == math.inf
