"""Access units in, frames out. Broken input is counted, never raised.

Decoders are plain blocking objects for one thread at a time (8 ms a 720p picture at worst, 0.1 ms an audio frame). PyAV
lets go of the GIL while libav works.

A video decoder is in one of these states; what moves it stands here and nowhere else:

========== ============================================================ ==========
state      what comes                                                   next state
========== ============================================================ ==========
SEEKING    a whole key unit that decodes                                DECODING
SEEKING    anything else: skipped                                       SEEKING
DECODING   a unit before which something was lost, or that is damaged   SEEKING (the unit itself may end it)
DECODING   a unit that libav refuses, or a picture that it had to patch SEEKING
any        ``flush``                                                    SEEKING
any        ``close``                                                    CLOSED
========== ============================================================ ==========

What libav had already put aside is shown when something is lost: it was whole. What comes between the loss and the next
key frame is not: it would be smeared. Pictures that cannot be decoded after a key unit in the middle of an open GOP
(those that lead it) are left out by libav itself.
"""

from __future__ import annotations

from enum import Enum, auto
from fractions import Fraction
from itertools import takewhile
from typing import cast

import av
from attrs import define, frozen
from av.audio.codeccontext import AudioCodecContext
from av.codec.context import CodecContext, Flags, ThreadType
from av.video.codeccontext import VideoCodecContext

from trickle_core.mpegts.audio import opus_head
from trickle_core.mpegts.units import AccessUnit, Codec, ElementaryStream
from trickle_trio.media.audio_frame import AudioFrame
from trickle_trio.media.contexts import TIME_BASE
from trickle_trio.media.video_frame import VideoFrame


class DecoderState(Enum):
    """What a decoder is doing."""

    SEEKING = auto()
    """Waits for a unit at which decoding can start."""
    DECODING = auto()
    CLOSED = auto()


@frozen
class DecoderStatistics:
    """What a decoder has done since it was made."""

    decoded: int = 0
    """Frames given out."""
    errors: int = 0
    """Units that were damaged or that libav could not decode whole."""
    skipped: int = 0
    """Units that were not decoded because decoding could not start at them."""
    misordered: int = 0
    """Frames left out because a later one had been given out before them."""
    last_error: str | None = None


class VideoDecoder:
    """Decodes one H.264 or H.265 track. ``threads`` beyond one decode slices at the same time; that adds no delay."""

    def __init__(self, codec: Codec, *, threads: int = 1) -> None:
        if not codec.is_video:
            raise ValueError(f"expected a video codec, got {codec}")
        self._context = _video_context(codec, threads)
        self._state = DecoderState.SEEKING
        self._tally = _Tally()

    @property
    def state(self) -> DecoderState:
        """What it is doing."""
        return self._state

    def statistics(self) -> DecoderStatistics:
        """What it has done."""
        return self._tally.counts

    def decode(self, unit: AccessUnit) -> list[VideoFrame]:
        """Decode a unit; gives the frames that are complete now, in the order in which they are shown.

        Their time stamps are the ``pts`` of their units, in 1/90000 s, and rise. Blocks. Raises nothing because of the
        data; ``RuntimeError`` after ``close``.
        """
        _check_open(self._state)
        is_whole = bool(unit.data) and not unit.damaged
        frames = self._lose() if unit.lost_before or not is_whole else []
        if not is_whole:
            self._tally.error("the unit arrived damaged")
        elif self._state is DecoderState.DECODING or unit.key:
            self._state = DecoderState.DECODING
            frames += self._feed(unit)
        else:
            self._tally.skip()
        return frames

    def flush(self) -> list[VideoFrame]:
        """Give out what is still held; the next unit to be decoded is a key unit, at any time. Blocks."""
        _check_open(self._state)
        frames = self._lose()
        self._tally.restart()
        return frames

    def close(self) -> None:
        """Let go of libav's memory. May be called twice."""
        if self._state is not DecoderState.CLOSED:
            self._state = DecoderState.CLOSED
            del self._context

    def _feed(self, unit: AccessUnit) -> list[VideoFrame]:
        try:
            pictures = self._context.decode(_packet(unit))
        except av.FFmpegError as error:
            self._tally.error(str(error))
            self._context.flush_buffers()
            self._state = DecoderState.SEEKING
            return []
        return self._shown(pictures)

    def _shown(self, pictures: list[av.VideoFrame]) -> list[VideoFrame]:
        whole = list(takewhile(lambda picture: not picture.is_corrupt, pictures))
        if len(whole) < len(pictures):
            self._tally.error("parts of a picture are missing")
            self._context.flush_buffers()
            self._state = DecoderState.SEEKING
        aspect = self._context.sample_aspect_ratio or Fraction(1)
        return [
            _video_frame(picture, aspect) for picture in whole if self._tally.admit(picture.pts)
        ]

    def _lose(self) -> list[VideoFrame]:
        """Stop decoding; gives out what is whole."""
        if self._state is not DecoderState.DECODING:
            return []
        self._state = DecoderState.SEEKING
        try:
            pictures = self._context.decode(None)
        except av.FFmpegError as error:
            self._tally.error(str(error))
            pictures = []
        self._context.flush_buffers()
        return self._shown(pictures)


class AudioDecoder:
    """Decodes one audio track: AAC (with ADTS headers), Opus, MP2. Any unit is a start."""

    def __init__(self, stream: ElementaryStream) -> None:
        if stream.codec.is_video:
            raise ValueError(f"expected an audio codec, got {stream.codec}")
        self._context = _audio_context(stream)
        self._state = DecoderState.DECODING
        self._tally = _Tally()

    def statistics(self) -> DecoderStatistics:
        """What it has done."""
        return self._tally.counts

    def decode(self, unit: AccessUnit) -> list[AudioFrame]:
        """Decode a unit. Time stamps are those of the units, in 1/90000 s, and rise. Blocks.

        Raises nothing because of the data; ``RuntimeError`` after ``close``.
        """
        _check_open(self._state)
        if unit.damaged or not unit.data:
            self._tally.error("the unit arrived damaged")
            return []
        try:
            frames = self._context.decode(_packet(unit))
        except av.FFmpegError as error:
            self._tally.error(str(error))
            self._context.flush_buffers()
            return []
        return self._heard(frames)

    def flush(self) -> list[AudioFrame]:
        """Give out what is still held; the next unit may have any time. Blocks."""
        _check_open(self._state)
        try:
            frames = self._context.decode(None) if self._context.is_open else []
        except av.FFmpegError as error:
            self._tally.error(str(error))
            frames = []
        self._context.flush_buffers()
        heard = self._heard(frames)
        self._tally.restart()
        return heard

    def close(self) -> None:
        """Let go of libav's memory. May be called twice."""
        if self._state is not DecoderState.CLOSED:
            self._state = DecoderState.CLOSED
            del self._context

    def _heard(self, frames: list[av.AudioFrame]) -> list[AudioFrame]:
        heard = []
        for frame in frames:
            frame.time_base = TIME_BASE
            if frame.samples and self._tally.admit(frame.pts):
                heard.append(AudioFrame.from_av_frame(frame))
        return heard


@define
class _Tally:
    """Counts, and the last time given out."""

    decoded: int = 0
    errors: int = 0
    skipped: int = 0
    misordered: int = 0
    last_error: str | None = None
    _last: int | None = None

    @property
    def counts(self) -> DecoderStatistics:
        return DecoderStatistics(
            self.decoded, self.errors, self.skipped, self.misordered, self.last_error
        )

    def admit(self, pts: int | None) -> bool:
        """Whether a frame of this time may be given out: later than the one before."""
        if pts is None or (self._last is not None and pts <= self._last):
            self.misordered += 1
            return False
        self._last = pts
        self.decoded += 1
        return True

    def error(self, reason: str) -> None:
        self.errors += 1
        self.last_error = reason

    def skip(self) -> None:
        self.skipped += 1

    def restart(self) -> None:
        self._last = None


def _check_open(state: DecoderState) -> None:
    if state is DecoderState.CLOSED:
        raise RuntimeError("the decoder is closed")


def _video_context(codec: Codec, threads: int) -> VideoCodecContext:
    context = cast("VideoCodecContext", CodecContext.create(codec.value, "r"))
    context.thread_count = threads
    # Frame threads, libav's default, hold one picture back for each thread.
    context.thread_type = ThreadType.SLICE
    context.flags |= Flags.low_delay
    return context


def _audio_context(stream: ElementaryStream) -> AudioCodecContext:
    context = cast("AudioCodecContext", CodecContext.create(stream.codec.value, "r"))
    context.thread_count = 1
    if stream.codec is Codec.OPUS:
        # Without pre-skip: the units' time stamps already say when each is to be heard.
        context.extradata = opus_head(stream.channels or 2)
    return context


def _packet(unit: AccessUnit) -> av.Packet[av.stream.Stream]:
    packet: av.Packet[av.stream.Stream] = av.Packet(unit.data)
    packet.pts, packet.dts, packet.time_base = unit.pts, unit.dts, TIME_BASE
    return packet


def _video_frame(picture: av.VideoFrame, aspect: Fraction) -> VideoFrame:
    picture.time_base = TIME_BASE
    return VideoFrame(picture, timestamp=picture.pts or 0, time_base=TIME_BASE, pixel_aspect=aspect)
