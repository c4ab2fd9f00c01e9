"""The figures, and the arithmetic between them. Nothing here measures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from attrs import asdict, field, fields, frozen


def percentile(values: Iterable[float], share: float) -> float | None:
    """The smallest value that at least ``share`` (0 to 1) of them do not exceed; None of no values."""
    ranked = sorted(values)
    if not ranked:
        return None
    rank = -int(-share * len(ranked) // 1)  # rounded up
    return ranked[min(max(rank, 1), len(ranked)) - 1]


def middle(values: Iterable[float | None]) -> float | None:
    """The median of those that are there; None where none is."""
    known = [value for value in values if value is not None]
    return median(known) if known else None


def middles(turns: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each figure that the first turn has."""
    return {name: middle(turn.get(name) for turn in turns) or 0.0 for name in turns[0]}


@frozen
class Theirs:
    """ffmpeg's CPU milliseconds a picture: as fast as it goes through the file, and at the pictures' own pace, as a
    live stream has it. None: it was not measured.
    """

    flat: float | None
    paced: float | None


@frozen
class Turn:
    """One turn of ours and one of ffmpeg's, milliseconds a picture; None: it was not measured."""

    cpu_ms: float | None
    wall_ms: float | None
    ffmpeg_cpu_ms: float | None
    ffmpeg_paced_cpu_ms: float | None = None

    @property
    def ratio(self) -> float | None:
        """CPU of ours to ffmpeg's as fast as it goes: below 1, ours costs less."""
        return self._to(self.ffmpeg_cpu_ms)

    @property
    def paced_ratio(self) -> float | None:
        """CPU of ours to ffmpeg's at the pictures' pace."""
        return self._to(self.ffmpeg_paced_cpu_ms)

    def _to(self, theirs: float | None) -> float | None:
        return None if self.cpu_ms is None or not theirs else self.cpu_ms / theirs


@frozen
class Cost:
    """The medians of several turns. Each turn is a ratio of its own, for a machine's mood changes between turns more
    than within one.
    """

    cpu_ms: float | None
    wall_ms: float | None
    ffmpeg_cpu_ms: float | None
    ratio: float | None
    ffmpeg_paced_cpu_ms: float | None
    paced_ratio: float | None

    @classmethod
    def of(cls, turns: Sequence[Turn]) -> Cost:
        """Of these turns."""
        return cls(*(middle(getattr(turn, each.name) for turn in turns) for each in fields(cls)))


@frozen
class Delays:
    """Milliseconds from a picture's last byte in to its processed form's last byte out."""

    p50: float | None
    p95: float | None
    p99: float | None

    @classmethod
    def of(cls, delays: Sequence[float]) -> Delays:
        """Of single delays, in milliseconds."""
        return cls(*(percentile(delays, share) for share in (0.5, 0.95, 0.99)))


@frozen(kw_only=True)
class LiveTurn:
    """One live run of one or more streams in one service.

    Pictures are those sent while it was measured. ``first_output_ms``: from the start of the stream, on an input that
    was running, to the first byte out; of several streams, the slowest. ``memory_mb``: the service's peak.
    ``stages``: milliseconds of the clock that each station took for one item. ``threads``: CPU milliseconds a picture
    of each thread, where the system tells.
    """

    cpu_ms: float | None
    pictures: int
    lost: int
    doubled: int
    delays: tuple[float, ...] = field(repr=False)
    first_output_ms: float | None
    memory_mb: float
    stages: Mapping[str, float] = field(factory=dict)
    threads: Mapping[str, float] = field(factory=dict)

    @property
    def wall_ms(self) -> float | None:
        """What a picture's stations took, one after another."""
        return sum(self.stages.get(name, 0.0) for name in ("decode", "handler", "encode")) or None


@frozen(kw_only=True)
class Handled:
    """A stream with a handler: the cost, and how it went."""

    cost: Cost
    latency_ms: Delays
    pictures: int
    lost: int
    doubled: int
    first_output_ms: float | None
    memory_mb: float
    stages: Mapping[str, float]
    threads: Mapping[str, float]

    @classmethod
    def of(cls, turns: Sequence[LiveTurn], ffmpeg: Sequence[Theirs]) -> Handled:
        """Of several runs, and ffmpeg's beside each."""
        pairs = [
            Turn(turn.cpu_ms, turn.wall_ms, theirs.flat, theirs.paced)
            for turn, theirs in zip(turns, ffmpeg, strict=True)
        ]
        return cls(
            cost=Cost.of(pairs),
            latency_ms=Delays.of([delay for turn in turns for delay in turn.delays]),
            pictures=sum(turn.pictures for turn in turns),
            lost=sum(turn.lost for turn in turns),
            doubled=sum(turn.doubled for turn in turns),
            first_output_ms=middle(turn.first_output_ms for turn in turns),
            memory_mb=max(turn.memory_mb for turn in turns),
            stages=middles([turn.stages for turn in turns]),
            threads=middles([turn.threads for turn in turns]),
        )


@frozen(kw_only=True)
class SizeFigures:
    """All that was measured at one size. ``bit_rate``: of the footage, bits a second."""

    size: str
    width: int
    height: int
    bit_rate: int
    decode: Cost
    passthrough: Handled
    tint: Handled


@frozen(kw_only=True)
class Step:
    """So many streams at once."""

    streams: int
    cpu_ms: float | None
    latency_ms: Delays
    pictures: int
    lost: int
    is_good: bool


@frozen(kw_only=True)
class Capacity:
    """How many streams of this size one service carried, and what each number of them was like."""

    size: str
    streams: int
    steps: tuple[Step, ...]


@frozen(kw_only=True)
class Report:
    """Everything. ``ffmpeg``: its version, or why there are no figures of it."""

    cpus: int
    machine: str
    python: str
    ffmpeg: str
    footage: str
    fps: int
    seconds: float
    turns: int
    sizes: tuple[SizeFigures, ...] = ()
    capacity: Capacity | None = None

    def as_object(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @property
    def came_out(self) -> bool:
        """Whether every stream that was measured showed pictures."""
        return all(
            handled.pictures > handled.lost
            for figures in self.sizes
            for handled in (figures.passthrough, figures.tint)
        )
