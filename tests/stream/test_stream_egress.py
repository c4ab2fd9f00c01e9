"""Coded units to segments on a server: real publications into the real relay."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from attrs import define, evolve, field
from trio.testing import wait_all_tasks_blocked

from trickle_core.mpegts import CLOCK_RATE, AccessUnit, Codec, Demuxer, ElementaryStream, ProgramMap
from trickle_core.publisher import PublisherSettings
from trickle_trio.driver import ChannelEnded
from trickle_trio.publication import Publication, open_publication
from trickle_trio.stream.borders import Segment
from trickle_trio.stream.egress import Egress
from trickle_trio.stream.encode import KeyRequest
from trickle_trio.stream.events import Events
from trickle_trio.stream.handing import Sender
from trickle_trio.stream.interleave import CodedUnits
from trickle_trio.stream.meters import Drop, Meters
from trickle_trio.stream.settings import StreamPolicy
from trickle_trio.stream.tap import Tap
from trickle_trio.stream.tracks import AUDIO_PID, VIDEO_PID, Tracks

VIDEO = ElementaryStream(VIDEO_PID, Codec.H264)
SOUND = ElementaryStream(AUDIO_PID, Codec.AAC)
OPUS = ElementaryStream(AUDIO_PID, Codec.OPUS, 1)
POLICY = StreamPolicy(segment_seconds=0.5, sound_wait=0.2)


@define
class Bench:
    """The station on its own: units by hand on one side, a channel on the other."""

    url: str
    tracks: Tracks = field(factory=Tracks)
    meters: Meters = field(factory=Meters)
    tap: Tap = field(factory=Tap)
    keys: KeyRequest = field(factory=KeyRequest)
    parts: list[bytes] = field(factory=list)
    units_in: Sender[AccessUnit] = field(init=False)
    egress: Egress = field(init=False)
    publication: Publication = field(init=False)
    ended: Exception | None = None
    settings: PublisherSettings = field(factory=lambda: PublisherSettings(create=True, delete=True))

    def __attrs_post_init__(self) -> None:
        units_out = CodedUnits(4, POLICY.sound_wait, self.tracks)
        self.units_in = units_out.sender()
        self.egress = Egress(
            units_out, self.tracks, self.meters, self.tap, self.keys, POLICY, Events("id", None)
        )

    def program(self, *streams: ElementaryStream) -> None:
        self.tracks.choose(ProgramMap(streams))

    async def run(self) -> None:
        try:
            async with open_publication(self.url, settings=self.settings) as self.publication:
                await self.egress.run(self.publication)
        except ChannelEnded as error:
            self.ended = error

    async def write(self, units: Sequence[AccessUnit]) -> None:
        with self.units_in:
            for unit in units:
                await self.units_in.send(unit)


@asynccontextmanager
async def running(bench: Bench, kit: Any, read_at: str | None = None) -> AsyncIterator[None]:
    """The station at work, its channel being read, until its units end."""
    with trio.fail_after(10):
        await kit.make_channel(read_at or bench.url)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kit.collect, read_at or bench.url, bench.parts)
            nursery.start_soon(bench.run)
            yield


def program_of(part: bytes) -> tuple[ElementaryStream, ...]:
    """What a segment's own tables say."""
    demuxer = Demuxer()
    events = demuxer.feed(part) + demuxer.flush()
    return next(event.streams for event in events if isinstance(event, ProgramMap))


async def test_every_segment_begins_with_a_key_frame_and_can_be_decoded_alone(
    relay: str, kit: Any
) -> None:
    bench = Bench(f"{relay}/out")
    bench.program(VIDEO, SOUND)
    units = kit.footage(60)
    async with running(bench, kit):
        await bench.write(units)
    assert len(bench.parts) == 4
    for index, part in enumerate(bench.parts):
        played = kit.play(part)
        assert kit.looks_like(played, range(15 * index, 15 * index + 15))
        assert played.heard
    whole = kit.play(b"".join(bench.parts))
    assert kit.looks_like(whole, range(60))
    assert bench.meters.frames_out == 60


async def test_sound_lies_beside_the_picture_of_its_moment(relay: str, kit: Any) -> None:
    bench = Bench(f"{relay}/out")
    bench.program(VIDEO, SOUND)
    async with running(bench, kit):
        await bench.write(kit.footage(60))
    for part in bench.parts[1:-1]:
        played = kit.play(part)
        assert abs(played.seen[0].time - played.heard[0].time) < 0.05
        assert abs(played.seen[-1].time - played.heard[-1].time) < 0.08


async def test_what_comes_before_the_first_key_frame_has_nowhere_to_go(
    relay: str, kit: Any
) -> None:
    bench = Bench(f"{relay}/out")
    bench.program(VIDEO)
    async with running(bench, kit):
        await bench.write(kit.pictures(30)[5:])
    assert kit.looks_like(kit.play(b"".join(bench.parts)), range(15, 30))
    assert bench.meters.dropped == {Drop.NO_OUTPUT: 10}


async def test_what_is_known_when_a_unit_comes_counts_and_not_what_was_before(
    relay: str, kit: Any
) -> None:
    """The first unit of all waits for a program, and is sound more often than not."""
    bench = Bench(f"{relay}/out")
    async with running(bench, kit):
        await wait_all_tasks_blocked(0.01)
        bench.program(VIDEO, SOUND)
        await bench.write(kit.footage(30))
    assert [len(kit.play(part).seen) for part in bench.parts] == [15, 15]


async def test_sound_alone_is_cut_by_time(relay: str, kit: Any) -> None:
    bench = Bench(f"{relay}/out")
    bench.program(SOUND)
    units = kit.sounds(2.0)
    async with running(bench, kit):
        await bench.write(units)
    assert len(bench.parts) == 4
    assert sum(len(kit.play(part).heard) for part in bench.parts) == len(units)
    assert bench.meters.audio_out == len(units)


async def test_when_the_picture_stays_away_sound_goes_on_and_a_key_frame_is_asked_for(
    relay: str, kit: Any
) -> None:
    bench = Bench(f"{relay}/out")
    bench.program(VIDEO, SOUND)
    units = kit.mixed(kit.pictures(15), kit.sounds(4.0))
    async with running(bench, kit):
        await bench.write(units)
    assert bench.keys.wanted
    assert sum(len(kit.play(part).heard) for part in bench.parts) >= len(units) - 15 - 2
    has_picture = [bool(kit.play(part).seen) for part in bench.parts]
    assert has_picture == [True] + [False] * (len(bench.parts) - 1)
    assert len(bench.parts) >= 5


async def test_and_when_it_is_back_it_is_seen_again(relay: str, kit: Any) -> None:
    bench = Bench(f"{relay}/out")
    bench.program(VIDEO, SOUND)
    back = kit.pictures(15, start=kit.START + 3 * CLOCK_RATE, first=50)
    units = kit.mixed(kit.pictures(15), back, kit.sounds(4.0))
    async with running(bench, kit):
        await bench.write(units)
    assert kit.looks_like(kit.play(b"".join(bench.parts)), [*range(15), *range(50, 65)])


class TestProgramChange:
    async def test_a_sound_of_another_codec_is_in_the_next_segments_tables(
        self, relay: str, kit: Any
    ) -> None:
        bench = Bench(f"{relay}/out")
        bench.program(VIDEO, SOUND)
        later = kit.sounds(1.0, codec="libopus", start=kit.START + CLOCK_RATE)
        second = [evolve(unit, stream=OPUS) for unit in later]
        pictures = kit.pictures(60)
        first = kit.mixed(pictures[:30], kit.sounds(1.0)[:40])
        async with running(bench, kit):
            for unit in first:
                await bench.units_in.send(unit)
            await wait_all_tasks_blocked(0.05)
            bench.program(VIDEO, OPUS)
            await bench.write(kit.mixed(pictures[30:], second))
        programs = [program_of(part) for part in bench.parts]
        assert programs == [(VIDEO, SOUND)] * 2 + [(VIDEO, OPUS)] * 2
        played = kit.play(bench.parts[2])
        assert played.heard
        assert kit.looks_like(kit.play(b"".join(bench.parts[:2])), range(30))

    async def test_in_a_stream_of_sound_it_begins_a_segment_at_once(
        self, relay: str, kit: Any
    ) -> None:
        bench = Bench(f"{relay}/out")
        bench.program(SOUND)
        start = kit.START + CLOCK_RATE // 5
        second = [evolve(u, stream=OPUS) for u in kit.sounds(0.2, codec="libopus", start=start)]
        async with running(bench, kit):
            for unit in kit.sounds(0.2):
                await bench.units_in.send(unit)
            await wait_all_tasks_blocked(0.05)
            bench.program(OPUS)
            await bench.write(second)
        assert [program_of(part) for part in bench.parts] == [(SOUND,), (OPUS,)]

    @pytest.mark.parametrize("left", [(), (SOUND,), (VIDEO,)])
    async def test_what_has_left_the_program_is_left_out_and_nothing_breaks(
        self, relay: str, kit: Any, left: tuple[ElementaryStream, ...]
    ) -> None:
        """Pictures are still in the pipe when the tables say that there are none any more."""
        bench = Bench(f"{relay}/out")
        bench.program(VIDEO, SOUND)
        units = kit.footage(60)
        async with running(bench, kit):
            for unit in units[:70]:
                await bench.units_in.send(unit)
            await wait_all_tasks_blocked(0.05)
            bench.program(*left)
            await bench.write(units[70:])
        assert bench.ended is None
        assert bench.meters.dropped[Drop.NO_OUTPUT] >= (0 if VIDEO in left else 30)
        assert all(part for part in bench.parts)

    @pytest.mark.parametrize("left", [(), (VIDEO,)])
    async def test_what_leaves_the_program_while_its_segment_is_being_opened_is_in_it(
        self, relay: str, kit: Any, left: tuple[ElementaryStream, ...]
    ) -> None:
        """A segment is opened when there is a connection, and that may take its time."""
        bench = Bench(f"{relay}/out")
        bench.program(SOUND)
        first, *others = kit.sounds(0.2)
        bench.units_in.offer(first)
        async with running(bench, kit):
            while bench.egress._borders.segment is Segment.NONE:
                await trio.lowlevel.checkpoint()
            assert bench.publication.seq < 0, "not opened yet"
            bench.program(*left)
            await bench.write([*others, *kit.pictures(30)])
        assert bench.ended is None
        assert program_of(bench.parts[0]) == (SOUND,)
        assert [len(kit.play(part).seen) for part in bench.parts[1:]] == [15, 15][: 2 * len(left)]

    async def test_a_picture_that_joins_is_seen_from_its_first_key_frame(
        self, relay: str, kit: Any
    ) -> None:
        bench = Bench(f"{relay}/out")
        bench.program(SOUND)
        sound = kit.sounds(2.0)
        async with running(bench, kit):
            for unit in sound[:30]:
                await bench.units_in.send(unit)
            await wait_all_tasks_blocked(0.05)
            bench.program(VIDEO, SOUND)
            pictures = kit.pictures(30, start=kit.START + CLOCK_RATE)
            await bench.write(kit.mixed(sound[30:], pictures))
        assert kit.looks_like(kit.play(b"".join(bench.parts)), range(30))


class TestTrouble:
    async def test_a_segment_that_breaks_is_followed_by_one_from_a_key_frame_that_was_asked_for(
        self, relay: str, proxy: Any, kit: Any
    ) -> None:
        bench = Bench(f"{proxy.url}/out")
        bench.program(VIDEO)
        units = kit.pictures(60)
        async with running(bench, kit, read_at=f"{relay}/out"):
            for unit in units[:20]:
                await bench.units_in.send(unit)
            await wait_all_tasks_blocked(0.05)
            proxy.cut()
            for unit in units[20:28]:
                await bench.units_in.send(unit)
            while not bench.keys.wanted:
                await trio.lowlevel.checkpoint()
            await bench.write(units[28:])
        assert bench.meters.errors["output"] == 1
        assert bench.meters.dropped[Drop.NO_OUTPUT] + bench.meters.frames_out == 60
        first, broken, third, fourth = bench.parts
        assert [len(kit.play(part).seen) for part in (first, third, fourth)] == [15, 15, 15]
        assert len(kit.play(broken).seen) < 15

    async def test_a_channel_that_is_deleted_ends_it_and_whoever_sends_waits(
        self, relay: str, kit: Any
    ) -> None:
        """For the reason, which is more than that nobody listens any more."""
        bench = Bench(f"{relay}/out")
        bench.program(VIDEO)
        async with running(bench, kit), trio.open_nursery() as nursery:
            for unit in kit.pictures(20):
                await bench.units_in.send(unit)
            await kit.delete_channel(bench.url)
            nursery.start_soon(bench.write, kit.pictures(60)[20:])
            while bench.ended is None:
                await trio.lowlevel.checkpoint()
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert isinstance(bench.ended, ChannelEnded)

    async def test_a_key_frame_that_came_before_the_loss_was_known_is_not_lost_too(
        self, relay: str, proxy: Any, kit: Any
    ) -> None:
        bench = Bench(f"{proxy.url}/out")
        bench.program(VIDEO)
        units = kit.pictures(45)
        async with running(bench, kit, read_at=f"{relay}/out"):
            for unit in units[:15]:
                await bench.units_in.send(unit)
            await wait_all_tasks_blocked(0.05)
            proxy.cut()
            await wait_all_tasks_blocked(0.05)
            await bench.write(units[15:])
        assert bench.meters.errors["output"] == 1
        assert not bench.meters.dropped
        assert [len(kit.play(part).seen) for part in bench.parts[-2:]] == [15, 15]

    async def test_a_server_that_takes_nothing_holds_it_back(
        self, kit: Any, nursery: trio.Nursery
    ) -> None:
        """Saturation: so many units are fetched in one go, so many wait, and their sender with them."""
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")

        async def deaf(stream: trio.SocketStream) -> None:
            await trio.sleep_forever()

        nursery.start_soon(trio.serve_listeners, deaf, [listener])
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/out"
        bench = Bench(url, settings=PublisherSettings(farewell=0.1))
        bench.program(VIDEO)
        sent = 0

        async def write() -> None:
            nonlocal sent
            for unit in kit.pictures(30):
                await bench.units_in.send(unit)
                sent += 1

        async with trio.open_nursery() as inner:
            inner.start_soon(bench.run)
            inner.start_soon(write)
            await wait_all_tasks_blocked(0.05)
            inner.cancel_scope.cancel()
        assert sent <= 2 * 4 + 1


async def test_what_is_written_is_shown_to_who_looks_on(relay: str, kit: Any) -> None:
    bench = Bench(f"{relay}/out")
    bench.program(VIDEO, SOUND)
    units = kit.footage(30)
    async with bench.tap.open() as view:
        async with running(bench, kit):
            await bench.write(units)
        bench.tap.close()
        shown = [unit async for unit in view]
    assert [unit for unit in shown if unit.stream == VIDEO] == list(kit.pictures(30))
    assert len(shown) >= len(units) - 2
