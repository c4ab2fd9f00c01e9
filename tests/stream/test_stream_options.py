"""What users may choose about a stream, and that it comes out so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from attrs import evolve

from trickle_core.mpegts import Codec, Demuxer, ElementaryStream, Muxer, ProgramMap
from trickle_trio.media.encode import AudioEncoderSettings, VideoEncoderSettings
from trickle_trio.media.fit import Fit
from trickle_trio.media.frames import AudioFrame, VideoFrame
from trickle_trio.processor import StreamProcessor
from trickle_trio.stream.settings import Pace, StreamPolicy
from trickle_trio.stream.tracks import Tracks


async def passthrough(frame: VideoFrame) -> VideoFrame:
    return frame


async def echo(frame: AudioFrame) -> AudioFrame:
    return frame.replace_samples(frame.samples)


def program_of(part: bytes) -> tuple[ElementaryStream, ...]:
    demuxer = Demuxer()
    events = demuxer.feed(part) + demuxer.flush()
    return next(event.streams for event in events if isinstance(event, ProgramMap))


def test_pace_and_fit_may_be_given_by_name() -> None:
    policy = StreamPolicy(pace="every frame", fit="contain")
    assert (policy.pace, policy.fit) == (Pace.EVERY_FRAME, Fit.CONTAIN)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"pace": "slow"}, "expected one of 'live', 'every frame'; got 'slow'"),
        ({"fit": "crop"}, "expected one of 'cover', 'contain', 'stretch'; got 'crop'"),
        ({"video_track": -1}, "'video_track' must be >= 0: -1"),
        ({"segment_seconds": 0}, "'segment_seconds' must be > 0: 0"),
    ],
)
def test_a_wrong_choice_is_told_in_one_line(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        StreamPolicy(**wrong)


async def test_pictures_of_another_codec(kit: Any, streaming: Any) -> None:
    async with streaming(passthrough, video=VideoEncoderSettings(codec="libx265")) as run:
        await run.feed(kit.footage(45))
        await run.end()
    assert {stream.codec for part in run.parts for stream in program_of(part)} == {
        Codec.H265,
        Codec.AAC,
    }
    assert kit.looks_like(run.played(), range(45))
    assert [len(kit.play(part).seen) for part in run.parts] == [15] * 3


@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1"])
async def test_touched_sound_of_another_codec_keeps_its_channels(
    kit: Any, streaming: Any, layout: str
) -> None:
    processor = StreamProcessor(passthrough, audio_processor=echo)
    async with streaming(processor, audio=AudioEncoderSettings(codec="libopus")) as run:
        await run.feed(kit.footage(45, layout=layout))
        await run.end()
    channels = {"mono": 1, "stereo": 2, "5.1": 6}[layout]
    assert ElementaryStream(0x101, Codec.OPUS, channels) in program_of(run.parts[-1])
    played = run.played()
    assert kit.looks_like(played, range(45))
    assert sum(heard.samples.size for heard in played.heard) / channels / 48_000 > 1.3


async def test_how_a_picture_comes_to_another_shape(kit: Any, streaming: Any) -> None:
    """A picture that is bright everywhere: bars beside it are seen in its average."""
    for fit, is_dark in ((Fit.COVER, False), (Fit.CONTAIN, True), (Fit.STRETCH, False)):
        given: list[float] = []

        async def look(frame: VideoFrame, given: list[float] = given) -> None:
            given.append(float(frame.to_ndarray()[0].mean()))

        policy = evolve(kit.EVERY_FRAME, fit=fit)
        async with streaming(look, policy=policy, width=96, height=96) as run:
            await run.feed(kit.pictures(10, first=2))
            await run.end()
        assert {seen.size for seen in run.played().seen} == {(96, 96)}
        assert (np.mean(given) < 5) == is_dark


def two_of_each(kit: Any) -> bytes:
    """A program with two pictures and two sounds."""
    tracks = [
        (kit.pictures(15), 0x100),
        (kit.pictures(15, first=50, size=(96, 64)), 0x110),
        (kit.sounds(0.5), 0x101),
        (kit.sounds(0.5, layout="stereo"), 0x111),
    ]
    units = kit.mixed(
        *(
            [evolve(unit, stream=evolve(unit.stream, pid=pid)) for unit in units]
            for units, pid in tracks
        )
    )
    muxer = Muxer([ElementaryStream(pid, units[0].stream.codec) for units, pid in tracks])
    return muxer.tables() + b"".join(muxer.write(unit) for unit in units)


@pytest.mark.parametrize(
    ("chosen", "size", "layout"),
    [
        ({}, (160, 96), "mono"),
        ({"video_track": 1}, (96, 64), "mono"),
        ({"audio_track": 1}, (160, 96), "stereo"),
        ({"video_track": 1, "audio_track": 1}, (96, 64), "stereo"),
        ({"video_track": 7, "audio_track": 7}, (160, 96), "mono"),
    ],
)
async def test_of_several_tracks_the_first_of_each_or_those_that_are_chosen(
    kit: Any, streaming: Any, chosen: dict[str, int], size: tuple[int, int], layout: str
) -> None:
    async with streaming(passthrough, policy=evolve(kit.EVERY_FRAME, **chosen)) as run:
        await kit.publish(run.source, [two_of_each(kit)])
        await run.end()
    played = run.played()
    assert len(played.seen) == 15
    assert {seen.size for seen in played.seen} == {size}
    assert {heard.layout for heard in played.heard} == {layout}


def test_a_chosen_track_that_moves_to_another_pid_stays_the_chosen_one() -> None:
    def sound(pid: int) -> ElementaryStream:
        return ElementaryStream(pid, Codec.AAC)

    tracks = Tracks(audio_index=1)
    tracks.choose(ProgramMap((sound(5), sound(6))))
    before = tracks.audio
    tracks.choose(ProgramMap((sound(9), sound(8))))
    assert tracks.audio == before
    assert tracks._audio_pid == 8
