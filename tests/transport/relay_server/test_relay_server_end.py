"""How it ends: the relay's own end, clients that leave at any moment, and what is left behind."""

from __future__ import annotations

import gc
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from trickle_core.relay_settings import RelaySettings
from trickle_trio.relay import BoundRelay, ServerLimits, serve_relay

if TYPE_CHECKING:
    from tests.transport.relay_server.conftest import Client, Poll, Running, Serving


def open_files() -> int:
    gc.collect()
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_at_the_end_everybody_is_told(
    serving: Serving, patient_clock: trio.testing.MockClock
) -> None:
    async with serving(at_most=500, limits=ServerLimits(close_delay=0.2)) as running:
        publisher, waiting, inside, idle = [await running.client() for _ in range(4)]
        await idle.ask("POST", "/a")
        await publisher.begin("POST", "/a/0")
        await publisher.write(b"half")
        await inside.begin("GET", "/a/0")
        await inside.head()
        await waiting.begin("GET", "/a/1")
        await trio.testing.wait_all_tasks_blocked(0.01)
        with trio.CancelScope(shield=True):
            stopped = trio.current_time()
            running.stop()
            reply = await waiting.reply()
            assert (reply.status, reply.headers["lp-trickle-closed"]) == (200, "terminated")
            assert reply.headers["connection"] == "close"
            assert await inside.exactly(4) == b"half"
            assert await inside.some() == b""
            assert (await publisher.reply()).headers["lp-trickle-closed"] == "terminated"
            for client in (publisher, waiting, inside, idle):
                assert await client.rest() == b""
            assert trio.current_time() - stopped < 1, "nobody is left to wait for"


async def test_the_farewell_is_bounded(
    serving: Serving, patient_clock: trio.testing.MockClock
) -> None:
    started = trio.current_time()
    async with serving(at_most=1000) as running:
        publisher = await running.client()
        await publisher.ask("POST", "/a")
        stalled = await running.client(receive_buffer=4096)
        await stalled.begin("GET", "/a/0")
        await publisher.begin("POST", "/a/0")
        for _ in range(200):
            await publisher.write(bytes(50_000))
        running.streams.clear()
        running.stop()
    assert trio.current_time() - started < 3
    for client in (publisher, stalled):
        client.stream.socket.close()


async def test_a_port_in_use_is_an_oserror(serving: Serving) -> None:
    async with serving() as running:
        with pytest.raises(OSError, match="in use"):
            await serve_relay(port=running.bound.port)


async def test_a_failing_listener_is_raised_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_args: object, **_options: object) -> None:
        raise OSError("no more")

    monkeypatch.setattr(trio, "serve_listeners", fail)
    with pytest.raises(OSError, match="no more"):
        await serve_relay(port=0)
    gc.collect()


async def test_an_ipv6_address_is_bracketed() -> None:
    async with trio.open_nursery() as nursery:

        async def serve(task_status: trio.TaskStatus[BoundRelay]) -> None:
            await serve_relay(
                host="::1",
                port=0,
                settings=RelaySettings(base_path="x"),
                task_status=task_status,
            )

        try:
            bound = await nursery.start(serve)
        except OSError:
            pytest.skip("this machine has no IPv6")
        assert bound.url == f"http://[::1]:{bound.port}/x"
        nursery.cancel_scope.cancel()


async def busy_clients(running: Running, dice: random.Random) -> None:
    """Clients that publish and read, for ever, each request on a connection of its own."""

    async def one(number: int) -> None:
        path = f"/{number % 3}"
        await (await running.client()).ask("POST", path)
        while True:
            seq = (await (await running.client()).ask("GET", f"{path}/next")).body.decode()
            client: Client = await running.client()
            if dice.random() < 0.5:
                await client.begin("POST", f"{path}/{seq}")
                await client.write(bytes(1 + dice.randrange(200_000)))
                await client.end()
            else:
                await client.begin("GET", f"{path}/-2")
            await client.reply()

    async with trio.open_nursery() as nursery:
        for number in range(9):
            nursery.start_soon(one, number)


@pytest.mark.parametrize("seed", range(12))
async def test_cancelled_at_any_moment_nothing_is_left(serving: Serving, seed: int) -> None:
    dice = random.Random(seed)
    files, tasks = open_files(), trio.lowlevel.current_statistics().tasks_living
    limits = ServerLimits(farewell=dice.choice([0, 0.05]))
    async with serving(limits=limits) as running:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(busy_clients, running, dice)
                for _ in range(dice.randrange(1, 400)):
                    await trio.lowlevel.checkpoint()
                scope.cancel()
    assert trio.lowlevel.current_statistics().tasks_living == tasks
    assert open_files() == files


async def one_cancelled_request(running: Running, dice: random.Random) -> None:
    method = dice.choice(["GET", "POST"])
    client = await running.client()

    async def request() -> None:
        await client.begin(method, f"/a/{dice.choice([-2, -1, 0, 1, 2])}")
        for _ in range(10 if method == "POST" else 0):
            await client.write(bytes(10_000))
        await client.reply()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(request)
        for _ in range(dice.randrange(1, 60)):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    client.stream.socket.close()
    running.streams.clear()


async def test_requests_cancelled_at_any_moment_leave_nothing(
    serving: Serving, until: Poll
) -> None:
    dice = random.Random(1)
    async with serving(at_most=30) as running:
        keeper = await running.client()
        await keeper.ask("POST", "/a")
        running.streams.clear()
        files, tasks = open_files(), trio.lowlevel.current_statistics().tasks_living
        for _ in range(300):
            await one_cancelled_request(running, dice)
        statistics = trio.lowlevel.current_statistics
        await until(lambda: statistics().tasks_living == tasks)
        held = running.bound.statistics()
        assert (held.readers, held.writers) == (0, 0)
        assert open_files() == files
        await keeper.ask("DELETE", "/a")
        assert running.bound.statistics().size == 0
        keeper.stream.socket.close()


async def test_a_thousand_idle_channels_cost_next_to_nothing(serving: Serving) -> None:
    async with serving() as running:
        client = await running.client()
        for number in range(1000):
            assert (await client.ask("POST", f"/c{number}")).status == 200
        held = running.bound.statistics()
        assert (held.channels, held.segments, held.size) == (1000, 0, 0)
