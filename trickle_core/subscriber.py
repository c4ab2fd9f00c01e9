"""The reading end of a channel: which segment to ask for, when, and what an answer means.

Two parties meet in this machine and each has its own state, as in h11. The *line* is the one GET
that is open towards the server; the *reader* is whoever takes the segments. What is odd about the
protocol, and why the tables look as they do:

- The head of an answer comes with the segment's first byte. A GET that is not answered is the
  normal state of a reader at the live edge, for as long as the publisher is silent, so no timer
  ends it. But servers and boxes between cut requests that waited too long; the line is therefore
  dropped and opened again every 20 s (``DUE`` in ``ASKING``). That one was kept open so long counts
  as a success, so an adapter must fail a connection attempt well before.
- The GET for the next segment is opened the moment the head of this one is here (*preconnect*): by
  then the first byte of this one has been written, so *next write* has moved on and the next one
  can be waited in.
- So at most two GETs are open: the delivered one, whose body the reader reads, and the line. If the
  reader is slow the line's answer waits (``HELD``) and TCP holds the server back; a short one is
  whole before anybody reads it (``WHOLE``).
- Status 470 means two opposite things, told apart by ``Lp-Trickle-Latest``: fallen out of the
  window (``BEHIND``: jump to the live edge, and say how much was skipped) or ahead of the publisher
  (``EARLY``: ask again after a pause, without going back, for the publisher will get there). The
  jump asks for -2: a number worked out from the 470 can be out of the window again when it arrives.
- ``Lp-Trickle-Closed`` on an empty 200 is the end of the stream, a 404 is a channel that is gone.
  Both are normal ends; an empty 200 without it is an empty segment. But a 404 right behind a broken
  connection speaks of a server that began anew and has forgotten its channels: who waits for a
  channel at the start (``wait_for_channel``) waits for it then, too. What comes is another channel
  of that name, with numbers of its own: it is read from its live edge.
- When a GET at -1 is dropped by the refresh just as its segment begins, that one segment is missed.
  It cannot be asked for by number because nobody told us the number; known gap, in the deployed
  client too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

from attrs import field, frozen, validators

from trickle_core import wire
from trickle_core.commands import (
    Abort,
    Command,
    Deliver,
    Discard,
    Ending,
    Finish,
    OpenGet,
    Truncate,
)
from trickle_core.errors import LocalProtocolError
from trickle_core.events import (
    Event,
    RequestFailed,
    RequestFinished,
    ResponseStarted,
    ending_of,
    reached,
    status_of,
)
from trickle_core.retry import Backoff, Jitter, RetryPolicy, no_jitter


class Line(Enum):
    """What the GET towards the server is doing."""

    NEW = auto()
    """Nothing was asked yet."""
    ASKING = auto()
    """A GET is open and unanswered."""
    HELD = auto()
    """A segment's head is here; the reader has not come for it."""
    WHOLE = auto()
    """So is all of its body."""
    PAUSED = auto()
    """No GET is open; one will be when the timer fires."""
    OVER = auto()
    """Nothing will be asked again."""


class Trigger(Enum):
    """What can happen to the line."""

    START = auto()
    SEGMENT = auto()
    """The answer is a segment."""
    BODY = auto()
    """The body of the segment that is held has ended."""
    TAKEN = auto()
    """The reader takes the segment that is held; the next one is asked for."""
    BEHIND = auto()
    """The segment asked for is out of the window, or the reader chose not to lag that far."""
    EARLY = auto()
    """The segment, or the whole channel, is not there yet."""
    FAULT = auto()
    """No connection, a broken one, a server's fault, an answer that makes no sense."""
    DUE = auto()
    """The timer fired."""
    END = auto()
    """The channel ended, is gone, refuses us, or was out of reach for too long."""
    CLOSE = auto()
    """The user of this machine leaves."""


TRANSITIONS: Final[Mapping[Line, Mapping[Trigger, Line]]] = {
    Line.NEW: {Trigger.START: Line.ASKING, Trigger.CLOSE: Line.OVER},
    Line.ASKING: {
        Trigger.SEGMENT: Line.HELD,
        Trigger.BEHIND: Line.ASKING,
        Trigger.EARLY: Line.PAUSED,
        Trigger.FAULT: Line.PAUSED,
        Trigger.DUE: Line.ASKING,
        Trigger.END: Line.OVER,
        Trigger.CLOSE: Line.OVER,
    },
    Line.HELD: {
        Trigger.BODY: Line.WHOLE,
        Trigger.TAKEN: Line.ASKING,
        Trigger.FAULT: Line.PAUSED,
        Trigger.END: Line.OVER,
        Trigger.CLOSE: Line.OVER,
    },
    Line.WHOLE: {Trigger.TAKEN: Line.ASKING, Trigger.CLOSE: Line.OVER},
    Line.PAUSED: {Trigger.DUE: Line.ASKING, Trigger.CLOSE: Line.OVER},
    Line.OVER: {},
}


class Reader(Enum):
    """What the reader is doing."""

    AWAY = auto()
    """Neither waiting nor reading from the network; what has arrived may still be read."""
    WAITING = auto()
    """It wants the next segment."""
    READING = auto()
    """It has a segment."""


@frozen(kw_only=True)
class SubscriberSettings:
    """How to subscribe.

    ``start``: -2 the live edge, -1 the next segment, or a sequence number. ``refresh``: seconds
    after which a waiting GET is opened anew. ``early_pause``: seconds before a segment that is not
    there yet is asked for again. ``wait_for_channel``: for how many seconds from the start, or from
    a broken connection, a 404 means "not yet" instead of the end. ``max_lag``: a reader further than
    so many segments behind the live edge jumps to it; None: it reads them all.
    """

    start: int = field(default=wire.LIVE_EDGE, validator=validators.ge(wire.LIVE_EDGE))
    refresh: float = field(default=wire.REFRESH_INTERVAL, validator=validators.gt(0))
    early_pause: float = field(default=0.25, validator=validators.gt(0))
    wait_for_channel: float = field(default=0.0, validator=validators.ge(0))
    max_lag: int | None = field(default=None, validator=validators.optional(validators.ge(0)))
    retry: RetryPolicy = field(factory=RetryPolicy)


class Subscriber:
    """Reads one channel, segment by segment, in order. See the text at the head of this module.

    Inputs return the orders to carry out. ``LocalProtocolError`` is raised for an input that is
    illegal now; nothing that a server does raises.
    """

    def __init__(
        self, settings: SubscriberSettings | None = None, jitter: Jitter = no_jitter
    ) -> None:
        self.settings = settings or SubscriberSettings()
        self.line = Line.NEW
        self.reader = Reader.AWAY
        self.skipped = 0
        """Segments missed so far."""
        self._backoff = Backoff(self.settings.retry, jitter)
        self._jitter = jitter
        self._minted = 0
        self._line_request = -1
        self._opened = math.inf
        self._asked = self.settings.start
        """What the line asks for; once its answer is here, that segment's number."""
        self._expected = self.settings.start
        """The number after the last one delivered: below it nothing is delivered any more."""
        self._read_request = -1
        self._timer = math.inf
        self._patience = -math.inf
        """Until when a channel that is not there may still come."""

    # -- inputs

    def start(self, now: float) -> list[Command]:
        """Open the first GET."""
        self._fire(Trigger.START)
        self._patience = now + self.settings.wait_for_channel
        return self._ask(now)

    def want_segment(self, now: float) -> list[Command]:
        """The reader wants the next segment: it comes as ``Deliver``, at once or later, unless
        ``Finish`` came.
        """
        if self.reader is not Reader.AWAY:
            raise LocalProtocolError(f"want_segment while the reader is {self.reader.name}")
        self.reader = Reader.WAITING
        return self._deliver(now)

    def drop_segment(self, now: float) -> list[Command]:
        """The reader leaves its segment, or no longer waits for one. Legal at any moment: its body
        may just have ended, or broken.
        """
        request, self._read_request = self._read_request, -1
        self.reader = Reader.AWAY
        return [Abort(request)] if request >= 0 else []

    def receive(self, event: Event, now: float) -> list[Command]:
        """Take in what was seen on the network. Reports of requests that are no longer of interest
        change nothing.
        """
        if event.request == self._read_request:
            return self._hear_of_body(event)
        if event.request != self._line_request:
            return []
        if self.line is not Line.ASKING:
            return self._hear_of_held(event, now)
        if isinstance(event, ResponseStarted):
            return self._hear_head(event, now)
        return self._fault(event, now)

    def deadline(self) -> float:
        """When ``handle_timeout`` is to be called; ``math.inf``: no timer runs."""
        return self._timer

    def handle_timeout(self, now: float) -> list[Command]:
        """The timer fired. Early calls do nothing."""
        if now < self._timer:
            return []
        if self.line is Line.ASKING:
            self._backoff.served(now - self._opened)
        self._fire(Trigger.DUE)
        return [*self._hang_up(), *self._ask(now)]

    def close(self, now: float) -> list[Command]:
        """The user leaves: everything that is open is given up. Legal at any moment, and more than
        once.
        """
        left = self.drop_segment(now)
        if self.line is Line.OVER:
            return left
        return [*left, *self._hang_up(), *self._over(Trigger.CLOSE, Ending.LEFT)]

    # -- the line

    def _fire(self, trigger: Trigger) -> None:
        try:
            self.line = TRANSITIONS[self.line][trigger]
        except KeyError:
            raise LocalProtocolError(f"{trigger.name} while {self.line.name}") from None

    def _ask(self, now: float) -> list[Command]:
        self._minted += 1
        self._line_request = self._minted
        self._opened = now
        self._timer = now + self.settings.refresh
        return [OpenGet(self._line_request, self._asked)]

    def _hang_up(self) -> list[Command]:
        """Give the line's request up, if one is open."""
        request, self._line_request = self._line_request, -1
        return [Abort(request)] if request >= 0 else []

    def _discard(self) -> list[Command]:
        request, self._line_request = self._line_request, -1
        return [Discard(request)]

    def _hear_head(self, head: ResponseStarted, now: float) -> list[Command]:
        if head.status == wire.NO_SUCH_SEGMENT:
            return self._hear_missing(head, now)
        if head.status == 404 and now < self._patience:
            if self._expected != self.settings.start:
                self._asked = self._expected = wire.LIVE_EDGE
            return self._early(now)
        ending = ending_of(head)
        if ending is not None:
            return [*self._discard(), *self._over(Trigger.END, ending, head.status)]
        if head.status == 200:
            return self._hear_segment(head, now)
        return self._fault(head, now)

    def _hear_missing(self, head: ResponseStarted, now: float) -> list[Command]:
        self._patience = -math.inf
        latest = wire.parse_seq(head.headers.get(wire.LATEST))
        if latest is not None and 0 <= self._asked < latest:
            return self._jump(now)
        return self._early(now)

    def _hear_segment(self, head: ResponseStarted, now: float) -> list[Command]:
        seq = self._seq_of(head)
        if seq is None:
            return self._fault(head, now)
        self._patience = -math.inf
        if seq < self._expected:
            self._asked = self._expected
            return self._early(now)
        if self._lags(head, seq):
            return self._jump(now)
        self._backoff.succeeded()
        self._fire(Trigger.SEGMENT)
        self._timer = math.inf
        self._asked = seq
        return self._deliver(now)

    def _seq_of(self, head: ResponseStarted) -> int | None:
        """The segment's number; None where the answer makes no sense. A server that says none must
        mean the one asked for.
        """
        seq = wire.parse_seq(head.headers.get(wire.SEQ, str(self._asked)))
        return seq if seq is not None and seq >= 0 else None

    def _lags(self, head: ResponseStarted, seq: int) -> bool:
        """Whether this is too far behind. What was asked for as the live edge never is."""
        latest = wire.parse_seq(head.headers.get(wire.LATEST))
        if self.settings.max_lag is None or latest is None or self._asked < 0:
            return False
        return latest - 1 - seq > self.settings.max_lag

    def _jump(self, now: float) -> list[Command]:
        """Go on at the live edge, the one segment that is sure to be in the window, whatever its
        size.
        """
        self._fire(Trigger.BEHIND)
        discard = self._discard()
        self._asked = wire.LIVE_EDGE
        return [*discard, *self._ask(now)]

    def _early(self, now: float) -> list[Command]:
        self._fire(Trigger.EARLY)
        self._backoff.succeeded()
        pause = self.settings.early_pause
        self._timer = now + pause * (1 - self.settings.retry.spread * self._jitter())
        return self._discard()

    def _hear_of_held(self, event: Event, now: float) -> list[Command]:
        """What becomes of a body that nobody reads yet. One that breaks is asked for again, from
        its first byte.
        """
        if isinstance(event, RequestFailed) and self.line is Line.HELD:
            return self._fault(event, now)
        if isinstance(event, RequestFinished) and self.line is Line.HELD:
            self._fire(Trigger.BODY)
        return []

    def _fault(self, event: Event, now: float) -> list[Command]:
        if reached(event):
            self._backoff.served(now - self._opened)
        if isinstance(event, RequestFailed):
            self._patience = max(self._patience, now + self.settings.wait_for_channel)
        hang_up = self._hang_up()
        again = self._backoff.failed(now)
        if again is None:
            return [*hang_up, *self._over(Trigger.END, Ending.GAVE_UP, status_of(event))]
        self._fire(Trigger.FAULT)
        self._timer = again
        return hang_up

    def _over(self, trigger: Trigger, ending: Ending, status: int | None = None) -> list[Command]:
        self._fire(trigger)
        self._timer = math.inf
        return [Finish(ending, status)]

    # -- the reader

    def _deliver(self, now: float) -> list[Command]:
        """Hand over what is held to a reader that waits for it, and ask for the next."""
        if self.line not in (Line.HELD, Line.WHOLE) or self.reader is not Reader.WAITING:
            return []
        request, seq = self._line_request, self._asked
        missed = seq - self._expected if self._expected >= 0 else 0
        if self.line is Line.HELD:
            self.reader, self._read_request = Reader.READING, request
        else:
            self.reader = Reader.AWAY
        self.skipped += missed
        self._asked = self._expected = seq + 1
        self._fire(Trigger.TAKEN)
        return [Deliver(request, seq, missed), *self._ask(now)]

    def _hear_of_body(self, event: Event) -> list[Command]:
        if isinstance(event, ResponseStarted):
            return []
        request, self._read_request = self._read_request, -1
        self.reader = Reader.AWAY
        return [Truncate(request)] if isinstance(event, RequestFailed) else []
