"""``trickle bench``: the pipeline's cost and delay on this machine, beside ffmpeg's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trickle_trio.cli.running import Seconds, run

if TYPE_CHECKING:
    from trickle_trio.bench import Report, Size

LONGEST = 600.0


def _sizes(context: click.Context, parameter: click.Parameter, value: str) -> tuple[Size, ...]:
    from trickle_trio.bench import Size

    try:
        return tuple(Size.named(name.strip()) for name in value.split(","))
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None


@click.command()
@click.option(
    "--input",
    "source",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Footage of your own, without its sound; a built-in moving picture without it.",
)
@click.option(
    "--size",
    "sizes",
    default="360p,720p,1080p",
    show_default=True,
    callback=_sizes,
    help="Heights of pictures of 16 by 9.",
)
@click.option(
    "--seconds",
    default=2.0,
    show_default=True,
    type=Seconds(0.5, LONGEST),
    help="Of each live run; there are six for each size.",
)
@click.option("--streams", is_flag=True, help="Also: how many streams this machine carries.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    source: Path | None, sizes: tuple[Size, ...], seconds: float, streams: bool, as_json: bool
) -> None:
    """Measure what a stream costs here, and how late it is, beside one-thread ffmpeg where there is one.

    Takes three minutes, during which the machine should have nothing else to do. docs/performance.md says how to read
    the figures.
    """
    import trio

    from trickle_trio.bench import BenchError, BenchSettings, Progress, run_bench, table
    from trickle_trio.cli.progress import show_progress

    if source and not source.is_file():
        raise click.BadParameter(f"{source}: no such file", param_hint="--input")
    settings = BenchSettings(sizes=sizes, seconds=seconds, source=source, streams=streams)
    progress = Progress()
    reports: list[Report] = []

    async def program() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(show_progress, lambda: progress.text)
            try:
                reports.append(await run_bench(settings, progress))
            except BenchError as error:
                raise click.ClickException(str(error)) from error
            nursery.cancel_scope.cancel()

    run(program)
    if not reports:
        raise click.ClickException("stopped before there were figures")
    report = reports[0]
    click.echo(json.dumps(report.as_object()) if as_json else table(report))
    if not report.came_out:
        raise click.ClickException("a stream showed nothing")
