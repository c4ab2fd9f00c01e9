"""One channel's people: processes come, go and come back, each with a machine of its own."""

from __future__ import annotations

import math
from functools import partial
from typing import Final

from attrs import define, field

from tests.core.simulation.client import World
from tests.core.simulation.host import Host
from tests.core.simulation.reading import (
    KEEN,
    Audience,
    bad_manners,
)
from tests.core.simulation.reading import MOST_REQUESTS as MOST_READING
from tests.core.simulation.truth import require
from tests.core.simulation.writing import MOST_REQUESTS as MOST_WRITING
from tests.core.simulation.writing import STEADY, Author, Habits, bad_habits
from trickle_core import wire
from trickle_core.publisher import Publisher, PublisherSettings
from trickle_core.retry import RetryPolicy
from trickle_core.subscriber import Subscriber, SubscriberSettings

PAUSE: Final = (0.05, 3.0)
LONG_PAUSE: Final = (0.05, 30.0)

FOR_EVER: Final = 1e9


@define(eq=False, repr=False)
class Desk:
    """Where one publishing process follows the other."""

    world: World
    host: Host
    channel: str
    author: Author | None = field(default=None, init=False)
    lives: int = field(default=0, init=False)
    calm: bool = field(default=True, init=False)
    open: bool = field(default=True, init=False)
    _last_seq: int = field(default=-1, init=False)

    def arrive(self) -> None:
        """A new process begins, if none is there."""
        if self.author is not None or not self.open:
            return
        self.lives += 1
        self.world.count("publishing processes")
        machine = Publisher(self._settings(), jitter=self.world.dice.random)
        author = Author(
            self.world,
            self.host,
            f"{self.channel} author {self.lives}",
            self.channel,
            machine=machine,
            on_finish=self._finished,
            most_requests=MOST_WRITING,
            habits=STEADY if self.calm else bad_habits(self.world.dice),
            life=self.lives,
        )
        self.author = author
        author.last_seq = -1
        author.start()

    def _settings(self) -> PublisherSettings:
        dice = self.world.dice
        return PublisherSettings(
            first=self._first(),
            create=not self.host.manner.settings.autocreate or dice.random() < 0.5,
            delete=dice.random() < 0.2,
            settle=dice.choice((10.0, 3.0)),
            farewell=dice.choice((2.0, 0.5)),
            retry=RetryPolicy(give_up_after=dice.choice((30.0, 8.0, math.inf))),
        )

    def _first(self) -> int | None:
        """Some ask, some know, and some begin at 0 whatever was before."""
        guess = self.world.dice.random()
        if guess < 0.5:
            return None
        channel = self.host.relay.channels.get(self.channel)
        # What a publisher left half written must not be in the window any more: whoever says the
        # number writes there.
        window = self.host.manner.settings.window
        long_past = channel is None or channel.next_write > 2 * window
        return 0 if guess < 0.65 and long_past else self._last_seq + 1

    def _gone(self) -> None:
        author, self.author = self.author, None
        if author is not None:
            self._last_seq = max(self._last_seq, author.last_seq)
        pause = self.world.dice.uniform(*(PAUSE if self.calm else LONG_PAUSE))
        self.world.clock.after(pause, self.arrive)

    def _finished(self) -> None:
        if self.author is not None and self.author.gone:
            self.author.check_end()
            self._gone()

    def crash(self) -> None:
        """The process dies."""
        if self.author is not None:
            self.world.count("publisher crashes")
            self.author.crash()
            self._gone()

    def leave(self) -> None:
        """The process ends in good order."""
        author = self.author
        if author is None:
            return
        author.leave()
        overdue = author.machine.settings.farewell + 0.1
        self.world.clock.after(overdue, partial(self._check_gone, author))

    def _check_gone(self, author: Author) -> None:
        require(author.gone, "a farewell has an end", author.name)

    def settle_down(self, habits: Habits = STEADY) -> None:
        """Work steadily, or otherwise, but without mishaps."""
        self.calm = True
        self.arrive()
        if self.author is not None:
            self.author.settle_down(habits)


@define(eq=False, repr=False)
class Seat:
    """Where one reading process follows the other."""

    world: World
    host: Host
    channel: str
    number: int
    audience: Audience | None = field(default=None, init=False)
    lives: int = field(default=0, init=False)
    calm: bool = field(default=True, init=False)
    open: bool = field(default=True, init=False)
    _expected: int = field(default=-1, init=False)

    def arrive(self) -> None:
        """A new process begins, if none is there."""
        if self.audience is not None or not self.open:
            return
        self.lives += 1
        self.world.count("reading processes")
        settings = self._settings()
        self.audience = Audience(
            self.world,
            self.host,
            f"{self.channel} reader {self.number}.{self.lives}",
            self.channel,
            machine=Subscriber(settings, jitter=self.world.dice.random),
            on_finish=self._finished,
            most_requests=MOST_READING,
            reads_ahead=self.world.chance(0.3),
            manners=KEEN if self.calm else bad_manners(self.world.dice),
            expected=max(settings.start, -1),
        )
        self.audience.start()

    def _settings(self) -> SubscriberSettings:
        dice = self.world.dice
        return SubscriberSettings(
            start=self._start(),
            wait_for_channel=dice.choice((0.0, 20.0, FOR_EVER)),
            max_lag=dice.choice((None, None, 0, 2)),
            retry=RetryPolicy(give_up_after=dice.choice((30.0, 8.0, math.inf))),
        )

    def _start(self) -> int:
        channel = self.host.relay.channels.get(self.channel)
        next_write = channel.next_write if channel is not None else 0
        near = max(0, next_write + self.world.dice.randint(-8, 2))
        known = self._expected if self._expected <= next_write else wire.LIVE_EDGE
        return self.world.dice.choice((wire.LIVE_EDGE, wire.NEXT_WRITE, near, max(known, -2)))

    def _gone(self) -> None:
        audience, self.audience = self.audience, None
        if audience is not None:
            self._expected = audience.expected
        pause = self.world.dice.uniform(*(PAUSE if self.calm else LONG_PAUSE))
        self.world.clock.after(pause, self.arrive)

    def _finished(self) -> None:
        audience = self.audience
        if audience is None or not audience.gone:
            return
        audience.check_end()
        if audience.present is not None:
            # What has begun is read to its end.
            self.world.clock.after(1.0, self._finished)
            return
        self._gone()

    def crash(self) -> None:
        """The process dies."""
        if self.audience is not None:
            self.audience.crash()
            self._gone()

    def leave(self) -> None:
        """The process ends in good order."""
        if self.audience is not None:
            self.audience.leave()

    def settle_down(self) -> None:
        """Read all that comes."""
        self.calm = True
        self.arrive()
        if self.audience is not None:
            self.audience.settle_down()
