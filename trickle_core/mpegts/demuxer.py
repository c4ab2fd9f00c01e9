"""Bytes of a transport stream in, access units out.

The way of a byte: found in step (``Demuxer``), sorted by PID, joined to a PES (``assembly``), cut
into units (``framing``). Whatever the bytes are, nothing raises and what is held is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum, auto
from typing import Final

from trickle_core.mpegts.assembly import Assembly
from trickle_core.mpegts.findings import Damage, DamageReason, ProgramMap, TsEvent
from trickle_core.mpegts.framing import framer
from trickle_core.mpegts.packets import (
    HEADER,
    LONGEST_RUN,
    NULL_PID,
    PACKET,
    PIDS,
    SIZE,
    headers_of,
)
from trickle_core.mpegts.pes import LENGTH_END, LONGEST
from trickle_core.mpegts.sections import SectionReader
from trickle_core.mpegts.tables import PAT_PID, Program, is_sound, parse_pat, parse_pmt
from trickle_core.mpegts.units import ElementaryStream

MAX_UNIT_BYTES: Final = 16 << 20
"""Default bound of one video unit: dozens of 4K key frames of a live stream."""

MAX_TRACKS: Final = 16
"""Streams of one program that are delivered; with the bound above it bounds the memory."""

_FEW: Final = 3
"""Packets that are sooner taken one by one."""

_IN_STEP: Final = re.compile(rb"G(?=.{187}G.{187}G)", re.DOTALL)
"""Three sync bytes (0x47) at a packet's distance. Two happen by chance in 64 KiB of anything."""
_AT_THE_END: Final = re.compile(rb"G(?=.{187}(?:G|\Z))", re.DOTALL)
"""What must do where no more bytes will come."""
_NEEDED: Final = 2 * SIZE
"""Bytes behind a sync byte that confirm it."""


class _Sync(Enum):
    UNSEEN = auto()
    """No packet was found yet in this segment, nor anything else."""
    LOST = auto()
    """Bytes were dropped that are no packets; it was told."""
    LOCKED = auto()


_NO_PROGRAM: Final = Program(0, NULL_PID)


class Demuxer:
    """Takes one transport stream apart: the first program, all streams that the project carries.

    A unit is given out with the packet that ends it; see ``assembly`` for when that is. ``pts`` and
    ``dts`` of the units have 33 bits and wrap. Neither call blocks or raises, whatever the bytes.
    """

    def __init__(self, *, max_unit_bytes: int = MAX_UNIT_BYTES) -> None:
        """``max_unit_bytes``: a video unit above is thrown away. Audio has 64 KiB at most."""
        if max_unit_bytes < LONGEST:
            raise ValueError(f"max_unit_bytes is {max_unit_bytes}, below the {LONGEST} of one PES")
        self._max_unit_bytes = max_unit_bytes
        self._sync = _Sync.UNSEEN
        self._held = b""
        self._readers = {PAT_PID: SectionReader()}
        self._adopted: dict[int, bytes] = {}
        self._program = _NO_PROGRAM
        self._streams: tuple[ElementaryStream, ...] | None = None
        self._tracks: dict[int, Assembly] = {}

    def feed(self, data: bytes | memoryview) -> list[TsEvent]:
        """The next bytes, as many as there are; what they complete, in their order."""
        events: list[TsEvent] = []
        view = memoryview(self._held + data if self._held else data)
        pos, end = 0, len(view)
        while end - pos >= SIZE:
            if self._sync is not _Sync.LOCKED:
                pos = self._search(view, pos, _IN_STEP, _NEEDED, events)
                if not self._is_locked():
                    break
            pos = self._advance(view, pos, events)
        self._held = bytes(view[pos:]) if pos < end else b""
        return events

    def flush(self) -> list[TsEvent]:
        """The segment has ended: units that had no end of their own are complete.

        The next one may start at once, and be of another muxer: its counters may start anew.
        """
        events: list[TsEvent] = []
        view = memoryview(self._held)
        pos = 0
        if not self._is_locked():
            pos = self._search(view, pos, _AT_THE_END, 0, events)
        while self._is_locked() and len(view) - pos >= SIZE:
            pos = self._advance(view, pos, events)
        if pos < len(view):
            events.append(Damage(None, DamageReason.TRUNCATED))
        for track in self._tracks.values():
            events += track.flush()
        self._held = b""
        if not self._is_locked():
            self._sync = _Sync.UNSEEN
        return events

    def _is_locked(self) -> bool:
        return self._sync is _Sync.LOCKED

    def _search(
        self,
        view: memoryview,
        pos: int,
        pattern: re.Pattern[bytes],
        kept: int,
        events: list[TsEvent],
    ) -> int:
        """Where the first packet begins, or the bytes that may yet turn out to be one."""
        found = pattern.search(view, pos)
        at = found.start() if found else max(pos, len(view) - kept)
        if at > pos:
            self._lose_step(events)
        if found:
            self._sync = _Sync.LOCKED
        return at

    def _lose_step(self, events: list[TsEvent]) -> None:
        if self._sync is not _Sync.LOST:
            events.append(Damage(None, DamageReason.SYNC_LOST))
        self._sync = _Sync.LOST

    def _advance(self, view: memoryview, pos: int, events: list[TsEvent]) -> int:
        """Carry out the packets that are in step, up to a run of them.

        Not more, so that bytes which only look like packets now and then cannot make the work grow
        with the square of their number.
        """
        count = min((len(view) - pos) // SIZE, LONGEST_RUN)
        packets = view[pos : pos + count * SIZE]
        headers = headers_of(packets)
        strays = headers[::HEADER].lstrip(b"G")
        in_step = count - len(strays)
        self._sort(packets, headers, in_step, events)
        if strays:
            self._lose_step(events)
        return pos + in_step * SIZE

    def _sort(self, packets: memoryview, headers: bytes, count: int, events: list[TsEvent]) -> None:
        """Hand so many packets to their tracks: all that go on where the last one stopped together."""
        at = 0
        while at < count:
            header, body = PACKET.unpack_from(packets, at * SIZE)
            pid = header >> 8 & NULL_PID
            track = self._tracks.get(pid)
            if track is None:
                if pid in self._readers:
                    for section in self._readers[pid].read(header, body):
                        events += self._adopt(pid, section)
            elif (
                header == track.due
                and count - at > _FEW
                and (run := track.take(packets, headers, at))
            ):
                at += run
                continue
            else:
                track.receive(header, body, events)
            at += 1

    def _adopt(self, pid: int, section: bytes) -> list[TsEvent]:
        # Tables are sent again all the time: what is there byte for byte is not looked at.
        if section == self._adopted.get(pid):
            return []
        if not is_sound(section):
            return [Damage(pid, DamageReason.BAD_SECTION)]
        self._adopted[pid] = section
        return self._adopt_pat(section) if pid == PAT_PID else self._adopt_pmt(section)

    def _adopt_pat(self, section: bytes) -> list[TsEvent]:
        program = parse_pat(section)
        if program is not None and program != self._program:
            self._program = program
            self._readers = {PAT_PID: self._readers[PAT_PID], program.pid: SectionReader()}
            self._adopted = {PAT_PID: section}
        return []

    def _adopt_pmt(self, section: bytes) -> list[TsEvent]:
        streams = parse_pmt(section, self._program.number)
        if streams is None or streams == self._streams:
            return []
        self._streams = streams
        before, self._tracks = self._tracks, {}
        for stream in self._deliverable(streams):
            self._tracks[stream.pid] = self._kept(before, stream) or self._track(stream)
        carried = tuple(track.framer.stream for track in self._tracks.values())
        ended = [event for track in before.values() for event in track.flush()]
        return [*ended, ProgramMap(carried)]

    def _deliverable(self, streams: Iterable[ElementaryStream]) -> list[ElementaryStream]:
        found: dict[int, ElementaryStream] = {}
        for stream in streams:
            if stream.pid in PIDS and stream.pid not in self._readers:
                found.setdefault(stream.pid, stream)
        return [*found.values()][:MAX_TRACKS]

    def _track(self, stream: ElementaryStream) -> Assembly:
        limit = self._max_unit_bytes if stream.codec.is_video else LENGTH_END + LONGEST
        return Assembly(framer(stream), limit)

    @staticmethod
    def _kept(before: dict[int, Assembly], stream: ElementaryStream) -> Assembly | None:
        track = before.get(stream.pid)
        if track is None or track.framer.stream != stream:
            return None
        return before.pop(stream.pid)
