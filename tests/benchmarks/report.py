"""What a benchmark found: lines for a person, objects for a program."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from statistics import median
from typing import Final

from attrs import asdict, frozen


@frozen
class Demand:
    """What is asked of a figure."""

    sign: str
    bound: float

    def is_met(self, value: float) -> bool:
        """Whether the figure is good enough."""
        return SIGNS[self.sign](value, self.bound)

    def __str__(self) -> str:
        return f"{self.sign} {self.bound:g}"


SIGNS: Final[dict[str, Callable[[float, float], bool]]] = {
    ">=": operator.ge,
    "<": operator.lt,
    "==": operator.eq,
}


@frozen
class Figure:
    """One figure, and what is asked of it, if anything is."""

    part: str
    name: str
    value: float
    unit: str
    demand: Demand | None = None

    @property
    def is_good(self) -> bool:
        """Whether nothing is asked, or it is met."""
        return self.demand is None or self.demand.is_met(self.value)

    def line(self) -> str:
        """For a person."""
        asked = "" if self.demand is None else f"{self.demand} {'' if self.is_good else 'MISSED'}"
        return f"{self.part:8} {self.name:58} {self.value:>12,.3g} {self.unit:22} {asked}".rstrip()

    def as_object(self) -> dict[str, object]:
        """For a program."""
        return {**asdict(self), "demand": self.demand and str(self.demand), "good": self.is_good}


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` of them lie."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


@frozen
class Pair:
    """One turn of ours and one of theirs: seconds of the clock and of the CPU."""

    ours: tuple[float, float]
    theirs: tuple[float, float]


def compared(part: str, name: str, count: int, pairs: Sequence[Pair]) -> list[Figure]:
    """How fast ours is beside theirs: 1 is parity, above is better. Each pair is a ratio of its
    own, for the machine's mood changes between pairs more than within one.
    """
    wall = median(pair.theirs[0] / pair.ours[0] for pair in pairs)
    cpu = median(pair.theirs[1] / pair.ours[1] for pair in pairs)
    ours = count / median(pair.ours[0] for pair in pairs)
    theirs = count / median(pair.theirs[0] for pair in pairs)
    return [
        Figure(part, f"{name}, ours to aiohttp's, by the clock", wall, "ratio", Demand(">=", 0.7)),
        Figure(part, f"{name}, ours to aiohttp's, by CPU", cpu, "ratio", Demand(">=", 0.7)),
        Figure(part, f"{name}, ours", ours, "a second"),
        Figure(part, f"{name}, aiohttp's", theirs, "a second"),
    ]
