"""``trickle demo``: relay, live source, processor, service and dashboard, in one process."""

from __future__ import annotations

import json
import math
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import click

from trickle_trio.cli.running import Seconds, run
from trickle_trio.cli.targets import load_target, service_of

if TYPE_CHECKING:
    import httpx

    from trickle_trio.media.sources import Source
    from trickle_trio.publication import Publication

REQUEST: Final = "demo"
LOOK: Final = 0.25
"""Seconds between two looks at the service, which is asked over HTTP as any client would."""


@click.command()
@click.option(
    "--input", "source", metavar="FILE", help="A file, looped; a test picture without it."
)
@click.option("--processor", "target", metavar="TARGET", help="module:name or app.py:name.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@click.option("--relay-port", default=3389, show_default=True, type=click.IntRange(0, 65535))
@click.option("--seconds", type=Seconds(min=0, min_open=True), help="Stop by itself.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
def command(
    source: str | None,
    target: str | None,
    port: int,
    relay_port: int,
    seconds: float | None,
    as_json: bool,
) -> None:
    """See a live stream being processed: open the address that this prints."""
    demo = _Demo(source, target, port, relay_port, seconds, as_json)
    run(demo.run)
    if seconds is not None and not demo.figures.get("frames_out"):
        raise click.ClickException("nothing came out")


class _Demo:
    def __init__(
        self,
        source: str | None,
        target: str | None,
        port: int,
        relay_port: int,
        seconds: float | None,
        as_json: bool,
    ) -> None:
        self.source = source
        self.processor = load_target(target) if target else _built_in()
        self.port = port
        self.relay_port = relay_port
        self.seconds = math.inf if seconds is None else seconds
        self.as_json = as_json
        self.figures: dict[str, Any] = {}

    async def run(self) -> None:
        """Run all of it, until the time is up."""
        from trickle_trio.media.sources import source_named

        made = source_named(self.source or "testsrc", loop=self.source is not None)
        is_over = False
        try:
            await self._live(made)
            is_over = True
        finally:
            if is_over or self.figures:  # Ctrl-C is an end like any other
                self._sum_up()

    async def _live(self, made: Source) -> None:
        import httpx
        import trio

        from trickle_core.publisher import PublisherSettings
        from trickle_trio.publication import open_publication
        from trickle_trio.relay import serve_relay
        from trickle_trio.stream.feed import open_source

        made_service = service_of(self.processor, port=self.port)
        async with open_source(made) as source, trio.open_nursery() as nursery:
            relay = await nursery.start(partial(serve_relay, port=self.relay_port))
            service = await nursery.start(made_service)
            came_in = f"{relay.url}/{REQUEST}-in"
            async with (
                open_publication(came_in, settings=PublisherSettings(create=True)) as publication,
                httpx.AsyncClient(base_url=service.url, timeout=30) as client,
                trio.open_nursery() as feeding,
            ):
                await self._start(client, came_in, f"{relay.url}/{REQUEST}-out")
                feeding.start_soon(self._feed, source, publication)
                click.echo(f"the dashboard is at {service.url}/ (Ctrl-C ends it)", err=self.as_json)
                await self._watch(client)
                feeding.cancel_scope.cancel()
            nursery.cancel_scope.cancel()

    async def _feed(self, source: Any, publication: Publication) -> None:
        from trickle_trio.stream.feed import feed

        await feed(source, publication)

    async def _start(self, client: httpx.AsyncClient, came_in: str, goes_out: str) -> None:
        """Start the stream as a gateway does: when the service is ready, by its control API."""
        import trio

        while (await client.get("/health")).json()["status"] == "LOADING":  # noqa: ASYNC110  over HTTP
            await trio.sleep(LOOK)
        body = {
            "subscribe_url": came_in,
            "publish_url": goes_out,
            "gateway_request_id": REQUEST,
            "params": {"max_framerate": 60},
        }
        answer = await client.post("/api/stream/start", json=body)
        if answer.is_error:
            raise click.ClickException(answer.json()["message"])

    async def _watch(self, client: httpx.AsyncClient) -> None:
        """Look at the stream until the time is up; it must not end before."""
        import trio

        from trickle_trio.cli.progress import show_progress

        async with trio.open_nursery() as nursery:
            nursery.start_soon(show_progress, self._describe)
            with trio.move_on_after(self.seconds):
                while True:
                    await trio.sleep(LOOK)
                    await self._look(client)
            await self._look(client)
            nursery.cancel_scope.cancel()

    async def _look(self, client: httpx.AsyncClient) -> None:
        answer = await client.get(f"/api/streams/{REQUEST}")
        if answer.is_error:
            ended = (await client.get("/api/streams")).json()["ended"]
            reason = ended[0]["reason"] if ended else "it is gone"
            raise click.ClickException(f"the stream ended: {reason}")
        self.figures = answer.json()

    def _describe(self) -> str:
        if not self.figures:
            return "starting"
        figures, delay = self.figures, self.figures["latency_ms"]["p50"]
        errors = sum(figures["errors"].values())
        return (
            f"{figures['frames_in']} frames in, {figures['frames_out']} out, "
            f"{figures['fps']['egress_video_fps']:.1f} fps, "
            f"{'-' if delay is None else f'{delay:.0f}'} ms, "
            f"{sum(figures['dropped'].values())} dropped" + (f", {errors} errors" if errors else "")
        )

    def _sum_up(self) -> None:
        if not self.as_json:
            click.echo(self._describe())
            return
        figures = self.figures
        delays = figures.get("latency_ms", {})
        summary = {
            "frames_in": figures.get("frames_in", 0),
            "frames_out": figures.get("frames_out", 0),
            "latency_ms_p50": delays.get("p50"),
            "latency_ms_p99": delays.get("p99"),
            "dropped": sum(figures.get("dropped", {}).values()),
            "dropped_by_reason": figures.get("dropped", {}),
            "errors": figures.get("errors", {}),
            "seconds": figures.get("seconds"),
            "width": figures.get("width_out"),
            "height": figures.get("height_out"),
            "segments_out": figures.get("segments_out", 0),
        }
        click.echo(json.dumps(summary))


def _built_in() -> object:
    from trickle_trio.cli.effect import Drift

    return Drift()
