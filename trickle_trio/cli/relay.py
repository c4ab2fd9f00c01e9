"""``trickle relay``: the server that publishers and subscribers meet at."""

from __future__ import annotations

import click

from trickle_trio.cli.running import Seconds, run


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=3389, show_default=True, type=click.IntRange(0, 65535))
@click.option("--path", default="/", show_default=True, help="What stands before a channel's name.")
@click.option(
    "--window", default=5, show_default=True, type=click.IntRange(1), help="Segments kept."
)
@click.option(
    "--autocreate/--no-autocreate", default=True, show_default=True, help="Make channels on demand."
)
@click.option(
    "--changefeed", is_flag=True, help="Tell of channels that come and go, on channel _changes."
)
@click.option(
    "--idle-timeout",
    default=300.0,
    show_default=True,
    type=Seconds(min=0, min_open=True),
    help="Seconds without a write before a channel goes.",
)
@click.option("--token", help="Ask readers and writers for this bearer token.")
def command(
    host: str,
    port: int,
    path: str,
    window: int,
    autocreate: bool,
    changefeed: bool,
    idle_timeout: float,
    token: str | None,
) -> None:
    """Run a trickle server."""
    import trio

    from trickle_core.relay_settings import RelaySettings
    from trickle_trio.relay import serve_relay

    try:
        settings = RelaySettings(
            base_path=path,
            window=window,
            autocreate=autocreate,
            changefeed=changefeed,
            idle_timeout=idle_timeout,
            token=token,
        )
    except ValueError as error:
        raise click.UsageError(str(error.args[0])) from error

    async def program() -> None:
        async with trio.open_nursery() as nursery:
            bound = await nursery.start(serve_relay_at)
            click.echo(f"relay at {bound.url}")

    async def serve_relay_at(*, task_status: trio.TaskStatus[object]) -> None:
        await serve_relay(host=host, port=port, settings=settings, task_status=task_status)

    run(program)
