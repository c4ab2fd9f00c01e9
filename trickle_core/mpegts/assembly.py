"""The packets of one PID, joined into PES by their continuity, and handed on cut into units.

When is a PES whole? With a length: when the length is reached. Video mostly has none; then

1. when a packet carries stuffing. A muxer fills up a packet when the PES has nothing left for it
   (ISO/IEC 13818-1, 2.4.3.5); libavformat, GStreamer, and OBS and the streaming servers, which use
   the former, stuff nowhere else. This saves the frame of delay that a parser has which waits for
   2.
2. when the next one starts, or the segment ends: the last packet happened to be full.

A publisher that does otherwise (stuffing in the middle, a length that is not true) shows by going
on after such an end. Two units are spoiled; from then on its units end as the next ones start.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from attrs import Factory, define

from trickle_core.mpegts.findings import Damage, DamageReason, TsEvent
from trickle_core.mpegts.framing import Framer
from trickle_core.mpegts.packets import (
    ADAPTED,
    HAS_PAYLOAD,
    HEADER,
    LONGEST_RUN,
    PAYLOAD,
    SCRAMBLED,
    SIZE,
    STARTS,
    TRANSPORT_ERROR,
    UNKNOWN,
    cut_headers_out,
    is_discontinuous,
    is_stuffed,
    payload_of,
    plain_header,
)
from trickle_core.mpegts.pes import LENGTH_END, PREFIX, open_pes
from trickle_core.mpegts.units import AccessUnit

_FORGIVEN: Final = 100
"""Right ends that make up for one wrong end: a broken packet is forgiven, a habit is not."""


class _Stage(Enum):
    """Where a PID stands."""

    WAITING = auto()
    """What comes is of no use before the next start: at the beginning, and after a loss."""
    SCRAMBLED = auto()
    """As above, and it was told why."""
    COUNTED = auto()
    """A PES is open whose length is known."""
    OPEN = auto()
    """A PES is open that ends by stuffing or with the next."""
    WHOLE = auto()
    """The PES was handed on; the next packet must start another."""


_ODD: Final = ~(STARTS | ADAPTED)
"""In these bits the next packet's header is as it was due, whatever is in the packet."""

_UNFINISHED: Final = (_Stage.COUNTED, _Stage.OPEN)


class _Succession(Enum):
    """What a packet's continuity counter says."""

    FOLLOWS = auto()
    REPEATED = auto()
    BROKEN = auto()


@define
class Assembly:
    """Joins the PES of one PID. Holds ``limit`` bytes and one packet at most."""

    framer: Framer
    limit: int
    due: int = UNKNOWN
    """The header that the next packet has if it is nothing but payload."""
    _stage: _Stage = _Stage.WAITING
    _held: bytearray = Factory(bytearray)
    """The PES so far. Kept when it is whole: the last packet may come again."""
    _wanted: int = 0
    """With so many bytes held something must be decided."""
    _damaged: bool = False
    _lost_before: bool = False
    _distrust: int = 0
    """Of what the publisher says about ends: up by ``_FORGIVEN`` with a wrong one, down by 1 with a
    right one."""
    _repeated_at: int = -1
    """How many bytes were held when the last packet came again."""
    _plain: int = UNKNOWN
    """The header of a packet of nothing but payload, with counter 0."""
    _row: bytes = b""
    """The headers of such that follow each other."""

    def __attrs_post_init__(self) -> None:
        self._plain = plain_header(self.framer.stream.pid, 0)
        sixteen = b"".join((self._plain | at).to_bytes(HEADER) for at in range(16))
        self._row = sixteen * (1 + LONGEST_RUN // 16)

    def take(self, packets: memoryview, headers: bytes, at: int) -> int:
        """Take as many packets as go on where it stopped, the first of them at ``at``, which has the
        header that is due; nothing is decided with them. Says how many: nine of ten are such.
        """
        room = (self._wanted - 1 - len(self._held)) // PAYLOAD
        if room <= 0:
            return 0
        counter = self.due & 0xF
        told = headers[HEADER * at : HEADER * (at + room)]
        expected = self._row[HEADER * counter : HEADER * counter + len(told)]
        # Up to the first bit that differs they are the same.
        differing = (int.from_bytes(told) ^ int.from_bytes(expected)).bit_length()
        count = (8 * len(told) - differing) // (8 * HEADER)
        self.due = self._plain | counter + count & 0xF
        start = len(self._held)
        self._held += packets[SIZE * at : SIZE * (at + count)]
        cut_headers_out(self._held, start)
        return count

    def receive(self, header: int, body: bytes, events: list[TsEvent]) -> None:
        """Any packet, one at a time."""
        if (header ^ self.due) & _ODD and not self._is_of_use(header, body, events):
            return
        payload = payload_of(header, body)
        if payload is None:
            return  # unreadable: the next one's counter will tell that it is missing
        self.due = self._plain | header + 1 & 0xF
        if header & STARTS:
            self._start(payload, events)
        else:
            self._held += payload
        if len(self._held) >= self._wanted:
            self._decide(events)
        elif self._stage is _Stage.OPEN and is_stuffed(header, body) and self._is_trusted():
            self._finish(events)

    def flush(self) -> list[TsEvent]:
        """The segment has ended: so has what is open. The next one may count from anywhere.

        A publisher that cuts a file into segments starts a new muxer for each.
        """
        events: list[TsEvent] = []
        if self._stage is _Stage.COUNTED:
            self._damage(DamageReason.TRUNCATED, events)
            self._break_off(_Stage.WAITING, events)
        if self._stage is _Stage.OPEN:
            self._finish(events)
        self.due = UNKNOWN
        self._drop(_Stage.WAITING)
        return events

    def _is_trusted(self) -> bool:
        return self._distrust <= _FORGIVEN

    def _damage(self, reason: DamageReason, events: list[TsEvent]) -> None:
        events.append(Damage(self.framer.stream.pid, reason))

    def _is_of_use(self, header: int, body: bytes, events: list[TsEvent]) -> bool:
        """Whether a packet that is not the one due is to be read; says what is wrong."""
        if header & TRANSPORT_ERROR:
            self._damage(DamageReason.TRANSPORT_ERROR, events)
            return False
        if header & SCRAMBLED:
            self._scramble(events)
            return False
        payload = payload_of(header, body)
        if payload is None:
            return False
        if not header & HAS_PAYLOAD:
            if is_discontinuous(header, body):
                self.due = self._plain | header + 1 & 0xF
            return False
        succession = self._succession(header, body, payload)
        if succession is _Succession.REPEATED:
            self._repeated_at = len(self._held)
        if succession is _Succession.BROKEN:
            self._lose(events, starts=bool(header & STARTS))
        return succession is not _Succession.REPEATED

    def _succession(self, header: int, body: bytes, payload: bytes) -> _Succession:
        """A packet may come twice, then with the same content (2.4.3.3), and never thrice."""
        waits = self._stage not in (*_UNFINISHED, _Stage.WHOLE)
        if waits or self.due == UNKNOWN or header & 0xF == self.due & 0xF:
            return _Succession.FOLLOWS
        is_last = header + 1 & 0xF == self.due & 0xF and self._held.endswith(payload)
        if is_last and self._repeated_at != len(self._held):
            return _Succession.REPEATED
        return _Succession.FOLLOWS if is_discontinuous(header, body) else _Succession.BROKEN

    def _lose(self, events: list[TsEvent], *, starts: bool) -> None:
        """Packets are missing in front of this one.

        A picture with a hole is worth handing on: the decoder conceals. Sound with a hole is not:
        where the frames begin, and when, is unknown up to the next PES.
        """
        self._damage(DamageReason.PACKETS_LOST, events)
        if self._stage in _UNFINISHED and self.framer.stream.codec.is_video and not starts:
            self._damaged = True
            self._stage, self._wanted = _Stage.OPEN, self.limit
        else:
            self._break_off(_Stage.WAITING, events)

    def _scramble(self, events: list[TsEvent]) -> None:
        self.due = UNKNOWN
        if self._stage is not _Stage.SCRAMBLED:
            self._damage(DamageReason.SCRAMBLED, events)
            self._break_off(_Stage.SCRAMBLED, events)

    def _break_off(self, stage: _Stage, events: list[TsEvent]) -> None:
        """What is open will have no end."""
        self._damaged = True
        if self._stage in _UNFINISHED:
            self._finish(events)
        self._drop(stage)
        self._lost_before = True

    def _drop(self, stage: _Stage) -> None:
        self._stage, self._wanted, self._damaged = stage, 0, False
        self._held.clear()

    def _start(self, payload: bytes, events: list[TsEvent]) -> None:
        if self._stage is not _Stage.WHOLE:
            self._end(events)
        elif self._distrust > 0:
            self._distrust -= 1
        self._held = bytearray(payload)
        self._repeated_at = -1
        # The standard allows a start with less than these six bytes; no muxer does it.
        if len(payload) < LENGTH_END or not payload.startswith(PREFIX):
            self._discard(DamageReason.BAD_PES, events)
            return
        length = payload[4] << 8 | payload[5]
        if length and self._is_trusted():
            self._stage, self._wanted = _Stage.COUNTED, LENGTH_END + length
        else:
            self._stage, self._wanted = _Stage.OPEN, self.limit

    def _end(self, events: list[TsEvent]) -> None:
        """The next PES is here, and by the counters nothing is missing: this one is whole."""
        if self._stage is _Stage.COUNTED:
            self._distrust += _FORGIVEN
            self._damage(DamageReason.WRONG_END, events)
            self._finish(events)
        elif self._stage is _Stage.OPEN:
            self._finish(events)

    def _decide(self, events: list[TsEvent]) -> None:
        """As many bytes are held as were wanted, or more than were expected."""
        if self._stage is _Stage.COUNTED:
            self._finish(events)
        elif self._stage is _Stage.OPEN:
            self._discard(DamageReason.OVERSIZED, events)
        elif self._stage is _Stage.WHOLE:
            self._distrust += _FORGIVEN
            self._discard(DamageReason.WRONG_END, events)
        else:
            self._drop(self._stage)
            self._lost_before = True

    def _discard(self, reason: DamageReason, events: list[TsEvent]) -> None:
        self._drop(_Stage.WAITING)
        self._lost_before = True
        self._damage(reason, events)

    def _finish(self, events: list[TsEvent]) -> None:
        """Hand the PES on."""
        pes = open_pes(self._held, self._wanted if self._stage is _Stage.COUNTED else None)
        self._stage, self._wanted = _Stage.WHOLE, 0
        if pes is None:
            self._discard(DamageReason.BAD_PES, events)
            return
        units = self.framer.units(pes, damaged=self._damaged, lost_before=self._lost_before)
        events += units
        self._damaged = False
        self._lost_before = self._lost_before and not any(isinstance(e, AccessUnit) for e in units)
