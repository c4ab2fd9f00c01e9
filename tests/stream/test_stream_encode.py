"""Processed frames to coded pictures: where key frames are, sizes that change, failures."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import trio
from attrs import define, field
from trio.testing import wait_all_tasks_blocked

from trickle_core.mpegts import AccessUnit
from trickle_trio.media.decode import VideoDecoder
from trickle_trio.media.encode import VideoEncoderSettings
from trickle_trio.media.frames import VideoFrame
from trickle_trio.media.pixels import UnreadablePixelsError
from trickle_trio.stream.encode import SHORTEST, KeyRequest, PictureEncoding
from trickle_trio.stream.handing import Queue
from trickle_trio.stream.meters import Drop, Meters

STEP = 3000


def frame(index: float, size: tuple[int, int] = (64, 48)) -> VideoFrame:
    pixels = np.full((size[1], size[0], 3), round(index) * 5 % 256, np.uint8)
    return VideoFrame.from_ndarray(pixels, round(index * STEP))


@define
class Bench:
    """The station with hand-made channels around it."""

    seconds: float = 0.5
    keys: KeyRequest = field(factory=KeyRequest)
    meters: Meters = field(factory=Meters)
    settings: VideoEncoderSettings = field(factory=VideoEncoderSettings)

    def station(self) -> PictureEncoding:
        return PictureEncoding(self.settings, self.seconds, self.keys, self.meters)

    async def run(self, frames: Sequence[VideoFrame], ask_at: int = -1) -> list[AccessUnit]:
        """What comes of these frames; a key frame is asked for before frame ``ask_at``."""
        frames_out = Queue[VideoFrame](0)
        frames_in = frames_out.sender()
        units_out = Queue[AccessUnit](len(frames) + 9)
        units_in = units_out.sender()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.station().run, frames_out, units_in)
            with frames_in:
                for index, each in enumerate(frames):
                    if index == ask_at:
                        await wait_all_tasks_blocked(0.01)
                        self.keys.wanted = True
                    await frames_in.send(each)
        return [unit async for unit in units_out]


def keys(units: Sequence[AccessUnit]) -> list[int]:
    return [index for index, unit in enumerate(units) if unit.key]


def sizes(units: Sequence[AccessUnit]) -> list[tuple[int, int]]:
    decoder = VideoDecoder(units[0].stream.codec)
    frames = [each for unit in units for each in decoder.decode(unit)]
    return [(each.width, each.height) for each in frames + decoder.flush()]


async def test_every_frame_becomes_a_unit_of_its_time() -> None:
    bench = Bench()
    units = await bench.run([frame(index) for index in range(40)])
    assert [unit.pts for unit in units] == [index * STEP for index in range(40)]
    assert {unit.stream.pid for unit in units} == {0x100}
    assert bench.meters.size_out == (64, 48)
    assert bench.meters.stages()["encode"].count == 40


async def test_a_key_frame_begins_every_segment_and_no_other() -> None:
    units = await Bench().run([frame(index) for index in range(70)])
    assert keys(units) == [0, 15, 30, 45, 60]


@pytest.mark.parametrize("drift", [-0.02, 0.02])
async def test_times_that_are_rounded_do_not_make_a_segment_a_frame_longer(drift: float) -> None:
    frames = [frame(index + drift * (index % 2)) for index in range(1, 62)]
    assert keys(await Bench().run(frames)) == [0, 15, 30, 45, 60]


async def test_behind_a_hole_a_segment_begins_at_once() -> None:
    frames = [frame(index) for index in (0, 1, 2, 300, 301, 302)]
    assert keys(await Bench().run(frames)) == [0, 3]


async def test_a_key_frame_that_is_asked_for_comes_once_and_the_segment_counts_from_it() -> None:
    bench = Bench()
    units = await bench.run([frame(index) for index in range(30)], ask_at=5)
    # The frame that was in the station when it was asked may be the one.
    assert [key - keys(units)[1] for key in keys(units)][1:] == [0, 15]
    assert keys(units)[1] in (4, 5)
    assert not bench.keys.wanted


async def test_another_size_gets_another_encoder_and_a_key_frame() -> None:
    bench = Bench(seconds=2)
    frames = [frame(index, (64, 48) if index < 20 else (128, 96)) for index in range(40)]
    units = await bench.run(frames)
    assert keys(units) == [0, 20]
    assert sizes(units) == [(64, 48)] * 20 + [(128, 96)] * 20
    assert [unit.pts for unit in units] == [index * STEP for index in range(40)]
    assert bench.meters.size_out == (128, 96)


async def test_sizes_that_change_all_the_time_do_not_make_a_segment_of_every_frame() -> None:
    bench = Bench(seconds=2)
    units = await bench.run([frame(i, (64, 48) if i % 2 else (128, 96)) for i in range(60)])
    assert len(units) == 60
    steps = [b - a for a, b in zip(keys(units), keys(units)[1:], strict=False)][1:]
    assert all(step * STEP >= SHORTEST * 90_000 for step in steps)
    assert len(sizes(units)) == 60


async def test_odd_sizes_lose_a_row_and_the_line_goes_on() -> None:
    units = await Bench().run([frame(index, (65, 49)) for index in range(3)])
    assert sizes(units) == [(64, 48)] * 3


async def test_a_frame_that_cannot_be_read_is_counted_and_the_next_begins_anew() -> None:
    def lost(*_: Any) -> None:
        raise UnreadablePixelsError("the device is gone")

    bench = Bench(seconds=2)
    broken = frame(3)
    source: Any = broken._shown()[0]

    class Gone(type(source)):  # type: ignore[misc]  # pixels on a device that fails
        fill = lost

    broken._source = Gone(source.hwc)
    units = await bench.run([frame(0), frame(1), frame(2), broken, frame(4), frame(5)])
    assert [unit.pts // STEP for unit in units] == [0, 1, 2, 4, 5]
    assert bench.meters.dropped == {Drop.NOT_ENCODED: 1}
    assert bench.meters.errors == {"encode": 1}
    assert bench.meters.last_error == "the device is gone"


async def test_an_encoder_that_cannot_be_opened_is_counted_frame_by_frame() -> None:
    settings = VideoEncoderSettings(options={"no-such-option": "1"})
    bench = Bench(settings=settings)
    assert await bench.run([frame(index) for index in range(5)]) == []
    assert bench.meters.dropped == {Drop.NOT_ENCODED: 5}
    assert "no-such-option" in str(bench.meters.last_error)


async def test_what_an_encoder_holds_comes_out_at_the_end_and_before_another_size() -> None:
    """An encoder with delay, as those of GPUs are."""
    options = {"tune": "film", "rc-lookahead": "10", "bf": "0"}
    bench = Bench(seconds=1, settings=VideoEncoderSettings(options=options))
    frames = [frame(index, (64, 48) if index < 40 else (96, 64)) for index in range(70)]
    units = await bench.run(frames)
    assert [unit.pts for unit in units] == [index * STEP for index in range(70)]
    assert keys(units) == [0, 30, 40]


async def test_a_full_output_holds_the_encoder_back() -> None:
    """Saturation: one frame is encoded ahead, and no more are taken."""
    bench = Bench()
    frames_out = Queue[VideoFrame](0)
    frames_in = frames_out.sender()
    units_out = Queue[AccessUnit](3)
    units_in = units_out.sender()
    sent = 0

    async def send() -> None:
        nonlocal sent
        for index in range(50):
            await frames_in.send(frame(index))
            sent += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.station().run, frames_out, units_in)
        nursery.start_soon(send)
        while not units_in.is_waited_for:
            await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked()
        assert sent == 4
        await anext(units_out)
        while len(units_out) < 3 or sent < 5:
            await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked(0.05)
        assert sent == 5
        nursery.cancel_scope.cancel()


async def test_a_cancellation_closes_what_it_writes_to() -> None:
    bench = Bench()
    frames_out = Queue[VideoFrame](0)
    frames_in = frames_out.sender()
    units_out = Queue[AccessUnit](10)
    units_in = units_out.sender()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.station().run, frames_out, units_in)
        await frames_in.send(frame(0))
        first = await anext(units_out)
        nursery.cancel_scope.cancel()
    assert first.key
    assert [unit async for unit in units_out] == []
    with pytest.raises(trio.BrokenResourceError):
        frames_in.offer(frame(1))


async def test_no_frame_is_kept_while_the_next_one_is_waited_for() -> None:
    frames_out = Queue[VideoFrame](0)
    frames_in = frames_out.sender()
    _units_out = Queue[AccessUnit](9)
    units_in = _units_out.sender()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Bench().station().run, frames_out, units_in)
        pixels = np.zeros((48, 64, 3), np.float32)
        remains = weakref.ref(pixels)
        await frames_in.send(VideoFrame.from_ndarray(pixels))
        del pixels
        with trio.fail_after(10):
            while len(_units_out) == 0:
                await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked()
        assert remains() is None
        nursery.cancel_scope.cancel()
