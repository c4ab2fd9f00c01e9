"""Tracks that are decoded and encoded anew: codings that the output's readers do not expect, or all by wish."""

from __future__ import annotations

import heapq
from fractions import Fraction
from typing import Final

import av
from attrs import define, field
from av.audio.codeccontext import AudioCodecContext
from av.codec.context import ThreadType
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext

from trickle_core.mpegts import CLOCK_RATE, AccessUnit, Codec, ElementaryStream
from trickle_trio.media.audio_encoder import AUDIO_PID, AudioEncoder
from trickle_trio.media.frames import AudioFrame, VideoFrame
from trickle_trio.media.sources.base import SourceError
from trickle_trio.media.sources.stamps import Packet, Placed, ticks
from trickle_trio.media.video_encoder import VIDEO_PID, VideoEncoder, VideoEncoderSettings

TIME_BASE: Final = Fraction(1, CLOCK_RATE)

KEY_TOLERANCE: Final = CLOCK_RATE // 1000
"""A picture so little before the end of a GOP begins the next one: times are rounded."""

HOPELESS: Final = 30
"""Failures of an encoder in a row after which it will not get better."""


@define(eq=False)
class _Times:
    """The times of decoded frames, on the output's clock."""

    in_order: bool
    """The container tells in which order pictures are decoded, not when they are shown: pictures take the times of
    their packets in turn."""
    time_base: Fraction = TIME_BASE
    """Of the container: frames that a decoder gives at its end have forgotten it."""
    _shift: int = 0
    _waiting: list[int] = field(factory=list)

    def note(self, placed: Placed) -> None:
        """A packet goes into the decoder."""
        self._shift = placed.shift
        if self.in_order:
            heapq.heappush(self._waiting, placed.pts)

    def of(self, frame: av.VideoFrame | av.AudioFrame) -> int | None:
        """The time of a frame that came out; None: nobody knows."""
        if self.in_order:
            return heapq.heappop(self._waiting) if self._waiting else None
        return None if frame.pts is None else ticks(frame.pts, self.time_base) + self._shift

    def restart(self) -> None:
        """The decoder is empty."""
        self._waiting.clear()


class PictureTranscoding:
    """Any picture to H.264, with a key picture every ``gop_seconds``."""

    def __init__(self, gop_seconds: float, *, has_pts: bool, live: bool) -> None:
        self.stream = ElementaryStream(VIDEO_PID, Codec.H264)
        self._gop = round(gop_seconds * CLOCK_RATE)
        self._live = live
        self._times = _Times(in_order=not has_pts)
        self._encoder: VideoEncoder | None = None
        self._next_key: int | None = None

    def begin(self, source: Stream) -> None:
        """A pass over the container begins."""
        decoder = source.codec_context
        assert isinstance(decoder, VideoCodecContext)  # noqa: S101 - a video stream has no other
        # Frame threads hold pictures back, which only those mind who watch them live.
        decoder.thread_type = ThreadType.SLICE if self._live else ThreadType.AUTO
        self._decoder = decoder
        self._times.time_base = source.time_base or TIME_BASE
        if self._encoder is None:
            rate = decoder.framerate or Fraction(30)
            self._encoder = VideoEncoder(VideoEncoderSettings(frame_rate=rate))

    def take(self, placed: Placed) -> list[AccessUnit]:
        """Decode a packet; the units that are complete now."""
        self._times.note(placed)
        return self._recode(placed.packet)

    def end_pass(self) -> list[AccessUnit]:
        """What the decoder held."""
        units = self._recode(None)
        self._times.restart()
        return units

    def finish(self) -> list[AccessUnit]:
        """What the encoder held."""
        return self._encoder.flush() if self._encoder else []

    def _recode(self, packet: Packet | None) -> list[AccessUnit]:
        units = []
        try:
            pictures = self._decoder.decode(packet)
        except av.FFmpegError:  # broken: libav goes on with the next
            return []
        for picture in pictures:
            time = self._times.of(picture)
            if time is not None:
                picture.pts, picture.time_base = time, TIME_BASE
                units += self._encode(picture, time)
        return units

    def _encode(self, picture: av.VideoFrame, time: int) -> list[AccessUnit]:
        assert self._encoder is not None  # noqa: S101 - made when the pass began
        aspect = self._decoder.sample_aspect_ratio or Fraction(1)
        frame = VideoFrame.from_av_frame(picture, aspect)
        units = self._encoder.flush() if self._encoder.needs_new(frame) else []
        key = bool(units) or self._next_key is None or time >= self._next_key - KEY_TOLERANCE
        units += self._encoder.encode(frame, key=key)
        if key:
            self._next_key = time + self._gop
        statistics = self._encoder.statistics()
        if statistics.failures_in_a_row >= HOPELESS:
            raise SourceError(f"the picture cannot be encoded: {statistics.last_error}")
        return units


class SoundTranscoding:
    """Any sound to AAC, of the same rate and channels where AAC has them."""

    def __init__(self) -> None:
        self.stream = ElementaryStream(AUDIO_PID, Codec.AAC)
        self._times = _Times(in_order=False)
        self._encoder: AudioEncoder | None = None

    def begin(self, source: Stream) -> None:
        """A pass over the container begins."""
        decoder = source.codec_context
        assert isinstance(decoder, AudioCodecContext)  # noqa: S101 - an audio stream has no other
        self._decoder = decoder
        self._times.time_base = source.time_base or TIME_BASE

    def take(self, placed: Placed) -> list[AccessUnit]:
        """Decode a packet; the units that are complete now."""
        self._times.note(placed)
        return self._recode(placed.packet)

    def end_pass(self) -> list[AccessUnit]:
        """What the decoder held."""
        return self._recode(None)

    def finish(self) -> list[AccessUnit]:
        """What the encoder held."""
        return self._encoder.flush() if self._encoder else []

    def _recode(self, packet: Packet | None) -> list[AccessUnit]:
        units = []
        try:
            sounds = self._decoder.decode(packet)
        except av.FFmpegError:  # broken: libav goes on with the next
            return []
        for sound in sounds:
            time = self._times.of(sound)
            if time is not None and sound.samples:
                sound.pts, sound.time_base = time, TIME_BASE
                units += self._encode(AudioFrame.from_av_frame(sound))
        return units

    def _encode(self, frame: AudioFrame) -> list[AccessUnit]:
        if self._encoder is None:
            self._encoder = AudioEncoder.like(frame)
        units = self._encoder.encode(frame)
        statistics = self._encoder.statistics()
        if statistics.failures_in_a_row >= HOPELESS:
            raise SourceError(f"the sound cannot be encoded: {statistics.last_error}")
        return units
