"""Frames that a slow handler does not get: which, how many, and what that is good for."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from trickle_trio.media.frames import VideoFrame
from trickle_trio.processor import FrameSkipConfig, StreamProcessor, as_processor, video_handler
from trickle_trio.stream.handing import Queue
from trickle_trio.stream.meters import Drop, Meters
from trickle_trio.stream.overlay import Overlay
from trickle_trio.stream.process import PictureHandling
from trickle_trio.stream.settings import Pace, StreamPolicy
from trickle_trio.stream.skipping import ENOUGH, HEADROOM, HandlerSpeed
from trickle_trio.stream.throttle import Throttle
from trickle_trio.stream.times import RisingTimes
from trickle_trio.stream.waiting import WaitingFrames
from trickle_trio.stream.watchdog import Watchdog
from trickle_trio.stream.wishes import Wishes

STEP = 3000
FPS = 30


class TestSpeed:
    def test_it_is_what_the_calls_leave_room_for(self) -> None:
        speed = HandlerSpeed(1, 0.0)
        assert [speed.took(0.1, now) for now in range(ENOUGH)] == [math.inf] * ENOUGH
        assert speed.took(0.1, 10.0) == pytest.approx(10 * HEADROOM)

    def test_calls_beside_each_other_add_up(self) -> None:
        speed = HandlerSpeed(4, 0.0)
        for now in range(20):
            speed.took(0.1, now)
        assert speed.rate == pytest.approx(40 * HEADROOM)

    def test_one_call_that_took_long_is_no_measure(self) -> None:
        speed = HandlerSpeed(1, 0.0)
        speed.took(60.0, 60.0)
        for index in range(20):
            assert speed.took(0.02, 61.0 + index) >= 50 * HEADROOM * 0.99

    def test_a_handler_that_takes_no_time_is_never_slow(self) -> None:
        speed = HandlerSpeed(1, 0.0)
        assert [speed.took(0.0, now) for now in range(20)] == [math.inf] * 20

    def test_no_more_than_what_is_wanted(self) -> None:
        speed = HandlerSpeed(1, 0.0, most=12.0)
        assert speed.rate == 12.0
        for now in range(20):
            assert speed.took(0.001, now) == 12.0

    def test_a_rate_holds_for_a_while(self) -> None:
        speed = HandlerSpeed(1, 2.0)
        rates = [speed.took(0.1 + index / 100, index / 2) for index in range(40)]
        changes = [index / 2 for index in range(1, 40) if rates[index] != rates[index - 1]]
        assert min(b - a for a, b in pairwise(changes)) >= 2.0

    @given(st.lists(st.floats(0, 100), min_size=1, max_size=100), st.integers(1, 8))
    def test_whatever_the_calls_take_a_rate_is_a_rate(
        self, calls: list[float], at_once: int
    ) -> None:
        speed = HandlerSpeed(at_once, 0.5, most=1000)
        for index, seconds in enumerate(calls):
            assert 0 < speed.took(seconds, float(index)) <= 1000


def picture(index: int) -> VideoFrame:
    return VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), index * STEP)


async def through(
    handler: Callable[..., Any], *, seconds: int = 10, skip: bool = True, rate: float = 60
) -> tuple[list[float], list[float], Meters]:
    """The times and the delays of the frames that come out, live, at thirty a second."""
    meters, times, wishes = Meters(), RisingTimes(), Wishes(None, Throttle(rate), keep_size=False)
    overlay = Overlay(None, Pace.LIVE, wishes, times, meters)
    handlers = as_processor(handler)
    speed = HandlerSpeed(handlers.concurrency, 0.5) if skip else None
    station = PictureHandling(
        handlers,
        wishes,
        meters,
        Watchdog(StreamPolicy(), lambda *_: None),
        overlay,
        times,
        speed,
    )
    frames = WaitingFrames(8, Pace.LIVE, meters, overlay)
    processed_out = Queue[VideoFrame](2)
    processed_in = processed_out.sender()
    began = trio.current_time()

    async def feed() -> None:
        with frames:
            for index in range(seconds * FPS):
                await frames.put(picture(index))
                await trio.sleep_until(began + (index + 1) / FPS)

    came: list[float] = []
    delays: list[float] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed)
        nursery.start_soon(station.run, frames, processed_in)
        async for frame in processed_out:
            came.append(frame.seconds)
            delays.append(trio.current_time() - began - frame.seconds)
    return came, delays, meters


def taking(*seconds: float) -> Callable[..., Any]:
    """A handler that takes so long, in turns."""
    calls = 0

    async def handler(frame: VideoFrame) -> VideoFrame:
        nonlocal calls
        calls += 1
        await trio.sleep(seconds[calls % len(seconds)])
        return frame

    return handler


class TestInTheLine:
    async def test_a_handler_that_keeps_up_gets_everything(self, autojump_clock: MockClock) -> None:
        came, _, meters = await through(taking(0.02))
        assert len(came) == 10 * FPS
        assert not meters.dropped

    @pytest.mark.parametrize("seconds", [0.05, 0.08, 0.2])
    async def test_a_slow_one_gets_fresh_frames_evenly(
        self, autojump_clock: MockClock, seconds: float
    ) -> None:
        came, delays, meters = await through(taking(seconds), seconds=20)
        assert meters.dropped[Drop.SKIPPED] > 0
        late = came[len(came) // 2 :]
        gaps = [round((b - a) * FPS) for a, b in pairwise(late)]
        assert max(gaps) - min(gaps) <= 1, "evenly, as far as the input's frames allow"
        assert len(late) / (late[-1] - late[0]) >= 0.85 / seconds, "and as many as it can take"
        assert max(delays[len(delays) // 2 :]) <= seconds + 2 / FPS, "none of which has waited"

    async def test_without_it_frames_are_as_even_but_have_waited(
        self, autojump_clock: MockClock
    ) -> None:
        came, delays, meters = await through(taking(0.083), skip=False)
        _, fresh, _ = await through(taking(0.083))
        came, delays = came[:-2], delays[:-2]  # what is last, nothing newer takes the place of
        half = len(delays) // 2
        assert set(meters.dropped) == {Drop.SLOW_HANDLER}
        assert {round((b - a) * FPS) for a, b in pairwise(came[half:])} == {2, 3}
        assert sum(delays[half:]) / half > sum(fresh[-half:]) / half + 0.01
        assert max(delays[half:]) < 0.083 + 1.1 / FPS, "but not for longer than a frame lasts"

    async def test_calls_of_different_lengths(self, autojump_clock: MockClock) -> None:
        came, delays, _ = await through(taking(0.02, 0.05, 0.11))
        assert len(came) / 10 >= 0.7 / 0.06
        assert max(delays[len(delays) // 2 :]) < 0.11 + 8 / FPS

    async def test_calls_beside_each_other(self, autojump_clock: MockClock) -> None:
        came, _, _ = await through(video_handler(concurrency=3)(taking(0.15)))
        assert len(came) / 10 >= 0.85 * 20

    async def test_a_first_call_that_loads_does_not_count(self, autojump_clock: MockClock) -> None:
        first = True

        async def loads(frame: VideoFrame) -> VideoFrame:
            nonlocal first
            if first:
                first = False
                await trio.sleep(4)
            return frame

        came, _, _ = await through(loads)
        assert len(came) >= 5.9 * FPS

    async def test_the_rate_that_was_asked_for_stays_above(self, autojump_clock: MockClock) -> None:
        came, _, meters = await through(taking(0.02), rate=10)
        assert len(came) == pytest.approx(100, abs=2)
        assert set(meters.dropped) == {Drop.FRAMERATE}


class TestWhole:
    @pytest.mark.parametrize("pace", Pace)
    async def test_a_target_holds_where_every_frame_counts_too(
        self, streaming: Any, kit: Any, pace: Pace
    ) -> None:
        async def look(frame: VideoFrame) -> None:
            return None

        policy = StreamPolicy(pace=pace, segment_seconds=0.5, waiting_frames=64)
        processor = StreamProcessor(look, frame_skip_config=FrameSkipConfig(10, max_queue_size=64))
        async with streaming(processor, policy=policy) as run:
            await run.feed(kit.pictures(60))
            await run.end()
        numbers = run.stream.statistics()
        assert numbers.frames_out == pytest.approx(20, abs=1)
        assert numbers.dropped == {Drop.SKIPPED.value: 60 - numbers.frames_out}

    async def test_the_streams_own_configuration_comes_first(
        self, streaming: Any, kit: Any
    ) -> None:
        async def look(frame: VideoFrame) -> None:
            return None

        processor = StreamProcessor(look, frame_skip_config=FrameSkipConfig(10))
        async with streaming(processor, frame_skip=FrameSkipConfig(15)) as run:
            await run.feed(kit.pictures(60))
            await run.end()
        assert run.stream.statistics().frames_out == pytest.approx(30, abs=1)

    async def test_no_more_wait_than_it_says(self, streaming: Any, kit: Any) -> None:
        arrived = trio.Event()

        calls = 0

        async def waits(frame: VideoFrame) -> None:
            nonlocal calls
            calls += 1
            if calls > 1:  # behind a first call that takes long, only the newest is left
                await arrived.wait()

        skip = FrameSkipConfig(max_queue_size=2)
        policy = StreamPolicy(segment_seconds=0.5)
        async with streaming(waits, policy=policy, frame_skip=skip) as run:
            await run.feed(kit.pictures(30), delete=False)
            while run.stream.statistics().frames_in < 30:  # noqa: ASYNC110  a counter has no event
                await trio.sleep(0.005)
            await wait_all_tasks_blocked(0.05)
            arrived.set()
            await kit.delete_channel(run.source)
            await run.end()
        assert run.stream.statistics().frames_out == 4
