"""The fourth station of the picture: processed frames become coded pictures, a key frame for every
segment.
"""

from __future__ import annotations

import math
from functools import partial

import trio
from attrs import define

from trickle_core.mpegts import CLOCK_RATE, AccessUnit
from trickle_trio.media.encode import VideoEncoder, VideoEncoderSettings
from trickle_trio.media.frames import VideoFrame
from trickle_trio.stream.meters import Drop, Meters
from trickle_trio.stream.threads import in_codec_thread
from trickle_trio.stream.tracks import VIDEO_PID

TOLERANCE = CLOCK_RATE // 1000
"""A frame so little before the end of a segment begins the next one: times are rounded."""


@define(eq=False)
class KeyRequest:
    """A wish for a key frame, from whoever writes to whoever encodes."""

    wanted: bool = False


@define(eq=False)
class PictureEncoding:
    """Encodes frames in order. A frame of another size gets a new encoder, and with it a new
    segment.
    """

    settings: VideoEncoderSettings
    segment_seconds: float
    keys: KeyRequest
    meters: Meters
    _last_key: float = -math.inf

    async def run(
        self,
        frames: trio.MemoryReceiveChannel[VideoFrame],
        out: trio.MemorySendChannel[AccessUnit],
    ) -> None:
        """Encode until the frames end, and what the encoder still holds then."""
        encoder = VideoEncoder(self.settings, pid=VIDEO_PID)
        with frames, out:
            try:
                async for frame in frames:
                    await self._encode(encoder, frame, out)
                await self._finish(encoder, out)
            finally:
                encoder.close()

    async def _encode(
        self, encoder: VideoEncoder, frame: VideoFrame, out: trio.MemorySendChannel[AccessUnit]
    ) -> None:
        if encoder.needs_new(frame):
            await self._finish(encoder, out)
        failures = encoder.statistics().failures
        key = self.keys.wanted or self._segment_is_full(frame)
        with self.meters.stage("encode"):
            units = await in_codec_thread(partial(encoder.encode, frame, key=key))
        self.meters.size_out = (frame.width, frame.height)
        counts = encoder.statistics()
        if counts.failures > failures:
            self.meters.drop(Drop.NOT_ENCODED)
            self.meters.error("encode", counts.last_error or "")
        await self._pass_on(units, out)

    def _segment_is_full(self, frame: VideoFrame) -> bool:
        age = frame.timestamp - self._last_key
        return age >= self.segment_seconds * CLOCK_RATE - TOLERANCE

    async def _finish(self, encoder: VideoEncoder, out: trio.MemorySendChannel[AccessUnit]) -> None:
        await self._pass_on(await in_codec_thread(encoder.flush), out)

    async def _pass_on(
        self, units: list[AccessUnit], out: trio.MemorySendChannel[AccessUnit]
    ) -> None:
        for unit in units:
            if unit.key:
                self.keys.wanted = False
                self._last_key = unit.pts
            await out.send(unit)
