"""A stage for whole programs: a real relay, the built-in test picture going in, and an eye and an ear at both ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import Any, TypeVar

import av
import httpx
import numpy as np
import torch  # noqa: F401  so that the first frames do not wait for its import
import trio
from attrs import define, field
from av.audio.frame import AudioFrame as Sound
from av.stream import Stream
from av.video.frame import VideoFrame as Image
from numpy.typing import NDArray

from trickle_core.mpegts import CLOCK_RATE, AccessUnit, Codec, Demuxer
from trickle_core.publisher import PublisherSettings
from trickle_core.subscriber import SubscriberSettings
from trickle_trio import TrickleApp, open_publication, open_subscription, serve
from trickle_trio.media.sources import TestSource
from trickle_trio.publication import Publication
from trickle_trio.stream.feed import feed, open_source

T = TypeVar("T")

Picture = NDArray[np.uint8]
"""[height, width, 3]."""

PATIENT = SubscriberSettings(start=0, wait_for_channel=30.0)

RATE = 48_000


@define
class Watch:
    """What has come through a media channel so far, decoded; times in 1/90000 s."""

    pictures: dict[int, Picture] = field(factory=dict)
    sounds: dict[int, NDArray[np.float32]] = field(factory=dict)
    """[channels, samples]."""
    _decoders: dict[int, Any] = field(factory=dict)
    _news: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)

    async def follow(self, url: str) -> None:
        """Watch the channel from its beginning, until it ends."""
        demuxer = Demuxer()
        async with open_subscription(url, settings=PATIENT) as subscription:
            async for segment in subscription:
                async for piece in segment:
                    for event in demuxer.feed(piece):
                        if isinstance(event, AccessUnit):
                            self._decode(event)
                    self._news.unpark_all()

    def _decode(self, unit: AccessUnit) -> None:
        is_picture = unit.stream.codec is Codec.H264
        pid = unit.stream.pid
        if pid not in self._decoders:
            self._decoders[pid] = av.CodecContext.create("h264" if is_picture else "aac", "r")
        packet: av.Packet[Stream] = av.Packet(unit.data)
        packet.pts, packet.dts, packet.time_base = unit.pts, unit.dts, Fraction(1, CLOCK_RATE)
        for frame in self._decoders[pid].decode(packet):
            time = round((frame.time or 0) * CLOCK_RATE)
            if isinstance(frame, Image):
                self.pictures[time] = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
            elif isinstance(frame, Sound):
                self.sounds[time] = frame.to_ndarray().astype(np.float32)

    def heard(self) -> NDArray[np.float32]:
        """The first channel of all sound so far, from time 0 on: silence where none was."""
        end = max(
            (round(t * RATE / CLOCK_RATE) + s.shape[1] for t, s in self.sounds.items()), default=0
        )
        track = np.zeros(end, np.float32)
        for time, samples in self.sounds.items():
            first = round(time * RATE / CLOCK_RATE)
            track[first : first + samples.shape[1]] = samples[0]
        return track

    async def until(self, true: Callable[[], T]) -> T:
        """Wait until what has come makes this true."""
        while not (found := true()):
            await self._news.park()
        return found


@define
class Stage:
    """Channels on a relay: ``came_in`` is what the source sends, ``went_out`` what a program makes of it."""

    relay: str
    api: httpx.AsyncClient
    nursery: trio.Nursery
    came_in: Watch
    went_out: Watch
    _source: TestSource
    _publication: Publication
    _rolling: trio.CancelScope = field(factory=trio.CancelScope)
    _rolled: trio.Event = field(factory=trio.Event)

    def url(self, name: str) -> str:
        return f"{self.relay}/{name}"

    def roll(self) -> None:
        """The source begins."""
        self.nursery.start_soon(self._feed)

    async def _feed(self) -> None:
        with self._rolling:
            await feed(self._source, self._publication)
        self._rolled.set()

    async def cut(self) -> None:
        """The source ends, and with it the channel that it wrote."""
        self._rolling.cancel()
        await self._rolled.wait()
        (await self.api.delete(self.url("in"))).raise_for_status()

    async def serve(self, processor: Any, **params: Any) -> None:
        """Serve a processor (or an app), and start a stream through it."""
        service = (
            processor.service if isinstance(processor, TrickleApp) else serve(processor, port=0)
        )
        await self.start(str(await self.nursery.start(service)), **params)

    async def start(self, service: str, **params: Any) -> None:
        """Start a stream through the service at this address, once it is ready, and the source."""
        self.api.base_url = httpx.URL(service)
        while (await self.api.get("/health")).json()["status"] == "LOADING":
            await trio.lowlevel.checkpoint()
        body = {
            "subscribe_url": self.url("in"),
            "publish_url": self.url("out"),
            "data_url": self.url("data"),
            "params": {"max_framerate": 60} | params,
        }
        answer = await self.api.post("/api/stream/start", json=body)
        assert answer.is_success, answer.text
        self.roll()

    async def change(self, **params: Any) -> None:
        """Change the stream's parameters."""
        answer = await self.api.post("/api/stream/params", json=params)
        assert answer.is_success, answer.text

    def pairs(self) -> list[tuple[Picture, Picture]]:
        """Pictures as they came in and as they went out, the newest first."""
        before, after = self.came_in.pictures, self.went_out.pictures
        return [(before[time], after[time]) for time in sorted(before.keys() & after.keys())][::-1]

    async def shows(self, true: Callable[[Picture, Picture], bool]) -> tuple[Picture, Picture]:
        """Wait until a picture went out that makes this true, told as it came in and as it went out."""
        return (
            await self.went_out.until(
                lambda: next((pair for pair in self.pairs() if true(*pair)), None)
            )
            or self.pairs()[0]
        )

    async def lines(self, count: int) -> list[str]:
        """The first lines on the data channel."""
        got: list[str] = []
        async with open_subscription(self.url("data"), settings=PATIENT) as subscription:
            async for segment in subscription:
                got += (await segment.read()).decode().splitlines()
                if len(got) >= count:
                    break
        return got[:count]


@asynccontextmanager
async def open_stage(relay: str, *, width: int = 160, height: int = 96) -> AsyncIterator[Stage]:
    """Set the stage. All that happens on it may take a minute."""
    made = TestSource(width=width, height=height, gop_seconds=0.5)
    create = PublisherSettings(create=True)
    with trio.fail_after(60):
        async with (
            httpx.AsyncClient(timeout=30) as api,
            open_source(made) as source,
            open_publication(f"{relay}/in", settings=create) as publication,
            trio.open_nursery() as nursery,
        ):
            stage = Stage(relay, api, nursery, Watch(), Watch(), source, publication)
            nursery.start_soon(stage.came_in.follow, stage.url("in"))
            nursery.start_soon(stage.went_out.follow, stage.url("out"))
            yield stage
            nursery.cancel_scope.cancel()


def like(one: NDArray[Any], other: NDArray[Any], within: float = 12.0) -> bool:
    """Whether two pictures are the same but for what coding does to them, on average."""
    return one.shape == other.shape and bool(
        np.abs(one.astype(float) - other.astype(float)).mean() < within
    )
