"""A stream that begins in the middle of a segment."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import trio
from attrs import define, field

from tests.stream.test_stream_container import file_of
from trickle_core.mpegts import CLOCK_RATE, AccessUnit, Codec, ElementaryStream, Muxer
from trickle_core.publisher import PublisherSettings
from trickle_trio.media.encode import VideoEncoder
from trickle_trio.media.frames import AudioFrame, VideoFrame
from trickle_trio.processor import StreamProcessor
from trickle_trio.publication import OutgoingSegment, open_publication
from trickle_trio.stream.edge import MARGIN, PICTURES, SOUNDS, LiveEdge
from trickle_trio.stream.ends import Silence
from trickle_trio.stream.events import Events
from trickle_trio.stream.handing import Queue
from trickle_trio.stream.ingest import Ingest
from trickle_trio.stream.meters import Drop, Meters
from trickle_trio.stream.settings import Pace, StreamPolicy
from trickle_trio.stream.tap import Tap
from trickle_trio.stream.tracks import Tracks
from trickle_trio.stream.waiting import WaitingSound
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

    return await joined(kit, streaming, relay, handler, handled.wait, policy=policy)


async def joined(
    kit: Any,
    streaming: Any,
    relay: str,
    processor: object,
    has_begun: Callable[[], Awaitable[None]],
    **options: Any,
) -> Any:
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
            async with streaming(processor, subscribe_url=url, **options) as run:
                await has_begun()
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


async def test_where_pictures_are_copied_they_keep_their_sound(
    kit: Any, streaming: Any, relay: str
) -> None:
    """What was there goes out, for the rest refers to it: not without its sound."""
    heard = trio.Event()

    async def listen(_: AudioFrame) -> None:
        heard.set()

    copying = StreamProcessor(audio_processor=listen)
    run = await joined(kit, streaming, relay, copying, heard.wait, policy=LIVE)
    played = run.played()
    assert len(played.seen) == OLD + NEW
    assert abs(played.heard[0].time - played.seen[0].time) < 0.1
    assert run.stream.statistics().dropped == {}


def picture(pts: int) -> AccessUnit:
    return AccessUnit(PICTURE, b"", pts, pts)


def sound(pts: int) -> AccessUnit:
    return AccessUnit(SOUND, b"", pts, pts)


@define
class Segment:
    """One of a channel that is not there. ``held``: what the server said of it."""

    pieces: list[bytes]
    held: int = 0
    skipped: int = 0
    truncated: bool = False
    mime_type: str = ""
    size: int = 0

    def __aiter__(self) -> Segment:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self.pieces:
            raise StopAsyncIteration
        self.size += len(self.pieces[0])
        return self.pieces.pop(0)


@define
class Reading:
    """What the first station makes of segments, and the edge that it has found."""

    edge: LiveEdge = field(factory=LiveEdge)
    meters: Meters = field(factory=Meters)
    pictures: list[int] = field(factory=list)
    old: list[int] = field(factory=list)
    """Those that were passed on when none was to be shown."""
    deadlines: list[float] = field(factory=list)
    """When the input would have been silent for too long, as each was passed on."""
    _scope: trio.CancelScope = field(factory=trio.CancelScope)

    async def read(self, *segments: Segment) -> Reading:
        units_out = Queue[AccessUnit](0)
        units_in = units_out.sender()
        sound = WaitingSound(60.0, Pace.LIVE, self.meters)
        ingest = Ingest(
            Tracks(), self.meters, Tap(), Events("", None), units_in, sound, edge=self.edge
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._take, units_out)
            with units_in, self._scope:
                await ingest.run(_each(segments), Silence(60.0, self._scope))  # type: ignore[arg-type]
        return self

    async def _take(self, units: Queue[AccessUnit]) -> None:
        async for unit in units:
            self.pictures.append(unit.pts)
            self.deadlines.append(self._scope.deadline)
            if unit.pts < self.edge.since:
                self.old.append(unit.pts)


async def _each(segments: Sequence[Segment]) -> AsyncIterator[Segment]:
    for segment in segments:
        yield segment


def coded(first: int, count: int, *, step: int = 3000) -> bytes:
    """A segment of pictures that cannot be decoded, which nobody here does."""
    muxer = Muxer([PICTURE])
    nal = b"\x00\x00\x00\x01\x09\xf0\x00\x00\x00\x01"
    units = [
        AccessUnit(
            PICTURE, nal + (b"\x41" if n else b"\x65") + bytes([n]) * 300, time, time, n == 0
        )
        for n, time in enumerate(range(first, first + count * step, step))
    ]
    return muxer.tables() + b"".join(map(muxer.write, units))


class TestReading:
    """A channel of odd segments: nothing is lost, and the edge is left again."""

    @pytest.mark.parametrize("missing", [-5, 0, 1, 1 << 60], ids=str)
    async def test_a_server_may_promise_what_never_comes(self, missing: int) -> None:
        first, second = coded(90_000, 10), coded(120_000, 10)
        reading = await Reading().read(
            Segment([first], held=len(first) + missing), Segment([second], held=1 << 40)
        )
        assert reading.pictures == [*range(90_000, 150_000, 3000)]
        assert reading.edge.since == 117_000 - MARGIN or missing < 0
        assert reading.edge.since < math.inf

    @pytest.mark.parametrize("size", [0, 1, 100, 189, 1000])
    async def test_a_segment_that_breaks_while_it_is_old(self, size: int) -> None:
        first, second = coded(90_000, 10), coded(120_000, 10)
        broken = Segment([first[:size]] if size else [], held=len(first), truncated=True)
        reading = await Reading().read(broken, Segment([second], held=len(second)))
        assert reading.pictures[-10:] == [*range(120_000, 150_000, 3000)]
        assert reading.edge.since < 120_000

    async def test_one_jump_behind_another(self) -> None:
        parts = [coded(90_000 + 30_000 * n, 10) for n in range(3)]
        segments = [Segment([part], held=len(part), skipped=n) for n, part in enumerate(parts)]
        reading = await Reading().read(*segments)
        assert reading.pictures == [*range(90_000, 180_000, 3000)]
        assert reading.edge.since == 177_000 - MARGIN

    async def test_a_container_is_never_old(self) -> None:
        """Also where the one before a jump still has something to give."""
        webm = {"video": "libvpx", "audio": None, "count": 30}
        parts = [file_of("webm", (("live", "1"),), first=30 * n, **webm) for n in range(2)]
        segments = [Segment([part], held=len(part), skipped=n) for n, part in enumerate(parts)]
        reading = await Reading().read(*segments)
        assert len(reading.pictures) == 60
        assert reading.old == []
        assert reading.edge.since == -math.inf

    async def test_the_rest_of_a_container_takes_the_time_that_it_takes(self) -> None:
        """The channel has ended: that nothing more comes is no silence."""
        whole = file_of("webm", (("live", "1"),), video="libvpx", audio=None)
        reading = await Reading().read(Segment([whole]))
        assert reading.deadlines[-1] == math.inf


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

    def test_it_may_be_jumped_to_again(self) -> None:
        """Also by a publisher whose times went back; what was left out before stays left out."""
        edge = LiveEdge()
        assert list(edge.pass_picture(picture(90_000))) == []
        assert edge.release() == ([picture(90_000)], [])
        assert list(edge.pass_picture(picture(3000))) == []
        assert edge.release() == ([picture(3000)], [])
        assert edge.since == 3000 - MARGIN
        edge.pass_sound(sound(3000))
        assert edge.release() == ([], [sound(3000)])
        assert edge.since == 3000 - MARGIN

    def test_what_it_keeps_is_bounded(self) -> None:
        """Saturation: times that hardly rise, behind one that is far ahead of them."""
        edge = LiveEdge()
        times = [900_000, *range(PICTURES + 10)]
        ready = [unit.pts for time in times for unit in edge.pass_picture(picture(time))]
        kept, _ = edge.release()
        assert ready + [unit.pts for unit in kept] == times
        assert len(kept) <= PICTURES
        assert edge.since == 900_000 - MARGIN

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
