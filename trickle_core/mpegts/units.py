"""What a transport stream carries, once it is taken apart: elementary streams and their access units."""

from __future__ import annotations

from enum import Enum
from typing import Final

from attrs import frozen

CLOCK_RATE: Final = 90_000
"""Ticks a second of PTS and DTS (ISO/IEC 13818-1, 2.4.3.7)."""

CLOCK_WRAP: Final = 1 << 33
"""PTS and DTS have 33 bits: the clock starts again from 0 after 26.5 hours."""


class Codec(Enum):
    """The codings that the project carries. The values are libavcodec's names."""

    H264 = "h264"
    H265 = "hevc"
    AAC = "aac"
    OPUS = "opus"
    MP2 = "mp2"

    is_video: bool
    """Whether its access units are pictures. Asked for each unit at every station, so it is kept."""

    def __init__(self, name: str) -> None:
        self.is_video = name in ("h264", "hevc")


@frozen
class ElementaryStream:
    """One track of a program.

    ``channels`` is known from the container for Opus alone (its descriptor says it), ``None`` elsewhere.
    """

    pid: int
    codec: Codec
    channels: int | None = None


@frozen
class AccessUnit:
    """One coded picture, or one coded audio frame.

    ``data`` is H.264/H.265 with start codes (Annex B), AAC with its ADTS header, MP2 with its
    header, or a bare Opus packet. ``pts`` and ``dts`` are in 1/90000 s; as the demuxer gives them
    they have 33 bits and wrap, behind a ``Timeline`` they are unbounded and rise. ``dts`` equals
    ``pts`` where the wire gives none. ``key``: decoding can start here. ``damaged``: packets of this
    unit were lost; ``lost_before``: something between the unit before and this one was.
    """

    stream: ElementaryStream
    data: bytes
    pts: int
    dts: int
    key: bool = False
    damaged: bool = False
    lost_before: bool = False
