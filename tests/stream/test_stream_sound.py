"""Sound through a handler: decoded, processed, encoded, in step with the picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import trio
from attrs import define, evolve, field
from trio.testing import wait_all_tasks_blocked

from trickle_core.mpegts import AccessUnit, Codec, ElementaryStream
from trickle_trio.media.decode import AudioDecoder
from trickle_trio.media.encode import AudioEncoderSettings
from trickle_trio.media.frames import AudioFrame
from trickle_trio.processor import StreamProcessor, Withheld, as_processor
from trickle_trio.stream.handing import Queue
from trickle_trio.stream.meters import Meters
from trickle_trio.stream.settings import StreamPolicy
from trickle_trio.stream.sound import SoundHandling
from trickle_trio.stream.step import SoundProgress
from trickle_trio.stream.tracks import Tracks
from trickle_trio.stream.watchdog import Watchdog

RATE = 48_000
CLOCK = 90_000
FRAME = 1024
"""Samples of an AAC frame."""


@define
class Bench:
    """The station with hand-made channels around it."""

    handler: Callable[..., Any]
    meters: Meters = field(factory=Meters)
    reports: list[BaseException] = field(factory=list)
    settings: AudioEncoderSettings = field(factory=AudioEncoderSettings)
    tracks: Tracks = field(factory=Tracks)
    progress: SoundProgress = field(factory=lambda: SoundProgress(1.0, Tracks()))

    def station(self) -> SoundHandling:
        def report(_: str, error: BaseException) -> None:
            self.reports.append(error)

        handlers = as_processor(StreamProcessor(audio_processor=self.handler))
        return SoundHandling(
            handlers,
            Watchdog(StreamPolicy(), report),
            self.meters,
            self.settings,
            self.tracks,
            self.progress,
        )

    async def run(self, units: Sequence[AccessUnit]) -> list[AccessUnit]:
        units_out = Queue[AccessUnit](0)
        units_in = units_out.sender()
        done_out = Queue[AccessUnit](10_000)
        done_in = done_out.sender()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.station().run, units_out, done_in)
            with units_in:
                for unit in units:
                    await units_in.send(unit)
        done = [unit async for unit in done_out]
        assert all(a.pts < b.pts for a, b in pairwise(done)), "times go back"
        return done


@define
class Sound:
    """Units decoded to samples. ``begin`` in seconds, of the first sample."""

    begin: float
    samples: np.ndarray[Any, np.dtype[np.float32]]
    layout: str


def listen(units: Sequence[AccessUnit]) -> Sound:
    decoder = AudioDecoder(units[0].stream)
    frames = [frame for unit in units for frame in decoder.decode(unit)] + decoder.flush()
    samples = np.concatenate([frame.samples for frame in frames], axis=1)
    return Sound(frames[0].seconds, samples, frames[0].layout)


def burst(seconds: float, at: float) -> Any:
    """Silence with one loud burst."""
    time = np.arange(round(seconds * RATE)) / RATE
    loud = (time >= at) & (time < at + 0.05)
    return np.asarray(0.8 * loud * np.sin(2 * np.pi * 1000 * time), np.float32)


def onset(sound: Sound) -> float:
    """When it becomes loud, in seconds of stream time."""
    loud = np.abs(sound.samples[0]) > 0.2
    return sound.begin + float(np.argmax(loud)) / RATE


async def echo(frame: AudioFrame) -> AudioFrame:
    return frame.replace_samples(frame.samples)


@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1"])
@pytest.mark.parametrize("codec", ["aac", "libopus"])
async def test_it_comes_out_as_it_went_in(kit: Any, layout: str, codec: str) -> None:
    units = kit.sounds(1.0, layout=layout, codec=codec)
    came = listen(units)
    bench = Bench(echo)
    out = await bench.run(units)
    left = listen(out)
    assert {unit.stream for unit in out} == {ElementaryStream(0x101, Codec.AAC)}
    assert left.layout == came.layout
    assert left.samples.shape[1] == pytest.approx(RATE, abs=4 * FRAME)
    middle = slice(RATE // 4, RATE // 2)
    loudness = np.abs(came.samples[0, middle]).mean(), np.abs(left.samples[0, middle]).mean()
    assert loudness[1] == pytest.approx(loudness[0], rel=0.15)
    assert not bench.meters.errors


async def test_sound_stays_where_it_was(footage_of: Callable[..., Any]) -> None:
    """To the picture it may be 40 ms off; here it is a tenth of that at most."""
    units = footage_of(burst(1.5, 0.7))
    before, after = onset(listen(units)), onset(listen(await Bench(echo).run(units)))
    assert after == pytest.approx(before, abs=0.004)


async def test_what_the_handler_does_is_heard(footage_of: Callable[..., Any]) -> None:
    async def quieter(frame: AudioFrame) -> AudioFrame:
        return frame.replace_samples(frame.samples * 0.25)

    units = footage_of(np.full(RATE, 0.0, np.float32) + burst(1.0, 0.2))
    before, after = listen(units), listen(await Bench(quieter).run(units))
    ratio = np.abs(after.samples).max() / np.abs(before.samples).max()
    assert ratio == pytest.approx(0.25, rel=0.2)


async def test_where_it_raises_the_sound_passes(kit: Any) -> None:
    async def fails(frame: AudioFrame) -> AudioFrame:
        raise ValueError("no")

    bench = Bench(fails)
    units = kit.sounds(0.5)
    out = await bench.run(units)
    assert listen(out).samples.shape[1] == pytest.approx(RATE / 2, abs=4 * FRAME)
    assert len(bench.reports) == pytest.approx(len(units), abs=2)


async def test_withheld_sound_is_not_there(kit: Any) -> None:
    async def nothing(frame: AudioFrame) -> Any:
        return Withheld

    assert await Bench(nothing).run(kit.sounds(0.5)) == []


async def test_one_frame_may_become_several_also_without_times(kit: Any) -> None:
    """Frames that are made without a time follow each other from where the first came from."""

    async def split(frame: AudioFrame) -> list[AudioFrame]:
        halves = np.array_split(frame.samples, 2, axis=1)
        return [AudioFrame.from_ndarray(half, rate=frame.rate) for half in halves]

    units = kit.sounds(1.0)
    out = await Bench(split).run(units)
    sound = listen(out)
    assert sound.begin == pytest.approx(listen(units).begin, abs=0.05)
    assert sound.samples.shape[1] == pytest.approx(RATE, abs=4 * FRAME)


@pytest.mark.parametrize("time", [10**15, None, "soon", float("nan"), -(10**12)])
async def test_a_time_that_cannot_be_does_not_silence_what_follows(kit: Any, time: Any) -> None:
    count = 0

    async def odd(frame: AudioFrame) -> AudioFrame:
        nonlocal count
        count += 1
        if count == 10:
            frame.timestamp = time
        return frame

    units = kit.sounds(1.0)
    out = await Bench(odd).run(units)
    assert listen(out).samples.shape[1] == pytest.approx(RATE, abs=6 * FRAME)


@pytest.mark.parametrize("change", [{"rate": 0}, {"layout": "?"}, {"format": "?"}, {"rate": -5}])
async def test_a_frame_that_is_none_is_told_and_the_sound_goes_on(
    kit: Any, change: dict[str, Any]
) -> None:
    count = 0

    async def odd(frame: AudioFrame) -> AudioFrame:
        nonlocal count
        count += 1
        if count == 10:
            for name, value in change.items():
                setattr(frame, name, value)
        return frame

    units = kit.sounds(1.0)
    bench = Bench(odd)
    out = await bench.run(units)
    assert listen(out).samples.shape[1] == pytest.approx(RATE, abs=6 * FRAME)


async def test_another_kind_of_sound_gets_new_codecs(kit: Any) -> None:
    second = kit.sounds(1.0, layout="5.1", codec="libopus", start=kit.START + 90_000)
    bench = Bench(echo)
    out = await bench.run(kit.sounds(1.0) + second)
    assert out[-1].pts - out[0].pts == pytest.approx(2 * CLOCK, abs=6000)
    assert listen(out[-20:]).layout == "5.1"


async def test_damage_is_counted_and_the_rest_is_heard(kit: Any) -> None:
    units = list(kit.sounds(1.0))
    units[10] = evolve(units[10], data=units[10].data[:7] + b"\xff" * 50)
    bench = Bench(echo)
    out = await bench.run(units)
    assert bench.meters.errors["decode sound"] >= 1
    assert listen(out).samples.shape[1] == pytest.approx(RATE, abs=5 * FRAME)


async def test_a_full_output_holds_the_station_back(kit: Any) -> None:
    """Saturation: it takes no more than it can pass on."""
    units_out = Queue[AccessUnit](0)
    units_in = units_out.sender()
    done_in = Queue[AccessUnit](2).sender()
    sent = 0

    async def send() -> None:
        nonlocal sent
        for unit in kit.sounds(2.0):
            await units_in.send(unit)
            sent += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(Bench(echo).station().run, units_out, done_in)
        nursery.start_soon(send)
        while not done_in.is_waited_for:
            await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked(0.02)
        assert sent <= 8
        nursery.cancel_scope.cancel()


async def test_a_cancellation_closes_what_it_writes_to(kit: Any) -> None:
    units_out = Queue[AccessUnit](100)
    units_in = units_out.sender()
    done_out = Queue[AccessUnit](100)
    done_in = done_out.sender()
    for unit in kit.sounds(1.0):
        units_in.offer(unit)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Bench(echo).station().run, units_out, done_in)
        await anext(done_out)
        nursery.cancel_scope.cancel()
    with trio.fail_after(10):
        async for _ in done_out:
            pass


@pytest.fixture
def footage_of() -> Callable[..., list[AccessUnit]]:
    """Code samples, the first of them at one second."""
    from trickle_trio.media.encode import AudioEncoder  # noqa: PLC0415  next to its only use

    def code(samples: Any) -> list[AccessUnit]:
        encoder = AudioEncoder(rate=RATE, layout="mono")
        frame = AudioFrame.from_ndarray(samples, RATE, rate=RATE)
        return encoder.encode(frame) + encoder.flush()

    return code
