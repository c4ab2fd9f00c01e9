"""Small segments, one after another, the next request always open: ours beside aiohttp's client.

Both speak to the same relay, which is a process of its own, and take turns. ``ours`` is what users
call (``open_publication``, ``open_subscription``); aiohttp's side is what a careful program would
do with it: a session, a task a POST with a generator for its body, a GET ahead.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import aiohttp
import trio

from tests.benchmarks.processes import running_relay
from tests.benchmarks.report import Figure, Pair, compared
from trickle_core import wire
from trickle_core.publisher import PublisherSettings
from trickle_trio.publication import open_publication
from trickle_trio.subscription import open_subscription

DATA: Final = bytes(200)
OURS: Final = PublisherSettings(first=0, create=True, delete=True)
UNCONFIRMED: Final = wire.WINDOW - 1
"""Segments of which no answer has come yet when the next one begins: as many as ours allows."""


def run(*, count: int = 400, rounds: int = 9) -> list[Figure]:
    """All of it. ``count``: segments a turn."""
    writes = Turns("writes", count, write_ours, write_theirs)
    reads = Turns("reads", count, read_ours, read_theirs, filled=True)
    in_step = Turns("written and read in step", count, step_ours, step_theirs)
    return [figure for turns in (writes, reads, in_step) for figure in turns.run(rounds)]


Work = Callable[[str, int], Awaitable[None]]


class Turns:
    """One kind of work, done by both in turn."""

    def __init__(
        self, name: str, count: int, ours: Work, theirs: Work, *, filled: bool = False
    ) -> None:
        self.name = name
        self.count = count
        self.ours = ours
        self.theirs = theirs
        self.filled = filled

    def run(self, rounds: int) -> list[Figure]:
        """A round to warm up, then those that count."""
        with running_relay("--window", str(self.count + 1)) as relay:
            if self.filled:
                asyncio.run(fill(f"{relay.url}/filled", self.count))
            pairs = [self._pair(relay.url, number) for number in range(rounds + 1)]
        return compared("small", f"{self.name} of 200 bytes", self.count, pairs[1:])

    def _pair(self, url: str, number: int) -> Pair:
        name = "filled" if self.filled else f"ours{number}"
        ours = timed(lambda: trio.run(self.ours, f"{url}/{name}", self.count))
        name = "filled" if self.filled else f"theirs{number}"
        theirs = timed(lambda: asyncio.run(awaited(self.theirs(f"{url}/{name}", self.count))))
        return Pair(ours, theirs)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the clock and of this process's CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


async def awaited(work: Awaitable[None]) -> None:
    """What ``asyncio.run`` takes."""
    await work


# Ours


async def write_ours(url: str, count: int) -> None:
    """Write so many segments; all have arrived at the end."""
    async with open_publication(url, settings=OURS) as publication:
        for _ in range(count):
            async with publication.segment() as segment:
                await segment.send(DATA)
        assert await publication.settled() == 0


async def read_ours(url: str, count: int) -> None:
    """Read so many segments that are there."""
    async with open_subscription(url, start=0) as subscription:
        for seq in range(count):
            segment = await anext(subscription)
            assert segment.seq == seq
            assert await segment.read() == DATA


async def step_ours(url: str, count: int) -> None:
    """Write a segment, read it, and so on."""
    async with (
        open_publication(url, settings=OURS) as publication,
        open_subscription(url, start=0) as subscription,
    ):
        for _ in range(count):
            async with publication.segment() as outgoing:
                await outgoing.send(DATA)
            incoming = await anext(subscription)
            assert await incoming.read() == DATA


# Theirs


class Post:
    """A POST that is open, and its body's way in."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.pieces: asyncio.Queue[bytes] = asyncio.Queue()
        self.answer = asyncio.create_task(self._send(session, url))

    async def _send(self, session: aiohttp.ClientSession, url: str) -> None:
        headers = {"content-type": wire.MPEG_TS}
        async with session.post(url, data=self._body(), headers=headers) as response:
            await response.read()
            assert response.status == 200

    async def _body(self) -> AsyncIterator[bytes]:
        yield b""  # sends the head, which aiohttp otherwise keeps back: else nothing is preconnected
        while piece := await self.pieces.get():
            yield piece

    def write(self, data: bytes) -> None:
        """The whole body."""
        self.pieces.put_nowait(data)
        self.pieces.put_nowait(b"")


class Posting:
    """Writes a channel, the next POST always open."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self._seq = 0
        self._open = Post(session, f"{url}/0")
        self._unconfirmed: deque[asyncio.Task[None]] = deque()

    async def write(self) -> None:
        """One segment."""
        post, self._seq = self._open, self._seq + 1
        self._open = Post(self._session, f"{self._url}/{self._seq}")
        post.write(DATA)
        self._unconfirmed.append(post.answer)
        if len(self._unconfirmed) > UNCONFIRMED:
            await self._unconfirmed.popleft()

    async def end(self) -> None:
        """All have arrived."""
        await asyncio.gather(*self._unconfirmed)
        self._open.answer.cancel()
        await asyncio.gather(self._open.answer, return_exceptions=True)

    async def delete(self) -> None:
        """And nobody wants them any more."""
        await self.end()
        async with self._session.delete(self._url) as response:
            assert response.status == 200


async def opened(session: aiohttp.ClientSession, url: str) -> Posting:
    """Make the channel, open the first POST."""
    headers = {wire.EXPECT_CONTENT: wire.MPEG_TS}
    async with session.post(url, headers=headers) as response:
        assert response.status == 200
    return Posting(session, url)


async def fill(url: str, count: int) -> None:
    """Write what is to be read."""
    async with patient_session() as session:
        posting = await opened(session, url)
        for _ in range(count):
            await posting.write()
        await posting.end()


async def write_theirs(url: str, count: int) -> None:
    """See ``write_ours``."""
    async with patient_session() as session:
        posting = await opened(session, url)
        for _ in range(count):
            await posting.write()
        await posting.delete()


async def read_theirs(url: str, count: int) -> None:
    """See ``read_ours``."""
    async with patient_session() as session:
        asked = asyncio.create_task(asked_for(session, url, 0))
        for seq in range(count):
            response = await asked
            assert response.headers["Lp-Trickle-Seq"] == str(seq)
            asked = asyncio.create_task(asked_for(session, url, seq + 1))
            assert await response.read() == DATA
            response.release()
        await given_up(asked)


async def step_theirs(url: str, count: int) -> None:
    """See ``step_ours``."""
    async with patient_session() as session:
        posting = await opened(session, url)
        asked = asyncio.create_task(asked_for(session, url, 0))
        for seq in range(count):
            await posting.write()
            response = await asked
            asked = asyncio.create_task(asked_for(session, url, seq + 1))
            assert await response.read() == DATA
            response.release()
        await given_up(asked)
        await posting.delete()


def patient_session() -> aiohttp.ClientSession:
    """A preconnected request waits for as long as it takes."""
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))


async def asked_for(session: aiohttp.ClientSession, url: str, seq: int) -> aiohttp.ClientResponse:
    """The head of the answer to a GET."""
    response = await session.get(f"{url}/{seq}")
    assert response.status == 200
    return response


async def given_up(asked: asyncio.Task[aiohttp.ClientResponse]) -> None:
    """Nobody wants it."""
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
