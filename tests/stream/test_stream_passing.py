"""Pictures that no handler looks at: copied, cut at their own key frames, decoded when somebody wants frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import trio
from attrs import define, evolve, field
from trio.testing import MockClock, wait_all_tasks_blocked

from trickle_core.mpegts import AccessUnit, Codec, ElementaryStream, ProgramMap, parameter_sets
from trickle_core.mpegts.nal import START_CODE, nal_units
from trickle_trio.media.frames import AudioFrame, VideoFrame
from trickle_trio.processor import StreamProcessor
from trickle_trio.stream.encode import KeyRequest
from trickle_trio.stream.ending import End
from trickle_trio.stream.handing import Queue
from trickle_trio.stream.meters import Drop, Meters
from trickle_trio.stream.passing import PicturePassing
from trickle_trio.stream.step import SoundProgress
from trickle_trio.stream.tracks import Tracks

VIDEO = ElementaryStream(0x100, Codec.H264)


async def echo(frame: AudioFrame) -> AudioFrame:
    return frame.replace_samples(frame.samples)


def progress(patience: float) -> SoundProgress:
    """Of a stream that has sound."""
    return SoundProgress(patience, Tracks(audio=ElementaryStream(0x101, Codec.AAC)))


@define
class Bench:
    """The station with hand-made channels around it."""

    seconds: float = 0.5
    wanted: bool = False
    tracks: Tracks = field(factory=lambda: Tracks(copies_video=True))
    keys: KeyRequest = field(factory=KeyRequest)
    meters: Meters = field(factory=Meters)
    sound: SoundProgress = field(factory=lambda: SoundProgress(1.0, Tracks()))
    through: list[AccessUnit] = field(factory=list)

    def station(self) -> PicturePassing:
        return PicturePassing(
            self.tracks, self.seconds, self.keys, self.meters, self.sound, lambda: self.wanted
        )

    async def run(
        self, units: Sequence[AccessUnit], want_at: int = -1, ask_at: int = -1
    ) -> list[AccessUnit]:
        """What was copied; what was not is in ``through``."""
        units_out = Queue[AccessUnit](0)
        units_in = units_out.sender()
        past_out = Queue[AccessUnit](1000)
        past_in = past_out.sender()
        through_out = Queue[AccessUnit](1000)
        through_in = through_out.sender()
        station = self.station()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(station.run, units_out, past_in, through_in)
            with units_in:
                for index, unit in enumerate(units):
                    if index == want_at:
                        await wait_all_tasks_blocked()
                        self.wanted = True
                    if index == ask_at:
                        await wait_all_tasks_blocked()
                        self.keys.wanted = True
                    await units_in.send(unit)
        self.through = [unit async for unit in through_out]
        return [unit async for unit in past_out]


def keys(units: Sequence[AccessUnit]) -> list[int]:
    return [index for index, unit in enumerate(units) if unit.key]


async def test_pictures_are_copied_and_segments_begin_at_their_key_frames(kit: Any) -> None:
    units = kit.pictures(60, gop=10)
    bench = Bench(seconds=0.6)
    copied = await bench.run(units)
    assert [unit.data for unit in copied] == [unit.data for unit in units]
    assert keys(copied) == [0, 20, 40]
    assert bench.through == []
    assert bench.meters.size_in == bench.meters.size_out == (160, 96)


async def test_a_key_frame_that_is_asked_for_is_the_next_one_there_is(kit: Any) -> None:
    bench = Bench(seconds=2)
    units = kit.pictures(60, gop=10)
    copied = await bench.run(units, ask_at=14)
    assert keys(copied) == [0, 20]
    assert not bench.keys.wanted


async def test_other_parameter_sets_begin_a_segment(kit: Any) -> None:
    start = kit.START + 20 * kit.STEP
    units = kit.pictures(20, gop=10) + kit.pictures(20, gop=10, start=start, size=(320, 180))
    bench = Bench(seconds=10)
    assert keys(await bench.run(units)) == [0, 20]
    assert bench.meters.size_out == (320, 180)


async def test_key_frames_without_parameter_sets_get_those_from_before(kit: Any) -> None:
    units = list(kit.pictures(30, gop=10))
    bare = b"".join(START_CODE + n for n in nal_units(units[10].data) if n[0] & 0x1F not in (7, 8))
    units[10] = evolve(units[10], data=bare)
    copied = await Bench(seconds=0.3).run(units)
    assert parameter_sets(copied[10].data, Codec.H264) == parameter_sets(units[0].data, Codec.H264)
    assert keys(copied) == [0, 10, 20]


@pytest.mark.parametrize("harm", [{"damaged": True}, {"lost_before": True}])
async def test_behind_damage_it_goes_on_with_a_segment_at_the_next_key_frame(
    kit: Any, harm: dict[str, bool]
) -> None:
    units = list(kit.pictures(30, gop=10))
    units[13] = evolve(units[13], **harm)
    bench = Bench(seconds=10)
    copied = await bench.run(units)
    assert [unit.pts for unit in copied] == [unit.pts for unit in units[:13] + units[20:]]
    assert keys(copied) == [0, 13]
    assert bench.meters.dropped == {Drop.DAMAGED: 7}


async def test_a_stream_that_is_joined_between_key_frames_begins_at_one(kit: Any) -> None:
    units = kit.pictures(30, gop=10)
    copied = await Bench().run(units[4:])
    assert [unit.pts for unit in copied] == [unit.pts for unit in units[10:]]


async def test_when_frames_are_wanted_the_codecs_get_everything_from_a_key_frame_on(
    kit: Any,
) -> None:
    bench = Bench()
    bench.tracks.choose(ProgramMap((ElementaryStream(7, Codec.H265),)))
    assert [stream.codec for stream in bench.tracks.carried()] == [Codec.H265]
    units = kit.pictures(40, gop=10)
    copied = await bench.run(units, want_at=14)
    assert len(copied) == 20
    assert bench.through == list(units[20:])
    assert [stream.codec for stream in bench.tracks.carried()] == [Codec.H264]


class TestInStep:
    """With sound that a handler is at work on."""

    async def test_a_picture_waits_for_the_sound_of_its_moment(
        self, autojump_clock: MockClock
    ) -> None:
        sound = progress(1.0)
        left: list[int] = []

        async def pass_on() -> None:
            for time in (1000, 2000, 3000):
                await sound.wait_for(time)
                left.append(time)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pass_on)
            for reached, expected in ((999, 0), (2500, 2), (3000, 3)):
                await trio.sleep(0.5)
                sound.reach(reached)
                await wait_all_tasks_blocked()
                assert len(left) == expected

    async def test_sound_that_stays_away_is_waited_for_once(
        self, autojump_clock: MockClock
    ) -> None:
        sound = progress(1.0)
        began = trio.current_time()
        for time in range(100):
            await sound.wait_for(time)
        assert trio.current_time() - began == 1.0
        sound.reach(200)
        await sound.wait_for(201)
        assert trio.current_time() - began == 2.0

    async def test_when_it_has_ended_nobody_waits(self, autojump_clock: MockClock) -> None:
        sound = progress(10.0)
        sound.end()
        with trio.fail_after(1):
            await sound.wait_for(10**12)

    async def test_where_there_is_none_nobody_waits(
        self, kit: Any, autojump_clock: MockClock
    ) -> None:
        with trio.fail_after(1):
            assert len(await Bench(sound=SoundProgress(10.0, Tracks())).run(kit.pictures(30))) == 30

    async def test_a_wait_can_be_cancelled(self, autojump_clock: MockClock) -> None:
        sound = progress(10.0)
        with trio.move_on_after(1) as scope:
            await sound.wait_for(1)
        assert scope.cancelled_caught


async def test_a_full_output_holds_it_back_and_a_cancellation_closes_everything(kit: Any) -> None:
    """Saturation and cancellation."""
    units_out = Queue[AccessUnit](0)
    units_in = units_out.sender()
    past_out = Queue[AccessUnit](3)
    past_in = past_out.sender()
    through_out = Queue[AccessUnit](3)
    through_in = through_out.sender()
    station = Bench().station()
    sent = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(station.run, units_out, past_in, through_in)

        async def send() -> None:
            nonlocal sent
            for unit in kit.pictures(40):
                await units_in.send(unit)
                sent += 1

        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        assert sent == 4
        nursery.cancel_scope.cancel()
    assert len([unit async for unit in past_out]) == 3
    assert [unit async for unit in through_out] == []


class TestWhole:
    """Processors that handle sound alone, from channel to channel."""

    async def test_the_picture_is_the_same_to_the_byte_and_stays_with_the_sound(
        self, kit: Any, streaming: Any
    ) -> None:
        footage = kit.footage(60)
        async with streaming(StreamProcessor(audio_processor=echo)) as run:
            await run.feed(footage)
            assert (await run.end()).end is End.INPUT_ENDED
        played, before = run.played(), kit.play(b"".join(kit.segments(footage)))
        assert [seen.brightness for seen in played.seen] == [s.brightness for s in before.seen]
        assert [seen.time for seen in played.seen] == [seen.time for seen in before.seen]
        assert [len(kit.play(part).seen) for part in run.parts] == [15] * 4
        assert all(kit.play(part).heard for part in run.parts)
        for part in run.parts[1:-1]:
            alone = kit.play(part)
            assert abs(alone.seen[0].time - alone.heard[0].time) < 0.05
        numbers = run.stream.statistics()
        assert (numbers.frames_in, numbers.frames_out) == (60, 60)
        assert (numbers.width_out, numbers.height_out) == (160, 96)
        assert "decode" not in numbers.stages
        assert "encode" not in numbers.stages

    async def test_reordered_pictures_and_h265_stay_what_they_are(
        self, kit: Any, streaming: Any
    ) -> None:
        for encoder in ("libx264", "libx265"):
            units = kit.pictures(60, encoder=encoder)
            async with streaming(StreamProcessor(audio_processor=echo)) as run:
                await run.feed(kit.mixed(units, kit.sounds(2.0)))
                await run.end()
            assert kit.looks_like(run.played(), range(60))
            assert [len(kit.play(part).seen) for part in run.parts] == [15] * 4

    async def test_where_there_is_no_output_they_are_counted(
        self, kit: Any, streaming: Any
    ) -> None:
        async with streaming(StreamProcessor(audio_processor=echo), output=False) as run:
            await run.feed(kit.footage(30))
            await run.end()
        assert run.stream.statistics().frames_out == 30
        assert run.stream.statistics().audio_out > 40

    async def test_a_size_that_is_asked_for_is_made(self, kit: Any, streaming: Any) -> None:
        processor = StreamProcessor(audio_processor=echo)
        async with streaming(processor, width=64, height=64) as run:
            await run.feed(kit.footage(30))
            await run.end()
        played = run.played()
        assert {seen.size for seen in played.seen} == {(64, 64)}
        assert kit.looks_like(played, range(30))

    async def test_also_while_it_runs(self, kit: Any, streaming: Any) -> None:
        running: list[Any] = []
        heard = 0

        async def ask(frame: AudioFrame) -> None:
            nonlocal heard
            heard += 1
            if heard == 30:
                await running[0].stream.update_params({"width": 64, "height": 64})

        async with streaming(StreamProcessor(audio_processor=ask)) as run:
            running.append(run)
            parts = kit.segments(kit.footage(120))
            await kit.publish(run.source, parts[:4], delete=False)
            while run.stream.statistics().frames_out < 45:
                await trio.lowlevel.checkpoint()
            await kit.publish(run.source, parts[4:])
            await run.end()
        played = run.played()
        sizes = [seen.size for seen in played.seen]
        assert set(sizes) == {(160, 96), (64, 64)}
        assert sizes == sorted(sizes, reverse=True)
        assert kit.looks_like(played, range(120))

    async def test_pictures_that_a_processor_of_sound_makes_itself(
        self, kit: Any, streaming: Any
    ) -> None:
        """A voice that gets a face: sound in, frames put in by its handler."""
        made = 0

        async def draw(frame: AudioFrame) -> None:
            nonlocal made
            pixels = np.full((96, 160, 3), kit.grey(made), np.uint8)
            await processor.send_input_frame(
                VideoFrame.from_ndarray(pixels, frame.timestamp, frame.time_base)
            )
            made += 1

        processor = StreamProcessor(audio_processor=draw)
        async with streaming(processor) as run:
            await kit.publish(run.source, kit.segments(kit.sounds(1.5)), delete=False)
            while run.stream.statistics().frames_out < 60:
                await trio.lowlevel.checkpoint()
            await kit.delete_channel(run.source)
            await run.end()
        assert len(run.played().seen) > 50
        assert run.played().heard
