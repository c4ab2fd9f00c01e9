"""The writing end of a channel: which segment to post, when to open the next one, and what to do
when one breaks.

Two parties again: the *line*, the one POST that is opened ahead of its data (*preconnect*), and the
*writer*, whoever fills segments. What is odd about the protocol:

- A POST sends its head and then nothing until there is data. It may be answered all the same: 404
  or "closed" because the channel went away, 500 because the server's patience with silent bodies
  ran out. Only that last one is worth another try, and with the same sequence number, for not a
  byte of the segment has left.
- The writer gets the POST without a sign from the server, for there is none before the body's end.
  A POST that is refused before its first byte is taken back (``RECALL``) and opened again under the
  same number.
- A connection that breaks inside a segment leaves that segment open on the server with what had
  arrived, and a second POST to it *appends*. So once a byte has left, its number is never posted
  again: the segment is closed by ``DELETE`` and the writer goes on with the next number.
- A number that is passed over is a trap: a reader that comes for it later waits until its place in
  the server's ring is taken. So a segment dropped before its first byte gives its POST and its
  number back (``RETURN``).
- A POST that is opened while nothing of ours is under way below it carries ``Lp-Trickle-Reset``:
  readers who hang in a segment that the publisher before left open, or that we lost, go on. No
  other POST may: it would close the segment that is being written, or is settling, just below.
- Where to begin is asked at ``/next``. A server too old for that route answers 400; a GET for a
  number far ahead then tells the same by the ``Lp-Trickle-Latest`` of its 470.
- The answer to a POST comes after its body's end, while the next segment is being written already.
  Segments that wait for it are *settling*: their number is kept until the answer is here, for if it
  never comes the segment has to be closed.
- The channel is deleted last: the ``DELETE`` has a connection of its own and would overtake the
  last segment.
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
    Discard,
    EndBody,
    Ending,
    Finish,
    Grant,
    Lose,
    OpenGet,
    OpenPost,
)
from trickle_core.deletions import Deletions
from trickle_core.errors import LocalProtocolError
from trickle_core.events import (
    Cause,
    Event,
    RequestFailed,
    RequestFinished,
    ResponseStarted,
    ending_of,
    reached,
    status_of,
)
from trickle_core.retry import Backoff, Jitter, RetryPolicy, no_jitter

FAR_AHEAD: Final = 999_999_999
"""A sequence number that no channel has: asking for it makes a server tell its *next write*."""

TOO_LARGE: Final = 413
"""The one refusal that speaks of a segment and not of its writer."""


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
    """The writer has left; what it left behind settles."""
    DELETING = auto()
    """The writer has left; the channel is being deleted."""
    OVER = auto()
    """Nothing will be sent again."""


class Trigger(Enum):
    """What can happen to the line."""

    CREATE = auto()
    """Make the channel."""
    LOCATE = auto()
    """Ask where to write."""
    PROBE = auto()
    """Ask an old server where to write."""
    POST = auto()
    """It is known where to write."""
    TAKEN = auto()
    """The writer begins a segment; the next POST is opened."""
    FAULT = auto()
    """No connection, a broken one, a server's fault, an answer that makes no sense or never comes."""
    RECALL = auto()
    """The segment just granted was refused before its first byte: it is opened again."""
    RETURN = auto()
    """The writer wants nothing with the segment just granted: its POST waits for another."""
    CLOSE = auto()
    """The user of this machine leaves."""
    DELETE = auto()
    """Nothing of ours is under way any more, and the channel is ours to delete."""
    END = auto()
    """The channel was closed, is gone, refuses us, or was out of reach for too long. Or the
    farewell is over.
    """


_WAITING: Final = {Trigger.FAULT: Line.PAUSED, Trigger.END: Line.OVER, Trigger.CLOSE: Line.CLOSING}

TRANSITIONS: Final[Mapping[Line, Mapping[Trigger, Line]]] = {
    Line.NEW: {
        Trigger.CREATE: Line.CREATING,
        Trigger.LOCATE: Line.LOCATING,
        Trigger.POST: Line.OPEN,
        Trigger.CLOSE: Line.CLOSING,
    },
    Line.CREATING: {**_WAITING, Trigger.LOCATE: Line.LOCATING, Trigger.POST: Line.OPEN},
    Line.LOCATING: {**_WAITING, Trigger.POST: Line.OPEN, Trigger.PROBE: Line.PROBING},
    Line.PROBING: {**_WAITING, Trigger.POST: Line.OPEN},
    Line.OPEN: {
        **_WAITING,
        Trigger.TAKEN: Line.OPEN,
        Trigger.RECALL: Line.PAUSED,
        Trigger.RETURN: Line.OPEN,
    },
    Line.PAUSED: {
        Trigger.CREATE: Line.CREATING,
        Trigger.LOCATE: Line.LOCATING,
        Trigger.POST: Line.OPEN,
        Trigger.RECALL: Line.PAUSED,
        Trigger.RETURN: Line.OPEN,
        Trigger.END: Line.OVER,
        Trigger.CLOSE: Line.CLOSING,
    },
    Line.CLOSING: {Trigger.DELETE: Line.DELETING, Trigger.END: Line.OVER},
    Line.DELETING: {Trigger.END: Line.OVER},
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

    ``first``: the first sequence number; None: ask the server. ``create``: make the channel first;
    one that is there already is taken as it is. ``delete``: delete the channel when leaving.
    ``settle``: seconds to wait for an answer that is due; behind a segment's end a slow link may
    still be emptying its buffers. ``farewell``: seconds that leaving may take.
    """

    first: int | None = field(default=None, validator=validators.optional(validators.ge(0)))
    create: bool = False
    delete: bool = False
    settle: float = field(default=10.0, validator=validators.gt(0))
    farewell: float = field(default=2.0, validator=validators.gt(0))
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
        """Segments begun that the server never confirmed."""
        retry = self.settings.retry
        self._backoff = Backoff(retry, jitter)
        self._minted = 0
        self._timer = math.inf
        self._line_request = -1
        self._opened = math.inf
        self._to_create = self.settings.create
        self._seq = self.settings.first
        self._write_request = -1
        self._write_seq = -1
        self._settling: dict[int, tuple[int, float]] = {}
        """By request: the segment's number, and until when its answer is waited for."""
        self._deletions = Deletions(self._mint, self.settings.settle, Backoff(retry, jitter))

    @property
    def settling(self) -> int:
        """How many segments have ended and wait for the server's answer."""
        return len(self._settling)

    # -- inputs

    def start(self, now: float) -> list[Command]:
        """Find out where to write, and open the first POST."""
        if self.line is not Line.NEW:
            raise LocalProtocolError(f"start while {self.line.name}")
        return self._open(now)

    def begin_segment(self, now: float) -> list[Command]:
        """The writer wants to begin: ``Grant`` comes, at once or later, unless ``Finish`` came."""
        if self.writer is not Writer.AWAY:
            raise LocalProtocolError(f"begin_segment while {self.writer.name}")
        self.writer = Writer.WAITING
        return self._grant(now)

    def end_segment(self, now: float) -> list[Command]:
        """The segment is whole. Its fate is settled while the next one is written."""
        if self.writer not in (Writer.WRITING, Writer.BEREFT):
            raise LocalProtocolError(f"end_segment while {self.writer.name}")
        writer, self.writer = self.writer, Writer.AWAY
        if writer is Writer.BEREFT:
            return []
        request, self._write_request = self._write_request, -1
        self._settling[request] = (self._write_seq, now + self.settings.settle)
        return [EndBody(request)]

    def drop_segment(self, now: float, *, untouched: bool = False) -> list[Command]:
        """The segment is given up, or no longer waited for: readers that hang in it are sent on.

        ``untouched``: not a byte of it has left, so its POST and its number serve the next one.
        """
        writer, self.writer = self.writer, Writer.AWAY
        if writer is Writer.AWAY:
            raise LocalProtocolError("drop_segment while AWAY")
        if writer is not Writer.WRITING:
            return []
        if untouched:
            return self._return()
        request, self._write_request = self._write_request, -1
        self.lost += 1
        return [Abort(request), *self._close_segment(self._write_seq, now)]

    def receive(self, event: Event, now: float) -> list[Command]:
        """Take in what was seen on the network. Reports of requests that are no longer of interest
        change nothing.
        """
        if event.request == self._line_request:
            return self._hear_line(event, now)
        if event.request == self._write_request:
            return self._hear_write(event, now)
        if event.request in self._settling:
            orders = self._hear_settling(event, now)
        else:
            orders = self._deletions.receive(event, now)
        return [*orders, *self._leave_if_done(now)]

    def deadline(self) -> float:
        """When ``handle_timeout`` is to be called; ``math.inf``: no timer runs."""
        settling = (due for _, due in self._settling.values())
        return min((self._timer, self._deletions.deadline(), *settling))

    def handle_timeout(self, now: float) -> list[Command]:
        """A timer fired. Early calls do nothing."""
        orders = self._deletions.handle_timeout(now)
        for request, (_, due) in list(self._settling.items()):
            # One loss too many gives all of them up.
            if now >= due and request in self._settling:
                orders += self._lose_settling(request, now)
        if now >= self._timer:
            orders += self._expire(now)
        return [*orders, *self._leave_if_done(now)]

    def close(self, now: float) -> list[Command]:
        """The writer leaves. A segment it has not ended is dropped, those that settle are waited
        for, then the channel is deleted where that is wanted; ``farewell`` bounds it all.

        Legal at any moment, and more than once. ``Finish`` comes when all is done.
        """
        if self._leaving or self.line is Line.OVER:
            return []
        self._fire(Trigger.CLOSE)
        orders = self._hang_up()
        if self.writer is not Writer.AWAY:
            orders += self.drop_segment(now)
        self._timer = now + self.settings.farewell
        # Half of the time is for answers, the other half for what has to be deleted without them.
        half = now + self.settings.farewell / 2
        self._settling = {r: (seq, min(due, half)) for r, (seq, due) in self._settling.items()}
        return [*orders, *self._leave_if_done(now)]

    # -- the line

    def _fire(self, trigger: Trigger) -> None:
        self.line = TRANSITIONS[self.line][trigger]

    def _mint(self) -> int:
        self._minted += 1
        return self._minted

    def _begin_request(self, now: float, patience: float) -> int:
        self._line_request, self._opened = self._mint(), now
        self._timer = now + patience
        return self._line_request

    def _open(self, now: float) -> list[Command]:
        """Open what the line needs next: the POST, or first the question where to write."""
        settle = self.settings.settle
        if self._to_create:
            self._fire(Trigger.CREATE)
            return [Create(self._begin_request(now, settle))]
        if self._seq is None:
            self._fire(Trigger.LOCATE)
            return [AskNext(self._begin_request(now, settle))]
        self._fire(Trigger.POST)
        return [self._post(self._seq, now), *self._grant(now)]

    def _post(self, seq: int, now: float) -> Command:
        below = self.writer is Writer.WRITING or self._settling
        return OpenPost(self._begin_request(now, math.inf), seq, reset=not below)

    def _grant(self, now: float) -> list[Command]:
        """Give the open POST to a writer that waits for it, and open the next, if that one still
        fits in the server's window: it would push out, and so cut, what is settling.
        """
        if self.line is not Line.OPEN or self.writer is not Writer.WAITING or self._seq is None:
            return []
        if any(self._seq + 1 - seq >= wire.WINDOW for seq, _ in self._settling.values()):
            return []
        self._fire(Trigger.TAKEN)
        self._backoff.served(now - self._opened)
        self.writer = Writer.WRITING
        self._write_request, self._write_seq = self._line_request, self._seq
        self._seq += 1
        return [Grant(self._write_request, self._write_seq), self._post(self._seq, now)]

    def _hang_up(self) -> list[Command]:
        request, self._line_request = self._line_request, -1
        return [Abort(request)] if request >= 0 else []

    def _hear_line(self, event: Event, now: float) -> list[Command]:
        if not isinstance(event, ResponseStarted):
            return [*self._hang_up(), *self._fault(event, now)]
        # The body of a POST is still open, and must not end as if whole.
        over = (Abort if self.line is Line.OPEN else Discard)(event.request)
        self._line_request = -1
        no_such_route = self.line is Line.LOCATING and event.status == 400
        ending = None if no_such_route else ending_of(event)
        if ending is not None:
            return [over, *self._end(ending, event.status)]
        answers = {
            Line.CREATING: self._hear_created,
            Line.LOCATING: self._hear_next,
            Line.PROBING: self._hear_probe,
            Line.OPEN: self._hear_early,
        }
        return [over, *answers[self.line](event, now)]

    def _hear_created(self, head: ResponseStarted, now: float) -> list[Command]:
        if head.status != 200:
            return self._fault(head, now)
        self._to_create = False
        self._backoff.succeeded()
        return self._open(now)

    def _hear_next(self, head: ResponseStarted, now: float) -> list[Command]:
        latest = wire.parse_seq(head.headers.get(wire.LATEST))
        if head.status == 200 and latest is not None and latest >= 0:
            return self._begin_at(latest, now)
        if head.status in (200, 400):
            self._fire(Trigger.PROBE)
            return [OpenGet(self._begin_request(now, self.settings.settle), FAR_AHEAD)]
        return self._fault(head, now)

    def _hear_probe(self, head: ResponseStarted, now: float) -> list[Command]:
        latest = wire.parse_seq(head.headers.get(wire.LATEST))
        if latest is not None and 0 <= latest < FAR_AHEAD:
            return self._begin_at(latest, now)
        return self._fault(head, now)

    def _begin_at(self, seq: int, now: float) -> list[Command]:
        self._seq = seq
        self._backoff.succeeded()
        return self._open(now)

    def _hear_early(self, head: ResponseStarted, now: float) -> list[Command]:
        """An answer to a POST that waits for its segment."""
        if head.status == 200 and self._seq is not None:
            # Somebody closed the segment on the server. Its number is used up; the pause is for a
            # server that does it again and again.
            self._seq += 1
        return self._fault(head, now)

    def _fault(self, event: Event, now: float) -> list[Command]:
        if reached(event):
            self._backoff.served(now - self._opened)
        again = self._backoff.failed(now)
        if again is None:
            return self._end(Ending.GAVE_UP, status_of(event))
        self._fire(Trigger.FAULT)
        self._timer = again
        return []

    def _expire(self, now: float) -> list[Command]:
        """What the line waited for is over: a pause, the farewell, or the patience with a server
        that does not answer.
        """
        if self.line is Line.PAUSED:
            return self._open(now)
        if self._leaving:
            return self._end(Ending.LEFT)
        return self._hear_line(RequestFailed(self._line_request, Cause.TIMED_OUT), now)

    def _end(self, ending: Ending, status: int | None = None) -> list[Command]:
        """It is over: what is still open is given up."""
        if self._leaving:
            ending, status = Ending.LEFT, None
        orders = self._hang_up()
        if self.writer is Writer.WRITING:
            orders += self._take_away()
        orders += [Abort(request) for request in self._settling]
        self.lost += len(self._settling)
        self._settling.clear()
        orders += self._deletions.clear()
        self._timer = math.inf
        self._fire(Trigger.END)
        return [*orders, Finish(ending, status)]

    # -- the segment being written

    def _take_away(self) -> list[Command]:
        request, self._write_request = self._write_request, -1
        self.writer = Writer.BEREFT
        self.lost += 1
        return [Abort(request), Lose(request)]

    def _hear_write(self, event: Event, now: float) -> list[Command]:
        if isinstance(event, RequestFinished):
            return []
        status = status_of(event)
        if isinstance(event, ResponseStarted) and status != TOO_LARGE:
            ending = ending_of(event)
            if ending is not None:
                return self._end(ending, status)
        # A 200 means that somebody closed the segment on the server: its number is used up.
        if event.bytes_sent == 0 and status not in (200, TOO_LARGE):
            return self._recall(event, now)
        return [*self._take_away(), *self._strike(self._write_seq, now)]

    def _recall(self, event: Event, now: float) -> list[Command]:
        """Not a byte of the segment has left: the same number once more, and the writer waits for
        it again.
        """
        again = self._backoff.failed(now)
        if again is None:
            return self._end(Ending.GAVE_UP, status_of(event))
        orders = [*self._hang_up(), Abort(self._write_request)]
        self._seq, self._write_request = self._write_seq, -1
        self.writer = Writer.WAITING
        self._fire(Trigger.RECALL)
        self._timer = again
        return orders

    def _return(self) -> list[Command]:
        """The POST waits for another segment; the one that was preconnected behind it would come
        too early.
        """
        orders = self._hang_up()
        self._line_request, self._write_request = self._write_request, -1
        self._seq = self._write_seq
        self._fire(Trigger.RETURN)
        self._timer = math.inf
        return orders

    def _strike(self, seq: int, now: float) -> list[Command]:
        """Segment ``seq`` is lost, and that was one failure more."""
        if not self._leaving and self._backoff.failed(now) is None:
            return self._end(Ending.GAVE_UP)
        return self._close_segment(seq, now)

    def _close_segment(self, seq: int, now: float) -> list[Command]:
        """Send on the readers who hang in it. A channel that is about to be deleted does so itself."""
        if self._leaving and self.settings.delete:
            return []
        return self._deletions.add(seq, now)

    # -- the segments behind it

    def _hear_settling(self, event: Event, now: float) -> list[Command]:
        if isinstance(event, ResponseStarted):
            ending = ending_of(event)
            if ending in (Ending.CLOSED, Ending.GONE):
                return self._end(ending, event.status)
            if event.status == 200 and not _fell_short(event):
                del self._settling[event.request]
                self._backoff.succeeded()
                return [Discard(event.request), *self._grant(now)]
        return self._lose_settling(event.request, now)

    def _lose_settling(self, request: int, now: float) -> list[Command]:
        seq, _ = self._settling.pop(request)
        self.lost += 1
        return [Abort(request), *self._strike(seq, now), *self._grant(now)]

    # -- leaving

    @property
    def _leaving(self) -> bool:
        return self.line in (Line.CLOSING, Line.DELETING)

    def _leave_if_done(self, now: float) -> list[Command]:
        if not self._leaving or self._settling:
            return []
        if self.line is Line.CLOSING and self.settings.delete and self._minted:
            self._fire(Trigger.DELETE)
            return [*self._deletions.clear(), *self._deletions.add(None, now)]
        return [] if self._deletions.pending else self._end(Ending.LEFT)


def _fell_short(head: ResponseStarted) -> bool:
    """Whether the segment was closed before all of our bytes had come: a relay of ours says how
    many it has where it answers early.
    """
    size = wire.parse_seq(head.headers.get(wire.SIZE))
    return size is not None and size < head.bytes_sent
