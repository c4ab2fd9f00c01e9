"""How bad the network is: the faults that it makes, and how likely they are."""

from __future__ import annotations

import math
from enum import Enum, auto
from random import Random
from typing import Final

from attrs import frozen


class Heading(Enum):
    """Which way."""

    UP = auto()
    """From the client to the server."""
    DOWN = auto()


class Part(Enum):
    """What passes over a connection."""

    HEAD = auto()
    BODY = auto()
    END = auto()


@frozen
class Fault:
    """Where a connection will break. ``nth``: at which piece, for a body. ``arrives``: whether the
    thing at which it breaks still gets through. ``silent``: nobody is told, the peers find out when
    their probes go unanswered.
    """

    heading: Heading
    part: Part
    nth: int
    arrives: bool
    silent: bool


@frozen(kw_only=True)
class Weather:
    """Times in seconds, rates in bytes a second; shares from 0 to 1, of requests where nothing
    else is said.
    """

    delay: tuple[float, float] = (0.002, 0.03)
    """One way."""
    rate: float = 2e6
    spikes: float = 0.0
    """Of things sent: held up for up to ``spike``."""
    spike: float = 5.0
    refused: float = 0.0
    unheard: float = 0.0
    """Connecting is never answered."""
    broken: float = 0.0
    """Break at some ``Fault``."""
    short_lived: float = 0.0
    """Break after some time."""
    lifetime: float = 30.0
    """The mean of that time."""
    silent: float = 0.0
    """Of broken connections."""
    ghosts: float = 0.0
    """The request also comes over a second connection, sooner or later: repeated by a client or a
    proxy after a connection on which nothing had come back."""
    errors: float = 0.0
    """Answered with a fault of the server's."""
    box: float = math.inf
    """A box between cuts connections that are silent for so long."""
    late_news: float = 0.0
    """Of given up requests: something is still reported of them."""


CALM: Final = Weather()


def _sometimes(dice: Random, most: float) -> float:
    """Not at all, rarely, or up to ``most``."""
    return dice.choice((0.0, 0.0, most / 20, dice.uniform(0, most)))


def storm(dice: Random) -> Weather:
    """Bad weather of a random kind."""
    slow = dice.choice((0.03, 0.1, 0.5, 2.0))
    return Weather(
        delay=(0.002, slow),
        rate=dice.choice((2e6, 2e5, 5e3)),
        spikes=_sometimes(dice, 0.2),
        spike=dice.choice((1.0, 5.0, 15.0)),
        refused=_sometimes(dice, 0.8),
        unheard=_sometimes(dice, 0.3),
        broken=_sometimes(dice, 0.6),
        short_lived=_sometimes(dice, 0.8),
        lifetime=dice.choice((1.0, 5.0, 30.0)),
        silent=_sometimes(dice, 0.5),
        ghosts=_sometimes(dice, 0.5),
        errors=_sometimes(dice, 0.6),
        box=dice.choice((math.inf, 30.0, 10.0)),
        late_news=_sometimes(dice, 0.5),
    )


def fault(dice: Random, weather: Weather) -> Fault | None:
    """What will become of a connection that is made now."""
    if dice.random() >= weather.broken:
        return None
    return Fault(
        heading=dice.choice(tuple(Heading)),
        part=dice.choice(tuple(Part)),
        nth=dice.choice((0, 0, 1, 3)),
        arrives=dice.random() < 0.5,
        silent=dice.random() < weather.silent,
    )
