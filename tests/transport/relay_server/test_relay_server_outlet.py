"""What a socket takes, and when, decides in what order an outlet's two senders meet: the reader's
own task, and the publisher's. Here the link takes what the test says.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import h11
import pytest
import trio
import trio.testing
from attrs import define, field

from trickle_core.relay import Relay
from trickle_core.relay_settings import RelayRequest
from trickle_core.window.reader import Reader
from trickle_core.window.segment import Buffer
from trickle_core.window.states import ACCEPTED
from trickle_core.window.writer import Writer
from trickle_trio.relay.links import Gone
from trickle_trio.relay.outlet import Outlet
from trickle_trio.relay.phrasing import Phrasing


@define
class NarrowLink:
    """Takes ``room`` bytes at once, and the rest when it is made wider."""

    room: int = 0
    broken: bool = False
    sent: bytearray = field(factory=bytearray)
    _wider: trio.Event = field(factory=trio.Event)

    def widen(self, room: int) -> None:
        self.room += room
        self._wider.set()
        self._wider = trio.Event()

    def send_now(self, buffers: Sequence[Buffer]) -> Sequence[Buffer]:
        if self.broken:
            raise Gone
        data = b"".join(buffers)
        taken, left = data[: self.room], data[self.room :]
        self.sent += taken
        self.room -= len(taken)
        return [left] if left else []

    async def send(self, buffers: Sequence[Buffer]) -> None:
        while buffers := self.send_now(buffers):
            await self._wider.wait()

    async def receive(self) -> bytes:
        raise NotImplementedError

    async def send_end(self) -> None:
        raise NotImplementedError

    async def part(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


@define
class Scene:
    """One reader's outlet, and the publisher that it is fed by."""

    writer: Writer
    reader: Reader
    outlet: Outlet
    link: NarrowLink
    notes: list[Callable[[], None]]
    client_says: trio.MemorySendChannel[None]
    watched: trio.MemoryReceiveChannel[None]

    async def run(self) -> None:
        await self.outlet.send_all(self.watched.receive)

    def write(self, data: bytes) -> None:
        """As a publisher's task does: one piece, then the pushes that it was noted for."""
        assert self.writer.write(data, trio.current_time()) is ACCEPTED
        self.settle()

    def settle(self) -> None:
        notes, self.notes[:] = list(self.notes), []
        for push in notes:
            push()

    def end(self) -> None:
        self.writer.end(trio.current_time())
        self.settle()

    def body(self) -> bytes:
        """What the client makes of what was sent."""
        client, body = h11.Connection(h11.CLIENT), b""
        client.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
        client.send(h11.EndOfMessage())
        client.receive_data(bytes(self.link.sent))
        while isinstance(event := client.next_event(), (h11.Response, h11.Data)):
            body += event.data if isinstance(event, h11.Data) else b""
        return body


@define
class Notes:
    pushes: list[Callable[[], None]]

    def note(self, push: Callable[[], None]) -> None:
        self.pushes.append(push)


@asynccontextmanager
async def playing(room: int) -> AsyncIterator[Scene]:
    """A scene in which the outlet's own task has begun to wait."""
    http = h11.Connection(h11.SERVER)
    http.receive_data(b"GET /a/0 HTTP/1.1\r\nHost: x\r\n\r\n")
    while http.next_event() is not h11.NEED_DATA and http.their_state is not h11.DONE:
        pass
    relay, link, notes = Relay(), NarrowLink(room), Notes([])
    writer = relay.handle(RelayRequest("POST", "/a/0", {}), 0.0)
    reader = relay.handle(RelayRequest("GET", "/a/0", {}), 0.0)
    assert isinstance(writer, Writer)
    assert isinstance(reader, Reader)
    outlet = Outlet(reader, link, Phrasing(http, lambda: False), notes)
    says, watched = trio.open_memory_channel[None](5)
    scene = Scene(writer, reader, outlet, link, notes.pushes, says, watched)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scene.run)
            await trio.testing.wait_all_tasks_blocked()
            yield scene
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()


async def test_the_publishers_task_sends_for_a_waiting_reader() -> None:
    async with playing(room=10_000) as scene:
        scene.write(b"one")
        assert scene.body() == b"one", "without the reader's task having run"
        scene.write(b"two")
        assert scene.body() == b"onetwo"
        scene.end()
        assert scene.link.sent.endswith(b"0\r\n\r\n")


async def test_what_the_socket_does_not_take_is_sent_by_the_readers_task() -> None:
    async with playing(room=250) as scene:
        scene.write(bytes(1000))
        await trio.testing.wait_all_tasks_blocked()
        scene.write(b"more")
        scene.link.widen(10_000)
        await trio.testing.wait_all_tasks_blocked()
        assert scene.body() == bytes(1000) + b"more"


async def test_more_that_comes_before_the_readers_task_has_run_is_not_forgotten() -> None:
    """It was: told of both at once, the task sent the rest of the first, and waited."""
    async with playing(room=250) as scene:
        scene.write(bytes(1000))
        scene.write(b"more")
        scene.link.widen(10_000)
        await trio.testing.wait_all_tasks_blocked()
        assert scene.body() == bytes(1000) + b"more"


async def test_the_end_that_comes_before_the_readers_task_has_run_is_not_forgotten() -> None:
    async with playing(room=250) as scene:
        scene.write(bytes(1000))
        scene.end()
        scene.link.widen(10_000)
        await trio.testing.wait_all_tasks_blocked()
        assert scene.link.sent.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("size", [100_000, 300_000, 1_000_000])
async def test_more_than_one_batch_is_sent_whole(size: int) -> None:
    async with playing(room=10 * size) as scene:
        scene.write(bytes(size))
        scene.end()
        await trio.testing.wait_all_tasks_blocked()
        assert scene.body() == bytes(size)
        assert scene.link.sent.endswith(b"0\r\n\r\n")


async def test_a_client_that_says_something_does_not_end_the_wait() -> None:
    async with playing(room=10_000) as scene:
        scene.client_says.send_nowait(None)
        await trio.testing.wait_all_tasks_blocked()
        scene.write(b"one")
        scene.client_says.send_nowait(None)
        scene.write(b"two")
        await trio.testing.wait_all_tasks_blocked()
        assert scene.body() == b"onetwo"


async def test_a_push_noted_before_the_readers_task_woke_is_harmless() -> None:
    async with playing(room=10_000) as scene:
        assert scene.writer.write(b"one", trio.current_time()) is ACCEPTED
        scene.client_says.send_nowait(None)
        await trio.testing.wait_all_tasks_blocked()
        scene.settle()
        assert scene.body() == b"one"


async def test_a_client_that_a_push_finds_gone_ends_the_readers_task_alone() -> None:
    with pytest.RaisesGroup(Gone):
        async with playing(room=10_000) as scene:
            scene.link.broken = True
            scene.write(b"one")


async def test_a_reader_that_is_cut_is_broken_off() -> None:
    with pytest.RaisesGroup(Gone):
        async with playing(room=10_000) as scene:
            scene.write(b"one")
            scene.reader.cut()
            scene.settle()
