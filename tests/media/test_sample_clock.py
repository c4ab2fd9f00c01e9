"""The arithmetic of sound's time, on any story."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trickle_trio.media.sample_clock import HEARABLE, LONGEST_SILENCE, STEADY, Join, SampleClock


def test_samples_are_counted_on_from_the_first_stamp() -> None:
    clock = SampleClock(48_000)
    assert clock.join(5000) == (Join.SEAMLESS, 0)
    clock.write(5000, 480)
    assert clock.time_of_next() == 5900
    assert [clock.time_of(index) for index in (-312, 0, 240, 480, 960)] == [
        4415,
        5000,
        5450,
        5900,
        6800,
    ]


def test_how_runs_join() -> None:
    clock = SampleClock(48_000)
    clock.write(0, 48_000)
    due = 90_000
    assert clock.join(due) == (Join.SEAMLESS, 0)
    assert clock.join(due + HEARABLE - 1)[0] is Join.SEAMLESS
    assert clock.join(due - HEARABLE + 1)[0] is Join.SEAMLESS
    assert clock.join(due + HEARABLE) == (Join.SILENCE, 960)
    assert clock.join(due - HEARABLE) == (Join.OVERLAP, 960)
    assert clock.join(due + LONGEST_SILENCE) == (Join.SILENCE, 48_000)
    assert clock.join(due + LONGEST_SILENCE + 1) == (Join.RESTART, 0)
    assert clock.join(-(1 << 40))[0] is Join.OVERLAP


def test_small_differences_are_believed_beyond_a_millisecond() -> None:
    clock = SampleClock(48_000)
    clock.write(0, 480)
    clock.write(900 + STEADY, 480)
    assert clock.time_of_next() == 1800
    clock.write(1800 + STEADY + 1, 480)
    assert clock.time_of(959) == 1798
    assert clock.time_of(960) == 1800 + STEADY + 1
    assert clock.time_of(1440) == clock.time_of_next() == 2700 + STEADY + 1


@given(
    st.sampled_from([8000, 44_100, 48_000]),
    st.lists(
        st.tuples(st.integers(1, 4000), st.integers(-HEARABLE + 1, HEARABLE - 1)),
        min_size=1,
        max_size=40,
    ),
)
def test_no_sample_is_ever_more_than_the_tolerance_off(
    rate: int, runs: list[tuple[int, int]]
) -> None:
    stamps: list[tuple[int, int]] = []
    clock, pts, index = SampleClock(rate), 1000, 0
    for samples, off in runs:
        pts += off if stamps else 0
        stamps.append((index, pts))
        clock.write(pts, samples)
        index += samples
        pts = clock.time_of_next()
    for first, stamp in stamps:
        assert abs(clock.time_of(first) - stamp) <= STEADY + 1
