"""The station of the sound, where a handler wants it. Sound that nobody touches passes by, as it is
coded.
"""

from __future__ import annotations

from functools import partial

import trio
from attrs import define

from trickle_core.mpegts import AccessUnit, ElementaryStream
from trickle_trio.media.decode import AudioDecoder
from trickle_trio.media.encode import AudioEncoder
from trickle_trio.media.frames import AudioFrame
from trickle_trio.processor import Handlers
from trickle_trio.stream.meters import Meters
from trickle_trio.stream.process import Watchdog
from trickle_trio.stream.threads import in_codec_thread
from trickle_trio.stream.tracks import AUDIO_PID


@define(eq=False)
class SoundHandling:
    """Decodes, has processed and encodes sound, in order, in one station: all three are quick
    beside the picture's.
    """

    handlers: Handlers
    watchdog: Watchdog
    meters: Meters
    _decoder: AudioDecoder | None = None
    _encoder: AudioEncoder | None = None
    _track: ElementaryStream | None = None

    async def run(
        self,
        units: trio.MemoryReceiveChannel[AccessUnit],
        out: trio.MemorySendChannel[AccessUnit],
    ) -> None:
        """Process until the units end, and what the codecs still hold then."""
        with units, out:
            try:
                async for unit in units:
                    await self._take(unit, out)
                await self._finish(out)
            finally:
                self._close()

    async def _take(self, unit: AccessUnit, out: trio.MemorySendChannel[AccessUnit]) -> None:
        if self._decoder is None or unit.stream != self._track:
            await self._finish(out)
            self._close()
            self._decoder, self._track = AudioDecoder(unit.stream), unit.stream
        with self.meters.stage("decode sound"):
            frames = await in_codec_thread(partial(self._decoder.decode, unit))
        await self._process(frames, out)

    async def _process(
        self, frames: list[AudioFrame], out: trio.MemorySendChannel[AccessUnit]
    ) -> None:
        for frame in frames:
            with self.meters.stage("sound handler"):
                results = await self.watchdog.call(
                    "audio", partial(self.handlers.audio, frame), [frame]
                )
            for result in results:
                await self._encode(result, out)

    async def _encode(self, frame: AudioFrame, out: trio.MemorySendChannel[AccessUnit]) -> None:
        if self._encoder is None or self._encoder.needs_new(frame):
            if self._encoder is not None:
                await self._pass_on(await in_codec_thread(self._encoder.flush), out)
                self._encoder.close()
            self._encoder = AudioEncoder.like(frame, pid=AUDIO_PID)
        with self.meters.stage("encode sound"):
            units = await in_codec_thread(partial(self._encoder.encode, frame))
        await self._pass_on(units, out)

    async def _finish(self, out: trio.MemorySendChannel[AccessUnit]) -> None:
        if self._decoder is not None:
            await self._process(await in_codec_thread(self._decoder.flush), out)
        if self._encoder is not None:
            await self._pass_on(await in_codec_thread(self._encoder.flush), out)

    async def _pass_on(
        self, units: list[AccessUnit], out: trio.MemorySendChannel[AccessUnit]
    ) -> None:
        for unit in units:
            await out.send(unit)

    def _close(self) -> None:
        for codec in (self._decoder, self._encoder):
            if codec is not None:
                codec.close()
        self._decoder = self._encoder = None
