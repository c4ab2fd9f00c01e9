"""How a stream is: the state that its numbers make, at and around every threshold."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from trickle_trio.stream.meters import Meters
from trickle_trio.stream.states import Flow, Pulse, StreamState

GOOD = Pulse(
    age=60.0, input_fps=30.0, output_fps=24.0, input_gap=0.03, without_output=0.04, most=60.0
)


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({}, StreamState.ONLINE),
        ({"input_fps": 15.0, "output_fps": 10.0}, StreamState.ONLINE),
        ({"input_fps": 14.9}, StreamState.DEGRADED_INPUT),
        ({"input_gap": 2.0}, StreamState.ONLINE),
        ({"input_gap": 2.1}, StreamState.DEGRADED_INPUT),
        ({"input_gap": 60.0, "without_output": 60.0}, StreamState.DEGRADED_INPUT),
        ({"output_fps": 10.0}, StreamState.ONLINE),
        ({"output_fps": 9.9}, StreamState.DEGRADED_INFERENCE),
        ({"output_fps": 0.0, "without_output": 4.9}, StreamState.DEGRADED_INFERENCE),
        ({"output_fps": 0.0, "without_output": 5.0}, StreamState.ERROR),
        ({"input_fps": 5.0, "output_fps": 0.0, "without_output": 5.0}, StreamState.ERROR),
        ({"output_fps": 5.0, "most": 5.0}, StreamState.ONLINE),
        ({"output_fps": 3.9, "most": 5.0}, StreamState.DEGRADED_INFERENCE),
        ({"age": 1.0, "input_gap": None, "input_fps": 0.0, "output_fps": 0.0}, StreamState.ONLINE),
        ({"age": 2.1, "input_gap": None, "input_fps": 0.0}, StreamState.DEGRADED_INPUT),
    ],
)
def test_the_thresholds(change: dict[str, Any], state: StreamState) -> None:
    assert evolve(GOOD, **change).state is state


SECONDS = st.floats(0, 1000)
RATES = st.floats(0, 240)


@given(st.builds(Pulse, age=SECONDS, input_fps=RATES, output_fps=RATES,
                 input_gap=st.none() | SECONDS, without_output=SECONDS, most=st.floats(1, 60)))  # fmt: skip
def test_more_output_never_makes_it_worse(pulse: Pulse) -> None:
    better = evolve(pulse, output_fps=math.inf, without_output=0.0)
    order = list(StreamState)
    assert order.index(better.state) <= order.index(pulse.state)


def test_what_passes_at_an_end() -> None:
    assert Flow.of(None, has_channel=False) is Flow.NONE
    assert Flow.of(None, has_channel=True) is Flow.WAITING
    assert Flow.of(0.5, has_channel=True) is Flow.FLOWING
    assert Flow.of(2.5, has_channel=True) is Flow.SILENT
    assert Flow.of(0.5, has_channel=False) is Flow.FLOWING, "frames that the processor sends itself"


class TestPulse:
    """What a stream's meters make of what they counted."""

    async def test_nothing_yet(self, autojump_clock: MockClock) -> None:
        meters = Meters()
        await trio.sleep(3)
        assert meters.pulse(30).input_gap is None
        assert meters.pulse(30).without_output == 0
        assert meters.pulse(30).state is StreamState.DEGRADED_INPUT

    @staticmethod
    async def run(meters: Meters, frames: int, *, output: bool = True, sound: bool = False) -> None:
        for _ in range(frames):
            if sound:
                meters.sound_arrived()
            else:
                meters.picture_arrived(0)
            await trio.sleep(1 / 30)
            if output and sound:
                meters.sound_left()
            elif output:
                meters.picture_left(0)

    @pytest.mark.parametrize("sound", [False, True])
    async def test_a_good_stream(self, autojump_clock: MockClock, sound: bool) -> None:
        meters = Meters()
        await self.run(meters, 120, sound=sound)
        assert meters.pulse(60).state is StreamState.ONLINE
        await self.run(meters, 90, output=False, sound=sound)
        assert meters.pulse(60).state is StreamState.DEGRADED_INFERENCE
        await self.run(meters, 90, output=False, sound=sound)
        assert meters.pulse(60).state is StreamState.ERROR

    async def test_an_input_that_comes_back_gives_the_handler_its_time(
        self, autojump_clock: MockClock
    ) -> None:
        meters = Meters()
        await self.run(meters, 120)
        await trio.sleep(60)
        assert meters.pulse(60).state is StreamState.DEGRADED_INPUT
        await self.run(meters, 90, output=False)
        assert meters.pulse(60).without_output == pytest.approx(3, abs=0.1)
        assert meters.pulse(60).state is StreamState.DEGRADED_INFERENCE
