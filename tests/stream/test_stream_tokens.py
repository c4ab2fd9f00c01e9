"""Relays that ask for a token: streams show it to them, in every channel, and to nobody else."""

from __future__ import annotations

from functools import partial
from typing import Any

import httpx
import pytest
import trio

from trickle_core.publisher import PublisherSettings
from trickle_core.relay_settings import RelaySettings
from trickle_trio.driver import ChannelEnded
from trickle_trio.media.frames import VideoFrame
from trickle_trio.processor import StreamProcessor, as_processor
from trickle_trio.publication import open_publication
from trickle_trio.relay import serve_relay
from trickle_trio.stream.ending import End
from trickle_trio.stream.pipeline import Stream
from trickle_trio.stream.relay_tokens import RelayTokens
from trickle_trio.stream.settings import URLS, Pace, StreamPolicy, StreamSettings
from trickle_trio.subscription import open_subscription
from trickle_trio.transport import TrickleTransport

TOKEN = "ours"  # noqa: S105  of relays in these tests
BAD = "a b"
KEPT = PublisherSettings(create=True)


@pytest.fixture
async def guarded(nursery: trio.Nursery) -> str:
    """A relay that asks for the token, and keeps what deleted channels held."""
    settings = RelaySettings(window=20, linger=10, token=TOKEN)
    bound = await nursery.start(partial(serve_relay, port=0, settings=settings))
    return str(bound.url)


def settings_of(relay: str, tokens: RelayTokens) -> StreamSettings:
    urls: dict[str, Any] = {name: f"{relay}/{name}" for name in URLS}
    return StreamSettings(
        request_id="test",
        max_framerate=60,
        policy=StreamPolicy(pace=Pace.EVERY_FRAME, segment_seconds=0.5),
        relay_tokens=tokens,
        **urls,
    )


async def say(url: str, *segments: bytes) -> None:
    async with open_publication(url, token=TOKEN, settings=KEPT) as publication:
        for data in segments:
            async with publication.segment() as segment:
                await segment.send(data)


async def test_every_channel_of_a_stream_shows_it(kit: Any, guarded: str) -> None:
    changed = trio.Event()

    async def talk(frame: VideoFrame) -> VideoFrame:
        await processor.send_data("seen")
        await changed.wait()
        return frame

    async def change(params: dict[str, Any]) -> None:
        changed.set()

    processor = StreamProcessor(video_processor=talk, param_updater=change)
    settings = settings_of(guarded, RelayTokens.of({guarded: TOKEN}))
    stream = Stream(settings, as_processor(processor))
    shown = {"authorization": f"Bearer {TOKEN}"}
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery, httpx.AsyncClient(headers=shown) as client:
            await say(settings.urls()["subscribe_url"], *kit.segments(kit.pictures(30))[:1])
            await nursery.start(stream.run)
            await say(settings.urls()["control_url"], b'{"strength": 1}')
            while stream.statistics().frames_out < 10:
                await trio.lowlevel.checkpoint()
            (await client.delete(settings.urls()["subscribe_url"])).raise_for_status()
    assert stream.outcome is not None
    assert stream.outcome.end is End.INPUT_ENDED
    assert stream.statistics().errors == {}
    for name in ("publish_url", "events_url", "data_url"):
        async with open_subscription(settings.urls()[name], token=TOKEN, start=0) as subscription:
            segment = await anext(subscription)
            assert await segment.read()


@pytest.mark.parametrize("tokens", [{}, {"http://127.0.0.1:1": TOKEN}], ids=["none", "another's"])
async def test_without_it_the_stream_ends_with_that_reason(
    guarded: str, tokens: dict[str, str]
) -> None:
    async def passthrough(frame: VideoFrame) -> VideoFrame:
        return frame

    settings = StreamSettings(
        request_id="test", subscribe_url=f"{guarded}/in", relay_tokens=RelayTokens.of(tokens)
    )
    with trio.fail_after(20):
        outcome = await Stream(settings, as_processor(passthrough)).run()
    assert outcome.end is End.INPUT_UNAVAILABLE
    assert "401" in outcome.detail
    assert TOKEN not in outcome.detail


@pytest.mark.parametrize("through_client", [False, True], ids=["bare", "client"])
async def test_both_ends_of_a_channel_take_a_token(guarded: str, through_client: bool) -> None:
    async with httpx.AsyncClient(transport=TrickleTransport()) as own:
        client = own if through_client else None
        url = f"{guarded}/talk"
        with trio.fail_after(20):
            async with open_publication(url, token=TOKEN, client=client) as publication:
                async with publication.segment() as segment:
                    await segment.send(b"hello")
                async with open_subscription(url, token=TOKEN, client=client) as subscription:
                    assert await (await anext(subscription)).read() == b"hello"
                async with open_subscription(url, client=client) as stranger:
                    with pytest.raises(ChannelEnded, match="401"):
                        await anext(stranger)


async def test_a_token_that_no_header_can_carry_is_told_at_once(guarded: str) -> None:
    with pytest.raises(ValueError, match="token: expected printable ASCII"):
        async with open_subscription(f"{guarded}/a", token=BAD):
            pytest.fail("it was opened")
    with pytest.raises(ValueError, match="token: expected printable ASCII"):
        async with open_publication(f"{guarded}/a", token=f"a\n{BAD}"):
            pytest.fail("it was opened")


def test_a_token_is_for_one_server() -> None:
    tokens = RelayTokens.of({"http://Relay:3389/": "a", "https://relay": "b"})
    assert tokens.shown_to("http://relay:3389/in") == "a"
    assert tokens.shown_to("https://relay:443/x/in") == "b"
    for stranger in ("http://relay/in", "https://relay:3389/in", "http://relay.example:3389/in"):
        assert tokens.shown_to(stranger) is None
    assert "a" not in repr(RelayTokens.of({"http://r": "a"})).replace("RelayTokens", "")


@pytest.mark.parametrize(
    "address", ["relay:3389", "ftp://relay", "http://", "http://relay/path", "http://a:b@relay", ""]
)
def test_what_is_no_server_is_told(address: str) -> None:
    with pytest.raises(ValueError, match="is no relay: http://host:port is expected"):
        RelayTokens.of({address: TOKEN})
    with pytest.raises(ValueError, match="token: expected printable ASCII"):
        RelayTokens.of({"http://relay": "a b"})
