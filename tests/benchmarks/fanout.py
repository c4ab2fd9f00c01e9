"""The relay under load, as a process of its own: many readers, one fast reader, many channels.

CPU and memory are the relay's alone, read from ``/proc``.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import trio

from tests.benchmarks import chunks
from tests.benchmarks.processes import Process, RelayProcess, running, running_relay
from tests.benchmarks.report import Demand, Figure, percentile
from trickle_core.publisher import PublisherSettings
from trickle_trio.publication import open_publication

RATE: Final = 4_000_000 / 8
"""Bytes a second."""
SEGMENT: Final = 30
"""Chunks a segment: two seconds."""
MB: Final = 1_000_000
TIMES: Final = 3
"""The fast reader reads so often; its median counts."""

LOSSLESS: Final = Demand("==", 0)
PROMPT: Final = Demand("<", 25)
CHEAP: Final = Demand("<", 10)


def run(
    *,
    readers: tuple[int, ...] = (1, 10, 50, 100),
    seconds: float = 10.0,
    megabytes: int = 256,
    channels: int = 1000,
) -> list[Figure]:
    """All of it. ``seconds`` for each number of readers."""
    figures = [figure for count in readers for figure in to_many(count, seconds)]
    return [*figures, *at_full_speed(megabytes), *idle(channels)]


# Many readers


def to_many(count: int, seconds: float) -> list[Figure]:
    """One publisher at 4 Mbit/s in chunks of 32 KB, so many readers."""
    segments = max(1, round(seconds * RATE / chunks.SIZE / SEGMENT))
    with running_relay() as relay, reading(relay, count, segments) as readers:
        assert readers.line() == "ready"
        cpu, began = relay.cpu(), time.perf_counter()
        trio.run(publish, f"{relay.url}/a", segments)
        share = (relay.cpu() - cpu) / (time.perf_counter() - began)
        seen = json.loads(readers.line())
    return described(f"{count} reader{'s' if count > 1 else ''}", count, segments, share, seen)


def described(
    name: str, count: int, segments: int, share: float, seen: dict[str, Any]
) -> list[Figure]:
    """What came of it."""
    lost = count * segments * SEGMENT - len(seen["latencies"])
    late = [1000 * each for each in seen["latencies"]] or [float("inf")]
    return [
        Figure("relay", f"{name}, bytes lost or wrong", lost * chunks.SIZE, "bytes", LOSSLESS),
        Figure("relay", f"{name}, server CPU", 100 * share, "% of a core", CHEAP),
        Figure("relay", f"{name}, added latency, median", median(late), "ms"),
        Figure("relay", f"{name}, added latency, 99 of 100", percentile(late, 0.99), "ms", PROMPT),
    ]


@contextmanager
def reading(relay: RelayProcess, count: int, segments: int) -> Iterator[Process]:
    """The readers' process, on a channel that is there."""
    httpx.post(f"{relay.url}/a", trust_env=False).raise_for_status()
    where = urlsplit(relay.url)
    arguments = (str(where.hostname), str(where.port), "/a", str(count), str(segments))
    with running("tests.benchmarks.readers", *arguments) as process:
        yield process


async def publish(url: str, segments: int) -> None:
    """At its own pace, whatever readers do."""
    settings = PublisherSettings(first=0)
    async with open_publication(url, settings=settings) as publication:
        due = trio.current_time()
        for seq in range(segments):
            async with publication.segment() as segment:
                for number in range(seq * SEGMENT, (seq + 1) * SEGMENT):
                    await trio.sleep_until(due)
                    await segment.send(chunks.made(number))
                    due += chunks.SIZE / RATE
        assert await publication.settled() == 0


# One that is fast


def at_full_speed(megabytes: int) -> list[Figure]:
    """One reader takes one large segment that is there, as fast as the relay gives it."""
    count = megabytes * MB // chunks.SIZE
    with running_relay() as relay:
        trio.run(fill, f"{relay.url}/a", count)
        where = urlsplit(relay.url)
        arguments = (str(where.hostname), str(where.port), "/a/0")
        seen = [read_once(*arguments) for _ in range(TIMES)]
    size = count * chunks.SIZE
    lost = sum(size - each["right"] for each in seen)
    speed = size / MB / median(each["seconds"] for each in seen)
    return [
        Figure("relay", "one reader at full speed, bytes lost or wrong", lost, "bytes", LOSSLESS),
        Figure("relay", "one reader at full speed", speed, "MB a second", Demand(">=", 300)),
    ]


def read_once(*arguments: str) -> dict[str, Any]:
    """What one reader says that it saw."""
    with running("tests.benchmarks.full_speed", *arguments) as reader:
        seen: dict[str, Any] = json.loads(reader.line())
    return seen


async def fill(url: str, count: int) -> None:
    """One segment of so many chunks."""
    async with (
        open_publication(url, settings=PublisherSettings(first=0, create=True)) as publication,
        publication.segment() as segment,
    ):
        for number in range(count):
            await segment.send(chunks.made(number))


# Many that are idle


def idle(channels: int) -> list[Figure]:
    """So many channels in which nothing happens: made, and with a GET and a POST waiting in each."""
    with running_relay() as relay:
        empty = relay.memory()
        with httpx.Client(base_url=relay.url, trust_env=False) as client:
            for number in range(channels):
                client.post(f"/c{number}").raise_for_status()
        made = relay.memory()
        waiting = [
            opened(relay, f"{method} /c{number}/0")
            for number in range(channels)
            for method in ("GET", "POST")
        ]
        httpx.get(f"{relay.url}/c0/next", trust_env=False).raise_for_status()
        preconnected = relay.memory()
        for sock in waiting:
            sock.close()
    return [
        Figure("relay", "with no channel, memory", empty / MB, "MB"),
        Figure(
            "relay", f"{channels} idle channels, more", (made - empty) / MB, "MB", Demand("<", 50)
        ),
        Figure(
            "relay",
            f"{channels} with a GET and a POST waiting in each, more",
            (preconnected - empty) / MB,
            "MB",
            Demand("<", 50),
        ),
    ]


def opened(relay: RelayProcess, line: str) -> socket.socket:
    """A request that waits. The head of a POST's body never comes."""
    where = urlsplit(relay.url)
    sock = socket.create_connection((where.hostname, where.port))
    body = "Transfer-Encoding: chunked\r\n" if line.startswith("POST") else ""
    sock.sendall(f"{line} HTTP/1.1\r\nHost: x\r\n{body}\r\n".encode())
    return sock
