"""One handler: a user's callable, how it is called, and where it runs.

``async def`` runs in the Trio loop, ``def`` in a worker thread. What raises in it comes out as a ``HandlerError``;
``trio.Cancelled``, ``KeyboardInterrupt`` and their like are no exceptions of the handler and pass through.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

from attrs import define, field, frozen

from trickle_trio.processor.decorators import HandlerKind, Mark, mark_of
from trickle_trio.processor.errors import HandlerError
from trickle_trio.processor.foresight import asks_for_tensors
from trickle_trio.processor.params import annotated_by
from trickle_trio.processor.signatures import (
    KIND_NAMES,
    CallShape,
    Passing,
    is_async,
    long_name,
    may_wait,
    read_shape,
)
from trickle_trio.processor.threads import ThreadRunner
from trickle_trio.processor.watch import LoopWatch

SPARE_THREADS: Final = 3
"""Threads of a handler beyond its concurrency: as many calls may hang before its frames wait for a thread."""

_PER_FRAME: Final = (HandlerKind.VIDEO, HandlerKind.AUDIO)

_HINTS: Final = {
    "no running event loop": "asyncio does not run here: use Trio's counterparts, as trio.sleep",
    "no current event loop": "asyncio does not run here: use Trio's counterparts, as trio.sleep",
    "too many indices for tensor of dimension 3": "a frame's tensor is [height, width, 3]: "
    'to_tensor(layout="BHWC") has a batch of one',
}
"""What the faults of programs that were written for another library mean here."""


@frozen
class HandlerStatistics:
    """What one handler did besides its work.

    ``abandoned``: plain calls given up while they ran; ``hung``: those still running; ``blocked``: steps in which an
    async handler held the event loop too long.
    """

    abandoned: int = 0
    hung: int = 0
    blocked: int = 0

    def __add__(self, other: HandlerStatistics) -> HandlerStatistics:
        return HandlerStatistics(
            self.abandoned + other.abandoned, self.hung + other.hung, self.blocked + other.blocked
        )


@define(eq=False)
class Handler:
    """A user's callable, ready to be called with its payload: a frame, the parameters, or nothing."""

    label: str
    mark: Mark
    in_thread: bool
    _function: Callable[..., Any]
    _shape: CallShape
    annotation: type[Any] | str | None = None
    """What it says that it takes."""
    waits: bool = field(init=False)
    """Whether a call may last without holding the event loop: only then can it be cut short."""
    _watch: LoopWatch = field(init=False)
    _threads: ThreadRunner = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.waits = self.in_thread or may_wait(self._function)
        self._watch = LoopWatch(self.label, spared=int(self.mark.kind in _PER_FRAME))
        self._threads = ThreadRunner(self.mark.concurrency + SPARE_THREADS)

    @classmethod
    def make(cls, function: object, kind: HandlerKind) -> Handler:
        """Turn what a user gave into a handler.

        Raises TypeError, saying what it got and what was expected, for what cannot be called as one.
        """
        mark = mark_of(function) or Mark(kind)
        checked = _check_callable(function, kind, mark)
        label = f"{KIND_NAMES[kind]} {mark.name or long_name(checked)!r}"
        shape = read_shape(checked, kind, label)
        return cls(label, mark, not is_async(checked), checked, shape, annotated_by(checked))

    @property
    def belongings(self) -> dict[str, Any]:
        """The attributes of the object whose method it is; nothing for a function."""
        found: dict[str, Any] = getattr(getattr(self._function, "__self__", None), "__dict__", {})
        return found

    @property
    def takes_payload(self) -> bool:
        """Whether it is called with its payload, or with nothing."""
        return self._shape.passing is not Passing.NOT

    @property
    def asks_for_tensors(self) -> bool:
        """Whether its code says that it will; a guess."""
        return asks_for_tensors(self._function)

    async def call(self, payload: Any = None) -> Any:
        """Call it and return what it returns. Cancelling is safe: an async handler is cancelled, a plain one given up.

        Raises HandlerError for whatever the user's code raises.
        """
        try:
            bound = self._shape.bind(self._function, payload)
            if not self.in_thread:
                return await self._watch.drive(bound())
            result = await self._threads.run(bound)
            return await self._watch.drive(result) if inspect.isawaitable(result) else result
        except (
            Exception,
            SystemExit,
        ) as error:  # a library that exits must not take the streams with it
            raise HandlerError(self.label, f"raised {_describe(error)}") from error

    def statistics(self) -> HandlerStatistics:
        """Return the counters as they stand."""
        return HandlerStatistics(self._threads.abandoned, self._threads.hung, self._watch.blocked)


def _check_callable(function: object, kind: HandlerKind, mark: Mark) -> Callable[..., Any]:
    expected = f"expected a function as {KIND_NAMES[kind]}"
    if isinstance(function, type):
        raise TypeError(f"{expected}; got the class {function.__name__}: make an instance of it")
    if not callable(function):
        raise TypeError(f"{expected}; got {function!r}")
    if mark.kind is not kind:
        raise TypeError(f"{expected}; got {long_name(function)!r}, marked @{mark.kind.value}")
    return function


def _describe(error: BaseException) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split())  # one line, whatever they say
    hint = next((hint for phrase, hint in _HINTS.items() if phrase in text), None)
    return text if hint is None else f"{text} ({hint})"
