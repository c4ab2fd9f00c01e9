from __future__ import annotations

import math

from trickle_core.window.books import Account, Agenda


def test_an_account_fits_only_within_every_limit() -> None:
    whole = Account(10)
    one, other = Account(8, whole), Account(8, whole)
    one.take(6)
    assert one.fits(2)
    assert not one.fits(3)
    assert other.fits(4)
    assert not other.fits(5)
    one.give(6)
    assert (one.used, whole.used) == (0, 0)
    assert other.fits(8)


def test_an_agenda_does_what_is_due_in_order() -> None:
    agenda, done = Agenda(), []
    assert agenda.deadline() == math.inf
    agenda.add(3.0, lambda now: done.append(("late", now)))
    agenda.add(1.0, lambda now: done.append(("early", now)))
    agenda.add(1.0, lambda now: done.append(("early too", now)))
    agenda.add(math.inf, lambda _now: done.append(("never", 0.0)))
    assert agenda.deadline() == 1.0
    agenda.run(0.5)
    assert done == []
    agenda.run(2.0)
    assert done == [("early", 2.0), ("early too", 2.0)]
    assert agenda.deadline() == 3.0
    agenda.run(9.0)
    assert done[2:] == [("late", 9.0)]
    assert agenda.deadline() == math.inf


def test_what_an_errand_adds_waits_for_the_next_call() -> None:
    agenda, done = Agenda(), []

    def again(now: float) -> None:
        done.append(now)
        agenda.add(now, again)

    agenda.add(1.0, again)
    agenda.run(1.0)
    assert done == [1.0]
    agenda.run(1.0)
    assert done == [1.0, 1.0]
