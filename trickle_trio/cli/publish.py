"""``trickle publish``: a file, an address, a pipe or a test picture, live into a channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from trickle_trio.cli.running import (
    PATIENCE,
    Seconds,
    channel_argument,
    channel_token,
    run,
)

if TYPE_CHECKING:
    from trickle_trio.stream.cutting import FeedProgress


@click.command()
@click.argument("source")
@click.argument("url", metavar="CHANNEL_URL", callback=channel_argument)
@click.option("--loop", is_flag=True, help="Begin again at the end.")
@click.option(
    "--realtime/--no-realtime",
    default=True,
    show_default=True,
    help="Send at the source's own pace.",
)
@click.option(
    "--segment-seconds",
    default=2.0,
    show_default=True,
    type=Seconds(min=0.1, max=60),
    help="Length of a segment, at least: it ends at a key frame.",
)
@click.option("--transcode", is_flag=True, help="Encode anew, also what could be copied.")
@click.option(
    "--delete/--keep",
    default=True,
    show_default=True,
    help="Delete the channel at the end, so that its readers end too; or leave it for another.",
)
@channel_token
def command(
    source: str,
    url: str,
    loop: bool,
    realtime: bool,
    segment_seconds: float,
    transcode: bool,
    delete: bool,
    token: str | None,
) -> None:
    """Publish SOURCE, live, to a channel; it is made where the server allows that.

    SOURCE: a file, an RTSP, RTMP or HTTP address, - for MPEG-TS on the standard input, or testsrc.
    H.264 goes out without being encoded again, cut at its key frames.
    """
    import trio

    from trickle_core.publisher import PublisherSettings
    from trickle_core.retry import RetryPolicy
    from trickle_trio.cli.progress import show_progress
    from trickle_trio.media.sources import source_named
    from trickle_trio.publication import open_publication
    from trickle_trio.stream.feed import feed, open_source

    settings = PublisherSettings(
        create=True, delete=delete, retry=RetryPolicy(give_up_after=PATIENCE)
    )
    latest: FeedProgress | None = None

    def note(progress: FeedProgress) -> None:
        nonlocal latest
        latest = progress

    async def program() -> None:
        made = source_named(source, loop=loop, transcode=transcode, gop_seconds=segment_seconds)
        async with (
            open_source(made) as opened,
            open_publication(url, token=token, settings=settings) as publication,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(show_progress, lambda: _describe(latest))
            await feed(
                opened,
                publication,
                realtime=realtime,
                segment_seconds=segment_seconds,
                progress=note,
            )
            nursery.cancel_scope.cancel()

    run(program)


def _describe(progress: FeedProgress | None) -> str:
    if progress is None:
        return "nothing sent yet"
    return (
        f"{progress.seconds:.1f} s, {progress.pictures} pictures, {progress.sounds} sounds, "
        f"{progress.segments} segments, {progress.lost} lost, {progress.dropped} dropped, "
        f"{1000 * progress.late:.0f} ms late"
    )
