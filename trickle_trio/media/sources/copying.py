"""Tracks that go out as they are coded: only the wrapping changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import av
from attrs import define, field
from av.bitstream import BitStreamFilterContext
from av.stream import Stream

from trickle_core.mpegts import (
    AccessUnit,
    Codec,
    ElementaryStream,
    ParameterSets,
    is_key,
    nal_type,
    nal_units,
    parameter_sets,
)
from trickle_core.mpegts.nal import START_CODE
from trickle_trio.media.sources.stamps import Placed
from trickle_trio.media.video_encoder import VIDEO_PID

_TO_ANNEX_B: Final = {Codec.H264: "h264_mp4toannexb", Codec.H265: "hevc_mp4toannexb"}
"""libav's filters from length prefixes to start codes; what has start codes passes them unchanged."""

_DELIMITERS: Final = {Codec.H264: 9, Codec.H265: 35}
"""nal_unit_type of the access unit delimiter, which must stay in front."""


@define
class KeptSets:
    """The parameter sets of a track, for key pictures that come without: each is to be decoded alone."""

    codec: Codec
    sets: ParameterSets = field(factory=ParameterSets)

    def complete(self, key: bytes) -> bytes:
        """The key picture with parameter sets: its own, which are kept, or those that were kept last."""
        found = parameter_sets(key, self.codec)
        if found.sps and found.pps:
            self.sets = found
            return key
        units = list(nal_units(key))
        front = 1 if nal_type(units[0][0], self.codec) == _DELIMITERS[self.codec] else 0
        return _joined(units[:front]) + self.sets.annex_b() + _joined(units[front:])


class PictureCopy:
    """H.264 or H.265 as it is, with start codes, and with its parameter sets before each key picture."""

    def __init__(self, codec: Codec) -> None:
        self.stream = ElementaryStream(VIDEO_PID, codec)
        self._kept = KeptSets(codec)

    def begin(self, source: Stream) -> None:
        """A pass over the container begins."""
        codec = self.stream.codec
        self._filter = BitStreamFilterContext(_TO_ANNEX_B[codec], source)
        # They may stand beside the stream alone: in RTSP, and in MP4, where the filter knows only IDR pictures as keys.
        found = described_sets(source.codec_context.extradata or b"", codec)
        self._kept.sets = found if found.sps else self._kept.sets

    def take(self, placed: Placed) -> list[AccessUnit]:
        """The unit of a packet; none where it is broken."""
        damaged = placed.packet.is_corrupt
        try:
            packets = self._filter.filter(placed.packet)
        except av.FFmpegError:
            return []
        return [self._unit(bytes(packet), placed, damaged=damaged) for packet in packets]

    def end_pass(self) -> list[AccessUnit]:
        """Nothing is held."""
        return []

    def finish(self) -> list[AccessUnit]:
        """Nothing is held."""
        return []

    def _unit(self, data: bytes, placed: Placed, *, damaged: bool) -> AccessUnit:
        key = is_key(data, self.stream.codec)
        whole = self._kept.complete(data) if key else data
        return AccessUnit(self.stream, whole, placed.pts, placed.dts, key=key, damaged=damaged)


def described_sets(description: bytes, codec: Codec) -> ParameterSets:
    """The parameter sets in what a container says of a track: with start codes, or as MP4 has them (avcC).

    Source: ISO/IEC 14496-15, 5.3.3.1. H.265's form in MP4 is not read: its filter puts them before every key picture.
    """
    if description[:1] != b"\x01" or codec is not Codec.H264:
        return parameter_sets(description, codec)
    rest = description[5:]
    sps, rest = _counted(rest, 0x1F)
    pps, _ = _counted(rest, 0xFF)
    return ParameterSets(sps=sps, pps=pps)


def _counted(record: bytes, mask: int) -> tuple[tuple[bytes, ...], bytes]:
    """A count and so many NAL units with their lengths; and what follows."""
    count, at, units = int.from_bytes(record[:1]) & mask, 1, []
    for _ in range(count):
        end = at + 2 + int.from_bytes(record[at : at + 2])
        units.append(record[at + 2 : end])
        at = end
    return tuple(unit for unit in units if unit), record[at:]


def _joined(units: list[bytes]) -> bytes:
    return b"".join(START_CODE + unit for unit in units)


class SoundCopy:
    """Coded sound as it is; ``wrap`` puts in front of each frame what it has in a transport stream."""

    def __init__(self, stream: ElementaryStream, wrap: Callable[[bytes], bytes] = bytes) -> None:
        self.stream = stream
        self._wrap = wrap

    def begin(self, source: Stream) -> None:
        """A pass over the container begins: the coding is the same."""

    def take(self, placed: Placed) -> list[AccessUnit]:
        """The unit of a packet; none of what is there to start a decoder and not to be heard.

        In a loop, that would overlap with the end of the pass before.
        """
        if placed.packet.is_discard:
            return []
        try:
            data = self._wrap(bytes(placed.packet))
        except ValueError:  # a frame that no header can describe: broken
            return []
        return [AccessUnit(self.stream, data, placed.dts, placed.dts, key=True)]

    def end_pass(self) -> list[AccessUnit]:
        """Nothing is held."""
        return []

    def finish(self) -> list[AccessUnit]:
        """Nothing is held."""
        return []
