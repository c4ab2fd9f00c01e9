"""The user's handler in the line: what it may return, how long it may take, how many at once."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import trio
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from trickle_trio.media.frames import VideoFrame
from trickle_trio.processor import (
    HandlerError,
    Handlers,
    Withheld,
    WrongReturnError,
    as_processor,
    video_handler,
)
from trickle_trio.stream.ending import End, StreamEnds
from trickle_trio.stream.events import Events
from trickle_trio.stream.handing import Queue
from trickle_trio.stream.meters import Drop, Meters
from trickle_trio.stream.overlay import Overlay
from trickle_trio.stream.process import PictureHandling
from trickle_trio.stream.reports import WINDOW, FaultReports
from trickle_trio.stream.settings import Pace, StreamPolicy
from trickle_trio.stream.throttle import Throttle
from trickle_trio.stream.times import RisingTimes
from trickle_trio.stream.waiting import WaitingFrames
from trickle_trio.stream.watchdog import Watchdog
from trickle_trio.stream.wishes import Wishes

STEP = 3000
POLICY = StreamPolicy(handler_timeout=2.0, handler_strikes=3)


def frame(index: int, size: tuple[int, int] = (32, 16)) -> VideoFrame:
    pixels = np.full((size[1], size[0], 3), index % 256, np.uint8)
    return VideoFrame.from_ndarray(pixels, index * STEP)


@define
class Bench:
    """The station with hand-made channels around it."""

    handlers: Handlers
    wishes: Wishes = field(factory=lambda: Wishes(None, Throttle(1000), keep_size=False))
    policy: StreamPolicy = POLICY
    meters: Meters = field(factory=Meters)
    reports: list[tuple[str, BaseException]] = field(factory=list)
    out: list[VideoFrame] = field(factory=list)

    async def run(self, frames: Sequence[VideoFrame], room: int = 0) -> None:
        """Put all the frames in, to the end; what comes out is in ``out``."""
        waiting = WaitingFrames(max(len(frames), 1), Pace.EVERY_FRAME, self.meters)
        with waiting:
            for each in frames:
                await waiting.put(each)
        processed_out = Queue[VideoFrame](room)
        processed_in = processed_out.sender()
        station = self.station()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(station.run, waiting, processed_in)
            self.out.extend([each async for each in processed_out])

    def station(self) -> PictureHandling:
        def report(source: str, error: BaseException) -> None:
            self.reports.append((source, error))

        watchdog = Watchdog(self.policy, report)
        times = RisingTimes()
        overlay = Overlay(None, Pace.EVERY_FRAME, self.wishes, times, self.meters)
        return PictureHandling(self.handlers, self.wishes, self.meters, watchdog, overlay, times)

    def times(self) -> list[int]:
        return [each.timestamp // STEP for each in self.out]

    def greys(self) -> list[int]:
        return [int(each.to_ndarray()[0, 0, 0]) for each in self.out]


async def through(handler: Callable[..., Any], count: int = 5, **options: Any) -> Bench:
    bench = Bench(as_processor(handler), **options)
    await bench.run([frame(index) for index in range(count)])
    return bench


async def test_no_frame_is_kept_while_the_next_one_is_waited_for() -> None:
    """As a tensor it has eleven megabytes; so has what came of it."""
    made: list[weakref.ref[Any]] = []

    async def brighter(given: VideoFrame) -> VideoFrame:
        result = given.to_ndarray() + np.float32(0)
        made.append(weakref.ref(result))
        return given.replace_tensor(result)

    bench = Bench(as_processor(brighter))
    waiting = WaitingFrames(2, Pace.LIVE, bench.meters)
    processed_out = Queue[VideoFrame](0)
    processed_in = processed_out.sender()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.station().run, waiting, processed_in)
        pixels = np.zeros((16, 32, 3), np.uint8)
        made.append(weakref.ref(pixels))
        await waiting.put(VideoFrame.from_ndarray(pixels))
        del pixels
        await anext(processed_out)
        await wait_all_tasks_blocked()
        assert [each() for each in made] == [None, None]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("first", "later", "gone"), [(0.0, 0.2, []), (0.2, 0.0, [1, 2, 3, 4, 5]), (0.01, 0.0, [])]
)
async def test_a_first_call_that_takes_long_is_followed_by_the_newest_frame(
    autojump_clock: MockClock, first: float, later: float, gone: list[int]
) -> None:
    """Live, thirty frames a second; ``later``: how long the fifth call takes."""
    calls = 0

    async def handle(given: VideoFrame) -> None:
        nonlocal calls
        calls += 1
        await trio.sleep(first if calls == 1 else later if calls == 5 else 0)

    bench = Bench(as_processor(handle))
    waiting = WaitingFrames(8, Pace.LIVE, bench.meters)
    processed = Queue[VideoFrame](30)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.station().run, waiting, processed.sender())
        with waiting:
            for index in range(30):
                await waiting.put(frame(index))
                await trio.sleep(1 / 30)
        bench.out.extend([each async for each in processed])
    assert sorted({*range(30)} - {*bench.times()}) == gone
    assert bench.meters.dropped[Drop.SLOW_HANDLER] == len(gone)


class TestReturns:
    async def test_what_the_handler_returns_goes_on_with_the_frames_time(self) -> None:
        async def invert(given: VideoFrame) -> VideoFrame:
            return given.replace_tensor(255 - given.to_ndarray())

        bench = await through(invert)
        assert bench.greys() == [255, 254, 253, 252, 251]
        assert bench.times() == [0, 1, 2, 3, 4]

    async def test_none_passes_the_frame_on(self) -> None:
        async def look(given: VideoFrame) -> None:
            return None

        assert (await through(look)).greys() == [0, 1, 2, 3, 4]

    async def test_withheld_publishes_nothing_and_is_counted(self) -> None:
        async def every_other(given: VideoFrame) -> Any:
            return Withheld if given.timestamp // STEP % 2 else given

        bench = await through(every_other)
        assert bench.times() == [0, 2, 4]
        assert bench.meters.dropped == {Drop.WITHHELD: 2}

    async def test_where_it_raises_that_frame_passes_unprocessed_and_it_is_told(self) -> None:
        async def fails(given: VideoFrame) -> VideoFrame:
            if given.timestamp == 2 * STEP:
                raise ValueError("not this one")
            return given.replace_tensor(given.to_ndarray() + 100)

        bench = await through(fails)
        assert bench.greys() == [100, 101, 2, 103, 104]
        [(source, error)] = bench.reports
        assert source == "video"
        assert isinstance(error, HandlerError)
        assert "not this one" in str(error)

    async def test_a_wrong_return_is_the_same(self) -> None:
        async def wrong(given: VideoFrame) -> Any:
            return "a picture"

        bench = await through(wrong)
        assert bench.greys() == [0, 1, 2, 3, 4]
        assert [type(error) for _, error in bench.reports] == [WrongReturnError] * 5

    async def test_plain_handlers_work_too(self) -> None:
        def invert(given: VideoFrame) -> VideoFrame:
            return given.replace_tensor(255 - given.to_ndarray())

        assert (await through(invert)).greys() == [255, 254, 253, 252, 251]


def wishing(size: tuple[int, int] | None = None, *, keep: bool = False, rate: int = 1000) -> Wishes:
    return Wishes(size, Throttle(rate), keep_size=keep)


class TestWishes:
    async def test_the_handler_gets_the_size_that_was_asked_for(self) -> None:
        seen = []

        async def look(given: VideoFrame) -> None:
            seen.append((given.width, given.height))

        bench = await through(look, wishes=wishing((64, 64)))
        assert set(seen) == {(64, 64)}
        assert {(each.width, each.height) for each in bench.out} == {(64, 64)}

    async def test_a_changed_wish_holds_from_the_next_frame(self) -> None:
        wishes = wishing()

        async def change(given: VideoFrame) -> None:
            wishes.size = (48, 48)

        bench = await through(change, wishes=wishes)
        assert [each.width for each in bench.out] == [32, 48, 48, 48, 48]

    @pytest.mark.parametrize(("keep", "expected"), [(False, (128, 64)), (True, (32, 16))])
    async def test_a_larger_result_is_kept_or_brought_to_the_size_given(
        self, keep: bool, expected: tuple[int, int]
    ) -> None:
        async def enlarge(given: VideoFrame) -> VideoFrame:
            return given.replace_tensor(np.zeros((64, 128, 3), np.uint8))

        bench = await through(enlarge, wishes=wishing(keep=keep))
        assert {(each.width, each.height) for each in bench.out} == {expected}

    async def test_frames_above_the_rate_never_reach_the_handler(self) -> None:
        seen = []

        async def look(given: VideoFrame) -> None:
            seen.append(given.timestamp // STEP)

        bench = await through(look, count=30, wishes=wishing(rate=15))
        assert 15 <= len(seen) <= 16
        assert bench.times() == seen
        assert bench.meters.dropped == {Drop.FRAMERATE: 30 - len(seen)}


class TestTimes:
    async def test_a_frame_made_without_a_time_takes_that_of_the_one_it_was_made_of(self) -> None:
        async def fresh(given: VideoFrame) -> VideoFrame:
            return VideoFrame.from_ndarray(given.to_ndarray())

        assert (await through(fresh)).times() == [0, 1, 2, 3, 4]

    async def test_a_handler_may_be_behind(self) -> None:
        """One that looks ahead returns earlier frames: they keep their times."""
        kept: list[VideoFrame] = []

        async def delayed(given: VideoFrame) -> Any:
            kept.append(given)
            return kept[-3] if len(kept) > 2 else Withheld

        bench = await through(delayed, count=8)
        assert bench.times() == [0, 1, 2, 3, 4, 5]
        assert bench.greys() == [0, 1, 2, 3, 4, 5]

    async def test_a_frame_shown_twice_stands_for_the_later_one_too(self) -> None:
        """A slow model's last result, returned until there is another."""
        kept: list[VideoFrame] = []

        async def seldom(given: VideoFrame) -> VideoFrame:
            if given.timestamp // STEP % 3 == 0:
                kept.append(given)
            return kept[-1]

        bench = await through(seldom, count=7)
        assert bench.times() == [0, 1, 2, 3, 4, 5, 6]
        assert bench.greys() == [0, 0, 0, 3, 3, 3, 6]
        assert not bench.meters.dropped

    @pytest.mark.parametrize(
        "time", [10**15, -5, None, "soon", float("nan"), float("inf"), 2.5 * STEP]
    )
    async def test_a_time_that_cannot_be_harms_one_frame_at_most(self, time: Any) -> None:
        async def odd(given: VideoFrame) -> VideoFrame:
            if given.timestamp == 2 * STEP:
                given.timestamp = time
            return given

        bench = await through(odd, count=6)
        assert bench.times() == [0, 1, 2, 3, 4, 5]

    async def test_nor_does_a_time_base_that_is_none(self) -> None:
        async def odd(given: VideoFrame) -> VideoFrame:
            given.time_base = None  # type: ignore[assignment]  # as a user may
            return given

        assert (await through(odd)).times() == [0, 1, 2, 3, 4]

    async def test_any_time_base_comes_out_in_the_clocks_ticks(self) -> None:
        async def seconds(given: VideoFrame) -> VideoFrame:
            given.timestamp, given.time_base = given.timestamp // STEP, Fraction(1, 30)
            return given

        bench = await through(seconds)
        assert [(each.timestamp, each.time_base) for each in bench.out] == [
            (index * STEP, Fraction(1, 90_000)) for index in range(5)
        ]

    @given(st.lists(st.one_of(st.none(), st.integers(-(10**9), 10**9)), max_size=30))
    @settings(max_examples=50)
    def test_whatever_times_a_handler_invents_the_outputs_rise(self, times: list[Any]) -> None:
        async def invent(given: VideoFrame) -> VideoFrame:
            given.timestamp = times[given.timestamp // STEP]
            return given

        async def main() -> list[VideoFrame]:
            return (await through(invent, count=len(times))).out

        stamps = [each.timestamp for each in trio.run(main)]
        assert stamps == sorted(set(stamps))
        assert len(stamps) == len(times)
        assert all(stamp <= index * STEP for index, stamp in enumerate(stamps))


class TestHanging:
    async def test_a_call_that_takes_too_long_is_given_up_and_its_frame_passes(
        self, autojump_clock: MockClock
    ) -> None:
        async def hangs_once(given: VideoFrame) -> VideoFrame:
            if given.timestamp == STEP:
                await trio.sleep_forever()
            return given

        bench = await through(hangs_once)
        assert bench.times() == [0, 1, 2, 3, 4]
        assert trio.current_time() == pytest.approx(POLICY.handler_timeout)
        assert [source for source, _ in bench.reports] == ["video"]

    async def test_so_many_in_a_row_end_the_stream(self, autojump_clock: MockClock) -> None:
        async def hangs(given: VideoFrame) -> None:
            await trio.sleep_forever()

        with pytest.RaisesGroup(pytest.RaisesGroup(StreamEnds)) as raised:
            await through(hangs)
        (ends,) = raised.value.exceptions[0].exceptions
        assert isinstance(ends, StreamEnds)
        assert ends.outcome.end is End.HANDLER_HUNG
        assert "no answer within 2 s" in ends.outcome.detail
        assert trio.current_time() == pytest.approx(3 * POLICY.handler_timeout)

    async def test_one_that_holds_the_loop_for_so_long_hangs_too(
        self, autojump_clock: MockClock
    ) -> None:
        """It has no await, so nothing could cut it short."""

        async def holds(given: VideoFrame) -> None:
            autojump_clock.jump(POLICY.handler_timeout)

        assert not as_processor(holds).video_waits
        with pytest.RaisesGroup(pytest.RaisesGroup(StreamEnds)):
            await through(holds)
        assert trio.current_time() == pytest.approx(3 * POLICY.handler_timeout)

    async def test_one_answer_in_between_and_the_count_begins_anew(
        self, autojump_clock: MockClock
    ) -> None:
        async def hangs_often(given: VideoFrame) -> None:
            if given.timestamp // STEP % 3:
                await trio.sleep_forever()

        bench = await through(hangs_often, count=12)
        assert bench.times() == list(range(12))
        assert len(bench.reports) == 8

    @pytest.mark.parametrize("swallowing", ["an error", "an answer"])
    async def test_a_handler_that_makes_something_of_its_cancellation_hangs_all_the_same(
        self, autojump_clock: MockClock, swallowing: str
    ) -> None:
        async def stubborn(given: VideoFrame) -> VideoFrame | None:
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                if swallowing == "an error":
                    raise RuntimeError("interrupted") from None
            return None

        with pytest.RaisesGroup(pytest.RaisesGroup(StreamEnds)):
            await through(stubborn)
        assert trio.current_time() == pytest.approx(3 * POLICY.handler_timeout)


class TestConcurrency:
    @staticmethod
    def slow(
        durations: Sequence[float], at_once: list[int], concurrency: int
    ) -> Callable[..., Any]:
        """A handler that takes so long for each frame, and notes how many are with it."""
        inside = 0

        @video_handler(concurrency=concurrency)
        async def handler(given: VideoFrame) -> VideoFrame:
            nonlocal inside
            inside += 1
            at_once.append(inside)
            await trio.sleep(durations[given.timestamp // STEP])
            inside -= 1
            return given

        return handler

    async def test_so_many_frames_are_handled_at_once(self, autojump_clock: MockClock) -> None:
        at_once: list[int] = []
        bench = await through(self.slow([1.0] * 20, at_once, 4), count=20)
        assert bench.times() == list(range(20))
        assert max(at_once) == 4
        assert trio.current_time() == pytest.approx(5.0)

    async def test_one_at_a_time_where_nothing_else_is_said(
        self, autojump_clock: MockClock
    ) -> None:
        at_once: list[int] = []
        await through(self.slow([1.0] * 5, at_once, 1))
        assert max(at_once) == 1
        assert trio.current_time() == pytest.approx(5.0)

    @given(st.lists(st.floats(0.001, 3), max_size=25), st.integers(1, 6))
    @settings(max_examples=40)
    def test_they_leave_in_the_order_in_which_they_came(
        self, durations: list[float], concurrency: int
    ) -> None:
        at_once: list[int] = []

        async def main() -> list[int]:
            policy = StreamPolicy(handler_timeout=10)
            handler = self.slow(durations, at_once, concurrency)
            return (await through(handler, count=len(durations), policy=policy)).times()

        assert trio.run(main, clock=MockClock(autojump_threshold=0)) == list(range(len(durations)))
        assert max(at_once, default=1) <= concurrency

    async def test_a_frame_that_fails_or_is_withheld_keeps_its_turn(
        self, autojump_clock: MockClock
    ) -> None:
        @video_handler(concurrency=3)
        async def mixed(given: VideoFrame) -> Any:
            index = given.timestamp // STEP
            await trio.sleep(1 / (index + 1))
            if index % 5 == 1:
                raise ValueError("no")
            return Withheld if index % 5 == 2 else given

        bench = await through(mixed, count=15)
        assert bench.times() == [index for index in range(15) if index % 5 != 2]

    async def test_the_last_strike_of_one_ends_them_all(self, autojump_clock: MockClock) -> None:
        @video_handler(concurrency=4)
        async def hangs(given: VideoFrame) -> None:
            await trio.sleep_forever()

        with pytest.RaisesGroup(StreamEnds, flatten_subgroups=True):
            await through(hangs, count=20)
        assert trio.current_time() == pytest.approx(POLICY.handler_timeout)


class TestSaturation:
    @pytest.mark.parametrize("concurrency", [1, 3])
    async def test_no_more_is_taken_than_is_taken_on(
        self, autojump_clock: MockClock, concurrency: int
    ) -> None:
        calls = 0

        @video_handler(concurrency=concurrency)
        async def count(given: VideoFrame) -> None:
            nonlocal calls
            calls += 1

        bench = Bench(as_processor(count))
        waiting = WaitingFrames(50, Pace.EVERY_FRAME, bench.meters)
        for index in range(50):
            await waiting.put(frame(index))
        processed_out = Queue[VideoFrame](2)
        processed_in = processed_out.sender()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.station().run, waiting, processed_in)
            await wait_all_tasks_blocked()
            assert calls == 2 + concurrency
            for _ in range(10):
                await anext(processed_out)
            await wait_all_tasks_blocked()
            assert calls == 12 + concurrency
            nursery.cancel_scope.cancel()

    @pytest.mark.parametrize("concurrency", [1, 3])
    async def test_a_cancellation_reaches_the_handler_and_closes_the_output(
        self, autojump_clock: MockClock, concurrency: int
    ) -> None:
        ended = []

        @video_handler(concurrency=concurrency)
        async def waits(given: VideoFrame) -> None:
            try:
                await trio.sleep_forever()
            finally:
                ended.append(given)

        bench = Bench(as_processor(waits))
        waiting = WaitingFrames(9, Pace.EVERY_FRAME, bench.meters)
        for index in range(9):
            await waiting.put(frame(index))
        processed_out = Queue[VideoFrame](2)
        processed_in = processed_out.sender()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.station().run, waiting, processed_in)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert len(ended) == concurrency
        assert [each async for each in processed_out] == []


class TestReports:
    async def test_every_fault_is_counted_and_few_are_told(
        self, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        meters = Meters()
        reports = FaultReports(Events("id", None), meters, limit=5)
        error = HandlerError("video handler 'tint'", "raised ValueError: no")
        for _ in range(100):
            reports.tell("video", error)
            await trio.sleep(0.01)
        assert meters.errors["video"] == 100
        assert len(caplog.records) == 5
        await trio.sleep(WINDOW)
        reports.tell("video", error)
        assert len(caplog.records) == 6

    async def test_what_is_returned_wrongly_is_told_once_until_it_is_something_else(
        self, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        meters = Meters()
        reports = FaultReports(Events("id", None), meters, limit=5)
        for text in ("returned int (3)",) * 3 + ("returned str ('no')",):
            reports.tell("video", WrongReturnError("video handler 'tint'", text))
            await trio.sleep(WINDOW)
        assert meters.errors["video"] == 4
        assert [record.getMessage().rpartition("returned ")[2] for record in caplog.records] == [
            "int (3)",
            "str ('no')",
        ]

    async def test_the_log_has_the_users_traceback_and_the_name_of_what_failed(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def fails(given: VideoFrame) -> None:
            raise ValueError("deep in the user's code")

        bench = await through(fails, count=1)
        FaultReports(Events("id", None), Meters(), limit=5).tell(*bench.reports[0])
        assert "in fails" in caplog.text
        assert "deep in the user's code" in caplog.text
