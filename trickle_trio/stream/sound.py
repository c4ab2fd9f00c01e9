"""The station of the sound, where a handler wants it. Sound that nobody touches passes by, as it is
coded.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Iterator
from functools import partial
from typing import Final

import trio
from attrs import define, field

from trickle_core.mpegts import CLOCK_RATE, AccessUnit, ElementaryStream
from trickle_trio.media.audio_frame import channels_of, dtype_of
from trickle_trio.media.decode import AudioDecoder, DecoderStatistics
from trickle_trio.media.encode import (
    AudioEncoder,
    AudioEncoderSettings,
    AudioEncoderStatistics,
)
from trickle_trio.media.frames import AudioFrame
from trickle_trio.processor import Handlers
from trickle_trio.stream.handing import Sender
from trickle_trio.stream.meters import Meters
from trickle_trio.stream.step import SoundProgress
from trickle_trio.stream.threads import CodecThread
from trickle_trio.stream.times import stamped, ticks_of
from trickle_trio.stream.tracks import AUDIO_PID, Tracks
from trickle_trio.stream.watchdog import Watchdog

HIGHEST_RATE: Final = 768_000
"""Samples a second: twice what any converter gives."""


@define(eq=False)
class SoundHandling:
    """Decodes, has processed and encodes sound, in order, in one station: all three are quick
    beside the picture's. Sound of another kind gets new codecs.
    """

    handlers: Handlers
    watchdog: Watchdog
    meters: Meters
    settings: AudioEncoderSettings
    tracks: Tracks
    progress: SoundProgress
    _decoder: AudioDecoder | None = None
    _encoder: AudioEncoder | None = None
    _track: ElementaryStream | None = None
    _last: int | None = None
    _waits: bool = field(init=False)
    _thread: CodecThread = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._waits = self.handlers.audio_waits

    async def run(
        self,
        units: AsyncIterable[AccessUnit],
        out: Sender[AccessUnit],
    ) -> None:
        """Process until the units end, and what the codecs still hold then."""
        with CodecThread("trickle sound") as self._thread, out:
            try:
                async for unit in units:
                    await self._take(unit, out)
                await self._end_decoder(out)
                await self._end_encoder(out)
            finally:
                self._close()
                self.progress.end()

    async def _take(self, unit: AccessUnit, out: Sender[AccessUnit]) -> None:
        if self._decoder is None or unit.stream != self._track:
            await self._end_decoder(out)
            self._decoder, self._track = AudioDecoder(unit.stream), unit.stream
        before = self._decoder.statistics()
        decode = partial(self._decoder.decode, unit)
        frames = await self._thread.run(decode, self.meters.stage("decode sound"))
        self._count_decoded(before, self._decoder.statistics())
        await self._process(frames, out)

    async def _process(self, frames: list[AudioFrame], out: Sender[AccessUnit]) -> None:
        for frame in frames:
            time = frame.timestamp  # the handler may change the frame
            began = trio.current_time()
            call, waits = partial(self.handlers.audio, frame), self._waits
            results = await self.watchdog.call("audio", call, [frame], waits=waits)
            self.meters.stage("sound handler").took(trio.current_time() - began)
            for result in _timed(filter(self._is_sound, results), time):
                await self._encode(result, out)

    def _is_sound(self, frame: AudioFrame) -> bool:
        """Whether what a handler returned can be encoded; where not, that is told."""
        fault = fault_of(frame)
        if fault is not None:
            self.watchdog.report("audio", fault)
        return fault is None

    async def _encode(self, frame: AudioFrame, out: Sender[AccessUnit]) -> None:
        if self._encoder is None or self._encoder.needs_new(frame):
            await self._end_encoder(out)
            self._encoder = AudioEncoder.like(frame, self.settings, pid=AUDIO_PID)
            self.tracks.encodes_sound_as(self._encoder.stream)
        before = self._encoder.statistics()
        encode = partial(self._encoder.encode, frame)
        units = await self._thread.run(encode, self.meters.stage("encode sound"))
        self._count_encoded(before, self._encoder.statistics())
        await self._pass_on(units, out)

    def _count_decoded(self, before: DecoderStatistics, now: DecoderStatistics) -> None:
        if now.errors > before.errors:
            self.meters.error("decode sound", now.last_error or "")

    def _count_encoded(self, before: AudioEncoderStatistics, now: AudioEncoderStatistics) -> None:
        if now.failures > before.failures:
            self.meters.error("encode sound", now.last_error or "")

    async def _end_decoder(self, out: Sender[AccessUnit]) -> None:
        if self._decoder is not None:
            await self._process(await self._thread.run(self._decoder.flush), out)
            self._decoder.close()
            self._decoder = None

    async def _end_encoder(self, out: Sender[AccessUnit]) -> None:
        if self._encoder is not None:
            await self._pass_on(await self._thread.run(self._encoder.flush), out)
            self._encoder.close()
            self._encoder = None

    async def _pass_on(self, units: list[AccessUnit], out: Sender[AccessUnit]) -> None:
        """Send on what is later than everything before: a new encoder puts something in front of
        its first sample, where the one before may have been.
        """
        for unit in units:
            if self._last is None or unit.pts > self._last:
                self._last = unit.pts
                await out.send(unit)
                self.progress.reach(unit.pts)

    def _close(self) -> None:
        for codec in (self._decoder, self._encoder):
            if codec is not None:
                codec.close()


def fault_of(frame: AudioFrame) -> Exception | None:
    """What is wrong with a frame that the user's code has made, or changed."""
    try:
        channels_of(frame.layout)
        dtype_of(frame.format)
        is_rate = 0 < frame.rate <= HIGHEST_RATE
    except (TypeError, ValueError, AttributeError) as error:
        return error
    return None if is_rate else ValueError(f"{frame.rate!r} is no sample rate")


def _timed(results: Iterable[AudioFrame], time: int) -> Iterator[AudioFrame]:
    """What a handler made of the frame of this time, with times that can be: a frame that was made
    without one, or that lies a second ahead of what has come in, follows what is before it.
    """
    following = time
    for frame in results:
        ticks = ticks_of(frame)
        if not ticks or ticks > time + CLOCK_RATE:
            ticks = following
        following = ticks + round(frame.duration * CLOCK_RATE)
        yield stamped(frame, ticks)
