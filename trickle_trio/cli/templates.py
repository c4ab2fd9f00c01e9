"""``trickle templates``: what a new app may begin with."""

from __future__ import annotations

import click

from trickle_trio.templates import TEMPLATES


@click.command()
def command() -> None:
    """Show what a new app may begin with: trickle init DIR --template NAME."""
    width = max(map(len, TEMPLATES))
    for template in TEMPLATES.values():
        click.echo(f"{template.name:{width}}  {template.about}")
