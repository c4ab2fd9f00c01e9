from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from trickle_trio.processor.decorators import HandlerKind
from trickle_trio.processor.signatures import (
    CallShape,
    Passing,
    is_async,
    long_name,
    may_wait,
    read_shape,
    short_name,
)

ONE = CallShape(Passing.POSITIONAL, frozenset())


async def tint(frame: object) -> None: ...


def plain(frame: object, strength: float = 1.0) -> None: ...


def nothing() -> None: ...


def anything(*args: Any, **kwargs: Any) -> None: ...


def pair(a: object, b: object) -> None: ...


def keyword(*, params: object) -> None: ...


def positional_only(path: str, /) -> None: ...


def loader(path: str, *, device: str = "cpu") -> tuple[str, str]:
    return path, device


class Method:
    async def handle(self, frame: object) -> None: ...


class Callee:
    async def __call__(self, frame: object) -> None: ...


@pytest.mark.parametrize(
    "function",
    [tint, plain, anything, Method().handle, Callee(), functools.partial(pair, 1), lambda f: f],
)
@pytest.mark.parametrize("kind", [HandlerKind.VIDEO, HandlerKind.AUDIO, HandlerKind.PARAMS])
def test_what_takes_one_thing_is_given_it(function: Callable[..., Any], kind: HandlerKind) -> None:
    assert read_shape(function, kind, "it").passing is Passing.POSITIONAL


@pytest.mark.parametrize("function", [nothing, pair, keyword, Method.handle])
@pytest.mark.parametrize("kind", [HandlerKind.VIDEO, HandlerKind.AUDIO, HandlerKind.PARAMS])
def test_what_does_not_take_one_thing_is_refused(
    function: Callable[..., Any], kind: HandlerKind
) -> None:
    with pytest.raises(TypeError, match=r"^it cannot be called with one .* its signature is \("):
        read_shape(function, kind, "it")


def test_the_message_names_all_that_is_needed() -> None:
    with pytest.raises(TypeError) as caught:
        read_shape(pair, HandlerKind.VIDEO, "video handler 'pair'")
    assert str(caught.value) == (
        "video handler 'pair' cannot be called with one frame: its signature is "
        "(a: 'object', b: 'object') -> 'None'; expected pair(frame)"
    )


def test_a_start_handler_takes_params_or_nothing() -> None:
    assert read_shape(plain, HandlerKind.START, "it").passing is Passing.POSITIONAL
    assert read_shape(nothing, HandlerKind.START, "it").passing is Passing.NOT
    assert read_shape(anything, HandlerKind.START, "it").passing is Passing.POSITIONAL
    with pytest.raises(TypeError, match=r"expected pair\(params\) or pair\(\)"):
        read_shape(pair, HandlerKind.START, "it")


def test_a_stop_handler_takes_nothing() -> None:
    assert read_shape(nothing, HandlerKind.STOP, "it").passing is Passing.NOT
    assert read_shape(anything, HandlerKind.STOP, "it").passing is Passing.NOT
    with pytest.raises(TypeError, match=r"expected tint\(\)"):
        read_shape(tint, HandlerKind.STOP, "it")


def test_a_loader_gets_the_keywords_that_it_knows() -> None:
    payload = {"path": "model.pt", "width": 640}
    known = read_shape(loader, HandlerKind.LOAD, "it")
    assert known.bind(loader, payload)() == ("model.pt", "cpu")
    assert read_shape(nothing, HandlerKind.LOAD, "it").bind(nothing, payload)() is None
    every = read_shape(anything, HandlerKind.LOAD, "it").bind(dict, payload)
    assert every() == payload
    with pytest.raises(TypeError, match=r"expected positional_only\(\*\*kwargs\)"):
        read_shape(positional_only, HandlerKind.LOAD, "it")


def test_generators_are_refused() -> None:
    async def async_generator(frame: object) -> AsyncIterator[object]:
        yield frame

    def generator(frame: object) -> Iterator[object]:
        yield frame

    for function in (async_generator, generator, functools.partial(generator)):
        with pytest.raises(TypeError, match="it is a generator"):
            read_shape(function, HandlerKind.VIDEO, "it")


def test_callables_that_tell_no_signature_are_trusted() -> None:
    assert read_shape(max, HandlerKind.VIDEO, "it").passing is Passing.POSITIONAL
    assert read_shape(dict, HandlerKind.LOAD, "it") == CallShape(Passing.KEYWORDS, frozenset())


def test_async_is_seen_through_wrappers() -> None:
    assert is_async(tint)
    assert is_async(functools.partial(tint))
    assert is_async(functools.partial(Callee()))
    assert is_async(Callee())
    assert is_async(Method().handle)
    assert not is_async(plain)
    assert not is_async(lambda frame: (frame, tint))


def test_names_are_those_a_reader_looks_for() -> None:
    def local() -> None: ...

    assert long_name(Method().handle) == "Method.handle"
    assert short_name(Method().handle) == "handle"
    assert long_name(functools.partial(local)) == "local"
    assert long_name(Callee()) == "Callee"


class Waiting:
    async def __call__(self, frame: Any) -> Any:
        return await tint(frame)


async def runs_through(frame: Any) -> Any:
    async def inner() -> None:
        await tint(frame)

    return inner


async def awaits(frame: Any) -> Any:
    return await tint(frame)


async def iterates(frames: Any) -> Any:
    async for frame in frames:
        return frame
    return None


async def enters(frame: Any) -> Any:
    async with frame:
        return frame


async def collects(frames: Any) -> Any:
    return [frame async for frame in frames]


def test_a_coroutine_that_awaits_nothing_runs_through() -> None:
    assert not may_wait(runs_through)
    assert not may_wait(functools.partial(runs_through))


@pytest.mark.parametrize("function", [awaits, iterates, enters, collects, Waiting()])
def test_one_that_does_may_wait(function: Any) -> None:
    assert may_wait(function)
    assert may_wait(functools.partial(function, None))


def test_what_has_no_code_to_be_seen_may_wait() -> None:
    assert may_wait(len)
    assert may_wait(plain)
