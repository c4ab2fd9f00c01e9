"""Knowing that a handler will ask for tensors, before it does.

torch takes one to three seconds to import. Where an async handler's first frame brings it in, the event loop stands
still for that long, and with it every stream, timer and request. A passthrough, on the other hand, is to stay small
and start at once. So the code is looked at: what speaks of tensors will ask for them. That is a guess. Wrong one way
it costs an import in a thread, wrong the other way what it would have cost anyway.
"""

from __future__ import annotations

import functools
import gc
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import CodeType, FunctionType, MethodType
from typing import Any, Final

from attrs import frozen

from trickle_trio.media.rehearsal import rehearse_tensors

WORDS: Final = frozenset({"tensor", "to_tensor", "torch"})
"""What code that uses a frame's tensor says: the frame's own names for it, or torch's."""

TENSORS: Final = "trickle_trio.media.tensors"

MOST: Final = 100
"""Functions that are looked at, at most: a guess is not worth more."""


@frozen
class _Piece:
    """Code, the globals that it sees, and the object whose method it is."""

    code: CodeType
    namespace: Mapping[str, Any]
    owner: object = None

    @classmethod
    def of(cls, what: object, owner: object = None) -> _Piece | None:
        """Find the code in whatever can be called; None where there is none to be seen."""
        if isinstance(what, functools.partial):
            return cls.of(what.func, owner)
        if isinstance(what, (staticmethod, classmethod)):
            return cls.of(what.__func__, owner)
        if isinstance(what, MethodType):
            return cls.of(what.__func__, what.__self__)
        if isinstance(what, FunctionType):
            innermost = inspect.unwrap(what)
            return cls(innermost.__code__, innermost.__globals__, owner)
        call = inspect.getattr_static(type(what), "__call__", None)
        return cls.of(call, what) if isinstance(call, FunctionType) else None

    def calls(self, names: set[str]) -> Iterator[_Piece | None]:
        """Find the code behind these names: methods of the same object, functions of the same package."""
        for name in names:
            method = inspect.getattr_static(type(self.owner), name, None)
            if isinstance(method, (FunctionType, staticmethod, classmethod)):
                yield _Piece.of(method, self.owner)
            elif self._is_near(function := self.namespace.get(name)):
                yield _Piece.of(function)

    def _is_near(self, value: object) -> bool:
        here = self.namespace.get("__name__")
        return isinstance(value, FunctionType) and _package(value.__module__) == _package(here)


def asks_for_tensors(function: Callable[..., Any]) -> bool:
    """Whether the code of a handler, or code of its package that it calls, speaks of tensors."""
    waiting, seen = [_Piece.of(function)], set[CodeType]()
    while waiting and len(seen) < MOST:
        piece = waiting.pop()
        if piece is None or piece.code in seen:
            continue
        seen.add(piece.code)
        names = _names(piece.code)
        if names & WORDS:
            return True
        waiting += piece.calls(names)
    return False


def import_tensors() -> None:
    """Import what makes tensors, and with it torch, and make one; nothing the second time. Blocks for seconds."""
    if TENSORS in sys.modules:
        return
    # Where it cannot be imported, the frame that needs it will say so, as its handler's fault.
    # An OSError is that of a library of CUDA's.
    with suppress(ImportError, OSError), _uncollected():
        importlib.import_module(TENSORS)
        rehearse_tensors()


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep Python's collector off what comes into being here.

    torch is 170,000 objects, and all of them stay. The collector would look through them three times
    while they come, 60 to 110 ms each in which nothing else runs, and again whenever it looks at
    everything.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


def _package(module: object) -> str:
    return str(module).partition(".")[0]


def _names(code: CodeType) -> set[str]:
    """All names in the code, and in what is defined in it."""
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*(_names(each) for each in inner))
