"""A thousand requests, cancelled at random moments: what do they leave behind?"""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from functools import partial
from typing import Final

import httpx
import trio

from tests.benchmarks.report import Demand, Figure
from trickle_core.publisher import PublisherSettings
from trickle_trio.publication import open_publication
from trickle_trio.relay import BoundRelay, serve_relay
from trickle_trio.subscription import open_subscription
from trickle_trio.transport import TrickleTransport

NOTHING: Final = Demand("==", 0)
LONGEST: Final = 0.004
"""Seconds until a request is cancelled, at most: most are amid a segment by then."""


def run(*, count: int = 1000, seed: int = 1) -> list[Figure]:
    """All of it, relay and clients in one process, so that both sides' leavings are counted."""
    left = trio.run(cancel_many, count, seed)
    return [
        Figure("left", f"{name} after {count} cancelled requests", value, "left", NOTHING)
        for name, value in left.items()
    ]


async def cancel_many(count: int, seed: int) -> dict[str, int]:
    """What is there afterwards and was not there before."""
    dice = random.Random(seed)
    async with trio.open_nursery() as nursery:
        relay = await nursery.start(partial(serve_relay, port=0))
        before = counted()
        for _ in range(count):
            work = dice.choice([publish, subscribe, ask])
            with trio.move_on_after(dice.uniform(0, LONGEST)):
                await work(f"{relay.url}/{dice.randrange(3)}")
        await delete_all(relay)
        left = await settled(before, relay)
        nursery.cancel_scope.cancel()
    return left


async def settled(before: dict[str, int], relay: BoundRelay) -> dict[str, int]:
    """Give what has been told to go the time to do so."""
    left: dict[str, int] = {}
    with trio.move_on_after(2):
        while not left or any(left.values()):
            await trio.sleep(0.01)
            held = relay.statistics()
            now = counted()
            left = {name: now[name] - value for name, value in before.items()}
            left |= {"the relay's requests": held.readers + held.writers}
            left |= {"the relay's bytes": held.size}
    return left


def counted() -> dict[str, int]:
    """Open sockets (and files), and tasks."""
    tasks = trio.lowlevel.current_statistics().tasks_living
    return {"sockets": len(os.listdir("/proc/self/fd")), "tasks": tasks}  # noqa: PTH208  quick


async def publish(url: str) -> None:
    """Write for ever."""
    async with open_publication(url, settings=PublisherSettings(create=True)) as publication:
        while True:
            async with publication.segment() as segment:
                for _ in range(4):
                    await segment.send(bytes(20_000))


async def subscribe(url: str) -> None:
    """Read for ever."""
    async with open_subscription(url) as subscription:
        async for segment in subscription:
            await segment.read()


async def ask(url: str) -> None:
    """Requests of httpx's, over the transport."""
    async with httpx.AsyncClient(transport=TrickleTransport(), trust_env=False) as client:
        while True:
            await client.get(f"{url}/-1")
            await client.post(f"{url}/-1", content=pieces())


async def pieces() -> AsyncIterator[bytes]:
    """A body that takes its time."""
    while True:
        yield bytes(1000)
        await trio.lowlevel.checkpoint()


async def delete_all(relay: BoundRelay) -> None:
    """Their channels go."""
    async with httpx.AsyncClient(transport=TrickleTransport(), trust_env=False) as client:
        for number in range(3):
            await client.delete(f"{relay.url}/{number}")
