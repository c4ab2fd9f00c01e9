"""The two tables that every transport stream has: PAT (which programs) and PMT (which streams).

Source: ISO/IEC 13818-1, 2.4.4.3 to 2.4.4.10, 2.6 (descriptors). Opus has no stream type of its own:
it is private data with a registration descriptor "Opus", and an extension descriptor that says its
channels, as libavformat and GStreamer write and read it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from attrs import frozen

from trickle_core.mpegts.audio import OPUS_CHANNELS
from trickle_core.mpegts.packets import PIDS
from trickle_core.mpegts.sections import mpeg_crc
from trickle_core.mpegts.units import Codec, ElementaryStream

PAT_PID: Final = 0
_PAT: Final = 0
_PMT: Final = 2
_HEAD: Final = 8
"""Bytes in front of a table's own content: table_id to last_section_number."""
_CRC: Final = 4
_LONGEST: Final = 1021
"""section_length of a PAT or PMT at most."""
_IN_FORCE: Final = 1
"""current_next_indicator: tables without it announce what comes later."""

_CODECS: Final = {
    # Table 2-34. 0x03 and 0x04 are MPEG-1 and MPEG-2 audio, of any layer.
    0x1B: Codec.H264,
    0x24: Codec.H265,
    0x0F: Codec.AAC,
    0x03: Codec.MP2,
    0x04: Codec.MP2,
}
_PRIVATE: Final = 0x06
_STREAM_TYPES: Final = {
    Codec.H264: 0x1B,
    Codec.H265: 0x24,
    Codec.AAC: 0x0F,
    Codec.MP2: 0x03,
    Codec.OPUS: _PRIVATE,
}

_REGISTRATION: Final = 0x05
_EXTENSION: Final = 0x7F
_OPUS: Final = b"Opus"
_OPUS_CHANNELS: Final = 0x80
"""First byte of the extension descriptor (a user defined tag) in front of channel_config_code."""


@frozen
class Program:
    """An entry of the PAT: a program's number, and the PID of its PMT."""

    number: int
    pid: int


def is_sound(section: bytes) -> bool:
    """Whether a section is as long as a table must be and its CRC right."""
    return len(section) >= _HEAD + _CRC and mpeg_crc(section) == 0


def parse_pat(section: bytes) -> Program | None:
    """The first program of a sound PAT; None where this section has none to offer now.

    A PAT of several sections has its first program in section 0. Number 0 is no program: it names
    the network table's PID.
    """
    if section[0] != _PAT or not section[5] & _IN_FORCE or section[6] != 0:
        return None
    content = section[_HEAD:-_CRC]
    entries = (content[at : at + 4] for at in range(0, len(content) - 3, 4))
    programs = (Program(int.from_bytes(e[:2]), _number(e[2:], 0x1FFF)) for e in entries)
    return next((p for p in programs if p.number != 0 and p.pid in PIDS), None)


def parse_pmt(section: bytes, number: int) -> tuple[ElementaryStream, ...] | None:
    """The streams that the project carries, of a sound PMT; None where it is not that program's.

    One PID may carry the PMTs of several programs.
    """
    is_this = section[0] == _PMT and int.from_bytes(section[3:5]) == number
    if not is_this or not section[5] & _IN_FORCE:
        return None
    content = section[_HEAD:-_CRC]
    first = 4 + _number(content[2:4], 0xFFF)
    return tuple(_streams(content[first:]))


def _number(data: bytes, mask: int) -> int:
    return int.from_bytes(data) & mask


def _streams(entries: bytes) -> Iterator[ElementaryStream]:
    while len(entries) >= 5:
        end = 5 + _number(entries[3:5], 0xFFF)
        stream = _stream(entries[0], _number(entries[1:3], 0x1FFF), entries[5:end])
        if stream is not None:
            yield stream
        entries = entries[end:]


def _stream(kind: int, pid: int, descriptors: bytes) -> ElementaryStream | None:
    if kind in _CODECS:
        return ElementaryStream(pid, _CODECS[kind])
    found = dict(_descriptors(descriptors))
    if kind != _PRIVATE or not found.get(_REGISTRATION, b"").startswith(_OPUS):
        return None
    extension = found.get(_EXTENSION, b"")
    if len(extension) < 2 or extension[0] != _OPUS_CHANNELS:
        return ElementaryStream(pid, Codec.OPUS)
    # Other codes are dual mono and layouts that further bytes would describe: nobody sends them.
    channels = extension[1]
    return ElementaryStream(pid, Codec.OPUS, channels) if channels in OPUS_CHANNELS else None


def _descriptors(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 2:
        end = 2 + data[1]
        yield data[0], data[2:end]
        data = data[end:]


def build_pat(program: Program) -> bytes:
    """A PAT of one program."""
    entry = program.number.to_bytes(2) + (0xE000 | program.pid).to_bytes(2)
    return _build(_PAT, 1, 0, entry)


def build_pmt(
    program: Program, streams: Sequence[ElementaryStream], *, clock: int, version: int
) -> bytes:
    """A PMT; ``clock`` is the PID that carries the PCR, ``version`` counts modulo 32.

    Raises ``ValueError`` where the streams do not fit one section (some 60 do).
    """
    content = (0xE000 | clock).to_bytes(2) + b"\xf0\x00" + b"".join(map(_entry, streams))
    return _build(_PMT, program.number, version % 32, content)


def _entry(stream: ElementaryStream) -> bytes:
    descriptors = b""
    if stream.codec is Codec.OPUS:
        # Without a word about channels, two: what an Opus decoder makes of mono and stereo alike.
        told = bytes([_OPUS_CHANNELS, stream.channels or 2])
        descriptors = bytes([_REGISTRATION, 4]) + _OPUS + bytes([_EXTENSION, 2]) + told
    kind = bytes([_STREAM_TYPES[stream.codec]])
    return (
        kind
        + (0xE000 | stream.pid).to_bytes(2)
        + (0xF000 | len(descriptors)).to_bytes(2)
        + descriptors
    )


def _build(kind: int, extension: int, version: int, content: bytes) -> bytes:
    length = _HEAD - 3 + len(content) + _CRC
    if length > _LONGEST:
        raise ValueError(f"a table of {length} bytes does not fit a section of {_LONGEST}")
    head = bytes([kind]) + (0xB000 | length).to_bytes(2) + extension.to_bytes(2)
    body = head + bytes([0xC0 | version << 1 | _IN_FORCE, 0, 0]) + content
    return body + mpeg_crc(body).to_bytes(_CRC)
