"""Looking on, over real sockets: what a viewer of a running stream gets, and what viewers cost."""

from __future__ import annotations

import io
import math
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import av
import httpx
import numpy as np
import pytest
import trio
from attrs import evolve
from av.container import InputContainer
from quart import Response
from quart_trio import QuartTrio
from trio.testing import MockClock, wait_all_tasks_blocked

from trickle_core.mpegts import AccessUnit, Codec, ElementaryStream
from trickle_core.subscriber import SubscriberSettings
from trickle_trio.media.fmp4 import UnplayableError
from trickle_trio.media.frames import VideoFrame
from trickle_trio.service.hosting import Address, Connection, host, open_listener
from trickle_trio.service.live import FIRST_PICTURE, MAX_VIEWERS, NothingToShowError, Viewers
from trickle_trio.stream.tap import VIEWER_BUFFER, Tap
from trickle_trio.subscription import open_subscription


def viewers_of(tap: Tap) -> set[Any]:
    return set(tap._viewers or ())


@pytest.fixture
def clock() -> MockClock:
    """Time runs when nothing else has for a moment: bytes between real sockets come first."""
    return MockClock(autojump_threshold=0.05)


PATIENT = SubscriberSettings(wait_for_channel=20)

Coded = Callable[..., tuple[AccessUnit, ...]]


def opened(data: bytes) -> InputContainer:
    return av.open(io.BytesIO(data), mode="r")


@asynccontextmanager
async def showing(tap: Tap) -> AsyncIterator[Address]:
    """An app that shows one tap."""
    app = QuartTrio(__name__, static_folder=None)
    app.asgi_http_class = Connection
    app.config["RESPONSE_TIMEOUT"] = 1
    viewers = Viewers()

    @app.route("/")
    async def view() -> Response:
        return await viewers.show(tap)

    @app.errorhandler(NothingToShowError)
    async def nothing(error: Exception) -> tuple[str, int]:
        return str(error), 503

    @app.errorhandler(UnplayableError)
    async def unplayable(error: Exception) -> tuple[str, int]:
        return str(error), 501

    listener = await open_listener("127.0.0.1", 0)
    stop = trio.Event()

    async def serve(*, task_status: trio.TaskStatus[Address]) -> None:
        await host(app, listener, stop.wait, task_status=task_status)

    async with trio.open_nursery() as nursery:
        yield await nursery.start(serve)
        tap.close()
        stop.set()


@asynccontextmanager
async def viewing(host: str, port: int, path: str = "/") -> AsyncIterator[trio.SocketStream]:
    async with await trio.open_tcp_stream(host, port) as stream:
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        await stream.send_all(request.encode())
        yield stream


async def received(stream: trio.SocketStream, *, fragments: float = math.inf) -> tuple[str, bytes]:
    """Head and body of a response: all of it, or as soon as it has so many fragments."""
    data = b""
    async for more in stream:
        data += more
        if data.count(b"moof") > fragments:
            break
    head, _, rest = data.partition(b"\r\n\r\n")
    return head.decode(), b"".join(chunks(rest)) if b"chunked" in head else rest


def chunks(data: bytes) -> Iterator[bytes]:
    """Yield what is in the whole chunks of a body."""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        if len(data) < length + 2:
            return
        yield data[:length]
        data = data[length + 2 :]


async def watched(tap: Tap) -> None:
    """Return when somebody looks on."""
    while not viewers_of(tap):
        await trio.lowlevel.checkpoint()


async def test_a_viewer_gets_the_stream_from_a_key_picture_to_its_end(coded: Coded) -> None:
    tap = Tap()
    async with showing(tap) as address, viewing(*address) as stream:
        await watched(tap)
        for unit in coded()[7:]:
            tap.offer(unit)
        tap.close()
        head, data = await received(stream)
    assert 'content-type: video/mp4; codecs="avc1.' in head.lower()
    assert "no-store" in head
    with opened(data) as container:
        assert len(list(container.decode(video=0))) == 30
    with opened(data) as container:
        assert container.streams.audio[0].rate == 48_000


async def test_a_picture_that_becomes_unplayable_ends_the_view_and_the_next_says_why(
    coded: Coded, caplog: pytest.LogCaptureFixture
) -> None:
    tap = Tap()
    units = [unit for unit in coded() if unit.stream.codec.is_video]
    recoded = [evolve(unit, stream=ElementaryStream(256, Codec.H265)) for unit in units]
    async with showing(tap) as address:
        async with viewing(*address) as stream:
            await watched(tap)
            for unit in units + recoded:
                tap.offer(unit)
            _, data = await received(stream)
        async with viewing(*address) as stream:
            await watched(tap)
            tap.offer(recoded[0])
            head, _ = await received(stream)
    with opened(data) as container:
        assert len(list(container.decode(video=0))) == len(units)
    assert " 501 " in head
    assert not caplog.records


async def test_a_view_outlasts_the_apps_response_timeout(coded: Coded, clock: MockClock) -> None:
    tap = Tap()
    units = coded()
    async with showing(tap) as address, viewing(*address) as stream:
        await watched(tap)
        for unit in units[:40]:
            tap.offer(unit)
        await wait_all_tasks_blocked(0.01)
        await trio.sleep(10)
        for unit in units[40:]:
            tap.offer(unit)
        tap.close()
        _, data = await received(stream)
    with opened(data) as container:
        assert len(list(container.decode(video=0))) == 40


async def test_a_viewer_is_told_when_no_picture_comes(clock: MockClock) -> None:
    tap = Tap()
    async with showing(tap) as address, viewing(*address) as stream:
        began = trio.current_time()
        head, _ = await received(stream)
        assert trio.current_time() - began >= FIRST_PICTURE
    assert " 503 " in head.splitlines()[0]
    assert not viewers_of(tap)


async def test_a_viewer_is_told_what_it_could_not_play() -> None:
    tap = Tap()
    async with showing(tap) as address, viewing(*address) as stream:
        await watched(tap)
        tap.offer(AccessUnit(ElementaryStream(256, Codec.H265), b"\0\0\1\x26", 0, 0, key=True))
        head, _ = await received(stream)
    assert " 501 " in head.splitlines()[0]
    assert not viewers_of(tap)


async def test_another_size_ends_the_view_so_that_the_player_comes_again(coded: Coded) -> None:
    tap = Tap()
    shift = 40 * 3000
    async with showing(tap) as address, viewing(*address) as stream:
        await watched(tap)
        for unit in coded():
            tap.offer(unit)
        for unit in coded(320, 180):
            tap.offer(evolve(unit, pts=unit.pts + shift, dts=unit.dts + shift))
        _, data = await received(stream)
    with opened(data) as container:
        assert {frame.width for frame in container.decode(video=0)} == {160}
    assert not viewers_of(tap)


async def test_a_viewer_that_goes_leaves_nothing(coded: Coded) -> None:
    tap = Tap()
    async with showing(tap) as address:
        async with viewing(*address) as stream:
            await watched(tap)
            for unit in coded():
                tap.offer(unit)
            await stream.receive_some()
            assert viewers_of(tap)
        with trio.fail_after(10):
            while viewers_of(tap):
                await trio.lowlevel.checkpoint()


async def test_a_viewer_that_goes_before_the_first_picture_leaves_nothing() -> None:
    tap = Tap()
    async with showing(tap) as address:
        async with viewing(*address):
            await watched(tap)
        with trio.fail_after(10):
            while viewers_of(tap):
                await trio.lowlevel.checkpoint()


async def test_a_viewer_that_takes_nothing_holds_nobody_up(coded: Coded) -> None:
    """The tap skips for it, others see every picture, and what waits for it stays bounded."""
    tap = Tap()
    units = coded(640, 360)
    rounds = 30
    shown: list[bytes] = []

    async def watch(stream: trio.SocketStream) -> None:
        shown.append((await received(stream))[1])

    async with showing(tap) as address, viewing(*address) as slow_stream:
        slow_stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await watched(tap)
        (slow,) = viewers_of(tap)
        async with viewing(*address) as quick_stream, trio.open_nursery() as nursery:
            nursery.start_soon(watch, quick_stream)
            while len(viewers_of(tap)) < 2:
                await trio.lowlevel.checkpoint()
            (quick,) = viewers_of(tap) - {slow}
            for number in range(rounds):
                shift = number * 40 * 3000
                for unit in units:
                    tap.offer(evolve(unit, pts=unit.pts + shift, dts=unit.dts + shift))
                    while quick.units.statistics().current_buffer_used > 8:
                        await trio.lowlevel.checkpoint()
            assert slow.units.statistics().current_buffer_used == VIEWER_BUFFER
            tap.close()
    with opened(shown[0]) as container:
        assert sum(packet.pts is not None for packet in container.demux(video=0)) == rounds * 40


async def test_the_room_for_viewers_is_bounded_and_comes_free_again(coded: Coded) -> None:
    tap = Tap()
    async with showing(tap) as address:
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                async with viewing(*address) as stream:
                    await received(stream)

            for _ in range(MAX_VIEWERS):
                nursery.start_soon(wait)
            while len(viewers_of(tap)) < MAX_VIEWERS:
                await trio.lowlevel.checkpoint()
            async with viewing(*address) as stream:
                head, _ = await received(stream)
            assert " 503 " in head.splitlines()[0]
            nursery.cancel_scope.cancel()
        async with viewing(*address) as stream:
            await watched(tap)
            for unit in coded():
                tap.offer(unit)
            tap.close()
            head, _ = await received(stream)
        assert " 200 " in head.splitlines()[0]


async def test_input_and_output_of_a_running_stream(
    serving: Any, relay: str, publish: Any, coded: Coded
) -> None:
    """The whole way: a publisher, a relay, a stream that turns pictures dark, and two viewers who leave."""
    views: dict[str, bytes] = {}

    async def view(api: Any, name: str) -> None:
        url = api.base_url
        async with viewing(url.host, url.port, f"/api/streams/s/{name}.mp4") as stream:
            _, views[name] = await received(stream, fragments=40)

    def darken(frame: VideoFrame) -> VideoFrame:
        black = np.zeros_like(frame.to_ndarray())
        return VideoFrame.from_ndarray(black, timestamp=frame.timestamp, time_base=frame.time_base)

    async with serving(darken) as api, trio.open_nursery() as nursery:
        await api.when("IDLE")
        nursery.start_soon(publish, f"{relay}/in", coded())
        urls = {"subscribe_url": f"{relay}/in", "publish_url": f"{relay}/out"}
        answer = await api.start(gateway_request_id="s", params={"max_framerate": 60}, **urls)
        assert answer.status_code == 200
        async with trio.open_nursery() as viewers:
            viewers.start_soon(view, api, "input")
            viewers.start_soon(view, api, "output")
        status = (await api.get("/api/stream/status")).json()
        assert (status["width_in"], status["height_in"]) == (160, 96)
        assert status["frames_out"] > 0
        nursery.cancel_scope.cancel()  # the publisher closes its channel, and the stream ends by itself
        with trio.CancelScope(shield=True):
            await api.when("IDLE")
            ended = (await api.get("/api/streams")).json()["ended"]
    assert [(each["reason"], each["normal"]) for each in ended] == [("the input has ended", True)]
    assert brightness(views["input"]) > 100
    assert brightness(views["output"]) < 30


def brightness(data: bytes) -> int:
    """The brightest pixel of all pictures."""
    with opened(data) as container:
        return max(
            int(frame.to_ndarray(format="gray8").max()) for frame in container.decode(video=0)
        )


async def test_a_live_view_of_no_stream_is_404_and_a_head_request_holds_nothing(api: Any) -> None:
    assert (await api.get("/api/streams/none/input.mp4")).status_code == 404
    await api.start(gateway_request_id="s")
    answer = await api.head("/api/streams/s/output.mp4")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "video/mp4")
    assert (await api.stop()).status_code == 200


async def test_stopping_a_stream_ends_its_views(api: Any) -> None:
    await api.start(gateway_request_id="s")
    statuses: list[int] = []

    async def view() -> None:
        statuses.append((await api.get("/api/streams/s/input.mp4")).status_code)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(view)
        await wait_all_tasks_blocked(0.02)
        assert (await api.stop()).status_code == 200
    assert statuses == [503]


async def test_the_end_of_the_service_ends_views_and_the_open_segment_as_whole(
    serving: Any, relay: str, publish: Any, coded: Coded
) -> None:
    """Streams are stopped before connections are: a viewer sees the end of its response, a reader a whole segment."""
    whole: list[bool] = []
    tails: list[bytes] = []
    flowing = trio.Event()

    async def read() -> None:
        async with open_subscription(f"{relay}/out", settings=PATIENT) as subscription:
            async for segment in subscription:
                async for _ in segment:
                    flowing.set()
                whole.append(not segment.truncated)

    async def view(api: Any) -> None:
        async with viewing(
            api.base_url.host, api.base_url.port, "/api/streams/s/output.mp4"
        ) as stream:
            tails.append(b"".join([data async for data in stream])[-7:])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish, f"{relay}/in", coded())
        async with trio.open_nursery() as lookers:
            async with serving(lambda frame: frame) as api:
                await api.when("IDLE")
                urls = {"subscribe_url": f"{relay}/in", "publish_url": f"{relay}/out"}
                await api.start(gateway_request_id="s", params={"max_framerate": 60}, **urls)
                lookers.start_soon(view, api)
                nursery.start_soon(read)
                await flowing.wait()
                while (await api.get("/api/stream/status")).json()["segments_out"] < 1:
                    pass
        async with httpx.AsyncClient() as client:
            await client.delete(f"{relay}/out")
        while len(whole) < 1:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert tails == [b"\r\n0\r\n\r\n"]
    assert all(whole)
