"""Sound in, AAC or Opus access units out, in step with the picture.

Encoders put something before the first sample (AAC 1024 samples, Opus 312): what decodes from a unit is heard that much
later than what went in with it. libav says so in its time stamps, which begin below zero, and so do the units': the
sound is where it was, and the first unit lies before the first sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Final, TypeAlias, cast

import av
import numpy as np
from attrs import define, evolve, field, frozen, validators
from av.audio.codeccontext import AudioCodecContext
from av.codec.context import CodecContext
from numpy.typing import NDArray

from trickle_core.mpegts.audio import OPUS_RATE, adts_header
from trickle_core.mpegts.units import AccessUnit, Codec, ElementaryStream
from trickle_trio.media.audio_frame import AudioFrame, channels_of
from trickle_trio.media.contexts import RefusedOptionError, Rest, clock_time, codec_of, open_encoder
from trickle_trio.media.sample_clock import Join, SampleClock

AUDIO_PID: Final = 0x101
"""Where libavformat and most encoders put the sound; any free PID would do."""

LAYOUTS: Final[Mapping[Codec, Mapping[int, str]]] = {
    Codec.AAC: {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"},
    Codec.OPUS: {
        1: "mono",
        2: "stereo",
        3: "3.0",
        4: "quad",
        5: "5.0",
        6: "5.1",
        7: "6.1",
        8: "7.1",
    },
}
"""By channels: the layouts that ADTS (ISO/IEC 14496-3, table 1.19) and an Opus descriptor can name."""

BITS_PER_CHANNEL: Final[Mapping[Codec, int]] = {Codec.AAC: 64_000, Codec.OPUS: 48_000}
"""Bits a second where no bit rate is given."""

LIVE_OPTIONS: Final[Mapping[str, Mapping[str, str]]] = {"aac": {"aac_coder": "fast"}}
"""libav's own choice of coder takes a third more time for the same signal-to-noise ratio of chords, music and noise, or
a lower one. Of a pure tone at full scale it is better: 25 dB, the fast one 8; at half of that, 36 and at least 27."""

FLOATS: Final = ("flt", "fltp")

FRAME_SAMPLES: Final = 1024
"""For an encoder that takes any number of samples."""

Block: TypeAlias = NDArray[np.float32]
"""[samples, channels]"""


def _check_codec(_: object, __: object, name: str) -> None:
    if codec_of(name) not in LAYOUTS:
        raise ValueError(f"{name!r} is no encoder of AAC or Opus")


@frozen(kw_only=True)
class AudioEncoderSettings:
    """How sound is encoded: libavcodec's names. ``bit_rate`` in bits a second, by the channels unless given."""

    codec: str = field(default="aac", validator=_check_codec)
    bit_rate: int | None = field(default=None, validator=validators.optional(validators.gt(0)))
    options: Mapping[str, str] = field(factory=dict)


@frozen
class AudioEncoderStatistics:
    """What an encoder has done since it was made."""

    encoded: int = 0
    """Frames taken in."""
    silence: int = 0
    """Samples put into holes."""
    overlap: int = 0
    """Samples left out because their time had been heard."""
    restarts: int = 0
    """Holes too long to fill, behind which the encoder started anew."""
    failures: int = 0
    """Frames lost because libav refused."""
    failures_in_a_row: int = 0
    """Of these, since the last frame that went well."""
    last_error: str | None = None


class AudioEncoder:
    """Encodes one track of a fixed rate and layout; frames of any length, and of another kind, are brought to it.

    A plain blocking object for one thread at a time.
    """

    def __init__(
        self,
        settings: AudioEncoderSettings | None = None,
        *,
        pid: int = AUDIO_PID,
        rate: int = 48_000,
        layout: str = "stereo",
        after: int | None = None,
    ) -> None:
        self._settings = settings or AudioEncoderSettings()
        self._codec = codec_of(self._settings.codec)
        self.rate: Final = _nearest_rate(self._settings.codec, rate)
        self.layout: Final = _nearest_layout(self._codec, layout)
        # How many channels there are stands in the container for Opus alone.
        channels = channels_of(self.layout) if self._codec is Codec.OPUS else None
        self._stream = ElementaryStream(pid, self._codec, channels)
        self._now: _Opened | Rest = Rest.IDLE
        self._last_pts = after
        self._counts = AudioEncoderStatistics()

    @classmethod
    def like(
        cls,
        frame: AudioFrame,
        settings: AudioEncoderSettings | None = None,
        *,
        pid: int = AUDIO_PID,
        after: int | None = None,
    ) -> AudioEncoder:
        """Make an encoder of a frame's rate and layout, or the nearest ones that the codec has.

        ``after``: the ``last_pts`` of the encoder whose place this one takes on the same track, so that time rises.
        """
        return cls(settings, pid=pid, rate=frame.rate, layout=frame.layout, after=after)

    @property
    def last_pts(self) -> int | None:
        """The time of the last unit given out."""
        return self._last_pts

    @property
    def stream(self) -> ElementaryStream:
        """What the units belong to."""
        return self._stream

    def statistics(self) -> AudioEncoderStatistics:
        """What it has done."""
        return self._counts

    def needs_new(self, frame: AudioFrame) -> bool:
        """Whether ``like(frame)`` would have another rate or layout. ``encode`` takes such a frame all the same."""
        wanted = (
            _nearest_rate(self._settings.codec, frame.rate),
            _nearest_layout(self._codec, frame.layout),
        )
        return wanted != (self.rate, self.layout)

    def encode(self, frame: AudioFrame) -> list[AccessUnit]:
        """Encode a frame; gives the units that are complete now. Blocks, 0.2 ms.

        Times are in 1/90000 s, strictly rising, and never more than a millisecond off the frames'; a hole of up to a
        second is filled with silence. Raises nothing because of the frame or of libav: a failure is counted, and the
        next frame starts anew. ``RuntimeError`` after ``close``.
        """
        if self._now is Rest.CLOSED:
            raise RuntimeError("the encoder is closed")
        try:
            units = self._encode(frame)
        except (av.FFmpegError, RefusedOptionError) as error:
            self._now = Rest.IDLE
            self._fail(str(error))
            return []
        self._counts = evolve(self._counts, encoded=self._counts.encoded + 1, failures_in_a_row=0)
        return self._rising(units)

    def flush(self) -> list[AccessUnit]:
        """Give out what is still held; the next frame opens a new encoder. Blocks."""
        if not isinstance(self._now, _Opened):
            return []
        opened, self._now = self._now, Rest.IDLE
        try:
            return self._rising(opened.finish())
        except av.FFmpegError as error:
            self._fail(str(error))
            return []

    def close(self) -> None:
        """Let go of libav's memory, and of what it still holds. May be called twice."""
        self._now = Rest.CLOSED

    def _encode(self, frame: AudioFrame) -> list[AccessUnit]:
        pts = clock_time(frame.timestamp, frame.time_base)
        units: list[AccessUnit] = []
        opened = self._opened()
        block = opened.intake(frame)
        join, samples = opened.clock.join(pts)
        if join is Join.RESTART:
            units += opened.finish()
            self._now = Rest.IDLE
            opened = self._opened()
            self._counts = evolve(self._counts, restarts=self._counts.restarts + 1)
        elif join is Join.SILENCE:
            self._counts = evolve(self._counts, silence=self._counts.silence + samples)
            opened.write_silence(samples)
        elif join is Join.OVERLAP:
            left_out = min(samples, len(block))
            self._counts = evolve(self._counts, overlap=self._counts.overlap + left_out)
            block, pts = block[left_out:], opened.clock.time_of_next()
        opened.write(block, pts)
        return units + opened.read()

    def _opened(self) -> _Opened:
        if not isinstance(self._now, _Opened):
            self._now = _Opened.create(self._settings, self._stream, self.rate, self.layout)
        return self._now

    def _rising(self, units: list[AccessUnit]) -> list[AccessUnit]:
        """Leave out what an encoder that was opened anew puts before its first sample, where that time is taken."""
        rising = []
        for unit in units:
            if self._last_pts is None or unit.pts > self._last_pts:
                self._last_pts = unit.pts
                rising.append(unit)
        return rising

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
    """libav's encoder at work, with what waits for it."""

    _context: AudioCodecContext
    _stream: ElementaryStream
    clock: SampleClock
    _waiting: Block
    _resampler: tuple[tuple[str, str, int], av.AudioResampler] | None = None
    _sent: int = 0

    @classmethod
    def create(
        cls, settings: AudioEncoderSettings, stream: ElementaryStream, rate: int, layout: str
    ) -> _Opened:
        context = cast("AudioCodecContext", CodecContext.create(settings.codec, "w"))
        context.sample_rate, context.layout = rate, layout
        context.format = _sample_format(settings.codec)
        context.time_base = Fraction(1, rate)
        context.bit_rate = settings.bit_rate or BITS_PER_CHANNEL[stream.codec] * channels_of(layout)
        context.thread_count = 1
        open_encoder(context, LIVE_OPTIONS.get(settings.codec, {}), settings.options)
        nothing = np.empty((0, channels_of(layout)), np.float32)
        return cls(context, stream, SampleClock(rate), nothing)

    def intake(self, frame: AudioFrame) -> Block:
        """Bring a frame to the encoder's rate and layout."""
        rate, layout = self._context.sample_rate, self._context.layout.name
        if (frame.rate, frame.layout) == (rate, layout) and frame.format in FLOATS:
            return frame.samples.T
        kind = (frame.format, frame.layout, frame.rate)
        if self._resampler is None or self._resampler[0] != kind:
            self._resampler = kind, av.AudioResampler(format="flt", layout=layout, rate=rate)
        given = frame.to_av_frame()
        given.pts = None
        return self._joined(self._resampler[1].resample(given))

    def write(self, block: Block, pts: int) -> None:
        """Let a block wait for the encoder; its first sample is to be heard at ``pts``."""
        self.clock.write(pts, len(block))
        # libav's encoder refuses numbers that are none
        sound = np.nan_to_num(block, nan=0.0, posinf=1.0, neginf=-1.0)
        self._waiting = np.concatenate((self._waiting, sound))

    def write_silence(self, samples: int) -> None:
        """Let so many samples of nothing wait for the encoder."""
        self.write(np.zeros((samples, self._channels), np.float32), self.clock.time_of_next())

    def read(self) -> list[AccessUnit]:
        """Encode what waits, as far as it fills whole frames."""
        size = self._context.frame_size or FRAME_SAMPLES
        units: list[AccessUnit] = []
        while len(self._waiting) >= size:
            units += self._encode(self._waiting[:size])
            self._waiting = self._waiting[size:]
        return units

    def finish(self) -> list[AccessUnit]:
        """Encode all that waits; nothing may come after."""
        units = self._encode(self._waiting) if len(self._waiting) else []
        return units + list(self._units(self._context.encode(None)))

    @property
    def _channels(self) -> int:
        return self._context.layout.nb_channels

    def _joined(self, frames: list[av.AudioFrame]) -> Block:
        blocks = [frame.to_ndarray().reshape(-1, self._channels) for frame in frames]
        return np.concatenate(blocks) if blocks else np.empty((0, self._channels), np.float32)

    def _encode(self, block: Block) -> list[AccessUnit]:
        packed = np.ascontiguousarray(block).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=self._context.layout.name)
        frame.sample_rate, frame.time_base, frame.pts = (
            self._context.sample_rate,
            self._context.time_base,
            self._sent,
        )
        self._sent += len(block)
        return list(self._units(self._context.encode(frame)))

    def _units(self, packets: list[av.Packet[av.stream.Stream]]) -> Iterator[AccessUnit]:
        for packet in packets:
            pts = self.clock.time_of(cast("int", packet.pts))
            yield AccessUnit(self._stream, self._framed(bytes(packet)), pts, pts, key=True)

    def _framed(self, data: bytes) -> bytes:
        if self._stream.codec is not Codec.AAC:
            return data
        config = cast("bytes", self._context.extradata)
        header = adts_header(
            len(data),
            rate=self._context.sample_rate,
            channels=self._channels,
            object_type=config[0] >> 3,
        )
        return header + data


def _nearest_rate(codec: str, rate: int) -> int:
    """Give the rate if the encoder has it, else the next one above, else its highest."""
    known = sorted(av.codec.Codec(codec, "w").audio_rates or (OPUS_RATE,))
    return next((candidate for candidate in known if candidate >= rate), known[-1])


def _nearest_layout(codec: Codec, layout: str) -> str:
    """Give the layout of so many channels that the container can name, or of the next number up (AAC has none of 7)."""
    known, channels = LAYOUTS[codec], channels_of(layout)
    return next((known[count] for count in sorted(known) if count >= channels), known[max(known)])


def _sample_format(codec: str) -> str:
    """Give the encoder's own format of floats, or whatever it has."""
    known = [known.name for known in av.codec.Codec(codec, "w").audio_formats or ()]
    return next((name for name in ("fltp", "flt") if name in known), known[0])
