"""What comes through a pipe, as somebody writes it; and how a reader that waits is called back."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from attrs import evolve

from trickle_core.mpegts import CLOCK_RATE, Codec
from trickle_trio.media.sources import FileSource, PipeSource, SourceError, TrackSettings
from trickle_trio.media.sources.container import ContainerReading
from trickle_trio.media.sources.pipe import Pipe, TransportReading

H264, AAC, OPUS = Codec.H264, Codec.AAC, Codec.OPUS


@contextmanager
def piped(data: bytes, piece: int = 1500) -> Iterator[BinaryIO]:
    """A pipe into which somebody writes, piece by piece."""
    reading, writing = os.pipe()

    def write() -> None:
        with open(writing, "wb", buffering=0) as pipe, suppress(BrokenPipeError):  # noqa: PTH123 - a descriptor
            pipe.writelines(data[at : at + piece] for at in range(0, len(data), piece))

    writer = threading.Thread(target=write)
    with open(reading, "rb") as file:  # noqa: PTH123 - a descriptor has no path
        writer.start()
        yield file
    writer.join()


@contextmanager
def silent_pipe() -> Iterator[BinaryIO]:
    reading, writing = os.pipe()
    with open(reading, "rb") as file, open(writing, "wb"):  # noqa: PTH123 - descriptors
        yield file


@pytest.mark.parametrize("audio", ["aac", "libopus", "mp2"])
def test_a_transport_stream_comes_as_from_a_file(audio: str, clips: Any, publish: Any) -> None:
    path: Path = clips.make("a.ts", bframes=2, audio=audio)
    from_file = publish(FileSource(str(path)))
    with piped(path.read_bytes()) as file:
        source = PipeSource(file)
        from_pipe = publish(source)
        assert isinstance(source._reading, TransportReading)
    assert from_pipe.codecs == from_file.codecs
    assert [u.data for u in from_pipe.sounds] == [u.data for u in from_file.sounds]
    start_a, start_b = from_pipe.pictures[0].pts, from_file.pictures[0].pts
    for name in ("pictures", "sounds"):
        one, other = getattr(from_pipe, name), getattr(from_file, name)
        assert [u.pts - start_a for u in one] == [u.pts - start_b for u in other]
        assert [u.dts - start_a for u in one] == [u.dts - start_b for u in other]
    played = from_pipe.played()
    assert played.complaints == []
    assert len(played.pictures) == 60


@pytest.mark.parametrize(
    ("name", "options", "codecs"),
    [
        ("a.mkv", {"bframes": 2}, [H264, AAC]),
        ("a.flv", {"bframes": 2}, [H264, AAC]),
        ("dvb.ts", {"video": "mpeg2video", "audio": "ac3"}, [H264, AAC]),
        ("us.ts", {"audio": "ac3"}, [H264, AAC]),
        ("mute.ts", {"audio": None}, [H264]),
        ("radio.ts", {"video": None}, [AAC]),
        ("hevc.ts", {"video": "libx265"}, [H264, AAC]),
    ],
    ids=str,
)
def test_what_our_demuxer_does_not_know_goes_through_libav(
    name: str, options: dict[str, Any], codecs: list[Codec], clips: Any, publish: Any
) -> None:
    path: Path = clips.make(name, **options)
    with piped(path.read_bytes()) as file:
        source = PipeSource(file)
        published = publish(source)
        assert isinstance(source._reading, ContainerReading)
    assert published.codecs == codecs
    played = published.played()
    assert played.complaints == []
    assert len(played.pictures) == (60 if H264 in codecs else 0)


def test_a_transport_stream_is_encoded_anew_by_wish(clips: Any, publish: Any) -> None:
    path: Path = clips.make("a.ts", bframes=2, gop=60)
    with piped(path.read_bytes()) as file:
        pictures = publish(
            PipeSource(file, tracks=TrackSettings(transcode=True, gop_seconds=0.5))
        ).pictures
    assert sum(unit.key for unit in pictures) == 4


def test_who_comes_in_the_middle_of_a_packet(clips: Any, publish: Any) -> None:
    path: Path = clips.make("a.ts", pictures=150)
    with piped(path.read_bytes()[1000:]) as file:
        published = publish(PipeSource(file))
    assert published.codecs == [H264, AAC]
    assert len(published.pictures) > 90


def test_a_publisher_that_starts_again(clips: Any, publish: Any) -> None:
    path: Path = clips.make("a.ts", pictures=30)
    with piped(2 * path.read_bytes()) as file:
        pictures = publish(PipeSource(file)).pictures
    assert len(pictures) == 60
    assert pictures[-1].dts - pictures[0].dts < 3 * CLOCK_RATE


def test_tracks_that_move_to_other_numbers_are_followed(clips: Any, publish: Any) -> None:
    first = publish(FileSource(str(clips.make("a.mp4", pictures=30))))
    moved = evolve(
        first,
        streams=tuple(evolve(stream, pid=stream.pid + 0x50) for stream in first.streams),
        units=[
            evolve(unit, stream=evolve(unit.stream, pid=unit.stream.pid + 0x50))
            for unit in first.units
        ],
    )
    with piped(first.wire() + moved.wire()) as file:
        published = publish(PipeSource(file))
    assert published.streams == first.streams
    assert len(published.pictures) == 60


def test_a_track_that_is_coded_otherwise_later_is_left_out(clips: Any, publish: Any) -> None:
    wires = [
        publish(FileSource(str(clips.make(f"{audio}.mp4", audio=audio)))).wire()
        for audio in ("aac", "libopus")
    ]
    with piped(b"".join(wires)) as file:
        published = publish(PipeSource(file))
    assert published.codecs == [H264, AAC]
    assert len(published.pictures) == 120
    assert len(published.sounds) < 100


def test_nothing_came() -> None:
    with piped(b"") as file, pytest.raises(SourceError, match="standard input: nothing came"):
        PipeSource(file).open()


def test_a_text_came() -> None:
    text = b"There is no picture in here.\n" * 1000
    with piped(text) as file, pytest.raises(SourceError, match="standard input: is "):
        PipeSource(file).open()


def test_a_terminal() -> None:
    ends = os.openpty()
    with (
        open(ends[0], "rb", buffering=0),  # noqa: PTH123 - a descriptor has no path
        open(ends[1], "rb", buffering=0) as terminal,  # noqa: PTH123 - a descriptor has no path
        pytest.raises(SourceError, match="standard input is a terminal"),
    ):
        PipeSource(terminal).open()


def test_a_file_as_standard_input(clips: Any, publish: Any) -> None:
    path: Path = clips.make("a.ts")
    with path.open("rb") as file:
        assert len(publish(PipeSource(file)).pictures) == 60


def test_closing_calls_back_who_waits_for_the_first_byte() -> None:
    with silent_pipe() as file:
        source = PipeSource(file)
        opener = threading.Thread(target=source.open)
        opener.start()
        while source._pipe is None:
            pass  # microseconds: the thread has to begin
        source.close()
        opener.join()
        assert source.read() == []


def test_closing_calls_back_who_waits_for_more(clips: Any) -> None:
    data = clips.make("a.ts").read_bytes()[:20_000]
    reading, writing = os.pipe()
    with open(reading, "rb") as file, open(writing, "wb", buffering=0) as pipe:  # noqa: PTH123 - descriptors
        pipe.write(data)
        source = PipeSource(file)
        source.open()
        batches: list[object] = []
        reader = threading.Thread(target=lambda: batches.extend(iter(source.read, [])))
        reader.start()
        source.close()
        reader.join()
        assert source.read() == []
        assert not file.closed


def test_a_pipe_that_was_called_back_stays_so() -> None:
    with silent_pipe() as file:
        pipe = Pipe(file)
        pipe.call_back()
        assert pipe.read() == b""
        assert pipe.read() == b""
        pipe.close()
