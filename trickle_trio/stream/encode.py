"""The fourth station of the picture: processed frames become coded pictures, a key frame for every
segment.
"""

from __future__ import annotations

import math
from typing import Final

from attrs import define, field

from trickle_core.mpegts import CLOCK_RATE, AccessUnit
from trickle_trio.media.encode import EncoderStatistics, VideoEncoder, VideoEncoderSettings
from trickle_trio.media.frames import VideoFrame
from trickle_trio.stream.handing import Queue, Sender
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
    _counted: EncoderStatistics = field(factory=EncoderStatistics)
    """What the encoder has told already."""

    def __attrs_post_init__(self) -> None:
        self._encoder = VideoEncoder(self.settings, pid=VIDEO_PID)

    async def run(self, frames: Queue[VideoFrame], out: Sender[AccessUnit]) -> None:
        """Encode until the frames end, and what the encoder still holds then."""
        stage = self.meters.stage("encode")
        with CodecThread("trickle encode") as thread, frames, out:
            try:
                async for units in thread.over(frames, self._encode, stage):
                    self._count(self._encoder.statistics())
                    await self._pass_on(units, out)
            finally:
                self._encoder.close()

    def _encode(self, frames: list[VideoFrame]) -> list[AccessUnit]:
        """On the thread; nothing more: what is still held."""
        if not frames:
            return self._encoder.flush()
        [frame] = frames
        held = self._fit_encoder(frame)
        key = self.keys.wanted or self._segment_is_full(frame)
        if key:
            self.keys.wanted = False  # from here on it is the encoder's, also when this one fails
            self._last_key = frame.timestamp
        return held + self._encoder.encode(frame, key=key)

    def _fit_encoder(self, frame: VideoFrame) -> list[AccessUnit]:
        """Give the frame another encoder if it needs one, and that may be; gives what the old one held."""
        is_other = self._encoder.needs_new(frame)
        if is_other and frame.timestamp - self._resized < SHORTEST * CLOCK_RATE:
            return []
        self.meters.size_out = (frame.width, frame.height)
        if not is_other:
            return []
        self._resized = frame.timestamp
        return self._encoder.flush()

    def _segment_is_full(self, frame: VideoFrame) -> bool:
        age = frame.timestamp - self._last_key
        return age >= self.segment_seconds * CLOCK_RATE - TOLERANCE

    def _count(self, now: EncoderStatistics) -> None:
        lost = now.failures - self._counted.failures
        self._counted = now
        self.meters.drop(Drop.NOT_ENCODED, lost)
        if lost:
            self.meters.error("encode", now.last_error or "")

    async def _pass_on(self, units: list[AccessUnit], out: Sender[AccessUnit]) -> None:
        for unit in units:
            if unit.key:  # also those that nobody asked for: an encoder begins with one
                self._last_key = max(self._last_key, unit.pts)
            if self.sound is not None:
                await self.sound.wait_for(unit.dts)
            await out.send(unit)
