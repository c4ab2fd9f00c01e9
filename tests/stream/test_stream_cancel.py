"""Streams that are stopped at any moment leave nothing behind."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define
from trio.testing import MockClock, wait_all_tasks_blocked

from trickle_trio.media.frames import AudioFrame, VideoFrame
from trickle_trio.processor import StreamProcessor, as_processor, video_handler
from trickle_trio.publication import open_publication
from trickle_trio.stream.pipeline import Stream
from trickle_trio.stream.settings import StreamPolicy, StreamSettings
from trickle_trio.subscription import open_subscription


@pytest.fixture
def patient_clock() -> MockClock:
    """Jumps, but only after the loopback has had time to deliver."""
    return MockClock(autojump_threshold=0.02)


@pytest.mark.parametrize("opener", [open_subscription, open_publication])
@pytest.mark.parametrize("moment", range(12))
async def test_opening_a_channel_can_be_cancelled_at_any_moment(
    unused_port: int, opener: Callable[..., AbstractAsyncContextManager[Any]], moment: int
) -> None:
    """Also between the start of its room and the block inside."""

    async def hold() -> None:
        async with opener(f"http://127.0.0.1:{unused_port}/channel"):
            await trio.sleep_forever()

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold)
            for _ in range(moment):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()


async def passthrough(frame: VideoFrame) -> VideoFrame:
    return frame


def in_thread(frame: VideoFrame) -> VideoFrame:
    return frame.replace_tensor(frame.to_ndarray())


async def hangs(frame: VideoFrame) -> VideoFrame:
    if frame.timestamp > 120_000:
        await trio.sleep_forever()
    return frame


@video_handler(concurrency=3)
async def several(frame: VideoFrame) -> VideoFrame:
    await trio.sleep(0.002)
    return frame


async def echo(frame: AudioFrame) -> AudioFrame:
    return frame


PROCESSORS: tuple[Callable[[], object], ...] = (
    lambda: passthrough,
    lambda: StreamProcessor(in_thread, audio_processor=echo),
    lambda: hangs,
    lambda: StreamProcessor(several, on_stream_stop=lambda: None),
    lambda: StreamProcessor(audio_processor=echo),
)


@define
class Belongings:
    """What a process holds."""

    tasks: int
    threads: int
    files: int

    @classmethod
    def now(cls) -> Belongings:
        files = Path("/proc/self/fd")
        return cls(
            trio.lowlevel.current_statistics().tasks_living,
            threading.active_count(),
            len(list(files.iterdir())) if files.exists() else 0,
        )

    def covers(self, other: Belongings) -> bool:
        return (
            other.tasks <= self.tasks
            and other.threads <= self.threads
            and other.files <= self.files
        )


@define
class Round:
    """One stream, started, fed, and stopped at some moment."""

    kit: Any
    relay: str
    number: int
    stop_took: float = 0.0

    async def run(self) -> None:
        dice = random.Random(self.number)
        url = f"{self.relay}/round{self.number}"
        names = ("subscribe", "publish", "control", "events", "data")
        settings = StreamSettings(
            request_id="test",
            max_framerate=60,
            policy=StreamPolicy(segment_seconds=0.3),
            **{f"{name}_url": f"{url}-{name}" for name in names},  # type: ignore[arg-type]
        )
        stream = Stream(settings, as_processor(PROCESSORS[self.number % len(PROCESSORS)]()))
        await self.kit.make_channel(f"{url}-subscribe")
        async with trio.open_nursery() as feeding:
            feeding.start_soon(self.feed, f"{url}-subscribe")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.live, stream)
                await self.wait(dice, stream)
                stopped_at = trio.current_time()
                nursery.cancel_scope.cancel()
            self.stop_took = trio.current_time() - stopped_at
            feeding.cancel_scope.cancel()

    async def feed(self, url: str) -> None:
        await self.kit.publish(url, self.kit.segments(self.kit.footage(60)), delete=False)
        await trio.sleep_forever()

    async def live(self, stream: Stream) -> None:
        await stream.run()

    async def wait(self, dice: random.Random, stream: Stream) -> None:
        """Until some moment: at once, after so many turns of the loop, or at such a frame."""
        wanted = dice.randrange(0, 50)
        turns = dice.randrange(0, 400)
        by_frame = dice.random() < 0.5
        while turns if not by_frame else stream.meters.frames_in < wanted:
            turns -= 1
            await trio.lowlevel.checkpoint()


async def test_servers_that_never_answer_cannot_hold_a_stop_up_for_long(
    patient_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Nothing is decoded here, so the clock may jump: each farewell runs to its end."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def deaf(_: trio.SocketStream) -> None:
        await trio.sleep_forever()

    nursery.start_soon(trio.serve_listeners, deaf, [listener])
    url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
    names = ("subscribe", "publish", "control", "events", "data")
    urls: Any = {f"{name}_url": f"{url}/{name}" for name in names}
    settings = StreamSettings(request_id="test", **urls)
    stream = Stream(settings, as_processor(passthrough))
    async with trio.open_nursery() as inner:
        await inner.start(stream.run)
        await wait_all_tasks_blocked(0.05)
        stopped_at = trio.current_time()
        inner.cancel_scope.cancel()
    assert trio.current_time() - stopped_at < 7


async def test_a_stream_that_is_stopped_at_any_moment_leaves_nothing_behind(
    kit: Any, relay: str
) -> None:
    """Tasks, threads, sockets and files are back where they were; codecs' threads at once."""
    for number in range(len(PROCESSORS)):
        await Round(kit, relay, number).run()  # what is made once, is made
    before = Belongings.now()
    for number in range(5, 30):
        stopped = Round(kit, relay, number)
        await stopped.run()
        assert stopped.stop_took < 2, "10 ms are usual"
        names = {thread.name for thread in threading.enumerate()}
        assert not {name for name in names if name.startswith("trickle")}
        with trio.fail_after(5):  # the relay lets go of its connections
            while not before.covers(Belongings.now()):
                await trio.lowlevel.checkpoint()
