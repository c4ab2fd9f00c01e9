"""The arithmetic of ``trickle bench``, and how its figures are laid out."""

from __future__ import annotations

import json
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trickle_trio.bench.figures import (
    Capacity,
    Cost,
    Delays,
    Handled,
    LiveTurn,
    Report,
    SizeFigures,
    Theirs,
    Turn,
    middle,
    percentile,
)
from trickle_trio.bench.report import table
from trickle_trio.bench.run import step_of

VALUES = st.lists(st.floats(0, 1e4), min_size=1)


def live(**changes: object) -> LiveTurn:
    usual = {
        "cpu_ms": 10.0,
        "pictures": 4,
        "lost": 0,
        "doubled": 0,
        "delays": (9.0, 10.0, 11.0, 30.0),
        "first_output_ms": 120.0,
        "memory_mb": 100.0,
        "threads": {"event loop": 1.5, "decode": 2.5, "encode": 5.5, "others": 0.5},
        "stages": {"decode": 3.0, "handler": 0.25, "encode": 6.0, "sound handler": 1.0},
    }
    return LiveTurn(**{**usual, **changes})  # type: ignore[arg-type]  # as many kinds as names


@given(VALUES, st.floats(0.01, 1))
def test_a_percentile_is_a_value_that_so_many_do_not_exceed(
    values: list[float], share: float
) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) < share * len(values) + 1e-9


def test_percentiles_of_a_hundred() -> None:
    hundred = range(1, 101)
    assert [percentile(hundred, share) for share in (0.5, 0.95, 0.99, 1)] == [50, 95, 99, 100]
    assert percentile([], 0.5) is None


@given(VALUES)
def test_the_middle_passes_over_what_is_not_there(values: list[float]) -> None:
    assert middle([None, *values, None]) == median(values)
    assert middle([None]) is None


def test_a_ratio_is_ours_to_theirs() -> None:
    assert Turn(12.0, 13.0, 8.0).ratio == 1.5
    assert Turn(12.0, 13.0, None).ratio is None
    assert Turn(None, None, 8.0).ratio is None
    assert Turn(12.0, 13.0, 0.0).ratio is None
    assert Turn(12.0, 13.0, 8.0, 10.0).paced_ratio == 1.2
    assert Turn(12.0, 13.0, 8.0).paced_ratio is None


def test_the_ratio_is_the_median_of_ratios_and_not_a_ratio_of_medians() -> None:
    """A machine that is slow for one turn is so for both."""
    turns = [
        Turn(10, 10, 10, 20),
        Turn(40, 40, 20, 50),
        Turn(33, 33, 30, 30),
    ]
    cost = Cost.of(turns)
    assert (cost.cpu_ms, cost.ffmpeg_cpu_ms, cost.ffmpeg_paced_cpu_ms) == (33, 20, 30)
    assert cost.ratio == pytest.approx(1.1)
    assert cost.paced_ratio == 0.8


def test_turns_without_ffmpeg_have_no_ratio() -> None:
    handled = Handled.of([live(), live(cpu_ms=12.0)], [Theirs(None, None), Theirs(None, None)])
    assert handled.cost == Cost(11.0, 9.25, None, None, None, None)
    assert handled.pictures == 8
    assert handled.latency_ms == Delays(10.0, 30.0, 30.0)


def test_the_clock_of_a_picture_is_that_of_its_own_stations() -> None:
    assert live().wall_ms == 9.25
    assert live(stages={}).wall_ms is None


@pytest.mark.parametrize(
    ("turn", "is_good"),
    [
        (live(), True),
        (live(lost=1), False),
        (live(delays=(200.0,) * 99 + (201.0,)), True),
        (live(delays=(200.0,) * 98 + (201.0,) * 2), False),
        (live(delays=()), False),
    ],
)
def test_streams_are_too_many_when_one_loses_or_is_late(turn: LiveTurn, *, is_good: bool) -> None:
    assert step_of(2, turn).is_good is is_good


def report(*turns: LiveTurn, ffmpeg: float | None = 8.0) -> Report:
    paced = ffmpeg and ffmpeg + 2
    handled = Handled.of(turns, [Theirs(ffmpeg, paced)] * len(turns))
    figures = SizeFigures(
        size="720p",
        width=1280,
        height=720,
        bit_rate=2_000_000,
        decode=Cost.of([Turn(2.0, 2.0, ffmpeg)]),
        passthrough=handled,
        tint=handled,
    )
    steps = (step_of(1, turns[0]), step_of(2, live(lost=3)))
    return Report(
        cpus=2,
        machine="Linux x86_64",
        python="3.11.7",
        ffmpeg="5.1" if ffmpeg else "not installed",
        footage="the built-in scenery",
        fps=30,
        seconds=2.0,
        turns=len(turns),
        sizes=(figures,),
        capacity=Capacity(size="720p", streams=1, steps=steps),
    )


def test_the_table_has_a_row_for_each_part_in_columns() -> None:
    lines = table(report(live())).splitlines()
    assert max(map(len, lines)) <= 100
    assert "720p  decode only     2.00     2.00    8.00   0.25      -      -" in lines
    assert "      passthrough    10.00     9.25    8.00   1.25  10.00   1.00" in lines
    assert "720p  passthrough         1.50    2.50    5.50    0.50" in lines
    assert any(line.split()[:5] == ["float32", "tint", "10.0", "30.0", "30.0"] for line in lines)
    assert "Streams of 720p at once, passthrough, in one service: 1" in lines


def test_the_table_shows_what_was_not_measured_as_such() -> None:
    lines = table(report(live(first_output_ms=None), ffmpeg=None)).splitlines()
    assert lines[1] == "Python 3.11.7, ffmpeg not installed"
    assert "720p  decode only     2.00     2.00       -      -    -      -" in lines


def test_the_report_is_json() -> None:
    told = json.loads(json.dumps(report(live()).as_object()))
    assert told["sizes"][0]["passthrough"]["latency_ms"] == {"p50": 10.0, "p95": 30.0, "p99": 30.0}
    assert [step["is_good"] for step in told["capacity"]["steps"]] == [True, False]


def test_nothing_came_out_when_all_pictures_of_a_stream_are_lost() -> None:
    assert report(live(lost=3)).came_out
    assert not report(live(lost=4)).came_out
