"""Processors as classes: what may be overridden, in which colour, and what the base class does for it."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import attrs
import numpy as np
import pytest
import trio
import trio.testing

from trickle_trio.media.frames import AudioFrame, VideoFrame
from trickle_trio.processor import (
    FrameProcessor,
    HandlerError,
    LoadState,
    as_processor,
    model_loader,
    video_handler,
)

TIME_BASE = Fraction(1, 90_000)


@pytest.fixture
def picture() -> VideoFrame:
    return VideoFrame.from_ndarray(
        np.full((4, 4, 3), 60, np.uint8), timestamp=4500, time_base=TIME_BASE
    )


@pytest.fixture
def sound() -> AudioFrame:
    return AudioFrame.from_ndarray(
        np.zeros((2, 960), np.float32), rate=48_000, timestamp=4500, time_base=TIME_BASE
    )


class Async(FrameProcessor):
    def __init__(self, model_path: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.log: list[Any] = [model_path]

    async def initialize(self) -> None:
        await super().initialize()
        self.log.append("initialize")

    async def load_model(self, **kwargs: Any) -> None:
        await super().load_model(**kwargs)
        self.log.append(("load", kwargs))

    async def process_video_async(self, frame: VideoFrame) -> VideoFrame | None:
        return await super().process_video_async(frame)  # type: ignore[no-any-return]  # ours says Any

    async def process_audio_async(self, frame: AudioFrame) -> list[AudioFrame] | None:
        return await super().process_audio_async(frame)  # type: ignore[no-any-return]  # ours says Any

    async def update_params(self, params: dict[str, Any]) -> None:
        await super().update_params(params)
        self.log.append(params)

    async def on_stream_start(self, params: dict[str, Any]) -> None:
        await super().on_stream_start(params)
        self.log.append(("start", params))

    async def on_stream_stop(self) -> None:
        await super().on_stream_stop()
        self.log.append("stop")


class Plain(FrameProcessor):
    def __init__(self, model_path: str, **kwargs: Any) -> None:
        self.log: list[Any] = [model_path]
        super().__init__(**kwargs)

    def initialize(self) -> None:
        super().initialize()
        self.log.append("initialize")

    def load_model(self, **kwargs: Any) -> None:
        super().load_model(**kwargs)
        self.log.append(("load", kwargs))

    def process_video_async(self, frame: VideoFrame) -> Any:
        return super().process_video_async(frame)

    def process_audio_async(self, frame: AudioFrame) -> Any:
        return super().process_audio_async(frame)

    def update_params(self, params: dict[str, Any]) -> None:
        super().update_params(params)
        self.log.append(params)

    def on_stream_start(self, params: dict[str, Any] | None = None) -> None:
        super().on_stream_start(params)
        self.log.append(("start", params))

    def on_stream_stop(self) -> None:
        super().on_stream_stop()
        self.log.append("stop")


@pytest.mark.parametrize("form", [Async, Plain])
async def test_every_method_in_both_colours(
    form: type[Async] | type[Plain], picture: VideoFrame, sound: AudioFrame
) -> None:
    processor = form("m.pt", device="cpu", size=1)
    handlers = as_processor(processor)
    assert handlers.name == form.__name__
    assert (handlers.handles_video, handlers.handles_audio) == (True, True)
    await handlers.load(size=2)
    await handlers.stream_started({"width": 64})
    assert await handlers.video(picture) is picture
    assert await handlers.audio(sound) == [sound]
    await handlers.update_params({"gain": 1})
    await handlers.stream_stopped()
    assert processor.log == [
        "m.pt",
        "initialize",
        ("load", {"device": "cpu", "size": 2}),
        ("start", {"width": 64}),
        {"gain": 1},
        "stop",
    ]


class Passthrough(FrameProcessor):
    async def process_video_async(self, frame: VideoFrame) -> VideoFrame:
        return frame


def test_what_is_not_overridden_is_not_handled() -> None:
    handlers = as_processor(Passthrough())
    assert (handlers.handles_video, handlers.handles_audio) == (True, False)


async def test_start_loads_the_model_for_whoever_asks_later(
    autojump_clock: trio.testing.MockClock,
) -> None:
    loads: list[str] = []

    class Slow(Passthrough):
        async def initialize(self) -> None:
            await trio.sleep(5)
            loads.append("initialized")

    processor = Slow()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(processor.start)
        nursery.start_soon(as_processor(processor).load)
    await processor.start()
    assert loads == ["initialized"]
    assert as_processor(processor).load_state is LoadState.LOADED


async def test_the_constructors_keywords_reach_a_loader_that_names_them() -> None:
    class Model(Passthrough):
        path = ""

        def load_model(self, model_path: str) -> None:
            self.path = model_path

    processor = Model(model_path="m.pt", error_callback=None)
    await processor.start()
    assert processor.path == "m.pt"
    with pytest.raises(HandlerError, match=r"Model\.load_model' raised TypeError: .*'model_path'"):
        await Model().start()


async def test_a_subclass_that_forgets_the_base_constructor_works(picture: VideoFrame) -> None:
    class Forgetful(Passthrough):
        def __init__(self) -> None:
            self.ready = True

    @attrs.define
    class Attrs(Passthrough):
        gain: int = 1

    for processor in (Forgetful(), Attrs(gain=2)):
        await processor.start()
        assert await as_processor(processor).video(picture) is picture
        assert not await processor.send_data("no stream")


async def test_a_method_replaced_on_the_instance_counts(picture: VideoFrame) -> None:
    other = picture.replace_tensor(picture.tensor)
    processor = Passthrough()
    vars(processor)["process_video_async"] = lambda frame: other
    assert await as_processor(processor).video(picture) is other


async def test_marked_methods_count_too(picture: VideoFrame) -> None:
    class Marked(FrameProcessor):
        loads = 0

        @video_handler(concurrency=3)
        async def process_video_async(self, frame: VideoFrame) -> VideoFrame:
            return frame

        @model_loader
        def load_model(self) -> None:
            self.loads += 1

    processor = Marked()
    handlers = as_processor(processor)
    await handlers.load()
    assert handlers.concurrency == 3
    assert processor.loads == 1
    assert await handlers.video(picture) is picture


def test_a_class_that_handles_nothing_is_refused() -> None:
    class Empty(FrameProcessor):
        def update_params(self, params: dict[str, Any]) -> None: ...

    with pytest.raises(TypeError, match="Empty handles neither video nor audio"):
        as_processor(Empty())


def test_two_ways_to_say_one_thing_are_refused() -> None:
    class Two(Passthrough):
        @video_handler
        def tint(self, frame: VideoFrame) -> None: ...

    with pytest.raises(TypeError, match="Two overrides process_video_async and marks another"):
        Two()


WRONG: dict[str, tuple[object, str]] = {
    "process_video_async": (lambda self: None, "video handler"),
    "process_audio_async": (lambda self, a, b: None, "audio handler"),
    "update_params": (lambda self: None, "parameter updater"),
    "on_stream_start": (lambda self, a, b: None, "stream start handler"),
    "on_stream_stop": (lambda self, a: None, "stream stop handler"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_signature_is_told_when_the_object_is_made(name: str) -> None:
    function, says = WRONG[name]
    wrong = type("Wrong", (Passthrough,), {name: function})
    with pytest.raises(TypeError, match=re.escape(says) + ".* cannot be called with .*expected"):
        wrong()


def test_a_loader_that_no_keyword_can_fill_is_told_when_the_object_is_made() -> None:
    class Wrong(Passthrough):
        def load_model(self, path: str, /) -> None: ...

    with pytest.raises(TypeError, match=r"model loader .*cannot be called with keywords"):
        Wrong()


async def test_it_sends_to_the_stream_it_runs_in() -> None:
    class Link:
        def __init__(self) -> None:
            self.got: list[Any] = []

        def send_data(self, text: str) -> bool:
            self.got.append(text)
            return True

        def send_event(self, event: Mapping[str, Any], event_type: str) -> bool:
            return False

        async def send_input_frame(self, frame: VideoFrame | AudioFrame) -> bool:
            return False

        def set_loading_overlay(self, enabled: bool) -> bool:
            return False

        def set_loading_progress(self, progress: float | None, message: str | None = None) -> bool:
            return False

    processor, link = Passthrough(), Link()
    as_processor(processor).attach(link)
    assert await processor.send_data("boxes")
    as_processor(processor).detach(link)
    assert not await processor.send_data("boxes")
    assert link.got == ["boxes"]


def test_errors_survive_a_copy() -> None:
    error = pickle.loads(pickle.dumps(HandlerError("video handler 'x'", "raised ValueError")))  # noqa: S301  our own
    assert (str(error), error.handler) == (
        "video handler 'x' raised ValueError",
        "video handler 'x'",
    )
