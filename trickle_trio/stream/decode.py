"""The second station of the picture: coded pictures become frames that wait for the handler."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import groupby
from typing import Final

import trio
from attrs import define, field

from trickle_core.mpegts import AccessUnit, ElementaryStream
from trickle_trio.media.decode import DecoderStatistics, VideoDecoder
from trickle_trio.media.frames import VideoFrame
from trickle_trio.stream.edge import LiveEdge
from trickle_trio.stream.meters import Drop, Meters
from trickle_trio.stream.threads import CodecThread
from trickle_trio.stream.waiting import WaitingFrames

BATCH: Final = 8
"""Units that are decoded in one go at most: decoded pictures are large."""


def _nothing(_: VideoFrame) -> None:
    """Nobody wants to know."""


@define(eq=False)
class PictureDecoding:
    """Decodes pictures as they come; a track of another codec gets a new decoder."""

    frames: WaitingFrames
    meters: Meters
    edge: LiveEdge = field(factory=LiveEdge)
    unshown: Callable[[VideoFrame], None] = _nothing
    """Told of each frame that is from before the stream."""
    _decoder: VideoDecoder | None = None
    _track: ElementaryStream | None = None
    _thread: CodecThread = field(init=False)

    async def run(self, units: trio.MemoryReceiveChannel[AccessUnit]) -> None:
        """Decode until the units end, and what the decoder still holds then."""
        with CodecThread("trickle decode") as self._thread, units, self.frames:
            try:
                async for unit in units:
                    waiting = [unit] if self._is_first_old(unit) else _with_waiting(unit, units)
                    for track, batch in groupby(waiting, _track_of):
                        await self._decode(track, list(batch))
                await self._finish()
            finally:
                self._close()

    def _is_first_old(self, unit: AccessUnit) -> bool:
        """With the frame that it gives, others get ready for those that are shown: no time to lose."""
        return self._decoder is None and unit.pts < self.edge.since

    async def _decode(self, track: ElementaryStream, batch: list[AccessUnit]) -> None:
        if self._decoder is None or track != self._track:
            await self._finish()
            self._close()
            self._decoder, self._track = VideoDecoder(track.codec), track
        before = self._decoder.statistics()
        with self.meters.stage("decode"):
            frames = await self._thread.run(partial(_decode_all, self._decoder, batch))
        self._count(before, self._decoder.statistics())
        await self._pass_on(frames)

    def _count(self, before: DecoderStatistics, now: DecoderStatistics) -> None:
        lost = now.errors - before.errors + now.skipped - before.skipped
        self.meters.drop(Drop.DAMAGED, lost)
        self.meters.drop(Drop.OUT_OF_ORDER, now.misordered - before.misordered)
        if now.errors > before.errors:
            self.meters.error("decode", now.last_error or "")

    async def _finish(self) -> None:
        if self._decoder is not None:
            await self._pass_on(await self._thread.run(self._decoder.flush))

    async def _pass_on(self, frames: list[VideoFrame]) -> None:
        for frame in frames:
            if frame.timestamp < self.edge.since:
                self.meters.drop(Drop.BEFORE_START)
                self.unshown(frame)
                continue
            self.meters.size_in = (frame.width, frame.height)
            await self.frames.put(frame)

    def _close(self) -> None:
        if self._decoder is not None:
            self._decoder.close()


def _with_waiting(
    first: AccessUnit, units: trio.MemoryReceiveChannel[AccessUnit]
) -> list[AccessUnit]:
    """The unit that has come, and those that wait behind it.

    Each call into a thread costs two turns of the loop. When a handler holds the loop for long, a
    decoder that is called for each unit falls behind by that, and the picture gets old in front of
    it.
    """
    batch = [first]
    with suppress(trio.WouldBlock, trio.EndOfChannel):
        while len(batch) < BATCH:
            batch.append(units.receive_nowait())
    return batch


def _track_of(unit: AccessUnit) -> ElementaryStream:
    return unit.stream


def _decode_all(decoder: VideoDecoder, batch: list[AccessUnit]) -> list[VideoFrame]:
    return [frame for unit in batch for frame in decoder.decode(unit)]
