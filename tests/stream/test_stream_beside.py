"""What runs beside the media: control, events, data, and how each of them ends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from attrs import define, evolve, field
from trio.testing import MockClock, wait_all_tasks_blocked

from trickle_core import wire
from trickle_trio.publication import open_publication
from trickle_trio.stream.control import LARGEST_MESSAGE, Control
from trickle_trio.stream.events import Events
from trickle_trio.stream.farewell import finish_within
from trickle_trio.stream.meters import Meters
from trickle_trio.stream.outbox import (
    ATTEMPTS,
    DATA_INTERVAL,
    DATA_KEEPALIVE,
    WAITING,
    Outbox,
    data_outbox,
    events_outbox,
)
from trickle_trio.stream.settings import StreamPolicy, StreamSettings


@pytest.fixture
def patient_clock() -> MockClock:
    """Jumps, but only after the loopback has had time to deliver."""
    return MockClock(autojump_threshold=0.02)


@asynccontextmanager
async def posting(outbox: Outbox, within: float = 1.0) -> AsyncIterator[None]:
    """The outbox at work for the length of the block, then closed and waited for."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.run)
        yield
        outbox.close(within)


@asynccontextmanager
async def reading(kit: Any, url: str, mime_type: str) -> AsyncIterator[list[bytes]]:
    """What a channel carries: complete behind the block."""
    parts: list[bytes] = []
    await kit.make_channel(url, mime_type)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(kit.collect, url, parts)
        yield parts
        await kit.delete_channel(url)


class TestOutbox:
    async def test_each_event_is_a_segment_in_order(self, relay: str, kit: Any) -> None:
        url = f"{relay}/events"
        async with reading(kit, url, wire.JSON) as parts:
            outbox = events_outbox(url, Meters())
            async with posting(outbox):
                assert all(outbox.put(str(number)) for number in range(30))
        assert parts == [str(number).encode() for number in range(30)]

    async def test_data_is_gathered_into_lines(
        self, patient_clock: MockClock, relay: str, kit: Any
    ) -> None:
        url = f"{relay}/data"
        async with reading(kit, url, wire.JSON_LINES) as parts:
            outbox = data_outbox(url, Meters())
            async with posting(outbox):
                for number in range(6):
                    outbox.put(str(number))
                    await trio.sleep(DATA_INTERVAL / 3)
        assert b"".join(parts) == b"0\n1\n2\n3\n4\n5\n"
        assert len(parts) == 2

    async def test_what_is_still_queued_at_the_end_goes_out(self, relay: str, kit: Any) -> None:
        url = f"{relay}/data"
        async with reading(kit, url, wire.JSON_LINES) as parts:
            outbox = data_outbox(url, Meters())
            async with posting(outbox):
                for number in range(1000):
                    outbox.put(str(number))
        assert b"".join(parts).split() == [str(number).encode() for number in range(1000)]

    async def test_silence_is_broken_by_a_sign_of_life(
        self, patient_clock: MockClock, relay: str, kit: Any
    ) -> None:
        url = f"{relay}/data"
        async with reading(kit, url, wire.JSON_LINES) as parts:
            async with posting(data_outbox(url, Meters())):
                await trio.sleep(2 * DATA_KEEPALIVE + 2)
        assert [json.loads(part) for part in parts] == [{"keep": "alive"}] * 2

    async def test_more_than_may_wait_pushes_the_oldest_out(self, relay: str, kit: Any) -> None:
        """Saturation: putting never waits, and what waits is bounded."""
        url, meters = f"{relay}/data", Meters()
        outbox = data_outbox(url, meters)
        for number in range(WAITING + 100):
            assert outbox.put(str(number))
        assert outbox.dropped == meters.errors["data"] == 100
        async with reading(kit, url, wire.JSON_LINES) as parts, posting(outbox):
            pass
        lines = b"".join(parts).split()
        assert lines == [str(number).encode() for number in range(100, WAITING + 100)]

    async def test_when_it_is_over_it_says_so(self, relay: str, kit: Any) -> None:
        outbox = events_outbox(f"{relay}/events", Meters())
        async with posting(outbox):
            outbox.put("1")
        assert not outbox.put("2")

    async def test_a_server_that_comes_late_gets_everything(
        self, relay: str, proxy: Any, kit: Any
    ) -> None:
        proxy.down()
        async with reading(kit, f"{relay}/events", wire.JSON) as parts:
            outbox = events_outbox(f"{proxy.url}/events", Meters())
            async with posting(outbox, within=5):
                for number in range(10):
                    outbox.put(str(number))
                await wait_all_tasks_blocked(0.02)
                proxy.is_down = False
        assert parts == [str(number).encode() for number in range(10)]

    async def test_a_batch_whose_segment_breaks_is_published_again(
        self, relay: str, proxy: Any, kit: Any
    ) -> None:
        large = json.dumps("x" * 6_000_000)
        meters = Meters()
        proxy.limit = 1_000_000
        async with reading(kit, f"{relay}/events", wire.JSON) as parts:
            outbox = events_outbox(f"{proxy.url}/events", meters)
            async with posting(outbox, within=5):
                outbox.put(large)
                while not meters.errors["events"]:
                    await trio.lowlevel.checkpoint()
                proxy.limit = 1e12
        assert parts[-1] == large.encode()
        assert outbox.dropped == 0

    async def test_but_not_for_ever(
        self, patient_clock: MockClock, relay: str, proxy: Any, kit: Any
    ) -> None:
        """What breaks the server every time must not keep the rest from it."""
        meters = Meters()
        proxy.limit = 1_000_000
        async with reading(kit, f"{relay}/events", wire.JSON) as parts:
            outbox = events_outbox(f"{proxy.url}/events", meters)
            async with posting(outbox, within=60):
                outbox.put(json.dumps("x" * 6_000_000))
                outbox.put('"small"')
                await trio.sleep(30)
        assert parts[-1] == b'"small"'
        assert meters.errors["events"] == ATTEMPTS + 1

    async def test_a_channel_that_is_gone_is_told_and_ends_nothing_else(
        self, relay: str, kit: Any
    ) -> None:
        url, meters = f"{relay}/events", Meters()
        outbox = events_outbox(url, meters)
        async with posting(outbox):
            await kit.make_channel(url)
            await wait_all_tasks_blocked(0.02)
            await kit.delete_channel(url)
            put = 0
            while outbox.put("1"):
                put += 1
                await trio.lowlevel.checkpoint()
        assert outbox.dropped >= 1, "what came too late, and what was waiting"
        assert meters.errors["events"] == 1 + outbox.dropped

    async def test_a_cancellation_outside_leaves_time_for_the_last_words(
        self, relay: str, kit: Any
    ) -> None:
        async with reading(kit, f"{relay}/events", wire.JSON) as parts:
            outbox = events_outbox(f"{relay}/events", Meters())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(outbox.run)
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
                assert outbox.put("the last word")
                outbox.close(within=1.0)
        assert parts == [b"the last word"]

    async def test_but_no_more_than_that(self, patient_clock: MockClock, unused_port: int) -> None:
        outbox = events_outbox(f"http://127.0.0.1:{unused_port}/events", Meters())
        began = trio.current_time()
        async with posting(outbox, within=1.0):
            outbox.put("nobody hears this")
            await trio.sleep(5)
        assert trio.current_time() - began < 5 + 1 + 2.5


@define
class Station:
    """A control channel being read."""

    url: str
    applied: list[Mapping[str, Any]] = field(factory=list)
    refused: list[str] = field(factory=list)
    meters: Meters = field(factory=Meters)

    def apply(self, params: Mapping[str, Any]) -> None:
        if "wrong" in params:
            raise ValueError(f"wrong is {params['wrong']}")
        self.applied.append(params)

    async def run(self) -> None:
        await Control(self.url, self.apply, self.refused.append, self.meters).run()


class TestControl:
    @staticmethod
    async def hear(relay: str, kit: Any, *messages: bytes) -> Station:
        """What comes of these messages, to the channel's end."""
        station = Station(f"{relay}/control")
        await kit.make_channel(station.url, wire.JSON)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(station.run)
            await wait_all_tasks_blocked(0.01)
            await kit.publish(station.url, messages, mime_type=wire.JSON)
        return station

    async def test_each_message_is_applied_in_order(self, relay: str, kit: Any) -> None:
        messages = [json.dumps({"strength": number}).encode() for number in range(20)]
        station = await self.hear(relay, kit, *messages)
        assert station.applied == [{"strength": number} for number in range(20)]

    async def test_a_long_message_is_read_whole(self, relay: str, kit: Any) -> None:
        prompt = "a very long prompt " * 11_000
        station = await self.hear(relay, kit, json.dumps({"prompt": prompt}).encode())
        assert station.applied == [{"prompt": prompt}]

    async def test_signs_of_life_and_empty_messages_are_dropped(self, relay: str, kit: Any) -> None:
        station = await self.hear(relay, kit, b'{"keep": "alive"}', b" \n", b"{}")
        assert station.applied == []
        assert station.refused == []

    async def test_a_parameter_that_is_called_keep_is_none(self, relay: str, kit: Any) -> None:
        station = await self.hear(relay, kit, b'{"keep": 0.5}')
        assert station.applied == [{"keep": 0.5}]

    @pytest.mark.parametrize(
        ("message", "reason"),
        [
            (b"{", "is not JSON"),
            (b"\xff\xfe", "is not JSON"),
            (b'{"a": NaN}', "NaN is no JSON value"),
            (b'{"a": [-1e999]}', "-1e999 is no JSON value"),
            (b"[1, 2]", "is a list, not an object"),
            (b'"text"', "is a str, not an object"),
            (b"[" * 100_000, "is not JSON"),
            (b'{"wrong": 7}', "wrong is 7"),
        ],
    )
    async def test_what_makes_no_sense_is_refused_and_the_next_one_applies(
        self, relay: str, kit: Any, message: bytes, reason: str
    ) -> None:
        station = await self.hear(relay, kit, message, b'{"right": 1}')
        assert station.applied == [{"right": 1}]
        assert reason in station.refused[0]
        assert station.meters.errors == {"control": 1}

    async def test_one_without_end_is_refused_before_it_fills_the_memory(
        self, relay: str, kit: Any
    ) -> None:
        station = await self.hear(relay, kit, b" " * (LARGEST_MESSAGE + 1), b'{"right": 1}')
        assert "is larger than" in station.refused[0]
        assert station.applied == [{"right": 1}]

    async def test_one_that_breaks_off_is_refused(self, relay: str, proxy: Any, kit: Any) -> None:
        station = Station(f"{proxy.url}/control")
        url = f"{relay}/control"
        await kit.make_channel(url, wire.JSON)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(station.run)
            await wait_all_tasks_blocked(0.01)
            async with open_publication(url, mime_type=wire.JSON) as publication:
                async with publication.segment() as segment:
                    await segment.send(b'{"half": ')
                    await wait_all_tasks_blocked(0.02)
                    proxy.cut()
                    while not station.refused:
                        await trio.lowlevel.checkpoint()
                async with publication.segment() as segment:
                    await segment.send(b'{"whole": 1}')
                while not station.applied:
                    await trio.lowlevel.checkpoint()
            await kit.delete_channel(url)
        assert station.refused == ["control message 0 broke off after 9 bytes"]
        assert station.applied == [{"whole": 1}]

    async def test_a_server_that_refuses_is_told_and_ends_nothing_else(
        self, nursery: trio.Nursery
    ) -> None:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")

        async def refuse(stream: trio.SocketStream) -> None:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")

        nursery.start_soon(trio.serve_listeners, refuse, [listener])
        port = listener.socket.getsockname()[1]
        station = Station(f"http://127.0.0.1:{port}/control")
        await station.run()
        assert station.meters.errors == {"control": 1}
        assert "403" in str(station.meters.last_error)


class TestEvents:
    @staticmethod
    def told(outbox: Outbox) -> list[dict[str, Any]]:
        return [json.loads(text) for text in outbox._waiting.take(WAITING)]

    async def test_an_event_carries_its_type_the_time_and_the_stream(self) -> None:
        outbox = events_outbox("http://localhost/events", Meters())
        assert Events("id7", outbox).send({"type": "custom", "a": 1}, "my_queue")
        [message] = self.told(outbox)
        assert message["queue_event_type"] == "my_queue"
        stamp = message["event"].pop("timestamp")
        assert message["event"] == {"type": "custom", "a": 1, "request_id": "id7"}
        assert isinstance(stamp, int)
        assert stamp > 1_600_000_000_000

    async def test_a_milestone_is_told_once(self) -> None:
        outbox = events_outbox("http://localhost/events", Meters())
        events = Events("id", outbox)
        for _ in range(3):
            events.trace("runner_receive_first_ingest_segment")
        [message] = self.told(outbox)
        assert message["queue_event_type"] == "stream_trace"

    async def test_without_a_channel_nothing_is_told(self) -> None:
        events = Events("id", None)
        assert not events.send({"type": "custom"}, "any")
        events.life("stream_started")
        events.trace("first")

    @pytest.mark.parametrize("event", [{"a": object()}, {"a": float("nan")}, {("a",): 1}])
    async def test_what_json_cannot_hold_is_the_callers_fault(self, event: Any) -> None:
        outbox = events_outbox("http://localhost/events", Meters())
        with pytest.raises((TypeError, ValueError)):
            Events("id", outbox).send(event, "any")
        assert self.told(outbox) == []

    async def test_parameters_of_any_type_are_told_as_text(self) -> None:
        outbox = events_outbox("http://localhost/events", Meters())
        Events("id", outbox).life("params_updated", params={"rate": float("inf")}, size=3)
        [message] = self.told(outbox)
        assert message["event"]["params"] == "{'rate': inf}"
        assert message["event"]["size"] == 3


class TestFarewell:
    async def test_a_station_that_ends_by_itself_ends_it(self, autojump_clock: MockClock) -> None:
        async def station() -> None:
            await trio.sleep(3)

        await finish_within(1, station)
        assert trio.current_time() == 3

    async def test_a_cancellation_lets_it_finish(self, autojump_clock: MockClock) -> None:
        finished = False

        async def station() -> None:
            nonlocal finished
            await trio.sleep(2.5)
            finished = True

        with trio.move_on_after(2) as scope:
            await finish_within(1, station)
        assert finished
        assert trio.current_time() == 2.5
        assert scope.cancel_called

    async def test_but_not_for_longer_than_the_bound(self, autojump_clock: MockClock) -> None:
        with trio.move_on_after(2) as scope:
            await finish_within(1, trio.sleep_forever)
        assert trio.current_time() == 3
        assert scope.cancelled_caught

    async def test_its_faults_come_out(self, autojump_clock: MockClock) -> None:
        async def station() -> None:
            raise ValueError("mine")

        with pytest.RaisesGroup(ValueError):
            await finish_within(1, station)


class TestSettings:
    def test_a_stream_needs_nothing_but_a_name(self) -> None:
        settings = StreamSettings(request_id="id")
        assert settings.urls() == {}
        assert settings.size is None

    @pytest.mark.parametrize("name", ["subscribe", "publish", "control", "events", "data"])
    @pytest.mark.parametrize("url", ["nonsense", "http://host", "ftp://host/a", "http://host/a?b"])
    def test_an_address_that_is_none_of_a_channel_is_refused_by_name(
        self, name: str, url: str
    ) -> None:
        with pytest.raises(ValueError, match=f"{name}_url: .* is no channel address|names no"):
            StreamSettings(request_id="id", **{f"{name}_url": url})  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("given", "written"),
        [("subscribe", "publish"), ("control", "events"), ("subscribe", "data")],
    )
    def test_a_channel_is_read_or_written(self, given: str, written: str) -> None:
        urls: Any = {f"{given}_url": "http://host/a", f"{written}_url": "http://host/a/"}
        with pytest.raises(ValueError, match=f"{written}_url: .* {given}_url"):
            StreamSettings(request_id="id", **urls)

    def test_a_size_has_two_sides(self) -> None:
        with pytest.raises(ValueError, match="together"):
            StreamSettings(request_id="id", width=640)
        assert StreamSettings(request_id="id", width=640, height=360).size == (640, 360)
        assert StreamSettings(request_id="id", width=1, height=1).size == (2, 2)

    @pytest.mark.parametrize(
        "change",
        [{"max_framerate": 0}, {"max_framerate": 61}, {"width": 0, "height": 5}],
    )
    def test_what_cannot_be_is_refused(self, change: dict[str, int]) -> None:
        with pytest.raises(ValueError, match="must be"):
            StreamSettings(request_id="id", **change)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "name", ["segment_seconds", "input_timeout", "handler_timeout", "waiting_frames"]
    )
    def test_bounds_are_positive(self, name: str) -> None:
        with pytest.raises(ValueError, match=name):
            evolve(StreamPolicy(), **{name: 0})  # type: ignore[arg-type]
