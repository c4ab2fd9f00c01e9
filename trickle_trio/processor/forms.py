"""Every form in which users write a processor, turned into the one thing that the pipeline calls."""

from __future__ import annotations

import inspect
from typing import Final, Protocol, runtime_checkable

from trickle_trio.processor.decorators import HandlerKind, find_marked, mark_of
from trickle_trio.processor.handlers import Handlers, make_handlers
from trickle_trio.processor.params import declared_by
from trickle_trio.processor.signatures import long_name

_EXPECTED: Final = (
    "expected a function that takes a frame, a StreamProcessor, a FrameProcessor, or an object with methods marked by "
    "@video_handler or @audio_handler"
)


@runtime_checkable
class Processor(Protocol):
    """Whatever knows how to be a processor: ``StreamProcessor``, ``FrameProcessor``, or a form of one's own."""

    def __trickle_processor__(self) -> Handlers:
        """Give the handlers: the same ones at each call, for the model in them to load once."""
        ...


def as_processor(obj: object) -> Handlers:
    """Turn what a user gave into what the pipeline calls.

    Functions and objects with marked methods get new handlers at each call: keep what this returns. Raises TypeError,
    saying what it got and what was expected, for what cannot be a processor.
    """
    if isinstance(obj, Handlers):
        return obj
    if isinstance(obj, type):
        raise TypeError(f"got the class {obj.__name__}; make an instance of it: {obj.__name__}()")
    if isinstance(obj, Processor):
        return obj.__trickle_processor__()
    if marked := find_marked(obj):
        return make_handlers(type(obj).__name__, marked, params=declared_by(obj))
    if callable(obj):
        mark = mark_of(obj)
        return make_handlers(long_name(obj), {mark.kind if mark else HandlerKind.VIDEO: obj})
    raise TypeError(f"got {obj!r}{_hint(obj)}; {_EXPECTED}")


def _hint(obj: object) -> str:
    return " (give the function itself, not called)" if inspect.isawaitable(obj) else ""
