"""The marks that make a method a handler, and how they are found again.

A decorator leaves the function as it is and writes a ``Mark`` on it: a marked method can still be called, tested and
overridden like any other. A subclass that overrides a marked method without marking it again inherits what the method
is for, but not its options: those were said of other code.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from enum import Enum
from types import MethodType
from typing import Any, Final, TypeVar, overload

from attrs import field, frozen, validators

MARK: Final = "__trickle_handler__"

F = TypeVar("F", bound=Callable[..., Any])


class HandlerKind(Enum):
    """What a handler is for. The value is the decorator's name, which is what users know it by."""

    VIDEO = "video_handler"
    AUDIO = "audio_handler"
    LOAD = "model_loader"
    PARAMS = "param_updater"
    START = "on_stream_start"
    STOP = "on_stream_stop"


@frozen
class Mark:
    """What a decorator says of a function.

    ``name``: how messages call it. ``concurrency``: how many frames it may be given at once.
    ``concurrent``: it may be called while a frame is being handled on another thread. ``params``: the attrs class of
    what it takes.
    """

    kind: HandlerKind
    name: str | None = None
    concurrency: int = field(default=1, validator=[validators.instance_of(int), validators.ge(1)])
    concurrent: bool = False
    params: type[Any] | None = None


@frozen
class _Found:
    """One handler as it was found on an object, bound to it."""

    attribute: str
    kind: HandlerKind
    function: Callable[..., Any]


@overload
def video_handler(function: F, /) -> F: ...
@overload
def video_handler(*, name: str | None = None, concurrency: int = 1) -> Callable[[F], F]: ...
def video_handler(function: Any = None, /, *, name: str | None = None, concurrency: int = 1) -> Any:
    """Mark what gets each ``VideoFrame`` and returns one, ``None`` (pass it on) or ``Withheld``.

    ``concurrency``: how many frames it may work on at once, for handlers that take longer than a frame lasts; results
    still come out in order.
    """
    return _mark(function, Mark(HandlerKind.VIDEO, name, concurrency))


@overload
def audio_handler(function: F, /) -> F: ...
@overload
def audio_handler(*, name: str | None = None) -> Callable[[F], F]: ...
def audio_handler(function: Any = None, /, *, name: str | None = None) -> Any:
    """Mark what gets each ``AudioFrame`` and returns a list of frames, one frame, or ``None``."""
    return _mark(function, Mark(HandlerKind.AUDIO, name))


@overload
def model_loader(function: F, /) -> F: ...
@overload
def model_loader(*, name: str | None = None) -> Callable[[F], F]: ...
def model_loader(function: Any = None, /, *, name: str | None = None) -> Any:
    """Mark what loads the model: called once, in the background, with keywords of which it takes what it knows."""
    return _mark(function, Mark(HandlerKind.LOAD, name))


@overload
def param_updater(function: F, /) -> F: ...
@overload
def param_updater(
    *, name: str | None = None, concurrent: bool = False, params: type[Any] | None = None
) -> Callable[[F], F]: ...
def param_updater(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    concurrent: bool = False,
    params: type[Any] | None = None,
) -> Any:
    """Mark what gets a dict of changed parameters.

    It waits for frames that are being handled on other threads, so that nothing changes under them; ``concurrent=True``
    says that it need not. ``params``: an attrs class that says which parameters there are; see ``processor.params``.
    """
    return _mark(function, Mark(HandlerKind.PARAMS, name, concurrent=concurrent, params=params))


@overload
def on_stream_start(function: F, /) -> F: ...
@overload
def on_stream_start(*, name: str | None = None) -> Callable[[F], F]: ...
def on_stream_start(function: Any = None, /, *, name: str | None = None) -> Any:
    """Mark what is called once when a stream starts, with its parameters or with nothing."""
    return _mark(function, Mark(HandlerKind.START, name))


@overload
def on_stream_stop(function: F, /) -> F: ...
@overload
def on_stream_stop(*, name: str | None = None) -> Callable[[F], F]: ...
def on_stream_stop(function: Any = None, /, *, name: str | None = None) -> Any:
    """Mark what is called once when a stream has ended, however it ended."""
    return _mark(function, Mark(HandlerKind.STOP, name))


def _mark(function: Any, mark: Mark) -> Any:
    def write(target: Any) -> Any:
        inner = _inner(target)
        if not callable(inner):
            raise TypeError(
                f"@{mark.kind.value} marks a function and takes its options by keyword; got {target!r}"
            )
        setattr(inner, MARK, mark)
        return target

    return write if function is None else write(function)


def mark_of(function: object) -> Mark | None:
    """Read the mark of a function, a bound method, or a static or class method; None where there is none."""
    # Statically: attributes of user objects may be proxies or lazy loaders that answer to any name.
    mark = inspect.getattr_static(_inner(function), MARK, None)
    return mark if isinstance(mark, Mark) else None


def _inner(function: Any) -> Any:
    wrapped = isinstance(function, (MethodType, staticmethod, classmethod))
    return function.__func__ if wrapped else function


def find_marked(obj: object) -> dict[HandlerKind, Callable[..., Any]]:
    """Collect the marked methods of an object, or the marked functions of a module.

    Raises TypeError where two stand for the same thing.
    """
    found: dict[HandlerKind, _Found] = {}
    for method in _marked_methods(obj):
        other = found.setdefault(method.kind, method)
        if other.function != method.function:
            raise TypeError(
                f"{type(obj).__name__} has two handlers marked @{method.kind.value}, "
                f"{other.attribute!r} and {method.attribute!r}; expected one"
            )
    return {kind: method.function for kind, method in found.items()}


def _marked_methods(obj: object) -> Iterator[_Found]:
    for attribute in dir(obj):
        kind = _kind_of(obj, attribute)
        if kind is None:
            continue
        function = getattr(obj, attribute)
        # A subclass switches an inherited handler off by setting its name to None.
        if callable(function):
            yield _Found(attribute, kind, function)


def _kind_of(obj: object, attribute: str) -> HandlerKind | None:
    """Look where the name is defined, nearest first, without triggering properties."""
    rooms = (getattr(obj, "__dict__", {}), *(vars(cls) for cls in type(obj).__mro__))
    marks = (mark_of(room[attribute]) for room in rooms if attribute in room)
    return next((mark.kind for mark in marks if mark is not None), None)
