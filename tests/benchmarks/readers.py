"""Readers of one channel, in a process of their own, as cheap as Python allows.

``python -m tests.benchmarks.readers HOST PORT PATH READERS SEGMENTS``: so many readers read so many
segments; prints ``ready``, and at the end one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import sys
from enum import Enum, auto

from tests.benchmarks import chunks


class State(Enum):
    """What is expected next."""

    HEAD = auto()
    SIZE = auto()
    BODY = auto()


class Reader(asyncio.Protocol):
    """Reads segment after segment over one connection."""

    def __init__(self, path: str, segments: int, done: asyncio.Future[None]) -> None:
        self.latencies: list[float] = []
        self.wrong = 0
        self._path = path
        self._segments = segments
        self._done = done
        self._seq = -1
        self._number = 0
        self._state = State.HEAD
        self._left = 0
        self._is_last = False
        self._buffer = bytearray()
        self._body = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the first segment."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def connection_lost(self, _error: Exception | None) -> None:
        """Whatever is missing now is lost."""
        self._finish()

    def _finish(self) -> None:
        if not self._done.done():
            self._done.set_result(None)

    def _ask(self) -> None:
        self._seq += 1
        if self._seq == self._segments or self._transport is None:
            self._finish()
            return
        self._transport.write(f"GET {self._path}/{self._seq} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        """Take an answer apart, as far as it goes."""
        self._buffer += data
        steps = {State.HEAD: self._head, State.SIZE: self._size, State.BODY: self._chunk}
        while steps[self._state]():
            pass

    def _head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        if not self._buffer.startswith(b"HTTP/1.1 200 "):
            self._finish()
            return False
        del self._buffer[: end + 4]
        self._state = State.SIZE
        return True

    def _size(self) -> bool:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            return False
        self._left = int(self._buffer[:end], 16)
        self._is_last = not self._left
        del self._buffer[: end + 2]
        self._state = State.BODY
        return True

    def _chunk(self) -> bool:
        taken = min(self._left, len(self._buffer))
        self._body += self._buffer[:taken]
        del self._buffer[:taken]
        self._left -= taken
        self._check()
        if self._left or len(self._buffer) < 2:
            return False
        del self._buffer[:2]
        self._state = State.HEAD if self._is_last else State.SIZE
        if self._is_last:
            self._ask()
        return True

    def _check(self) -> None:
        while len(self._body) >= chunks.SIZE:
            late = chunks.latency(bytes(self._body[: chunks.SIZE]), self._number)
            del self._body[: chunks.SIZE]
            self._number += 1
            if late is None:
                self.wrong += 1
            else:
                self.latencies.append(late)


async def read_all(host: str, port: int, path: str, count: int, segments: int) -> list[Reader]:
    """Read everything; all are connected when it says ``ready``."""
    loop = asyncio.get_running_loop()
    ends: list[asyncio.Future[None]] = [loop.create_future() for _ in range(count)]
    readers = []
    for done in ends:
        reader = Reader(path, segments, done)
        await loop.create_connection(lambda reader=reader: reader, host, port)  # type: ignore[misc]
        readers.append(reader)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.gather(*ends)
    return readers


def main() -> None:
    """See above."""
    host, port, path, count, segments = sys.argv[1:]
    readers = asyncio.run(read_all(host, int(port), path, int(count), int(segments)))
    latencies = [late for reader in readers for late in reader.latencies]
    wrong = sum(reader.wrong for reader in readers)
    sys.stdout.write(json.dumps({"latencies": latencies, "wrong": wrong}) + "\n")


if __name__ == "__main__":
    main()
