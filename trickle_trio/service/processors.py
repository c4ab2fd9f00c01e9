"""From what a user serves to one processor for each stream that may run at once."""

from __future__ import annotations

import inspect
from typing import Any

from trickle_trio.processor import Handlers, as_processor


def processors_for(
    processor: Any,
    count: int,
    *,
    share_model: bool = False,
    prewarm: tuple[int, int] | None = None,
) -> list[Handlers]:
    """Make the processors of a service: ``count`` of them, on one model or each on its own.

    ``share_model``: only the first loads, see ``Handlers.use_model_of``. ``prewarm``: width and height of a picture
    that a processor handles once before it is ready. Raises TypeError and ValueError for what cannot be.
    """
    made = _made(processor, count)
    if prewarm is not None and min(prewarm) < 1:
        raise ValueError(f"prewarm must be a width and a height in pixels, not {prewarm}")
    first, *others = made
    first.prewarm = prewarm
    for other in others:
        if share_model:
            other.use_model_of(first)
        else:
            other.prewarm = prewarm
    return made


def _made(processor: Any, count: int) -> list[Handlers]:
    """Make ``count`` processors; raises TypeError for what is none, ValueError where one cannot serve several streams.

    A plain function serves any number of streams: it has no state of ours. A class, or a function that takes nothing
    and returns a processor, is called once for each. An object that is a processor is one, and serves one stream.
    """
    if count < 1:
        raise ValueError(f"max_streams must be at least 1, not {count}")
    if _is_factory(processor):
        return [as_processor(processor()) for _ in range(count)]
    made = [as_processor(processor) for _ in range(count)]
    if len({id(handlers) for handlers in made}) < count:
        raise ValueError(
            f"{made[0].name} serves one stream at a time, and max_streams is {count}: "
            "give its class, or a function that makes one"
        )
    return made


def _is_factory(processor: Any) -> bool:
    """Whether this makes processors: a class, or a function that could take no frame."""
    if isinstance(processor, type):
        return True
    if not inspect.isfunction(processor):
        return False
    return not inspect.signature(processor).parameters
