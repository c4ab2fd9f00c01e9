"""``trickle init``: a new app."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from trickle_trio.templates import TEMPLATES


def _folder(context: click.Context, parameter: click.Parameter, name: str) -> Path:
    if not name:  # a variable that was not set, and not the current folder
        raise click.BadParameter("a folder's name is expected", context, parameter)
    return Path(name)


@click.command()
@click.argument(
    "folder",
    metavar="DIR",
    type=click.Path(file_okay=False),
    callback=_folder,
)
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

    Nothing is overwritten: a README.md, .gitignore or pyproject.toml that is there stays, and where there is an
    app.py or a test_app.py already, nothing is written.
    """
    template = TEMPLATES[name]
    try:
        kept = template.write(folder)
    except FileExistsError as error:
        raise click.BadParameter(str(error), param_hint="DIR") from error
    except OSError as error:
        raise click.ClickException(f"{folder}: {error.strerror or error}") from error
    if kept:
        click.echo(f"Left as they were: {', '.join(kept)}.", err=True)
    steps = [
        *([] if folder.resolve() == Path.cwd() else [f"cd {_quoted(folder)}"]),
        f"trickle demo --processor app.py:{template.target}",
        "pip install pytest pytest-trio && pytest",
    ]
    click.echo(f"A new app, from the template {name}. See it, and test it:\n")
    for step in steps:
        click.echo(f"    {step}")


def _quoted(folder: Path) -> str:
    """For a shell, and for a command that would take a dash for an option's."""
    return shlex.quote(f"./{folder}" if str(folder).startswith("-") else str(folder))
