"""The figures as a table, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trickle_trio.bench.figures import Capacity, Cost, Delays, Handled, Report, SizeFigures

COST: tuple[str, ...] = ("", "", "CPU ms", "wall ms", "ffmpeg", "ratio", "-re", "ratio")
THREADS: tuple[str, ...] = ("", "", "event loop", "decode", "encode", "others")
LIVE: tuple[str, ...] = ("", "", "p50 ms", "p95 ms", "p99 ms", "pictures", "lost", "doubled")
LIVE += ("first ms", "memory MB")
STREAMS: tuple[str, ...] = ("", "", "CPU ms", "p50 ms", "p99 ms", "pictures", "lost")

Row = Sequence[str]


def table(report: Report) -> str:
    """Lay out all of it: lines of at most 100 characters, without a newline at the end."""
    lines = [
        f"{report.footage}, {report.fps} pictures a second, on {report.cpus} CPUs of {report.machine}",
        f"Python {report.python}, ffmpeg {report.ffmpeg}",
        f"Medians of {report.turns} turns of {report.seconds:g} s",
        "",
        "Cost of a picture: CPU and clock of ours; CPU of ffmpeg with one thread, as fast as it goes and",
        "at the pictures' pace (-re), each with the ratio of ours to it",
        *_lines([COST, *(row for figures in report.sizes for row in _costs(figures))]),
        "",
        "Where a stream's CPU goes, ms a picture by thread",
        *_lines([THREADS, *(row for figures in report.sizes for row in _threads(figures))]),
        "",
        "Live through a relay: from a picture's last byte in to its last byte out",
        *_lines([LIVE, *(row for figures in report.sizes for row in _delays(figures))]),
    ]
    return "\n".join(lines + (_streams(report.capacity) if report.capacity else []))


def _costs(figures: SizeFigures) -> Iterator[Row]:
    yield _cost(figures.size, "decode only", figures.decode)
    for _, name, handled in _handled(figures):
        yield _cost("", name, handled.cost)


def _cost(size: str, name: str, cost: Cost) -> Row:
    figures = (cost.cpu_ms, cost.wall_ms, cost.ffmpeg_cpu_ms, cost.ratio)
    paced = (cost.ffmpeg_paced_cpu_ms, cost.paced_ratio)
    return (size, name, *(_number(value, 2) for value in (*figures, *paced)))


def _threads(figures: SizeFigures) -> Iterator[Row]:
    for size, name, handled in _handled(figures):
        yield (size, name, *(_number(handled.threads.get(thread), 2) for thread in THREADS[2:]))


def _handled(figures: SizeFigures) -> Iterator[tuple[str, str, Handled]]:
    yield figures.size, "passthrough", figures.passthrough
    yield "", "float32 tint", figures.tint


def _delays(figures: SizeFigures) -> Iterator[Row]:
    for size, name, handled in _handled(figures):
        counts = (str(handled.pictures), str(handled.lost), str(handled.doubled))
        rest = (_number(handled.first_output_ms, 0), _number(handled.memory_mb, 0))
        yield (size, name, *_shares(handled.latency_ms), *counts, *rest)


def _shares(delays: Delays) -> Row:
    return [_number(value, 1) for value in (delays.p50, delays.p95, delays.p99)]


def _streams(capacity: Capacity) -> list[str]:
    rows: list[Row] = [STREAMS]
    for step in capacity.steps:
        p50, _, p99 = _shares(step.latency_ms)
        counts = (str(step.pictures), str(step.lost))
        rows.append((str(step.streams), "at once", _number(step.cpu_ms, 2), p50, p99, *counts))
    head = f"Streams of {capacity.size} at once, passthrough, in one service: {capacity.streams}"
    return ["", head, *_lines(rows)]


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _lines(rows: Sequence[Row]) -> list[str]:
    """Columns as wide as what is in them: words to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
