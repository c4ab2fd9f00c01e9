"""What an adapter does for a client machine, with an eye on what the machine orders."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from enum import Enum, auto
from random import Random
from typing import Any, Final, Protocol

from attrs import define, field

from tests.core.simulation.clock import Alarm, Clock
from tests.core.simulation.host import Host
from tests.core.simulation.truth import Book, Violation, require
from tests.core.simulation.wires import AnswerHead, Connection, End, Item, Mark, Network
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
    OpenGet,
    OpenPost,
)
from trickle_core.events import Cause, Event, RequestFailed, RequestFinished, ResponseStarted
from trickle_core.publisher import Publisher
from trickle_core.relay_settings import RelayRequest
from trickle_core.subscriber import Subscriber

OPENING: Final = (OpenGet, OpenPost, AskNext, Create, Delete)

WRITE_TIMEOUT: Final = 20.0

HURRY: Final = 60
HURRY_A_SEGMENT: Final = 12
"""Orders that a machine may give in a second, and those more for each segment that passes."""

MIME_TYPE: Final = "video/mp2t"


@define(eq=False, repr=False)
class Records:
    """What happened, for the report of a failure and for the figures at the end."""

    counts: Counter[str] = field(factory=Counter)
    trace: deque[tuple[float, str, object]] = field(factory=lambda: deque(maxlen=600))


@define(eq=False, repr=False)
class World:
    """What all share."""

    clock: Clock
    dice: Random
    network: Network
    book: Book
    records: Records

    def tell(self, who: str, what: object) -> None:
        """Remember this for a while."""
        self.records.trace.append((self.clock.now, who, what))

    def count(self, what: str, times: int = 1) -> None:
        """Count it for ever."""
        self.records.counts[what] += times

    def chance(self, share: float) -> bool:
        """Throw the dice."""
        return self.dice.random() < share


class Phase(Enum):
    """How far a request has come."""

    CONNECTING = auto()
    ASKED = auto()
    ANSWERED = auto()
    OVER = auto()


@define(eq=False, repr=False)
class Exchange:
    """One request."""

    client: Client
    order: OpenGet | OpenPost | AskNext | Create | Delete
    connection: Connection = field(init=False)
    phase: Phase = field(default=Phase.CONNECTING, init=False)
    sent: int = field(default=0, init=False)
    whole: bool = field(default=False, init=False)
    """The body was ended by an order."""
    wanted: bool = field(default=True, init=False)
    """Whether anybody wants to hear of it."""
    broken: bool = field(default=False, init=False)
    """It broke, and that was not reported: nobody reads it."""
    told: bool = field(default=False, init=False)
    """Its end was reported, though it is still to be read."""
    on_news: Callable[[], None] | None = field(default=None, init=False)
    """Whoever reads the body, or waits for room in it."""

    @property
    def number(self) -> int:
        """As the machine calls it."""
        return self.order.request

    def __repr__(self) -> str:
        return f"<{self.order} {self.phase.name}>"

    # What the network tells

    def connected(self) -> None:
        """The connection is there."""
        self.phase = Phase.ASKED
        request = self.client.request_of(self.order)
        self.connection.up.send(request)
        self.client.world.network.haunt(request, self.client.host)
        if self.whole:
            self.connection.up.send(Mark.END)
        self.go_on()

    def refused(self, cause: Cause) -> None:
        """There will be none."""
        self._fail(cause)

    def lose(self) -> None:
        """The connection has gone."""
        if self.phase is Phase.ANSWERED and not self.client.reads_ahead:
            self.broken = True
            self.news()
        else:
            self._fail(Cause.BROKEN)

    def go_on(self) -> None:
        """There is room."""
        self.news()

    def news(self) -> None:
        """Call who waits."""
        if self.on_news is not None:
            self.on_news()

    def hear(self) -> None:
        """Something came."""
        down = self.connection.down
        while down.inbox and (self.phase is not Phase.ANSWERED or not self.wanted):
            item = down.take()
            if isinstance(item, AnswerHead):
                self._answered(item)
            elif item is Mark.BROKEN:
                self._fail(Cause.BROKEN)
            elif item is Mark.END:
                self.end()
        if down.inbox and self.phase is Phase.ANSWERED:
            self._look_ahead(down.inbox[-1])
            self.news()

    def _answered(self, head: AnswerHead) -> None:
        self.phase = Phase.ANSWERED
        if self.wanted:
            event = ResponseStarted(self.number, head.status, head.headers, self.sent)
            self.client.report(event)

    def _look_ahead(self, last: Item) -> None:
        """Where all that comes is read at once, its end is known before anybody wants it."""
        if not self.client.reads_ahead or self.told or self.on_news is not None:
            return
        if last is Mark.END:
            self.told = True
            self.connection.leave(End.CLIENT)
            self.client.report(RequestFinished(self.number))
        elif last is Mark.BROKEN:
            self._fail(Cause.BROKEN)

    def _fail(self, cause: Cause) -> None:
        self.end()
        if self.wanted:
            self.client.report(RequestFailed(self.number, cause, self.sent))

    # What the client does

    def end(self) -> None:
        """It is over."""
        self.phase = Phase.OVER
        self.connection.leave(End.CLIENT)
        self.client.exchanges.pop(self.number, None)

    def give_up(self) -> None:
        """Hang up."""
        self.wanted = False
        self.on_news = None
        if self.phase is not Phase.OVER:
            self.connection.break_off(End.CLIENT)
            self.end()

    def read_away(self) -> None:
        """Let the rest of the answer come, for nobody."""
        self.wanted = False
        self.on_news = None
        self.client.exchanges.pop(self.number)
        if self.broken:
            self.end()
        self.hear()

    def offer(self, data: bytes) -> bool:
        """Let the connection take a piece of the body; False: not now, ``on_news`` is called."""
        if self.phase is Phase.CONNECTING or not self.connection.up.has_room():
            return False
        self.connection.up.send(data)
        self.sent += len(data)
        return True

    def read(self) -> bytes | Mark | None:
        """The next piece of the answer's body, its end, or its break; None: ``on_news`` is called
        when there is more.
        """
        if self.broken:
            self.end()
            return Mark.BROKEN
        item = self.connection.down.take()
        if item is Mark.END or item is Mark.BROKEN:
            self.end()
        require(not isinstance(item, AnswerHead | RelayRequest), "a body has no head", item)
        return item if isinstance(item, bytes | Mark) else None

    def time_out(self) -> None:
        """The connection took nothing for too long."""
        if self.phase is not Phase.OVER:
            self.connection.break_off(End.CLIENT)
            self._fail(Cause.TIMED_OUT)

    def end_body(self) -> None:
        """It is whole."""
        self.whole = True
        self.on_news = None
        if self.phase is not Phase.CONNECTING:
            self.connection.up.send(Mark.END)


class Machine(Protocol):
    """What both have."""

    def receive(self, event: Event, now: float) -> list[Command]: ...
    def deadline(self) -> float: ...
    def handle_timeout(self, now: float) -> list[Command]: ...


@define(eq=False, repr=False)
class Client:
    """A machine and its requests."""

    world: World
    host: Host
    name: str
    channel: str
    machine: Publisher | Subscriber
    on_finish: Callable[[], None]
    most_requests: int
    reads_ahead: bool = False
    exchanges: dict[int, Exchange] = field(factory=dict, init=False)
    ending: Ending | None = field(default=None, init=False)
    busy: int = field(default=0, init=False)
    """Segments of late, for the measure of hurry."""
    _last_request: int = field(default=0, init=False)
    _alarm: Alarm = field(init=False)
    _second: int = field(default=0, init=False)
    _orders: int = field(default=0, init=False)
    _carrying: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._alarm = Alarm(self.world.clock, self._time_out)

    @property
    def now(self) -> float:
        """The time."""
        return self.world.clock.now

    @property
    def gone(self) -> bool:
        """Nobody carries out its orders any more."""
        return self.ending is not None

    def request_of(self, order: Command) -> RelayRequest:
        """What goes over the wire for it."""
        path = f"/{self.channel}"
        match order:
            case OpenGet(seq=seq):
                return RelayRequest("GET", f"{path}/{seq}")
            case AskNext():
                return RelayRequest("GET", f"{path}/next")
            case Create():
                return RelayRequest("POST", path, {wire.EXPECT_CONTENT: MIME_TYPE})
            case OpenPost(seq=seq, reset=reset):
                headers = {"content-type": MIME_TYPE, **({wire.RESET: "1"} if reset else {})}
                return RelayRequest("POST", f"{path}/{seq}", headers)
            case Delete(seq=None):
                return RelayRequest("DELETE", path)
            case Delete(seq=seq):
                return RelayRequest("DELETE", f"{path}/{seq}")
            case _:
                raise Violation(f"no request: {order!r}")

    # Into the machine

    def input(self, give: Callable[[float], list[Command]]) -> None:
        """Give the machine an input, carry out its orders."""
        require(not self._carrying, "orders are carried out in their order")
        orders = give(self.now)
        self._carrying = True
        self._check_hurry(len(orders))
        for order in orders:
            self.world.tell(self.name, order)
            self._carry_out(order)
        self._carrying = False
        require(len(self.exchanges) <= self.most_requests, "requests leak", self.exchanges)
        self._alarm.set(self.machine.deadline())

    def report(self, event: Event) -> None:
        """Tell the machine what was seen."""
        self.world.tell(self.name, event)
        self.input(lambda now: self.machine.receive(event, now))

    def _time_out(self) -> None:
        self.input(self.machine.handle_timeout)
        require(self.machine.deadline() > self.now, "a timer that fired is set anew", self.name)

    def _check_hurry(self, orders: int) -> None:
        second = int(self.now)
        if second != self._second:
            self._second, self._orders, self.busy = second, 0, 0
        self._orders += orders
        most = HURRY + HURRY_A_SEGMENT * self.busy
        require(self._orders <= most, "no machine runs in a circle", self.name, self._orders)

    # Out of the machine

    def _carry_out(self, order: Command) -> None:
        if isinstance(order, OPENING):
            self._open(order)
            return
        match order:
            case EndBody(number):
                self.exchanges[number].end_body()
            case Abort(number):
                exchange = self.exchanges.pop(number, None)
                if exchange is not None:
                    exchange.give_up()
                self._tell_late(number)
            case Discard(number):
                exchange = self.exchanges[number]
                require(exchange.phase is Phase.ANSWERED, "only an answer is discarded", order)
                posting = isinstance(exchange.order, OpenPost)
                require(exchange.whole or not posting, "only whole requests are", order)
                exchange.read_away()
            case Finish(ending):
                require(self.ending is None, "it finishes once", self.name)
                self.ending = ending
                self.world.count(f"{type(self.machine).__name__.lower()} {ending.name}")
                self.world.clock.after(0.0, self.on_finish)
            case _:
                self.order(order)

    def _open(self, order: OpenGet | OpenPost | AskNext | Create | Delete) -> None:
        require(self.ending is None, "after the end nothing is opened", order)
        require(order.request > self._last_request, "request numbers are new", order)
        self._last_request = order.request
        exchange = Exchange(self, order)
        self.exchanges[order.request] = exchange
        exchange.connection = self.world.network.connect(exchange, self.host)

    def _tell_late(self, number: int) -> None:
        """Report on a request that was given up."""
        if not self.world.chance(self.world.network.weather.late_news):
            return
        news: tuple[Event, ...] = (
            ResponseStarted(number, 200, {wire.SEQ: "3", wire.LATEST: "4"}, 0),
            ResponseStarted(number, 404, {}, 0),
            RequestFinished(number),
            RequestFailed(number, Cause.BROKEN, 7),
        )
        event = self.world.dice.choice(news)
        self.world.clock.after(self.world.dice.random(), lambda: self._hear_late(event))

    def _hear_late(self, event: Event) -> None:
        orders: Any = self.machine.receive(event, self.now)
        require(not orders, "what is no longer of interest changes nothing", event, orders)

    def order(self, order: Command) -> None:
        """Carry out what concerns the machine's own user."""
        raise NotImplementedError

    def crash(self) -> None:
        """The process dies: all its connections with it."""
        self.ending = Ending.LEFT
        self._alarm.set(float("inf"))
        for exchange in tuple(self.exchanges.values()):
            exchange.give_up()
