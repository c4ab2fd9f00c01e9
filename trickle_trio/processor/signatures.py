"""How a handler wants to be called, read off its signature when the processor is made and not at the first frame."""

from __future__ import annotations

import dis
import functools
import inspect
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Any, Final

from attrs import frozen

from trickle_trio.processor.decorators import HandlerKind

KIND_NAMES: Final = {
    HandlerKind.VIDEO: "video handler",
    HandlerKind.AUDIO: "audio handler",
    HandlerKind.LOAD: "model loader",
    HandlerKind.PARAMS: "parameter updater",
    HandlerKind.START: "stream start handler",
    HandlerKind.STOP: "stream stop handler",
}


class Passing(Enum):
    """How the payload (a frame, the parameters) reaches a handler."""

    POSITIONAL = auto()
    KEYWORDS = auto()
    NOT = auto()


# What each kind may look like, the fullest first, and how an error message writes it.
_FORMS: Final = {
    HandlerKind.VIDEO: ((Passing.POSITIONAL,), "one frame", "{}(frame)"),
    HandlerKind.AUDIO: ((Passing.POSITIONAL,), "one frame", "{}(frame)"),
    HandlerKind.LOAD: ((Passing.KEYWORDS,), "keywords", "{0}(**kwargs) or {0}()"),
    HandlerKind.PARAMS: ((Passing.POSITIONAL,), "one dict of parameters", "{}(params)"),
    HandlerKind.START: (
        (Passing.POSITIONAL, Passing.NOT),
        "one dict of parameters, nor with nothing",
        "{0}(params) or {0}()",
    ),
    HandlerKind.STOP: ((Passing.NOT,), "nothing", "{}()"),
}


@frozen
class CallShape:
    """How one handler is called. ``known``: the keywords that it takes, None for any."""

    passing: Passing
    known: frozenset[str] | None = None

    def bind(self, function: Callable[..., Any], payload: Any) -> Callable[[], Any]:
        """Make the call that is due, ready to be run wherever the handler runs."""
        match self.passing:
            case Passing.POSITIONAL:
                return functools.partial(function, payload)
            case Passing.KEYWORDS:
                return functools.partial(function, **self._taken(payload))
            case Passing.NOT:
                return function

    def _taken(self, keywords: Mapping[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in keywords.items() if self.known is None or k in self.known}


def read_shape(function: Callable[..., Any], kind: HandlerKind, label: str) -> CallShape:
    """Find out how to call ``function`` as a handler of this kind.

    Raises TypeError, naming the handler and what was expected, where it cannot be called so.
    """
    if is_generator(function):
        raise TypeError(f"{label} is a generator; expected a function that returns its result")
    passings, given, expected = _FORMS[kind]
    signature = signature_of(function)
    for passing in passings:
        if signature is None or _fits(signature, passing):
            return CallShape(passing, _known_keywords(signature))
    raise TypeError(
        f"{label} cannot be called with {given}: its signature is {signature}; "
        f"expected {expected.format(short_name(function))}"
    )


def signature_of(function: Callable[..., Any]) -> inspect.Signature | None:
    """Read a signature; None for callables written in C that tell none."""
    try:
        return inspect.signature(function)
    except ValueError:
        return None


def _fits(signature: inspect.Signature, passing: Passing) -> bool:
    if passing is Passing.KEYWORDS:
        # Which keywords come is known only when it is called; what no keyword can fill is wrong now.
        return not any(
            p.kind is p.POSITIONAL_ONLY and p.default is p.empty
            for p in signature.parameters.values()
        )
    try:
        signature.bind(*(("payload",) if passing is Passing.POSITIONAL else ()))
    except TypeError:
        return False
    return True


def _known_keywords(signature: inspect.Signature | None) -> frozenset[str] | None:
    if signature is None:
        return frozenset()
    parameters = signature.parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return frozenset(
        p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    )


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine for certain; what only may (a lambda) is taken for plain."""
    return inspect.iscoroutinefunction(_code_of(function))


def may_wait(function: Callable[..., Any]) -> bool:
    """Whether a coroutine of it may be suspended: one without any ``await`` runs through, as a plain function does.
    True where there is no code to be seen.
    """
    code = getattr(_code_of(function), "__code__", None)
    if code is None or not code.co_flags & inspect.CO_COROUTINE:
        return True
    return any(step.opname == "SEND" for step in dis.get_instructions(code))


def is_generator(function: Callable[..., Any]) -> bool:
    """Whether calling it gives a generator, plain or async."""
    code = _code_of(function)
    return inspect.isgeneratorfunction(code) or inspect.isasyncgenfunction(code)


def _code_of(function: Any) -> Any:
    """Look through partials, methods and callable objects to the function that will run."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function):
        return function
    return type(function).__call__


def short_name(function: Any) -> str:
    """Name a handler by its last part, as a ``def`` line writes it."""
    return long_name(function).rpartition(".")[2]


def long_name(function: Any) -> str:
    """Name a handler as a reader would find it: class and method, without the place of its definition."""
    while isinstance(function, functools.partial):
        function = function.func
    name: str = getattr(function, "__qualname__", type(function).__qualname__)
    return name.rpartition("<locals>.")[2]
