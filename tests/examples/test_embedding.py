"""The programs that drive the core without Trio, each in a process of its own, against the real relay."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import trio
from attrs import define, field

from trickle_core.relay_settings import Refusal, RelayRequest, RelaySettings
from trickle_core.subscriber import SubscriberSettings
from trickle_trio import open_publication, open_subscription, serve_relay

EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAMS = [EXAMPLES / "embed_blocking.py", EXAMPLES / "embed_asyncio.py"]

THERE_AND_BACK = [
    "segment 0, 0 skipped: the first segment ",
    "segment 1, 0 skipped: one of many pieces ",
    "segment 2, 0 skipped: the last one ",
]
LEFT = "writing is over: Ending.LEFT, {} segments lost"

# Which of them it is, is a race of the reader's next GET against the writer's DELETE.
NORMAL_ENDS = {"reading is over: Ending.CLOSED", "reading is over: Ending.GONE"}


@define
class Running:
    """A program at work."""

    process: trio.Process
    _unread: bytes = b""

    async def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        while b"\n" not in self._unread:
            some = await self.process.stdout.receive_some()
            assert some, f"it printed no line but {self._unread!r}"
            self._unread += some
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    async def say(self, line: str) -> None:
        """Give it a line of input."""
        assert self.process.stdin is not None
        await self.process.stdin.send_all(line.encode() + b"\n")

    async def end_input(self) -> None:
        assert self.process.stdin is not None
        await self.process.stdin.aclose()

    async def ends(self) -> None:
        """It ends well, without a word of complaint."""
        assert self.process.stderr is not None
        complaints = b"".join([piece async for piece in self.process.stderr])
        assert (await self.process.wait(), complaints) == (0, b"")


Start = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture(params=PROGRAMS, ids=lambda path: path.stem)
def start(request: pytest.FixtureRequest) -> Start:
    """``async with start(url, "subscribe") as program``."""

    @asynccontextmanager
    async def run(*arguments: str) -> AsyncIterator[Running]:
        pipe = subprocess.PIPE
        command = [sys.executable, "-u", "-W", "error", str(request.param), *arguments]
        process = await trio.lowlevel.open_process(command, stdin=pipe, stdout=pipe, stderr=pipe)
        streams = (process.stdin, process.stdout, process.stderr)
        try:
            with trio.fail_after(60):
                yield Running(process)
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
                for stream in streams:
                    assert stream is not None
                    await stream.aclose()

    return run


@pytest.fixture
def relay_with(nursery: trio.Nursery) -> Callable[..., Awaitable[str]]:
    """``await relay_with(linger=5)``: the address of a relay with these settings."""

    async def serve(**options: object) -> str:
        settings = RelaySettings(**options)  # type: ignore[arg-type]  # any of them
        bound = await nursery.start(partial(serve_relay, port=0, settings=settings))
        return str(bound.url)

    return serve


async def post(url: str, *segments: str) -> None:
    """Write whole segments, each once the one before was confirmed."""
    async with httpx.AsyncClient() as client:
        for seq, text in enumerate(segments):
            (await client.post(f"{url}/{seq}", content=text.encode())).raise_for_status()


async def create(url: str) -> None:
    async with httpx.AsyncClient() as client:
        (await client.post(url)).raise_for_status()


async def delete(url: str) -> None:
    async with httpx.AsyncClient() as client:
        (await client.delete(url)).raise_for_status()


@define
class Scissors:
    """A way to the relay on which a connection is cut, once, right behind the marker."""

    relay: str
    marker: bytes
    cut: trio.Event = field(factory=trio.Event)
    passed: trio.Event = field(factory=trio.Event)
    """The marker came again, and passed."""

    async def open(self, nursery: trio.Nursery) -> str:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, self._join, listeners)
        return f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"

    async def _join(self, client: trio.SocketStream) -> None:
        port = urlsplit(self.relay).port or 0
        server = await trio.open_tcp_stream("127.0.0.1", port)
        async with client, server, trio.open_nursery() as both:
            both.start_soon(self._carry, client, server, both)
            both.start_soon(self._carry, server, client, both)

    async def _carry(
        self, source: trio.SocketStream, sink: trio.SocketStream, both: trio.Nursery
    ) -> None:
        try:
            while data := await source.receive_some():
                before, marker, _ = data.partition(self.marker)
                if marker and not self.cut.is_set():
                    await sink.send_all(before + marker)
                    self.cut.set()
                    break
                await sink.send_all(data)
                if marker:
                    self.passed.set()
        except trio.BrokenResourceError:
            pass
        both.cancel_scope.cancel()


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_nothing_of_ours_but_the_core_is_imported(program: Path) -> None:
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(program.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
    }
    assert "trickle_core" in imported
    assert not imported & {"trickle_trio", "trio", "httpx"}


async def test_there_and_back(start: Start, relay: str) -> None:
    async with start(f"{relay}/words") as program:
        assert [await program.line() for _ in THERE_AND_BACK] == THERE_AND_BACK
        ends = {await program.line(), await program.line()}
        assert LEFT.format(0) in ends
        assert ends & NORMAL_ENDS
        await program.ends()


async def test_a_reader_is_told_of_no_channel(start: Start, relay: str) -> None:
    async with start(f"{relay}/words", "subscribe") as program:
        assert await program.line() == "reading is over: Ending.GONE"
        await program.ends()


async def test_a_writer_is_told_of_no_channel(
    start: Start, relay_with: Callable[..., Awaitable[str]]
) -> None:
    relay = await relay_with(autocreate=False)
    async with start(f"{relay}/words", "publish") as program:
        await program.say("anybody there")
        assert await program.line() == "writing is over: Ending.GONE, 0 segments lost"
        await program.ends()


async def test_who_has_no_token_is_refused(
    start: Start, relay_with: Callable[..., Awaitable[str]]
) -> None:
    relay = await relay_with(token="mine")  # noqa: S106  of this test alone
    async with start(f"{relay}/words", "subscribe") as program:
        assert await program.line() == "reading is over: Ending.REFUSED"
        await program.ends()


async def test_a_reader_behind_the_window_jumps_and_says_so(
    start: Start, relay_with: Callable[..., Awaitable[str]]
) -> None:
    relay = await relay_with(linger=20.0)
    await post(f"{relay}/words", *(f"word {seq}" for seq in range(8)))
    async with start(f"{relay}/words", "subscribe") as program:
        assert await program.line() == "segment 7, 7 skipped: word 7"
        await delete(f"{relay}/words")
        assert await program.line() == "reading is over: Ending.CLOSED"
        await program.ends()


async def test_a_writer_whose_channel_is_deleted_stops(
    start: Start, relay_with: Callable[..., Awaitable[str]]
) -> None:
    made: list[str] = []

    def only_once(_: RelayRequest, name: str) -> Refusal | None:
        refusal = Refusal(404) if made else None
        made.append(name)
        return refusal

    relay = await relay_with(before_create=only_once)
    async with start(f"{relay}/words", "publish") as program:
        await program.say("the only one")
        settings = SubscriberSettings(start=0, wait_for_channel=20.0)
        async with open_subscription(f"{relay}/words", settings=settings) as subscription:
            async for segment in subscription:
                assert await segment.read() == b"the only one "
                break
        await delete(f"{relay}/words")
        await program.say("one too many")
        await program.end_input()
        # Gone: its POST for this segment was opened after the deletion.
        ends = {f"writing is over: Ending.{why}, 0 segments lost" for why in ("CLOSED", "GONE")}
        # Or it left before it heard, and says that the segment was never confirmed.
        left = "writing is over: Ending.LEFT, 1 segments lost"
        assert await program.line() in {left, *ends, *(end.replace("0", "1") for end in ends)}
        await program.ends()


async def test_a_segment_that_breaks_off_is_not_taken_for_whole(
    start: Start, relay: str, nursery: trio.Nursery
) -> None:
    scissors = Scissors(relay, marker=b"half a ")
    by_scissors = await scissors.open(nursery)
    await create(f"{relay}/words")
    async with (
        start(f"{by_scissors}/words", "subscribe") as program,
        open_publication(f"{relay}/words") as publication,
    ):
        async with publication.segment() as segment:
            await segment.send(b"half a ")
            assert await program.line() == "segment 0, 0 skipped: half a (broken off)"
            await segment.send(b"sentence")
        async with publication.segment() as segment:
            await segment.send(b"a whole one")
        assert await program.line() == "segment 1, 0 skipped: a whole one"


async def test_a_segment_that_broke_is_closed_and_the_next_one_carries_on(
    start: Start, relay: str, nursery: trio.Nursery
) -> None:
    scissors = Scissors(relay, marker=b"break")
    by_scissors = await scissors.open(nursery)
    settings = SubscriberSettings(start=0, wait_for_channel=20.0)
    async with (
        start(f"{by_scissors}/words", "publish") as program,
        open_subscription(f"{relay}/words", settings=settings) as subscription,
    ):
        segments = aiter(subscription)
        await program.say("the first")
        assert await (await anext(segments)).read() == b"the first "
        await program.say("this will break off")
        broken = await (await anext(segments)).read()
        assert broken == b"this will break"
        await program.say("the last")
        last = await anext(segments)
        assert (last.seq, await last.read()) == (2, b"the last ")
        await program.end_input()
        assert await program.line() == LEFT.format(1)
        await program.ends()


@pytest.mark.parametrize("marker", [b"POST /words HTTP", b"GET /words/next "])
async def test_a_question_that_breaks_is_asked_again(
    start: Start, relay: str, nursery: trio.Nursery, marker: bytes
) -> None:
    scissors = Scissors(relay, marker)
    async with start(f"{await scissors.open(nursery)}/words") as program:
        assert [await program.line() for _ in THERE_AND_BACK] == THERE_AND_BACK
        assert scissors.cut.is_set()
        assert LEFT.format(0) in {await program.line(), await program.line()}
        await program.ends()


async def test_a_post_that_breaks_before_its_body_costs_nothing(
    start: Start, relay: str, nursery: trio.Nursery
) -> None:
    scissors = Scissors(relay, marker=b"POST /words/1 ")
    settings = SubscriberSettings(start=0, wait_for_channel=20.0)
    async with (
        start(f"{await scissors.open(nursery)}/words", "publish") as program,
        open_subscription(f"{relay}/words", settings=settings) as subscription,
    ):
        segments = aiter(subscription)
        await program.say("the first")
        assert await (await anext(segments)).read() == b"the first "
        await scissors.passed.wait()
        await program.say("the second")
        second = await anext(segments)
        assert (second.seq, await second.read()) == (1, b"the second ")
        await program.end_input()
        assert await program.line() == LEFT.format(0)
        await program.ends()
