"""Whoever reads: a machine, and a user of it who is sometimes slow, and sometimes away."""

from __future__ import annotations

from random import Random
from typing import Final

from attrs import define, field, frozen

from tests.core.simulation.client import Client, Exchange
from tests.core.simulation.truth import Published, require
from tests.core.simulation.wires import Mark
from trickle_core import wire
from trickle_core.commands import Abort, Command, Deliver, Ending, Truncate
from trickle_core.events import Cause, Event, RequestFailed, RequestFinished, ResponseStarted
from trickle_core.subscriber import Reader, Subscriber

MOST_REQUESTS: Final = 2
"""The body that is read, and the line."""


@frozen(kw_only=True)
class Manners:
    """How somebody reads. Times in seconds: least and most."""

    piece_gap: tuple[float, float] = (0.0, 0.0)
    segment_gap: tuple[float, float] = (0.0, 0.0)
    stalls: float = 0.0
    """Share of pieces after which the reader does something else for ``stall``."""
    stall: tuple[float, float] = (1.0, 60.0)
    dropped: float = 0.0
    """Of segments, in their midst."""
    impatience: float = 0.0
    """Share of waits that are broken off, and taken up again."""


KEEN: Final = Manners()


def bad_manners(dice: Random) -> Manners:
    """Somebody who reads as the moment wants it."""
    return Manners(
        piece_gap=dice.choice(((0.0, 0.0), (0.0, 0.1), (0.5, 2.0))),
        segment_gap=dice.choice(((0.0, 0.0), (0.0, 1.0), (1.0, 10.0))),
        stalls=dice.choice((0.0, 0.0, 0.05)),
        dropped=dice.choice((0.0, 0.0, 0.1)),
        impatience=dice.choice((0.0, 0.0, 0.3)),
    )


@define(eq=False, repr=False)
class Present:
    """The segment that is read."""

    order: Deliver
    exchange: Exchange
    body: bytearray = field(factory=bytearray)


@define(eq=False, repr=False)
class Audience(Client):
    """A reading process, from its start to its end."""

    machine: Subscriber = field(kw_only=True)
    manners: Manners = field(kw_only=True)
    expected: int = field(kw_only=True)
    """The number that comes next if nothing is skipped; -1: whatever comes first."""
    present: Present | None = field(default=None, init=False)
    newest: int = field(default=0, init=False)
    """The serial number of the newest segment that was read whole."""
    faults: int = field(default=0, init=False)
    """Segments that came truncated, and those that were skipped without this reader's choice."""
    skipped: int = field(default=0, init=False)
    _reason: bool = field(default=False, init=False)
    """A server said that there is more than what comes next."""
    _last_read: int = field(default=0, init=False)
    _turn: int = field(default=0, init=False)

    def start(self) -> None:
        """Begin to read."""
        self.input(self.machine.start)
        self._plan(0.0, "want")

    # The user's day

    def _within(self, limits: tuple[float, float]) -> float:
        return self.world.dice.uniform(*limits)

    def _plan(self, seconds: float, step: str) -> None:
        self._turn += 1
        turn = self._turn
        self.world.clock.after(seconds, lambda: self._do(turn, step))

    def _do(self, turn: int, step: str) -> None:
        if turn == self._turn:
            getattr(self, step)()

    def want(self) -> None:
        """Want the next segment, if not yet."""
        if self.machine.reader is not Reader.AWAY or self.gone:
            return
        if self.world.chance(self.manners.impatience):
            self._plan(self.world.dice.uniform(0.0, 30.0), "lose_patience")
        self.input(self.machine.want_segment)

    def lose_patience(self) -> None:
        """Stop waiting, and wait again."""
        if self.machine.reader is Reader.WAITING:
            self.input(self.machine.drop_segment)
            self._plan(self.world.dice.uniform(0.0, 3.0), "want")

    def read(self) -> None:
        """Read what is there."""
        present = self.present
        if present is None:
            return
        present.exchange.on_news = self.read_on
        if self.world.chance(self.manners.dropped):
            self._drop(present)
            return
        while self.present is present:
            item = present.exchange.read()
            if item is None:
                return
            if isinstance(item, bytes):
                present.body += item
                if self._tarry(present):
                    return
            else:
                self._ended(present, item)

    def _tarry(self, present: Present) -> bool:
        if not self.manners.piece_gap[1] and not self.manners.stalls:
            return False
        stall = self.world.chance(self.manners.stalls)
        present.exchange.on_news = None
        self._plan(self._within(self.manners.stall if stall else self.manners.piece_gap), "read")
        return True

    def read_on(self) -> None:
        """More is there."""
        self.read()

    def _ended(self, present: Present, mark: Mark) -> None:
        request = present.order.request
        if mark is Mark.END:
            if not present.exchange.told:
                self.report(RequestFinished(request))
            self._conclude(present, whole=True)
        else:
            self.report(RequestFailed(request, Cause.BROKEN))
            require(self.present is None, "what breaks off is marked", request)

    def _drop(self, present: Present) -> None:
        reading = self.machine.reader is Reader.READING
        self._check_bytes(present, whole=False)
        self.present = None
        self.world.count("segments left")
        if reading:
            self.input(self.machine.drop_segment)
        else:
            present.exchange.give_up()  # it had come whole: the machine is through with it
            self.exchanges.pop(present.order.request, None)
        self._plan(self._within(self.manners.segment_gap), "want")

    def _conclude(self, present: Present, *, whole: bool) -> None:
        self.present = None
        self._check_bytes(present, whole=whole)
        self.world.count("segments read" if whole else "segments truncated")
        self.faults += not whole
        self._plan(self._within(self.manners.segment_gap), "want")

    def _check_bytes(self, present: Present, *, whole: bool) -> None:
        body = bytes(present.body)
        segment = self.world.book.source(body)
        if segment is None:
            self.world.count("segments empty", times=whole and not body)
            return
        require(segment.serial > self._last_read, "in order, none twice", segment)
        self._last_read = segment.serial
        if whole:
            self.newest = segment.serial
            self._check_whole(segment, len(body))

    def _check_whole(self, segment: Published, size: int) -> None:
        if segment.whole_there:
            require(size == segment.arrived == segment.sent, "a whole segment is whole", segment)
        else:
            # The protocol cannot tell the readers of a segment that was closed for its writer.
            require(size == segment.arrived, "all that a server had is read", segment, size)
            self.world.count("segments cut short")
            self.faults += 1

    def report(self, event: Event) -> None:
        """Tell the machine, and remember where a server says that something was missed."""
        if isinstance(event, ResponseStarted):
            latest = wire.parse_seq(event.headers.get(wire.LATEST))
            behind = latest is not None and latest > self.expected + 1
            self._reason = self._reason or behind
            self._note_loss(event)
        super().report(event)

    def _note_loss(self, head: ResponseStarted) -> None:
        """A channel that is not there any more, and waited for, comes back with other numbers."""
        is_asked = head.request == self.machine._line_request
        if head.status == 404 and is_asked and self.expected != self.machine.settings.start:
            self.expected = -1

    # What the machine orders

    def order(self, order: Command) -> None:
        """Carry out what concerns the user."""
        match order:
            case Deliver():
                self._delivered(order)
            case Truncate(request):
                present = self.present
                require(present is not None, "only what is read is truncated", request)
                if present is not None:
                    require(present.order.request == request, "that is not what is read", request)
                    self._conclude(present, whole=False)
            case _:
                require(False, "a subscriber orders no such thing", order)

    def _delivered(self, order: Deliver) -> None:
        require(self.present is None, "one segment is read at a time", order)
        if self.expected >= 0:
            missed = order.seq - self.expected
            require(missed == order.skipped >= 0, "every skip is accounted for", order)
            require(not missed or self._reason, "nothing is skipped that could be read", order)
        self._reason = False
        self.skipped += order.skipped
        # Whoever set a lag may have chosen to jump.
        self.faults += order.skipped if self.machine.settings.max_lag is None else 0
        require(self.machine.skipped == self.skipped, "the skipped are counted", order)
        self.world.count("segments skipped", order.skipped)
        self.expected = order.seq + 1
        self.busy += 1
        self.present = Present(order, self.exchanges[order.request])
        self._plan(0.0, "read")

    def _carry_out(self, order: Command) -> None:
        super()._carry_out(order)
        if isinstance(order, Abort) and self.present is not None:
            require(
                order.request != self.present.order.request or self.machine.reader is Reader.AWAY,
                "what is read is not given up under the reader's eyes",
            )

    def settle_down(self) -> None:
        """From now on, read whatever comes."""
        self.manners = KEEN
        self._plan(0.0, "want" if self.present is None else "read")

    # Ends

    def leave(self) -> None:
        """Close, in the midst of things."""
        self._stop_reading()
        self.input(self.machine.close)

    def crash(self) -> None:
        """Die."""
        self._stop_reading()
        super().crash()

    def _stop_reading(self) -> None:
        self._turn += 1
        present, self.present = self.present, None
        if present is not None:
            self._check_bytes(present, whole=False)
            if self.machine.reader is not Reader.READING:
                present.exchange.give_up()
                self.exchanges.pop(present.order.request, None)

    def check_end(self) -> None:
        """After ``Finish``: only what is read is still open."""
        reading = 0 if self.present is None else 1
        require(len(self.exchanges) <= reading, "after the end nothing is open", self.exchanges)
        if self.ending is not Ending.LEFT:
            self.world.count("subscriptions ended by the other side")
