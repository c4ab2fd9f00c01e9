"""What may go wrong around a running stream, and what becomes of it."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trickle_core import wire
from trickle_core.relay_settings import RelaySettings
from trickle_trio.media.frames import VideoFrame
from trickle_trio.processor import HandlerError, StreamProcessor, as_processor
from trickle_trio.publication import open_publication
from trickle_trio.relay import serve_relay
from trickle_trio.stream import pipeline
from trickle_trio.stream.ending import End
from trickle_trio.stream.pipeline import Stream
from trickle_trio.stream.settings import Pace, StreamPolicy, StreamSettings

IMPATIENT = StreamPolicy(pace=Pace.EVERY_FRAME, segment_seconds=0.5, input_timeout=1)


async def passthrough(frame: VideoFrame) -> VideoFrame:
    return frame


def stream_of(**options: Any) -> Stream:
    given: dict[str, Any] = {"max_framerate": 60, "policy": IMPATIENT} | options
    return Stream(StreamSettings(request_id="test", **given), as_processor(passthrough))


class TestInput:
    async def test_a_channel_that_is_not_there_ends_it_with_that_reason(self, relay: str) -> None:
        outcome = await stream_of(subscribe_url=f"{relay}/nothing").run()
        assert outcome.end is End.INPUT_UNAVAILABLE
        assert str(outcome) == (
            f"the input cannot be read: {relay}/nothing: there is no such channel"
        )

    async def test_a_server_that_is_not_there_too(self, unused_port: int) -> None:
        outcome = await stream_of(subscribe_url=f"http://127.0.0.1:{unused_port}/in").run()
        assert outcome.end is End.INPUT_UNAVAILABLE
        assert "could not be reached" in outcome.detail

    async def test_a_channel_that_comes_late_is_read(
        self, kit: Any, relay: str, proxy: Any
    ) -> None:
        url = f"{relay}/late"
        stream = stream_of(subscribe_url=f"{proxy.url}/late", policy=kit.EVERY_FRAME)
        async with trio.open_nursery() as nursery:
            await nursery.start(stream.run)
            while not proxy.answered:  # with a 404
                await trio.lowlevel.checkpoint()
            await kit.publish(url, kit.segments(kit.pictures(30)), delete=False)
            while stream.statistics().frames_out < 15:  # of the live edge
                assert stream.outcome is None
                await trio.lowlevel.checkpoint()
            await kit.delete_channel(url)
        assert stream.outcome is not None
        assert stream.outcome.end is End.INPUT_ENDED

    async def test_one_that_says_nothing_ends_it_with_that_reason(
        self, kit: Any, streaming: Any
    ) -> None:
        async with streaming(passthrough, policy=IMPATIENT) as run:
            outcome = await run.end()
        assert outcome.end is End.INPUT_SILENT
        assert "nothing came for 1 s" in outcome.detail

    async def test_one_that_falls_silent_too_and_what_came_before_comes_out(
        self, kit: Any, streaming: Any
    ) -> None:
        async with streaming(passthrough, policy=IMPATIENT) as run:
            run.nursery.start_soon(partial(run.feed, kit.pictures(30), delete=False))
            outcome = await run.end()
        assert outcome.end is End.INPUT_SILENT
        assert kit.looks_like(run.played(), range(30))

    async def test_connections_that_break_cost_no_more_than_the_segment(
        self, kit: Any, streaming: Any, relay: str, proxy: Any
    ) -> None:
        """The stream reads through a connection that breaks inside the second segment."""
        parts = kit.segments(kit.pictures(60))
        source, direct = f"{proxy.url}/broken", f"{relay}/broken"
        await kit.make_channel(direct)
        async with streaming(passthrough, subscribe_url=source) as run:
            async with open_publication(direct) as publication:
                for index, part in enumerate(parts):
                    async with publication.segment() as segment:
                        await segment.send(part[: len(part) // 2])
                        if index == 1:
                            while run.stream.statistics().frames_in < 20:
                                await trio.lowlevel.checkpoint()
                            proxy.cut()
                            await wait_all_tasks_blocked(0.02)
                        await segment.send(part[len(part) // 2 :])
                    while run.stream.statistics().frames_in < 15 * index:
                        await trio.lowlevel.checkpoint()
            await kit.delete_channel(direct)
            assert (await run.end()).end is End.INPUT_ENDED
        greys = run.played().greys()
        expected = [kit.grey(number) for number in range(60)]
        assert greys[:15] == pytest.approx(expected[:15], abs=12)
        assert greys[-15:] == pytest.approx(expected[-15:], abs=12)
        assert run.stream.statistics().segments_truncated == 1

    async def test_a_server_that_goes_and_comes_back_is_read_on(
        self, kit: Any, streaming: Any, relay: str, proxy: Any
    ) -> None:
        source, direct = f"{proxy.url}/away", f"{relay}/away"
        policy = StreamPolicy(pace=Pace.EVERY_FRAME, segment_seconds=0.5, input_timeout=5)
        await kit.make_channel(direct)
        async with streaming(passthrough, subscribe_url=source, policy=policy) as run:
            await kit.publish(direct, kit.segments(kit.pictures(30)), delete=False)
            while run.stream.statistics().frames_out < 28:
                await trio.lowlevel.checkpoint()
            proxy.down()
            await wait_all_tasks_blocked(0.05)
            proxy.is_down = False
            later = kit.pictures(30, start=kit.START + 30 * kit.STEP, first=30)
            await kit.publish(direct, kit.segments(later))
            assert (await run.end()).end is End.INPUT_ENDED
        assert kit.looks_like(run.played(), range(60))


class TestOutput:
    async def test_a_server_that_begins_anew_gets_time_to_have_the_channel_again(
        self, kit: Any, relay: str, proxy: Any, nursery: trio.Nursery
    ) -> None:
        """Its relay is another one now, which has not heard of the channel yet."""
        another = await nursery.start(partial(serve_relay, port=0))
        settings = StreamSettings(
            request_id="test",
            subscribe_url=f"{proxy.url}/in",
            max_framerate=60,
            policy=StreamPolicy(pace=Pace.EVERY_FRAME),
        )
        stream = Stream(settings, as_processor(passthrough))
        parts = kit.segments(kit.pictures(30))
        await kit.publish(f"{relay}/in", parts, delete=False)
        with trio.fail_after(20):
            async with trio.open_nursery() as inner:
                await inner.start(stream.run)
                while stream.statistics().frames_out < 10:
                    await trio.lowlevel.checkpoint()
                proxy.down()
                while not proxy.refused:
                    await trio.lowlevel.checkpoint()
                proxy.port, before = another.port, proxy.answered
                proxy.up()
                while proxy.answered < before + 2:  # with a 404 each
                    assert stream.outcome is None
                    await trio.lowlevel.checkpoint()
                assert stream.outcome is None
                seen = stream.statistics().frames_out
                await kit.publish(f"{another.url}/in", parts, delete=False)
                while stream.statistics().frames_out < seen + 10:
                    assert stream.outcome is None
                    await trio.lowlevel.checkpoint()
                await kit.delete_channel(f"{another.url}/in")
        assert stream.outcome is not None
        assert stream.outcome.end is End.INPUT_ENDED

    async def test_a_channel_that_is_deleted_ends_it(self, kit: Any, streaming: Any) -> None:
        async with streaming(passthrough) as run:
            run.nursery.start_soon(partial(run.feed, kit.pictures(30), delete=False))
            while run.stream.statistics().frames_out < 20:
                await trio.lowlevel.checkpoint()
            await kit.delete_channel(run.target)
            # It is seen by the next picture, and all of the first thirty may be out.
            more = kit.pictures(30, start=kit.START + 30 * kit.STEP)
            run.nursery.start_soon(partial(run.feed, more, delete=False))
            await run.ended.wait()
        assert run.outcome.end is End.OUTPUT_ENDED

    async def test_a_server_that_breaks_and_comes_back_gets_the_rest(
        self, kit: Any, bound_relay: Any, relay: str, proxy: Any, nursery: trio.Nursery
    ) -> None:
        """It has forgotten everything: another relay on the same address."""
        source, parts = f"{relay}/in", list[bytes]()
        stream = stream_of(
            subscribe_url=source, publish_url=f"{proxy.url}/out", policy=kit.EVERY_FRAME
        )
        bound = await nursery.start(
            partial(serve_relay, port=0, settings=RelaySettings(window=20, linger=10))
        )
        await kit.make_channel(source)
        async with trio.open_nursery() as inner:
            await inner.start(stream.run)
            await kit.readers_come(bound_relay, [source], trio.Event())
            units = kit.pictures(60)
            async with open_publication(source) as publication:
                async with publication.segment() as segment:
                    await segment.send(kit.segments(units[:15])[0])
                    while stream.statistics().frames_out < 14:
                        await trio.lowlevel.checkpoint()
                    proxy.down()
                    proxy.port = bound.port
                    await wait_all_tasks_blocked(0.05)
                    proxy.is_down = False
                for part in kit.segments(units[15:]):
                    async with publication.segment() as segment:
                        await segment.send(part)
                    await wait_all_tasks_blocked(0.05)
            await kit.delete_channel(source)
            inner.start_soon(kit.collect, f"{bound.url}/out", parts)
            await wait_all_tasks_blocked(0.05)
            while stream.outcome is None:
                await trio.lowlevel.checkpoint()
            await kit.delete_channel(f"{bound.url}/out")
        assert stream.outcome.end is End.INPUT_ENDED
        greys = kit.play(b"".join(parts)).greys()
        expected = [kit.grey(number) for number in range(60)]
        assert greys[-15:] == pytest.approx(expected[-15:], abs=12)

    async def test_a_server_that_is_never_there_ends_it_in_the_end(
        self, kit: Any, relay: str, unused_port: int
    ) -> None:
        stream = stream_of(
            subscribe_url=f"{relay}/in", publish_url=f"http://127.0.0.1:{unused_port}/out"
        )
        await kit.make_channel(f"{relay}/in")
        with trio.move_on_after(5):
            await stream.run()
        # Its retries outlast the input's patience here; what matters is that it ends.
        assert stream.outcome is not None
        assert stream.outcome.end in (End.INPUT_SILENT, End.OUTPUT_UNAVAILABLE)


def told(parts: list[bytes]) -> list[dict[str, Any]]:
    """The events, but for the signs of life."""
    messages = [json.loads(part) for part in parts]
    signs = ("stream_heartbeat", "status")
    return [each["event"] for each in messages if each["queue_event_type"] not in signs]


class TestBeside:
    @pytest.fixture
    async def beside(self, kit: Any, relay: str, nursery: trio.Nursery) -> Any:
        """The addresses of the channels beside, and what they carry."""
        urls = {f"{name}_url": f"{relay}/{name}" for name in ("control", "events", "data")}
        carried: dict[str, list[bytes]] = {"events": [], "data": []}
        for name in ("control", "events", "data"):
            await kit.make_channel(urls[f"{name}_url"], wire.JSON)
        for name, parts in carried.items():
            nursery.start_soon(kit.collect, urls[f"{name}_url"], parts)

        class Beside:
            addresses = urls

            @staticmethod
            async def read(name: str) -> list[bytes]:
                await kit.delete_channel(urls[f"{name}_url"])
                await wait_all_tasks_blocked(0.02)
                return carried[name]

        return Beside

    async def test_events_tell_the_streams_life_in_order(
        self, kit: Any, streaming: Any, beside: Any
    ) -> None:
        async with streaming(passthrough, params={"strength": 2}, **beside.addresses) as run:
            await run.feed(kit.pictures(30))
            await run.end()
        events = told(await beside.read("events"))
        assert [event["type"] for event in events] == [
            "runner_receive_stream_request",
            "stream_started",
            "runner_receive_first_ingest_segment",
            "runner_send_first_processed_segment",
            "stream_stopped",
        ]
        assert events[1]["params"] == {"strength": 2}
        assert events[-1]["reason"] == "the input has ended"
        stamps = [event["timestamp"] for event in events]
        assert stamps == sorted(stamps)

    async def test_also_when_it_is_stopped_and_the_processor_takes_its_time_over_it(
        self, kit: Any, streaming: Any, beside: Any
    ) -> None:
        async def stopping() -> None:
            await trio.sleep(3 * policy.farewell)

        policy = StreamPolicy(farewell=0.1)
        processor = StreamProcessor(passthrough, on_stream_stop=stopping)
        async with streaming(processor, policy=policy, **beside.addresses) as run:
            await run.stop()
        assert [event["type"] for event in told(await beside.read("events"))] == [
            "runner_receive_stream_request",
            "stream_started",
            "stream_stopped",
        ]

    async def test_a_fault_is_told_before_the_end(
        self, kit: Any, streaming: Any, beside: Any
    ) -> None:
        async with streaming(passthrough, policy=IMPATIENT, **beside.addresses) as run:
            await run.end()
        events = told(await beside.read("events"))
        assert [event["type"] for event in events][-2:] == ["error", "stream_stopped"]
        assert "silent" in events[-2]["message"]

    async def test_the_first_heartbeat_comes_at_once(
        self, kit: Any, streaming: Any, beside: Any
    ) -> None:
        async with streaming(passthrough, **beside.addresses) as run:
            await run.stop()
        messages = [json.loads(part) for part in await beside.read("events")]
        [beat] = [each for each in messages if each["queue_event_type"] == "stream_heartbeat"]
        assert beat["event"]["urls"] == run.stream.settings.urls()
        assert set(beat["event"]) >= {"type", "timestamp", "urls", "dimensions", "fps"}

    async def test_a_control_message_reaches_the_processor_and_the_picture(
        self, kit: Any, streaming: Any, beside: Any
    ) -> None:
        got: list[Any] = []

        def update(params: dict[str, Any]) -> None:
            got.append(params)

        processor = StreamProcessor(passthrough, param_updater=update)
        messages = [b'{"strength": 3, "width": 64, "height": 48}', b'{"keep": "alive"}', b"[]"]
        async with streaming(processor, **beside.addresses) as run:
            run.nursery.start_soon(
                partial(kit.publish, beside.addresses["control_url"], messages, delete=False)
            )
            # The last message is refused while the first one is with its updater, in a thread.
            while not (run.stream.meters.errors["control"] and "width" in run.stream.own_params):
                await trio.lowlevel.checkpoint()
            await run.feed(kit.pictures(15))
            await run.end()
        assert got == [{"strength": 3}]
        assert run.stream.params == {"strength": 3}
        assert {seen.size for seen in run.played().seen} == {(64, 48)}
        events = told(await beside.read("events"))
        [updated] = [event for event in events if event["type"] == "params_updated"]
        assert updated["params"] == {"strength": 3, "width": 64, "height": 48}
        [error] = [event for event in events if event["type"] == "error"]
        assert "not an object" in error["message"]

    @pytest.mark.parametrize(
        "params",
        [
            {"max_framerate": 0},
            {"max_framerate": "fast"},
            {"max_framerate": None},
            {"width": 64},
            {"width": 64, "height": -1},
            {"height": [], "width": 5},
        ],
    )
    async def test_wrong_parameters_of_ours_change_nothing(
        self, kit: Any, streaming: Any, params: dict[str, Any]
    ) -> None:
        async with streaming(passthrough) as run:
            with pytest.raises(ValueError, match=r"max_framerate|width|height|not supported"):
                await run.stream.update_params({"strength": 1} | params)
            assert run.stream.params == {}
            await run.feed(kit.pictures(15))
            assert (await run.end()).end is End.INPUT_ENDED
        assert kit.looks_like(run.played(), range(15))

    async def test_every_line_of_data_is_there(self, kit: Any, streaming: Any, beside: Any) -> None:
        async def speak(frame: VideoFrame) -> None:
            assert await processor.send_data({"frame": frame.timestamp})

        processor = StreamProcessor(speak)
        async with streaming(processor, **beside.addresses) as run:
            await run.feed(kit.pictures(45))
            await run.end()
        lines = b"".join(await beside.read("data")).splitlines()
        expected = [{"frame": unit.pts} for unit in kit.pictures(45)]
        assert [json.loads(line) for line in lines] == expected

    async def test_an_event_of_the_processors_own(
        self, kit: Any, streaming: Any, beside: Any
    ) -> None:
        async def speak(frame: VideoFrame) -> None:
            await processor.send_monitoring_event({"type": "seen"}, "my_events")

        processor = StreamProcessor(speak)
        async with streaming(processor, **beside.addresses) as run:
            await run.feed(kit.pictures(1))
            await run.end()
        messages = [json.loads(part) for part in await beside.read("events")]
        assert "my_events" in {message["queue_event_type"] for message in messages}

    async def test_a_processor_that_fails_over_its_parameters_is_told_of_and_goes_on(
        self, kit: Any, streaming: Any, beside: Any
    ) -> None:
        def update(params: dict[str, Any]) -> None:
            raise ValueError("too strong")

        processor = StreamProcessor(passthrough, param_updater=update)
        async with streaming(processor, **beside.addresses) as run:
            with pytest.raises(HandlerError, match="too strong"):
                await run.stream.update_params({"strength": 11, "width": 64, "height": 48})
            assert run.stream.params == {}
            assert "width" not in run.stream.own_params
            await run.feed(kit.pictures(15))
            assert (await run.end()).end is End.INPUT_ENDED
        assert {seen.size for seen in run.played().seen} == {(160, 96)}
        errors = [e for e in told(await beside.read("events")) if e["type"] == "error"]
        assert "too strong" in errors[0]["message"]

    async def test_channels_beside_that_are_not_there_harm_nothing(
        self, kit: Any, streaming: Any, unused_port: int
    ) -> None:
        nowhere = f"http://127.0.0.1:{unused_port}"
        urls = {f"{name}_url": f"{nowhere}/{name}" for name in ("control", "events", "data")}
        policy = StreamPolicy(pace=Pace.EVERY_FRAME, segment_seconds=0.5, farewell=0.05)
        async with streaming(passthrough, policy=policy, **urls) as run:
            await run.feed(kit.pictures(30))
            assert (await run.end()).end is End.INPUT_ENDED
        assert kit.looks_like(run.played(), range(30))


class TestStartAndStop:
    async def test_a_processor_that_fails_to_start_starts_nothing(
        self, kit: Any, relay: str
    ) -> None:
        stopped = []

        def fail(params: dict[str, Any]) -> None:
            raise ValueError("no memory")

        processor = StreamProcessor(
            passthrough, on_stream_start=fail, on_stream_stop=lambda: stopped.append(1)
        )
        events: list[bytes] = []
        await kit.make_channel(f"{relay}/events", wire.JSON)
        settings = StreamSettings(
            request_id="test", subscribe_url=f"{relay}/in", events_url=f"{relay}/events"
        )
        stream = Stream(settings, as_processor(processor))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kit.collect, f"{relay}/events", events)
            with pytest.raises(HandlerError, match="no memory"):
                await stream.run()
            await kit.delete_channel(f"{relay}/events")
        assert [event["type"] for event in told(events)] == [
            "runner_receive_stream_request",
            "error",
            "stream_stopped",
        ]
        assert stopped == [1]
        assert stream.outcome is None

    async def test_and_may_be_started_again(self, kit: Any, streaming: Any) -> None:
        attempts = []

        def fail_once(params: dict[str, Any]) -> None:
            attempts.append(params)
            if len(attempts) == 1:
                raise ValueError("not yet")

        handlers = as_processor(StreamProcessor(passthrough, on_stream_start=fail_once))
        with pytest.RaisesGroup(HandlerError, flatten_subgroups=True):
            async with streaming(handlers):
                pass
        async with streaming(handlers) as run:
            await run.feed(kit.pictures(15))
            assert (await run.end()).end is End.INPUT_ENDED

    async def test_a_processor_that_hangs_over_the_end_is_not_waited_for_long(
        self, kit: Any, streaming: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pipeline, "STOP_HANDLER", 0.05)
        processor = StreamProcessor(passthrough, on_stream_stop=trio.sleep_forever)
        async with streaming(processor) as run:
            await run.feed(kit.pictures(15))
            assert (await run.end()).end is End.INPUT_ENDED

    async def test_one_that_fails_over_the_end_too(
        self, kit: Any, streaming: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def fail() -> None:
            raise ValueError("cannot let go")

        async with streaming(StreamProcessor(passthrough, on_stream_stop=fail)) as run:
            await run.stop()
        assert "cannot let go" in caplog.text
        assert "Cancelled" not in caplog.text  # what was going on in our code is no part of it

    async def test_parameters_of_any_type_start_it(
        self, kit: Any, streaming: Any, relay: str
    ) -> None:
        """Programs that start streams themselves give what they like."""
        got: list[Any] = []
        processor = StreamProcessor(passthrough, on_stream_start=got.append)
        url = f"{relay}/events"
        await kit.make_channel(url, wire.JSON)
        odd = {"model": object(), "rate": float("nan")}
        async with streaming(processor, params=odd, events_url=url) as run:
            await run.feed(kit.pictures(15))
            assert (await run.end()).end is End.INPUT_ENDED
        assert got == [odd]

    async def test_a_stop_ends_the_open_segment_whole(self, kit: Any, streaming: Any) -> None:
        """With and without a station for the sound: whoever writes last ends the output."""
        for audio in (None, lambda frame: frame):
            async with streaming(StreamProcessor(passthrough, audio_processor=audio)) as run:
                await run.feed(kit.footage(20), delete=False)
                while run.stream.statistics().frames_out < 18:
                    await trio.lowlevel.checkpoint()
                await run.stop()
            assert run.outcome is None
            assert run.stream.statistics().segments_lost == 0
            assert len(run.played().seen) >= 18

    async def test_a_fault_of_ours_ends_the_stream_and_is_logged(
        self, kit: Any, streaming: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with streaming(passthrough) as run:
            run.stream._line.wishes.size = "wide"
            run.nursery.start_soon(run.feed, kit.pictures(15))
            outcome = await run.end()
        assert outcome.end is End.FAULT
        assert "Traceback" in caplog.text
