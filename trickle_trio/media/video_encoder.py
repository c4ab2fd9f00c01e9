"""Frames in, H.264 or H.265 access units out.

What an encoder is told here follows from live use: no look-ahead and no B-frames (each costs a picture's time), one
thread (frame threads cost a picture's time each, and streams share the cores), parameter sets and an access unit
delimiter in the stream itself, and key frames when the caller begins a segment, not where the picture changes. No frame
rate is told in the stream: it is the input's, may change, and is not known when the encoder is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Final, cast

import av
from attrs import define, evolve, field, frozen, validators
from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType

from trickle_core.mpegts.nal import parameter_sets
from trickle_core.mpegts.units import AccessUnit, Codec, ElementaryStream
from trickle_trio.media.contexts import (
    TIME_BASE,
    RefusedOptionError,
    Rest,
    clock_time,
    codec_of,
    open_encoder,
)
from trickle_trio.media.convert import Look
from trickle_trio.media.parameters import without_timing
from trickle_trio.media.pixels import UnreadablePixelsError
from trickle_trio.media.rate_control import RateWatch
from trickle_trio.media.video_frame import VideoFrame

VIDEO_PID: Final = 0x100
"""Where libavformat and most encoders put the picture; any free PID would do."""

BITS_PER_PIXEL_AND_SECOND: Final = 4.5
"""The cap where none is given: 4.1 Mbit/s at 720p, 9.3 at 1080p. Constant quality stays below it but for the wildest
scenes, which would else burst whatever uplink there is."""
LOWEST_CAP: Final = 500_000

LIVE_OPTIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "libx264": {
        "preset": "superfast",
        "tune": "zerolatency",
        "aud": "1",
        "forced-idr": "1",
        "sc_threshold": "0",
    },
    "libx265": {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "forced-idr": "1",
        "x265-params": "log-level=none:aud=1:repeat-headers=1:scenecut=0:pools=none:frame-threads=1"
        ":vui-timing-info=0",
    },
}
"""Options of encoders that we know; ``settings.options`` override them."""

OTHER_OPTIONS: Final[Mapping[str, str]] = {"forced-idr": "1"}
"""Tried on encoders that we do not know; libavcodec passes over what they do not have."""

CONSTANT_QUALITY: Final = frozenset(LIVE_OPTIONS)
"""Encoders that take ``crf``; the others get a bit rate."""

UNCONTROLLED: Final[Mapping[str, Mapping[str, str]]] = {"libx264": {"weightp": "0"}}
"""Encoders that need not control their rate while it is low, and what else they then do without. What libx265 would
save was not measured."""

LIMITED_FORMATS: Final = ("yuv420p", "nv12")
FULL_FORMATS: Final = ("yuvj420p", "yuv420p", "nv12")
"""4:2:0 of 8 bits is what every player plays. ``yuvj420p`` is what libavcodec decodes full range pictures to."""


def _check_codec(_: object, __: object, name: str) -> None:
    if not codec_of(name).is_video:
        raise ValueError(f"{name!r} is no encoder of pictures")


@frozen(kw_only=True)
class VideoEncoderSettings:
    """How pictures are encoded. ``codec`` and ``options`` are libavcodec's names.

    ``crf`` is the constant quality of libx264 and libx265; ``bit_rate`` (bits a second), where given, takes its place.
    ``max_bit_rate`` caps it (by the picture's size unless given). ``max_gop``: frames after which a key frame comes
    though nobody asked for one. ``frame_rate`` is a hint for the rate control, no more: times come with the frames.

    libx264 controls its rate only while the picture would go beyond the cap; below it, a constant quantiser does, for a
    quarter less CPU. With ``bit_rate`` or any of ``options``, it controls its rate all the time.
    """

    codec: str = field(default="libx264", validator=_check_codec)
    crf: int = field(default=23, validator=[validators.ge(0), validators.le(51)])
    bit_rate: int | None = field(default=None, validator=validators.optional(validators.gt(0)))
    max_bit_rate: int | None = field(default=None, validator=validators.optional(validators.gt(0)))
    max_gop: int = field(default=600, validator=validators.gt(0))
    frame_rate: Fraction = field(default=Fraction(30), validator=validators.gt(Fraction(0)))
    threads: int = field(default=1, validator=validators.gt(0))
    options: Mapping[str, str] = field(factory=dict)


@frozen
class EncoderStatistics:
    """What an encoder has done since it was made."""

    encoded: int = 0
    """Frames taken in."""
    failures: int = 0
    """Frames lost because libav refused, or because a GPU did not give them back."""
    failures_in_a_row: int = 0
    """Of these, since the last frame that went well."""
    misordered: int = 0
    """Frames left out because their time was not later than that of the frame before."""
    opened: int = 0
    """How often libav's encoder was opened: once, and again after each failure, each flush and each time that the rate
    had to be controlled from there on, or no longer."""
    last_error: str | None = None


class VideoEncoder:
    """Encodes one track. Opens libav's encoder with the first frame, for that frame's size and colour.

    A plain blocking object for one thread at a time.
    """

    def __init__(
        self, settings: VideoEncoderSettings | None = None, *, pid: int = VIDEO_PID
    ) -> None:
        self._settings = settings or VideoEncoderSettings()
        self._stream = ElementaryStream(pid, codec_of(self._settings.codec))
        self._now: _Opened | Rest = Rest.IDLE
        self._last_pts: int | None = None
        self._key_due = False
        self._counts = EncoderStatistics()

    @property
    def stream(self) -> ElementaryStream:
        """What the units belong to."""
        return self._stream

    def statistics(self) -> EncoderStatistics:
        """What it has done."""
        return self._counts

    def needs_new(self, frame: VideoFrame) -> bool:
        """Whether this frame's size, shape of pixels or colour is another than the one that is being encoded.

        ``encode`` takes such a frame all the same and brings it to the size and colour of the others. A caller that
        wants the output to follow calls ``flush`` first, where a segment ends, and goes on.
        """
        return isinstance(self._now, _Opened) and not self._now.suits(frame)

    def encode(self, frame: VideoFrame, *, key: bool = False) -> list[AccessUnit]:
        """Encode a frame, as a key frame if told so; gives the units that are complete now. Blocks, 4 ms at 720p.

        ``pts`` is the frame's time in 1/90000 s. Raises nothing because of the frame or of libav: a failure is counted,
        and the next frame starts anew with a key frame. ``RuntimeError`` after ``close``.
        """
        if self._now is Rest.CLOSED:
            raise RuntimeError("the encoder is closed")
        pts = clock_time(frame.timestamp, frame.time_base)
        self._key_due = self._key_due or key
        if self._last_pts is not None and pts <= self._last_pts:
            self._counts = evolve(self._counts, misordered=self._counts.misordered + 1)
            return []
        try:
            units = self._opened(frame, pts).encode(frame, pts, key=self._key_due)
        except UnreadablePixelsError as error:
            self._fail(str(error))
            return []
        except (av.FFmpegError, RefusedOptionError) as error:
            self._now = Rest.IDLE
            self._fail(str(error))
            return []
        self._last_pts = pts
        self._key_due = False
        self._counts = evolve(self._counts, encoded=self._counts.encoded + 1, failures_in_a_row=0)
        return units

    def flush(self) -> list[AccessUnit]:
        """Give out what libav still holds; the next frame opens a new encoder, with a key frame. Blocks."""
        if not isinstance(self._now, _Opened):
            return []
        opened, self._now = self._now, Rest.IDLE
        try:
            return opened.finish()
        except av.FFmpegError as error:
            self._fail(str(error))
            return []

    def close(self) -> None:
        """Let go of libav's memory, and of what it still holds. May be called twice."""
        self._now = Rest.CLOSED

    def _opened(self, frame: VideoFrame, pts: int) -> _Opened:
        now = self._now
        if isinstance(now, _Opened):
            opened = now.at(pts, key=self._key_due)
        else:
            opened = _Opened.for_frame(frame, self._settings, self._stream)
        if opened is not now:
            self._now = opened
            self._counts = evolve(self._counts, opened=self._counts.opened + 1)
        return opened

    def _fail(self, reason: str) -> None:
        counts = self._counts
        self._counts = evolve(
            counts,
            failures=counts.failures + 1,
            failures_in_a_row=counts.failures_in_a_row + 1,
            last_error=reason,
        )


@define
class _Opened:
    """libav's encoder at work, and what it was opened for."""

    _context: VideoCodecContext
    _look: Look
    _pixel_aspect: Fraction
    _settings: VideoEncoderSettings
    _stream: ElementaryStream
    _watch: RateWatch | None
    """None: the encoder controls its rate in any case."""

    @classmethod
    def for_frame(
        cls, frame: VideoFrame, settings: VideoEncoderSettings, stream: ElementaryStream
    ) -> _Opened:
        look = Look(
            *even_size(frame),
            _pixel_format(settings.codec, full_range=frame.colour.full_range),
            frame.colour,
        )
        watch = RateWatch(_cap(settings, look)) if _may_go_uncontrolled(settings) else None
        rate = _uncontrolled(settings) if watch else _controlled(settings, look)
        context = _context(settings, look, frame.pixel_aspect, rate)
        return cls(context, look, frame.pixel_aspect, settings, stream, watch)

    def at(self, pts: int, *, key: bool) -> _Opened:
        """Give what encodes the picture of this time: this, or one whose rate is controlled from here on, or no longer.

        Nothing is lost on the way: neither kind holds pictures back.
        """
        settings, watch = self._settings, self._watch
        if watch is None or not watch.turns(pts, key=key):
            return self
        if watch.is_controlled:
            room = {"rc_init_occupancy": str(watch.room(pts))}
            rate = _controlled(settings, self._look) | room
        else:
            rate = _uncontrolled(settings)
        return evolve(self, context=_context(settings, self._look, self._pixel_aspect, rate))

    def suits(self, frame: VideoFrame) -> bool:
        size, look = even_size(frame), self._look
        return (*size, frame.colour, frame.pixel_aspect) == (
            look.width,
            look.height,
            look.colour,
            self._pixel_aspect,
        )

    def encode(self, frame: VideoFrame, pts: int, *, key: bool) -> list[AccessUnit]:
        picture = frame.rendered(self._look)
        picture.pts, picture.time_base = pts, TIME_BASE
        # A decoded picture brings along what it was in its old stream, and would be made that again.
        picture.pict_type = PictureType.I if key else PictureType.NONE
        return self._units(self._context.encode(picture))

    def finish(self) -> list[AccessUnit]:
        return self._units(self._context.encode(None))

    def _units(self, packets: list[av.Packet[av.stream.Stream]]) -> list[AccessUnit]:
        units = []
        for packet in packets:
            pts = cast("int", packet.pts)
            dts = pts if packet.dts is None else min(packet.dts, pts)
            data = self._untimed(bytes(packet)) if packet.is_keyframe else bytes(packet)
            if self._watch is not None:
                self._watch.took(8 * len(data), pts)
            units.append(AccessUnit(self._stream, data, pts, dts, key=packet.is_keyframe))
        return units

    def _untimed(self, key: bytes) -> bytes:
        """A key picture whose parameter sets tell no frame rate; of H.265's, an option sees to that."""
        if self._stream.codec is not Codec.H264:
            return key
        for sps in parameter_sets(key, Codec.H264).sps:
            key = key.replace(sps, without_timing(sps), 1)
        return key


def even_size(frame: VideoFrame) -> tuple[int, int]:
    """Give the size at which a frame is encoded: 4:2:0 has no odd ones, so the last row or column goes."""
    return frame.width & ~1, frame.height & ~1


def _pixel_format(codec: str, *, full_range: bool) -> str:
    known = [known.name for known in av.codec.Codec(codec, "w").video_formats or ()]
    for name in FULL_FORMATS if full_range else LIMITED_FORMATS:
        if name in known:
            return name
    return known[0] if known else LIMITED_FORMATS[0]


def _context(
    settings: VideoEncoderSettings, look: Look, pixel_aspect: Fraction, rate: Mapping[str, str]
) -> VideoCodecContext:
    context = cast("VideoCodecContext", CodecContext.create(settings.codec, "w"))
    context.width, context.height, context.pix_fmt = look.width, look.height, look.format
    context.time_base, context.framerate = TIME_BASE, settings.frame_rate
    context.sample_aspect_ratio = pixel_aspect
    context.colorspace, context.color_range = look.colour.matrix, look.colour.range
    context.color_primaries, context.color_trc = look.colour.primaries, look.colour.transfer
    context.thread_count = settings.threads
    ours = {
        "bf": "0",
        "g": str(settings.max_gop),
        **LIVE_OPTIONS.get(settings.codec, OTHER_OPTIONS),
        **rate,
    }
    open_encoder(context, ours, _asked_for(settings))
    return context


def _asked_for(settings: VideoEncoderSettings) -> dict[str, str]:
    """The options that the user chose. Lists of parameters go behind ours: of two, the later one counts."""
    ours = LIVE_OPTIONS.get(settings.codec, {})
    return {
        key: f"{ours[key]}:{value}" if key in ours and key.endswith("-params") else value
        for key, value in settings.options.items()
    }


def _may_go_uncontrolled(settings: VideoEncoderSettings) -> bool:
    """Whether there is such an encoder, and the user left the choice to us: with a constant quantiser, libx264 passes
    over many an option without a word.
    """
    return settings.codec in UNCONTROLLED and settings.bit_rate is None and not settings.options


def _uncontrolled(settings: VideoEncoderSettings) -> dict[str, str]:
    # One step finer: nothing is spared where much moves, and flat parts get nothing on top. But 0 is lossless.
    quantiser = settings.crf - 1 if settings.crf > 1 else settings.crf
    return {"qp": str(quantiser), **UNCONTROLLED[settings.codec]}


def _controlled(settings: VideoEncoderSettings, look: Look) -> dict[str, str]:
    cap = str(_cap(settings, look))
    if settings.bit_rate is None and settings.codec in CONSTANT_QUALITY:
        quality = {"crf": str(settings.crf)}
    else:
        quality = {"b": str(settings.bit_rate or cap)}
    return {**quality, "maxrate": cap, "bufsize": cap}


def _cap(settings: VideoEncoderSettings, look: Look) -> int:
    by_size = max(LOWEST_CAP, int(look.width * look.height * BITS_PER_PIXEL_AND_SECOND))
    return settings.max_bit_rate or settings.bit_rate or by_size
