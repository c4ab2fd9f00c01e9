"""Channels that carry something else than MPEG-TS: read by libav, whatever they say of themselves."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import Any

import av
import numpy as np
import pytest
import trio
from attrs import evolve
from trio.testing import wait_all_tasks_blocked

from trickle_core import wire
from trickle_core.publisher import PublisherSettings
from trickle_trio.media.frames import VideoFrame
from trickle_trio.publication import open_publication
from trickle_trio.stream.ending import End
from trickle_trio.stream.forms import HEAD, Form, form_of, names_container

MP4 = ("video/mp4", "mp4", {"movflags": "frag_keyframe+empty_moov+default_base_moof"})
WEBM = ("video/webm", "webm", {"live": "1"})
MATROSKA = ("video/x-matroska", "matroska", {"live": "1"})
FLV = ("video/x-flv", "flv", {"flvflags": "no_duration_filesize"})


async def passthrough(frame: VideoFrame) -> VideoFrame:
    return frame


@lru_cache(maxsize=16)
def file_of(
    form: str,
    options: tuple[tuple[str, str], ...] = (),
    *,
    video: str | None = "libx264",
    audio: str | None = "aac",
    count: int = 30,
    first: int = 0,
    tracks: int = 1,
) -> bytes:
    """A whole container: grey pictures, 30 a second, and a tone. Later tracks are smaller, and mono."""
    file = io.BytesIO()
    with av.open(file, "w", format=form, options=dict(options)) as container:
        pictures, sounds = [], []
        for track in range(tracks):
            if video:
                pictures.append(_picture(container, video, 160 - 64 * track))
            if audio:
                sounds.append(_sound(container, audio, "mono" if track else "stereo"))
        for number in range(count):
            for stream in pictures:
                container.mux(stream.encode(_grey(stream, first + number, number)))
            for stream in sounds:
                container.mux(stream.encode(_tone(stream, number)))
        for stream in (*pictures, *sounds):
            container.mux(stream.encode(None))
    return file.getvalue()


def _picture(container: Any, codec: str, width: int) -> Any:
    stream = container.add_stream(codec, rate=30)
    stream.width, stream.height, stream.pix_fmt = width, 96, "yuv420p"
    stream.codec_context.gop_size = 15
    if codec.startswith("libvpx"):
        stream.codec_context.options = {
            "deadline": "realtime",
            "cpu-used": "8",
            "lag-in-frames": "0",
        }
    if codec == "libx265":
        stream.codec_context.options = {"x265-params": "log-level=none:pools=none"}
    return stream


def _sound(container: Any, codec: str, layout: str) -> Any:
    return container.add_stream(codec, rate=48_000, layout=layout)


def _grey(stream: Any, shade: int, number: int) -> av.VideoFrame:
    pixels = np.full((stream.height, stream.width), 40 + shade * 67 % 180, np.uint8)
    frame = av.VideoFrame.from_ndarray(pixels, "gray").reformat(format="yuv420p")
    frame.pts, frame.time_base = number, Fraction(1, 30)
    return frame


def _tone(stream: Any, number: int) -> av.AudioFrame:
    channels = stream.codec_context.layout.nb_channels
    time = (np.arange(1600) + 1600 * number) / 48_000
    tone = np.tile(0.3 * np.sin(2 * np.pi * 440 * time), (channels, 1)).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(tone, "fltp", stream.codec_context.layout.name)
    frame.sample_rate, frame.pts, frame.time_base = 48_000, 1600 * number, Fraction(1, 48_000)
    return frame


def sound_behind_picture(whole: bytes) -> float:
    """In seconds, as the file itself says: muxers without edit lists move what B-frames delay."""
    times = []
    for kind in ("audio", "video"):
        with av.open(io.BytesIO(whole), "r") as container:
            frame: Any = next(container.decode(**{kind: 0}))
            times.append(frame.time)
    return float(times[0] - times[1])


async def trickle_in(url: str, pieces: Iterable[bytes], size: int = 1000) -> None:
    """Publish segments in small pieces, then end the channel."""
    settings = PublisherSettings(delete=True)
    async with open_publication(url, settings=settings) as publication:
        for data in pieces:
            async with publication.segment() as segment:
                for at in range(0, len(data), size):
                    await segment.send(data[at : at + size])


@pytest.mark.parametrize(
    ("head", "form"),
    [
        (b"G" + bytes(187) + b"G", Form.TRANSPORT),
        (b"G" + bytes(187), Form.TRANSPORT),
        (b"G" + bytes(187) + b"x", Form.OPEN),
        (b"\x1a\x45\xdf\xa3" + bytes(20), Form.CONTAINER),
        (b"\0\0\0\x18ftypiso5", Form.CONTAINER),
        (b"\0\0\0\x18moofxxxx", Form.OPEN),
        (b"FLV\x01", Form.CONTAINER),
        (b"OggS\0\x02", Form.CONTAINER),
        (b"OggS\0\x00", Form.OPEN),
        (b"OggS", Form.OPEN),
        (b"", Form.OPEN),
        (b"hello", Form.OPEN),
    ],
)
def test_a_segment_is_what_its_first_bytes_say(head: bytes, form: Form) -> None:
    assert form_of(head[:HEAD]) is form


def test_what_a_channel_says_counts_where_it_says_something() -> None:
    assert names_container("video/webm; codecs=vp8")
    for nothing in ("", None, "video/mp2t", "Video/MP2T; x=1", "application/octet-stream"):
        assert not names_container(nothing)


@pytest.mark.parametrize(
    ("container", "video", "audio"),
    [
        (MP4, "libx264", "aac"),
        (MP4, "libx265", "libopus"),
        (MP4, "libx264", None),
        (MP4, None, "aac"),
        (MATROSKA, "libx264", "libopus"),
        (WEBM, "libvpx", "libopus"),
        (FLV, "libx264", "aac"),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else str(value),
)
@pytest.mark.parametrize("told", [True, False], ids=["told", "untold"])
async def test_a_container_comes_out_like_a_transport_stream(
    kit: Any, streaming: Any, container: Any, video: str | None, audio: str | None, told: bool
) -> None:
    mime_type, form, options = container
    whole = file_of(form, tuple(options.items()), video=video, audio=audio)
    async with streaming(passthrough, mime_type=mime_type if told else wire.MPEG_TS) as run:
        await trickle_in(run.source, [whole])
        outcome = await run.end()
    assert outcome.end is End.INPUT_ENDED
    played = run.played()
    if video:
        assert kit.looks_like(played, range(30))
        steps = [b.time - a.time for a, b in pairwise(played.seen)]
        assert steps == pytest.approx([1 / 30] * 29, abs=0.002)
    if audio:
        assert sum(heard.samples.size for heard in played.heard) / 2 / 48_000 > 0.9
    if video and audio:
        apart = played.heard[0].time - played.seen[0].time
        assert apart == pytest.approx(sound_behind_picture(whole), abs=0.04)
    assert run.stream.statistics().errors == {}


async def test_one_container_over_several_segments_and_several_one_after_another(
    kit: Any, streaming: Any
) -> None:
    mime_type, form, options = MATROSKA
    first = file_of(form, tuple(options.items()))
    second = file_of(form, tuple(options.items()), first=30)
    parts = [first[: len(first) // 3], first[len(first) // 3 :], second]
    async with streaming(passthrough, mime_type=mime_type) as run:
        await trickle_in(run.source, parts)
        await run.end()
    played = run.played()
    assert kit.looks_like(played, range(60))
    steps = [b.time - a.time for a, b in pairwise(played.seen)]
    assert max(steps) < 0.15


async def test_a_channel_may_turn_to_a_transport_stream_and_back(kit: Any, streaming: Any) -> None:
    mime_type, form, options = MP4
    before = file_of(form, tuple(options.items()), count=15)
    after = file_of(form, tuple(options.items()), count=15, first=30)
    transport = kit.segments(kit.pictures(15, first=15))
    async with streaming(passthrough, mime_type=mime_type) as run:
        await trickle_in(run.source, [before, *transport, after])
        await run.end()
    assert len(run.played().seen) == 45
    assert run.stream.statistics().errors == {}


@pytest.mark.parametrize(
    ("chosen", "width", "layout"),
    [({}, 160, "stereo"), ({"video_track": 1, "audio_track": 1}, 96, "mono")],
    ids=["first", "second"],
)
async def test_of_several_tracks_the_chosen_ones(
    kit: Any, streaming: Any, chosen: dict[str, int], width: int, layout: str
) -> None:
    mime_type, form, options = MP4
    whole = file_of(form, tuple(options.items()), tracks=2)
    policy = evolve(kit.EVERY_FRAME, **chosen)
    async with streaming(passthrough, policy=policy, mime_type=mime_type) as run:
        await trickle_in(run.source, [whole])
        await run.end()
    played = run.played()
    assert {seen.size[0] for seen in played.seen} == {width}
    assert {heard.layout for heard in played.heard} == {layout}


async def test_a_broken_container_is_counted_and_the_next_is_read(kit: Any, streaming: Any) -> None:
    mime_type, form, options = MP4
    good = file_of(form, tuple(options.items()))
    broken = good[:40] + bytes(range(256)) * 20
    async with streaming(passthrough, mime_type=mime_type) as run:
        await trickle_in(run.source, [broken, good])
        assert (await run.end()).end is End.INPUT_ENDED
    assert kit.looks_like(run.played(), range(30))
    assert run.stream.statistics().errors["damage"] >= 1


async def test_a_container_that_only_its_channel_names(kit: Any, streaming: Any) -> None:
    """libav knows more of them by their first bytes than we do."""
    whole = file_of("avi", audio=None)
    assert form_of(whole[:HEAD]) is Form.OPEN
    async with streaming(passthrough, mime_type="video/x-msvideo") as run:
        await trickle_in(run.source, [whole[:5000], whole[5000:]])
        assert (await run.end()).end is End.INPUT_ENDED
    assert kit.looks_like(run.played(), range(30))
    assert run.stream.statistics().errors == {}


@pytest.mark.parametrize(
    ("mime_type", "damage"), [(wire.MPEG_TS, 2), ("video/webm", 1)], ids=["segments", "container"]
)
async def test_bytes_that_are_nothing_are_counted(
    streaming: Any, mime_type: str, damage: int
) -> None:
    """By the segment, or by the container over all of them."""
    async with streaming(passthrough, mime_type=mime_type) as run:
        await trickle_in(run.source, [b"hello" * 4000, b"", b"world" * 4000])
        assert (await run.end()).end is End.INPUT_ENDED
    assert run.parts == []
    assert run.stream.statistics().errors == {"damage": damage}


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5])
async def test_a_stop_calls_a_reader_that_waits_back_at_once(streaming: Any, share: float) -> None:
    """While libav waits for a header, for its end, or for the next picture."""
    mime_type, form, options = MP4
    whole = file_of(form, tuple(options.items()))
    part = whole[: max(20, int(len(whole) * share))]
    before = threading.active_count()
    async with streaming(passthrough, mime_type=mime_type) as run:
        async with open_publication(run.source) as publication:
            async with publication.segment() as segment:
                await segment.send(part)
                while not run.stream.statistics().bytes_in:
                    await trio.lowlevel.checkpoint()
                await wait_all_tasks_blocked(0.05)
                names = {thread.name for thread in threading.enumerate()}
                assert "trickle container" in names or share == 0.0
                with trio.fail_after(10):
                    await run.stop()
        assert not [t for t in threading.enumerate() if t.name.startswith("trickle")]
        assert threading.active_count() <= before + 1  # a worker of Trio's, kept for the next


async def test_a_slow_handler_holds_the_publisher_back(streaming: Any) -> None:
    """Saturation: where every frame counts, no more is read than the pipe and the stations hold."""
    mime_type, form, options = MATROSKA
    whole = file_of(form, tuple(options.items()), count=300)
    running: list[Any] = []

    async def hangs(frame: VideoFrame) -> None:
        running.append(frame)
        await trio.sleep_forever()

    async with streaming(hangs, mime_type=mime_type) as run:
        run.nursery.start_soon(trickle_in, run.source, [whole])
        while not running:
            await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked(0.2)
        numbers = run.stream.statistics()
        assert numbers.frames_in < 200
        await run.stop()
