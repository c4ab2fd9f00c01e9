"""Connections: in order one by one, in any order across them, with room for only so much, and
breakable at every moment.
"""

from __future__ import annotations

import math
from collections import deque
from enum import Enum, auto
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Final, Protocol

from attrs import define, field, frozen

from tests.core.simulation.clock import Clock
from tests.core.simulation.weather import CALM, Fault, Heading, Part, Weather, fault
from trickle_core.events import Cause
from trickle_core.relay_settings import RelayRequest

if TYPE_CHECKING:
    from tests.core.simulation.host import Host

DEAD_AFTER: Final = 40.0
"""Seconds until a peer whose probes go unanswered knows that a connection is dead."""

CONNECT_TIMEOUT: Final = 10.0
GHOST_STAYS: Final = (0.0, 0.5, 20.0)
HARD: Final = 0.5
"""The share of broken off connections that lose what is under way (RST); the others end after it
(FIN)."""


class Mark(Enum):
    """What else comes over a connection."""

    END = auto()
    """The body is whole."""
    BROKEN = auto()
    """The peer has gone."""
    CONTINUE = auto()
    """``100 Continue``."""


@frozen
class AnswerHead:
    """The head of an answer."""

    status: int
    headers: dict[str, str]


Item = RelayRequest | AnswerHead | bytes | Mark


def part_of(item: Item) -> Part | None:
    """Where in an exchange this is."""
    if isinstance(item, bytes):
        return Part.BODY
    if isinstance(item, Mark):
        return Part.END if item is Mark.END else None
    return Part.HEAD


class Party(Protocol):
    """Who is at an end of a connection. All of these are called by the clock."""

    def hear(self) -> None:
        """Something is in the inbox."""

    def lose(self) -> None:
        """The connection has gone, with what is in the inbox."""

    def go_on(self) -> None:
        """What was refused for want of room can be sent now."""


class Caller(Party, Protocol):
    """Who makes a connection."""

    def connected(self) -> None:
        """It is there."""

    def refused(self, cause: Cause) -> None:
        """It never will be."""


class End(Enum):
    """An end of a connection."""

    CLIENT = auto()
    SERVER = auto()


@define(eq=False, repr=False)
class Way:
    """One direction."""

    connection: Connection
    heading: Heading
    to: End
    inbox: deque[Item] = field(factory=deque, init=False)
    held: int = field(default=0, init=False)
    """Bytes under way and in the inbox."""
    stopped: bool = field(default=False, init=False)
    _last: float = field(default=-math.inf, init=False)
    _free: float = field(default=-math.inf, init=False)
    _refused: bool = field(default=False, init=False)

    def has_room(self) -> bool:
        """Whether something can be sent; if not, ``go_on`` will be called."""
        self._refused = self.held >= self.connection.network.capacity
        return not self._refused

    def send(self, item: Item) -> None:
        """Put it on its way."""
        if self.stopped:
            return
        network = self.connection.network
        now = network.clock.now
        self._free = max(now, self._free)
        if isinstance(item, bytes):
            self.held += len(item)
            self._free += len(item) / network.weather.rate
        self._last = max(self._last, self._free + network.delay())
        network.clock.at(self._last, partial(self._arrive, item))

    def _arrive(self, item: Item) -> None:
        if self.stopped:
            return
        self.connection.touched = self.connection.network.clock.now
        broken = self.connection.fault
        struck = broken is not None and broken.heading is self.heading and self._strikes(item)
        if broken is None or not struck or broken.arrives:
            self.inbox.append(item)
            self.connection.hear(self.to)
        if broken is not None and struck:
            self.connection.cut(silent=broken.silent)

    def _strikes(self, item: Item) -> bool:
        return self.connection.strikes(part_of(item))

    def take(self) -> Item | None:
        """The next thing in the inbox."""
        if not self.inbox:
            return None
        item = self.inbox.popleft()
        if isinstance(item, bytes):
            self.held -= len(item)
            if self._refused and self.held < self.connection.network.capacity:
                self._refused = False
                network = self.connection.network
                network.clock.after(network.delay(), self._tell_room)
        return item

    def _tell_room(self) -> None:
        sender = End.CLIENT if self.to is End.SERVER else End.SERVER
        party = self.connection.ends.get(sender)
        if party is not None:
            party.go_on()

    def stop(self) -> None:
        """Nothing gets through any more, nor can what is in the inbox be read."""
        self.stopped = True
        self.inbox.clear()


@define(eq=False, repr=False)
class Connection:
    """It carries one exchange. Both ends leave it when they have done with it."""

    network: Network
    fault: Fault | None
    touched: float
    ends: dict[End, Party] = field(factory=dict, init=False)
    up: Way = field(init=False)
    down: Way = field(init=False)
    _pieces: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.up = Way(self, Heading.UP, End.SERVER)
        self.down = Way(self, Heading.DOWN, End.CLIENT)

    @property
    def dead(self) -> bool:
        """Nothing gets through any more, whether its ends know or not."""
        return self.up.stopped and self.down.stopped

    def strikes(self, part: Part | None) -> bool:
        """Whether the fault is at this thing of its own direction."""
        broken = self.fault
        if broken is None or part is not broken.part:
            return False
        self._pieces += 1
        return part is not Part.BODY or self._pieces > broken.nth

    def hear(self, end: End) -> None:
        """Something came for that end."""
        party = self.ends.get(end)
        if party is not None:
            party.hear()

    def leave(self, end: End) -> None:
        """All is well, that end is through with it."""
        self.ends.pop(end, None)
        if not self.ends:
            self.network.forget(self)

    def break_off(self, end: End) -> None:
        """That end goes in the midst of things."""
        out, back = (self.up, self.down) if end is End.CLIENT else (self.down, self.up)
        back.stop()
        if self.network.dice.random() < HARD:
            out.stop()
            self.network.clock.after(self.network.delay(), self._lose_all)
        else:
            out.send(Mark.BROKEN)
        self.leave(end)

    def cut(self, *, silent: bool) -> None:
        """The network breaks it."""
        if not self.ends:
            return
        self.up.stop()
        self.down.stop()
        self.network.cuts += 1
        for end in tuple(self.ends):
            wait = DEAD_AFTER if silent else self.network.delay()
            self.network.clock.after(wait, partial(self._lose, end))

    def _lose_all(self) -> None:
        for end in tuple(self.ends):
            self._lose(end)

    def _lose(self, end: End) -> None:
        party = self.ends.get(end)
        self.leave(end)
        if party is not None:
            party.lose()

    def check_silence(self, longest: float) -> None:
        """The box between looks at it, and again later."""
        clock = self.network.clock
        if not self.ends:
            return
        if clock.now >= self.touched + longest:
            self.cut(silent=self.network.dice.random() < self.network.weather.silent)
        else:
            clock.at(self.touched + longest, partial(self.check_silence, longest))


class Ghost:
    """The client of a repeated request: nobody listens."""

    def hear(self) -> None:
        """Nothing."""

    lose = go_on = hear


@define(eq=False, repr=False)
class Network:
    """Everything between clients and servers."""

    clock: Clock
    dice: Random
    weather: Weather = CALM
    capacity: int = 4096
    """Bytes that a connection holds in each direction."""
    connections: dict[Connection, None] = field(factory=dict, init=False)
    made: int = field(default=0, init=False)
    cuts: int = field(default=0, init=False)
    refusals: int = field(default=0, init=False)
    ghosts: int = field(default=0, init=False)

    def delay(self) -> float:
        """How long something takes, one way."""
        dice, weather = self.dice, self.weather
        low, high = weather.delay
        delay = low + (high - low) * dice.random()
        if weather.spikes and dice.random() < weather.spikes:
            delay += dice.uniform(0, weather.spike)
        return delay

    def connect(self, caller: Caller, host: Host) -> Connection:
        """Make a connection. The caller is told later what came of it."""
        self.made += 1
        connection = self._open()
        connection.ends[End.CLIENT] = caller
        if self.dice.random() < self.weather.unheard:
            refuse = partial(self._refuse, connection, caller, Cause.TIMED_OUT)
            self.clock.after(CONNECT_TIMEOUT, refuse)
            return connection
        roundtrip = self.delay() + self.delay()
        self.clock.after(roundtrip, partial(self._establish, connection, caller, host))
        return connection

    def _open(self) -> Connection:
        connection = Connection(self, fault(self.dice, self.weather), self.clock.now)
        self.connections[connection] = None
        return connection

    def _refuse(self, connection: Connection, caller: Caller, cause: Cause) -> None:
        if End.CLIENT in connection.ends:
            self.refusals += 1
            connection.leave(End.CLIENT)
            caller.refused(cause)

    def _establish(self, connection: Connection, caller: Caller, host: Host) -> None:
        if End.CLIENT not in connection.ends or connection.dead:
            return
        if not host.up or self.dice.random() < self.weather.refused:
            self._refuse(connection, caller, Cause.REFUSED)
            return
        host.welcome(connection)
        self._endanger(connection)
        caller.connected()

    def _endanger(self, connection: Connection) -> None:
        weather = self.weather
        if self.dice.random() < weather.short_lived:
            life = self.dice.expovariate(1 / weather.lifetime)
            self.clock.after(life, partial(self._expire, connection))
        if weather.box < math.inf:
            self.clock.after(weather.box, partial(connection.check_silence, weather.box))

    def _expire(self, connection: Connection) -> None:
        if self.weather.short_lived:
            connection.cut(silent=self.dice.random() < self.weather.silent)

    def calm_down(self, weather: Weather) -> None:
        """From now on, all is well, also on connections that were made in bad weather."""
        self.weather = weather
        for connection in self.connections:
            connection.fault = None

    def haunt(self, request: RelayRequest, host: Host) -> None:
        """Repeat this request on another connection, perhaps."""
        if self.dice.random() >= self.weather.ghosts or not host.up:
            return
        self.ghosts += 1
        ghost = self._open()
        ghost.ends[End.CLIENT] = Ghost()
        host.welcome(ghost)
        ghost.up.send(request)
        stay = self.dice.choice(GHOST_STAYS) * self.dice.random()
        self.clock.after(stay, partial(self._lay, ghost))

    def _lay(self, ghost: Connection) -> None:
        if End.CLIENT in ghost.ends:
            ghost.break_off(End.CLIENT)

    def cut_all(self) -> None:
        """Pull the cable."""
        for connection in tuple(self.connections):
            connection.cut(silent=self.dice.random() < self.weather.silent)

    def forget(self, connection: Connection) -> None:
        """Both ends have left."""
        self.connections.pop(connection, None)
