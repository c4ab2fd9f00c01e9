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

from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

from attrs import Factory, define

from trickle_core.mpegts.findings import Damage, DamageReason, TsEvent
from trickle_core.mpegts.framing import Framer
from trickle_core.mpegts.packets import (
    HAS_PAYLOAD,
    LONGEST_RUN,
    PAYLOAD,
    SCRAMBLED,
    SIZE,
    STARTS,
    TRANSPORT_ERROR,
    UNKNOWN,
    Cargo,
    bodies_of,
    cargo,
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
    _plain: tuple[int, ...] = ()
    """The headers of packets of nothing but payload that follow each other, from counter 0 on."""

    def __attrs_post_init__(self) -> None:
        pid = self.framer.stream.pid
        self._plain = tuple(plain_header(pid, at) for at in range(16 + LONGEST_RUN))

    def count_due(self, headers: Sequence[int]) -> int:
        """With how many packets in a row it goes on where it stopped, by their headers."""
        start = self.due & 0xF
        low, high = 0, len(headers) if headers[0] == self.due else 0
        while low < high:
            middle = (low + high + 1) // 2
            if headers[low:middle] == self._plain[start + low : start + middle]:
                low = middle
            else:
                high = middle - 1
        return low

    def take(self, packets: memoryview) -> Sequence[TsEvent]:
        """Packets that were ``count_due``: nine of ten are such, so all are joined in one go."""
        count = len(packets) // SIZE
        bodies = bodies_of(count).unpack(packets)
        if len(self._held) + count * PAYLOAD < self._wanted:
            self.due = self.due & ~0xF | self.due + count & 0xF
            self._held += b"".join(bodies)
            return ()
        return [event for body in bodies for event in self._take_one(body)]

    def _take_one(self, body: bytes) -> Sequence[TsEvent]:
        self.due = self.due & ~0xF | self.due + 1 & 0xF
        self._held += body
        if len(self._held) < self._wanted:
            return ()
        return self._decide()

    def receive(self, header: int, body: bytes) -> Sequence[TsEvent]:
        """Any other packet."""
        if header & TRANSPORT_ERROR:
            return [self._damage(DamageReason.TRANSPORT_ERROR)]
        if header & SCRAMBLED:
            return self._scramble()
        load = cargo(header, body)
        if load is None:
            return ()  # unreadable: the next one's counter will tell that it is missing
        if header & HAS_PAYLOAD:
            return self._load(header, load)
        if load.discontinuity:
            self._expect(header + 1)
        return ()

    def flush(self) -> list[TsEvent]:
        """The segment has ended: so has what is open. The next one may count from anywhere.

        A publisher that cuts a file into segments starts a new muxer for each.
        """
        events: list[TsEvent] = []
        if self._stage is _Stage.COUNTED:
            events += [self._damage(DamageReason.TRUNCATED), *self._break_off(_Stage.WAITING)]
        if self._stage is _Stage.OPEN:
            events += self._finish()
        self.due = UNKNOWN
        self._drop(_Stage.WAITING)
        return events

    def _is_trusted(self) -> bool:
        return self._distrust <= _FORGIVEN

    def _damage(self, reason: DamageReason) -> Damage:
        return Damage(self.framer.stream.pid, reason)

    def _expect(self, counter: int) -> None:
        self.due = plain_header(self.framer.stream.pid, counter)

    def _load(self, header: int, load: Cargo) -> Sequence[TsEvent]:
        succession = self._succession(header, load)
        if succession is _Succession.REPEATED:
            self._repeated_at = len(self._held)
            return ()
        self._expect(header + 1)
        starts = bool(header & STARTS)
        events = self._lose(starts=starts) if succession is _Succession.BROKEN else []
        events += self._start(load.payload) if starts else self._grow(load.payload)
        if load.stuffed and self._stage is _Stage.OPEN and self._is_trusted():
            events += self._finish()
        return events

    def _succession(self, header: int, load: Cargo) -> _Succession:
        """A packet may come twice, then with the same content (2.4.3.3), and never thrice."""
        waits = self._stage not in (*_UNFINISHED, _Stage.WHOLE)
        if waits or self.due == UNKNOWN or header & 0xF == self.due & 0xF:
            return _Succession.FOLLOWS
        is_last = header + 1 & 0xF == self.due & 0xF and self._held.endswith(load.payload)
        if is_last and self._repeated_at != len(self._held):
            return _Succession.REPEATED
        return _Succession.FOLLOWS if load.discontinuity else _Succession.BROKEN

    def _lose(self, *, starts: bool) -> list[TsEvent]:
        """Packets are missing in front of this one.

        A picture with a hole is worth handing on: the decoder conceals. Sound with a hole is not:
        where the frames begin, and when, is unknown up to the next PES.
        """
        events: list[TsEvent] = [self._damage(DamageReason.PACKETS_LOST)]
        if self._stage in _UNFINISHED and self.framer.stream.codec.is_video and not starts:
            self._damaged = True
            self._stage, self._wanted = _Stage.OPEN, self.limit
            return events
        return events + self._break_off(_Stage.WAITING)

    def _scramble(self) -> list[TsEvent]:
        self.due = UNKNOWN
        if self._stage is _Stage.SCRAMBLED:
            return []
        return [self._damage(DamageReason.SCRAMBLED), *self._break_off(_Stage.SCRAMBLED)]

    def _break_off(self, stage: _Stage) -> list[TsEvent]:
        """What is open will have no end."""
        self._damaged = True
        events = self._finish() if self._stage in _UNFINISHED else []
        self._drop(stage)
        self._lost_before = True
        return events

    def _drop(self, stage: _Stage) -> None:
        self._stage, self._wanted, self._damaged = stage, 0, False
        self._held.clear()

    def _start(self, payload: bytes) -> list[TsEvent]:
        events = self._end()
        self._held = bytearray(payload)
        self._repeated_at = -1
        # The standard allows a start with less than these six bytes; no muxer does it.
        if len(payload) < LENGTH_END or not payload.startswith(PREFIX):
            return [*events, *self._discard(DamageReason.BAD_PES)]
        length = int.from_bytes(payload[4:LENGTH_END])
        if length and self._is_trusted():
            self._stage, self._wanted = _Stage.COUNTED, LENGTH_END + length
        else:
            self._stage, self._wanted = _Stage.OPEN, self.limit
        return [*events, *self._grow(b"")]

    def _end(self) -> list[TsEvent]:
        """The next PES is here, and by the counters nothing is missing: this one is whole."""
        if self._stage is _Stage.COUNTED:
            self._distrust += _FORGIVEN
            return [self._damage(DamageReason.WRONG_END), *self._finish()]
        if self._stage is _Stage.OPEN:
            return self._finish()
        if self._stage is _Stage.WHOLE:
            self._distrust = max(0, self._distrust - 1)
        return []

    def _grow(self, payload: bytes) -> list[TsEvent]:
        self._held += payload
        return [] if len(self._held) < self._wanted else self._decide()

    def _decide(self) -> list[TsEvent]:
        """As many bytes are held as were wanted, or more than were expected."""
        if self._stage is _Stage.COUNTED:
            return self._finish()
        if self._stage is _Stage.OPEN:
            return self._discard(DamageReason.OVERSIZED)
        if self._stage is _Stage.WHOLE:
            self._distrust += _FORGIVEN
            return self._discard(DamageReason.WRONG_END)
        self._drop(self._stage)
        self._lost_before = True
        return []

    def _discard(self, reason: DamageReason) -> list[TsEvent]:
        self._drop(_Stage.WAITING)
        self._lost_before = True
        return [self._damage(reason)]

    def _finish(self) -> list[TsEvent]:
        """Hand the PES on."""
        pes = open_pes(self._held, self._wanted if self._stage is _Stage.COUNTED else None)
        self._stage, self._wanted = _Stage.WHOLE, 0
        if pes is None:
            return self._discard(DamageReason.BAD_PES)
        events = self.framer.units(pes, damaged=self._damaged, lost_before=self._lost_before)
        self._damaged = False
        self._lost_before = self._lost_before and not any(isinstance(e, AccessUnit) for e in events)
        return events
