"""How many frames go through, for any clock."""

from __future__ import annotations

import random
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trickle_trio.stream.throttle import EARLY, Throttle

rates = st.integers(1, 60)
gaps = st.lists(st.floats(0, 2), min_size=1, max_size=200)


def passed(rate: float, times: list[float]) -> list[float]:
    throttle = Throttle(rate)
    return [time for time in times if throttle.passes(time)]


@given(rates, gaps)
def test_never_more_than_the_rate_in_any_stretch(rate: int, steps: list[float]) -> None:
    times = passed(rate, list(accumulate(steps)))
    for begin in range(len(times)):
        for end in range(begin + 1, len(times)):
            # One frame belongs to the beginning, another one may have been early.
            assert end - begin <= (times[end] - times[begin]) * rate + 1 + 1e-6


@given(rates, st.lists(st.floats(0.01 - EARLY, EARLY - 0.01), min_size=2, max_size=300))
def test_a_source_at_the_rate_loses_nothing_however_it_jitters(
    rate: int, jitter: list[float]
) -> None:
    times = [(index + off) / rate for index, off in enumerate(jitter)]
    assert passed(rate, times) == times


@pytest.mark.parametrize(
    ("source", "rate"), [(30, 24), (25, 24), (60, 24), (60, 25), (50, 30), (29.97, 24), (60, 59)]
)
def test_a_faster_source_comes_down_to_the_rate_and_not_below(source: float, rate: int) -> None:
    times = [index / source for index in range(round(60 * source))]
    assert len(passed(rate, times)) == pytest.approx(60 * rate, abs=2)


@pytest.mark.parametrize("source", [25, 29.97, 30, 50, 60])
def test_nor_when_its_clock_jitters(source: float) -> None:
    dice = random.Random(1)
    times = [(index + dice.uniform(-0.2, 0.2)) / source for index in range(round(60 * source))]
    assert len(passed(24, times)) >= 0.99 * 24 * 60


@pytest.mark.parametrize(("source", "every"), [(30, 5), (25, 25)])
def test_the_default_rate_leaves_out_every_so_many_th_frame(source: int, every: int) -> None:
    taken = passed(24, [index / source for index in range(20 * source)])
    left_out = sorted(set(range(20 * source)) - {round(time * source) for time in taken})
    assert {b - a for a, b in pairwise(left_out)} == {every}


@pytest.mark.parametrize(("source", "rate"), [(24, 30), (1, 60), (30, 30), (29.97, 30)])
def test_a_slower_source_loses_nothing(source: float, rate: int) -> None:
    times = [index / source for index in range(round(60 * source))]
    assert passed(rate, times) == times


def test_a_pause_is_not_made_up_for() -> None:
    before = [index / 60 for index in range(60)]
    behind = [100 + index / 60 for index in range(60)]
    assert len(passed(24, behind)) <= 25
    assert len(passed(24, before + behind)) <= len(passed(24, before)) + 25


def test_a_changed_rate_holds_from_the_next_frame_on() -> None:
    throttle = Throttle(1)
    assert [throttle.passes(time) for time in (0.0, 0.1, 0.2)] == [True, False, False]
    throttle.rate = 10
    later = [1 + index / 10 for index in range(20)]
    assert all(throttle.passes(time) for time in later)
