"""The loading overlay in the line: what goes out while the handler gives nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import trio
from attrs import define, field
from trio.testing import MockClock, wait_all_tasks_blocked

from trickle_core.mpegts import CLOCK_RATE
from trickle_trio.media.frames import AudioFrame, VideoFrame
from trickle_trio.media.overlay import Caption
from trickle_trio.processor import (
    FrameProcessor,
    OverlayConfig,
    OverlayMode,
    StreamProcessor,
    Withheld,
    as_processor,
    audio_handler,
    video_handler,
)
from trickle_trio.stream.ending import End
from trickle_trio.stream.handing import Queue
from trickle_trio.stream.meters import Drop, Meters
from trickle_trio.stream.overlay import Overlay
from trickle_trio.stream.process import PictureHandling
from trickle_trio.stream.settings import Pace, StreamPolicy
from trickle_trio.stream.throttle import Throttle
from trickle_trio.stream.times import RisingTimes
from trickle_trio.stream.waiting import WaitingFrames
from trickle_trio.stream.watchdog import Watchdog
from trickle_trio.stream.wishes import Wishes

STEP = 3000
SECOND = 30
"""Frames of the input in a second."""
PASSING = OverlayConfig(OverlayMode.PASSTHROUGH)
"""Nothing is drawn, and so no thread: a clock that jumps would not wait for one."""
BLACK, WHITE = 0, 255
"""What comes in, and what the handler makes of it."""


def frame(index: int, size: tuple[int, int] = (32, 16)) -> VideoFrame:
    return VideoFrame.from_ndarray(np.full((size[1], size[0], 3), BLACK, np.uint8), index * STEP)


def whitened(given: VideoFrame) -> VideoFrame:
    return given.replace_tensor(np.full((given.height, given.width, 3), WHITE, np.uint8))


@define
class Bench:
    """The waiting room, the handler and the overlay, and what leaves them."""

    handler: Callable[..., Any]
    config: OverlayConfig | None = PASSING
    pace: Pace = Pace.LIVE
    policy: StreamPolicy = field(factory=lambda: StreamPolicy(handler_timeout=60))
    wishes: Wishes = field(factory=lambda: Wishes(None, Throttle(1000), keep_size=False))
    meters: Meters = field(factory=Meters)
    out: list[VideoFrame] = field(factory=list)
    overlay: Overlay = field(init=False)
    frames: WaitingFrames = field(init=False)
    is_reading: trio.Event = field(factory=trio.Event)
    _times: RisingTimes = field(factory=RisingTimes)

    def __attrs_post_init__(self) -> None:
        self.overlay = Overlay(self.config, self.pace, self.wishes, self._times, self.meters)
        self.frames = WaitingFrames(8, self.pace, self.meters, self.overlay)
        self.is_reading.set()

    async def run(
        self,
        count: int,
        at: dict[int, Callable[[], object]] | None = None,
        fps: float = SECOND,
        then: range = range(0),
    ) -> None:
        """Put so many frames in, thirty a second, ``then`` those of other numbers, and see what comes out; ``at`` a
        frame's number, do things.
        """
        processed_out = Queue[VideoFrame](2)
        processed_in = processed_out.sender()
        handling = PictureHandling(
            as_processor(self.handler),
            self.wishes,
            self.meters,
            Watchdog(self.policy, lambda *_: None),
            self.overlay,
            self._times,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.overlay.run, processed_out.sender())
            nursery.start_soon(handling.run, self.frames, processed_in)
            nursery.start_soon(self._read, processed_out)
            with self.frames:
                for index in [*range(count), *then]:
                    (at or {}).get(index, bool)()
                    await self.frames.put(frame(index))
                    await trio.sleep(1 / fps)

    async def _read(self, processed: Queue[VideoFrame]) -> None:
        async for each in processed:
            self.out.append(each)
            await self.is_reading.wait()

    def overlaid(self) -> list[int]:
        """The numbers of the frames in whose place the overlay was."""
        return [each.timestamp // STEP for each in self.out if not is_real(each)]

    def real(self) -> list[int]:
        """The numbers of the frames that the handler made something of."""
        return [each.timestamp // STEP for each in self.out if is_real(each)]

    def check(self) -> None:
        """What always holds."""
        stamps = [each.timestamp for each in self.out]
        assert all(a < b for a, b in pairwise(stamps)), "times rise"


def is_real(each: VideoFrame) -> bool:
    return int(each.to_ndarray()[0, 0, 0]) == WHITE


class TestAuto:
    async def test_a_first_call_that_takes_five_seconds(self, autojump_clock: MockClock) -> None:
        """The model is loaded inside of it."""
        calls = 0

        async def loads_first(given: VideoFrame) -> VideoFrame:
            nonlocal calls
            calls += 1
            await trio.sleep(5 if calls == 1 else 0)
            return whitened(given)

        bench = Bench(loads_first)
        await bench.run(8 * SECOND)
        bench.check()
        overlaid, real = bench.overlaid(), bench.real()
        assert overlaid == list(range(overlaid[0], overlaid[-1] + 1)), "at the input's pace"
        assert overlaid[0] == pytest.approx(1.5 * SECOND, abs=2)
        assert overlaid[-1] == pytest.approx(5 * SECOND, abs=2)
        assert real[1:] == list(range(real[1], 8 * SECOND)), "and then every frame"
        assert real[1] - overlaid[-1] <= 3, "without a gap"

    async def test_a_handler_that_withholds(self, autojump_clock: MockClock) -> None:
        async def withholds(given: VideoFrame) -> Any:
            return whitened(given) if given.timestamp >= 4 * SECOND * STEP else Withheld

        bench = Bench(withholds)
        await bench.run(6 * SECOND)
        bench.check()
        assert bench.overlaid()[0] == pytest.approx(1.5 * SECOND, abs=2)
        assert bench.real()[-1] == 6 * SECOND - 1
        both = sorted(bench.overlaid() + bench.real())
        assert both[-2 * SECOND :] == list(range(4 * SECOND, 6 * SECOND))
        assert bench.meters.dropped[Drop.WITHHELD] == 4 * SECOND

    async def test_one_that_withholds_now_and_then_is_left_alone(
        self, autojump_clock: MockClock
    ) -> None:
        async def seldom(given: VideoFrame) -> Any:
            return Withheld if given.timestamp // STEP % SECOND else whitened(given)

        bench = Bench(seldom)
        await bench.run(5 * SECOND)
        assert bench.overlaid() == []
        assert bench.real() == [0, 30, 60, 90, 120]

    async def test_a_handler_slower_than_its_patience_is_seen_all_the_same(
        self, autojump_clock: MockClock
    ) -> None:
        async def very_slow(given: VideoFrame) -> VideoFrame:
            await trio.sleep(2)
            return whitened(given)

        bench = Bench(very_slow)
        await bench.run(20 * SECOND)
        bench.check()
        assert len(bench.real()) >= 9
        assert len(bench.overlaid()) >= 9 * 10

    async def test_behind_a_leap_of_the_inputs_time_nothing_is_lost(
        self, autojump_clock: MockClock
    ) -> None:
        """The answer goes half a frame behind the overlay's last picture, and not half a leap."""
        leap = 100 * SECOND

        async def withholds(given: VideoFrame) -> Any:
            return Withheld if given.timestamp < leap * STEP else whitened(given)

        bench = Bench(withholds)
        await bench.run(3 * SECOND, then=range(leap, leap + SECOND))
        bench.check()
        assert bench.real()[-SECOND + 2 :] == list(range(leap + 2, leap + SECOND))

    async def test_a_good_handler_never_sees_it(self, autojump_clock: MockClock) -> None:
        async def good(given: VideoFrame) -> VideoFrame:
            await trio.sleep(0.01)
            return whitened(given)

        bench = Bench(good)
        await bench.run(5 * SECOND)
        assert bench.real() == list(range(5 * SECOND))

    async def test_so_many_good_frames_until_it_goes(self, autojump_clock: MockClock) -> None:
        async def withholds(given: VideoFrame) -> Any:
            return whitened(given) if given.timestamp >= 3 * SECOND * STEP else Withheld

        bench = Bench(withholds, OverlayConfig("passthrough", frame_count_to_disable=10))
        await bench.run(5 * SECOND)
        bench.check()
        assert bench.overlaid()[-1] == pytest.approx(3 * SECOND + 9, abs=1)
        assert bench.meters.dropped[Drop.OVERLAID] == pytest.approx(9, abs=1)

    async def test_several_calls_at_once_that_come_back_together(
        self, autojump_clock: MockClock
    ) -> None:
        @video_handler(concurrency=4)
        async def loads(given: VideoFrame) -> VideoFrame:
            await trio.sleep_until(max(5.0, trio.current_time()))
            return whitened(given)

        bench = Bench(loads)
        await bench.run(7 * SECOND)
        bench.check()
        assert bench.overlaid()
        assert bench.real()[-SECOND:] == list(range(6 * SECOND, 7 * SECOND))

    async def test_a_call_that_was_given_up_does_not_flash_up(
        self, autojump_clock: MockClock
    ) -> None:
        async def hangs_twice(given: VideoFrame) -> VideoFrame:
            if trio.current_time() < 8:
                await trio.sleep_forever()
            return whitened(given)

        policy = StreamPolicy(handler_timeout=4, handler_strikes=3)
        bench = Bench(hangs_twice, policy=policy)
        await bench.run(10 * SECOND)
        overlaid = bench.overlaid()
        assert overlaid == list(range(overlaid[0], overlaid[-1] + 1))
        assert overlaid[-1] == pytest.approx(8 * SECOND, abs=2)

    async def test_a_pause_of_the_input_does_not_bring_it(self, autojump_clock: MockClock) -> None:
        async def good(given: VideoFrame) -> VideoFrame:
            return whitened(given)

        bench = Bench(good)
        await bench.run(10, fps=0.1)
        assert bench.real() == list(range(10))

    async def test_nor_does_an_output_that_takes_nothing(self, autojump_clock: MockClock) -> None:
        async def good(given: VideoFrame) -> VideoFrame:
            return whitened(given)

        bench, again = Bench(good), trio.Event()
        await bench.run(
            6 * SECOND,
            {SECOND: lambda: setattr(bench, "is_reading", again), 4 * SECOND: again.set},
        )
        bench.check()
        assert bench.overlaid() == []
        assert bench.meters.dropped[Drop.SLOW_HANDLER] > 2 * SECOND

    async def test_not_where_every_frame_counts(self, autojump_clock: MockClock) -> None:
        async def slow(given: VideoFrame) -> VideoFrame:
            await trio.sleep(3)
            return whitened(given)

        bench = Bench(slow, pace=Pace.EVERY_FRAME)
        await bench.run(20)
        assert bench.real() == list(range(20))

    async def test_without_a_configuration_nothing_is_published(
        self, autojump_clock: MockClock
    ) -> None:
        async def withholds(given: VideoFrame) -> Any:
            return Withheld

        bench = Bench(withholds, config=None)
        await bench.run(5 * SECOND)
        assert bench.out == []
        assert not bench.overlay.is_on

    async def test_no_more_often_than_the_rate_that_was_asked_for(
        self, autojump_clock: MockClock
    ) -> None:
        async def hangs(given: VideoFrame) -> None:
            await trio.sleep_forever()

        bench = Bench(hangs, wishes=Wishes(None, Throttle(10), keep_size=False))
        with trio.move_on_after(10):
            await bench.run(10 * SECOND)
        gaps = [b - a for a, b in pairwise(bench.overlaid())]
        assert set(gaps[1:]) == {3}


class TestByHand:
    async def test_it_stands_in_front_of_the_handler(self, autojump_clock: MockClock) -> None:
        handled = []

        async def note(given: VideoFrame) -> VideoFrame:
            handled.append(given.timestamp // STEP)
            return whitened(given)

        bench = Bench(note, config=None)
        await bench.run(
            40, {10: lambda: bench.overlay.ask(True), 30: lambda: bench.overlay.ask(False)}
        )
        bench.check()
        # It draws, so how many of its pictures there are is its thread's affair.
        assert handled == bench.real() == [*range(10), *range(30, 40)]
        assert set(bench.overlaid()) <= set(range(10, 30))
        assert bench.meters.dropped[Drop.OVERLAID] == 20

    async def test_with_every_frame(self, autojump_clock: MockClock) -> None:
        async def note(given: VideoFrame) -> VideoFrame:
            return whitened(given)

        bench = Bench(note, pace=Pace.EVERY_FRAME)
        await bench.run(
            40, {10: lambda: bench.overlay.ask(True), 30: lambda: bench.overlay.ask(False)}
        )
        bench.check()
        assert set(range(11, 30)) <= set(bench.overlaid())
        assert bench.real()[-9:] == list(range(31, 40))

    async def test_from_inside_a_call_that_takes_long(self, autojump_clock: MockClock) -> None:
        async def loads(given: VideoFrame) -> VideoFrame:
            if given.timestamp == 0:
                bench.overlay.ask(True)
                await trio.sleep(3)
                bench.overlay.ask(False)
            return whitened(given)

        bench = Bench(loads)
        await bench.run(4 * SECOND)
        bench.check()
        overlaid = bench.overlaid()
        assert overlaid == list(range(1, overlaid[-1] + 1))
        assert overlaid[-1] == pytest.approx(3 * SECOND, abs=1)
        assert bench.real()[-25:] == list(range(4 * SECOND - 25, 4 * SECOND))

    async def test_from_another_thread(self, autojump_clock: MockClock) -> None:
        bench = Bench(whitened)
        thread = threading.Thread(target=lambda: bench.overlay.ask(True))
        thread.start()
        thread.join()
        await bench.run(5)
        assert bench.overlaid() == [0, 1, 2, 3, 4]

    async def test_what_waited_for_the_handler_is_not_given_to_it(
        self, autojump_clock: MockClock
    ) -> None:
        handled = []

        async def slow(given: VideoFrame) -> VideoFrame:
            handled.append(given.timestamp // STEP)
            await trio.sleep(0.5)
            return whitened(given)

        bench = Bench(slow)
        await bench.run(SECOND, {5: lambda: bench.overlay.ask(True)})
        assert handled == [0]
        assert bench.overlaid() == list(range(5, SECOND))
        assert bench.meters.dropped == {Drop.OVERLAID: SECOND}

    async def test_turned_off_by_configuration_it_is_never_shown(
        self, autojump_clock: MockClock
    ) -> None:
        async def hangs(given: VideoFrame) -> Any:
            return Withheld

        bench = Bench(hangs, OverlayConfig(enabled=False))
        assert not bench.overlay.ask(True)
        assert not bench.overlay.say(0.5, None)
        await bench.run(3 * SECOND)
        assert bench.out == []

    async def test_what_was_said_of_a_wait_goes_with_it(self, autojump_clock: MockClock) -> None:
        """The next wait is another one."""
        shown: list[bool] = []

        async def loads_first(given: VideoFrame) -> VideoFrame:
            if not shown:
                bench.overlay.say(0.9, "step 9")
                await trio.sleep(5)
            shown.append(bench.overlay.is_shown)
            return whitened(given)

        bench = Bench(loads_first, OverlayConfig(message="wait"))
        before = bench.overlay.caption
        await bench.run(10 * SECOND)
        assert shown[0]
        assert not shown[-1]
        assert bench.overlay.caption == before == Caption("wait", None)


class TestSizes:
    async def test_it_has_the_size_that_was_asked_for(self) -> None:
        bench = Bench(whitened, pace=Pace.EVERY_FRAME, config=None)
        bench.wishes.size = (64, 48)
        bench.overlay.ask(True)
        await bench.run(3, fps=1e6)
        assert {(each.width, each.height) for each in bench.out} == {(64, 48)}

    async def test_or_that_which_the_handler_makes_of_it(self, autojump_clock: MockClock) -> None:
        """So that the encoder goes on, and the player too."""

        async def doubles(given: VideoFrame) -> VideoFrame:
            bench.overlay.ask(given.timestamp >= 2 * STEP)
            return given.replace_tensor(np.full((32, 64, 3), WHITE, np.uint8))

        bench = Bench(doubles, pace=Pace.EVERY_FRAME, config=None)
        await bench.run(10)
        assert bench.overlaid()
        assert {(each.width, each.height) for each in bench.out} == {(64, 32)}


class TestSaturation:
    async def test_live_the_newest_of_its_frames_wins(self) -> None:
        bench = Bench(whitened)
        bench.overlay.ask(True)
        for index in range(100):
            assert await bench.overlay.take(frame(index))
        processed_out = Queue[VideoFrame](2)
        processed_in = processed_out.sender()
        bench.overlay.close()
        await bench.overlay.run(processed_in)
        assert [each.timestamp // STEP async for each in processed_out] == [99]

    async def test_where_every_frame_counts_the_input_waits(self) -> None:
        bench = Bench(whitened, pace=Pace.EVERY_FRAME)
        bench.overlay.ask(True)
        taken = 0
        async with trio.open_nursery() as nursery:

            async def bring() -> None:
                nonlocal taken
                for index in range(100):
                    await bench.overlay.take(frame(index))
                    taken += 1

            nursery.start_soon(bring)
            await wait_all_tasks_blocked()
            assert taken == 1
            nursery.cancel_scope.cancel()

    @pytest.mark.parametrize("config", [PASSING, OverlayConfig()])
    async def test_a_cancellation_closes_its_channels(self, config: OverlayConfig) -> None:
        bench = Bench(whitened, config)
        bench.overlay.ask(True)
        processed_out = Queue[VideoFrame](0)
        processed_in = processed_out.sender()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.overlay.run, processed_in)
            await bench.overlay.take(frame(0))
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert not await processed_out.wait()
        assert not any(thread.name == "trickle overlay" for thread in threading.enumerate())

    async def test_no_thread_before_there_is_something_to_draw(self) -> None:
        bench = Bench(whitened)
        processed_in = Queue[VideoFrame](0).sender()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.overlay.run, processed_in)
            await wait_all_tasks_blocked()
            assert not any(thread.name == "trickle overlay" for thread in threading.enumerate())
            nursery.cancel_scope.cancel()


def is_dim(greys: list[int]) -> bool:
    return all(grey < 110 for grey in greys)


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110  a counter has no event
        await trio.sleep(0.005)


async def bright(given: VideoFrame) -> VideoFrame:
    return whitened(given)


class TestWhole:
    """From channel to channel."""

    async def test_shown_from_the_start_and_taken_away(self, streaming: Any, kit: Any) -> None:
        async with streaming(bright, show_loading=True) as run:
            units = kit.footage(60)
            await run.feed(units[: len(units) // 2], delete=False)
            await until(lambda: run.stream.statistics().overlay_frames >= 20)
            await run.stream.update_params({"show_loading": False})
            await run.feed(units[len(units) // 2 :])
            outcome = await run.end()
        assert outcome.end is End.INPUT_ENDED
        numbers, played = run.stream.statistics(), run.played()
        greys = played.greys()
        assert numbers.overlay_frames + numbers.frames_out == len(greys)
        assert is_dim(greys[: numbers.overlay_frames])
        assert min(greys[numbers.overlay_frames :]) > 200
        assert numbers.frames_out >= 20
        assert numbers.frames_in == numbers.frames_out + sum(numbers.dropped.values())
        assert played.heard[-1].time - played.heard[0].time > 1.8, "and the sound goes on"
        assert numbers.segments_lost == 0

    async def test_a_processor_shows_it_while_its_first_call_loads(
        self, streaming: Any, kit: Any
    ) -> None:
        class Loading(FrameProcessor):
            overlay_config = OverlayConfig(auto_timeout_seconds=0, message="Warming up")

            def process_video_async(self, frame: VideoFrame) -> VideoFrame:
                """Plain: in a thread, and from there it says how far it is."""
                self.set_loading_progress(0.5, message="half of it")
                trio.from_thread.run(ready.wait)
                return whitened(frame)

        ready = trio.Event()
        async with streaming(Loading(), policy=StreamPolicy(segment_seconds=0.5)) as run:
            await run.feed(kit.footage(60), delete=False)
            await until(lambda: run.stream.statistics().overlay_frames > 0)
            ready.set()
            await run.feed(kit.footage(60, start=kit.START + 60 * kit.STEP))
            await run.end()
        numbers, greys = run.stream.statistics(), run.played().greys()
        assert is_dim(greys[:1])
        # Without any patience it may come back between two frames that arrive at once.
        assert sum(grey > 200 for grey in greys) == numbers.frames_out > 0
        assert sum(grey < 110 for grey in greys) == numbers.overlay_frames

    async def test_the_streams_own_configuration_comes_first(
        self, streaming: Any, kit: Any
    ) -> None:
        async def withholds(given: VideoFrame) -> Any:
            return Withheld

        processor = StreamProcessor(withholds, overlay_config=OverlayConfig(enabled=False))
        passing = OverlayConfig(OverlayMode.PASSTHROUGH)
        async with streaming(processor, overlay=passing, show_loading=True) as run:
            await run.feed(kit.pictures(20))
            await run.end()
        assert kit.looks_like(run.played(), range(20))

    async def test_two_seconds_are_two_segments(self, streaming: Any, kit: Any) -> None:
        """Key frames come as they would for real pictures."""
        async with streaming(bright, show_loading=True) as run:
            await run.feed(kit.pictures(60))
            await run.end()
        assert len(run.parts) == pytest.approx(60 * kit.STEP / CLOCK_RATE / 0.5, abs=1)
        for part in run.parts:
            assert kit.play(part).seen

    async def test_it_is_shown_over_a_picture_that_was_only_copied(
        self, streaming: Any, kit: Any
    ) -> None:
        """A handler of sound alone does not decode the picture; the overlay makes it so."""

        @audio_handler
        async def hear(frame: AudioFrame) -> None:
            return None

        async with streaming(hear, show_loading=True) as run:
            await run.feed(kit.footage(30))
            await run.end()
        assert run.stream.statistics().overlay_frames == 30
        assert is_dim(run.played().greys())
