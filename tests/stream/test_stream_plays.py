"""What comes out plays: decoded by libav without a complaint, whole and each segment alone."""

from __future__ import annotations

import io
import threading
from typing import Any

import av
import numpy as np
import pytest

from trickle_core.mpegts import CLOCK_WRAP
from trickle_trio.media.encode import AudioEncoderSettings
from trickle_trio.media.frames import AudioFrame, VideoFrame
from trickle_trio.processor import StreamProcessor

_LOGGING = threading.Lock()


async def passthrough(frame: VideoFrame) -> VideoFrame:
    return frame


async def echo(frame: AudioFrame) -> AudioFrame:
    return frame.replace_samples(frame.samples)


def complaints(data: bytes) -> list[str]:
    """What libav says to these bytes while it decodes them, from warnings on."""
    with _LOGGING:
        av.logging.set_level(av.logging.WARNING)
        try:
            with (
                av.logging.Capture() as said,
                av.open(io.BytesIO(data), "r", "mpegts") as container,
            ):
                count = sum(1 for packet in container.demux() for _ in packet.decode())
        finally:
            av.logging.set_level(None)
    assert count
    return [f"{name}: {text.strip()}" for level, name, text in said if level <= av.logging.WARNING]


def check(run: Any) -> None:
    assert complaints(b"".join(run.parts)) == []
    for part in run.parts:
        assert complaints(part) == []


def test_complaints_are_heard(kit: Any) -> None:
    part = b"".join(kit.segments(kit.footage(60)))
    packets = [part[at : at + 188] for at in range(0, len(part), 188)]
    assert complaints(part) == []
    assert complaints(b"".join(packets[:9] + packets[10:]))


@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1"])
@pytest.mark.parametrize("sound", ["copied", "aac", "libopus"])
async def test_with_sound_of_any_number_of_channels(
    kit: Any, streaming: Any, layout: str, sound: str
) -> None:
    handler = None if sound == "copied" else echo
    settings = AudioEncoderSettings(codec="aac" if sound == "copied" else sound)
    processor = StreamProcessor(passthrough, audio_processor=handler)
    async with streaming(processor, audio=settings) as run:
        await run.feed(kit.footage(60, layout=layout))
        await run.end()
    check(run)
    played = run.played()
    assert kit.looks_like(played, range(60))
    channels = {"mono": 1, "stereo": 2, "5.1": 6}[layout]
    assert {av.AudioLayout(heard.layout).nb_channels for heard in played.heard} == {channels}


async def test_after_a_change_of_size(kit: Any, streaming: Any) -> None:
    start = kit.START + 40 * kit.STEP
    units = kit.pictures(40) + kit.pictures(40, start=start, first=40, size=(320, 180))
    async with streaming(passthrough) as run:
        await run.feed(kit.mixed(units, kit.sounds(80 / 30)))
        await run.end()
    check(run)
    assert kit.looks_like(run.played(), range(80))


async def test_after_a_handler_changes_its_size_again_and_again(kit: Any, streaming: Any) -> None:
    async def breathe(frame: VideoFrame) -> VideoFrame:
        size = 64 + 32 * (frame.timestamp // 45_000 % 3)
        return frame.replace_tensor(np.full((size, size, 3), 120, np.uint8))

    async with streaming(breathe) as run:
        await run.feed(kit.footage(90))
        await run.end()
    check(run)
    assert len({seen.size for seen in run.played().seen}) == 3


async def test_after_the_input_restarts_with_other_time_stamps(kit: Any, streaming: Any) -> None:
    units = kit.footage(30, start=5_000_000) + kit.footage(30, first=30, layout="stereo")
    async with streaming(passthrough) as run:
        await run.feed(units)
        await run.end()
    check(run)
    assert kit.looks_like(run.played(), range(60))


@pytest.mark.parametrize("handled", [False, True])
async def test_across_the_wrap_of_the_clock(kit: Any, streaming: Any, handled: bool) -> None:
    """After 26.5 hours: PTS and DTS have 33 bits."""
    start = CLOCK_WRAP - 25 * kit.STEP
    handler = echo if handled else None
    async with streaming(StreamProcessor(passthrough, audio_processor=handler)) as run:
        await run.feed(kit.footage(60, start=start))
        await run.end()
    check(run)
    played = run.played()
    assert kit.looks_like(played, range(60))
    steps = np.diff([seen.time for seen in played.seen])
    assert steps == pytest.approx(1 / 30, abs=0.001)


async def test_when_the_picture_is_copied(kit: Any, streaming: Any) -> None:
    async with streaming(StreamProcessor(audio_processor=echo)) as run:
        await run.feed(kit.footage(60))
        await run.end()
    check(run)


async def test_when_the_codec_of_the_input_changes(kit: Any, streaming: Any) -> None:
    start = kit.START + 30 * kit.STEP
    second = kit.pictures(30, encoder="libx265", start=start, first=30)
    async with streaming(passthrough) as run:
        parts = kit.segments(kit.mixed(kit.pictures(30), kit.sounds(1.0)))
        later = kit.segments(kit.mixed(second, kit.sounds(1.0, start=start)))
        await kit.publish(run.source, parts + later)
        await run.end()
    check(run)
    assert kit.looks_like(run.played(), range(60))
