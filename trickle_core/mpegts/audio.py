"""The headers of coded audio frames: ADTS (AAC), MPEG audio (MP1, MP2, MP3), Opus in MPEG-TS.

Each parser takes bytes and a position and says where that frame's data starts and ends and how long
it lasts; it never reads past the end. Sources: ISO/IEC 14496-3, 1.A.2 (ADTS); ISO/IEC 11172-3,
2.4.1.3 and 13818-3, 2.4.2.3 (MPEG audio); RFC 6716, 3.1 (Opus); for Opus in transport streams the
Opus codec's TS mapping, as libavformat and GStreamer write it.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final, TypeAlias

from attrs import frozen

OPUS_RATE: Final = 48_000
"""Opus counts in 1/48000 s whatever its input was (RFC 7845, 4)."""


@frozen
class AudioHeader:
    """One coded frame: ``start`` and ``end`` are offsets of what is handed on.

    ``samples`` a channel at ``rate`` a second; ``channels`` 0 where the header does not say.
    """

    start: int
    end: int
    samples: int
    rate: int
    channels: int = 0


Extent: TypeAlias = tuple[int, int, int, int, int]
"""What an ``AudioHeader`` says, in that order: for those who read hundreds a second."""


class Unreadable(Enum):
    """Why there is no frame at a position."""

    SHORT = auto()
    """The bytes end within the header: more are needed to tell."""
    WRONG = auto()
    """No frame starts here."""


def _header(extent: Extent | Unreadable) -> AudioHeader | Unreadable:
    return extent if isinstance(extent, Unreadable) else AudioHeader(*extent)


# --- ADTS -----------------------------------------------------------------------------------------

ADTS_RATES: Final = (
    *(96_000, 88_200, 64_000, 48_000, 44_100, 32_000),
    *(24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350),
)
"""By sampling_frequency_index (ISO/IEC 14496-3, table 1.18)."""

_ADTS_HEADER: Final = 7
_ADTS_CRC: Final = 2
_ADTS_CHANNELS: Final = (0, 1, 2, 3, 4, 5, 6, 8)
"""By channel_configuration (table 1.19); 0: a program config element in the frame says it."""
AAC_SAMPLES: Final = 1024


def parse_adts(data: bytes, pos: int) -> AudioHeader | Unreadable:
    """The ADTS frame at ``pos``; its header is part of what is handed on."""
    return _header(find_adts(data, pos))


def find_adts(data: bytes, pos: int) -> Extent | Unreadable:
    """See ``parse_adts``."""
    if len(data) - pos < _ADTS_HEADER:
        return Unreadable.SHORT
    bits = int.from_bytes(data[pos : pos + _ADTS_HEADER])
    rate_index = bits >> 34 & 0xF
    length = bits >> 13 & 0x1FFF
    header = _ADTS_HEADER + (0 if bits >> 40 & 1 else _ADTS_CRC)
    sync_and_layer = bits >> 41 & 0x7FFB
    if sync_and_layer != 0x7FF8 or rate_index >= len(ADTS_RATES) or length <= header:
        return Unreadable.WRONG
    blocks = (bits & 3) + 1
    channels = _ADTS_CHANNELS[bits >> 30 & 7]
    return pos, pos + length, AAC_SAMPLES * blocks, ADTS_RATES[rate_index], channels


def adts_header(size: int, *, rate: int, channels: int, object_type: int = 2) -> bytes:
    """The seven bytes in front of ``size`` bytes of raw AAC; object type 2 is AAC-LC.

    Raises ``ValueError`` for what ADTS cannot say: other rates, 7 or more than 8 channels, object
    types above 4, frames of 8 KiB.
    """
    length = size + _ADTS_HEADER
    if length > 0x1FFF or not 1 <= object_type <= 4:
        raise ValueError(f"no ADTS header for {size} bytes of AAC object type {object_type}")
    rate_index = ADTS_RATES.index(rate)
    configuration = _ADTS_CHANNELS.index(channels)
    bits = 0xFFF1 << 40 | (object_type - 1) << 38 | rate_index << 34 | configuration << 30
    # A fullness of all ones: variable bit rate, no statement about the encoder's buffer.
    return (bits | length << 13 | 0x7FF << 2).to_bytes(_ADTS_HEADER)


# --- MPEG audio -----------------------------------------------------------------------------------

_MPEG_HEADER: Final = 4
_MPEG_RATES: Final = (44_100, 48_000, 32_000)
_KBITS: Final = {
    # By (MPEG-1?, layer); position: bitrate_index, of which 0 (free format) is not carried: its
    # frames have no length that a header could tell.
    (True, 1): range(0, 449, 32),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLES: Final = {
    (True, 1): 384,
    (True, 2): 1152,
    (True, 3): 1152,
    (False, 1): 384,
    (False, 2): 1152,
    (False, 3): 576,
}


def parse_mpeg_audio(data: bytes, pos: int) -> AudioHeader | Unreadable:
    """The frame of MPEG audio, layer I, II or III, at ``pos``."""
    return _header(find_mpeg_audio(data, pos))


def find_mpeg_audio(data: bytes, pos: int) -> Extent | Unreadable:
    """See ``parse_mpeg_audio``."""
    if len(data) - pos < _MPEG_HEADER:
        return Unreadable.SHORT
    bits = int.from_bytes(data[pos : pos + _MPEG_HEADER])
    version, layer_code = bits >> 19 & 3, bits >> 17 & 3
    rate_index, bitrate_index = bits >> 10 & 3, bits >> 12 & 0xF
    reserved = version == 1 or layer_code == 0 or rate_index == 3
    if bits >> 21 != 0x7FF or reserved or bitrate_index in (0, 15):
        return Unreadable.WRONG
    kind = (version == 3, 4 - layer_code)
    # MPEG-2 halves the sampling rates, the unofficial 2.5 halves them again.
    rate = _MPEG_RATES[rate_index] >> (0, 1, 2)[(3, 2, 0).index(version)]
    slot = 4 if kind[1] == 1 else 1
    slots = _SAMPLES[kind] // (8 * slot) * 1000 * _KBITS[kind][bitrate_index] // rate
    length = (slots + (bits >> 9 & 1)) * slot
    channels = 1 if bits >> 6 & 3 == 3 else 2
    return pos, pos + length, _SAMPLES[kind], rate, channels


# --- Opus -----------------------------------------------------------------------------------------

_OPUS_PREFIX: Final = 0x7FE0
"""The eleven bits in front of every access unit; what follows them are flags."""

_OPUS_START_TRIM: Final = 0x10
_OPUS_END_TRIM: Final = 0x08
_OPUS_EXTENSION: Final = 0x04

OPUS_LONGEST: Final = 5760
"""Samples: 120 ms, the most that a packet may last (RFC 6716, 3.2.5)."""

_OPUS_FRAMES: Final = (
    *((480, 960, 1920, 2880) * 3),  # SILK: 10, 20, 40, 60 ms
    *((480, 960) * 2),  # hybrid: 10, 20 ms
    *((120, 240, 480, 960) * 4),  # CELT: 2.5, 5, 10, 20 ms
)
"""Samples a frame, by the configuration in the TOC byte (RFC 6716, table 2)."""

_OPUS_BIGGEST: Final = 0xFFFF
"""Bytes: more does not fit a PES, and one packet of eight streams at the codec's limit is below."""


def opus_samples(packet: bytes) -> int:
    """How long an Opus packet lasts, in 1/48000 s; 0 where it is none."""
    if not packet:
        return 0
    code = packet[0] & 3
    # Codes 0 to 2 are one frame or two; code 3 says the number in the next byte (3.2).
    frames = min(code + 1, 2) if code < 3 else int.from_bytes(packet[1:2]) & 0x3F
    samples = frames * _OPUS_FRAMES[packet[0] >> 3]
    return samples if samples <= OPUS_LONGEST else 0


def find_opus(data: bytes, pos: int) -> Extent | Unreadable:
    """The Opus access unit at ``pos``: what is handed on is the bare packet.

    The trims are read over, not applied: they cut a few milliseconds at a stream's ends, which a
    live stream does not have.
    """
    flags = int.from_bytes(data[pos : pos + 2])
    if len(data) - pos < 2:
        return Unreadable.SHORT
    if flags & 0xFFE0 != _OPUS_PREFIX:
        return Unreadable.WRONG
    try:
        start, size = _opus_extent(data, pos + 2, flags)
    except IndexError:
        return Unreadable.SHORT
    if size > _OPUS_BIGGEST:
        return Unreadable.WRONG
    told = data[start : start + min(size, 2)]  # all of the packet that says how long it lasts
    if len(told) < min(size, 2):
        return Unreadable.SHORT
    samples = opus_samples(told)
    return (start, start + size, samples, OPUS_RATE, 0) if samples else Unreadable.WRONG


def _opus_extent(data: bytes, pos: int, flags: int) -> tuple[int, int]:
    """Where the packet starts and how many bytes it has; ``IndexError`` where the bytes end."""
    size = 0
    while data[pos] == 0xFF and size <= _OPUS_BIGGEST:
        size, pos = size + 255, pos + 1
    size, pos = size + data[pos], pos + 1
    pos += 2 * bool(flags & _OPUS_START_TRIM) + 2 * bool(flags & _OPUS_END_TRIM)
    if flags & _OPUS_EXTENSION:
        pos += 1 + data[pos]
    return pos, size


def opus_control_header(size: int) -> bytes:
    """What stands in front of an Opus packet of ``size`` bytes: prefix, no trims, its length."""
    return _OPUS_PREFIX.to_bytes(2) + b"\xff" * (size // 255) + bytes([size % 255])


_OPUS_LAYOUTS: Final = (
    # Streams, coupled streams, and which decoded channel each output channel takes; by channels - 1
    # (channel mapping family 1, RFC 7845, 5.1.1.2).
    (1, 0, (0,)),
    (1, 1, (0, 1)),
    (2, 1, (0, 2, 1)),
    (2, 2, (0, 1, 2, 3)),
    (3, 2, (0, 4, 1, 2, 3)),
    (4, 2, (0, 4, 1, 2, 3, 5)),
    (4, 3, (0, 4, 1, 2, 3, 5, 6)),
    (5, 3, (0, 6, 1, 2, 3, 4, 5, 7)),
)

OPUS_CHANNELS: Final = range(1, len(_OPUS_LAYOUTS) + 1)
"""The numbers of channels for which a transport stream's descriptor implies the layout."""


def opus_head(channels: int) -> bytes:
    """The identification header (RFC 7845, 5.1), which decoders take as extradata.

    Raises ``ValueError`` for more than 8 channels or none.
    """
    if channels not in OPUS_CHANNELS:
        raise ValueError(f"no Opus layout of {channels} channels")
    streams, coupled, mapping = _OPUS_LAYOUTS[channels - 1]
    family = int(channels > 2)
    head = b"OpusHead\x01" + bytes([channels]) + bytes(2) + OPUS_RATE.to_bytes(4, "little")
    table = bytes([streams, coupled, *mapping]) if family else b""
    return head + bytes(2) + bytes([family]) + table
