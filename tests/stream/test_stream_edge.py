"""A stream that begins in the middle of a segment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import trio

from trickle_core.mpegts import CLOCK_RATE, AccessUnit, Codec, ElementaryStream, Muxer
from trickle_core.publisher import PublisherSettings
from trickle_trio.media.encode import VideoEncoder
from trickle_trio.media.frames import VideoFrame
from trickle_trio.publication import OutgoingSegment, open_publication
from trickle_trio.stream.edge import MARGIN, SOUNDS, LiveEdge
from trickle_trio.stream.meters import Drop
from trickle_trio.stream.settings import Pace, StreamPolicy
from trickle_trio.subscription import open_subscription

OLD, NEW = 24, 6
LIVE = StreamPolicy(segment_seconds=0.5)
SOUND = ElementaryStream(0x101, Codec.AAC)
PICTURE = ElementaryStream(0x100, Codec.H264)


@lru_cache(maxsize=1)
def noise(kit: Any) -> tuple[AccessUnit, ...]:
    """One GOP of pictures that take many bytes: more than a server hands out in one piece."""
    dice = np.random.default_rng(1)
    codec = VideoEncoder()
    units: list[AccessUnit] = []
    for index in range(OLD + NEW):
        pixels = dice.integers(0, 256, (180, 320, 3), np.uint8)
        frame = VideoFrame.from_ndarray(pixels, kit.START + index * kit.STEP)
        units += codec.encode(frame, key=index == 0)
    codec.close()
    return tuple(units)


async def write(segment: OutgoingSegment, muxer: Muxer, units: Sequence[AccessUnit]) -> int:
    data = muxer.tables() + b"".join(muxer.write(unit) for unit in units)
    await segment.send(data)
    return len(data)


async def have_arrived(url: str, size: int) -> None:
    """Wait until the server has so many bytes of the segment that is written."""
    async with open_subscription(url) as subscription:
        segment = await anext(subscription)
        while segment.size < size:
            await anext(segment)


async def joined_in_the_middle(kit: Any, streaming: Any, relay: str, policy: StreamPolicy) -> Any:
    """Start a stream when most of a segment is written; write the rest, and let it end."""
    handled = trio.Event()

    async def handler(_: VideoFrame) -> None:
        handled.set()

    sounds = kit.sounds((OLD + NEW) * kit.STEP / CLOCK_RATE)
    units = kit.mixed(noise(kit), sounds)
    border = kit.START + OLD * kit.STEP
    url = f"{relay}/joined"
    settings = PublisherSettings(create=True, delete=True)
    async with open_publication(url, settings=settings) as publication:
        async with publication.segment() as segment:
            muxer = Muxer([PICTURE, sounds[0].stream])
            size = await write(segment, muxer, [unit for unit in units if unit.pts < border])
            await have_arrived(url, size)
            async with streaming(handler, policy=policy, subscribe_url=url) as run:
                await handled.wait()
                await write(segment, muxer, [unit for unit in units if unit.pts >= border])
                await publication.close()
                await run.end()
    return run


async def test_what_was_there_is_decoded_and_not_shown(
    kit: Any, streaming: Any, relay: str
) -> None:
    run = await joined_in_the_middle(kit, streaming, relay, LIVE)
    numbers, played = run.stream.statistics(), run.played()
    left_out = numbers.dropped[Drop.BEFORE_START.value]
    assert numbers.frames_in == OLD + NEW
    assert numbers.dropped == {Drop.BEFORE_START.value: left_out}
    assert left_out == OLD - 1 - MARGIN // kit.STEP
    assert len(played.seen) == OLD + NEW - left_out
    # The sound begins with the picture, and nothing of it is missing.
    assert abs(played.heard[0].time - played.seen[0].time) < 0.1
    assert played.heard[-1].time == pytest.approx(played.seen[-1].time, abs=0.1)


async def test_where_every_frame_counts_nothing_is_left_out(
    kit: Any, streaming: Any, relay: str
) -> None:
    policy = StreamPolicy(segment_seconds=0.5, pace=Pace.EVERY_FRAME)
    run = await joined_in_the_middle(kit, streaming, relay, policy)
    assert run.stream.statistics().dropped == {}
    assert len(run.played().seen) == OLD + NEW


def picture(pts: int) -> AccessUnit:
    return AccessUnit(PICTURE, b"", pts, pts)


def sound(pts: int) -> AccessUnit:
    return AccessUnit(SOUND, b"", pts, pts)


class TestLiveEdge:
    def test_it_is_a_little_before_the_newest_picture_that_was_there(self) -> None:
        edge = LiveEdge()
        ready: list[AccessUnit] = []
        times = (3000, 90_000, 87_000, 93_000)  # shown in another order than decoded
        for pts in times:
            ready += edge.pass_picture(picture(pts))
            assert edge.since == math.inf
        assert [unit.pts for unit in ready] == [3000]
        pictures, _ = edge.release()
        assert [unit.pts for unit in pictures] == [*times[1:]]
        assert edge.since == 93_000 - MARGIN

    def test_sounds_of_before_are_not_heard(self) -> None:
        edge = LiveEdge()
        list(edge.pass_picture(picture(90_000)))
        times = (80_000, 90_000 - MARGIN - 1, 90_000 - MARGIN, 91_000)
        for pts in times:
            edge.pass_sound(sound(pts))
        assert [unit.pts for unit in edge.release()[1]] == [*times[2:]]
        assert edge.release() == ([], [])

    def test_where_there_is_no_picture_the_last_sounds_are_heard(self) -> None:
        edge = LiveEdge()
        for pts in range(SOUNDS + 10):
            edge.pass_sound(sound(pts))
        assert [unit.pts for unit in edge.release()[1]] == [*range(10, SOUNDS + 10)]
        assert edge.since == -math.inf
