"""The smallest example does what it says, on a live stream."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import httpx
import numpy as np
import torch  # noqa: F401  so that the first frames do not wait for its import
import trio
from av.stream import Stream
from numpy.typing import NDArray

from trickle_core.mpegts import CLOCK_RATE, AccessUnit, Codec, Demuxer
from trickle_core.publisher import PublisherSettings
from trickle_core.subscriber import SubscriberSettings
from trickle_trio import open_publication, open_subscription, serve
from trickle_trio.cli.targets import load_target
from trickle_trio.media.sources import TestSource
from trickle_trio.stream.feed import feed, open_source

TINT = Path(__file__).parents[2] / "examples" / "tint.py"

Colours = dict[int, NDArray[np.float64]]
"""Mean red, green and blue of each picture, by its pts."""


class Viewer:
    """Takes a transport stream, decodes its pictures, keeps their colours."""

    def __init__(self) -> None:
        self.colours: Colours = {}
        self._demuxer = Demuxer()
        self._decoder = av.CodecContext.create("h264", "r")

    def feed(self, piece: bytes) -> None:
        for event in self._demuxer.feed(piece):
            if isinstance(event, AccessUnit) and event.stream.codec is Codec.H264:
                self._decode(event)

    def _decode(self, unit: AccessUnit) -> None:
        packet: av.Packet[Stream] = av.Packet(unit.data)
        packet.pts, packet.dts, packet.time_base = unit.pts, unit.dts, Fraction(1, CLOCK_RATE)
        for frame in self._decoder.decode(packet):
            self.colours[frame.pts or 0] = frame.to_ndarray(format="rgb24").mean(axis=(0, 1))


async def watch(url: str, pictures: int) -> Colours:
    """The colours of the first pictures."""
    viewer = Viewer()
    settings = SubscriberSettings(start=0, wait_for_channel=20.0)
    async with open_subscription(url, settings=settings) as subscription:
        async for segment in subscription:
            async for piece in segment:
                viewer.feed(piece)
                if len(viewer.colours) >= pictures:
                    return viewer.colours
    return viewer.colours


async def ready(api: httpx.AsyncClient) -> None:
    while (await api.get("/health")).json()["status"] != "IDLE":
        pass


async def test_what_comes_out_is_greener(relay: str, nursery: trio.Nursery) -> None:
    service = await nursery.start(serve(load_target(f"{TINT}:tint"), port=0))
    settings = PublisherSettings(create=True)
    with trio.fail_after(60):
        async with (
            httpx.AsyncClient(base_url=service.url) as api,
            open_source(TestSource(width=160, height=96, gop_seconds=0.5)) as source,
            open_publication(f"{relay}/in", settings=settings) as publication,
            trio.open_nursery() as feeding,
        ):
            await ready(api)
            urls = {"subscribe_url": f"{relay}/in", "publish_url": f"{relay}/out"}
            body = {**urls, "params": {"max_framerate": 60}}
            (await api.post("/api/stream/start", json=body)).raise_for_status()
            feeding.start_soon(feed, source, publication)
            came_in = await watch(f"{relay}/in", pictures=10)
            went_out = await watch(f"{relay}/out", pictures=10)
            feeding.cancel_scope.cancel()
    both = sorted(came_in.keys() & went_out.keys())
    assert both
    for pts in both:
        red, green, blue = went_out[pts] - came_in[pts]
        assert green > 20
        assert abs(red) < 10
        assert abs(blue) < 10
