"""H.264 and H.265 as they travel in a transport stream: NAL units behind start codes.

Sources: ITU-T H.264 and H.265, annex B (the byte stream), 7.3.1 and 7.4.2 (NAL unit types), annex D
(SEI). Nothing here looks past the first slice of a picture but what asks for it by name: a picture
has some ten thousand bytes, and the first slice stands within the first hundred or so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from attrs import frozen

from trickle_core.mpegts.units import Codec

START_CODE: Final = b"\x00\x00\x00\x01"
"""As it is written. Read is the three-byte form too, which is legal but in front of the first NAL
unit and the parameter sets."""

_PREFIX: Final = b"\x00\x00\x01"

# H.264, table 7-1.
_AVC_SLICES: Final = range(1, 6)
_AVC_KEYS: Final = range(5, 6)
"""IDR."""
_AVC_SEI: Final = 6
_AVC_SPS: Final = 7
_AVC_PPS: Final = 8
_AVC_DELIMITER: Final = (0x1F, 9)
"""The bits of the header byte that say the type, and what they are."""

# H.265, table 7-1. 0 to 31 are slices, 16 to 23 those of pictures where decoding can start (IRAP).
_HEVC_SLICES: Final = range(32)
_HEVC_KEYS: Final = range(16, 24)
_HEVC_VPS: Final = 32
_HEVC_SPS: Final = 33
_HEVC_PPS: Final = 34
_HEVC_DELIMITER: Final = (0x7E, 35 << 1)

_RECOVERY_POINT: Final = 6
"""payloadType of the recovery point SEI message (H.264, D.1.8): streams of intra refresh and open
GOPs have it where others have an IDR picture."""

_SEI_MOST: Final = 1 << 12
"""Bytes of one SEI NAL unit that are looked at. Encoders put the recovery point first; captions and
their own boasts, which may be long, follow."""

DELIMITERS: Final = {
    # primary_pic_type 7 and pic_type 2: the picture may hold slices of any type.
    Codec.H264: START_CODE + b"\x09\xf0",
    Codec.H265: START_CODE + b"\x46\x01\x50",
}
"""Access unit delimiters that say nothing about the picture."""


@frozen
class ParameterSets:
    """The parameter sets in front of a key picture, each without its start code.

    ``vps`` is empty for H.264.
    """

    vps: tuple[bytes, ...] = ()
    sps: tuple[bytes, ...] = ()
    pps: tuple[bytes, ...] = ()

    def annex_b(self) -> bytes:
        """All of them with start codes: the form that decoders take as extradata."""
        return b"".join(START_CODE + nal for nal in (*self.vps, *self.sps, *self.pps))


def nal_units(data: bytes) -> Iterator[bytes]:
    """Each NAL unit without its start code.

    Zeros at its end belong to the next start code or are padding: no NAL unit ends with one
    (H.264, 7.4.1).
    """
    start = data.find(_PREFIX)
    while start >= 0:
        end = data.find(_PREFIX, start + 3)
        nal = data[start + 3 : len(data) if end < 0 else end].rstrip(b"\x00")
        if nal:
            yield nal
        start = end


def nal_type(header: int, codec: Codec) -> int:
    """``nal_unit_type`` of a NAL unit, from its first byte."""
    return header & 0x1F if codec is Codec.H264 else header >> 1 & 0x3F


def is_slice(kind: int, codec: Codec) -> bool:
    """Whether a NAL unit of this type carries picture (VCL)."""
    return kind in (_AVC_SLICES if codec is Codec.H264 else _HEVC_SLICES)


def is_key(data: bytes, codec: Codec) -> bool:
    """Whether decoding can start at this picture: IDR, IRAP, or a recovery point."""
    is_avc, recovers = codec is Codec.H264, False
    slices, keys = (_AVC_SLICES, _AVC_KEYS) if is_avc else (_HEVC_SLICES, _HEVC_KEYS)
    at = data.find(_PREFIX) + 3
    while 3 <= at < len(data):
        kind = data[at] & 0x1F if is_avc else data[at] >> 1 & 0x3F
        if kind in slices:
            return recovers or kind in keys
        if kind == _AVC_SEI and not recovers:  # in H.265 that is a slice
            recovers = _RECOVERY_POINT in _sei_types(data, at + 1)
        at = data.find(_PREFIX, at) + 3
    return False


def _sei_types(data: bytes, start: int) -> Iterator[int]:
    """The payloadTypes of the SEI messages in one NAL unit (H.264, 7.3.2.3.1)."""
    end = data.find(_PREFIX, start, start + _SEI_MOST)
    # Emulation prevention bytes are not counted in payloadSize (7.4.1).
    nal = data[start : start + _SEI_MOST if end < 0 else end]
    rest = nal.replace(b"\x00\x00\x03", b"\x00\x00")
    at = 0
    while at < len(rest) - 2:
        kind, at = _chained(rest, at)
        size, at = _chained(rest, at)
        yield kind
        at += size


def _chained(data: bytes, at: int) -> tuple[int, int]:
    """A number written as a run of 255 and a last byte below that; and where it ends."""
    last = at
    while data[last : last + 1] == b"\xff":
        last += 1
    return 255 * (last - at) + int.from_bytes(data[last : last + 1]), last + 1


def parameter_sets(data: bytes, codec: Codec) -> ParameterSets:
    """The parameter sets in front of the first slice; all empty where there are none."""
    found: dict[int, list[bytes]] = {}
    for nal in nal_units(data):
        kind = nal_type(nal[0], codec)
        if is_slice(kind, codec):
            break
        found.setdefault(kind, []).append(nal)
    kinds = (-1, _AVC_SPS, _AVC_PPS) if codec is Codec.H264 else (_HEVC_VPS, _HEVC_SPS, _HEVC_PPS)
    return ParameterSets(*(tuple(found.get(kind, ())) for kind in kinds))


def with_delimiter(data: bytes, codec: Codec) -> bytes:
    """The picture with an access unit delimiter in front; as it is where it has one.

    ISO/IEC 13818-1, 2.14.1 and 2.17.1 demand one of H.264 and H.265 in transport streams. Apple's
    players refuse streams without, and parsers find the end of a picture sooner with.
    """
    at = data.find(_PREFIX, 0, 7) + 3  # it is the first NAL unit, or it is none
    mask, wanted = _AVC_DELIMITER if codec is Codec.H264 else _HEVC_DELIMITER
    if 3 <= at < len(data) and data[at] & mask == wanted:
        return data
    return DELIMITERS[codec] + data
