"""The threads that codecs run on.

Each call into a codec is one ``trio.to_thread.run_sync``: 110 us of CPU a call, against 57 us for a
thread that stays and is fed over a hand-off (measured, Python 3.11, 2 cores). A frame costs some 8
ms to decode and encode, so the difference is not seen; and a station that is cancelled has no
thread to end, no queue to close and no flag to watch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import trio

T = TypeVar("T")

CODEC_THREADS: Final = trio.CapacityLimiter(64)
"""One limiter of our own for all streams: the user's threads must not wait behind codecs, nor the
other way round."""


async def in_codec_thread(call: Callable[[], T]) -> T:
    """Run a codec's call. Blocks for its length; a cancellation takes effect when the call has
    returned.
    """
    return await trio.to_thread.run_sync(call, limiter=CODEC_THREADS)
