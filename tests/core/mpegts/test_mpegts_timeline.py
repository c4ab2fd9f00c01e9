from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trickle_core.mpegts.timeline import Timeline, TimelineSettings
from trickle_core.mpegts.units import CLOCK_RATE, CLOCK_WRAP, AccessUnit, Codec, ElementaryStream

VIDEO = ElementaryStream(0x100, Codec.H264)
AUDIO = ElementaryStream(0x101, Codec.AAC)
SECOND = ElementaryStream(0x102, Codec.AAC)

S = CLOCK_RATE
PICTURE = S // 30
FRAME = 1920
SLACK = S // 25


def unit(time: int, stream: ElementaryStream = VIDEO, *, shown: int | None = None) -> AccessUnit:
    pts = time if shown is None else shown
    return AccessUnit(stream, b"", pts % CLOCK_WRAP, time % CLOCK_WRAP)


def placed(timeline: Timeline, times: Iterable[int], stream: ElementaryStream = VIDEO) -> list[int]:
    return [timeline.place(unit(time, stream)).dts for time in times]


def run(start: int, count: int, period: int = PICTURE) -> range:
    return range(start, start + count * period, period)


def test_the_first_epoch_keeps_its_times() -> None:
    timeline = Timeline()
    assert placed(timeline, run(126_000, 50)) == list(run(126_000, 50))
    assert placed(timeline, run(125_000, 50, FRAME), AUDIO) == list(run(125_000, 50, FRAME))


def test_all_but_the_times_stays() -> None:
    given_ = AccessUnit(VIDEO, b"data", 5, 3, key=True, damaged=True, lost_before=True)
    assert Timeline().place(given_) == given_


def test_a_pts_keeps_its_distance() -> None:
    timeline = Timeline()
    out = timeline.place(unit(CLOCK_WRAP - 3, shown=CLOCK_WRAP + 6000))
    assert (out.dts, out.pts) == (CLOCK_WRAP - 3, CLOCK_WRAP + 6000)


@pytest.mark.parametrize("shown", [-1, -S, 11 * S])
def test_a_pts_that_cannot_be_is_the_dts(shown: int) -> None:
    out = Timeline().place(unit(5 * S, shown=5 * S + shown))
    assert (out.dts, out.pts) == (5 * S, 5 * S)


def test_clocks_wrap() -> None:
    timeline = Timeline()
    start = CLOCK_WRAP - 10 * PICTURE - 7
    assert placed(timeline, run(start, 50)) == list(run(start, 50))
    # Sound crosses later, and its times are unwrapped all the same.
    assert placed(timeline, run(start, 90, FRAME), AUDIO) == list(run(start, 90, FRAME))


def test_clocks_wrap_again_and_again() -> None:
    timeline = Timeline(TimelineSettings(gap=CLOCK_WRAP // 4))
    steps = [n * (CLOCK_WRAP // 5) for n in range(20)]
    assert placed(timeline, steps) == steps


@pytest.mark.parametrize("gap", [S, 9 * S, 10 * S])
def test_a_gap_is_kept(gap: int) -> None:
    timeline = Timeline()
    assert placed(timeline, [0, PICTURE, PICTURE + gap]) == [0, PICTURE, PICTURE + gap]


@pytest.mark.parametrize("jump", [10 * S + 1, 3600 * S, CLOCK_WRAP // 2, -SLACK - 1, -S, -3600 * S])
def test_a_jump_goes_on_a_frame_later(jump: int) -> None:
    timeline = Timeline()
    period = 3600
    placed(timeline, run(20 * S, 10, period))
    last = 20 * S + 9 * period
    times = [last + jump, last + jump + period, last + jump + 2 * period]
    assert placed(timeline, times) == [last + n * period for n in (1, 2, 3)]


def test_what_goes_on_is_behind_what_was_to_be_shown() -> None:
    timeline = Timeline()
    timeline.place(unit(0, shown=9000))
    out = timeline.place(unit(50 * S, shown=50 * S + 6000))
    assert (out.dts, out.pts) == (9000 + PICTURE, 15_000 + PICTURE)


def test_what_goes_on_is_behind_all_streams() -> None:
    timeline = Timeline()
    placed(timeline, [0, PICTURE])
    placed(timeline, run(0, 40, FRAME), AUDIO)
    assert placed(timeline, [50 * S]) == [39 * FRAME + PICTURE]


@pytest.mark.parametrize("jump", [-5 * S, -S // 2, 20 * S, 12 * 3600 * S])
@pytest.mark.parametrize("lag", [-S // 2, 0, S // 2, S])
def test_streams_cross_a_jump_at_different_moments(jump: int, lag: int) -> None:
    timeline = Timeline()
    offsets: dict[int, set[int]] = {VIDEO.pid: set(), AUDIO.pid: set()}
    for arrived in range(0, 8 * S, FRAME):
        for stream in (VIDEO, AUDIO):
            content = 30 * S + arrived - (lag if stream is AUDIO else 0)
            raw = content + (jump if content > 33 * S else 0)
            out = timeline.place(unit(raw, stream)).dts
            if content > 33 * S:
                offsets[stream.pid].add(out - raw)
    # Once both are across, one offset holds for both; before, the epoch may have to move once.
    assert offsets[AUDIO.pid] & offsets[VIDEO.pid]
    assert all(len(found) <= 2 for found in offsets.values())


def test_the_sound_left_over_moves_the_pictures_that_went_ahead() -> None:
    timeline = Timeline()
    placed(timeline, run(100 * S, 30))
    placed(timeline, [100 * S], AUDIO)
    assert placed(timeline, run(0, 3)) == list(run(101 * S, 3))
    # Half a second more of the old sound than there were pictures.
    placed(timeline, run(100 * S + FRAME, 69, FRAME), AUDIO)
    last = 100 * S + 69 * FRAME
    assert placed(timeline, [0], AUDIO) == [last + FRAME]
    assert placed(timeline, [3 * PICTURE]) == [last + FRAME + 3 * PICTURE]


def test_a_stream_that_was_silent_belongs_to_the_others() -> None:
    timeline = Timeline()
    placed(timeline, [0], AUDIO)
    placed(timeline, run(0, 30 * 60))
    assert placed(timeline, [60 * S, 60 * S + FRAME], AUDIO) == [60 * S, 60 * S + FRAME]


def test_a_stream_that_joins_belongs_to_the_others() -> None:
    timeline = Timeline()
    placed(timeline, run(50 * S, 10))
    placed(timeline, run(0, 10))
    offset = 50 * S + 10 * PICTURE
    assert placed(timeline, [FRAME], AUDIO) == [FRAME + offset]


@pytest.mark.parametrize("back", [S // 2, S, 3 * S])
def test_a_stream_that_left_comes_back_to_where_the_others_are(back: int) -> None:
    """Its own last time is near, and would take it for its own clock that goes on."""
    timeline = Timeline()
    placed(timeline, run(S, 60))
    placed(timeline, run(S, 90, FRAME), AUDIO)
    timeline.leave(AUDIO.pid)
    placed(timeline, run(3 * S, 60))
    again = 5 * S - back
    [picture] = placed(timeline, [again])
    sound = placed(timeline, run(again, 90, FRAME), AUDIO)
    assert picture == 5 * S
    assert sound == list(run(picture, 90, FRAME))


def test_a_stream_that_takes_the_place_of_others_goes_on_behind_them() -> None:
    """Its clock is near to theirs, and begins before their end: it is another publisher's."""
    for start, expected in ((4 * S, 4 * S), (2 * S, 3 * S + PICTURE)):
        timeline = Timeline()
        placed(timeline, run(3 * S - 9 * FRAME, 10, FRAME), AUDIO)
        timeline.leave(AUDIO.pid)
        [first, *_] = placed(timeline, run(start, 30))
        assert first == expected
        timeline.place(unit(start + S))
        [again] = placed(timeline, [start + S], AUDIO)
        assert again == first + S


def test_leaving_before_anything_came_means_nothing() -> None:
    timeline = Timeline()
    timeline.leave(AUDIO.pid)
    assert placed(timeline, run(S, 3), AUDIO) == list(run(S, 3))


def test_a_stream_that_joins_with_a_clock_of_its_own() -> None:
    timeline = Timeline()
    placed(timeline, run(0, 10))
    assert placed(timeline, run(500 * S, 3, FRAME), AUDIO) == list(
        run(9 * PICTURE + FRAME, 3, FRAME)
    )
    # Each goes on with its own.
    assert placed(timeline, run(10 * PICTURE, 3)) == list(run(10 * PICTURE, 3))
    assert placed(timeline, [500 * S + 3 * FRAME], AUDIO) == [9 * PICTURE + 4 * FRAME]


@pytest.mark.parametrize("back", [0, 1, PICTURE, SLACK])
def test_a_small_step_back_is_put_a_tick_behind(back: int) -> None:
    timeline = Timeline()
    assert placed(timeline, [S, S - back, S + PICTURE]) == [S, S + 1, S + PICTURE]


def test_a_nudged_picture_is_shown_when_it_should_be() -> None:
    timeline = Timeline()
    timeline.place(unit(S, shown=S))
    out = timeline.place(unit(S - 100, shown=S + 500))
    assert (out.dts, out.pts) == (S + 1, S + 500)
    out = timeline.place(unit(S - 50, shown=S - 50))
    assert (out.dts, out.pts) == (S + 2, S + 2)


def test_a_clock_that_creeps_backwards_moves_the_epoch() -> None:
    timeline = Timeline()
    out = placed(timeline, range(5 * S, 0, -900))
    assert all(b > a for a, b in pairwise(out))
    # Sound that follows the same clock is still with its picture.
    assert placed(timeline, [900], AUDIO)[0] - out[-1] <= SLACK


@pytest.mark.parametrize("false", [500 * S, 5000 * S, -S, -3 * S])
def test_one_false_time_stamp_does_not_part_sound_and_picture(false: int) -> None:
    timeline = Timeline()
    placed(timeline, run(10 * S, 30))
    placed(timeline, run(10 * S, 40, FRAME), AUDIO)
    placed(timeline, [10 * S + false])
    # The picture after it returns to its clock, within what the sound was ahead.
    pictures = placed(timeline, run(11 * S, 30))
    sound = placed(timeline, run(10 * S + 40 * FRAME, 40, FRAME), AUDIO)
    assert pictures[-1] - (11 * S + 29 * PICTURE) == sound[-1] - (10 * S + 79 * FRAME)


def test_a_false_time_stamp_taken_for_a_gap_is_mended() -> None:
    timeline = Timeline()
    placed(timeline, run(10 * S, 30))
    placed(timeline, run(10 * S, 45, FRAME), AUDIO)
    placed(timeline, [16 * S])
    content = 11 * S
    apart = []
    for n in range(30 * 5):
        (picture,) = placed(timeline, [content + n * PICTURE])
        sounds = placed(timeline, run(content + n * PICTURE, 2, PICTURE // 2), AUDIO)
        apart.append(abs(picture - sounds[0]))
    # Sound keeps to the old clock for a moment, and follows then.
    assert apart[0] > S
    assert max(apart[30 * 3 :]) <= SLACK


def test_settings_are_checked() -> None:
    for name in ("gap", "slack", "patience"):
        with pytest.raises(ValueError, match=name):
            TimelineSettings(**{name: -1})


# --- any order of things --------------------------------------------------------------------------


@attrs.frozen
class Stretch:
    """Some seconds of an input with a steady clock, and how the clock came there."""

    jump: int
    pictures: int
    period: int
    reordering: int
    hole: int


def stretches() -> st.SearchStrategy[Stretch]:
    small = st.integers(-20 * S, 40 * S)
    return st.builds(
        Stretch,
        jump=st.one_of(small, st.integers(0, CLOCK_WRAP)),
        pictures=st.integers(1, 60),
        period=st.sampled_from([1500, 3000, 3600, 3753]),
        reordering=st.sampled_from([0, 3000, 7200]),
        hole=st.one_of(st.just(0), st.integers(0, 9 * S)),
    )


@attrs.frozen
class Sent:
    """A unit, when it comes, in which stretch it is, and the time of its content in there."""

    at: int
    unit: AccessUnit
    stretch: int
    content: int


def sent(plan: list[Stretch], start: int, lag: int) -> list[Sent]:
    """All units in the order in which they come; sound ``lag`` behind the picture."""
    units: list[Sent] = []
    clock = at = start
    for number, stretch in enumerate(plan):
        clock += stretch.jump
        length = 3 * S + stretch.pictures * stretch.period
        for stream, period in ((VIDEO, stretch.period), (AUDIO, FRAME)):
            late = lag if stream is AUDIO else 0
            more = stretch.reordering if stream is VIDEO else 0
            for content in range(0, length, period):
                hole = stretch.hole if content > length // 2 else 0
                time = content + hole
                coded = unit(clock + time, stream, shown=clock + time + more)
                units.append(Sent(at + time + late, coded, number, time))
        at += length + stretch.hole
        clock += length + stretch.hole
    return sorted(units, key=lambda one: one.at)


def signed(jump: int) -> int:
    return (jump + CLOCK_WRAP // 2) % CLOCK_WRAP - CLOCK_WRAP // 2


def offsets(plan: list[Stretch], start: int, lag: int) -> Iterator[tuple[Sent, AccessUnit]]:
    timeline = Timeline()
    for one in sent(plan, start, lag):
        yield one, timeline.place(one.unit)


plans = st.lists(stretches(), min_size=1, max_size=3)


@given(plan=plans, start=st.integers(0, CLOCK_WRAP - 1), lag=st.integers(-S // 2, S // 2))
def test_any_order_of_gaps_jumps_wraps_and_restarts(
    plan: list[Stretch], start: int, lag: int
) -> None:
    last: dict[int, int] = {}
    moved: dict[tuple[int, int], int] = {}
    first = sent(plan, start, lag)[0].unit.dts
    for one, out in offsets(plan, start, lag):
        pid = out.stream.pid
        assert pid not in last or out.dts > last[pid]
        assert out.pts >= out.dts
        last[pid] = out.dts
        moved[pid, one.stretch] = out.dts - one.content
        other = VIDEO.pid if pid == AUDIO.pid else AUDIO.pid
        # As soon as both are across they are together; after a jump that one of them may take for
        # jitter and the other not, two seconds later.
        jump = signed(plan[one.stretch].jump)
        if (other, one.stretch) in moved and one.content > (S if abs(jump) > S else 5 * S // 2):
            assert abs(moved[other, one.stretch] - moved[pid, one.stretch]) <= SLACK
    # Nothing was put in but real gaps, and what the streams are apart at a jump.
    length = sum(3 * S + s.pictures * s.period + s.hole for s in plan)
    gaps = sum(max(0, signed(s.jump)) for s in plan[1:] if signed(s.jump) <= 10 * S)
    assert max(last.values()) - first <= length + gaps + len(plan) * 3 * S // 2


@given(
    st.lists(
        st.tuples(
            st.integers(0, CLOCK_WRAP), st.integers(-S, S), st.sampled_from([VIDEO, AUDIO, SECOND])
        ),
        max_size=60,
    )
)
def test_any_times_at_all_rise(units: list[tuple[int, int, ElementaryStream]]) -> None:
    timeline = Timeline()
    last: dict[int, int] = {}
    for time, later, stream in units:
        out = timeline.place(unit(time, stream, shown=time + later))
        assert stream.pid not in last or out.dts > last[stream.pid]
        assert 0 <= out.pts - out.dts <= 10 * S
        last[stream.pid] = out.dts
