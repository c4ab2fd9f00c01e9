"""What a player must know before the first sample: read off SPS, ADTS header and Opus packets.

The sequence parameter set stands in ITU-T H.264, 7.3.2.1.1; AudioSpecificConfig in ISO/IEC 14496-3, 1.6.2.1. How each
coding is put into MP4 stands in ISO/IEC 14496-15, 14496-1 and "Encapsulation of Opus in ISOBMFF"; the codec strings in
RFC 6381.
"""

from __future__ import annotations

import re
from typing import Final

from attrs import frozen

from trickle_core.mpegts.audio import (
    AAC_SAMPLES,
    ADTS_RATES,
    OPUS_CHANNELS,
    OPUS_RATE,
    Unreadable,
    opus_head,
    opus_samples,
    parse_adts,
)
from trickle_core.mpegts.nal import parameter_sets
from trickle_core.mpegts.units import CLOCK_RATE, AccessUnit, Codec

DELIMITER: Final = 9
"""Access unit delimiter: MP4 marks the units itself (ISO/IEC 14496-15, 5.3.2 advises to leave it out)."""

HIGH_PROFILES: Final = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
"""Profiles whose SPS tells chroma format and bit depth (H.264, 7.3.2.1.1)."""

HIGH_IN_AVCC: Final = frozenset({100, 110, 122, 144})
"""Profiles whose decoder configuration repeats them (ISO/IEC 14496-15, 5.3.3.1.2)."""


class UnreadableParametersError(ValueError):
    """A unit does not tell what a player must know."""


@frozen
class VideoParameters:
    """One H.264 coding: its parameter sets, and what the SPS says."""

    sps: tuple[bytes, ...]
    pps: tuple[bytes, ...]
    width: int
    height: int
    chroma_format: int
    luma_depth: int
    chroma_depth: int

    @property
    def codec_string(self) -> str:
        """As in a MIME type's ``codecs`` (RFC 6381, 3.3)."""
        return "avc1." + self.sps[0][1:4].hex().upper()

    def decoder_configuration(self) -> bytes:
        """Return the AVCDecoderConfigurationRecord, with lengths of 4 bytes before each NAL unit."""
        first = self.sps[0]
        record = bytearray((1, *first[1:4], 0xFF, 0xE0 | len(self.sps)))
        for unit in self.sps:
            record += len(unit).to_bytes(2, "big") + unit
        record.append(len(self.pps))
        for unit in self.pps:
            record += len(unit).to_bytes(2, "big") + unit
        if first[1] in HIGH_IN_AVCC:
            depths = (0xF8 | (self.luma_depth - 8), 0xF8 | (self.chroma_depth - 8))
            record += bytes((0xFC | self.chroma_format, *depths, 0))
        return bytes(record)


@frozen
class AudioParameters:
    """One AAC or Opus coding. ``configuration`` is what MP4 keeps: AudioSpecificConfig, or the body of ``dOps``."""

    codec: Codec
    rate: int
    channels: int
    codec_string: str
    configuration: bytes


def video_parameters(key: bytes) -> VideoParameters:
    """Read the parameter sets of an H.264 key picture; ``UnreadableParametersError`` without them."""
    sets = parameter_sets(key, Codec.H264)
    sps, pps = tuple(dict.fromkeys(sets.sps)), tuple(dict.fromkeys(sets.pps))
    if not sps or not pps:
        raise UnreadableParametersError("a key picture without its parameter sets")
    try:
        picture = _Sps.read(_Bits(unescaped(sps[0][1:])))
    except IndexError as error:
        raise UnreadableParametersError("a sequence parameter set that is cut off") from error
    return VideoParameters(
        sps,
        pps,
        picture.width,
        picture.height,
        picture.chroma_format,
        picture.luma_depth,
        picture.chroma_depth,
    )


def without_timing(sps: bytes) -> bytes:
    """Return an H.264 SPS that does not tell a frame rate (E.1.1), where any rate would be a guess.

    The SPS itself comes back where it tells none, or cannot be read.
    """
    bits = _Bits(unescaped(sps[1:]))
    try:
        _Sps.read(bits)
        tells = _find_timing(bits)
    except (IndexError, UnreadableParametersError):
        return sps
    return sps[:1] + escaped(bits.without(_TIMING)) if tells else sps


_TIMING: Final = 32 + 32 + 1
"""Bits behind the flag: num_units_in_tick, time_scale, fixed_frame_rate_flag."""
_EXTENDED_SAR: Final = 255


def _find_timing(bits: _Bits) -> bool:
    """Read on from the end of an SPS's own fields up to the flag that timing follows; gives the flag."""
    if not bits.take(1):
        return False
    if bits.take(1) and bits.take(8) == _EXTENDED_SAR:
        bits.take(32)
    if bits.take(1):  # overscan
        bits.take(1)
    if bits.take(1):  # video signal type
        bits.take(4)
        if bits.take(1):
            bits.take(24)
    if bits.take(1):  # chroma location
        bits.golomb()
        bits.golomb()
    return bool(bits.take(1))


def audio_parameters(unit: AccessUnit) -> AudioParameters:
    """Read what a player must know about sound off one of its units; ``UnreadableParametersError`` where it cannot."""
    if unit.stream.codec is Codec.AAC:
        return _aac_parameters(unit.data)
    return _opus_parameters(unit.stream.channels or 2)


def _aac_parameters(data: bytes) -> AudioParameters:
    header = parse_adts(data, 0)
    if isinstance(header, Unreadable) or not header.channels:
        raise UnreadableParametersError("AAC without a header that tells rate and channels")
    kind, configuration = (data[2] >> 6) + 1, (data[2] & 1) << 2 | data[3] >> 6
    config = kind << 11 | ADTS_RATES.index(header.rate) << 7 | configuration << 3
    return AudioParameters(
        Codec.AAC, header.rate, header.channels, f"mp4a.40.{kind}", config.to_bytes(2)
    )


def _opus_parameters(channels: int) -> AudioParameters:
    if channels not in OPUS_CHANNELS:
        raise UnreadableParametersError(f"Opus with {channels} channels")
    # As the identification header, but big-endian; and no pre-skip, for a viewer joins in the middle, where there is
    # nothing to skip.
    layout = opus_head(channels)[18:]
    body = bytes((0, channels, 0, 0)) + OPUS_RATE.to_bytes(4) + b"\0\0" + layout
    return AudioParameters(Codec.OPUS, OPUS_RATE, channels, "opus", body)


def bare_audio(unit: AccessUnit) -> bytes:
    """Return an audio unit as MP4 holds it: AAC without its ADTS header, Opus as it is."""
    if unit.stream.codec is not Codec.AAC:
        return unit.data
    return unit.data[7 if unit.data[1] & 1 else 9 :]


def audio_duration(unit: AccessUnit, parameters: AudioParameters) -> int:
    """Return how long one audio unit sounds, in 1/90000 s."""
    if parameters.codec is Codec.AAC:
        return round(AAC_SAMPLES * CLOCK_RATE / parameters.rate)
    return round(opus_samples(unit.data) * CLOCK_RATE / OPUS_RATE)


@frozen
class _Sps:
    """The fields of a sequence parameter set that a container repeats."""

    width: int
    height: int
    chroma_format: int
    luma_depth: int
    chroma_depth: int

    @classmethod
    def read(cls, bits: _Bits) -> _Sps:
        """Read up to what the picture's usability is told in (VUI)."""
        profile = bits.take(8)
        bits.take(16)
        bits.golomb()
        chroma, luma_depth, chroma_depth = _chroma(bits, profile)
        _skip_order_count(bits)
        bits.golomb()
        bits.take(1)
        columns, rows = bits.golomb() + 1, bits.golomb() + 1
        frames_only = bits.take(1)
        if not frames_only:
            bits.take(1)
        bits.take(1)
        crop = [bits.golomb() for _ in range(4)] if bits.take(1) else [0, 0, 0, 0]
        across, down = (1 if chroma in (0, 3) else 2), (2 if chroma == 1 else 1) * (2 - frames_only)
        width = columns * 16 - across * (crop[0] + crop[1])
        height = rows * 16 * (2 - frames_only) - down * (crop[2] + crop[3])
        if not (0 < width <= 0xFFFF and 0 < height <= 0xFFFF):
            raise UnreadableParametersError("a sequence parameter set with an impossible size")
        return cls(width, height, chroma, luma_depth, chroma_depth)


def _chroma(bits: _Bits, profile: int) -> tuple[int, int, int]:
    if profile not in HIGH_PROFILES:
        return 1, 8, 8
    chroma = bits.golomb()
    if chroma == 3:
        bits.take(1)
    luma_depth, chroma_depth = bits.golomb() + 8, bits.golomb() + 8
    bits.take(1)
    if chroma > 3 or luma_depth > 14 or chroma_depth > 14:
        raise UnreadableParametersError("a sequence parameter set with an impossible chroma format")
    if bits.take(1):
        for index in range(12 if chroma == 3 else 8):
            if bits.take(1):
                _skip_scaling_list(bits, 16 if index < 6 else 64)
    return chroma, luma_depth, chroma_depth


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed_golomb()) % 256
        last = following or last


def _skip_order_count(bits: _Bits) -> None:
    bits.golomb()
    kind = bits.golomb()
    if kind == 0:
        bits.golomb()
    elif kind == 1:
        bits.take(1)
        bits.signed_golomb()
        bits.signed_golomb()
        for _ in range(bits.golomb()):
            bits.signed_golomb()


def unescaped(data: bytes) -> bytes:
    """Take out the bytes that keep start codes from arising inside a NAL unit (H.264, 7.4.1.1)."""
    return data.replace(b"\0\0\3", b"\0\0")


def escaped(data: bytes) -> bytes:
    """Put them in."""
    return re.sub(rb"\0\0(?=[\0-\3])", b"\0\0\3", data)


class _Bits:
    """Bits from the most significant one on. ``IndexError`` behind the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, count: int) -> int:
        value = 0
        for _ in range(count):
            byte = self._data[self._position >> 3]
            value = value << 1 | (byte >> (7 - (self._position & 7))) & 1
            self._position += 1
        return value

    def without(self, count: int) -> bytes:
        """The bytes with the flag that was read last cleared, and so many bits behind it taken out."""
        bits = "".join(f"{byte:08b}" for byte in self._data)
        bits = bits[: self._position - 1] + "0" + bits[self._position + count :]
        bits = bits.rstrip("0")  # up to the stop bit (7.3.2.11)
        bits += "0" * (-len(bits) % 8)
        return int(bits, 2).to_bytes(len(bits) // 8)

    def golomb(self) -> int:
        """Read ``ue(v)`` (H.264, 9.1)."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def signed_golomb(self) -> int:
        """Read ``se(v)`` (H.264, 9.1.1)."""
        value = self.golomb()
        return (value + 1) // 2 if value & 1 else -(value // 2)
