"""``on_stream_start`` and ``on_stream_stop``: once each, in every way in which a stream can end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from attrs import define, evolve, field
from trio.testing import MockClock, wait_all_tasks_blocked

from trickle_trio.media.frames import VideoFrame
from trickle_trio.processor import HandlerError, StreamProcessor, as_processor
from trickle_trio.stream.ending import End
from trickle_trio.stream.pipeline import Stream
from trickle_trio.stream.settings import Pace, StreamPolicy, StreamSettings

POLICY = StreamPolicy(
    pace=Pace.EVERY_FRAME,
    segment_seconds=0.5,
    input_timeout=1,
    handler_timeout=0.05,
    handler_strikes=2,
)


@define
class Told:
    """What a processor was told, in order. ``fail``: where it raises; ``hang``: where it stays."""

    fail: str = ""
    hang: str = ""
    calls: list[str] = field(factory=list)
    entered: trio.Event = field(factory=trio.Event)

    async def _tell(self, name: str) -> None:
        self.calls.append(name)
        if self.fail == name:
            raise ValueError(f"{name} fails")
        if self.hang == name:
            self.entered.set()
            await trio.sleep_forever()

    async def start(self, params: dict[str, Any]) -> None:
        await self._tell("start")

    async def stop(self) -> None:
        await self._tell("stop")

    async def update(self, params: dict[str, Any]) -> None:
        await self._tell("update")

    async def frame(self, frame: VideoFrame) -> VideoFrame:
        if self.hang == "frame":
            await trio.sleep_forever()
        return frame

    def processor(self) -> StreamProcessor:
        return StreamProcessor(
            self.frame,
            on_stream_start=self.start,
            on_stream_stop=self.stop,
            param_updater=self.update,
        )


async def input_ends(run: Any, kit: Any) -> None:
    await run.feed(kit.pictures(15))
    assert (await run.end()).end is End.INPUT_ENDED


async def input_falls_silent(run: Any, kit: Any) -> None:
    await run.feed(kit.pictures(15), delete=False)
    assert (await run.end()).end is End.INPUT_SILENT


async def output_is_closed(run: Any, kit: Any) -> None:
    await run.feed(kit.pictures(30), delete=False)
    while run.stream.meters.frames_out < 15:
        await trio.lowlevel.checkpoint()
    await kit.delete_channel(run.target)
    await run.ended.wait()
    assert run.outcome.end is End.OUTPUT_ENDED


async def stopped(run: Any, kit: Any) -> None:
    await run.feed(kit.pictures(15), delete=False)
    await run.stop()


async def stopped_at_once(run: Any, kit: Any) -> None:
    await run.stop()


async def stopped_inside_an_update(run: Any, kit: Any) -> None:
    run.nursery.start_soon(quiet_update, run)
    await wait_all_tasks_blocked()
    await run.stop()


async def quiet_update(run: Any) -> None:
    with pytest.raises(ValueError, match="stream ended"):
        await run.stream.update_params({"a": 1})


@pytest.mark.parametrize(
    ("told", "end"),
    [
        (Told, input_ends),
        (Told, input_falls_silent),
        (Told, output_is_closed),
        (Told, stopped),
        (Told, stopped_at_once),
        (lambda: Told(hang="update"), stopped_inside_an_update),
        (lambda: Told(fail="stop"), input_ends),
        (lambda: Told(fail="stop"), stopped),
    ],
)
async def test_once_each_whatever_the_end(
    kit: Any,
    streaming: Any,
    told: Callable[[], Told],
    end: Callable[[Any, Any], Awaitable[None]],
) -> None:
    processor = told()
    async with streaming(processor.processor(), policy=POLICY) as run:
        await end(run, kit)
    assert [call for call in processor.calls if call != "update"] == ["start", "stop"]


async def test_a_handler_that_hangs(kit: Any, streaming: Any) -> None:
    told = Told(hang="frame")
    async with streaming(told.processor(), policy=POLICY) as run:
        await run.feed(kit.pictures(15), delete=False)
        assert (await run.end()).end is End.HANDLER_HUNG
    assert told.calls == ["start", "stop"]


async def test_a_fault_of_ours(kit: Any, streaming: Any, caplog: Any) -> None:
    told = Told()
    async with streaming(told.processor(), policy=POLICY) as run:
        run.stream._line.wishes.size = "wide"
        run.nursery.start_soon(run.feed, kit.pictures(15))
        await run.ended.wait()
        assert run.outcome.end is End.FAULT
    assert told.calls == ["start", "stop"]
    assert "failed" in caplog.text


async def test_an_input_and_an_output_that_are_not_there(unused_port: int) -> None:
    for direction, end in (
        ("subscribe_url", End.INPUT_UNAVAILABLE),
        ("publish_url", End.OUTPUT_UNAVAILABLE),
    ):
        told = Told()
        urls: Any = {direction: f"http://127.0.0.1:{unused_port}/{direction}"}
        settings = StreamSettings(request_id="t", policy=POLICY, **urls)
        stream = Stream(settings, as_processor(told.processor()))
        if end is End.OUTPUT_UNAVAILABLE:
            with trio.move_on_after(0.2):  # retried for half a minute, so it is stopped
                await stream.run()
        else:
            assert (await stream.run()).end is end
        assert told.calls == ["start", "stop"]


class TestWhileItStarts:
    """The stream never ran; what was half set up is taken down."""

    @staticmethod
    def stream(told: Told) -> Stream:
        return Stream(StreamSettings(request_id="t", policy=POLICY), as_processor(told.processor()))

    async def test_it_fails(self) -> None:
        told = Told(fail="start")
        with pytest.raises(HandlerError, match="start fails"):
            await self.stream(told).run()
        assert told.calls == ["start", "stop"]

    async def test_it_is_cancelled(self, autojump_clock: MockClock) -> None:
        told = Told(hang="start")
        with trio.move_on_after(1) as scope:
            await self.stream(told).run()
        assert scope.cancelled_caught
        assert told.calls == ["start", "stop"]

    async def test_it_is_cancelled_and_the_stop_hangs_too(self, autojump_clock: MockClock) -> None:
        told = Told(hang="start")

        async def stuck() -> None:
            told.calls.append("stop")
            await trio.sleep_forever()

        processor = evolve_stop(told, stuck)
        stream = Stream(StreamSettings(request_id="t", policy=POLICY), as_processor(processor))
        with trio.move_on_after(1):
            await stream.run()
        assert told.calls == ["start", "stop"]
        assert trio.current_time() < 10

    async def test_parameters_that_the_updater_refuses_at_the_start(self) -> None:
        told = Told(fail="update")
        processor = StreamProcessor(told.frame, param_updater=told.update, on_stream_stop=told.stop)
        settings = StreamSettings(request_id="t", policy=POLICY, params={"a": 1})
        with pytest.raises(HandlerError, match="update fails"):
            await Stream(settings, as_processor(processor)).run()
        assert told.calls == ["update", "stop"]

    async def test_a_second_stream_is_refused_and_the_first_is_not_told(self) -> None:
        told = Told()
        handlers = as_processor(told.processor())
        async with trio.open_nursery() as nursery:
            settings = StreamSettings(request_id="t", policy=POLICY)
            await nursery.start(Stream(settings, handlers).run)
            with pytest.raises(RuntimeError, match="already runs in a stream"):
                await Stream(evolve(settings, request_id="u"), handlers).run()
            assert told.calls == ["start"]
            nursery.cancel_scope.cancel()
        assert told.calls == ["start", "stop"]


def evolve_stop(told: Told, stop: Callable[[], Awaitable[None]]) -> StreamProcessor:
    return StreamProcessor(told.frame, on_stream_start=told.start, on_stream_stop=stop)
