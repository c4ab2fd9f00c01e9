"""The fourth station of the picture: processed frames become coded pictures, a key frame for every
segment.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Final

import trio
from attrs import define, field

from trickle_core.mpegts import CLOCK_RATE, AccessUnit
from trickle_trio.media.encode import EncoderStatistics, VideoEncoder, VideoEncoderSettings
from trickle_trio.media.frames import VideoFrame
from trickle_trio.stream.handing import hand_on
from trickle_trio.stream.meters import Drop, Meters
from trickle_trio.stream.step import SoundProgress
from trickle_trio.stream.threads import CodecThread
from trickle_trio.stream.tracks import VIDEO_PID

TOLERANCE: Final = CLOCK_RATE // 1000
"""A frame so little before the end of a segment begins the next one: times are rounded."""

SHORTEST: Final = 0.5
"""Seconds between two changes of the size: each costs an encoder and a segment. A handler that
returns another size each time would push its readers out of the server's window."""


@define(eq=False)
class KeyRequest:
    """A wish for a key frame, from whoever writes to whoever encodes."""

    wanted: bool = False


@define(eq=False)
class PictureEncoding:
    """Encodes frames in order. A frame of another size gets a new encoder, and with it a new
    segment; those that come too soon after the last change are brought to its size.
    """

    settings: VideoEncoderSettings
    segment_seconds: float
    keys: KeyRequest
    meters: Meters
    sound: SoundProgress | None = None
    """What each picture waits for; None: nothing."""
    _last_key: float = -math.inf
    _resized: float = -math.inf
    _encoder: VideoEncoder = field(init=False)
    _thread: CodecThread | None = field(default=None, init=False)
    _is_fresh: bool = True
    """Nothing has been encoded yet, not even for rehearsal."""

    def __attrs_post_init__(self) -> None:
        self._encoder = VideoEncoder(self.settings, pid=VIDEO_PID)

    def rehearse(self, frame: VideoFrame) -> None:
        """Get the encoder ready for frames like this one, while the first is still on its way; see
        ``VideoEncoder.rehearse``. Once, and only before the first. Never blocks.
        """
        if self._is_fresh and self._thread is not None:
            self._is_fresh = False
            self._thread.post(partial(self._encoder.rehearse, frame))

    async def run(
        self,
        frames: trio.MemoryReceiveChannel[VideoFrame],
        out: trio.MemorySendChannel[AccessUnit],
    ) -> None:
        """Encode until the frames end, and what the encoder still holds then."""
        with CodecThread("trickle encode") as thread, frames, out:
            self._thread = thread
            try:
                async for frame in frames:
                    await self._take(frame, thread, out)
                    del frame  # not kept while the next one is waited for
                await self._finish(thread, out)
            finally:
                self._thread = None
                self._encoder.close()

    async def _take(
        self, frame: VideoFrame, thread: CodecThread, out: trio.MemorySendChannel[AccessUnit]
    ) -> None:
        self._is_fresh, encoder = False, self._encoder
        if encoder.needs_new(frame) and frame.timestamp - self._resized >= SHORTEST * CLOCK_RATE:
            self._resized = frame.timestamp
            await self._finish(thread, out)
        before = encoder.statistics()
        units = await self._encode(frame, thread)
        self._count(before, encoder.statistics())
        if not encoder.needs_new(frame):
            self.meters.size_out = (frame.width, frame.height)
        await self._pass_on(units, out)

    async def _encode(self, frame: VideoFrame, thread: CodecThread) -> list[AccessUnit]:
        key = self.keys.wanted or self._segment_is_full(frame)
        if key:
            self.keys.wanted = False  # from here on it is the encoder's, also when this one fails
            self._last_key = frame.timestamp
        with self.meters.stage("encode"):
            return await thread.run(partial(self._encoder.encode, frame, key=key))

    def _segment_is_full(self, frame: VideoFrame) -> bool:
        age = frame.timestamp - self._last_key
        return age >= self.segment_seconds * CLOCK_RATE - TOLERANCE

    def _count(self, before: EncoderStatistics, now: EncoderStatistics) -> None:
        lost = now.failures - before.failures
        self.meters.drop(Drop.NOT_ENCODED, lost)
        if lost:
            self.meters.error("encode", now.last_error or "")

    async def _finish(self, thread: CodecThread, out: trio.MemorySendChannel[AccessUnit]) -> None:
        await self._pass_on(await thread.run(self._encoder.flush), out)

    async def _pass_on(
        self, units: list[AccessUnit], out: trio.MemorySendChannel[AccessUnit]
    ) -> None:
        for unit in units:
            if unit.key:  # also those that nobody asked for: an encoder begins with one
                self._last_key = max(self._last_key, unit.pts)
            if self.sound is not None:
                await self.sound.wait_for(unit.dts)
            await hand_on(unit, out)
