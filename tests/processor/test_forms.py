"""Every form of a processor that the public documents show, and what is none."""

from __future__ import annotations

import functools
import re
import types
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import trio

import trickle_trio
from trickle_trio.media.frames import AudioFrame, VideoFrame, VideoOutput
from trickle_trio.processor import (
    FrameProcessor,
    Handlers,
    StreamProcessor,
    as_processor,
    audio_handler,
    model_loader,
    on_stream_start,
    on_stream_stop,
    param_updater,
    service_hook,
    video_handler,
)
from trickle_trio.processor.hosting import ServiceHook

TIME_BASE = Fraction(1, 90_000)


def frame_of(value: int) -> VideoFrame:
    return VideoFrame.from_ndarray(
        np.full((4, 4, 3), value, np.uint8), timestamp=4500, time_base=TIME_BASE
    )


def sound_of(value: float) -> AudioFrame:
    return AudioFrame.from_ndarray(
        np.full((2, 960), value, np.float32), rate=48_000, timestamp=4500, time_base=TIME_BASE
    )


async def shown(handlers: Handlers, value: int = 10) -> int:
    result = await handlers.video(frame_of(value))
    assert isinstance(result, VideoFrame)
    return int(result.to_ndarray()[0, 0, 0])


def double(frame: VideoFrame, factor: int = 2) -> VideoFrame:
    return VideoFrame.from_ndarray(
        frame.to_ndarray() * factor, timestamp=frame.timestamp, time_base=frame.time_base
    )


async def async_double(frame: VideoFrame) -> VideoFrame:
    return double(frame)


# --- functions --------------------------------------------------------------------------------------------------------


class Callee:
    def __call__(self, frame: VideoFrame) -> VideoFrame:
        return double(frame)

    def method(self, frame: VideoFrame) -> VideoFrame:
        return double(frame)


class AsyncCallee:
    async def __call__(self, frame: VideoFrame) -> VideoFrame:
        return double(frame)


PLAIN: list[tuple[Callable[..., Any], str]] = [
    (double, "double"),
    (async_double, "async_double"),
    (lambda frame: double(frame, 2), "<lambda>"),
    (lambda frame: async_double(frame=frame), "<lambda>"),
    (functools.partial(double, factor=2), "double"),
    (functools.partial(async_double), "async_double"),
    (Callee(), "Callee"),
    (AsyncCallee(), "AsyncCallee"),
    (Callee().method, "Callee.method"),
    (lambda frame: VideoOutput(double(frame), "red_tint"), "<lambda>"),
]


@pytest.mark.parametrize(("function", "name"), PLAIN)
async def test_callables_of_every_kind(function: Callable[..., Any], name: str) -> None:
    handlers = as_processor(function)
    assert handlers.name == name
    assert (handlers.handles_video, handlers.handles_audio) == (True, False)
    assert await shown(handlers) == 20


async def test_a_marked_function_is_what_its_mark_says() -> None:
    @audio_handler
    def echo(frame: AudioFrame) -> list[AudioFrame]:
        return [frame, frame]

    handlers = as_processor(echo)
    assert (handlers.handles_video, handlers.handles_audio) == (False, True)
    assert len(await handlers.audio(sound_of(0))) == 2

    @param_updater
    def update(params: dict[str, Any]) -> None: ...

    with pytest.raises(TypeError, match="update handles neither video nor audio"):
        as_processor(update)


def test_handlers_stay_what_they_are() -> None:
    handlers = as_processor(double)
    assert as_processor(handlers) is handlers


# --- objects with marked methods --------------------------------------------------------------------------------------


class App:
    def __init__(self) -> None:
        self.log: list[Any] = []
        self.gain = 1

    @model_loader
    async def load(self, **kwargs: Any) -> None:
        self.log.append(("load", kwargs))

    @video_handler
    async def picture(self, frame: VideoFrame) -> VideoFrame:
        return double(frame, self.gain)

    @audio_handler
    def sound(self, frame: AudioFrame) -> list[AudioFrame]:
        return [frame.replace_samples(frame.samples * self.gain)]

    @param_updater
    async def update(self, params: dict[str, Any]) -> None:
        self.gain = params.get("gain", self.gain)

    @on_stream_start
    def begin(self) -> None:
        self.log.append("start")

    @on_stream_stop()
    async def end(self) -> None:
        self.log.append("stop")


def as_it_is(app: App) -> object:
    return app


def by_from_handlers(app: App) -> object:
    return StreamProcessor.from_handlers(app, name="app", port=9000)


def by_functions(app: App) -> object:
    return StreamProcessor(
        video_processor=app.picture,
        audio_processor=app.sound,
        model_loader=app.load,
        param_updater=app.update,
        on_stream_start=app.begin,
        on_stream_stop=app.end,
        name="app",
        port=9000,
    )


@pytest.mark.parametrize("form", [as_it_is, by_from_handlers, by_functions])
async def test_marked_methods_in_each_form(form: Callable[[App], object]) -> None:
    app = App()
    handlers = as_processor(form(app))
    assert handlers.name.lower() == "app"
    assert (handlers.handles_video, handlers.handles_audio) == (True, True)
    await handlers.load(path="m.pt")
    await handlers.stream_started({"width": 64})
    await handlers.update_params({"gain": 3})
    assert await shown(handlers) == 30
    (sound,) = await handlers.audio(sound_of(0.25))
    assert sound.samples.max() == 0.75
    await handlers.stream_stopped()
    assert app.log == [("load", {"path": "m.pt"}), "start", "stop"]


async def test_a_module_of_marked_functions() -> None:
    module = types.ModuleType("app")
    module.__dict__["picture"] = video_handler(double)
    try:
        assert await shown(as_processor(module)) == 20
        assert await shown(as_processor(StreamProcessor.from_handlers(module))) == 20
    finally:
        del double.__trickle_handler__  # type: ignore[attr-defined]  # shared with the other tests


def test_an_object_without_marks_has_no_handlers() -> None:
    with pytest.raises(TypeError, match="has no handlers; expected methods marked by @video"):
        StreamProcessor.from_handlers(Callee())


# --- StreamProcessor --------------------------------------------------------------------------------------------------


def test_a_stream_processor_keeps_one_set_of_handlers() -> None:
    processor = StreamProcessor(video_processor=double)
    assert as_processor(processor) is as_processor(processor)
    assert (processor.name, processor.port) == ("double", 8000)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "StreamProcessor handles neither video nor audio"),
    ({"model_loader": double}, "StreamProcessor handles neither video nor audio"),
    ({"video_processor": 42}, "expected a function as video handler; got 42"),
    ({"video_processor": Callee}, "got the class Callee: make an instance of it"),
    ({"video_processor": lambda: None}, "video handler '<lambda>' cannot be called with one frame"),
    ({"audio_processor": lambda a, b: None}, "audio handler '<lambda>' cannot be called with one"),
    ({"video_processor": audio_handler(lambda f: f)}, "got '<lambda>', marked @audio_handler"),
    ({"video_processor": double, "param_updater": lambda: None}, "expected <lambda>(params)"),
    ({"video_processor": double, "on_stream_stop": double}, "expected double()"),
    (
        {"video_processor": double, "on_stream_start": lambda a, b: 0},
        "<lambda>(params) or <lambda>",
    ),
    ({"video_processor": double, "on_stream_strat": double}, "did you mean 'on_stream_start'?"),
    ({"video_proccessor": double}, "did you mean 'video_processor'?"),
]


@pytest.mark.parametrize(("arguments", "says"), WRONG, ids=[says for _, says in WRONG])
def test_what_is_wrong_is_told_when_it_is_made(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(TypeError, match=re.escape(says)):
        StreamProcessor(**arguments)


class Service:
    """Stands for the layer above: takes a processor and options, runs until it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, dict[str, Any]]] = []

    def __call__(self, processor: object, /, **options: Any) -> Callable[..., Any]:
        self.calls.append((processor, options))
        return self.run

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started(("127.0.0.1", 8000))


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    service = Service()
    monkeypatch.setattr(service_hook, "serve", service)
    return service


def test_run_hands_the_processor_and_its_options_to_the_service(service: Service) -> None:
    processor = StreamProcessor(video_processor=double, port=9000, host="0.0.0.0", max_streams=2)
    processor.run()
    assert service.calls == [(processor, {"port": 9000, "host": "0.0.0.0", "max_streams": 2})]


async def test_run_forever_reports_its_address(service: Service) -> None:
    processor = StreamProcessor.from_handlers(App(), name="mine", port=0)
    async with trio.open_nursery() as nursery:
        assert await nursery.start(processor.run_forever) == ("127.0.0.1", 8000)
    await processor.run_forever()
    assert service.calls == [(processor, {"port": 0})] * 2


def test_the_service_is_the_packages_own_unless_another_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Into the namespace itself: asking for the name first would load the service.
    own, other = Service(), Service()
    monkeypatch.setitem(vars(trickle_trio), "serve", own)
    ServiceHook().runner(double, port=1)
    ServiceHook(other).runner(double, port=2)
    assert own.calls == [(double, {"port": 1})]
    assert other.calls == [(double, {"port": 2})]


async def test_without_a_stream_nothing_is_sent() -> None:
    processor = StreamProcessor(video_processor=double)
    assert not await processor.send_data("text")
    assert not await processor.send_monitoring_event({"type": "mine"}, "stream_trace")
    assert not await processor.send_input_frame(frame_of(1))
    assert not processor.set_loading_overlay(True)


# --- what is no processor ---------------------------------------------------------------------------------------------


NONE: list[tuple[object, str]] = [
    (42, "got 42; expected a function that takes a frame, a StreamProcessor, a FrameProcessor"),
    ("app:tint", "got 'app:tint'; expected a function"),
    (None, "got None; expected a function"),
    (object(), "expected a function that takes a frame"),
    (App, "got the class App; make an instance of it: App()"),
    (FrameProcessor, "got the class FrameProcessor; make an instance"),
    (lambda: None, "'<lambda>' cannot be called with one frame: its signature is ()"),
]


@pytest.mark.parametrize(("thing", "says"), NONE, ids=[says for _, says in NONE])
def test_what_cannot_be_a_processor_says_what_came_and_what_was_expected(
    thing: object, says: str
) -> None:
    with pytest.raises(TypeError, match=re.escape(says)):
        as_processor(thing)


def test_a_called_function_gets_a_hint() -> None:
    coroutine = async_double(frame_of(1))
    with pytest.raises(TypeError, match="give the function itself, not called"):
        as_processor(coroutine)
    coroutine.close()
