"""The writing end of a channel: which segment to post, when to open the next one, and what to do
when one breaks.

Two parties again: the *line*, the one POST that is opened ahead of its data (*preconnect*), and the
*writer*, whoever fills segments. What is odd about the protocol:

- A POST sends its head and then nothing until there is data. It may be answered all the same: 404
  or "closed" because the channel went away, 500 because the server's patience with silent bodies
  ran out. Only that last one is worth another try, and with the same sequence number, for not a
  byte of the segment has left.
- A connection that breaks inside a segment leaves that segment open on the server with what had
  arrived, and a second POST to it *appends*. So once a byte has left, its number is never posted
  again: the segment is closed by ``DELETE`` and the writer goes on with the next number.
- The first segment of a publisher carries ``Lp-Trickle-Reset``, so that readers who hang in an open
  segment of the publisher before go on. No other one may: it would close the segment that is being
  written just below it.
- Where to begin is asked at ``/next``. A server too old for that route answers 400; a GET for a
  number far ahead then tells the same by the ``Lp-Trickle-Latest`` of its 470.
- The answer to a POST comes after its body's end, while the next segment is being written already.
  Segments that wait for it are *settling*: their number is kept until the answer is here, for if it
  never comes the segment has to be closed.
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
    AskNext,
    Command,
    Create,
    Delete,
    Discard,
    EndBody,
    Ending,
    Finish,
    Grant,
    Lose,
    OpenGet,
    OpenPost,
)
from trickle_core.errors import LocalProtocolError
from trickle_core.events import Event, RequestFinished, ResponseStarted, reached
from trickle_core.retry import Backoff, Jitter, RetryPolicy, no_jitter

FAR_AHEAD: Final = 999_999_999
"""A sequence number that no channel has: asking for it makes a server tell its *next write*."""


class Line(Enum):
    """What the request towards the server is doing."""

    NEW = auto()
    """Nothing was sent yet."""
    CREATING = auto()
    """The channel is being made."""
    LOCATING = auto()
    """``/next`` was asked."""
    PROBING = auto()
    """A GET far ahead was asked, on a server without ``/next``."""
    OPEN = auto()
    """A POST is open, ready for a segment."""
    PAUSED = auto()
    """Nothing is open; it will be when the timer fires."""
    CLOSING = auto()
    """The writer has left; answers to the last segments are waited for."""
    OVER = auto()
    """Nothing will be sent again."""


class Trigger(Enum):
    """What can happen to the line."""

    CREATE = auto()
    """The channel has to be made first."""
    LOCATE = auto()
    """Ask where to write."""
    PROBE = auto()
    """Ask an old server where to write."""
    POST = auto()
    """It is known where to write."""
    TAKEN = auto()
    """The writer begins a segment; the next POST is opened."""
    FAULT = auto()
    """No connection, a broken one, a server's fault, an answer that makes no sense."""
    RECALL = auto()
    """The segment just granted was refused before its first byte: it is opened again."""
    END = auto()
    """The channel was closed, is gone, refuses us, or was out of reach for too long."""
    CLOSE = auto()
    """The user of this machine leaves."""


_GIVE_UP: Final = {Trigger.FAULT: Line.PAUSED, Trigger.END: Line.OVER, Trigger.CLOSE: Line.CLOSING}

TRANSITIONS: Final[Mapping[Line, Mapping[Trigger, Line]]] = {
    Line.NEW: {
        Trigger.LOCATE: Line.LOCATING,
        Trigger.POST: Line.OPEN,
        Trigger.CLOSE: Line.CLOSING,
    },
    Line.CREATING: {**_GIVE_UP, Trigger.LOCATE: Line.LOCATING, Trigger.POST: Line.OPEN},
    Line.LOCATING: {
        **_GIVE_UP,
        Trigger.POST: Line.OPEN,
        Trigger.PROBE: Line.PROBING,
        Trigger.CREATE: Line.CREATING,
    },
    Line.PROBING: {**_GIVE_UP, Trigger.POST: Line.OPEN, Trigger.CREATE: Line.CREATING},
    Line.OPEN: {
        **_GIVE_UP,
        Trigger.TAKEN: Line.OPEN,
        Trigger.RECALL: Line.PAUSED,
        Trigger.CREATE: Line.CREATING,
    },
    Line.PAUSED: {
        **_GIVE_UP,
        Trigger.LOCATE: Line.LOCATING,
        Trigger.POST: Line.OPEN,
        Trigger.RECALL: Line.PAUSED,
    },
    Line.CLOSING: {Trigger.END: Line.OVER, Trigger.CLOSE: Line.CLOSING},
    Line.OVER: {},
}


class Writer(Enum):
    """What the writer is doing."""

    AWAY = auto()
    """Between segments."""
    WAITING = auto()
    """It wants to begin a segment, or to go on with one of which no byte has left."""
    WRITING = auto()
    """It has a segment."""
    BEREFT = auto()
    """Its segment is lost; it has not ended it yet."""


@frozen(kw_only=True)
class PublisherSettings:
    """How to publish.

    ``first``: the first sequence number; None: ask the server. ``create``: make a channel that does
    not exist. ``delete``: delete the channel when leaving. ``settle``: seconds to wait for the
    answer to a segment that was sent whole, and for the last of them when leaving.
    """

    first: int | None = field(default=None, validator=validators.optional(validators.ge(0)))
    create: bool = False
    delete: bool = False
    settle: float = field(default=5.0, validator=validators.gt(0))
    retry: RetryPolicy = field(factory=RetryPolicy)


class Publisher:
    """Writes one channel, segment by segment, in order. See the text at the head of this module.

    Inputs return the orders to carry out. ``LocalProtocolError`` is raised for an input that is
    illegal now; nothing that a server does raises.
    """

    def __init__(
        self, settings: PublisherSettings | None = None, jitter: Jitter = no_jitter
    ) -> None:
        self.settings = settings or PublisherSettings()
        self.line = Line.NEW
        self.writer = Writer.AWAY
        self.lost = 0
        """Segments lost so far, with what had been written of them."""
        self._backoff = Backoff(self.settings.retry, jitter)
        self._minted = 0
        self._timer = math.inf
        self._line_request = -1
        self._opened = math.inf
        self._seq = self.settings.first
        self._first = self.settings.first
        self._may_create = self.settings.create
        self._write_request = -1
        self._write_seq = -1
        self._settling: dict[int, tuple[int, float]] = {}
        self._asides: dict[int, float] = {}

    # -- inputs

    def start(self, now: float) -> list[Command]:
        """Find out where to write, and open the first POST."""
        if self.line is not Line.NEW:
            raise LocalProtocolError(f"start while {self.line.name}")
        return self._open(now)

    def begin_segment(self, now: float) -> list[Command]:
        """The writer wants to begin: ``Grant`` comes, at once or later, unless ``Finish`` came."""
        if self.writer is not Writer.AWAY or self.line in (Line.NEW, Line.CLOSING):
            raise LocalProtocolError(f"begin_segment while {self.writer.name}, {self.line.name}")
        self.writer = Writer.WAITING
        return self._grant(now)

    def end_segment(self, now: float) -> list[Command]:
        """The segment is whole. Its fate is settled while the next one is written."""
        writer, self.writer = self.writer, Writer.AWAY
        if writer is Writer.BEREFT:
            return []
        if writer is not Writer.WRITING:
            self.writer = writer
            raise LocalProtocolError(f"end_segment while {writer.name}")
        self._settling[self._write_request] = (self._write_seq, now + self.settings.settle)
        request, self._write_request = self._write_request, -1
        return [EndBody(request)]

    def drop_segment(self, now: float) -> list[Command]:
        """The segment is given up, or no longer waited for: readers that hang in it are sent on."""
        writer, self.writer = self.writer, Writer.AWAY
        if writer is Writer.AWAY:
            raise LocalProtocolError("drop_segment without a segment")
        return self._break_off(now) if writer is Writer.WRITING else []

    def receive(self, event: Event, now: float) -> list[Command]:
        """Take in what was seen on the network. Reports of requests that are no longer of interest
        change nothing.
        """
        if event.request == self._line_request:
            return self._hear_line(event, now)
        if event.request == self._write_request:
            return self._hear_write(event, now)
        if event.request in self._settling:
            return self._hear_settling(event, now)
        if event.request in self._asides:
            return self._hear_aside(event)
        return []

    def deadline(self) -> float:
        """When ``handle_timeout`` is to be called; ``math.inf``: no timer runs."""
        settling = (due for _, due in self._settling.values())
        return min((self._timer, *settling, *self._asides.values()))

    def handle_timeout(self, now: float) -> list[Command]:
        """A timer fired. Early calls do nothing."""
        orders: list[Command] = []
        for request, due in list(self._asides.items()):
            if now >= due:
                del self._asides[request]
                orders.append(Abort(request))
        for request, (seq, due) in list(self._settling.items()):
            if now >= due:
                del self._settling[request]
                orders += [Abort(request), *self._close_segment(seq, now)]
        if now >= self._timer:
            self._timer = math.inf
            orders += self._open(now)
        return [*orders, *self._leave_if_done()]

    def close(self, now: float) -> list[Command]:
        """The writer leaves. A segment it has not ended is dropped; those that settle are waited
        for, a bounded time.

        Legal at any moment, and more than once. ``Finish`` comes when all is done.
        """
        if self.line is Line.OVER:
            return []
        orders = [] if self.writer is Writer.AWAY else self.drop_segment(now)
        if self.line is not Line.CLOSING:
            orders += self._hang_up()
            unborn = self.line is Line.NEW
            self._fire(Trigger.CLOSE)
            self._timer = math.inf
            if self.settings.delete and not unborn:
                orders += self._aside(Delete(self._mint(), None), now)
        return [*orders, *self._leave_if_done()]

    # -- the line

    def _fire(self, trigger: Trigger) -> None:
        try:
            self.line = TRANSITIONS[self.line][trigger]
        except KeyError:
            raise LocalProtocolError(f"{trigger.name} while {self.line.name}") from None

    def _mint(self) -> int:
        self._minted += 1
        return self._minted

    def _open(self, now: float) -> list[Command]:
        """Open what the line needs next: the POST, or first the question where to write."""
        if self._seq is None:
            self._fire(Trigger.LOCATE)
            self._line_request = self._mint()
            return [AskNext(self._line_request)]
        self._fire(Trigger.POST)
        return [*self._post(self._seq, now), *self._grant(now)]

    def _post(self, seq: int, now: float) -> list[Command]:
        self._line_request, self._opened = self._mint(), now
        return [OpenPost(self._line_request, seq, reset=seq == self._first)]

    def _grant(self, now: float) -> list[Command]:
        """Give the open POST to a writer that waits for it, and open the next."""
        if self.line is not Line.OPEN or self.writer is not Writer.WAITING or self._seq is None:
            return []
        self._fire(Trigger.TAKEN)
        self.writer = Writer.WRITING
        self._write_request, self._write_seq = self._line_request, self._seq
        self._seq += 1
        return [Grant(self._write_request, self._write_seq), *self._post(self._seq, now)]

    def _hang_up(self) -> list[Command]:
        request, self._line_request = self._line_request, -1
        return [Abort(request)] if request >= 0 else []

    def _discard(self) -> list[Command]:
        request, self._line_request = self._line_request, -1
        return [Discard(request)]

    def _hear_line(self, event: Event, now: float) -> list[Command]:
        if not isinstance(event, ResponseStarted):
            return [*self._hang_up(), *self._fault(event, now)]
        orders = self._discard()
        if wire.is_closed(event.headers):
            return [*orders, *self._end(Ending.CLOSED, event.status)]
        if event.status == 404:
            return [*orders, *self._hear_absent()]
        answers = {
            Line.CREATING: self._hear_created,
            Line.LOCATING: self._hear_next,
            Line.PROBING: self._hear_probe,
            Line.OPEN: self._hear_early,
        }
        return [*orders, *answers[self.line](event, now)]

    def _hear_absent(self) -> list[Command]:
        """There is no such channel: make it where that is wanted; one that vanishes again is
        gone.
        """
        if not self._may_create or self.line is Line.CREATING:
            return self._end(Ending.GONE, 404)
        self._fire(Trigger.CREATE)
        self._line_request = self._mint()
        return [Create(self._line_request)]

    def _hear_created(self, head: ResponseStarted, now: float) -> list[Command]:
        if head.status != 200:
            return self._hear_refusal(head, now)
        self._may_create = False
        return self._open(now)

    def _hear_next(self, head: ResponseStarted, now: float) -> list[Command]:
        latest = wire.parse_seq(head.headers.get(wire.LATEST))
        if head.status == 200 and latest is not None and latest >= 0:
            return self._begin_at(latest, now)
        if head.status in (200, 400):
            self._fire(Trigger.PROBE)
            self._line_request = self._mint()
            return [OpenGet(self._line_request, FAR_AHEAD)]
        return self._hear_refusal(head, now)

    def _hear_probe(self, head: ResponseStarted, now: float) -> list[Command]:
        latest = wire.parse_seq(head.headers.get(wire.LATEST))
        if latest is not None and 0 <= latest < FAR_AHEAD:
            return self._begin_at(latest, now)
        return self._hear_refusal(head, now)

    def _begin_at(self, seq: int, now: float) -> list[Command]:
        self._seq = self._first = seq
        self._backoff.succeeded()
        return self._open(now)

    def _hear_early(self, head: ResponseStarted, now: float) -> list[Command]:
        """An answer to a POST that waits for its segment."""
        if head.status == 200 and self._seq is not None:
            # Somebody closed the segment on the server. Its number is used up; the pause is for a
            # server that does it again and again.
            self._seq += 1
            return self._fault(head, now)
        return self._hear_refusal(head, now)

    def _hear_refusal(self, head: ResponseStarted, now: float) -> list[Command]:
        if 400 <= head.status < 500 and head.status not in (408, 429):
            return self._end(Ending.REFUSED, head.status)
        return self._fault(head, now)

    def _fault(self, event: Event, now: float) -> list[Command]:
        again = self._backoff.failed(now, now - self._opened if reached(event) else 0.0)
        if again is None:
            return self._end(Ending.GAVE_UP)
        self._fire(Trigger.FAULT)
        self._timer = again
        return []

    def _end(self, ending: Ending, status: int | None = None) -> list[Command]:
        """It is over, and not by us: there is nobody left to say goodbye to."""
        orders = self._hang_up()
        if self.writer is Writer.WRITING:
            orders += [Abort(self._write_request), Lose(self._write_request)]
            self._lose()
        orders += [Abort(request) for request in (*self._settling, *self._asides)]
        self._settling.clear()
        self._asides.clear()
        self._timer = math.inf
        self._fire(Trigger.END)
        return [*orders, Finish(ending, status)]

    # -- the segment being written

    def _lose(self) -> None:
        self.writer = Writer.BEREFT
        self._write_request = -1
        self.lost += 1

    def _hear_write(self, event: Event, now: float) -> list[Command]:
        if isinstance(event, RequestFinished):
            return []
        if isinstance(event, ResponseStarted):
            if wire.is_closed(event.headers):
                return self._end(Ending.CLOSED, event.status)
            if event.status == 404:
                return self._end(Ending.GONE, event.status)
        if event.bytes_sent == 0 and not _is_closed_segment(event):
            return self._recall(now)
        return self._lose_segment(event, now)

    def _recall(self, now: float) -> list[Command]:
        """Not a byte of the segment has left: the same number once more, and the writer waits for
        it again.
        """
        again = self._backoff.failed(now)
        if again is None:
            return self._end(Ending.GAVE_UP)
        orders = [*self._hang_up(), Abort(self._write_request)]
        self._write_request = -1
        self.writer = Writer.WAITING
        self._seq = self._write_seq
        self._fire(Trigger.RECALL)
        self._timer = again
        return orders

    def _lose_segment(self, event: Event, now: float) -> list[Command]:
        request, seq = self._write_request, self._write_seq
        self._lose()
        lost: list[Command] = [Abort(request), Lose(request)]
        return lost if _is_closed_segment(event) else [*lost, *self._close_segment(seq, now)]

    def _break_off(self, now: float) -> list[Command]:
        request, self._write_request = self._write_request, -1
        self.lost += 1
        return [Abort(request), *self._close_segment(self._write_seq, now)]

    def _close_segment(self, seq: int, now: float) -> list[Command]:
        return self._aside(Delete(self._mint(), seq), now)

    # -- what goes on beside it

    def _aside(self, order: Delete, now: float) -> list[Command]:
        self._asides[order.request] = now + self.settings.settle
        return [order]

    def _hear_aside(self, event: Event) -> list[Command]:
        """Whatever the answer, more cannot be done."""
        del self._asides[event.request]
        orders: list[Command] = []
        if isinstance(event, ResponseStarted):
            orders.append(Discard(event.request))
        return [*orders, *self._leave_if_done()]

    def _hear_settling(self, event: Event, now: float) -> list[Command]:
        seq, _ = self._settling.pop(event.request)
        if isinstance(event, ResponseStarted) and event.status == 200:
            self._backoff.succeeded()
            return [Discard(event.request), *self._leave_if_done()]
        self.lost += 1
        if isinstance(event, ResponseStarted) and event.status == 404:
            discard = Discard(event.request)
            if self._leaving:
                return [discard, *self._leave_if_done()]
            return [discard, *self._end(Ending.GONE, event.status)]
        return [Abort(event.request), *self._close_segment(seq, now), *self._leave_if_done()]

    @property
    def _leaving(self) -> bool:
        return self.line is Line.CLOSING

    def _leave_if_done(self) -> list[Command]:
        if not self._leaving or self._settling or self._asides:
            return []
        self._fire(Trigger.END)
        return [Finish(Ending.LEFT)]


def _is_closed_segment(event: Event) -> bool:
    """Whether the server closed the segment under its writer: somebody deleted it, or another
    publisher reset.
    """
    return isinstance(event, ResponseStarted) and event.status == 200
