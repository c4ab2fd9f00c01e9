"""The whole run: size by size, in turns of ours and ffmpeg's; then how many streams there may be."""

from __future__ import annotations

import platform
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import trio
from attrs import define, evolve, field, frozen, validators

from trickle_trio.bench.batch import Ffmpeg, find_ffmpeg, time_decoding
from trickle_trio.bench.figures import (
    Capacity,
    Cost,
    Delays,
    Handled,
    LiveTurn,
    Report,
    SizeFigures,
    Step,
    Theirs,
    Turn,
)
from trickle_trio.bench.footage import FPS, Footage, Size, make_footage
from trickle_trio.bench.live import AROUND, SETTLE, run_live
from trickle_trio.bench.machine import machine_name, usable_cpus
from trickle_trio.bench.worker_process import open_worker

SIZES: Final = ("360p", "720p", "1080p")
RAMP: Final = "720p"
LONGEST_P99: Final = 200.0
"""Milliseconds above which streams are too many for a machine."""
MOST_STREAMS: Final = 64
SETTLE_MANY: Final = 1.5
"""Seconds before they are measured: all of them begin at once, with what the input held by then."""

HANDLERS: Final = ("passthrough", "tint")


@frozen(kw_only=True)
class BenchSettings:
    """What is measured. ``seconds``: of each live run. ``turns``: of each figure, of which the median is given.
    ``source``: a file, or None for the built-in scenery. ``streams``: ramp up to as many as the machine carries, at
    most ``most_streams``, of 720p where that is among the sizes, otherwise of the last one.
    """

    sizes: tuple[Size, ...] = field(default=tuple(map(Size.named, SIZES)))
    seconds: float = field(default=2.0, validator=validators.gt(0))
    turns: int = field(default=3, validator=validators.ge(1))
    source: Path | None = None
    streams: bool = False
    most_streams: int = field(default=MOST_STREAMS, validator=validators.ge(1))

    @sizes.validator
    def _is_some(self, _: object, sizes: tuple[Size, ...]) -> None:
        if not sizes:
            raise ValueError("sizes: there is none")

    @property
    def ramp(self) -> Size:
        """The size of the streams that are counted."""
        return next((size for size in self.sizes if size.name == RAMP), self.sizes[-1])


@define
class Progress:
    """What is being done, for who waits."""

    text: str = "starting"


@frozen
class Clip:
    """Footage, and where it lies as a file."""

    footage: Footage
    path: Path


@define(eq=False)
class _Bench:
    settings: BenchSettings
    progress: Progress
    relay: str
    ffmpeg: Ffmpeg
    folder: Path
    _clips: dict[str, Clip] = field(factory=dict)

    async def clip(self, size: Size) -> Clip:
        """The footage of this size, made once."""
        if size.name not in self._clips:
            footage = await self._footage(size, self.settings.seconds + AROUND)
            path = self.folder / f"{size.name}.ts"
            path.write_bytes(footage.transport_stream())
            self._clips[size.name] = Clip(footage, path)
        return self._clips[size.name]

    async def _footage(self, size: Size, seconds: float) -> Footage:
        self.progress.text = f"{size.name}: making the footage"
        made = partial(make_footage, size, seconds, self.settings.source)
        return await trio.to_thread.run_sync(made, abandon_on_cancel=True)

    async def at_size(self, size: Size) -> SizeFigures:
        """Everything of one size."""
        clip = await self.clip(size)
        footage = clip.footage
        pictures = footage.pictures[: max(2, round(self.settings.seconds * FPS))]
        decoding = list[Turn]()
        live = {name: list[LiveTurn]() for name in HANDLERS}
        ffmpeg = {name: list[Theirs]() for name in HANDLERS}
        for turn in range(self.settings.turns):
            where = f"{size.name}: turn {turn + 1} of {self.settings.turns}"
            self.progress.text = f"{where}, decode only"
            ours = await time_decoding(pictures)
            flat = await self.ffmpeg.cpu_ms("decode", clip.path, len(pictures))
            decoding.append(evolve(ours, ffmpeg_cpu_ms=flat))
            for name in HANDLERS:
                self.progress.text = f"{where}, {name}"
                live[name].append(await run_live(self.relay, footage, name))
                self.progress.text = f"{where}, ffmpeg beside the {name}"
                ffmpeg[name].append(await self.ffmpeg.theirs(name, clip.path, len(pictures)))
        return SizeFigures(
            size=size.name,
            width=size.width,
            height=size.height,
            bit_rate=footage.bit_rate,
            decode=Cost.of(decoding),
            passthrough=Handled.of(live["passthrough"], ffmpeg["passthrough"]),
            tint=Handled.of(live["tint"], ffmpeg["tint"]),
        )

    async def capacity(self) -> Capacity:
        """One stream more each time, until pictures are lost or are late, and that twice: a machine may be at something
        else for once.
        """
        size, steps = self.settings.ramp, list[Step]()
        longer = self.settings.seconds + AROUND + SETTLE_MANY - SETTLE
        footage = await self._footage(size, longer)
        for streams in range(1, self.settings.most_streams + 1):
            step = await self._step(footage, streams)
            steps.append(step if step.is_good else await self._step(footage, streams))
            if not steps[-1].is_good:
                break
        good = sum(step.is_good for step in steps)
        return Capacity(size=size.name, streams=good, steps=tuple(steps))

    async def _step(self, footage: Footage, streams: int) -> Step:
        self.progress.text = f"{footage.size.name}: {streams} at once"
        turn = await run_live(self.relay, footage, HANDLERS[0], streams, SETTLE_MANY)
        return step_of(streams, turn)


def step_of(streams: int, turn: LiveTurn) -> Step:
    """Judge a run of so many streams."""
    delays = Delays.of(turn.delays)
    return Step(
        streams=streams,
        cpu_ms=turn.cpu_ms,
        latency_ms=delays,
        pictures=turn.pictures,
        lost=turn.lost,
        is_good=turn.lost == 0 and delays.p99 is not None and delays.p99 <= LONGEST_P99,
    )


async def run_bench(settings: BenchSettings, progress: Progress | None = None) -> Report:
    """Measure it all. A live run takes about three seconds more than ``settings.seconds``; a turn of a size has two.

    ``SourceError``: the file cannot be read. ``BenchError``: what is measured died. Cancelling is safe, at any time:
    no process and no file is left.
    """
    progress = progress or Progress()
    async with _opened(settings, progress) as bench:
        report = _about(settings, bench.ffmpeg)
        sizes = tuple([await bench.at_size(size) for size in settings.sizes])
        capacity = await bench.capacity() if settings.streams else None
    return evolve(report, sizes=sizes, capacity=capacity)


@asynccontextmanager
async def _opened(settings: BenchSettings, progress: Progress) -> AsyncIterator[_Bench]:
    with TemporaryDirectory(prefix="trickle-bench-") as folder:
        async with open_worker("relay") as (_, said):
            ffmpeg = await find_ffmpeg()
            yield _Bench(settings, progress, said["url"], ffmpeg, Path(folder))


def _about(settings: BenchSettings, ffmpeg: Ffmpeg) -> Report:
    return Report(
        cpus=usable_cpus(),
        machine=machine_name(),
        python=platform.python_version(),
        ffmpeg=ffmpeg.version,
        footage=settings.source.name if settings.source else "the built-in scenery",
        fps=FPS,
        seconds=settings.seconds,
        turns=settings.turns,
    )
