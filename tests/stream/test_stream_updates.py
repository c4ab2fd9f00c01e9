"""Changes of parameters: in order, gathered under a storm, whole or not at all."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
import trio
from attrs import define, field, frozen, validators
from trio.testing import MockClock, wait_all_tasks_blocked

from trickle_core import wire
from trickle_trio.media.frames import VideoFrame
from trickle_trio.processor import HandlerError, ParamsError, StreamProcessor, param_updater
from trickle_trio.publication import open_publication
from trickle_trio.stream.settings import StreamPolicy
from trickle_trio.stream.updates import INTERVAL, WAITING, Updates


@define
class Target:
    """Takes what is applied; a change with a ``bad`` key is refused, by check or by the processor."""

    seconds: float = 0.0
    calls: list[dict[str, Any]] = field(factory=list)

    def check(self, params: Mapping[str, Any]) -> dict[str, Any]:
        if "wrong" in params:
            raise ParamsError("is wrong", field="wrong")
        return dict(params)

    async def apply(self, params: dict[str, Any]) -> None:
        self.calls.append(params)
        await trio.sleep(self.seconds)
        if "bad" in params:
            raise HandlerError("updater", f"cannot do {params['bad']}")

    def updates(self) -> Updates:
        return Updates(self.check, self.apply)


@pytest.fixture
def target() -> Target:
    return Target()


class TestUpdates:
    async def test_one_after_another_in_order(
        self, autojump_clock: MockClock, nursery: trio.Nursery, target: Target
    ) -> None:
        updates = target.updates()
        nursery.start_soon(updates.run)
        for number in range(5):
            await updates.make({"a": number})
        assert target.calls == [{"a": number} for number in range(5)]

    async def test_a_storm_is_gathered_and_the_newest_wins(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        """500 in two seconds, to a processor that takes a fifth of a second over each."""
        target = Target(seconds=0.2)
        updates = target.updates()
        nursery.start_soon(updates.run)
        for number in range(500):
            updates.put({"a": number, f"key{number % 3}": number})
            await trio.sleep(2 / 500)
        await updates.make({"last": True})
        assert len(target.calls) <= 12
        values = [call["a"] for call in target.calls if "a" in call]
        assert values == sorted(values)
        final: dict[str, Any] = {}
        for call in target.calls:
            final |= call
        assert final == {"a": 499, "key0": 498, "key1": 499, "key2": 497, "last": True}

    async def test_one_that_is_quick_is_called_once_a_frame_at_most(
        self, autojump_clock: MockClock, nursery: trio.Nursery, target: Target
    ) -> None:
        updates = target.updates()
        nursery.start_soon(updates.run)
        for number in range(500):
            updates.put({"a": number})
            await trio.sleep(2 / 500)
        assert len(target.calls) <= 2 / INTERVAL + 1
        await trio.sleep(2 * INTERVAL)
        assert target.calls[-1] == {"a": 499}

    async def test_what_is_wrong_is_refused_at_once_and_changes_nothing(
        self, autojump_clock: MockClock, nursery: trio.Nursery, target: Target
    ) -> None:
        updates = target.updates()
        with pytest.raises(ParamsError, match="wrong"):
            updates.put({"wrong": 1, "a": 1})
        with pytest.raises(ParamsError, match="wrong"):
            await updates.make({"wrong": 1})
        nursery.start_soon(updates.run)
        await updates.make({"a": 2})
        assert target.calls == [{"a": 2}]

    async def test_nobody_pays_for_anothers_mistake(
        self, autojump_clock: MockClock, nursery: trio.Nursery, target: Target
    ) -> None:
        updates = target.updates()
        verdicts: dict[str, str] = {}

        async def make(name: str, params: dict[str, Any]) -> None:
            try:
                await updates.make(params)
                verdicts[name] = "done"
            except HandlerError as error:
                verdicts[name] = str(error)

        for name, params in (("one", {"a": 1}), ("two", {"bad": 7, "a": 2}), ("three", {"b": 3})):
            nursery.start_soon(make, name, params)
            await wait_all_tasks_blocked()
        nursery.start_soon(updates.run)
        await trio.sleep(1)
        assert verdicts == {"one": "done", "two": "updater cannot do 7", "three": "done"}
        assert target.calls == [{"a": 2, "bad": 7, "b": 3}, {"a": 1}, {"bad": 7, "a": 2}, {"b": 3}]

    async def test_what_waits_is_bounded(self, autojump_clock: MockClock, target: Target) -> None:
        """Saturation: nothing is taken out, and more than may wait is still not lost."""
        updates = target.updates()
        for number in range(10_000):
            updates.put({f"key{number % 100}": number})
        assert len(updates._waiting) == WAITING
        async with trio.open_nursery() as nursery:
            nursery.start_soon(updates.run)
            await updates.make({"last": 1})
            nursery.cancel_scope.cancel()
        [whole] = target.calls
        assert whole == {f"key{n}": 9900 + n for n in range(100)} | {"last": 1}

    @pytest.mark.parametrize("seconds", [0.0, 5.0])
    async def test_the_end_of_the_stream_refuses_what_still_waits(
        self, autojump_clock: MockClock, seconds: float
    ) -> None:
        target = Target(seconds=seconds)
        updates = target.updates()
        refused: list[str] = []

        async def make(number: int) -> None:
            try:
                await updates.make({"a": number})
            except ParamsError as error:
                refused.append(str(error))

        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as inner:
                inner.start_soon(updates.run)
                nursery.start_soon(make, 1)
                await wait_all_tasks_blocked()
                nursery.start_soon(make, 2)
                await wait_all_tasks_blocked()
                inner.cancel_scope.cancel()
        assert len(refused) == 1 + bool(seconds)
        assert all("stream ended" in reason for reason in refused)
        with pytest.raises(ParamsError, match="the stream has ended"):
            updates.put({"a": 3})

    async def test_who_gives_up_waiting_changes_nothing_for_the_others(
        self, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        target = Target(seconds=3)
        updates = target.updates()
        nursery.start_soon(updates.run)
        with trio.move_on_after(1) as scope:
            await updates.make({"a": 1})
        assert scope.cancelled_caught
        await updates.make({"a": 2})
        assert target.calls == [{"a": 1}, {"a": 2}]


@frozen
class Look:
    strength: float = field(default=0.5, validator=[validators.ge(0), validators.le(1)])
    count: int = 3


class TestStream:
    """The same by the control channel of a whole stream, over a real relay."""

    @staticmethod
    async def storm(url: str, messages: list[bytes], seconds: float) -> None:
        async with open_publication(url, mime_type=wire.JSON) as publication:
            for message in messages:
                async with publication.segment() as segment:
                    await segment.send(message)
                await trio.sleep(seconds / len(messages))

    async def test_a_storm_of_500_in_two_seconds(
        self, kit: Any, streaming: Any, relay: str
    ) -> None:
        """Wrong ones among them: the processor hears few calls, in order, the newest last."""
        got: list[dict[str, Any]] = []

        def update(params: dict[str, Any]) -> None:
            got.append(params)

        processor = StreamProcessor(passthrough, param_updater=update, params=Look)
        url = f"{relay}/control"
        await kit.make_channel(url, wire.JSON)
        messages = [json.dumps({"count": number}).encode() for number in range(500)]
        messages[100:100] = [b'{"count": ', b'{"strength": 7}', b'{"keep": "alive"}', b'{"odd": 1}']
        async with streaming(processor, control_url=url) as run:
            began = trio.current_time()
            await self.storm(url, messages, 2.0)
            while run.stream.params["count"] != 499:
                await trio.lowlevel.checkpoint()
            assert run.stream.params == {"strength": 0.5, "count": 499}
            assert run.stream.meters.errors["control"] == 3
            seconds = trio.current_time() - began
            await run.stop()
        counts = [params["count"] for params in got]
        assert counts[0] == 3, "the defaults, at the start"
        assert counts[1:] == sorted(counts[1:])
        assert counts[-1] == 499
        assert len(counts) <= seconds / INTERVAL + 2

    async def test_a_long_prompt_sent_again_on_reconnect(
        self, kit: Any, streaming: Any, relay: str, proxy: Any
    ) -> None:
        """200 KB over a connection that breaks: applied whole, and as often as it is sent."""
        got: list[dict[str, Any]] = []

        async def update(params: dict[str, Any]) -> None:
            got.append(params)

        processor = StreamProcessor(passthrough, param_updater=update)
        url = f"{relay}/control"
        await kit.make_channel(url, wire.JSON)
        message = json.dumps({"prompt": "x" * 200_000}).encode()
        async with streaming(processor, control_url=f"{proxy.url}/control") as run:
            await self.storm(url, [message], 0.0)
            while not got:
                await trio.lowlevel.checkpoint()
            proxy.cut()
            await self.storm(url, [message], 0.0)
            while len(got) < 2:
                await trio.lowlevel.checkpoint()
            assert run.stream.params == {"prompt": "x" * 200_000}
            await run.stop()
        assert got == [{"prompt": "x" * 200_000}] * 2

    async def test_never_while_the_handler_runs_on_another_thread(
        self, kit: Any, streaming: Any
    ) -> None:
        inside, clashes, updates = threading.Lock(), list[str](), list[int]()

        def handle(frame: VideoFrame) -> VideoFrame:
            with inside:
                frame.to_ndarray()
            return frame

        async def update(params: dict[str, Any]) -> None:
            if inside.locked():
                clashes.append("a frame was inside")
            updates.append(params["number"])

        processor = StreamProcessor(handle, param_updater=update)
        async with streaming(processor) as run:
            run.nursery.start_soon(partial(run.feed, kit.pictures(120), delete=False))
            for number in range(20):
                await run.stream.update_params({"number": number})
            await run.stop()
        assert updates == list(range(20))
        assert not clashes

    async def test_an_updater_that_hangs_is_given_up(
        self, autojump_clock: MockClock, kit: Any, streaming: Any
    ) -> None:
        @param_updater
        async def hang(params: dict[str, Any]) -> None:
            if params.get("hang"):
                await trio.sleep_forever()

        policy = StreamPolicy(handler_timeout=2.0)
        processor = StreamProcessor(passthrough, param_updater=hang)
        async with streaming(processor, policy=policy) as run:
            with pytest.raises(HandlerError, match="no answer within 2 s"):
                await run.stream.update_params({"hang": 1})
            await run.stream.update_params({"hang": 0})
            assert run.stream.params == {"hang": 0}
            await run.stop()


async def passthrough(frame: VideoFrame) -> VideoFrame:
    return frame
