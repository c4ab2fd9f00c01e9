"""When the loading overlay is shown, decided without a clock."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from trickle_trio.stream.overlay import LONGEST_STEP, OverlayMachine, OverlayState

QUIET, WAITING = OverlayState.QUIET, OverlayState.WAITING
AUTO, MANUAL = OverlayState.SHOWN_AUTO, OverlayState.SHOWN_MANUAL
STEP = 1 / 32
"""Seconds; adds up to whole ones."""


def frames(machine: OverlayMachine, count: int, *, start: float = 0.0) -> list[OverlayState]:
    """What is shown for so many frames, thirty-two a second."""
    return [machine.frame_came(start + index * STEP) for index in range(count)]


def test_it_comes_when_nothing_was_answered_for_as_long_as_it_takes() -> None:
    states = frames(OverlayMachine(1.5), 60)
    assert states == [WAITING] * 48 + [AUTO] * 12


def test_answers_keep_it_away() -> None:
    machine = OverlayMachine(1.5)
    for index in range(300):
        assert machine.frame_came(index * STEP) is WAITING
        if index % 40 == 0:
            assert machine.answered()
            assert machine.state is QUIET


def test_frames_that_are_withheld_are_no_answers() -> None:
    machine = OverlayMachine(1.5)
    states = []
    for index in range(60):
        states.append(machine.frame_came(index * STEP))
        machine.withheld()
    assert states[-1] is AUTO


def test_it_goes_with_the_first_answer() -> None:
    machine = OverlayMachine(1.5)
    frames(machine, 60)
    assert machine.answered()
    assert machine.state is QUIET
    assert frames(machine, 48, start=2.0) == [WAITING] * 48


def test_or_with_so_many_in_a_row_of_which_the_last_is_seen() -> None:
    machine = OverlayMachine(1.5, enough=3)
    frames(machine, 60)
    assert [machine.answered(), machine.answered()] == [False, False]
    machine.withheld()
    assert [machine.answered() for _ in range(5)] == [False, False, True, True, True]


def test_it_comes_again() -> None:
    machine = OverlayMachine(1.5, enough=2)
    for start in (0.0, 10.0, 20.0):
        assert frames(machine, 60, start=start)[-1] is AUTO
        assert [machine.answered() for _ in range(3)] == [False, True, True]


def test_a_pause_of_the_input_is_not_held_against_the_handler() -> None:
    machine = OverlayMachine(1.5)
    frames(machine, 3)
    assert machine.frame_came(1000.0) is WAITING
    assert machine.frame_came(1000.1) is WAITING


def test_nor_is_an_output_that_takes_nothing() -> None:
    machine = OverlayMachine(1.5)
    for index in range(300):
        assert machine.frame_came(index * STEP, held=True) is WAITING
    assert frames(machine, 60, start=10.0)[-1] is AUTO


def test_without_patience_it_never_comes_by_itself() -> None:
    assert AUTO not in frames(OverlayMachine(math.inf), 10_000)


@pytest.mark.parametrize("before", [QUIET, WAITING, AUTO])
def test_shown_by_hand_it_stays_until_it_is_taken_away(before: OverlayState) -> None:
    machine = OverlayMachine(1.5, state=before)
    assert machine.frame_came(0.0, asked=True) is MANUAL
    assert not machine.answered()
    machine.withheld()
    assert machine.frame_came(100.0, asked=True) is MANUAL
    assert machine.frame_came(100.1) is WAITING
    assert machine.answered()


@given(st.floats(0, 10), st.floats(0.001, 0.4))
def test_it_comes_within_a_step_of_its_patience(patience: float, step: float) -> None:
    machine = OverlayMachine(patience)
    shown = next(index for index in range(20_000) if machine.frame_came(index * step) is AUTO)
    assert patience - 1e-6 <= shown * step <= patience + 2 * step


class Lives(RuleBasedStateMachine):
    """Whatever happens in whatever order, beside a model that is only told what matters."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = OverlayMachine(1.5, enough=2)
        self.now = 0.0
        self.asked = False
        self.unanswered = 0.0
        self.in_a_row = 0

    @rule(step=st.sampled_from([0.01, STEP, 0.3, 5.0]), asked=st.booleans(), held=st.booleans())
    def frame(self, step: float, asked: bool, held: bool) -> None:
        self.now += step
        before, self.asked = self.machine.state, asked
        state = self.machine.frame_came(self.now, asked=asked, held=held)
        assert (state is MANUAL) == asked
        assert state is not QUIET
        if before is WAITING:
            self.unanswered = 0.0 if held else self.unanswered + min(step, LONGEST_STEP)
        elif before is not AUTO:
            self.unanswered = 0.0
        if not asked and before is WAITING:
            assert (state is AUTO) == (self.unanswered >= 1.5)
        if state is not before and state.is_shown:
            self.in_a_row = 0

    @rule()
    def answer(self) -> None:
        before = self.machine.state
        self.in_a_row += 1
        is_seen = self.machine.answered()
        assert is_seen == (before is not MANUAL and (before is not AUTO or self.in_a_row >= 2))
        if is_seen:
            assert self.machine.state is QUIET

    @rule()
    def withhold(self) -> None:
        self.in_a_row = 0
        before = self.machine.state
        self.machine.withheld()
        assert self.machine.state is before

    @precondition(lambda self: not self.asked)
    @rule()
    def two_answers_always_end_it(self) -> None:
        self.machine.answered()
        assert self.machine.answered()
        self.in_a_row += 2

    @invariant()
    def it_is_shown_by_hand_only_when_it_was_asked_for(self) -> None:
        assert self.asked or self.machine.state is not MANUAL


TestLives = Lives.TestCase
