"""A process of its own for what is measured: ``python -m trickle_trio.bench.worker relay``, or the
name of a handler.

It is told what to do by lines of JSON on its standard input, and answers with such lines. When its input ends, so does
it: it outlives nobody.
"""

from __future__ import annotations

import json
import resource
import sys
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from trickle_trio.faces import TrickleClient
from trickle_trio.media.frames import VideoFrame
from trickle_trio.relay import serve_relay
from trickle_trio.stream.meters import StreamStatistics

MIB: Final = 1 << 20
HIGHEST_RATE: Final = 60
"""Pictures a second that a stream may have: more than come, so that none is left out."""


async def passthrough(frame: VideoFrame) -> None:
    """Pass the picture on."""


async def tint(frame: VideoFrame) -> VideoFrame:
    """Do what the README's first program does."""
    tensor = frame.tensor.clone()
    tensor[..., 1] = (tensor[..., 1] * 1.5).clamp(0, 1)
    return frame.replace_tensor(tensor)


HANDLERS: Final[dict[str, Callable[[VideoFrame], Awaitable[Any]]]] = {
    "passthrough": passthrough,
    "tint": tint,
}


async def run_relay() -> None:
    """Say where it is, and serve until the input ends."""
    async with trio.open_nursery() as nursery:
        relay = await nursery.start(partial(serve_relay, port=0))
        _say(url=relay.url)
        async for _ in _orders():
            pass
        nursery.cancel_scope.cancel()


async def run_service(handler: Callable[[VideoFrame], Awaitable[Any]]) -> None:
    """Run the streams that the first order names; each further one asks for the figures by now."""
    _say(ready=True)
    orders = _orders()
    order = await anext(orders, None)
    if order is None:
        return
    clients = [
        TrickleClient(source, target, max_framerate=HIGHEST_RATE, frame_processor=handler)
        for source, target in order["streams"]
    ]
    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(client.start)
        async for _ in orders:
            _say(**_figures([client.statistics() for client in clients]))
        nursery.cancel_scope.cancel()


def _figures(streams: list[StreamStatistics | None]) -> dict[str, Any]:
    """CPU seconds, of the threads too, and the peak of the memory; what an item takes at each station of a stream."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    known = [stream for stream in streams if stream is not None]
    return {
        "cpu": usage.ru_utime + usage.ru_stime,
        "memory_mb": _peak(usage.ru_maxrss),
        "threads": _threads(),
        "stages": {
            name: stage.mean_ms for stream in known for name, stage in stream.stages.items()
        },
    }


def _threads() -> dict[str, float]:
    """CPU seconds of each thread that Python knows, by its name; nothing where the system does not tell."""
    known = [(thread.name, thread.native_id) for thread in threading.enumerate()]
    seconds: dict[str, float] = defaultdict(float)
    for name, number in known:
        try:
            told = Path(f"/proc/self/task/{number}/schedstat").read_text(encoding="ascii")
        except OSError:  # no such system, or no such thread any more
            continue
        seconds[name] += int(told.split()[0]) / 1e9
    return seconds


def _peak(told: int) -> float:
    """The most memory that this program held. Linux counts what the parent held before it became this program as its
    own in ``ru_maxrss``, but not in VmHWM.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return told / (MIB if sys.platform == "darwin" else 1024)
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


async def _orders() -> AsyncIterator[Any]:
    rest = b""
    async for piece in trio.lowlevel.FdStream(0):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield json.loads(line)


def _say(**fields: Any) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Be what the argument says."""
    role = sys.argv[1]
    if role == "tint":
        import torch  # noqa: F401, PLC0415  as a program that has a model does, before its stream
    trio.run(run_relay if role == "relay" else partial(run_service, HANDLERS[role]))


if __name__ == "__main__":
    main()
