"""What a segment holds, by its first bytes: a transport stream, or another container's beginning.

By its bytes and not by what the channel says of itself, which is what somebody typed. That counts
only where the bytes say nothing.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from trickle_core import wire

PACKET: Final = 188
SYNC: Final = b"G"

HEAD: Final = PACKET + 1
"""Bytes that tell: a packet of a transport stream, and the beginning of the next."""

_EBML: Final = b"\x1a\x45\xdf\xa3"
"""Matroska and WebM (RFC 8794, 11.2.1)."""
_FLV: Final = b"FLV"
_OGG: Final = b"OggS"
_OGG_FIRST: Final = 2
"""Flag of the pages with which a stream begins, in byte 5 (RFC 3533, 6): every page has the same magic."""
_MP4: Final = (b"ftyp", b"moov")
"""Boxes that files and initialisation segments begin with, behind their length (ISO/IEC 14496-12, 4.3)."""

_SAYS_NOTHING: Final = ("", wire.MPEG_TS, "application/octet-stream")


class Form(Enum):
    """What the bytes are."""

    TRANSPORT = auto()
    CONTAINER = auto()
    """A container begins."""
    OPEN = auto()
    """They say nothing: they go on with what there was, or are broken."""


def form_of(head: bytes) -> Form:
    """Say what a segment is that begins so."""
    if head.startswith(SYNC) and head[PACKET : PACKET + 1] in (SYNC, b""):
        return Form.TRANSPORT
    return Form.CONTAINER if _begins_container(head) else Form.OPEN


def names_container(mime_type: str | None) -> bool:
    """Whether what a channel says of itself is something else than a transport stream."""
    return (mime_type or "").partition(";")[0].strip().lower() not in _SAYS_NOTHING


def _begins_container(head: bytes) -> bool:
    if head.startswith(_OGG):
        return bool(head[5] & _OGG_FIRST) if len(head) > 5 else False
    return head.startswith((_EBML, _FLV)) or head[4:8] in _MP4
