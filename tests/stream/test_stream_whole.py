"""A stream from channel to channel, over the real relay, with real codecs."""

from __future__ import annotations

from typing import Any

from trickle_trio.media.frames import VideoFrame
from trickle_trio.stream.ending import End


async def passthrough(frame: VideoFrame) -> VideoFrame:
    return frame


async def test_every_picture_and_all_sound_come_out(kit: Any, streaming: Any) -> None:
    footage = kit.footage(45)
    async with streaming(passthrough) as run:
        await run.feed(footage)
        outcome = await run.end()
    assert outcome.end is End.INPUT_ENDED
    played = run.played()
    assert kit.looks_like(played, range(45))
    assert len(played.heard) == sum(not unit.stream.codec.is_video for unit in footage)
