"""``trickle serve``: the user's processor as a service."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click
from click.core import ParameterSource

from trickle_trio.cli.coding import coding, coding_options
from trickle_trio.cli.running import run
from trickle_trio.cli.targets import load_target, service_of

if TYPE_CHECKING:
    from trickle_trio.service import Service


def _relay_tokens(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    if not all(relay and token for relay, _, token in pairs):
        raise click.BadParameter("RELAY=TOKEN is expected", context, parameter)
    return {relay: token for relay, _, token in pairs}


@click.command()
@click.argument("target")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@click.option(
    "--max-streams", default=1, show_default=True, type=click.IntRange(1), help="Streams at once."
)
@click.option("--share-model", is_flag=True, help="Load one model for all of them.")
@click.option(
    "--token",
    envvar="TRICKLE_TOKEN",
    show_envvar=True,
    help="Ask every request for this bearer token.",
)
@click.option(
    "--relay-token",
    "relay_tokens",
    multiple=True,
    metavar="RELAY=TOKEN",
    envvar="TRICKLE_RELAY_TOKENS",
    show_envvar=True,
    callback=_relay_tokens,
    help="Show TOKEN to RELAY (http://host:port), and to no other server; may be given again. In the variable, "
    "blanks stand between several.",
)
@click.option(
    "--allow-origin",
    "allow_origins",
    multiple=True,
    metavar="ORIGIN",
    help="Let web pages of ORIGIN (https://host, or * for all) start and change streams.",
)
@click.option("--reload", is_flag=True, help="Begin anew whenever a Python file here changes.")
@coding_options
@click.pass_context
def command(
    context: click.Context,
    /,
    target: str,
    host: str,
    port: int,
    max_streams: int,
    share_model: bool,
    token: str | None,
    relay_tokens: dict[str, str],
    allow_origins: tuple[str, ...],
    reload: bool,
    **chosen: Any,
) -> None:
    """Serve TARGET, a processor or an app of yours: package.module:name or path/app.py:name."""
    if reload:
        _serve_again_and_again()
        return
    options = {
        "max_streams": max_streams,
        "share_model": share_model,
        "token": token,
        "relay_tokens": relay_tokens,
        "allow_origins": allow_origins,
        **coding(chosen),
    }
    service = _service_of(context, load_target(target), host, port, options)
    token = service.app.guard.token

    async def program() -> None:
        import trio

        async with trio.open_nursery() as nursery:
            address = await nursery.start(service)
            page = f"/#token={quote(token, safe='')}" if token else ""
            click.echo(f"{target} at {address}{page}")

    run(program)


def _service_of(
    context: click.Context, target: object, host: str, port: int, options: dict[str, Any]
) -> Service:
    """Make a service of a processor; an app is one already, and has been told its options."""
    from trickle_trio.service import Service, TrickleApp

    if not isinstance(target, TrickleApp):
        return service_of(target, host=host, port=port, **options)
    here = {"target", "host", "port"}
    if target.guard.token == options["token"]:
        here.add("token")
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        said = {
            ParameterSource.COMMANDLINE: parameter.opts[0],
            ParameterSource.ENVIRONMENT: parameter.envvar,
        }
        if parameter.name not in here and source in said:
            raise click.UsageError(f"{said[source]} is for a processor; an app says it by itself")
    return Service(target, host, port)


def _serve_again_and_again() -> None:
    """Run the same command without ``--reload`` in a process of its own, and again at each change."""
    try:
        from watchfiles import PythonFilter, run_process
    except ImportError as error:
        raise click.ClickException("--reload needs: pip install trickle-trio[reload]") from error

    arguments = [argument for argument in sys.argv[1:] if argument != "--reload"]
    child = shlex.join([sys.executable, "-m", "trickle_trio.cli", *arguments])
    run_process(Path.cwd(), target=child, target_type="command", watch_filter=PythonFilter())
