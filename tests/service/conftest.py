"""A real service on a free port, and a real publisher into a real relay."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from fractions import Fraction
from functools import lru_cache
from typing import Any

import av
import httpx
import numpy as np
import pytest
import trio
from attrs import evolve

from trickle_core.mpegts import CLOCK_RATE, AccessUnit, Codec, ElementaryStream, Muxer
from trickle_core.mpegts.audio import adts_header
from trickle_core.publisher import PublisherSettings
from trickle_trio.media.frames import VideoFrame
from trickle_trio.publication import open_publication
from trickle_trio.service import Service, serve

VIDEO = ElementaryStream(256, Codec.H264)
SOUND = ElementaryStream(257, Codec.AAC)
GOP = 10


def passthrough(frame: VideoFrame) -> VideoFrame:
    return frame


class Api(httpx.AsyncClient):
    """A client of one service."""

    async def start(self, **body: Any) -> httpx.Response:
        return await self.post("/api/stream/start", json=body)

    async def stop(self) -> httpx.Response:
        return await self.post("/api/stream/stop")

    async def health(self) -> str:
        return str((await self.get("/health")).json()["status"])

    async def when(self, health: str) -> None:
        """Wait until the service is in this state."""
        with trio.fail_after(10):
            while await self.health() != health:
                pass


@asynccontextmanager
async def run_service(service: Service | Any, **options: Any) -> AsyncIterator[Api]:
    """Run a service for the length of a block; the client knows its address."""
    made = service if isinstance(service, Service) else serve(service, port=0, **options)
    async with Api(timeout=20) as api, trio.open_nursery() as nursery:
        api.base_url = (await nursery.start(made)).url
        yield api
        nursery.cancel_scope.cancel()


@pytest.fixture
def serving() -> Callable[..., AbstractAsyncContextManager[Api]]:
    """``async with serving(processor, max_streams=2) as api``."""
    return run_service


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    """A service of a processor that does nothing, ready for a stream."""
    async with run_service(passthrough) as client:
        await client.when("IDLE")
        yield client


@pytest.fixture
def coded() -> Callable[..., tuple[AccessUnit, ...]]:
    """``coded(width, height, frames)``."""
    return code


@lru_cache(maxsize=4)
def code(width: int = 160, height: int = 96, frames: int = 40) -> tuple[AccessUnit, ...]:
    """Picture and sound that begin at 0, in the order of their times."""
    pictures = _pictures(width, height, frames)
    sounds = _sounds(frames * 3000)
    return tuple(sorted([*pictures, *sounds], key=lambda unit: unit.dts))


def _pictures(width: int, height: int, frames: int) -> Iterator[AccessUnit]:
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base = Fraction(1, CLOCK_RATE)
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "g": str(GOP)}
    for index in range(frames):
        gray = np.full((height, width, 3), index * 6 % 256, np.uint8)
        frame = av.VideoFrame.from_ndarray(gray, format="rgb24")
        frame.pts, frame.time_base = index * 3000, Fraction(1, CLOCK_RATE)
        for packet in encoder.encode(frame):
            time = packet.pts or 0
            yield AccessUnit(VIDEO, bytes(packet), time, time, key=packet.is_keyframe)


def _sounds(until: int) -> Iterator[AccessUnit]:
    encoder = av.CodecContext.create("aac", "w")
    encoder.sample_rate, encoder.layout, encoder.format = 48_000, "mono", "fltp"
    encoder.open()
    for index in range(until // 1920):
        silence = np.zeros((1, 1024), np.float32)
        frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48_000, index * 1024
        for packet in encoder.encode(frame):
            data = adts_header(packet.size, rate=48_000, channels=1) + bytes(packet)
            yield AccessUnit(SOUND, data, index * 1920, index * 1920, key=True)


@pytest.fixture
def publish() -> Callable[..., Awaitable[None]]:
    """``await publish(url, units)``, or started in a nursery."""
    return publish_units


async def publish_units(url: str, units: tuple[AccessUnit, ...]) -> None:
    """Write units to a channel again and again, live (four times as fast), a segment for each GOP, until cancelled."""
    muxer = Muxer([VIDEO, SOUND])
    began = trio.current_time()
    settings = PublisherSettings(create=True, delete=True)
    async with open_publication(url, settings=settings) as publication:
        for gop in repeated(units):
            async with publication.segment() as segment:
                await segment.send(muxer.tables())
                for unit in gop:
                    await trio.sleep_until(began + unit.dts / CLOCK_RATE / 4)
                    await segment.send(muxer.write(unit))


def repeated(units: tuple[AccessUnit, ...]) -> Iterator[list[AccessUnit]]:
    """Yield the GOPs, over and over, with times that go on."""
    length = 3000 * sum(unit.stream is VIDEO for unit in units)
    for shift in itertools.count(0, length):
        gop: list[AccessUnit] = []
        for unit in units:
            if unit.key and unit.stream is VIDEO and gop:
                yield gop
                gop = []
            gop.append(evolve(unit, pts=unit.pts + shift, dts=unit.dts + shift))
        yield gop
