"""``trickle init``: a new app."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from trickle_trio.templates import TEMPLATES


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--template",
    "name",
    type=click.Choice(list(TEMPLATES)),
    default=next(iter(TEMPLATES)),
    show_default=True,
    help="What it begins with; trickle templates says more.",
)
def command(folder: Path, name: str) -> None:
    """Make a new app in DIR: one that runs as it is, with a test of its own.

    Other files in DIR stay, and none is overwritten.
    """
    template = TEMPLATES[name]
    try:
        template.write(folder)
    except FileExistsError as error:
        raise click.BadParameter(str(error), param_hint="DIR") from error
    except OSError as error:
        raise click.ClickException(f"{folder}: {error.strerror or error}") from error
    here = [] if folder.resolve() == Path.cwd() else [f"cd {shlex.quote(str(folder))}"]
    steps = [
        *here,
        f"trickle demo --processor app.py:{template.target}",
        "pip install pytest pytest-trio && pytest",
    ]
    click.echo(f"A new app, from the template {name}. See it, and test it:\n")
    for step in steps:
        click.echo(f"    {step}")
