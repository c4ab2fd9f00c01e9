from __future__ import annotations

import functools
import types
from typing import Any

import pytest

from trickle_trio.processor.decorators import (
    HandlerKind,
    Mark,
    audio_handler,
    find_marked,
    mark_of,
    model_loader,
    on_stream_start,
    on_stream_stop,
    param_updater,
    video_handler,
)

DECORATORS = {
    HandlerKind.VIDEO: video_handler,
    HandlerKind.AUDIO: audio_handler,
    HandlerKind.LOAD: model_loader,
    HandlerKind.PARAMS: param_updater,
    HandlerKind.START: on_stream_start,
    HandlerKind.STOP: on_stream_stop,
}


@pytest.mark.parametrize("kind", HandlerKind)
def test_each_is_usable_bare_and_called_and_with_a_name(kind: HandlerKind) -> None:
    decorator: Any = DECORATORS[kind]

    def function() -> str:
        return "still a function"

    bare = decorator(function)
    called = decorator()(lambda: None)
    named = decorator(name="mine")(lambda: None)
    assert bare() == "still a function"
    assert mark_of(bare) == mark_of(called) == Mark(kind)
    assert mark_of(named) == Mark(kind, name="mine")
    assert decorator.__name__ == kind.value


def test_options_reach_the_mark() -> None:
    assert mark_of(video_handler(concurrency=4)(lambda f: f)) == Mark(
        HandlerKind.VIDEO, concurrency=4
    )
    assert mark_of(param_updater(concurrent=True)(lambda p: p)) == Mark(
        HandlerKind.PARAMS, concurrent=True
    )


def test_wrong_use_is_refused() -> None:
    with pytest.raises(TypeError, match="@video_handler marks a function and takes its options"):
        video_handler("name")  # type: ignore[call-overload]  # wrong on purpose
    with pytest.raises(ValueError, match="concurrency"):
        video_handler(concurrency=0)
    with pytest.raises(TypeError, match="concurrency"):
        video_handler(concurrency="2")  # type: ignore[call-overload]  # wrong on purpose


def test_methods_are_found_bound_and_properties_left_alone() -> None:
    class App:
        def __init__(self) -> None:
            self.gain = 3

        @property
        def boom(self) -> int:
            raise AssertionError("a property was triggered")

        @video_handler
        def picture(self, frame: int) -> int:
            return frame * self.gain

        @staticmethod
        @audio_handler
        def sound(frame: int) -> int:
            return frame

        @model_loader
        @classmethod
        def load(cls) -> str:
            return cls.__name__

        @on_stream_stop
        @staticmethod
        def stop() -> str:
            return "stopped"

    found = find_marked(App())
    assert found[HandlerKind.VIDEO](2) == 6
    assert found[HandlerKind.AUDIO](2) == 2
    assert found[HandlerKind.LOAD]() == "App"
    assert found[HandlerKind.STOP]() == "stopped"
    assert len(found) == 4


def test_an_override_inherits_the_mark_and_none_switches_it_off() -> None:
    class Base:
        @video_handler(name="old", concurrency=3)
        def picture(self, frame: str) -> str:
            return "base"

        @audio_handler
        def sound(self, frame: str) -> str:
            return "base"

    class Child(Base):
        def picture(self, frame: str) -> str:
            return "child"

        sound = None  # type: ignore[assignment]  # switched off

    found = find_marked(Child())
    assert found.keys() == {HandlerKind.VIDEO}
    assert found[HandlerKind.VIDEO]("x") == "child"
    assert mark_of(found[HandlerKind.VIDEO]) is None


def test_two_for_one_thing_are_refused_but_an_alias_is_not() -> None:
    class Two:
        @video_handler
        def one(self, frame: object) -> None: ...

        @video_handler
        def two(self, frame: object) -> None: ...

    class Alias:
        @video_handler
        def one(self, frame: object) -> None: ...

        two = one

    with pytest.raises(
        TypeError, match="Two has two handlers marked @video_handler, 'one' and 'two'"
    ):
        find_marked(Two())
    assert len(find_marked(Alias())) == 1


def test_wrapping_decorators_carry_the_mark() -> None:
    def logged(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            return "logged", function(*args)

        return wrapper

    class App:
        @logged
        @video_handler
        def picture(self, frame: int) -> int:
            return frame

    assert find_marked(App())[HandlerKind.VIDEO](1) == ("logged", 1)


def test_functions_of_a_module_or_a_namespace_are_found() -> None:
    @video_handler
    def picture(frame: object) -> None: ...

    module = types.ModuleType("app")
    module.__dict__["picture"] = picture
    assert find_marked(module) == find_marked(types.SimpleNamespace(p=picture))
    assert find_marked(module) == {HandlerKind.VIDEO: picture}


def test_things_that_answer_to_any_name_are_no_handlers() -> None:
    class Proxy:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"{name} was asked of a proxy")

    class App:
        proxy = Proxy()

    assert find_marked(App()) == {}
