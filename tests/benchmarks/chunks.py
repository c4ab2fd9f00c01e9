"""What is published for many readers: chunks that say which they are and when they left."""

from __future__ import annotations

import random
import struct
import time
from typing import Final

SIZE: Final = 32_768
HEAD: Final = struct.Struct(">QQ")
CYCLE: Final = 251
_PATTERN: Final = random.Random(7).randbytes(SIZE + CYCLE)


def _filler(number: int) -> bytes:
    start = number % CYCLE
    return _PATTERN[start : start + SIZE - HEAD.size]


def made(number: int) -> bytes:
    """Chunk ``number``, now."""
    return HEAD.pack(number, time.monotonic_ns()) + _filler(number)


def latency(chunk: bytes, number: int) -> float | None:
    """Seconds since it was made; None: it is not what it should be. All processes of a machine share
    this clock.
    """
    said, at = HEAD.unpack_from(chunk)
    if said != number or chunk[HEAD.size :] != _filler(number):
        return None
    return (time.monotonic_ns() - int(at)) / 1e9
