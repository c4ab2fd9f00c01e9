"""Whoever publishes: a machine, and a user of it who is not always at its best."""

from __future__ import annotations

from random import Random
from typing import Final

from attrs import define, field, frozen

from tests.core.simulation.client import WRITE_TIMEOUT, Client, Exchange
from tests.core.simulation.truth import Fate, Published, require
from trickle_core import wire
from trickle_core.commands import (
    Abort,
    Command,
    Discard,
    Ending,
    Finish,
    Grant,
    Lose,
)
from trickle_core.publisher import Publisher, Writer

MOST_REQUESTS: Final = 2 + wire.WINDOW + 1
"""The line, the segment that is written, those that settle, and a deletion."""


@frozen(kw_only=True)
class Habits:
    """How somebody writes. Times in seconds: least and most."""

    pieces: tuple[int, int] = (1, 6)
    cells: tuple[int, int] = (1, 20)
    piece_gap: tuple[float, float] = (0.05, 0.4)
    segment_gap: tuple[float, float] = (0.0, 0.5)
    rests: float = 0.0
    """Share of segments before which there is nothing to write for ``rest``."""
    stalls: float = 0.0
    """Share of pieces before which there is nothing to write for ``rest``."""
    rest: tuple[float, float] = (5.0, 120.0)
    dropped: float = 0.0
    """Of segments, at some moment."""
    empty: float = 0.0
    """Of segments: ended without a byte."""


STEADY: Final = Habits(pieces=(1, 3), piece_gap=(0.3, 1.5))
HASTY: Final = Habits(piece_gap=(0.0, 0.0), segment_gap=(0.0, 0.0))


def bad_habits(dice: Random) -> Habits:
    """Somebody who publishes as the moment wants it."""
    return Habits(
        pieces=dice.choice(((1, 6), (1, 1), (2, 20))),
        cells=dice.choice(((1, 20), (1, 1), (10, 60))),
        piece_gap=dice.choice(((0.05, 0.4), (0.0, 0.0), (0.5, 3.0))),
        segment_gap=dice.choice(((0.0, 0.5), (0.1, 0.1), (1.0, 5.0))),
        rests=dice.choice((0.0, 0.0, 0.1, 0.3)),
        stalls=dice.choice((0.0, 0.0, 0.03)),
        rest=dice.choice(((1.0, 10.0), (5.0, 120.0))),
        dropped=dice.choice((0.0, 0.0, 0.1)),
        empty=dice.choice((0.0, 0.0, 0.1)),
    )


@define(eq=False, repr=False)
class Author(Client):
    """A publishing process, from its start to its end."""

    machine: Publisher = field(kw_only=True)
    habits: Habits = field(kw_only=True)
    life: int = field(kw_only=True)
    segment: Published | None = field(default=None, init=False)
    confirmed: int = field(default=0, init=False)
    last_seq: int = field(default=-1, init=False)
    _settling: dict[int, Published] = field(factory=dict, init=False)
    _exchange: Exchange | None = field(default=None, init=False)
    _pieces: int = field(default=0, init=False)
    _to_drop: int = field(default=-1, init=False)
    _turn: int = field(default=0, init=False)
    """Moves on with each change of plan, so that what was planned before does not happen."""

    def start(self) -> None:
        """Begin to publish."""
        self.input(self.machine.start)
        self._rest()

    # The user's day

    def _within(self, limits: tuple[float, float]) -> float:
        return self.world.dice.uniform(*limits)

    def _plan(self, seconds: float, step: str) -> None:
        """Do this next, unless something comes between."""
        self._turn += 1
        turn = self._turn
        self.world.clock.after(seconds, lambda: self._do(turn, step))

    def _do(self, turn: int, step: str) -> None:
        if turn == self._turn and not self.gone:
            getattr(self, step)()

    def _rest(self) -> None:
        habits = self.habits
        gap = habits.rest if self.world.chance(habits.rests) else habits.segment_gap
        self._plan(self._within(gap), "begin")

    def begin(self) -> None:
        """Want to write a segment."""
        dice, habits = self.world.dice, self.habits
        self.segment = self.world.book.begin(self.life)
        self._pieces = dice.randint(*habits.pieces)
        if self.world.chance(habits.empty):
            self._pieces = 0
        self._to_drop = -1
        if self.world.chance(habits.dropped):
            self._to_drop = dice.randint(0, self._pieces)
            self._plan(dice.uniform(0.0, 40.0), "lose_patience")
        self.world.count("segments begun")
        self.input(self.machine.begin_segment)

    def lose_patience(self) -> None:
        """The segment is not wanted any more before it could be begun."""
        self._drop(untouched=False)

    def write(self) -> None:
        """Write the next piece, or come to the end."""
        exchange, segment = self._exchange, self.segment
        if exchange is None or segment is None or self.machine.writer is not Writer.WRITING:
            return
        if self._to_drop == self._pieces:
            self._drop(untouched=exchange.sent == 0 and self.world.chance(0.7))
        elif self._pieces == 0:
            self._end(exchange, segment)
        else:
            self._write(exchange, segment)

    def _write(self, exchange: Exchange, segment: Published) -> None:
        data = segment.piece(self.world.dice.randint(*self.habits.cells))
        if exchange.offer(data):
            exchange.on_news = None
            segment.sent += len(data)
            self.last_seq = segment.seq
            self._pieces -= 1
            stall = self.world.chance(self.habits.stalls)
            gap = self.habits.rest if stall else self.habits.piece_gap
            self._plan(self._within(gap), "write")
        elif exchange.on_news is None:
            exchange.on_news = self.write
            self._plan(WRITE_TIMEOUT, "time_out")

    def time_out(self) -> None:
        """Nothing could be written for too long."""
        if self._exchange is not None:
            self._exchange.time_out()

    def _end(self, exchange: Exchange, segment: Published) -> None:
        require(segment.sent == exchange.sent, "what was written is in one body", segment)
        segment.fate = Fate.ENDED
        self.last_seq = segment.seq
        self._settling[exchange.number] = segment
        self.segment = self._exchange = None
        self.input(self.machine.end_segment)
        self._rest()

    def _drop(self, *, untouched: bool) -> None:
        if self.segment is not None:
            self.segment.fate = Fate.LOST
        if self._exchange is not None:
            self._exchange.on_news = None
        self.segment = self._exchange = None
        self.world.count("segments dropped")
        self.input(lambda now: self.machine.drop_segment(now, untouched=untouched))
        self._rest()

    def notice_loss(self) -> None:
        """The segment was lost, and the user comes to know of it."""
        self.input(
            self.machine.end_segment if self.world.chance(0.5) else self.machine.drop_segment
        )
        self._rest()

    def settle_down(self, habits: Habits = STEADY) -> None:
        """From now on, write segment after segment."""
        self.habits = habits
        self._to_drop = -1
        if self.machine.writer is Writer.AWAY:
            self._plan(0.0, "begin")
        elif self.machine.writer is Writer.WRITING:
            self._plan(0.0, "write")

    # What the machine orders

    def order(self, order: Command) -> None:
        """Carry out what concerns the user."""
        match order:
            case Grant(request, seq):
                self._granted(request, seq)
            case Lose():
                require(self.segment is not None, "only a segment that is written is lost", order)
                self._lost(self.segment)
                if self._exchange is not None:
                    self._exchange.on_news = None
                self.segment = self._exchange = None
                self._plan(self._within((0.0, 1.0)), "notice_loss")
            case _:
                require(False, "a publisher orders no such thing", order)

    def _granted(self, request: int, seq: int) -> None:
        segment, exchange = self.segment, self.exchanges[request]
        require(segment is not None, "nobody waits for a segment", seq)
        require(exchange.sent == 0, "a granted body is untouched", seq)
        if segment is None:
            return
        require(segment.sent == 0, "a segment of which bytes have left is not begun again", seq)
        require(seq > self.last_seq, "no number is used twice", seq, self.last_seq)
        segment.seq, self._exchange = seq, exchange
        self.busy += 1
        self._plan(self._within(self.habits.piece_gap), "write")

    def _carry_out(self, order: Command) -> None:
        match order:
            case Discard(request) if request in self._settling:
                segment = self._settling.pop(request)
                segment.fate = Fate.CONFIRMED
                there = segment.arrived == segment.sent
                require(there, "what is confirmed is there, whole", segment)
                self.confirmed += 1
                self.world.count("segments confirmed")
            case Abort(request) if request in self._settling:
                self._lost(self._settling.pop(request))
            case Finish():
                require(not self._settling, "at the end nothing is left to settle")
        super()._carry_out(order)

    def _lost(self, segment: Published | None) -> None:
        if segment is not None:
            segment.fate = Fate.LOST
        self.world.count("segments lost")

    # Ends

    def leave(self) -> None:
        """Close in good order."""
        if self.segment is not None:
            self.segment.fate = Fate.LOST
        self.segment = self._exchange = None
        self._turn += 1
        self.input(self.machine.close)

    def crash(self) -> None:
        """Die."""
        for segment in (*self._settling.values(), *([self.segment] if self.segment else [])):
            segment.fate = Fate.LOST
        self.segment = None
        self._turn += 1
        super().crash()

    def check_end(self) -> None:
        """After ``Finish``: nothing is open."""
        require(not self.exchanges, "after the end nothing is open", self.exchanges)
        require(self.ending is not None, "it has ended")
        if self.ending is not Ending.LEFT:
            self.world.count("publications ended by the other side")
