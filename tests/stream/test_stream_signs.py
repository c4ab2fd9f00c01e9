"""What a stream says of itself and for its processor, whatever the servers beside it do."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trickle_core import wire
from trickle_trio.media.frames import VideoFrame
from trickle_trio.processor import StreamProcessor, as_processor
from trickle_trio.stream.events import now_ms
from trickle_trio.stream.meters import Meters
from trickle_trio.stream.outbox import (
    DATA_INTERVAL,
    EVENT_KEEPALIVE,
    WAITING,
    WAITING_BYTES,
    Waiting,
    data_outbox,
)
from trickle_trio.stream.pipeline import Stream
from trickle_trio.stream.settings import StreamSettings
from trickle_trio.subscription import open_subscription

SILENCE = 30.0
"""Seconds after which a gateway gives a stream up."""


@pytest.fixture
def patient_clock() -> MockClock:
    """Jumps, but only after the loopback has had time to deliver."""
    return MockClock(autojump_threshold=0.02)


async def passthrough(frame: VideoFrame) -> VideoFrame:
    return frame


async def listen(url: str, heard: list[tuple[float, dict[str, Any]]]) -> None:
    """Note every event and when it came."""
    async with open_subscription(url, start=0) as subscription:
        async for segment in subscription:
            if text := await segment.read():  # one that was given up is closed empty
                heard.append((trio.current_time(), json.loads(text)))  # noqa: PERF401  seen meanwhile


def kinds(heard: list[tuple[float, dict[str, Any]]]) -> list[str]:
    return [message["event"]["type"] for _, message in heard]


class TestSigns:
    async def test_a_stream_shows_that_it_lives_and_how(
        self, patient_clock: MockClock, relay: str, kit: Any, nursery: trio.Nursery
    ) -> None:
        url, heard = f"{relay}/events", list[tuple[float, dict[str, Any]]]()
        await kit.make_channel(url, wire.JSON)
        nursery.start_soon(listen, url, heard)
        began = now_ms()
        settings = StreamSettings(request_id="one", events_url=url, params={"mode": "a"})
        processor = StreamProcessor(passthrough, name="tint")
        async with trio.open_nursery() as inner:
            await inner.start(Stream(settings, as_processor(processor)).run)
            await trio.sleep(2 * EVENT_KEEPALIVE + 1)
            inner.cancel_scope.cancel()
        await wait_all_tasks_blocked(0.02)
        assert kinds(heard).count("heartbeat") == kinds(heard).count("status") == 3
        statuses = [m for _, m in heard if m["event"]["type"] == "status"]
        assert {message["queue_event_type"] for message in statuses} == {"status"}
        assert [message["event"]["state"] for message in statuses] == [
            "ONLINE",
            "DEGRADED_INPUT",
            "DEGRADED_INPUT",
        ]
        event = statuses[0]["event"]
        assert event["pipeline"] == "tint"
        assert began <= event["start_time"] <= now_ms()
        assert event["input_status"] == {"last_input_time": None, "fps": 0.0}
        assert event["inference_status"] == {
            "last_output_time": None,
            "fps": 0.0,
            "last_params": {"mode": "a"},
            "last_error": None,
            "restart_count": 0,
        }

    async def test_times_are_of_the_epoch_and_faults_are_named(
        self, kit: Any, streaming: Any, relay: str, nursery: trio.Nursery
    ) -> None:
        async def fail(frame: VideoFrame) -> VideoFrame:
            raise ValueError("no such colour")

        url, heard = f"{relay}/events", list[tuple[float, dict[str, Any]]]()
        await kit.make_channel(url, wire.JSON)
        nursery.start_soon(listen, url, heard)
        began = now_ms()
        async with streaming(fail, events_url=url) as run:
            await run.feed(kit.pictures(15))
            await run.end()
            status = run.stream._beat._status()
        assert began <= status["input_status"]["last_input_time"] <= now_ms()
        inference = status["inference_status"]
        assert began <= inference["last_output_time"] <= now_ms()
        assert "no such colour" in inference["last_error"]

    @pytest.mark.parametrize("trouble", ["down", "deaf"])
    async def test_a_server_in_trouble_hears_of_it_soon_after(
        self,
        trouble: str,
        patient_clock: MockClock,
        relay: str,
        proxy: Any,
        kit: Any,
        nursery: trio.Nursery,
    ) -> None:
        """Down from the start, up, in trouble for minutes, up again: silent only while it must be."""
        url, heard = f"{relay}/events", list[tuple[float, dict[str, Any]]]()
        await kit.make_channel(url, wire.JSON)
        nursery.start_soon(listen, url, heard)
        proxy.down()
        settings = StreamSettings(request_id="one", events_url=f"{proxy.url}/events")
        async with trio.open_nursery() as inner:
            await inner.start(Stream(settings, as_processor(passthrough)).run)
            await trio.sleep(60)
            assert not heard
            for _ in range(2):
                proxy.up()
                up_since = trio.current_time()
                await trio.sleep(100)
                times = [up_since, *(time for time, _ in heard if time > up_since), up_since + 100]
                gaps = [after - before for before, after in pairwise(times)]
                assert max(gaps) < SILENCE
                getattr(proxy, trouble)()
                await trio.sleep(100)
            inner.cancel_scope.cancel()
        assert "runner_receive_stream_request" in kinds(heard), "what was said first is not lost"


class TestData:
    async def test_plain_handlers_and_async_ones_share_a_channel_in_order(
        self, kit: Any, streaming: Any, relay: str, nursery: trio.Nursery
    ) -> None:
        def speak(frame: VideoFrame) -> None:
            for number in range(3):
                assert processor.send_data_nowait({"at": frame.timestamp, "number": number})

        processor = StreamProcessor(speak)
        parts: list[bytes] = []
        await kit.make_channel(f"{relay}/data", wire.JSON_LINES)
        nursery.start_soon(kit.collect, f"{relay}/data", parts)
        async with streaming(processor, data_url=f"{relay}/data") as run:
            await run.feed(kit.pictures(30))
            await run.end()
        await kit.delete_channel(f"{relay}/data")
        await wait_all_tasks_blocked(0.02)
        lines = [json.loads(line) for line in b"".join(parts).splitlines()]
        expected = [
            {"at": unit.pts, "number": number} for unit in kit.pictures(30) for number in range(3)
        ]
        assert lines == expected

    async def test_nothing_is_lost_while_the_server_comes_and_goes(
        self, patient_clock: MockClock, relay: str, proxy: Any, kit: Any
    ) -> None:
        """Sent all the time, from threads; the server is away twice, and breaks connections."""
        url, parts = f"{relay}/data", list[bytes]()
        await kit.make_channel(url, wire.JSON_LINES)
        outbox = data_outbox(f"{proxy.url}/data", Meters())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kit.collect, url, parts)
            async with trio.open_nursery() as inner:
                inner.start_soon(outbox.run)
                for number in range(150):
                    assert await trio.to_thread.run_sync(outbox.put, str(number))
                    if number % 50 == 20:
                        proxy.down()
                    if number % 50 == 40:
                        proxy.is_down = False
                    await trio.sleep(0.1)
                await trio.sleep(20)
                outbox.close(5)
            await kit.delete_channel(url)
        lines = [int(line) for line in b"".join(parts).split()]
        assert sorted(set(lines)) == list(range(150))
        assert outbox.dropped == 0

    async def test_many_are_gathered(self, patient_clock: MockClock, relay: str, kit: Any) -> None:
        url, parts = f"{relay}/data", list[bytes]()
        await kit.make_channel(url, wire.JSON_LINES)
        outbox = data_outbox(url, Meters())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kit.collect, url, parts)
            async with trio.open_nursery() as inner:
                inner.start_soon(outbox.run)
                for number in range(100):
                    outbox.put(str(number))
                    await trio.sleep(DATA_INTERVAL / 10)
                outbox.close(1)
            await kit.delete_channel(url)
        assert [int(line) for line in b"".join(parts).split()] == list(range(100))
        assert 8 <= len(parts) <= 11


class TestWaiting:
    async def test_what_waits_is_bounded_in_bytes_too(self) -> None:
        waiting = Waiting()
        assert waiting.put(b"x" * (WAITING_BYTES - 10)) == 0
        assert waiting.put(b"y" * 20) == 1
        assert waiting.take(WAITING) == [b"y" * 20]

    async def test_one_that_is_too_long_for_itself_is_lost_at_once(self) -> None:
        waiting = Waiting()
        assert waiting.put(b"x" * (WAITING_BYTES + 1)) == 1
        assert waiting.take(1) == []

    async def test_threads_wake_who_waits(self) -> None:
        waiting = Waiting()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, waiting.put, b"a")
            assert await waiting.wait()
        assert waiting.take(9) == [b"a"]
        waiting.close()
        assert not await waiting.wait()
        assert waiting.put(b"b") is None

    async def test_a_wait_can_be_cancelled(self, autojump_clock: MockClock) -> None:
        waiting = Waiting()
        for wait in (waiting.wait, waiting.wait_for_end):
            with trio.move_on_after(1) as scope:
                await wait()
            assert scope.cancelled_caught
        waiting.put(b"a")
        assert await waiting.wait()

    def test_what_comes_after_the_loop_goes_nowhere(self) -> None:
        async def make() -> Waiting:
            return Waiting()

        waiting = trio.run(make)
        assert waiting.put(b"a") == 0
