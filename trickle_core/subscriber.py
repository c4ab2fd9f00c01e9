"""The reading end of a channel: which segment to ask for, when, and what an answer means.

Two parties meet in this machine and each has its own state, as in h11. The *line* is the one GET
that is open towards the server; the *reader* is whoever takes the segments. What is odd about the
protocol, and why the tables look as they do:

- The head of an answer comes with the segment's first byte. A GET that is not answered is the
  normal state of a reader at the live edge, for as long as the publisher is silent, so no timer
  ends it. But servers and boxes between cut requests that waited too long; the line is therefore
  dropped and opened again every 20 s (``DUE`` in ``ASKING``).
- The GET for the next segment is opened the moment the head of this one is here (*preconnect*): by
  then the first byte of this one has been written, so *next write* has moved on and the next one
  can be waited in.
- So at most two GETs are open: the delivered one, whose body the reader reads, and the line. If the
  reader is slow the line's answer waits (``HELD``) and TCP holds the server back.
- Status 470 means two opposite things, told apart by ``Lp-Trickle-Latest``: fallen out of the
  window (``BEHIND``: jump to the live edge, and say how much was skipped) or ahead of the publisher
  (``EARLY``: ask again after a pause, without going back, for the publisher will get there).
- ``Lp-Trickle-Closed`` on an empty 200 is the end of the stream, a 404 is a channel that is gone.
  Both are normal ends; an empty 200 without it is an empty segment.
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
from trickle_core.events import Event, RequestFailed, RequestFinished, ResponseStarted, reached
from trickle_core.retry import Backoff, Jitter, RetryPolicy, no_jitter


class Line(Enum):
    """What the GET towards the server is doing."""

    NEW = auto()
    """Nothing was asked yet."""
    ASKING = auto()
    """A GET is open and unanswered."""
    HELD = auto()
    """A segment's head is here; the reader has not come for it."""
    PAUSED = auto()
    """No GET is open; one will be when the timer fires."""
    OVER = auto()
    """Nothing will be asked again."""


class Trigger(Enum):
    """What can happen to the line."""

    START = auto()
    SEGMENT = auto()
    """The answer is a segment."""
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
        Trigger.TAKEN: Line.ASKING,
        Trigger.FAULT: Line.PAUSED,
        Trigger.END: Line.OVER,
        Trigger.CLOSE: Line.OVER,
    },
    Line.PAUSED: {Trigger.DUE: Line.ASKING, Trigger.CLOSE: Line.OVER},
    Line.OVER: {},
}


class Reader(Enum):
    """What the reader is doing."""

    AWAY = auto()
    """Neither reading nor waiting."""
    WAITING = auto()
    """It wants the next segment."""
    READING = auto()
    """It has a segment."""


@frozen(kw_only=True)
class SubscriberSettings:
    """How to subscribe.

    ``start``: -2 the live edge, -1 the next segment, or a sequence number. ``refresh``: seconds
    after which a waiting GET is opened anew. ``early_pause``: seconds before a segment that is not
    there yet is asked for again. ``wait_for_channel``: for how many seconds from the start a 404
    means "not yet" instead of the end. ``max_lag``: a reader further than so many segments behind
    the live edge jumps to it; None: it reads them all.
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
        self._asked = self.settings.start
        self._line_request = -1
        self._opened = math.inf
        self._read_request = -1
        self._minted = 0
        self._timer = math.inf
        self._patience = -math.inf
        self._held_seq = -1
        self._expected = self.settings.start

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
        """The reader leaves its segment before the end, or no longer waits for one."""
        if self.reader is Reader.AWAY:
            raise LocalProtocolError("drop_segment without a segment")
        return self._leave()

    def receive(self, event: Event, now: float) -> list[Command]:
        """Take in what was seen on the network. Reports of requests that are no longer of interest
        change nothing.
        """
        if event.request == self._read_request:
            return self._hear_of_body(event)
        if event.request != self._line_request:
            return []
        if isinstance(event, ResponseStarted):
            return self._hear_head(event, now)
        # A short body can be whole before anyone reads it.
        if isinstance(event, RequestFinished) and self.line is Line.HELD:
            return []
        return self._fault(event, now)

    def deadline(self) -> float:
        """When ``handle_timeout`` is to be called; ``math.inf``: no timer runs."""
        return self._timer

    def handle_timeout(self, now: float) -> list[Command]:
        """The timer fired. Early calls do nothing."""
        if now < self._timer:
            return []
        self._fire(Trigger.DUE)
        return [*self._hang_up(), *self._ask(now)]

    def close(self, now: float) -> list[Command]:
        """The user leaves: everything that is open is given up. Legal at any moment, and more than
        once.
        """
        left = self._leave()
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
        if head.status == 200:
            return self._hear_ok(head, now)
        if head.status == wire.NO_SUCH_SEGMENT:
            return self._hear_missing(head, now)
        if head.status == 404:
            if now < self._patience:
                return self._early(now)
            return self._end(Ending.GONE, head.status)
        # 408 and 429 are the two client errors that a later try can mend.
        if 400 <= head.status < 500 and head.status not in (408, 429):
            return self._end(Ending.REFUSED, head.status)
        return self._fault(head, now)

    def _hear_ok(self, head: ResponseStarted, now: float) -> list[Command]:
        if wire.is_closed(head.headers):
            return self._end(Ending.CLOSED, head.status)
        seq = self._seq_of(head)
        # A number below the one asked for would deliver a segment twice or out of order.
        if seq is None or seq < self._asked:
            return self._fault(head, now)
        self._backoff.succeeded()
        self._patience = -math.inf
        latest = wire.parse_seq(head.headers.get(wire.LATEST))
        if latest is not None and self._lags(latest - 1 - seq):
            return self._jump(latest, now)
        self._fire(Trigger.SEGMENT)
        self._timer = math.inf
        self._held_seq = seq
        return self._deliver(now)

    def _seq_of(self, head: ResponseStarted) -> int | None:
        seq = wire.parse_seq(head.headers.get(wire.SEQ))
        if seq is None and self._asked >= 0 and wire.SEQ not in head.headers:
            return self._asked
        return seq if seq is not None and seq >= 0 else None

    def _lags(self, segments: int) -> bool:
        return self.settings.max_lag is not None and segments > self.settings.max_lag

    def _hear_missing(self, head: ResponseStarted, now: float) -> list[Command]:
        self._backoff.succeeded()
        latest = wire.parse_seq(head.headers.get(wire.LATEST))
        if latest is not None and self._asked >= 0 and latest - 1 > self._asked:
            return self._jump(latest, now)
        return self._early(now)

    def _jump(self, latest: int, now: float) -> list[Command]:
        """Go on at the live edge, the one segment that is sure to be in the window, whatever its
        size.
        """
        self._fire(Trigger.BEHIND)
        discard = self._discard()
        self._asked = latest - 1
        return [*discard, *self._ask(now)]

    def _early(self, now: float) -> list[Command]:
        self._fire(Trigger.EARLY)
        pause = self.settings.early_pause
        self._timer = now + pause * (1 - self.settings.retry.spread * self._jitter())
        return self._discard()

    def _fault(self, event: Event, now: float) -> list[Command]:
        again = self._backoff.failed(now, now - self._opened if reached(event) else 0.0)
        if again is None:
            return [*self._hang_up(), *self._over(Trigger.END, Ending.GAVE_UP)]
        self._fire(Trigger.FAULT)
        self._timer = again
        return self._hang_up()

    def _end(self, ending: Ending, status: int) -> list[Command]:
        return [*self._discard(), *self._over(Trigger.END, ending, status)]

    def _over(self, trigger: Trigger, ending: Ending, status: int | None = None) -> list[Command]:
        self._fire(trigger)
        self._timer = math.inf
        return [Finish(ending, status)]

    # -- the reader

    def _deliver(self, now: float) -> list[Command]:
        """Hand over what is held to a reader that waits for it, and ask for the next."""
        if self.line is not Line.HELD or self.reader is not Reader.WAITING:
            return []
        self._fire(Trigger.TAKEN)
        self.reader = Reader.READING
        self._read_request = self._line_request
        missed = self._held_seq - self._expected if self._expected >= 0 else 0
        self.skipped += missed
        self._asked = self._expected = self._held_seq + 1
        return [Deliver(self._read_request, self._held_seq, missed), *self._ask(now)]

    def _hear_of_body(self, event: Event) -> list[Command]:
        if isinstance(event, ResponseStarted):
            return []
        request, self._read_request = self._read_request, -1
        self.reader = Reader.AWAY
        return [Truncate(request)] if isinstance(event, RequestFailed) else []

    def _leave(self) -> list[Command]:
        request, self._read_request = self._read_request, -1
        self.reader = Reader.AWAY
        return [Abort(request)] if request >= 0 else []
