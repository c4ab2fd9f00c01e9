"""From a source to a relay: what stands in the channel, and how it ends."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio
from attrs import evolve
from trio.testing import MockClock, wait_all_tasks_blocked

from trickle_core.commands import Ending
from trickle_core.mpegts import (
    CLOCK_RATE,
    AccessUnit,
    Codec,
    Demuxer,
    ElementaryStream,
    ProgramMap,
    TsEvent,
)
from trickle_core.publisher import PublisherSettings
from trickle_core.relay_settings import RelaySettings
from trickle_trio.driver import ChannelEnded
from trickle_trio.media.decode import VideoDecoder
from trickle_trio.media.sources import FileSource, PipeSource, SourceError, TestSource
from trickle_trio.media.sources.base import BlockingSource, SourceState
from trickle_trio.publication import Publication, open_publication
from trickle_trio.relay import serve_relay
from trickle_trio.stream.cutting import FeedProgress
from trickle_trio.stream.feed import (
    CALL_BACK,
    READ_AHEAD,
    feed,
    open_source,
)

FPS = 10
END = 5 * CLOCK_RATE
GOP = 5


class Prepared(BlockingSource):
    """Units that are there already, one batch for each picture, up to a gate and behind it."""

    def __init__(self, batches: list[list[AccessUnit]], *, gate_at: int | None = None) -> None:
        super().__init__()
        self.reads = 0
        self.gate = threading.Event()
        self.at_gate = threading.Event()
        self.released_by: threading.Thread | None = None
        self.heeds = True
        self.keeps_its_time = False
        self.fault: SourceError | None = None
        self._batches = batches
        self._gate_at = gate_at

    @property
    def keeps_time(self) -> bool:
        return self.keeps_its_time

    @property
    def state(self) -> SourceState:
        return self._state

    @property
    def streams(self) -> tuple[ElementaryStream, ...]:
        found = {unit.stream.pid: unit.stream for batch in self._batches for unit in batch}
        return tuple(found[pid] for pid in sorted(found))

    def _open(self) -> None:
        pass

    def _read(self) -> list[AccessUnit]:
        if self.reads == self._gate_at:
            self.at_gate.set()
            self.gate.wait()
        if self._is_leaving:
            return []
        self.reads += 1
        if self.reads <= len(self._batches):
            return self._batches[self.reads - 1]
        if self.fault:
            raise self.fault
        return []

    def _interrupt(self) -> None:
        if self.heeds:
            self.gate.set()

    def _release(self) -> None:
        self.released_by = threading.current_thread()


Prepare = Callable[..., Prepared]


@pytest.fixture
def prepared() -> Iterator[Prepare]:
    """Makes sources, and opens their gates at the end: no thread may be left."""
    made: list[Prepared] = []

    def prepare(batches: list[list[AccessUnit]], **options: int) -> Prepared:
        made.append(Prepared(batches, **options))
        return made[-1]

    yield prepare
    for source in made:
        source.gate.set()


@pytest.fixture(scope="module")
def units() -> list[AccessUnit]:
    """Four seconds of the test card, with a key picture each half second."""
    taken: list[AccessUnit] = []
    with TestSource(width=160, height=90, fps=FPS, gop_seconds=GOP / FPS) as source:
        while not taken or taken[-1].dts < END:
            taken += source.read()
    return [unit for unit in taken if unit.dts < END]


def batched(units: list[AccessUnit]) -> list[list[AccessUnit]]:
    batches: list[list[AccessUnit]] = []
    for unit in units:
        if unit.stream.codec.is_video or not batches:
            batches.append([])
        batches[-1].append(unit)
    return batches


@asynccontextmanager
async def published(relay: str) -> AsyncIterator[Publication]:
    async with open_publication(
        f"{relay}/a", settings=PublisherSettings(create=True)
    ) as publication:
        yield publication


async def segments(relay: str, count: int) -> list[bytes]:
    async with httpx.AsyncClient() as client:
        answers = [await client.get(f"{relay}/a/{seq}") for seq in range(count)]
    assert all(answer.status_code == 200 for answer in answers)
    return [answer.content for answer in answers]


def taken_apart(wire: bytes) -> list[TsEvent]:
    demuxer = Demuxer()
    return demuxer.feed(wire) + demuxer.flush()


def units_in(wire: bytes) -> list[AccessUnit]:
    return [event for event in taken_apart(wire) if isinstance(event, AccessUnit)]


async def until(condition: Callable[[], bool]) -> None:
    """For what threads do, which tell nobody."""
    with trio.fail_after(60):
        while not condition():
            await trio.lowlevel.checkpoint()


class Seen:
    """The progress of a feed, and a way to wait for some."""

    def __init__(self, pictures: int = 0) -> None:
        self.last = FeedProgress()
        self.enough = trio.Event()
        self._pictures = pictures

    def __call__(self, progress: FeedProgress) -> None:
        self.last = progress
        if progress.pictures == self._pictures:
            self.enough.set()


@pytest.fixture
async def relay(nursery: trio.Nursery) -> str:
    """One that keeps all segments."""
    bound = await nursery.start(partial(serve_relay, port=0, settings=RelaySettings(window=64)))
    return str(bound.url)


# -- segments


async def test_each_segment_plays_alone(
    relay: str, prepared: Prepare, units: list[AccessUnit]
) -> None:
    source = prepared(batched(units))
    seen = Seen()
    async with open_source(source), published(relay) as publication:
        done = await feed(source, publication, realtime=False, segment_seconds=1.0, progress=seen)
        wires = await segments(relay, done.segments)
    assert done.segments == len(wires) == 4
    for wire in wires:
        first, *events = taken_apart(wire)
        assert isinstance(first, ProgramMap)
        assert {stream.codec for stream in first.streams} == {Codec.H264, Codec.AAC}
        pictures = [u for u in units_in(wire) if u.stream.codec.is_video]
        assert pictures[0].key
        assert isinstance(events[0], AccessUnit)
        assert events[0].stream.codec is Codec.H264
        decoder = VideoDecoder(Codec.H264)
        shown = [frame for unit in pictures for frame in decoder.decode(unit)] + decoder.flush()
        assert len(shown) == len(pictures) == 10
        assert decoder.statistics().errors == 0
    sent = [
        unit.data for wire in wires for unit in units_in(wire) if not unit.stream.codec.is_video
    ]
    assert sent == [u.data for u in units if not u.stream.codec.is_video][-len(sent) :]
    assert done.pictures == 40
    assert done.sounds == len(sent)
    assert done.dropped + done.pictures + done.sounds == len(units)
    assert done.seconds == pytest.approx(4, abs=0.2)
    assert seen.last == done
    assert source.state is SourceState.CLOSED


async def test_sound_alone_is_cut_by_time(
    relay: str, prepared: Prepare, units: list[AccessUnit]
) -> None:
    sounds = [unit for unit in units if not unit.stream.codec.is_video]
    source = prepared([sounds])
    async with open_source(source), published(relay) as publication:
        done = await feed(source, publication, realtime=False, segment_seconds=1.0)
        wires = await segments(relay, done.segments)
    assert [unit.data for wire in wires for unit in units_in(wire)] == [u.data for u in sounds]
    lengths = [units_in(wire)[-1].dts - units_in(wire)[0].dts for wire in wires]
    assert all(abs(length - CLOCK_RATE) < CLOCK_RATE / 20 for length in lengths[:-1])
    assert (done.segments, done.dropped) == (5, 0)


async def test_what_comes_before_the_first_key_picture_is_dropped(
    relay: str, prepared: Prepare, units: list[AccessUnit]
) -> None:
    late = batched(units)[3:]
    source = prepared(late)
    async with open_source(source), published(relay) as publication:
        done = await feed(source, publication, realtime=False, segment_seconds=1.0)
        [first, *_] = await segments(relay, done.segments)
    start = units_in(first)[0]
    assert start.key
    assert start.data.endswith(batched(units)[1 + GOP][0].data)
    assert done.dropped >= 2


async def test_long_gops_are_not_cut(
    relay: str, prepared: Prepare, units: list[AccessUnit]
) -> None:
    keys = [unit.dts for unit in units if unit.stream.codec.is_video and unit.key]
    rare = [evolve(u, key=u.key and u.dts in (keys[0], keys[5])) for u in units]
    source = prepared(batched(rare))
    async with open_source(source), published(relay) as publication:
        done = await feed(source, publication, realtime=False, segment_seconds=0.5)
        wires = await segments(relay, done.segments)
    counts = [sum(u.stream.codec.is_video for u in units_in(wire)) for wire in wires]
    assert counts == [25, 15]


async def test_sound_goes_on_when_the_picture_stays_away(
    relay: str, prepared: Prepare, units: list[AccessUnit]
) -> None:
    def is_away(unit: AccessUnit) -> bool:
        # It comes back in the middle of a GOP, which nobody can decode.
        return unit.stream.codec.is_video and 1.45 < unit.dts / CLOCK_RATE < 3.75

    left = [unit for unit in units if not is_away(unit)]
    source = prepared(batched(left))
    async with open_source(source), published(relay) as publication:
        done = await feed(source, publication, realtime=False, segment_seconds=0.5)
        wires = await segments(relay, done.segments)
    firsts = [units_in(wire)[0] for wire in wires]
    assert [first.stream.codec for first in firsts] == [
        Codec.H264,
        Codec.AAC,
        Codec.AAC,
        Codec.H264,
        Codec.H264,
    ]
    assert all(first.key for first in firsts)
    dropped = sum(u.stream.codec.is_video for u in left) - done.pictures
    assert dropped == 2
    assert not any(u.stream.codec.is_video for wire in wires[1:3] for u in units_in(wire))


async def test_after_a_lost_segment_it_goes_on_with_the_next_key_picture(
    relay: str, prepared: Prepare, units: list[AccessUnit]
) -> None:
    source = prepared(batched(units), gate_at=13)
    seen = Seen(12)
    async with (
        open_source(source),
        published(relay) as publication,
        trio.open_nursery() as nursery,
        httpx.AsyncClient() as client,
    ):

        async def lose() -> None:
            await seen.enough.wait()
            answer = await client.delete(f"{relay}/a/{publication.seq}")
            assert answer.status_code == 200
            source.gate.set()

        nursery.start_soon(lose)
        done = await feed(source, publication, realtime=False, segment_seconds=1.0, progress=seen)
        lost = publication.statistics().lost
        wires = await segments(relay, publication.seq + 1)
    assert (done.lost, lost) == (1, 1)
    assert done.dropped > 0
    assert all(units_in(wire)[0].key for wire in wires)
    assert units_in(wires[-1])[-1].dts == units[-1].dts


# -- ends


async def test_a_channel_that_is_deleted(
    relay: str, prepared: Prepare, units: list[AccessUnit]
) -> None:
    source = prepared(batched(units), gate_at=13)
    seen = Seen(12)
    async with (
        open_source(source),
        published(relay) as publication,
        trio.open_nursery() as nursery,
        httpx.AsyncClient() as client,
    ):

        async def delete() -> None:
            await seen.enough.wait()
            await client.delete(f"{relay}/a")
            source.gate.set()

        nursery.start_soon(delete)
        with pytest.raises(ChannelEnded) as caught:
            await feed(source, publication, realtime=False, progress=seen)
    assert caught.value.ending in (Ending.CLOSED, Ending.GONE)
    assert source.state is SourceState.CLOSED


async def test_a_channel_that_is_not_there(
    relay: str, prepared: Prepare, units: list[AccessUnit]
) -> None:
    source = prepared(batched(units))
    settings = PublisherSettings(create=False)
    async with (
        open_source(source),
        open_publication(f"{relay}/b", settings=settings) as publication,
    ):
        with pytest.raises(ChannelEnded, match="404"):
            await feed(source, publication)


async def test_a_channel_that_is_refused_while_units_wait(
    nursery: trio.Nursery, prepared: Prepare, units: list[AccessUnit]
) -> None:
    """The one error is what comes out, though three tasks were at work."""
    source = prepared(50 * batched(units))

    async def refuse(stream: trio.SocketStream) -> None:
        await until(lambda: source.reads > READ_AHEAD)
        await wait_all_tasks_blocked()
        await stream.send_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    [listener] = await nursery.start(partial(trio.serve_tcp, refuse, 0, host="127.0.0.1"))
    url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/a"
    async with open_source(source), open_publication(url) as publication:
        with pytest.raises(ChannelEnded, match="404"):
            await feed(source, publication, realtime=False)


async def test_what_came_before_a_source_broke_off_is_sent(
    relay: str, prepared: Prepare, units: list[AccessUnit]
) -> None:
    source = prepared(batched(units))
    source.fault = SourceError("camera: reading broke off")
    async with open_source(source), published(relay) as publication:
        with pytest.raises(SourceError, match="camera: reading broke off"):
            await feed(source, publication, realtime=False, segment_seconds=1.0)
        wires = await segments(relay, 4)
    assert units_in(wires[-1])[-1].dts == units[-1].dts


async def test_a_segment_has_a_length(
    relay: str, prepared: Prepare, units: list[AccessUnit]
) -> None:
    source = prepared(batched(units))
    async with open_source(source), published(relay) as publication:
        with pytest.raises(ValueError, match="segment_seconds"):
            await feed(source, publication, segment_seconds=0)


# -- time


async def test_units_are_sent_when_they_are_due(
    relay: str, prepared: Prepare, units: list[AccessUnit], autojump_clock: MockClock
) -> None:
    autojump_clock.autojump_threshold = 1.0  # until the thread has read it all
    source = prepared([[unit for unit in units if unit.stream.codec.is_video]])
    times: list[tuple[float, float]] = []

    def note(done: FeedProgress) -> None:
        autojump_clock.autojump_threshold = 0.01  # sockets need a moment
        if done.pictures > len(times):
            times.append((trio.current_time(), done.seconds))

    async with open_source(source), published(relay) as publication:
        await feed(source, publication, segment_seconds=1.0, progress=note)
    assert len(times) == 40
    start = times[0][0]
    assert [time - start for time, _ in times] == pytest.approx([seconds for _, seconds in times])


async def test_without_pacing_no_time_passes(
    relay: str, prepared: Prepare, units: list[AccessUnit], autojump_clock: MockClock
) -> None:
    autojump_clock.autojump_threshold = 1.0
    camera = prepared(batched(units))
    camera.keeps_its_time = True
    clip = prepared(batched(units))
    start = trio.current_time()
    async with published(relay) as publication:
        async with open_source(camera):
            await feed(camera, publication)
        async with open_source(clip):
            await feed(clip, publication, realtime=False)
    assert trio.current_time() == start


# -- cancellation and saturation


async def test_an_output_that_takes_nothing_stops_the_reading(
    prepared: Prepare, unused_port: int, units: list[AccessUnit]
) -> None:
    source = prepared(50 * batched(units))
    url = f"http://127.0.0.1:{unused_port}/a"
    async with open_source(source), open_publication(url) as publication:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: feed(source, publication, realtime=False))
            await until(lambda: source.reads > READ_AHEAD)
            for _ in range(3):
                await wait_all_tasks_blocked()
            assert source.reads <= READ_AHEAD + 3
            nursery.cancel_scope.cancel()


async def test_cancelling_ends_the_segment_and_calls_the_reader_back(
    relay: str, prepared: Prepare, units: list[AccessUnit]
) -> None:
    source = prepared(batched(units), gate_at=13)
    seen = Seen(12)
    async with open_source(source), published(relay) as publication:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: feed(source, publication, realtime=False, progress=seen))
            await seen.enough.wait()
            await until(source.at_gate.is_set)
            nursery.cancel_scope.cancel()
        assert source.state is SourceState.CLOSED
        [wire] = await segments(relay, 1)
        assert publication.statistics().segments == 1
    assert len([u for u in units_in(wire) if u.stream.codec.is_video]) == seen.last.pictures


async def test_cancelling_while_a_pipe_is_silent() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as file, open(writing, "wb"):  # noqa: ASYNC230, PTH123 - pipes
        source = PipeSource(file)

        async def run() -> None:
            async with open_source(source):
                pytest.fail("nothing was written into the pipe")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await until(lambda: source._pipe is not None)
            nursery.cancel_scope.cancel()
        await until(lambda: source._state is SourceState.CLOSED)


async def test_a_reader_that_is_stuck_is_left_behind(
    relay: str, prepared: Prepare, units: list[AccessUnit], autojump_clock: MockClock
) -> None:
    source = prepared(batched(units), gate_at=3)
    source.heeds = False
    async with open_source(source), published(relay) as publication:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: feed(source, publication, realtime=False))
            await until(source.at_gate.is_set)
            cancelled = trio.current_time()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - cancelled == pytest.approx(CALL_BACK)
        assert source.state is SourceState.LEAVING
        source.gate.set()
        await until(lambda: source.state is SourceState.CLOSED)
        assert source.released_by not in (None, threading.main_thread())


async def test_a_source_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"clip\.mp4: no such file"):
        async with open_source(FileSource(str(tmp_path / "clip.mp4"))):
            pytest.fail("it was not opened")
