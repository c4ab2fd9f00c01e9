"""What is measured with: a file, or a moving picture of our own, as H.264 and AAC that is encoded once."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Final

import av
from attrs import field, frozen

from trickle_core.mpegts import CLOCK_RATE, AccessUnit, ElementaryStream, Muxer
from trickle_trio.bench.scenery import Scenery
from trickle_trio.media.audio_encoder import AudioEncoder
from trickle_trio.media.frames import AudioFrame, VideoFrame
from trickle_trio.media.sources import SourceError
from trickle_trio.media.sources.beeps import RATE, Beeps
from trickle_trio.media.video_encoder import VideoEncoder, VideoEncoderSettings

FPS: Final = 30
GOP: Final = FPS
"""Pictures: a second, which is a segment too."""

ORIGIN: Final = CLOCK_RATE
"""The first time stamp, in 1/90000 s: away from 0, as of any stream that is joined."""

TIME_BASE: Final = Fraction(1, CLOCK_RATE)
LOWEST: Final = 90
HIGHEST: Final = 2160


@frozen
class Size:
    """A picture of 16 by 9, named by its height: 720p."""

    name: str
    width: int
    height: int

    @classmethod
    def named(cls, name: str) -> Size:
        """Read a name. ``ValueError``: it is none."""
        match = re.fullmatch(r"(\d{2,4})p", name)
        height = int(match[1]) if match else 0
        if not LOWEST <= height <= HIGHEST or height % 2:
            raise ValueError(f"{name!r}: expected a size as 720p, even, {LOWEST}p to {HIGHEST}p")
        return cls(name, round(height * 16 / 9 / 2) * 2, height)


@frozen(eq=False)
class Footage:
    """``units`` in the order in which they are due; closed GOPs of a second."""

    size: Size
    streams: tuple[ElementaryStream, ...]
    units: tuple[AccessUnit, ...] = field(repr=False)

    @property
    def pictures(self) -> list[AccessUnit]:
        """Without the sound."""
        return [unit for unit in self.units if unit.stream.codec.is_video]

    @property
    def segments(self) -> list[list[AccessUnit]]:
        """Each from one key picture to the next."""
        segments: list[list[AccessUnit]] = []
        for unit in self.units:
            if unit.key and unit.stream.codec.is_video:
                segments.append([])
            if segments:
                segments[-1].append(unit)
        return segments

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.pictures) / FPS

    @property
    def bit_rate(self) -> int:
        """Of the picture, bits a second."""
        pictures = self.pictures
        return sum(len(unit.data) for unit in pictures) * 8 * FPS // len(pictures)

    def transport_stream(self) -> bytes:
        """All of it, as a file holds it."""
        muxer = Muxer(self.streams)
        return muxer.tables() + b"".join(muxer.write(unit) for unit in self.units)


def make_footage(size: Size, seconds: float, path: Path | None) -> Footage:
    """Encode so much of a file (looped, brought to this size and to 30 pictures a second), or of the built-in scenery,
    with a tone. Blocks for a good part of the time that it lasts. ``SourceError``: the file cannot be read.
    """
    drawn = Scenery(size.width, size.height).frames() if path is None else _frames(path, size)
    return _encode(size, islice(drawn, round(seconds * FPS)))


def _encode(size: Size, frames: Iterable[av.VideoFrame]) -> Footage:
    pictures = VideoEncoder(VideoEncoderSettings(frame_rate=Fraction(FPS)))
    sounds, beeps = AudioEncoder(rate=RATE, layout="stereo"), Beeps(FPS)
    units: list[AccessUnit] = []
    for index, frame in enumerate(frames):
        frame.pts, frame.time_base = ORIGIN + index * CLOCK_RATE // FPS, TIME_BASE
        units += pictures.encode(VideoFrame.from_av_frame(frame), key=index % GOP == 0)
        units += sounds.encode(_sound(beeps, index))
    pictures.close()
    sounds.close()
    return Footage(size, (pictures.stream, sounds.stream), tuple(sorted(units, key=_due)))


def _due(unit: AccessUnit) -> int:
    return unit.dts


def _sound(beeps: Beeps, index: int) -> AudioFrame:
    time = ORIGIN * RATE // CLOCK_RATE + beeps.first_sample(index)
    samples = beeps.samples(index).repeat(2, axis=0)
    return AudioFrame.from_ndarray(samples, time, Fraction(1, RATE), rate=RATE)


def _frames(path: Path, size: Size) -> Iterator[av.VideoFrame]:
    """A file's pictures, again and again, of this size."""
    while True:
        is_empty = True
        try:
            for frame in _evenly(_decoded(path)):
                is_empty = False
                yield frame.reformat(size.width, size.height, format="yuv420p")
        except (av.FFmpegError, OSError) as error:
            raise SourceError(f"{path}: {error.strerror or error}") from error
        if is_empty:
            raise SourceError(f"{path}: there is no picture in it")


def _evenly(frames: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """Bring pictures to our rate: some are shown again, some left out. Those without a time are taken as they come."""
    begin, shown = None, 0
    for frame in frames:
        if frame.pts is None or begin is None:
            begin = None if frame.pts is None else frame.time - shown / FPS
            shown += 1
            yield frame
        else:
            for _ in range(math.floor((frame.time - begin) * FPS + 0.5) + 1 - shown):
                shown += 1
                yield frame


def _decoded(path: Path) -> Iterator[av.VideoFrame]:
    with av.open(str(path)) as container:
        if container.streams.video:
            yield from container.decode(video=0)
