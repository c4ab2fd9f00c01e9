"""Clips whose every picture and every sound can be told from what comes out, and what a player makes of them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from attrs import field, frozen
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray

from trickle_core.mpegts import CLOCK_RATE, AccessUnit, Codec, ElementaryStream, Muxer
from trickle_trio.media.sources import Source

WIDTH, HEIGHT, FPS = 96, 64, 30
CLICK_AT, CLICK_SECONDS, CLICK_LEVEL = 1.0, 0.02, 0.6
CLICK_PICTURE = round(CLICK_AT * FPS)
DARKEST, STEP = 24, 3


def brightness(number: int) -> int:
    """Of picture number ``number``: each of the first 60 has its own."""
    return DARKEST + STEP * (number % 60)


@frozen
class Clips:
    """Writes clips of two seconds into a folder."""

    folder: Path

    def make(
        self,
        name: str,
        *,
        video: str | None = "libx264",
        audio: str | None = "aac",
        form: str | None = None,
        pictures: int = 60,
        bframes: int = 0,
        gop: int = 15,
        rate: int = 48_000,
        layout: str = "stereo",
        cover: bool = False,
        sound_seconds: float | None = None,
        x264: str = "",
    ) -> Path:
        """Write a clip; picture and sound are interleaved frame by frame."""
        path = self.folder / name
        with av.open(str(path), "w", format=form) as container:
            picture = _video(container, video, bframes, gop, x264) if video else None
            sound = _audio(container, audio, rate, layout) if audio else None
            art = _cover(container) if cover else None
            if art:
                _mux(container, art, _grey(0, "yuvj420p"))
            samples = round((sound_seconds or pictures / FPS) * rate)
            heard = click_track(samples, rate)
            for number in range(pictures):
                if picture:
                    frame = _grey(number, cast("str", picture.codec_context.pix_fmt))
                    frame.pts, frame.time_base = number, Fraction(1, FPS)
                    _mux(container, picture, frame)
                first, end = number * rate // FPS, (number + 1) * rate // FPS
                if sound and first < samples:
                    block = _block(heard[first : min(end, samples)], sound, first)
                    _mux(container, sound, block)
            for stream in (picture, sound, art):
                if stream:
                    _mux(container, stream, None)
        return path


def click_track(samples: int, rate: int) -> NDArray[np.float32]:
    """Silence with a click at ``CLICK_AT``."""
    time = np.arange(samples) / rate
    lit = (time >= CLICK_AT) & (time < CLICK_AT + CLICK_SECONDS)
    return np.asarray(CLICK_LEVEL * lit * np.sin(2 * np.pi * 1000 * time), np.float32)


def _video(
    container: OutputContainer, codec: str, bframes: int, gop: int, x264: str
) -> VideoStream:
    options: dict[str, dict[str, str]] = {
        "libx264": {
            "preset": "ultrafast",
            "bf": str(bframes),
            "g": str(gop),
            "sc_threshold": "0",
            "x264-params": x264 or "aud=0",
        },
        "libx265": {
            "preset": "ultrafast",
            "x265-params": f"log-level=none:pools=none:keyint={gop}:bframes={bframes}",
        },
        "mpeg4": {"bf": str(bframes), "g": str(gop)},
        "libvpx": {"deadline": "realtime", "cpu-used": "8"},
    }
    stream = cast("VideoStream", container.add_stream(codec, rate=FPS, options=options.get(codec)))
    stream.width, stream.height = WIDTH, HEIGHT
    stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    stream.codec_context.thread_count = 1
    return stream


def _audio(container: OutputContainer, codec: str, rate: int, layout: str) -> AudioStream:
    stream = cast("AudioStream", container.add_stream(codec, rate=rate))
    stream.codec_context.layout = layout
    return stream


def _cover(container: OutputContainer) -> VideoStream:
    stream = container.add_stream("mjpeg", rate=1)
    stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
    stream.disposition = Disposition.attached_pic
    return stream


def _grey(number: int, pixel_format: str) -> av.VideoFrame:
    frame = av.VideoFrame(WIDTH, HEIGHT, pixel_format)
    for index, plane in enumerate(frame.planes):
        value = 128 if index else brightness(number)
        plane.update(bytes([value]) * plane.buffer_size)
    return frame


def _block(samples: NDArray[np.float32], stream: AudioStream, first: int) -> av.AudioFrame:
    layout = stream.codec_context.layout
    packed = np.repeat(samples, layout.nb_channels).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout.name)
    rate = stream.codec_context.sample_rate
    frame.sample_rate, frame.pts, frame.time_base = rate, first, Fraction(1, rate)
    return frame


def _mux(container: OutputContainer, stream: Any, frame: Any) -> None:
    container.mux(stream.encode(frame))


@pytest.fixture
def clips(tmp_path: Path) -> Clips:
    return Clips(tmp_path)


@frozen
class Played:
    """What a player shows and hears. Times in seconds on the wire's clock."""

    pictures: list[tuple[float, float]]
    """When, and how bright."""
    rate: int
    layout: str
    sound: list[tuple[float, NDArray[np.float32]]]
    """When, and the first channel."""
    complaints: list[str]

    def clicks(self) -> list[float]:
        """When clicks begin, to a sample."""
        return find_onsets(self.sound, self.rate, CLICK_LEVEL / 3, quiet=0.2)


def find_onsets(
    sound: list[tuple[float, NDArray[np.float32]]], rate: int, level: float, *, quiet: float
) -> list[float]:
    """When the sound gets louder than ``level``, after so many seconds of quiet."""
    found: list[float] = []
    last = -quiet
    for start, block in sound:
        for sample in np.flatnonzero(np.abs(block) > level):
            time = start + sample / rate
            if time - last >= quiet:
                found.append(time)
            last = time
    return found


@frozen
class Published:
    """What a source gave."""

    streams: tuple[ElementaryStream, ...]
    units: list[AccessUnit] = field(repr=False)

    @property
    def codecs(self) -> list[Codec]:
        return [stream.codec for stream in self.streams]

    @property
    def pictures(self) -> list[AccessUnit]:
        return [unit for unit in self.units if unit.stream.codec.is_video]

    @property
    def sounds(self) -> list[AccessUnit]:
        return [unit for unit in self.units if not unit.stream.codec.is_video]

    def wire(self) -> bytes:
        """The transport stream."""
        muxer = Muxer(self.streams)
        return muxer.tables() + b"".join(map(muxer.write, self.units))

    def played(self) -> Played:
        """Through our muxer into libavformat and libavcodec."""
        return played(self.wire())


def played(wire: bytes) -> Played:
    pictures: list[tuple[float, float]] = []
    sound: list[tuple[float, NDArray[np.float32]]] = []
    rate, layout = 0, ""
    av.logging.set_level(av.logging.ERROR)
    try:
        with (
            av.logging.Capture(local=False) as logs,
            av.open(io.BytesIO(wire), "r", format="mpegts") as container,
        ):
            for frame in container.decode():
                time = float(cast("int", frame.pts) * cast("Fraction", frame.time_base))
                if isinstance(frame, av.VideoFrame):
                    pictures.append((time, brightness_of(frame)))
                elif isinstance(frame, av.AudioFrame):
                    rate, layout = frame.sample_rate, frame.layout.name
                    sound.append((time, _first_channel(frame)))
    finally:
        av.logging.set_level(None)
    complaints = [text.strip() for level, _, text in logs if level <= av.logging.ERROR]
    return Played(pictures, rate, layout, sound, complaints)


def brightness_of(frame: av.VideoFrame) -> float:
    """Of the first plane, as it is."""
    plane: Any = frame.planes[0]
    view = np.frombuffer(plane, np.uint8).reshape(frame.height, plane.line_size)
    return float(view[:, : frame.width].mean())


def _first_channel(frame: av.AudioFrame) -> NDArray[np.float32]:
    channels = frame.layout.nb_channels
    samples = frame.to_ndarray()
    first = samples[0] if frame.format.is_planar else samples.reshape(-1, channels)[:, 0]
    scale = 32768 if first.dtype.kind == "i" else 1
    return np.asarray(first / scale, np.float32)


Publish = Callable[..., Published]


@pytest.fixture
def publish() -> Publish:
    """Read a source to its end, or for so many seconds; what must always hold, is checked here."""

    def read(source: Source, *, seconds: float | None = None) -> Published:
        with source:
            units = list(_units(source, seconds))
            streams = source.streams
        for stream in streams:
            own = [unit for unit in units if unit.stream == stream]
            assert all(a.dts < b.dts for a, b in pairwise(own))
        assert all(unit.pts >= unit.dts and unit.stream in streams for unit in units)
        return Published(streams, units)

    return read


def _units(source: Source, seconds: float | None) -> Iterable[AccessUnit]:
    end = None
    while batch := source.read():
        for unit in batch:
            end = unit.dts + (seconds or 0) * CLOCK_RATE if end is None else end
            if seconds is not None and unit.dts >= end:
                return
            yield unit


@pytest.fixture
def onsets() -> Callable[..., list[float]]:
    return find_onsets
