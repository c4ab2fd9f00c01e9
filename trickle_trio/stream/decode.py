"""The second station of the picture: coded pictures become frames that wait for the handler."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from attrs import define, field

from trickle_core.mpegts import AccessUnit, ElementaryStream
from trickle_trio.media.decode import VideoDecoder
from trickle_trio.media.frames import VideoFrame
from trickle_trio.stream.edge import LiveEdge
from trickle_trio.stream.handing import Queue
from trickle_trio.stream.meters import Drop, Meters
from trickle_trio.stream.threads import CodecThread
from trickle_trio.stream.waiting import WaitingFrames

BATCH: Final = 8
"""Units that are decoded in one go at most: decoded pictures are large. When a handler holds the loop
for long, a decoder that is called for each unit falls behind by that, and the picture gets old in
front of it."""


@define
class _Decoded:
    """What comes of some units."""

    frames: list[VideoFrame] = field(factory=list)
    lost: int = 0
    misordered: int = 0
    error: str | None = None

    def take(self, decoder: VideoDecoder, call: Callable[[], list[VideoFrame]]) -> None:
        """Have the decoder called, and see what changes."""
        before = decoder.statistics()
        self.frames += call()
        now = decoder.statistics()
        self.lost += now.errors - before.errors + now.skipped - before.skipped
        self.misordered += now.misordered - before.misordered
        if now.errors > before.errors:
            self.error = now.last_error


@define(eq=False)
class PictureDecoding:
    """Decodes pictures as they come; a track of another codec gets a new decoder."""

    frames: WaitingFrames
    meters: Meters
    edge: LiveEdge = field(factory=LiveEdge)
    _decoder: VideoDecoder | None = None
    _track: ElementaryStream | None = None

    async def run(self, units: Queue[AccessUnit]) -> None:
        """Decode until the units end, and what the decoder still holds then."""
        stage = self.meters.stage("decode")
        with CodecThread("trickle decode") as thread, units, self.frames:
            try:
                async for decoded in thread.over(units, self._decode, stage, most=BATCH):
                    self._count(decoded)
                    await self._pass_on(decoded.frames)
                    del decoded  # no frame is kept while the next one is waited for
            finally:
                self._close()

    def _decode(self, batch: list[AccessUnit]) -> _Decoded:
        """On the thread; nothing more: what is still held."""
        decoded = _Decoded()
        for unit in batch:
            if self._decoder is None or unit.stream != self._track:
                self._finish(decoded)
                self._decoder, self._track = VideoDecoder(unit.stream.codec), unit.stream
            decoded.take(self._decoder, partial(self._decoder.decode, unit))
        if not batch:
            self._finish(decoded)
        return decoded

    def _finish(self, decoded: _Decoded) -> None:
        if self._decoder is not None:
            decoded.take(self._decoder, self._decoder.flush)
            self._close()

    def _count(self, decoded: _Decoded) -> None:
        self.meters.drop(Drop.DAMAGED, decoded.lost)
        self.meters.drop(Drop.OUT_OF_ORDER, decoded.misordered)
        if decoded.error is not None:
            self.meters.error("decode", decoded.error)

    async def _pass_on(self, frames: list[VideoFrame]) -> None:
        for frame in frames:
            if frame.timestamp < self.edge.since:
                self.meters.drop(Drop.BEFORE_START)
                continue
            self.meters.size_in = (frame.width, frame.height)
            await self.frames.put(frame)

    def _close(self) -> None:
        if self._decoder is not None:
            self._decoder.close()
