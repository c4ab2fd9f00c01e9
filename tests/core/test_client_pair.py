"""A publisher and a subscriber meet over a model of the deployed server and of a network that
breaks: nobody is left hanging, nothing comes twice, nothing broken is taken for whole.
"""

from __future__ import annotations

from collections import deque
from typing import TypeVar

from attrs import define, field
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from trickle_core import wire
from trickle_core.commands import (
    Abort,
    AskNext,
    Command,
    Create,
    Delete,
    Deliver,
    Discard,
    EndBody,
    Ending,
    Finish,
    Grant,
    OpenGet,
    OpenPost,
    Truncate,
)
from trickle_core.events import Cause, RequestFailed, RequestFinished, ResponseStarted
from trickle_core.publisher import Publisher, PublisherSettings, Writer
from trickle_core.retry import RetryPolicy
from trickle_core.subscriber import Reader, Subscriber, SubscriberSettings

WHICH = st.integers(0, 999)
T = TypeVar("T")


def one_of(things: list[T], which: int) -> T:
    return things[which % len(things)]


# -- the network: in order on each connection, in any order across them

Request = OpenGet | OpenPost | AskNext | Create | Delete


@define(frozen=True)
class Token:
    """A piece of a segment."""

    number: int


class Mark:
    """What else passes over a connection."""

    END = "the body is whole"
    BROKEN = "the connection has ended"


@define(eq=False)
class Connection:
    """One request's way to the server and back."""

    client: Client
    order: Request
    up: deque[Request | Token | str] = field(factory=deque)
    down: deque[tuple[int, dict[str, str]] | Token | str] = field(factory=deque)
    sent: int = 0
    listening: bool = True

    def cut(self) -> None:
        """End it from the client's side. A request that the server has not heard of never comes."""
        if self.order in self.up:
            self.up.clear()
        self.up.append(Mark.BROKEN)


# -- the server, as it is deployed


@define(eq=False)
class Segment:
    tokens: list[Token] = field(factory=list)
    closed: bool = False
    readers: dict[Connection, int] = field(factory=dict)


@define
class Server:
    """One channel of the deployed server."""

    segments: dict[int, Segment] = field(factory=dict)
    posts: dict[Connection, Segment] = field(factory=dict)
    next_write: int = 0
    gone: bool = False

    def hear(self, connection: Connection) -> None:
        """Take in the next thing on a connection."""
        thing, order = connection.up.popleft(), connection.order
        if isinstance(thing, Token):
            assert isinstance(order, OpenPost)
            self.write(order.seq, self.posts[connection], thing)
        elif thing == Mark.BROKEN:
            for segment in self.segments.values():
                segment.readers.pop(connection, None)
        elif thing == Mark.END:
            assert isinstance(order, OpenPost)
            self.next_write = max(self.next_write, order.seq + 1)
            self.close(order.seq, self.posts[connection])
            connection.down += [(200, {wire.SEQ: str(order.seq)}), Mark.END]
        elif self.gone:
            connection.down += [(404, {}), Mark.END]
        else:
            self.begin(connection)

    def begin(self, connection: Connection) -> None:
        """The head of a request is here."""
        match connection.order:
            case OpenGet(seq=seq):
                self.read(connection, seq)
            case OpenPost(seq=seq, reset=reset):
                for older, segment in self.segments.items() if reset else ():
                    if older < seq:
                        self.close(older, segment)
                self.posts[connection] = self.slot(seq)
            case Delete(seq=None):
                self.gone = True
                for seq, segment in self.segments.items():
                    self.close(seq, segment)
                connection.down += [(200, {}), Mark.END]
            case Delete(seq=int(seq)):
                connection.down += [(200 if seq in self.segments else 400, {}), Mark.END]
                if seq in self.segments:
                    self.close(seq, self.segments[seq])
            case _:
                connection.down += [(200, {wire.LATEST: str(self.next_write)}), Mark.END]

    def slot(self, seq: int) -> Segment:
        """The segment in its place in the ring. What is pushed out is closed."""
        if seq not in self.segments:
            for old in [old for old in self.segments if old % wire.WINDOW == seq % wire.WINDOW]:
                self.close(old, self.segments.pop(old))
            self.segments[seq] = Segment()
        return self.segments[seq]

    def write(self, seq: int, segment: Segment, token: Token) -> None:
        self.next_write = max(self.next_write, seq + 1)
        if not segment.closed:
            segment.tokens.append(token)
            self.serve(seq, segment)

    def close(self, seq: int, segment: Segment) -> None:
        segment.closed = True
        self.serve(seq, segment)

    def read(self, connection: Connection, asked: int) -> None:
        live = max(self.next_write - 1, 0)
        seq = {wire.NEXT_WRITE: self.next_write, wire.LIVE_EDGE: live}.get(asked, asked)
        if seq == self.next_write or (seq, self.next_write) == (1, 0):
            self.slot(seq)
        if seq in self.segments:
            self.segments[seq].readers[connection] = 0
            self.serve(seq, self.segments[seq])
            return
        headers = {wire.LATEST: str(self.next_write), wire.SEQ: str(asked)}
        connection.down += [(wire.NO_SUCH_SEGMENT, headers), Mark.END]

    def serve(self, seq: int, segment: Segment) -> None:
        """Send its readers what they do not have. The head goes with the first byte."""
        for connection, position in list(segment.readers.items()):
            if position == 0 and (segment.tokens or segment.closed):
                headers = {wire.SEQ: str(seq)}
                if self.gone and not segment.tokens:
                    headers[wire.CLOSED] = wire.TERMINATED
                connection.down.append((200, headers))
            connection.down += segment.tokens[position:]
            segment.readers[connection] = len(segment.tokens)
            if segment.closed:
                connection.down.append(Mark.END)
                del segment.readers[connection]


# -- the clients: a machine each, and what an adapter does for it


@define(eq=False)
class Client:
    """Carries a machine's orders out over the model's connections."""

    machine: Publisher | Subscriber
    connections: dict[int, Connection] = field(factory=dict)
    requests: list[Connection] = field(factory=list)
    """Every connection that may still carry something, given up or not."""
    ending: Ending | None = None

    def obey(self, orders: list[Command]) -> None:
        for order in orders:
            match order:
                case OpenGet() | OpenPost() | AskNext() | Create() | Delete():
                    connection = Connection(self, order)
                    connection.up.append(order)
                    self.connections[order.request] = connection
                    self.requests.append(connection)
                case EndBody(request):
                    self.connections[request].up.append(Mark.END)
                case Abort(request):
                    self.give_up(request).cut()
                case Discard(request):
                    self.give_up(request)
                    self.obey_for_user(order)
                case Finish(ending):
                    assert self.ending is None
                    self.ending = ending
                case _:
                    self.obey_for_user(order)

    def obey_for_user(self, order: Command) -> None:
        raise NotImplementedError

    def give_up(self, request: int) -> Connection:
        connection = self.connections.pop(request)
        connection.listening = False
        return connection

    def hear(self, connection: Connection, now: float) -> None:
        """Take in the next thing that came back."""
        thing = connection.down.popleft()
        if not connection.listening:
            return
        request = connection.order.request
        match thing:
            case (status, headers):
                head = ResponseStarted(request, status, headers, connection.sent)
                self.obey(self.machine.receive(head, now))
            case Token():
                self.take(request, thing)
            case _:
                connection.listening = False
                self.obey(self.machine.receive(RequestFinished(request), now))
                self.ended(request)

    def take(self, request: int, token: Token) -> None:
        raise NotImplementedError

    def ended(self, request: int) -> None:
        """A body is whole."""

    def lose(self, connection: Connection, cause: Cause, now: float) -> None:
        """The connection breaks; what was under way on it is lost, or never got there."""
        if cause is Cause.REFUSED:
            connection.up.clear()
        connection.cut()
        connection.down.clear()
        if connection.listening:
            connection.listening = False
            failure = RequestFailed(connection.order.request, cause, connection.sent)
            self.obey(self.machine.receive(failure, now))


@define(eq=False)
class Writing(Client):
    """The publisher's side."""

    machine: Publisher = field(kw_only=True)
    segment: int = -1
    request: int = -1
    written: dict[int, list[Token]] = field(factory=dict)
    confirmed: set[int] = field(factory=set)
    tokens: int = 0

    def obey_for_user(self, order: Command) -> None:
        match order:
            case Grant(request, seq):
                assert not self.written.get(seq), "its number was used"
                self.segment, self.request = seq, request
                self.written[seq] = []
            case Discard(request):
                answered = next(c.order for c in self.requests if c.order.request == request)
                if isinstance(answered, OpenPost):
                    self.confirmed.add(answered.seq)

    def take(self, request: int, token: Token) -> None:
        raise AssertionError("an answer without a body")

    def write(self) -> None:
        self.tokens += 1
        token = Token(self.tokens)
        self.written[self.segment].append(token)
        connection = self.connections[self.request]
        connection.sent += 1
        connection.up.append(token)


@define(eq=False)
class Reading(Client):
    """The subscriber's side."""

    machine: Subscriber = field(kw_only=True)
    arrived: dict[int, list[Token]] = field(factory=dict)
    delivered: list[Deliver] = field(factory=list)
    whole: set[int] = field(factory=set)
    """Requests whose bodies ended as they should."""
    truncated: set[int] = field(factory=set)

    def obey_for_user(self, order: Command) -> None:
        match order:
            case Deliver():
                before = self.delivered[-1].seq if self.delivered else None
                assert before is None or order.seq == before + 1 + order.skipped
                self.delivered.append(order)
            case Truncate(request):
                assert request == self.delivered[-1].request
                self.truncated.add(request)

    def take(self, request: int, token: Token) -> None:
        self.arrived.setdefault(request, []).append(token)

    def ended(self, request: int) -> None:
        self.whole.add(request)

    def segments(self) -> dict[int, tuple[list[Token], bool]]:
        """What the reader got: tokens, and whether they were given to it as the whole."""
        return {
            one.seq: (self.arrived.get(one.request, []), one.request in self.whole)
            for one in self.delivered
        }


class Meeting(RuleBasedStateMachine):
    """A writer, a reader, a clock, and trouble."""

    @initialize(
        start=st.sampled_from([-2, -1, 0]),
        # Not above next write: in the gap readers of the deployed server can wait for ever.
        first=st.sampled_from([None, 0]),
        max_lag=st.sampled_from([None, 1]),
    )
    def open(self, start: int, first: int | None, max_lag: int | None) -> None:
        self.now = 0.0
        self.server = Server()
        retry = RetryPolicy(give_up_after=float("inf"))
        publishing = PublisherSettings(first=first, create=True, delete=True, retry=retry)
        reading = SubscriberSettings(start=start, max_lag=max_lag, retry=retry)
        self.writing = Writing(machine=Publisher(publishing))
        self.reading = Reading(machine=Subscriber(reading))
        self.clients: tuple[Writing, Reading] = (self.writing, self.reading)
        for client in self.clients:
            client.obey(client.machine.start(self.now))
        while busy := self.busy():
            self.pass_on(busy[0])

    # The two users.

    @precondition(lambda self: self.writing.machine.writer is Writer.AWAY)
    @rule()
    def begin(self) -> None:
        self.writing.obey(self.writing.machine.begin_segment(self.now))

    @precondition(lambda self: self.writing.machine.writer is Writer.WRITING)
    @rule()
    def write(self) -> None:
        self.writing.write()

    @precondition(lambda self: self.writing.machine.writer in (Writer.WRITING, Writer.BEREFT))
    @rule()
    def end(self) -> None:
        self.writing.obey(self.writing.machine.end_segment(self.now))

    @precondition(lambda self: self.writing.machine.writer is not Writer.AWAY)
    @rule()
    def drop(self) -> None:
        machine, request = self.writing.machine, self.writing.request
        writing = machine.writer is Writer.WRITING
        untouched = writing and not self.writing.connections[request].sent
        self.writing.obey(machine.drop_segment(self.now, untouched=untouched))

    @precondition(lambda self: self.reading.machine.reader is Reader.AWAY)
    @rule()
    def want(self) -> None:
        self.reading.obey(self.reading.machine.want_segment(self.now))

    # The network and the clock.

    def busy(self) -> list[Connection]:
        connections = [c for client in self.clients for c in client.requests]
        return [c for c in connections if c.up or c.down]

    def pass_on(self, connection: Connection) -> None:
        if connection.up:
            self.server.hear(connection)
        else:
            connection.client.hear(connection, self.now)

    @precondition(lambda self: self.busy())
    @rule(picks=st.lists(WHICH, min_size=1, max_size=20))
    def carry(self, picks: list[int]) -> None:
        for which in picks:
            busy = self.busy()
            if busy:
                self.pass_on(one_of(busy, which))

    def alive(self) -> list[Connection]:
        connections = [c for client in self.clients for c in client.connections.values()]
        return [c for c in connections if c.listening]

    @precondition(lambda self: self.alive())
    @rule(which=WHICH, cause=st.sampled_from(Cause))
    def break_one(self, which: int, cause: Cause) -> None:
        connection = one_of(self.alive(), which)
        connection.client.lose(connection, cause, self.now)

    @precondition(lambda self: self.writing.machine.writer is Writer.WRITING)
    @rule(cause=st.sampled_from(Cause))
    def break_the_writer(self, cause: Cause) -> None:
        self.writing.lose(self.writing.connections[self.writing.request], cause, self.now)

    @rule(seconds=st.sampled_from([0.05, 0.3, 3.0, 30.0]))
    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while (due := min(client.machine.deadline() for client in self.clients)) <= until:
            self.now = max(self.now, due)
            for client in self.clients:
                client.obey(client.machine.handle_timeout(self.now))
        self.now = until

    # What must come of it.

    def calm(self, seconds: float) -> None:
        """The network works, and the reader reads whatever comes."""
        until = self.now + seconds
        while self.now < until:
            while busy := self.busy():
                self.pass_on(busy[0])
                if self.reading.machine.reader is Reader.AWAY:
                    self.want()
            self.wait(0.25)

    def teardown(self) -> None:
        if not hasattr(self, "clients"):
            return
        if self.writing.machine.writer is not Writer.AWAY:
            self.drop()
        self.calm(60.0)
        # A reader may wait in a segment whose bytes were all lost on their way and that was closed
        # before it came: until its place in the ring is taken, and its GET refreshed.
        for _ in range(wire.WINDOW):
            self.publish_calmly()
        self.calm(wire.REFRESH_INTERVAL)
        last = [self.publish_calmly() for _ in range(3)][-1]
        got = self.reading.segments()
        assert got.get(last) == (self.writing.written[last], True), "somebody hangs"
        self.check_everything()
        self.writing.obey(self.writing.machine.close(self.now))
        self.calm(5.0)
        assert self.writing.ending is Ending.LEFT
        assert self.server.gone
        assert self.reading.ending in (Ending.CLOSED, Ending.GONE)
        assert not any(c.listening for c in self.writing.connections.values())

    def publish_calmly(self) -> int:
        self.begin()
        self.calm(1.0)
        self.writing.write()
        self.calm(1.0)
        self.end()
        self.calm(1.0)
        return self.writing.segment

    def check_everything(self) -> None:
        read = {one.request for one in self.reading.delivered[:-1]}
        assert read <= self.reading.whole | self.reading.truncated, "each end is told"
        for seq, (tokens, whole) in self.reading.segments().items():
            written = self.writing.written.get(seq, [])
            assert tokens == written[: len(tokens)], "nothing is mixed up"
            if whole and seq in self.writing.confirmed:
                assert tokens == written, "nothing broken is taken for whole"


Meeting.TestCase.settings = settings(
    max_examples=100, stateful_step_count=60, deadline=None, report_multiple_bugs=False
)
TestMeeting = Meeting.TestCase
