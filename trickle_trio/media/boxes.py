"""Boxes of fragmented MP4 (ISO/IEC 14496-12), as few as a player of a live stream asks for.

Why by hand: libavformat writes a fragment only when the next packet comes, and waits for the other track before it
writes any; for a live picture that is a frame at least, and seconds where the sound pauses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import frozen

from trickle_core.mpegts.units import CLOCK_RATE, Codec
from trickle_trio.media.parameters import AudioParameters, VideoParameters

SYNC_SAMPLE: Final = 0x0200_0000
"""Sample flags: depends on no other sample (14496-12, 8.8.3.1)."""

DELTA_SAMPLE: Final = 0x0101_0000
"""Sample flags: depends on others, decoding cannot start here."""

MATRIX: Final = b"".join(
    value.to_bytes(4, "big") for value in (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x4000_0000)
)
UNDETERMINED: Final = b"\x55\xc4\0\0"
"""The language ``und``, packed in 15 bits (14496-12, 8.4.2.3)."""


@frozen
class Track:
    """One track: its number in the file, and what it holds."""

    number: int
    parameters: VideoParameters | AudioParameters


def box(kind: bytes, *content: bytes) -> bytes:
    """Wrap content into a box."""
    size = 8 + sum(map(len, content))
    return b"".join((size.to_bytes(4, "big"), kind, *content))


def full_box(kind: bytes, version: int, flags: int, *content: bytes) -> bytes:
    """Wrap content into a box that has a version and flags."""
    return box(kind, (version << 24 | flags).to_bytes(4, "big"), *content)


def initialization(tracks: Sequence[Track]) -> bytes:
    """Return what comes before the first fragment: the file's kind, and a movie of tracks without samples."""
    header = full_box(
        b"mvhd", 0, 0, bytes(8), _u32(CLOCK_RATE), bytes(4), _u32(0x10000), b"\1\0", bytes(10), MATRIX, bytes(24),
        _u32(max(track.number for track in tracks) + 1),
    )  # fmt: skip
    extends = (full_box(b"trex", 0, 0, _u32(track.number), _u32(1), bytes(12)) for track in tracks)
    movie = box(b"moov", header, *map(_track, tracks), box(b"mvex", *extends))
    return box(b"ftyp", b"iso5", _u32(512), b"iso5iso6mp41") + movie


def fragment(
    sequence: int, track: int, *, time: int, duration: int, shift: int, sync: bool, data: bytes
) -> bytes:
    """Return a fragment of one sample.

    ``time`` (decoding), ``duration`` and ``shift`` (from decoding to presentation) are in 1/90000 s.
    """
    flags = SYNC_SAMPLE if sync else DELTA_SAMPLE
    sample = _u32(duration) + _u32(len(data)) + _u32(flags) + shift.to_bytes(4, "big", signed=True)
    header = full_box(b"tfhd", 0, 0x02_0000, _u32(track))
    start = full_box(b"tfdt", 1, 0, time.to_bytes(8, "big"))
    number = full_box(b"mfhd", 0, 0, _u32(sequence))
    # The data begin behind this box and the head of the next: 8 bytes each of moof, traf and mdat, and the run itself.
    offset = 8 + len(number) + 8 + len(header) + len(start) + 20 + len(sample) + 8
    run = full_box(b"trun", 1, 0x0F01, _u32(1), _u32(offset), sample)
    return box(b"moof", number, box(b"traf", header, start, run)) + box(b"mdat", data)


def _track(track: Track) -> bytes:
    parameters = track.parameters
    size, volume, kind, header, entry = (
        bytes(8),
        b"\1\0",
        b"soun",
        full_box(b"smhd", 0, 0, bytes(4)),
        b"",
    )
    if isinstance(parameters, VideoParameters):
        size, volume = _u32(parameters.width << 16) + _u32(parameters.height << 16), b"\0\0"
        kind, header = b"vide", full_box(b"vmhd", 0, 1, bytes(8))
        entry = _picture_entry(parameters)
    else:
        entry = _sound_entry(parameters)
    shown = full_box(
        b"tkhd",
        0,
        3,
        bytes(8),
        _u32(track.number),
        bytes(16),
        b"\0\0\0\0",
        volume,
        bytes(2),
        MATRIX,
        size,
    )
    clock = full_box(b"mdhd", 0, 0, bytes(8), _u32(CLOCK_RATE), bytes(4), UNDETERMINED)
    handler = full_box(b"hdlr", 0, 0, bytes(4), kind, bytes(12), b"\0")
    return box(
        b"trak", shown, box(b"mdia", clock, handler, box(b"minf", header, _here(), _samples(entry)))
    )


def _here() -> bytes:
    """The samples are in this very file."""
    return box(b"dinf", full_box(b"dref", 0, 0, _u32(1), full_box(b"url ", 0, 1)))


def _samples(entry: bytes) -> bytes:
    none = (full_box(kind, 0, 0, _u32(0)) for kind in (b"stts", b"stsc", b"stco"))
    return box(
        b"stbl", full_box(b"stsd", 0, 0, _u32(1), entry), full_box(b"stsz", 0, 0, bytes(8)), *none
    )


def _picture_entry(parameters: VideoParameters) -> bytes:
    size = _u16(parameters.width) + _u16(parameters.height)
    # 72 dots an inch, one frame a sample, no name, 24 bits, no colour table: constants of 14496-12, 12.1.3.
    rest = _u32(0x48_0000) * 2 + bytes(4) + _u16(1) + bytes(32) + b"\0\x18\xff\xff"
    configuration = box(b"avcC", parameters.decoder_configuration())
    return box(b"avc1", bytes(6), _u16(1), bytes(16), size, rest, configuration)


def _sound_entry(parameters: AudioParameters) -> bytes:
    # The rate has 16 bits before the point; where it does not fit, the configuration alone says it.
    rate = parameters.rate if parameters.rate < 1 << 16 else 0
    head = (
        bytes(6)
        + _u16(1)
        + bytes(8)
        + _u16(parameters.channels)
        + _u16(16)
        + bytes(4)
        + _u32(rate << 16)
    )
    if parameters.codec is Codec.OPUS:
        return box(b"Opus", head, box(b"dOps", parameters.configuration))
    return box(b"mp4a", head, full_box(b"esds", 0, 0, _elementary_stream(parameters.configuration)))


def _elementary_stream(configuration: bytes) -> bytes:
    """ES_Descriptor > DecoderConfigDescriptor > DecoderSpecificInfo, and SLConfigDescriptor (14496-1, 7.2.6)."""
    specific = _descriptor(5, configuration)
    decoder = _descriptor(4, b"\x40\x15" + bytes(11) + specific)
    return _descriptor(3, b"\0\0\0" + decoder + _descriptor(6, b"\2"))


def _descriptor(tag: int, content: bytes) -> bytes:
    return bytes((tag, len(content))) + content


def _u16(value: int) -> bytes:
    return value.to_bytes(2, "big")


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "big")
