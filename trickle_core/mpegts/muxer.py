"""Access units in, packets of a transport stream out, at once: nothing waits for another stream.

Source: ISO/IEC 13818-1, 2.4.3 and 2.7. What receivers get that other muxers do not give them: the
length of a picture where it fits, and stuffing at the end of every one where it does not, so that a
receiver knows the end of a picture with its last packet and not with the next picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import define

from trickle_core.errors import LocalProtocolError
from trickle_core.mpegts.audio import opus_control_header
from trickle_core.mpegts.clock import LEAD, ProgramClock
from trickle_core.mpegts.nal import with_delimiter
from trickle_core.mpegts.packets import (
    ADAPTED,
    HAS_PAYLOAD,
    HEADER,
    LONGEST_RUN,
    NULL_PID,
    PAYLOAD,
    PIDS,
    RANDOM_ACCESS,
    SIZE,
    STARTS,
    STUFFING,
    adaptation,
    full_payloads,
    plain_header,
    stretched,
)
from trickle_core.mpegts.pes import LENGTH_END, LONGEST, pes_header
from trickle_core.mpegts.tables import PAT_PID, Program, build_pat, build_pmt
from trickle_core.mpegts.units import AccessUnit, Codec, ElementaryStream

_PROGRAM: Final = 1
_PMT_PID: Final = 0x1000
"""libavformat's choice; the next free one where a stream has it."""

# Table 2-22. Opus is private data in the eyes of the standard.
_VIDEO_ID: Final = 0xE0
_AUDIO_ID: Final = 0xC0
_PRIVATE_ID: Final = 0xBD

_LONGEST_AUDIO: Final = LONGEST - 300
"""Bytes: what a PES can count, less its header and Opus' own."""

_FLAGS: Final = HEADER - 1
"""The last byte of a packet's header: what the packet holds, and its counter."""
_COUNTERS: Final = bytes(HAS_PAYLOAD | at & 0xF for at in range(16 + LONGEST_RUN))
"""That byte of packets of nothing but payload that follow each other, from counter 0 on."""


@define
class _Lane:
    """The packets of one PID, counted on and on."""

    pid: int
    counter: int = 0
    _header: bytes = b""
    """That of a packet of nothing but payload, but for the counter."""

    def __attrs_post_init__(self) -> None:
        self._header = plain_header(self.pid, 0).to_bytes(HEADER)

    def pack(self, field: bytes, head: bytes, content: bytes) -> bytes:
        """The packets of one unit, ``head`` in front of its content; ``field``: the adaptation field
        of the first.

        All packets get the same header at once, and then what is different: the counters, and the
        flags of the first and the last.
        """
        length, room = len(content), PAYLOAD - len(field) - len(head)
        if length < room:
            field = stretched(field, room - length)
            room = length
        parts = [b"", field + head + content[:room], *full_payloads(content, room)]
        rest = (length - room) % PAYLOAD
        if rest:
            parts.append(STUFFING[PAYLOAD - rest] + content[-rest:])
        packets = bytearray(self._header).join(parts)
        count, start = len(parts) - 1, self.counter
        counters = _COUNTERS if count <= LONGEST_RUN else _COUNTERS * (count // LONGEST_RUN + 1)
        packets[_FLAGS::SIZE] = counters[start : start + count]
        self.counter = start + count & 0xF
        packets[1] |= STARTS >> 16
        if field:
            packets[_FLAGS] |= ADAPTED
        if rest:
            packets[_FLAGS - SIZE] |= ADAPTED
        return bytes(packets)

    def bare(self, field: bytes) -> bytes:
        """A packet of nothing but an adaptation field; such are not counted (2.4.3.3)."""
        header = plain_header(self.pid, self.counter - 1) & ~HAS_PAYLOAD | ADAPTED
        return header.to_bytes(HEADER) + stretched(field, PAYLOAD - len(field))


class Muxer:
    """Writes one program. One for a whole output: its counters and its clock run on over segments.

    Units of each stream in the order of their dts; streams may interleave as they come. Nothing is
    held: what ``write`` returns is the whole unit.
    """

    def __init__(self, streams: Sequence[ElementaryStream], *, lead: int = LEAD) -> None:
        """``lead``: how far the program clock runs ahead of the units' dts, in 1/90000 s.

        Raises ``LocalProtocolError`` for streams that cannot be one program; see ``change``.
        """
        self._lanes: dict[int, _Lane] = {}
        self._version = -1
        self._clock = ProgramClock(NULL_PID, lead)
        self.change(streams)

    def change(self, streams: Sequence[ElementaryStream]) -> None:
        """The program consists of these streams from the next tables on.

        Raises ``LocalProtocolError`` where there are none, a PID is taken twice or is none that a
        stream may have (0x20 to 0x1ffe), or the table would not fit a section (some 60 streams).
        """
        pids = [stream.pid for stream in streams]
        if not pids or len(set(pids)) < len(pids) or any(pid not in PIDS for pid in pids):
            raise LocalProtocolError(f"no program can have streams with the PIDs {pids}")
        program = Program(_PROGRAM, next(p for p in range(_PMT_PID, PIDS.stop) if p not in pids))
        clock = next((stream.pid for stream in streams if stream.codec.is_video), pids[0])
        try:
            pmt = build_pmt(program, streams, clock=clock, version=self._version + 1)
        except ValueError as error:
            raise LocalProtocolError(str(error)) from error
        self._version += 1
        self._tables = {PAT_PID: build_pat(program), program.pid: pmt}
        self._streams = {stream.pid: stream for stream in streams}
        self._clock.pid = clock
        for pid in (*self._tables, *self._streams):
            self._lanes.setdefault(pid, _Lane(pid))

    def tables(self) -> bytes:
        """PAT and PMT, for the start of each segment: where a receiver may join."""
        # pointer_field 0: the section starts at once. What is behind it is filled with 0xff, and
        # not by stuffing, which would be legal too: so do all the others.
        contents = ((pid, b"\x00" + section) for pid, section in self._tables.items())
        padded = ((pid, content + b"\xff" * (-len(content) % PAYLOAD)) for pid, content in contents)
        return b"".join(self._lanes[pid].pack(b"", b"", content) for pid, content in padded)

    def write(self, unit: AccessUnit) -> bytes:
        """The packets of one unit, and those of the clock that are due before it.

        ``pts`` and ``dts`` in 1/90000 s, of any size: they are written modulo 33 bits. Raises
        ``LocalProtocolError`` for a unit of no stream of this muxer, a pts before its dts, and an
        audio frame that no PES can hold.
        """
        stream = unit.stream
        known, is_video = self._streams.get(stream.pid), stream.codec.is_video
        if (
            (known is not stream and known != stream)
            or unit.pts < unit.dts
            or (not is_video and len(unit.data) > _LONGEST_AUDIO)
        ):
            raise self._refusal(unit)
        ticks = self._clock.tick(unit)
        flags = RANDOM_ACCESS if is_video and unit.key else 0
        field = b"" if ticks.own is None and not flags else adaptation(flags, ticks.own)
        head, data = _picture(unit, len(field)) if is_video else _sound(unit)
        lane = self._lanes[stream.pid]
        if not ticks.before:
            return lane.pack(field, head, data)
        clock = self._lanes[self._clock.pid]
        before = [clock.bare(adaptation(0, pcr)) for pcr in ticks.before]
        return b"".join([*before, lane.pack(field, head, data)])

    def _refusal(self, unit: AccessUnit) -> LocalProtocolError:
        """Why a unit cannot be written."""
        if self._streams.get(unit.stream.pid) != unit.stream:
            return LocalProtocolError(f"a unit of {unit.stream}, which this muxer does not have")
        if unit.pts < unit.dts:
            return LocalProtocolError(f"a unit that is shown at {unit.pts}, decoded at {unit.dts}")
        return LocalProtocolError(f"an audio frame of {len(unit.data)} bytes, too long for a PES")


def _picture(unit: AccessUnit, field: int) -> tuple[bytes, bytes]:
    """The PES of a picture, its header and its data, behind an adaptation field of ``field`` bytes."""
    data = with_delimiter(unit.data, unit.stream.codec)
    head = pes_header(_VIDEO_ID, len(data), unit.pts, unit.dts)
    is_full = (field + len(head) + len(data)) % PAYLOAD == 0
    if is_full and not any(head[4:LENGTH_END]):
        # No length, and no room for the stuffing that would tell the end: one byte makes some.
        head = pes_header(_VIDEO_ID, len(data), unit.pts, unit.dts, spare=1)
    return head, data


def _sound(unit: AccessUnit) -> tuple[bytes, bytes]:
    """The PES of an audio frame, its header and its data."""
    data, stream_id = unit.data, _AUDIO_ID
    if unit.stream.codec is Codec.OPUS:
        data, stream_id = opus_control_header(len(data)) + data, _PRIVATE_ID
    return pes_header(stream_id, len(data), unit.pts, unit.dts), data
