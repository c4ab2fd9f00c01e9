"""Each part of the benchmark program runs, with counts too small to say anything."""

from __future__ import annotations

import json
from functools import partial

import pytest

from tests.benchmarks import core, early, fanout, leftovers, protocol, small
from tests.benchmarks.report import Demand, Figure, Pair, compared, percentile


def good(figures: list[Figure], *names: str) -> None:
    """Those that hold at any speed."""
    for name in names:
        found = [figure for figure in figures if name in figure.name]
        assert found
        assert all(figure.is_good for figure in found), found


def test_small_segments() -> None:
    figures = small.run(count=10, rounds=1)
    assert len(figures) == 12
    assert all(figure.value > 0 for figure in figures)


def test_early_answers() -> None:
    figures = early.run(count=2)
    assert len(figures) == 16
    assert all(figure.value > 0 for figure in figures)


def test_the_relay_under_load() -> None:
    figures = fanout.run(readers=(2,), seconds=1, megabytes=2, channels=3)
    good(figures, "bytes lost")
    assert len(figures) == 9


def test_the_core_alone() -> None:
    figures = core.run(events=300, rounds=1, minutes=1)
    assert len(figures) == 5
    assert all(figure.value > 0 for figure in figures)


def test_what_cancelled_requests_leave() -> None:
    good(leftovers.run(count=30), "cancelled requests")


def test_it_prints_lines_or_an_object(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(protocol.PARTS, "core", partial(core.run, events=300, rounds=1, minutes=1))
    assert protocol.main(["core"]) == 0
    assert "Subscriber" in capsys.readouterr().out
    assert protocol.main(["core", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["figures"]) == 5
    with pytest.raises(SystemExit):
        protocol.main(["nonsense"])


def test_figures_are_held_against_what_is_asked() -> None:
    assert Figure("a", "b", 5, "c").is_good
    assert Figure("a", "b", 5, "c", Demand("<", 6)).is_good
    slow = Figure("a", "b", 5, "c", Demand(">=", 6))
    assert not slow.is_good
    assert "MISSED" in slow.line()
    assert slow.as_object()["good"] is False
    assert percentile([3, 1, 2], 0.5) == 2
    ratio, cpu, ours, theirs = compared("a", "b", 10, [Pair((2, 1), (1, 2))])
    assert (ratio.value, cpu.value, ours.value, theirs.value) == (0.5, 2, 5, 10)
