"""A server: relays one after another, with what an adapter does for them, and the odd manners of
servers that are deployed.
"""

from __future__ import annotations

import math
from random import Random
from typing import Final
from weakref import WeakKeyDictionary

from attrs import define, field, frozen

from tests.core.simulation.clock import Alarm, Clock
from tests.core.simulation.truth import Book, require
from tests.core.simulation.wires import AnswerHead, Connection, End, Item, Mark, Network
from trickle_core import wire
from trickle_core.answer import CLOSE, Answer, Head, text
from trickle_core.relay import Relay
from trickle_core.relay_settings import RelayRequest, RelaySettings
from trickle_core.window.reader import Reader
from trickle_core.window.segment import Segment
from trickle_core.window.states import CUT, END, NEED_DATA, NEED_ROOM, WriterState
from trickle_core.window.writer import Writer

FAREWELL: Final = 2.0
FAULTS: Final = (500, 502, 503, 429, 408)
PULL: Final = 256


@frozen(kw_only=True)
class Manner:
    """How a server behaves beside the protocol. Times in seconds."""

    settings: RelaySettings = field(factory=RelaySettings)
    knows_next: bool = True
    """An older one does not: it answers 400."""
    get_limit: float = math.inf
    """A GET that waited so long is cut."""
    post_limit: float = math.inf
    """A POST whose body paused so long is answered with 500."""
    continues: bool = True
    """Whether waiting POSTs are sent ``100 Continue``."""
    write_limit: float = 20.0
    """A client that takes nothing for so long is dropped."""


@define(eq=False, repr=False)
class Session:
    """The server's side of one connection."""

    host: Host
    connection: Connection
    reader: Reader | None = field(default=None, init=False)
    writer: Writer | None = field(default=None, init=False)
    _limit: Alarm = field(init=False)
    _held: Item | None = field(default=None, init=False)
    """What the relay has no room for yet."""
    _ended: Answer | None = field(default=None, init=False)
    """The answer to a body that came whole."""

    def __attrs_post_init__(self) -> None:
        self._limit = Alarm(self.host.clock, self._too_long)

    # What the network tells

    def hear(self) -> None:
        """Something came."""
        self._touch()
        self.work()

    def lose(self) -> None:
        """The connection has gone."""
        self._end()

    def go_on(self) -> None:
        """There is room again."""
        self._touch()
        self.work()

    # What the relay tells

    def wake(self) -> None:
        """Its waker: called in the midst of things."""
        self.host.noted[self] = None

    def work(self) -> None:
        """Do whatever can be done now."""
        while (item := self._held or self.connection.up.take()) is not None:
            self._held = None
            if not self._take_in(item):
                self._held = item
                break
        self._give_out()
        self.host.relay_moved()

    def _take_in(self, item: Item) -> bool:
        if isinstance(item, RelayRequest):
            self._ask(item)
        elif item is Mark.BROKEN:
            self._part()
        elif self.writer is not None:
            return self._write(self.writer, item)
        return True

    def _ask(self, request: RelayRequest) -> None:
        handled = self.host.handle(request)
        if isinstance(handled, Answer):
            self._answer(handled)
            return
        handled.waker = self.wake
        if isinstance(handled, Reader):
            self.reader = handled
        else:
            self.writer = handled
            self._keep_waiting()
        self._touch()

    def _write(self, writer: Writer, item: Item) -> bool:
        host = self.host
        if isinstance(item, bytes):
            before = writer.segment.size if writer.segment is not None else 0
            taken = writer.write(item, host.clock.now)
            if writer.state is WriterState.WRITING and taken is not NEED_ROOM:
                host.note_bytes(writer, item, before)
        else:
            taken = writer.end(host.clock.now)
            if writer.state is WriterState.ENDED and isinstance(taken, Answer):
                self._ended = taken
                host.note_end(writer)
        return taken is not NEED_ROOM

    def _give_out(self) -> None:
        writer, reader = self.writer, self.reader
        if writer is not None:
            answer = writer.answer or self._ended
            if answer is not None:
                self._answer(answer)
        if reader is not None:
            self._pull(reader)

    def _pull(self, reader: Reader) -> None:
        down, now = self.connection.down, self.host.clock.now
        while down.has_room():
            pulled = reader.pull(PULL, now)
            if isinstance(pulled, Head):
                down.send(_head(pulled))
            elif isinstance(pulled, list):
                down.send(b"".join(pulled))
            elif pulled is CUT:
                self._drop()
                return
            elif pulled is END:
                down.send(Mark.END)
                self._part()
                return
            elif pulled is NEED_DATA:
                return

    def _answer(self, answer: Answer) -> None:
        """Send it, and throw away what still comes."""
        down = self.connection.down
        down.send(_head(answer))
        if answer.body:
            down.send(answer.body)
        down.send(Mark.END)
        self._part()

    def _part(self) -> None:
        self._end()
        self.connection.leave(End.SERVER)

    def _end(self) -> None:
        """Leave the relay."""
        self._limit.set(math.inf)
        now = self.host.clock.now
        if self.reader is not None:
            self.reader.close(now)
        if self.writer is not None:
            self.writer.abort(now)
        self.reader = self.writer = None
        self._held = None
        self.host.forget(self)
        self.host.relay_moved()

    def _drop(self) -> None:
        self._end()
        self.connection.break_off(End.SERVER)

    # Limits

    def _touch(self) -> None:
        manner, now = self.host.manner, self.host.clock.now
        if self.writer is not None:
            self._limit.set(now + manner.post_limit)
        elif self.reader is not None:
            blocked = not self.connection.down.has_room()
            self._limit.set(now + (manner.write_limit if blocked else manner.get_limit))

    def _too_long(self) -> None:
        if self.writer is not None:
            self._answer(text(500, "Too slow", CLOSE))
        elif self.reader is not None:
            self._drop()

    def _keep_waiting(self) -> None:
        if not self.host.manner.continues:
            return
        self.host.clock.after(wire.CONTINUE_INTERVAL, self._say_continue)

    def _say_continue(self) -> None:
        if self.writer is not None and self.writer.state is WriterState.PRECONNECTED:
            self.connection.down.send(Mark.CONTINUE)
            self._keep_waiting()


def _head(answer: Answer | Head) -> AnswerHead:
    """The head of an answer; a reader that it tells of the channel's end has been told of all segments."""
    headers = dict(answer.headers)
    if wire.is_closed(headers) and wire.SEQ in headers and wire.LATEST in headers:
        seq, latest = int(headers[wire.SEQ]), int(headers[wire.LATEST])
        require(seq >= latest, "an end is told where nothing follows", seq, latest)
    return AnswerHead(answer.status, headers)


@define(eq=False, repr=False)
class Host:
    """One machine under one address."""

    clock: Clock
    dice: Random
    network: Network
    book: Book
    manner: Manner
    relay: Relay = field(init=False)
    up: bool = field(default=True, init=False)
    noted: dict[Session, None] = field(factory=dict, init=False)
    """Who was woken: once, however often it was."""
    restarts: int = field(default=0, init=False)
    errors: int = field(default=0, init=False)
    _sessions: dict[Session, None] = field(factory=dict, init=False)
    _alarm: Alarm = field(init=False)
    _owners: WeakKeyDictionary[Segment, int] = field(factory=WeakKeyDictionary, init=False)
    """The serial number of what stands in a segment."""

    def __attrs_post_init__(self) -> None:
        self.relay = Relay(self.manner.settings)
        self._alarm = Alarm(self.clock, self._time_out)

    # Connections

    def welcome(self, connection: Connection) -> None:
        """Serve a new connection."""
        session = Session(self, connection)
        connection.ends[End.SERVER] = session
        self._sessions[session] = None

    def forget(self, session: Session) -> None:
        """It has done with the relay."""
        self._sessions.pop(session, None)

    @property
    def sessions(self) -> int:
        """Connections that may still ask something."""
        return len(self._sessions)

    def handle(self, request: RelayRequest) -> Answer | Reader | Writer:
        """Answer a request, well-mannered or not."""
        if self.dice.random() < self.network.weather.errors:
            self.errors += 1
            return text(self.dice.choice(FAULTS), "Out of order", CLOSE)
        if request.path.endswith("/next") and not self.manner.knows_next:
            return text(400, "Invalid index")
        return self.relay.handle(request, self.clock.now)

    # The relay's time, and who it wakes

    def relay_moved(self) -> None:
        """After each input: let those go on who were woken by it, and look at the clock."""
        noted, self.noted = self.noted, {}
        for session in noted:
            # In a turn of their own: a waker must not call back.
            self.clock.after(0.0, session.work)
        self._alarm.set(self.relay.deadline())

    def _time_out(self) -> None:
        self.relay.handle_timeout(self.clock.now)
        self.relay_moved()

    # What is true

    def note_bytes(self, writer: Writer, data: bytes, before: int) -> None:
        """These were taken into the writer's segment."""
        segment = writer.segment
        require(segment is not None, "a writer that was taken from has a segment")
        if segment is not None:
            owner = self._owners.get(segment)
            require(segment.size == before + len(data), "a piece is taken once", segment.seq)
            self._owners[segment] = self.book.arrived(data, before, owner)

    def note_end(self, writer: Writer) -> None:
        """The writer's body came whole."""
        owner = self._owners.get(writer.segment) if writer.segment is not None else None
        if owner is not None:
            self.book.published[owner].whole_there = True

    # Ends

    def crash(self) -> None:
        """Everything is gone at once, and nothing is there for a while."""
        self.up = False
        for session in tuple(self._sessions):
            session.lose()
        for connection in tuple(self.network.connections):
            if End.SERVER in connection.ends:
                connection.break_off(End.SERVER)
        self._new_relay()

    def stop(self) -> None:
        """End well: who waits is told."""
        self.up = False
        self.relay.close(self.clock.now)
        self.relay_moved()
        self.clock.after(FAREWELL, self.crash)

    def _new_relay(self) -> None:
        self.relay = Relay(self.manner.settings)
        self.restarts += 1
        self._alarm.set(math.inf)

    def restart(self) -> None:
        """Be there again, knowing nothing."""
        self.up = True
