"""Coded pictures to frames that wait: codecs change, units are damaged, handlers are slow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import trio
from attrs import evolve
from trio.testing import MockClock, wait_all_tasks_blocked

from trickle_core.mpegts import CLOCK_RATE, AccessUnit, Codec, ElementaryStream
from trickle_trio.media.frames import VideoFrame
from trickle_trio.stream.decode import BATCH, PictureDecoding
from trickle_trio.stream.handing import Queue
from trickle_trio.stream.meters import Drop, Meters
from trickle_trio.stream.settings import Pace
from trickle_trio.stream.waiting import SOUNDS, WaitingFrames, WaitingSound


def frame(time: int) -> VideoFrame:
    return VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), time)


async def decoded(
    units: Sequence[AccessUnit], meters: Meters, pace: Pace = Pace.EVERY_FRAME
) -> list[VideoFrame]:
    """What comes out of the station for these units, to its end."""
    frames = WaitingFrames(4, pace, meters)
    units_out = Queue[AccessUnit](8)
    units_in = units_out.sender()
    got: list[VideoFrame] = []

    async def take() -> None:
        got.extend([frame async for frame in frames])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(PictureDecoding(frames, meters).run, units_out)
        nursery.start_soon(take)
        with units_in:
            for unit in units:
                await units_in.send(unit)
    return got


def times(frames: Sequence[VideoFrame]) -> list[int]:
    return [each.timestamp for each in frames]


class TestWaitingFrames:
    async def test_live_the_oldest_goes_and_is_counted(self, autojump_clock: MockClock) -> None:
        meters = Meters()
        frames = WaitingFrames(3, Pace.LIVE, meters)
        with trio.fail_after(1), frames:
            for time in range(10):
                await trio.sleep(1 / CLOCK_RATE)
                assert await frames.put(frame(time))
        assert times([each async for each in frames]) == [7, 8, 9]
        assert meters.dropped == {Drop.SLOW_HANDLER: 7}

    async def test_more_at_once_than_may_wait_is_not_the_handlers_fault(
        self, autojump_clock: MockClock
    ) -> None:
        """A stream begins with all of a segment, then frames come as they are made."""
        meters = Meters()
        frames = WaitingFrames(3, Pace.LIVE, meters)
        with frames:
            for time in range(10):
                await frames.put(frame(time))
            assert meters.dropped == {Drop.BURST: 7}
            for time in range(10, 20):
                await trio.sleep(1 / CLOCK_RATE)
                await frames.put(frame(time))
        assert meters.dropped[Drop.BURST] + meters.dropped[Drop.SLOW_HANDLER] == 17
        assert meters.dropped[Drop.SLOW_HANDLER] >= 8

    async def test_where_every_frame_counts_it_waits(self, autojump_clock: MockClock) -> None:
        meters = Meters()
        frames = WaitingFrames(3, Pace.EVERY_FRAME, meters)
        with trio.move_on_after(1) as scope:
            for time in range(10):
                await frames.put(frame(time))
        assert scope.cancelled_caught
        with frames:
            pass
        assert times([each async for each in frames]) == [0, 1, 2]
        assert not meters.dropped

    @pytest.mark.parametrize(
        ("calls", "gone"),
        [
            ([0.02] * 60, []),
            ([0.02] * 5 + [0.25] + [0.02] * 54, []),  # it is worked off
            ([0.02] * 5 + [0.25] + [0.032] * 54, [*range(31, 36)]),  # but not for ever
            (
                [0.02] * 8 + [0.04] * 52,
                [*range(38, 43), 44, 50, 56],
            ),  # too slow, and always behind
        ],
    )
    async def test_live_frames_wait_while_they_are_worked_off_and_not_all_the_time(
        self, autojump_clock: MockClock, calls: list[float], gone: list[int]
    ) -> None:
        """Thirty a second; each call of the handler takes so long."""
        meters, frame_ticks, got = Meters(), CLOCK_RATE // 30, list[int]()
        frames = WaitingFrames(8, Pace.LIVE, meters)

        async def handle() -> None:
            calling = iter(calls)
            async for each in frames:
                got.append(each.timestamp // frame_ticks)
                await trio.sleep(next(calling))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(handle)
            with frames:
                for number in range(60):
                    await frames.put(frame(number * frame_ticks))
                    await trio.sleep(1 / 30)
        assert sorted({*range(60)} - {*got}) == gone
        assert meters.dropped[Drop.SLOW_HANDLER] == len(gone)

    async def test_where_every_frame_counts_none_goes_however_long_they_wait(
        self, autojump_clock: MockClock
    ) -> None:
        frames = WaitingFrames(8, Pace.EVERY_FRAME, Meters())
        with frames:
            for time in range(8):
                await frames.put(frame(time))
            await trio.sleep(10)
        assert times([each async for each in frames]) == [*range(8)]

    @pytest.mark.parametrize("pace", Pace)
    async def test_after_the_end_it_is_too_late(self, pace: Pace) -> None:
        frames = WaitingFrames(3, pace, Meters())
        with frames:
            pass
        assert not await frames.put(frame(0))


def sound(time: int) -> AccessUnit:
    return AccessUnit(ElementaryStream(0x101, Codec.AAC), b"", time, time, key=True)


class TestWaitingSound:
    async def test_live_what_has_waited_too_long_is_left_out(
        self, autojump_clock: MockClock
    ) -> None:
        meters = Meters()
        with WaitingSound(1.05, Pace.LIVE, meters) as waiting:
            for time in range(20):
                await waiting.put(sound(time))
                await trio.sleep(0.1)
        assert [unit.pts async for unit in waiting] == list(range(10, 20))
        assert meters.errors == {"sound dropped": 10}

    async def test_what_comes_all_at_once_is_not_too_late(self, autojump_clock: MockClock) -> None:
        """A stream that begins inside a long segment."""
        with WaitingSound(1.0, Pace.LIVE, Meters()) as waiting:
            for time in range(SOUNDS):
                await waiting.put(sound(time))
        assert [unit.pts async for unit in waiting] == list(range(SOUNDS))

    async def test_live_it_never_holds_up_and_is_bounded(self, autojump_clock: MockClock) -> None:
        """Saturation: nobody takes anything."""
        meters = Meters()
        with WaitingSound(1.0, Pace.LIVE, meters) as waiting:
            for time in range(SOUNDS + 5):
                await waiting.put(sound(time))
        assert [unit.pts async for unit in waiting] == list(range(5, SOUNDS + 5))
        assert meters.errors == {"sound dropped": 5}

    async def test_where_every_frame_counts_it_waits_and_nothing_is_too_late(
        self, autojump_clock: MockClock
    ) -> None:
        waiting = WaitingSound(1.0, Pace.EVERY_FRAME, Meters())
        with trio.move_on_after(10) as scope, waiting:
            for time in range(SOUNDS + 5):
                await waiting.put(sound(time))
        assert scope.cancelled_caught
        assert [unit.pts async for unit in waiting] == list(range(SOUNDS))

    async def test_what_passes_by_costs_no_turn_of_the_loop(self) -> None:
        coded = Queue[AccessUnit](5)
        waiting = WaitingSound(1.0, Pace.LIVE, Meters())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waiting.pass_by, coded.sender())
            await wait_all_tasks_blocked()
            with waiting:
                for time in range(5):
                    await waiting.put(sound(time))
                assert len(coded) == 5
        assert [unit.pts async for unit in coded] == list(range(5))

    @pytest.mark.parametrize("pace", Pace)
    async def test_what_finds_no_room_waits_and_passes_by_in_order(self, pace: Pace) -> None:
        coded = Queue[AccessUnit](2)
        waiting = WaitingSound(1.0, pace, Meters())
        got: list[int] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waiting.pass_by, coded.sender())
            await wait_all_tasks_blocked()
            with waiting:
                for time in range(40):
                    await waiting.put(sound(time))
                    if time % 5 == 4:
                        got += [unit.pts for unit in coded.take(1)]
                    if time % 20 == 19:
                        await wait_all_tasks_blocked()
                        got += [unit.pts for unit in coded.take(2)]
            got += [unit.pts async for unit in coded]
        assert got == list(range(40))

    async def test_live_what_passes_by_too_late_is_left_out(
        self, autojump_clock: MockClock
    ) -> None:
        """Nobody writes for a while: what is older than that then is not heard any more."""
        meters, coded = Meters(), Queue[AccessUnit](2)
        waiting = WaitingSound(1.05, Pace.LIVE, meters)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waiting.pass_by, coded.sender())
            await wait_all_tasks_blocked()
            with waiting:
                for time in range(30):
                    await waiting.put(sound(time))
                    await trio.sleep(0.1)
            got = [unit.pts async for unit in coded]
        assert got == [0, 1, 2, *range(20, 30)]
        assert meters.errors == {"sound dropped": 17}

    async def test_a_cancellation_closes_what_it_passes_by_to(self) -> None:
        coded = Queue[AccessUnit](1)
        waiting = WaitingSound(1.0, Pace.LIVE, Meters())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waiting.pass_by, coded.sender())
            await wait_all_tasks_blocked()
            for time in range(5):
                await waiting.put(sound(time))
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert [unit.pts async for unit in coded] == [0]


class TestPictureDecoding:
    async def test_every_picture_comes_out_with_its_time(self, kit: Any) -> None:
        units, meters = kit.pictures(40), Meters()
        frames = await decoded(units, meters)
        assert times(frames) == [unit.pts for unit in units]
        for number, each in enumerate(frames):
            assert abs(each.to_ndarray().mean() - kit.grey(number)) < 4
        assert meters.size_in == (160, 96)
        assert not meters.dropped
        assert not meters.errors

    async def test_what_waits_is_decoded_in_one_go_but_not_without_bound(self, kit: Any) -> None:
        """One call into a thread for each batch, which is what keeps up behind a held loop."""
        meters = Meters()
        frames = WaitingFrames(100, Pace.EVERY_FRAME, meters)
        units_out = Queue[AccessUnit](100)
        units_in = units_out.sender()
        for unit in kit.pictures(20):
            units_in.offer(unit)
        units_in.close()
        await PictureDecoding(frames, meters).run(units_out)
        assert meters.stages()["decode"].count == -(-20 // BATCH)
        assert len([each async for each in frames]) == 20

    async def test_another_codec_gets_another_decoder_and_nothing_is_lost(self, kit: Any) -> None:
        start = kit.START + 10 * kit.STEP
        first = kit.pictures(10)
        second = kit.pictures(10, encoder="libx265", start=start, first=10, size=(192, 112))
        third = kit.pictures(10, start=start + 10 * kit.STEP, first=20)
        units = first + second + third
        assert len({unit.stream for unit in units}) == 2
        frames = await decoded(units, Meters())
        assert times(frames) == [unit.pts for unit in units]
        assert [each.width for each in frames] == [160] * 10 + [192] * 10 + [160] * 10

    async def test_another_size_of_the_same_codec_goes_on(self, kit: Any) -> None:
        start = kit.START + 10 * kit.STEP
        units = kit.pictures(10) + kit.pictures(10, start=start, size=(320, 180))
        frames = await decoded(units, Meters())
        assert [(each.width, each.height) for each in frames] == [(160, 96)] * 10 + [
            (320, 180)
        ] * 10

    async def test_behind_damage_it_goes_on_at_the_next_key_frame(self, kit: Any) -> None:
        units, meters = list(kit.pictures(30, gop=10)), Meters()
        units[13] = evolve(units[13], damaged=True)
        frames = await decoded(units, meters)
        assert times(frames) == [unit.pts for unit in units[:13] + units[20:]]
        assert meters.dropped == {Drop.DAMAGED: 7}
        assert meters.errors["decode"] == 1
        assert meters.last_error == "the unit arrived damaged"

    async def test_a_picture_that_comes_twice_is_shown_once_and_the_other_counted(
        self, kit: Any
    ) -> None:
        units, meters = kit.pictures(10), Meters()
        frames = await decoded([*units, units[0], units[1]], meters)
        assert times(frames) == [unit.pts for unit in units]
        assert meters.dropped == {Drop.OUT_OF_ORDER: 2}

    async def test_garbage_is_counted_and_survived(self, kit: Any) -> None:
        units, meters = list(kit.pictures(30, gop=10)), Meters()
        units[5] = evolve(units[5], data=b"\x00\x00\x00\x01\x65" + bytes(range(256)))
        frames = await decoded(units, meters)
        assert set(times(frames)) >= {unit.pts for unit in units[10:]}
        assert meters.dropped[Drop.DAMAGED] + len(frames) >= 29

    async def test_a_slow_handler_does_not_hold_the_decoder_up(self, kit: Any) -> None:
        """Saturation, live: the newest frames wait, the input is never held back."""
        units, meters = kit.pictures(40), Meters()
        frames = WaitingFrames(4, Pace.LIVE, meters)
        units_out = Queue[AccessUnit](1)
        units_in = units_out.sender()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(PictureDecoding(frames, meters).run, units_out)
            with units_in:
                for unit in units:
                    await units_in.send(unit)
        assert times([each async for each in frames]) == [unit.pts for unit in units[-4:]]
        assert meters.dropped == {Drop.BURST: 36}

    async def test_where_every_frame_counts_a_slow_handler_holds_the_input_back(
        self, kit: Any
    ) -> None:
        """Saturation: no more is taken than what waits, what was decoded, and the channel."""
        meters = Meters()
        frames = WaitingFrames(4, Pace.EVERY_FRAME, meters)
        units_out = Queue[AccessUnit](2)
        units_in = units_out.sender()
        sent = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(PictureDecoding(frames, meters).run, units_out)

            async def send() -> None:
                nonlocal sent
                for unit in kit.pictures(40):
                    await units_in.send(unit)
                    sent += 1

            nursery.start_soon(send)
            while not frames._put.is_waited_for:
                await trio.lowlevel.checkpoint()
            await wait_all_tasks_blocked()
            assert sent <= 4 + BATCH + 2 + 1
            nursery.cancel_scope.cancel()

    async def test_a_cancellation_closes_the_decoder_and_its_channel(self, kit: Any) -> None:
        frames = WaitingFrames(4, Pace.LIVE, Meters())
        units_out = Queue[AccessUnit](100)
        units_in = units_out.sender()
        for unit in kit.pictures(40):
            units_in.offer(unit)
        station = PictureDecoding(frames, Meters())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(station.run, units_out)
            await anext(aiter(frames))
            nursery.cancel_scope.cancel()
        assert station._decoder is not None
        with pytest.raises(RuntimeError, match="closed"):
            station._decoder.flush()
        with pytest.raises(trio.BrokenResourceError):
            units_in.offer(kit.pictures(1)[0])
