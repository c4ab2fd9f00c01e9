"""Footage whose content is known, channels on a real relay, and whole streams between them."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any

import av
import httpx
import numpy as np
import pytest
import trio
from attrs import define, field, frozen
from numpy.typing import NDArray

from trickle_core import wire
from trickle_core.mpegts import CLOCK_RATE, AccessUnit, Muxer
from trickle_core.publisher import PublisherSettings
from trickle_core.relay_settings import RelaySettings
from trickle_trio.media.encode import (
    AudioEncoder,
    AudioEncoderSettings,
    VideoEncoder,
    VideoEncoderSettings,
)
from trickle_trio.media.frames import AudioFrame, VideoFrame
from trickle_trio.processor import as_processor
from trickle_trio.publication import open_publication
from trickle_trio.relay import BoundRelay, serve_relay
from trickle_trio.stream.ending import Outcome
from trickle_trio.stream.pipeline import Stream
from trickle_trio.stream.settings import Pace, StreamPolicy, StreamSettings
from trickle_trio.subscription import open_subscription

STEP = 3000
"""1/90000 s between two pictures: 30 a second."""
START = 90_000
RATE = 48_000
EVERY_FRAME = StreamPolicy(pace=Pace.EVERY_FRAME, segment_seconds=0.5)


def grey(number: int) -> int:
    """How bright the picture of this number is: neighbours differ by far more than coding does."""
    return 40 + number * 67 % 180


@lru_cache(maxsize=32)
def pictures(
    count: int,
    *,
    size: tuple[int, int] = (160, 96),
    gop: int = 15,
    start: int = START,
    first: int = 0,
    encoder: str = "libx264",
) -> tuple[AccessUnit, ...]:
    """Coded pictures, each of its ``grey``; ``first`` is the number of the first."""
    codec = VideoEncoder(VideoEncoderSettings(codec=encoder))
    units: list[AccessUnit] = []
    for index in range(count):
        pixels = np.full((size[1], size[0], 3), grey(first + index), np.uint8)
        frame = VideoFrame.from_ndarray(pixels, start + index * STEP)
        units += codec.encode(frame, key=index % gop == 0)
    units += codec.flush()
    codec.close()
    return tuple(units)


@lru_cache(maxsize=32)
def sounds(
    seconds: float, *, layout: str = "mono", start: int = START, codec: str = "aac"
) -> tuple[AccessUnit, ...]:
    """A coded tone."""
    channels = av.AudioLayout(layout).nb_channels
    encoder = AudioEncoder(AudioEncoderSettings(codec=codec), rate=RATE, layout=layout)
    time = np.arange(round(seconds * RATE)) / RATE
    tone = np.tile(0.3 * np.sin(2 * np.pi * 440 * time), (channels, 1)).astype(np.float32)
    frame = AudioFrame.from_ndarray(tone, start * RATE // CLOCK_RATE, rate=RATE, layout=layout)
    units = encoder.encode(frame) + encoder.flush()
    encoder.close()
    return tuple(units)


def mixed(*tracks: Iterable[AccessUnit]) -> tuple[AccessUnit, ...]:
    """Units of several tracks in the order of their times."""
    return tuple(sorted((unit for track in tracks for unit in track), key=lambda unit: unit.dts))


def footage(count: int, *, layout: str = "mono", **options: Any) -> tuple[AccessUnit, ...]:
    """Pictures and sound of the same length."""
    start = options.get("start", START)
    sound = sounds(count * STEP / CLOCK_RATE, layout=layout, start=start)
    return mixed(pictures(count, **options), sound)


def segments(units: Sequence[AccessUnit]) -> list[bytes]:
    """A transport stream, cut at key frames; where there is no picture, every half second."""
    streams = {unit.stream.pid: unit.stream for unit in units}
    muxer = Muxer([streams[pid] for pid in sorted(streams)])
    return [muxer.tables() + b"".join(muxer.write(unit) for unit in part) for part in _parts(units)]


def _parts(units: Sequence[AccessUnit]) -> Iterator[list[AccessUnit]]:
    has_picture = any(unit.stream.codec.is_video for unit in units)
    part: list[AccessUnit] = []
    for unit in units:
        is_key = unit.stream.codec.is_video and unit.key
        is_long = bool(part) and unit.dts - part[0].dts >= CLOCK_RATE // 2
        if part and (is_key if has_picture else is_long):
            yield part
            part = []
        part.append(unit)
    yield part


@frozen
class Seen:
    """A decoded picture."""

    time: float
    size: tuple[int, int]
    brightness: float


@frozen
class Heard:
    """A decoded run of sound."""

    time: float
    samples: NDArray[Any]
    layout: str
    rate: int


@define
class Played:
    """What a player makes of a transport stream."""

    seen: list[Seen] = field(factory=list)
    heard: list[Heard] = field(factory=list)

    def greys(self) -> list[int]:
        return [round(picture.brightness) for picture in self.seen]


def play(data: bytes) -> Played:
    """Decode all of it with PyAV, from its first byte; times must rise."""
    played = Played()
    with av.open(io.BytesIO(data), "r", format="mpegts") as container:
        for packet in container.demux():
            for frame in packet.decode():
                assert isinstance(frame, av.VideoFrame | av.AudioFrame)
                assert frame.time is not None
                if isinstance(frame, av.VideoFrame):
                    assert not frame.is_corrupt
                    luma = frame.to_ndarray(format="gray").mean()
                    size = (frame.width, frame.height)
                    played.seen.append(Seen(frame.time, size, float(luma)))
                elif isinstance(frame, av.AudioFrame):
                    array = frame.to_ndarray()
                    rate, layout = frame.sample_rate, frame.layout.name
                    played.heard.append(Heard(frame.time, array, layout, rate))
    for track in (played.seen, played.heard):
        times = [item.time for item in track]
        assert all(a < b for a, b in pairwise(times)), "times go back"
    return played


def looks_like(played: Played, numbers: Iterable[int]) -> bool:
    """Whether these are the pictures of those numbers, one for one."""
    expected = [grey(number) for number in numbers]
    greys = played.greys()
    return len(greys) == len(expected) and all(
        abs(seen - wanted) < 12 for seen, wanted in zip(greys, expected, strict=True)
    )


# -- channels on a relay


async def make_channel(url: str, mime_type: str = wire.MPEG_TS) -> None:
    """Have a channel made, so that who reads it need not ask again."""
    async with httpx.AsyncClient() as client:
        (await client.post(url, headers={wire.EXPECT_CONTENT: mime_type})).raise_for_status()


async def delete_channel(url: str) -> None:
    async with httpx.AsyncClient() as client:
        (await client.delete(url)).raise_for_status()


async def publish(
    url: str,
    parts: Sequence[bytes],
    *,
    mime_type: str = wire.MPEG_TS,
    delete: bool = True,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Write segments to a channel as fast as they are read, then end it."""
    settings = PublisherSettings(create=True, delete=delete)
    async with open_publication(url, mime_type=mime_type, settings=settings) as publication:
        for part in parts:
            async with publication.segment() as segment:
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                await segment.send(part)
        await trio.lowlevel.checkpoint()


async def collect(url: str, into: list[bytes], *, start: int = 0) -> None:
    """Read a channel's segments until it ends."""
    async with open_subscription(url, start=start) as subscription:
        async for segment in subscription:
            data = await segment.read()
            assert not segment.truncated
            into.append(data)


@define
class Proxy:
    """Stands before a server, and breaks its connections when it is told to."""

    url: str
    port: int
    _open: set[trio.SocketStream] = field(factory=set)
    _clients: set[trio.SocketStream] = field(factory=set)
    is_down: bool = False
    _ears: trio.Event = field(factory=trio.Event)
    limit: float = math.inf
    """Bytes that one client may send; then its connections break."""
    answered: int = 0
    """Pieces of answers that have gone back."""
    refused: int = 0
    """Connections that came while it was down."""

    def cut(self) -> None:
        """Reset every connection, now."""
        for stream in self._open:
            linger = struct.pack("ii", 1, 0)
            stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, linger)
            stream.socket.close()

    def __attrs_post_init__(self) -> None:
        self._ears.set()

    def down(self) -> None:
        """Reset every connection, and each new one, until ``is_down`` is False again."""
        self.is_down = True
        self.cut()

    def deaf(self) -> None:
        """Connections are made, and nothing that is said on them arrives, until ``up``."""
        self._ears = trio.Event()

    def up(self) -> None:
        """All is well again."""
        self.is_down = False
        self._ears.set()

    async def serve(self, client: trio.SocketStream) -> None:
        self._open.add(client)
        self._clients.add(client)
        try:
            if self.is_down:
                self.refused += 1
                self.cut()
                return
            with suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                async with await trio.open_tcp_stream("127.0.0.1", self.port) as server:
                    self._open.add(server)
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._forward, client, server, nursery.cancel_scope)
                        nursery.start_soon(self._forward, server, client, nursery.cancel_scope)
                    self._open.discard(server)
        finally:
            self._open.discard(client)

    async def _forward(
        self, source: trio.SocketStream, target: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        count = 0
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in source:
                count += len(data)
                if count > self.limit:
                    self.cut()
                await self._ears.wait()
                await target.send_all(data)
                self.answered += target in self._clients
        scope.cancel()


@pytest.fixture
async def proxy(relay: str, nursery: trio.Nursery) -> Proxy:
    """The relay, with something between that can break."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    proxy = Proxy(f"http://127.0.0.1:{port}", int(relay.rpartition(":")[2]))
    nursery.start_soon(trio.serve_listeners, proxy.serve, [listener])
    return proxy


# -- whole streams


@define
class Run:
    """One stream from channel to channel; ``parts`` are the output's segments."""

    stream: Stream
    url: str
    nursery: trio.Nursery
    parts: list[bytes] = field(factory=list)
    outcome: Outcome | None = None
    ended: trio.Event = field(factory=trio.Event)
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    collected: trio.Event = field(factory=trio.Event)

    @property
    def source(self) -> str:
        return f"{self.url}-in"

    @property
    def target(self) -> str:
        return f"{self.url}-out"

    async def feed(self, units: Sequence[AccessUnit], *, delete: bool = True) -> None:
        """Publish footage into the input."""
        await publish(self.source, segments(units), delete=delete)

    async def end(self) -> Outcome:
        """Wait until the stream has ended by itself, and its output been read."""
        await self.ended.wait()
        assert self.outcome is not None
        await self._close_output()
        return self.outcome

    async def stop(self) -> None:
        """Stop the stream, and read its output to the end."""
        self.scope.cancel()
        await self.ended.wait()
        await self._close_output()

    async def _close_output(self) -> None:
        if self.stream.settings.publish_url:
            await delete_channel(self.target)
            await self.collected.wait()

    def played(self) -> Played:
        return play(b"".join(self.parts))

    async def _run(self, *, task_status: trio.TaskStatus[Any]) -> None:
        with self.scope:
            self.outcome = await self.stream.run(task_status=task_status)
        self.ended.set()

    async def _collect(self) -> None:
        await collect(self.target, self.parts)
        self.collected.set()


@pytest.fixture
async def bound_relay(nursery: trio.Nursery) -> BoundRelay:
    """A relay that keeps what a deleted channel held: tests publish faster than a stream reads."""
    settings = RelaySettings(window=20, linger=10)
    bound = await nursery.start(partial(serve_relay, port=0, settings=settings))
    assert isinstance(bound, BoundRelay)
    return bound


@pytest.fixture
def relay(bound_relay: BoundRelay) -> str:
    """Its address."""
    return bound_relay.url


async def readers_come(relay: BoundRelay, urls: Iterable[str], ended: trio.Event) -> None:
    """Wait until somebody reads each of the channels that there are, or will not any more.

    A reader joins at the newest segment: whoever publishes sooner makes it miss the first ones.
    """
    names = [name for url in urls if (name := url.rpartition("/")[2]) in relay.channels]
    while not ended.is_set() and not all(relay.channels[name].readers for name in names):
        await trio.lowlevel.checkpoint()


Streaming = Callable[..., AbstractAsyncContextManager[Run]]


@pytest.fixture
def streaming(bound_relay: BoundRelay) -> Streaming:
    """``async with streaming(processor, policy=..., max_framerate=...) as run``: a stream that runs.

    Its channels are there, it waits for the first segment (whose channel is of ``mime_type``) and for
    control messages, and its output is being read. The whole block may last 20 seconds.
    """
    numbers = iter(range(1000))

    @asynccontextmanager
    async def streaming(
        processor: object,
        *,
        policy: StreamPolicy = EVERY_FRAME,
        output: bool = True,
        mime_type: str = wire.MPEG_TS,
        **options: Any,
    ) -> AsyncIterator[Run]:
        url = f"{bound_relay.url}/stream{next(numbers)}"
        options = {"max_framerate": 60, "subscribe_url": f"{url}-in"} | options
        if output:
            options = {"publish_url": f"{url}-out"} | options
        settings = StreamSettings(request_id="test", policy=policy, **options)
        with trio.fail_after(20):
            await make_channel(f"{url}-in", mime_type)
            await make_channel(f"{url}-out")
            async with trio.open_nursery() as nursery:
                run = Run(Stream(settings, as_processor(processor)), url, nursery)
                if settings.publish_url:
                    nursery.start_soon(run._collect)
                await nursery.start(run._run)
                read = [settings.subscribe_url, settings.control_url]
                if settings.publish_url:
                    read.append(run.target)
                await readers_come(bound_relay, [url for url in read if url], run.ended)
                yield run
                nursery.cancel_scope.cancel()

    return streaming


class Kit:
    """What tests make footage with, and look at what came out."""

    STEP, START, RATE = STEP, START, RATE
    EVERY_FRAME = EVERY_FRAME

    grey = staticmethod(grey)
    pictures = staticmethod(pictures)
    sounds = staticmethod(sounds)
    mixed = staticmethod(mixed)
    footage = staticmethod(footage)
    segments = staticmethod(segments)
    play = staticmethod(play)
    looks_like = staticmethod(looks_like)
    publish = staticmethod(publish)
    collect = staticmethod(collect)
    make_channel = staticmethod(make_channel)
    delete_channel = staticmethod(delete_channel)
    readers_come = staticmethod(readers_come)


@pytest.fixture(scope="session")
def kit() -> Kit:
    return Kit()
