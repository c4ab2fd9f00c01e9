"""Footage made with PyAV in memory: pictures whose content is known, coded in every way that a test needs."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
import pytest
from attrs import frozen
from av.audio.codeccontext import AudioCodecContext
from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from trickle_core.mpegts.audio import adts_header
from trickle_core.mpegts.units import AccessUnit, Codec, ElementaryStream
from trickle_trio.media.colour import Colour

TIME_BASE = Fraction(1, 90_000)
ENCODERS = {
    Codec.H264: "libx264",
    Codec.H265: "libx265",
    Codec.AAC: "aac",
    Codec.OPUS: "libopus",
    Codec.MP2: "mp2",
}


@frozen
class Footage:
    """Makes pictures, sound and their codings."""

    tick: int = 3000
    """1/90000 s from one picture to the next: 30 a second."""

    def rgb(self, number: int = 0, width: int = 320, height: int = 180) -> NDArray[np.uint8]:
        """A smooth picture with a bright square that moves with the number."""
        y, x = np.mgrid[0:height, 0:width]
        picture = np.stack((x * 255 / width, y * 255 / height, 255 - x * 200 / width), axis=-1)
        left = 8 * number % max(1, width - 24)
        picture[height // 4 : height // 2, left : left + 24] = (250, 240, 20)
        return picture.astype(np.uint8)

    def picture(
        self,
        number: int = 0,
        width: int = 320,
        height: int = 180,
        pixel_format: str = "yuv420p",
        colour: Colour | None = None,
    ) -> av.VideoFrame:
        """The same as libav has it, tagged and timed."""
        colour = colour or Colour.usual(width, height)
        rgb = av.VideoFrame.from_ndarray(self.rgb(number, width, height), "rgb24")
        picture = VideoReformatter().reformat(
            rgb,
            format=pixel_format,
            dst_colorspace=colour.swscale_matrix,
            src_color_range=2,
            dst_color_range=2 if pixel_format.startswith(("rgb", "gbr")) else colour.range,
            interpolation="BICUBIC",
            threads=1,
        )
        colour.tag(picture)
        picture.pts, picture.time_base = number * self.tick, TIME_BASE
        return picture

    def video(
        self,
        count: int,
        *,
        codec: Codec = Codec.H264,
        size: tuple[int, int] = (320, 180),
        pixel_format: str = "yuv420p",
        colour: Colour | None = None,
        gop: int = 12,
        bframes: int = 0,
        start: int = 0,
        options: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> list[AccessUnit]:
        """Access units of so many pictures, in decoding order, as a demuxer gives them."""
        context = cast("VideoCodecContext", CodecContext.create(ENCODERS[codec], "w"))
        context.width, context.height = size
        context.pix_fmt, context.time_base, context.framerate = (
            pixel_format,
            TIME_BASE,
            Fraction(30),
        )
        context.thread_count = 1
        colour = colour or Colour.usual(*size)
        context.colorspace, context.color_range = colour.matrix, colour.range
        context.color_primaries, context.color_trc = colour.primaries, colour.transfer
        context.options = _options(codec, gop, bframes) | dict(options or {})
        for name, value in settings.items():
            setattr(context, name, value)
        packets = []
        for number in range(count):
            picture = self.picture(number, *size, pixel_format, colour)
            picture.pts = start + number * self.tick
            packets += context.encode(picture)
        packets += context.encode(None)
        stream = ElementaryStream(256, codec)
        return [
            AccessUnit(stream, bytes(p), _int(p.pts), _int(p.dts), key=p.is_keyframe)
            for p in packets
        ]

    def tone(
        self, samples: int, channels: int = 2, rate: int = 48_000, start: int = 0
    ) -> NDArray[np.float32]:
        """[channels, samples]: every channel has its own pitch."""
        time = (np.arange(samples) + start) / rate
        pitches = 300 + 150 * np.arange(channels)
        return np.asarray(0.3 * np.sin(2 * np.pi * pitches[:, np.newaxis] * time), np.float32)

    def sound(
        self,
        samples: int,
        *,
        codec: Codec = Codec.AAC,
        layout: str = "stereo",
        rate: int = 48_000,
        start: int = 0,
        signal: NDArray[np.float32] | None = None,
    ) -> list[AccessUnit]:
        """Access units of so many samples; ``start`` is the time of the first, in 1/90000 s."""
        context = cast("AudioCodecContext", CodecContext.create(ENCODERS[codec], "w"))
        context.sample_rate, context.layout = rate, layout
        context.format = {Codec.AAC: "fltp", Codec.OPUS: "flt", Codec.MP2: "s16"}[codec]
        context.time_base = Fraction(1, rate)
        context.open()
        channels = context.layout.nb_channels
        signal = self.tone(samples, channels, rate) if signal is None else signal
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(signal.T).reshape(1, -1), "flt", layout
        )
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        packets = [*context.encode(frame), *context.encode(None)]
        stream = ElementaryStream(257, codec, channels if codec is Codec.OPUS else None)
        units = []
        for packet in packets:
            data = bytes(packet)
            if codec is Codec.AAC:
                data = adts_header(len(data), rate=rate, channels=channels) + data
            pts = start + round(_int(packet.pts) * 90_000 / rate)
            units.append(AccessUnit(stream, data, pts, pts, key=True))
        return units

    def planes(self, picture: av.VideoFrame) -> list[NDArray[np.float64]]:
        """What is in a YUV picture, in steps of 8 bits."""
        deep = "10" in picture.format.name
        planes = []
        for plane in picture.planes:
            dtype = np.dtype(np.uint16 if deep else np.uint8)
            buffer: Any = plane
            strides = (plane.line_size, dtype.itemsize)
            view = np.ndarray((plane.height, plane.width), dtype, buffer=buffer, strides=strides)
            planes.append(view.astype(np.float64) / (4 if deep else 1))
        return planes

    def difference(self, one: av.VideoFrame, other: av.VideoFrame) -> float:
        """By how much two pictures differ on average, in the plane where they differ most."""
        pairs = zip(self.planes(one), self.planes(other), strict=True)
        return max(float(np.abs(a - b).mean()) for a, b in pairs)


def _options(codec: Codec, gop: int, bframes: int) -> dict[str, str]:
    if codec is Codec.H265:
        shape = f"bframes={bframes}:keyint={gop}:min-keyint={gop}:scenecut=0"
        return {
            "preset": "ultrafast",
            "x265-params": f"log-level=none:repeat-headers=1:pools=none:{shape}",
        }
    return {
        "preset": "ultrafast",
        "bf": str(bframes),
        "g": str(gop),
        "sc_threshold": "0",
        "x264-params": f"rc-lookahead=0:sync-lookahead=0:b-adapt=0:keyint={gop}:min-keyint={gop}",
    }


def _int(value: int | None) -> int:
    assert value is not None
    return value


@pytest.fixture(scope="session")
def footage() -> Footage:
    return Footage()
