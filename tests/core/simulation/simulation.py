"""A simulated day on a network: storms, droughts and calms, and what must hold in each."""

from __future__ import annotations

import math
from collections import Counter, deque
from functools import partial
from random import Random
from typing import Final

from attrs import define, field

from tests.core.simulation.client import MIME_TYPE, Records, World
from tests.core.simulation.clock import Call, Clock
from tests.core.simulation.host import Host, Manner
from tests.core.simulation.lives import Desk, Seat
from tests.core.simulation.truth import Book, require
from tests.core.simulation.weather import Weather, storm
from tests.core.simulation.wires import DEAD_AFTER, Network
from tests.core.simulation.writing import HASTY, Habits
from trickle_core import wire
from trickle_core.relay_settings import MIB, RelaySettings

RECOVERY: Final = 120.0
"""Seconds of calm after which everything must be well again. The longest single wait is that for
a connection that died silently (``DEAD_AFTER``); behind it come a deletion, a pause before a retry
(5 s each), a server's wait for the rest of an abandoned segment (10 s), and a GET's refresh (20 s).
"""

WATCHED: Final = 60.0
"""Seconds of calm in which nothing at all may go wrong."""

UNTIL_SAID: Final = 10.0
"""Seconds that may go by before a silence, and after it until something is written."""

RACE: Final = 5.0
FAIR: Final = 1.0
"""Seconds for which a relay must let its publishers wait, to be called fair."""

LOOKS: Final = 10.0
"""Seconds between two looks at who keeps what in memory."""

OPERATOR: Final = 7.0
"""Seconds after which an operator notices that a channel is not there."""

MOST_KEPT: Final = 64
"""Things that a client machine may hold in all its collections."""

MOST_ERRANDS: Final = 600
MOST_CONNECTIONS: Final = 600


def weight(thing: object) -> int:
    """How many things are in the collections of a machine."""
    if isinstance(thing, dict):
        return len(thing) + sum(weight(value) for value in thing.values())
    if isinstance(thing, list | tuple | deque | set | frozenset):
        return len(thing) + sum(weight(value) for value in thing)
    if type(thing).__module__.startswith("trickle_core"):
        names = getattr(type(thing), "__slots__", ()) or vars(thing)
        return sum(weight(getattr(thing, name, None)) for name in names if name != "__weakref__")
    return 0


def manner(dice: Random) -> Manner:
    """Some server."""
    settings = RelaySettings(
        window=dice.choice((5, 5, 5, 2, 10)),
        autocreate=dice.random() < 0.7,
        changefeed=dice.random() < 0.3,
        idle_timeout=dice.choice((300.0, 60.0, math.inf)),
        linger=dice.choice((0.0, 0.0, 5.0)),
        abandon_timeout=dice.choice((10.0, 10.0, math.inf)),
        patience=dice.choice((1.0, 0.0)),
        max_channel_bytes=dice.choice((512 * MIB, 512 * MIB, 65536, 16384)),
        max_segment_bytes=dice.choice((512 * MIB, 512 * MIB, 8192)),
    )
    return Manner(
        settings=settings,
        knows_next=dice.random() < 0.7,
        get_limit=dice.choice((math.inf, math.inf, 30.0, 15.0)),
        post_limit=dice.choice((math.inf, math.inf, 60.0, 12.0)),
        continues=dice.random() < 0.7,
    )


class Failed(AssertionError):
    """What went wrong, when, and how to see it again."""


@define(eq=False, repr=False)
class Simulation:
    """Everything that follows from one seed."""

    seed: int
    world: World = field(init=False)
    host: Host = field(init=False)
    desks: list[Desk] = field(factory=list, init=False)
    seats: list[Seat] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        dice, clock, book = Random(self.seed), Clock(), Book()
        network = Network(clock, dice, capacity=dice.choice((512, 4096, 65536)))
        self.world = World(clock, dice, network, book, Records())
        self.host = Host(clock, dice, network, book, manner(dice))
        for channel in "ab"[: dice.choice((1, 1, 2))]:
            self.desks.append(Desk(self.world, self.host, channel))
            seats = range(dice.randint(1, 4))
            self.seats += [Seat(self.world, self.host, channel, seat) for seat in seats]

    @property
    def places(self) -> list[Desk | Seat]:
        """All where processes live."""
        return [*self.desks, *self.seats]

    # Running

    def run(self, minutes: float) -> Counter[str]:
        """Live for so many virtual minutes or a little more, and end. Gives the counters; raises
        ``Failed``.
        """
        try:
            self._live(minutes * 60.0)
            self._end()
        except Exception as error:
            raise Failed(self._report(error)) from error
        return self._counters()

    def _live(self, seconds: float) -> None:
        dice, clock = self.world.dice, self.world.clock
        self._look()
        self._operate()
        for place in self.places:
            clock.after(dice.uniform(0.0, 5.0), place.arrive)
        while clock.now < seconds:
            if dice.random() < 0.8:
                self._storm()
            self._calm()

    def _counters(self) -> Counter[str]:
        network, clock = self.world.network, self.world.clock
        return self.world.records.counts + Counter(
            {
                "virtual seconds": int(clock.now),
                "events": clock.events,
                "connections": network.made,
                "connections cut": network.cuts,
                "connections refused": network.refusals,
                "requests repeated": network.ghosts,
                "server errors": self.host.errors,
                "server restarts": self.host.restarts,
            }
        )

    def _report(self, error: Exception) -> str:
        clock = self.world.clock
        trace = (f"{when:10.3f} {who}: {what}" for when, who, what in self.world.records.trace)
        return "\n".join(
            (
                *trace,
                f"after {clock.now:.3f} virtual seconds: {type(error).__name__}: {error}",
                f"to see it again: python -m tests.core.simulation --seed {self.seed}",
            )
        )

    # Storms

    def _storm(self) -> None:
        dice, clock = self.world.dice, self.world.clock
        self.world.network.weather = storm(dice)
        self.world.tell("storm", self.world.network.weather)
        for place in self.places:
            place.calm = False
        length = dice.uniform(10.0, 300.0)
        for _ in range(dice.randint(0, 8)):
            clock.after(dice.uniform(0.0, length), self._incident)
        clock.run(clock.now + length)

    def _incident(self) -> None:
        """Something happens to somebody."""
        dice = self.world.dice
        desk, seat = dice.choice(self.desks), dice.choice(self.seats)
        incidents: dict[str, Call] = {
            "a publisher crashes": desk.crash,
            "a publisher leaves": desk.leave,
            "a reader crashes": seat.crash,
            "a reader leaves": seat.leave,
            "the server ends": self._stop_server,
            "the server crashes": self._crash_server,
            "a channel is deleted": partial(self._delete_channel, desk.channel),
            "a segment is deleted": partial(self._delete_segment, desk.channel),
            "the cable is pulled": self.world.network.cut_all,
        }
        name = dice.choice(tuple(incidents))
        self.world.tell(desk.channel, name)
        incidents[name]()

    def _stop_server(self) -> None:
        if self.host.up:
            self.host.stop()
            self.world.clock.after(self.world.dice.uniform(3.0, 30.0), self.host.restart)

    def _crash_server(self) -> None:
        if self.host.up:
            self.host.crash()
            self.world.clock.after(self.world.dice.uniform(0.1, 30.0), self.host.restart)

    def _delete_channel(self, channel: str) -> None:
        self.world.count("channels deleted", self.host.relay.delete(channel, self.world.clock.now))
        self.host.relay_moved()

    def _delete_segment(self, name: str) -> None:
        channel = self.host.relay.channels.get(name)
        if channel is not None:
            seq = channel.next_write - self.world.dice.randint(0, 2)
            self.world.count("segments deleted", channel.close_segment(seq, self.world.clock.now))
            self.host.relay_moved()

    def _operate(self) -> None:
        """Somebody makes the channels, where nobody else may."""
        settings, clock = self.host.manner.settings, self.world.clock
        if settings.autocreate or not any(desk.open for desk in self.desks):
            return
        for desk in self.desks:
            if self.host.up:
                self.host.relay.create(desk.channel, MIME_TYPE, clock.now)
        clock.after(OPERATOR, self._operate)

    # Calms

    def _calm_down(self) -> None:
        """From now on nothing breaks, but for what is silent too long for a box between."""
        weather = Weather(box=self.world.dice.choice((math.inf, 30.0)))
        self.world.network.calm_down(weather)
        self.world.tell("calm", weather)
        for place in self.places:
            place.settle_down()

    def _calm(self) -> None:
        """Everything recovers, and then nothing goes wrong."""
        clock, dice = self.world.clock, self.world.dice
        self._calm_down()
        clock.run(clock.now + RECOVERY)
        self._watch(WATCHED)
        if dice.random() < 0.3:
            self._drought()
        if dice.random() < 0.3:
            self._race()

    def _watch(self, seconds: float) -> None:
        clock = self.world.clock
        before = {place: self._standing(place) for place in self.places}
        ahead = {seat for seat in self.seats if self._is_ahead(seat)}
        latest = self.world.book.latest
        clock.run(clock.now + seconds)
        for desk in self.desks:
            self._check_desk(desk, before[desk])
        for seat in self.seats:
            if seat in ahead or self._is_ahead(seat):
                self.world.count("readers ahead of a publisher who began anew")
            else:
                self._check_seat(seat, before[seat], latest)

    def _standing(self, place: Desk | Seat) -> tuple[int, int]:
        """Whose life it is, and what has gone wrong in it so far."""
        if isinstance(place, Desk):
            return place.lives, place.author.machine.lost if place.author is not None else 0
        return place.lives, place.audience.faults if place.audience is not None else 0

    def _check_desk(self, desk: Desk, before: tuple[int, int]) -> None:
        require(desk.author is not None, "in calm weather everybody publishes", desk.channel)
        if desk.author is not None:
            name = desk.author.name
            require(desk.author.confirmed > 0, "in calm weather segments arrive", name)
            require(self._standing(desk) == before, "in calm weather none is lost", name, before)

    def _check_seat(self, seat: Seat, before: tuple[int, int], latest: int) -> None:
        require(seat.audience is not None, "in calm weather everybody reads", seat.channel)
        if seat.audience is not None:
            name = seat.audience.name
            require(seat.audience.newest > latest, "in calm weather segments come", name)
            require(self._standing(seat) == before, "in calm weather all is read", name, before)

    def _is_ahead(self, seat: Seat) -> bool:
        channel = self.host.relay.channels.get(seat.channel)
        expected = seat.audience.expected if seat.audience is not None else -1
        return channel is not None and expected > channel.next_write

    def _drought(self) -> None:
        """Nobody has anything to say for longer than boxes and servers put up with. Nobody gives
        up over that.
        """
        clock = self.world.clock
        length = self.world.dice.uniform(60.0, 400.0)
        self.world.tell("drought", length)
        lives = {place: place.lives for place in self.places}
        for desk in self.desks:
            desk.settle_down(Habits(rests=1.0, rest=(length, length)))
        clock.run(clock.now + length)
        for place in self.places:
            place.settle_down()
        clock.run(clock.now + WATCHED)
        if length + UNTIL_SAID < self.host.manner.settings.idle_timeout:
            for place in self.places:
                require(place.lives == lives[place], "over silence nobody gives up", place.channel)
        self._watch(WATCHED)

    def _race(self) -> None:
        """Segments are published as fast as they go, and no reader who keeps up misses one."""
        settings = self.host.manner.settings
        if settings.patience < FAIR or settings.window < wire.WINDOW:
            return
        self.world.tell("race", RACE)
        for desk in self.desks:
            desk.settle_down(HASTY)
        self._watch(RACE)
        for place in self.places:
            place.settle_down()

    # Memory, all the time

    def _look(self) -> None:
        self.world.clock.after(LOOKS, self._look)
        machines = [desk.author.machine for desk in self.desks if desk.author is not None]
        readers = [seat.audience.machine for seat in self.seats if seat.audience is not None]
        for machine in (*machines, *readers):
            require(weight(machine) <= MOST_KEPT, "a machine's memory is bounded", vars(machine))
        self._look_at_relay()
        connections = self.world.network.connections
        require(len(connections) <= MOST_CONNECTIONS, "connections do not pile up")

    def _look_at_relay(self) -> None:
        relay, settings = self.host.relay, self.host.manner.settings
        held = relay.statistics()
        channels = len(self.desks) + 1
        require(held.channels <= channels, "only channels that somebody made are there", held)
        most = channels * (settings.window + 1) + held.readers + held.writers
        require(held.segments <= most, "the window is respected", held)
        require(held.size <= channels * settings.max_channel_bytes, "memory is bounded", held)
        errands = len(relay._agenda._entries)
        require(errands <= MOST_ERRANDS, "errands do not pile up", errands)

    # The end

    def _end(self) -> None:
        """Everybody goes home; nothing may be left."""
        clock, dice = self.world.clock, self.world.dice
        for place in self.places:
            place.open = False
            dice.choice((place.leave, place.crash))()
        clock.run(clock.now + DEAD_AFTER + 30.0)
        require(not self.world.network.connections, "no connection is left")
        held = self.host.relay.statistics()
        require(held.readers == held.writers == 0, "no request is left", held)
        for desk in self.desks:
            self._delete_channel(desk.channel)
        clock.run(clock.now + self.host.manner.settings.linger + 1.0)
        held = self.host.relay.statistics()
        feed = int(self.host.manner.settings.changefeed)
        require(held.channels == feed, "no channel is left", held)
        require(feed or held.size == held.segments == 0, "no memory is left", held)
