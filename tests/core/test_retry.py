"""Pauses that grow, and the moment to give up."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trickle_core.retry import Backoff, RetryPolicy, no_jitter

POLICIES = st.builds(
    RetryPolicy,
    first=st.floats(0.001, 1e6),
    growth=st.floats(1, 100),
    longest=st.floats(0.001, 1e6),
    spread=st.floats(0, 0.99),
)


def test_pauses_grow_up_to_the_longest() -> None:
    policy = RetryPolicy(first=0.1, growth=2, longest=1.0)
    pauses = [policy.pause(failures, no_jitter) for failures in range(1, 7)]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_jitter_takes_off_up_to_the_spread() -> None:
    policy = RetryPolicy(first=1.0, spread=0.5)
    assert policy.pause(1, lambda: 0.0) == 1.0
    assert policy.pause(1, lambda: 0.5) == 0.75
    assert policy.pause(1, lambda: 1.0) == 0.5


@given(POLICIES, st.integers(1, 10**9), st.floats(0, 1, exclude_max=True))
def test_a_pause_is_never_nothing_and_never_too_long(
    policy: RetryPolicy, failures: int, dice: float
) -> None:
    assert 0 < policy.pause(failures, lambda: dice) <= policy.longest


@given(POLICIES, st.integers(1, 100))
def test_without_jitter_pauses_never_shrink(policy: RetryPolicy, failures: int) -> None:
    assert policy.pause(failures, no_jitter) <= policy.pause(failures + 1, no_jitter)


@pytest.mark.parametrize(
    "wrong",
    [
        {"first": 0},
        {"first": math.nan},
        {"growth": 0.5},
        {"growth": 1e6},  # its powers leave the range of a float
        {"longest": 0},
        {"spread": 1},
        {"spread": -0.1},
        {"give_up_after": -1},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RetryPolicy(**wrong)


def test_failures_are_counted_from_the_first() -> None:
    backoff = Backoff(RetryPolicy(first=1, growth=2, longest=8, give_up_after=10))
    assert backoff.failed(100) == 101
    assert backoff.failed(101) == 103
    assert backoff.failed(109.9) == 113.9
    assert backoff.failed(110) is None


def test_success_forgets_them() -> None:
    backoff = Backoff(RetryPolicy(first=1, give_up_after=10))
    assert backoff.failed(100) == 101
    backoff.succeeded()
    assert backoff.failed(200) == 201


def test_being_kept_waiting_for_longer_than_the_longest_pause_is_a_success() -> None:
    backoff = Backoff(RetryPolicy(first=1, longest=5, give_up_after=10))
    assert backoff.failed(0) == 1
    backoff.served(4.9)
    assert backoff.failed(10) is None
    backoff.served(5)
    assert backoff.failed(20) == 21


def test_without_patience_the_first_failure_is_the_last() -> None:
    assert Backoff(RetryPolicy(give_up_after=0)).failed(5) is None


def test_endless_patience_never_gives_up() -> None:
    backoff = Backoff(RetryPolicy(give_up_after=math.inf))
    assert [backoff.failed(day * 86_400.0) for day in range(1000)].count(None) == 0
