"""An encoder is left without rate control as long as it stays below its cap, and no longer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trickle_core.mpegts.units import CLOCK_RATE
from trickle_trio.media.rate_control import (
    BUFFER_SECONDS,
    CALM_RATE,
    CALM_SECONDS,
    TOO_FULL,
    LeakyBucket,
    RateWatch,
)

CAP = 900_000

pictures = st.lists(
    st.tuples(
        st.integers(1, 2 * CLOCK_RATE), st.integers(0, 2 * CAP), st.booleans(), st.booleans()
    ),
    max_size=60,
)
"""Ticks since the one before, bits, whether a key picture is due, whether nothing but little ones come."""


def test_a_bucket_drains_steadily_and_no_further_than_its_bottom() -> None:
    bucket = LeakyBucket(rate=100, size=1000)
    assert bucket.level(5 * CLOCK_RATE) == 0
    bucket.pour(250, 5 * CLOCK_RATE)
    assert bucket.level(6 * CLOCK_RATE) == 150
    assert bucket.level(6 * CLOCK_RATE) == 150
    assert bucket.level(9 * CLOCK_RATE) == 0
    bucket.pour(50, 10 * CLOCK_RATE)
    assert bucket.level(10 * CLOCK_RATE) == 50


def test_a_bucket_holds_its_size() -> None:
    bucket = LeakyBucket(rate=100, size=1000)
    bucket.pour(5000, 0)
    assert bucket.level(CLOCK_RATE) == 900


def test_a_stream_below_its_cap_is_never_controlled() -> None:
    watch = RateWatch(CAP)
    for number in range(600):
        pts = number * CLOCK_RATE // 30
        assert not watch.turns(pts, key=number % 30 == 0)
        watch.took(CAP // 2 if number % 30 == 0 else CAP // 60, pts)
    assert not watch.is_controlled


def test_a_burst_is_controlled_from_the_next_picture_on_whatever_that_is() -> None:
    watch = RateWatch(CAP)
    watch.took(int(0.8 * watch.buffer), 0)
    assert watch.turns(1000, key=False)
    assert watch.is_controlled
    assert watch.room(1000) == watch.buffer - int(0.8 * watch.buffer) + CAP * 1000 // CLOCK_RATE
    assert not watch.turns(2000, key=False)


def test_there_is_room_for_a_bit_always() -> None:
    watch = RateWatch(CAP)
    watch.took(10 * watch.buffer, 0)
    assert watch.room(0) == 1


def test_it_is_left_alone_again_at_a_key_picture_after_a_calm_time() -> None:
    watch = RateWatch(CAP)
    watch.took(watch.buffer, 0)
    assert watch.turns(1, key=False)
    seconds = 1
    while not watch.turns(seconds * CLOCK_RATE, key=seconds % 2 == 0):
        watch.took(int(CALM_RATE * CAP / 2), seconds * CLOCK_RATE)
        seconds += 1
    assert not watch.is_controlled
    assert seconds == 2 * CALM_SECONDS


def test_it_stays_controlled_as_long_as_it_is_not_calm() -> None:
    watch = RateWatch(CAP)
    watch.took(watch.buffer, 0)
    assert watch.turns(1, key=False)
    for second in range(1, 100):
        watch.took(int(1.1 * CALM_RATE * CAP), second * CLOCK_RATE)
        assert not watch.turns(second * CLOCK_RATE, key=True)


@given(pictures)
def test_whatever_comes(film: list[tuple[int, int, bool, bool]]) -> None:
    watch = RateWatch(CAP)
    pts, since = 0, 0
    level = 0.0
    for ticks, bits, key, is_small in film:
        pts += ticks
        level = max(0.0, level - CAP * ticks / CLOCK_RATE)
        before = watch.is_controlled
        turned = watch.turns(pts, key=key)
        assert watch.is_controlled is (before ^ turned)
        if not watch.is_controlled:  # never left alone with a buffer that is too full
            assert level <= TOO_FULL * CAP * BUFFER_SECONDS + 1
        if turned and before:
            assert key
            assert pts - since >= CALM_SECONDS * CLOCK_RATE
        elif turned:
            since = pts
        given_bits = bits // 100 if is_small else bits
        watch.took(given_bits, pts)
        level = min(CAP * BUFFER_SECONDS, level + given_bits)
