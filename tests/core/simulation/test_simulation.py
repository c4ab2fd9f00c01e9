"""Subscribers, a relay and publishers run against each other on a bad network, for hours of virtual
time. What must hold is in simulation.py; a failure names its seed.
"""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from tests.core.simulation.clock import CROWD, Alarm, Clock, Livelock
from tests.core.simulation.simulation import Failed, Simulation, weight
from tests.core.simulation.truth import CELL, Book, Violation, require
from trickle_core.publisher import Publisher

MINUTES = 40.0


@cache
def run(seed: int) -> Counter[str]:
    return Simulation(seed).run(MINUTES)


def test_promises_are_kept(seed: int) -> None:
    assert run(seed)["segments read"] > 0


def test_a_seed_says_all_that_happens() -> None:
    first, second = Simulation(7), Simulation(7)
    assert first.run(5.0) == second.run(5.0)
    assert first.world.records.trace == second.world.records.trace
    assert first.world.dice.getstate() == second.world.dice.getstate()


def test_there_is_trouble_of_every_kind(fixed_seeds: tuple[int, ...]) -> None:
    counts = sum((run(seed) for seed in fixed_seeds), Counter[str]())
    wanted = """
        channels deleted, connections cut, connections refused, publisher CLOSED, publisher GAVE_UP,
        publisher GONE, publisher LEFT, publisher crashes, requests repeated, segments cut short,
        segments deleted, segments dropped, segments empty, segments left, segments lost,
        segments skipped, segments truncated, server errors, server restarts, subscriber CLOSED,
        subscriber GAVE_UP, subscriber GONE, subscriber LEFT
    """
    assert [name for name in map(str.strip, wanted.split(",")) if not counts[name]] == []
    assert counts["segments confirmed"] > 0.9 * counts["segments begun"]


# The judges themselves


def test_a_failure_names_its_seed_and_tells_what_went_before() -> None:
    simulation = Simulation(5)
    simulation.world.clock.after(400.0, lambda: require(kept=False, promise="a bird flies"))
    with pytest.raises(Failed, match=r"(?s)OpenGet.*after 400.*a bird flies.*--seed 5"):
        simulation.run(10.0)


def test_bytes_that_are_not_what_was_published_are_noticed() -> None:
    book = Book()
    one, other = book.begin(author=1), book.begin(author=1)
    piece = one.piece(2)
    assert book.arrived(piece, 0, None) == one.serial
    with pytest.raises(Violation, match="appended"):
        book.arrived(other.piece(1), len(piece), one.serial)
    with pytest.raises(Violation, match="out of order"):
        book.arrived(piece, len(piece), one.serial)
    assert book.source(piece[:-3]) is one
    for wrong in (piece[CELL:] + piece[:CELL], piece[:CELL] * 2):
        with pytest.raises(Violation, match="not what was published"):
            book.source(wrong)
    one.sent = len(piece)
    with pytest.raises(Violation, match="no server had"):
        book.source(piece + one.piece(1))


def test_a_circle_is_noticed() -> None:
    clock = Clock()

    def again() -> None:
        clock.after(0.0, again)

    again()
    with pytest.raises(Livelock):
        clock.run(1.0)
    assert clock.events <= 2 * CROWD


def test_an_alarm_rings_when_it_was_last_set_to() -> None:
    clock, rung = Clock(), list[float]()
    alarm = Alarm(clock, lambda: rung.append(clock.now))
    alarm.set(5.0)
    alarm.set(2.0)
    clock.run(3.0)
    alarm.set(4.0)
    alarm.set(7.0)
    clock.run(9.0)
    assert rung == [2.0, 7.0]


def test_what_a_machine_keeps_is_weighed() -> None:
    machine = Publisher()
    before = weight(machine)
    machine._deletions._queue += range(50)
    assert weight(machine) == before + 50
