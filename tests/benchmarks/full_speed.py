"""One reader that does nothing but read: ``python -m tests.benchmarks.full_speed HOST PORT PATH``.

Prints the seconds from the request to the last byte, and how many bytes of the segment came and were
right; that is looked at afterwards.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from typing import Final

from tests.benchmarks import chunks

RECEIVE: Final = 1 << 20


def read(host: str, port: int, path: str) -> tuple[float, bytearray]:
    """The whole answer, as it comes; the server closes at its end."""
    came = bytearray()
    with socket.create_connection((host, port)) as sock:
        room = memoryview(bytearray(RECEIVE))
        began = time.perf_counter()
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        while count := sock.recv_into(room):
            came += room[:count]
    return time.perf_counter() - began, came


def body_of(came: bytearray) -> bytes:
    """What is in the chunks of an answer."""
    at = came.index(b"\r\n\r\n") + 4
    pieces: list[bytearray] = []
    while True:
        end = came.index(b"\r\n", at)
        size = int(came[at:end], 16)
        if not size:
            return b"".join(pieces)
        pieces.append(came[end + 2 : end + 2 + size])
        at = end + 4 + size


def main() -> None:
    """See above."""
    host, port, path = sys.argv[1:]
    seconds, came = read(host, int(port), path)
    body = body_of(came)
    parts = [body[at : at + chunks.SIZE] for at in range(0, len(body), chunks.SIZE)]
    right = sum(chunks.latency(part, number) is not None for number, part in enumerate(parts))
    sys.stdout.write(json.dumps({"seconds": seconds, "right": right * chunks.SIZE}) + "\n")


if __name__ == "__main__":
    main()
