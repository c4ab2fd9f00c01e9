"""The adapter that the pipeline calls: frames, parameters, model, stream, with handlers of both colours."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import trio
import trio.testing

from trickle_trio.media.frames import AudioFrame, VideoFrame
from trickle_trio.processor.decorators import (
    HandlerKind,
    model_loader,
    param_updater,
    video_handler,
)
from trickle_trio.processor.errors import HandlerError, WrongReturnError
from trickle_trio.processor.handlers import Handlers, make_handlers
from trickle_trio.processor.loading import LoadState
from trickle_trio.processor.results import Withheld

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


def processor(**functions: Callable[..., Any]) -> Handlers:
    kinds = {HandlerKind[name.upper()]: function for name, function in functions.items()}
    return make_handlers("app", kinds)


class Hang:
    """A plain handler that does not come back until it is let go."""

    def __init__(self) -> None:
        self.running = threading.Semaphore(0)
        self.let_go = threading.Event()

    def __call__(self, *args: object) -> None:
        self.running.release()
        self.let_go.wait()

    async def wait_running(self) -> None:
        await trio.to_thread.run_sync(self.running.acquire)


@pytest.fixture
def hang() -> Iterator[Hang]:
    hanging = Hang()
    yield hanging
    hanging.let_go.set()


def both(function: Callable[..., Any]) -> list[Callable[..., Any]]:
    """The same handler as ``def``, as ``async def``, and as a ``def`` that returns an awaitable."""

    @functools.wraps(function)
    async def coloured(*args: Any, **kwargs: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return function(*args, **kwargs)

    @functools.wraps(function)
    def later(*args: Any, **kwargs: Any) -> Awaitable[Any]:
        return coloured(*args, **kwargs)

    return [function, coloured, later]


def brighten(frame: VideoFrame) -> VideoFrame:
    return VideoFrame.from_ndarray(
        frame.to_ndarray() + 40, timestamp=frame.timestamp, time_base=frame.time_base
    )


@pytest.mark.parametrize("handler", both(brighten), ids=["plain", "async", "awaitable"])
async def test_a_picture_goes_through(
    picture: VideoFrame, handler: Callable[[VideoFrame], Any]
) -> None:
    result = await processor(video=handler).video(picture)
    assert isinstance(result, VideoFrame)
    assert result.to_ndarray().max() == 100
    assert result.timestamp == 4500


@pytest.mark.parametrize(
    "handler", both(lambda frame: [frame, frame]), ids=["plain", "async", "awaitable"]
)
async def test_sound_goes_through(sound: AudioFrame, handler: Callable[[AudioFrame], Any]) -> None:
    assert await processor(audio=handler).audio(sound) == [sound, sound]


async def test_where_each_colour_runs(picture: VideoFrame) -> None:
    where: list[int] = []

    async def in_the_loop(frame: VideoFrame) -> None:
        where.append(threading.get_ident())

    def elsewhere(frame: VideoFrame) -> None:
        where.append(threading.get_ident())

    await processor(video=in_the_loop).video(picture)
    await processor(video=elsewhere).video(picture)
    assert where[0] == threading.get_ident()
    assert where[1] != threading.get_ident()


async def test_what_is_not_handled_passes_untouched(picture: VideoFrame, sound: AudioFrame) -> None:
    only_video = processor(video=lambda frame: Withheld)
    assert (only_video.handles_video, only_video.handles_audio) == (True, False)
    assert await only_video.audio(sound) == [sound]
    assert await only_video.video(picture) is Withheld
    only_audio = processor(audio=lambda frame: None)
    assert (only_audio.handles_video, only_audio.handles_audio) == (False, True)
    assert await only_audio.video(picture) is picture


async def test_a_processor_of_nothing_is_refused() -> None:
    with pytest.raises(TypeError, match="app handles neither video nor audio; expected a handler"):
        processor(load=lambda: None)


def fail(*args: object) -> None:
    raise ValueError("no such effect")


@pytest.mark.parametrize("handler", both(fail), ids=["plain", "async", "awaitable"])
async def test_what_a_handler_raises_comes_out_typed_with_its_cause(
    picture: VideoFrame, sound: AudioFrame, handler: Callable[..., Any]
) -> None:
    app = processor(video=handler, audio=handler, params=handler, start=handler, stop=handler)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: app.video(picture),
        lambda: app.audio(sound),
        lambda: app.update_params({}),
        lambda: app.stream_started({}),
    ]
    for call in calls:
        with pytest.raises(HandlerError, match="raised ValueError: no such effect") as caught:
            await call()
        assert isinstance(caught.value.__cause__, ValueError)
        assert caught.value.handler.endswith("'fail'")


async def test_a_wrong_return_names_the_handler(picture: VideoFrame) -> None:
    @video_handler(name="the tint")
    def handler(frame: VideoFrame) -> int:
        return 42

    with pytest.raises(WrongReturnError, match=r"^video handler 'the tint' returned int"):
        await processor(video=handler).video(picture)


async def test_asyncio_calls_get_a_hint(picture: VideoFrame) -> None:
    import asyncio  # noqa: PLC0415  what users of other libraries do

    async def handler(frame: VideoFrame) -> None:
        await asyncio.sleep(0.01)

    with pytest.raises(HandlerError, match=r"use Trio's counterparts, as trio\.sleep"):
        await processor(video=handler).video(picture)


async def test_what_ends_the_program_is_no_handler_error(picture: VideoFrame) -> None:
    async def handler(frame: VideoFrame) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await processor(video=handler).video(picture)


async def test_a_handler_that_exits_does_not_take_the_streams_with_it(picture: VideoFrame) -> None:
    async def in_the_loop(frame: VideoFrame) -> None:
        sys.exit(3)

    def in_a_thread(frame: VideoFrame) -> None:
        sys.exit(3)

    for handler in (in_the_loop, in_a_thread):
        with pytest.raises(HandlerError, match="raised SystemExit: 3"):
            await processor(video=handler).video(picture)


# --- cancellation -----------------------------------------------------------------------------------------------------


async def test_a_hung_async_handler_is_cancelled(
    picture: VideoFrame, autojump_clock: trio.testing.MockClock
) -> None:
    cleaned: list[bool] = []

    async def handler(frame: VideoFrame) -> None:
        try:
            await trio.sleep_forever()
        finally:
            cleaned.append(True)

    app = processor(video=handler)
    with trio.move_on_after(5) as scope:
        await app.video(picture)
    assert scope.cancelled_caught
    assert cleaned == [True]
    assert app.statistics().abandoned == 0


async def test_a_hung_plain_handler_is_given_up_and_the_others_go_on(
    picture: VideoFrame, sound: AudioFrame, hang: Hang
) -> None:
    app = processor(video=hang, audio=lambda frame: [frame], stop=lambda: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(app.video, picture)
        await hang.wait_running()
        nursery.cancel_scope.cancel()
    assert (app.statistics().abandoned, app.statistics().hung) == (1, 1)
    assert await app.audio(sound) == [sound]
    await app.update_params({"effect": "invert"})
    await app.stream_started({})
    await app.stream_stopped()


async def test_when_all_threads_hang_frames_wait_and_can_be_cancelled(
    picture: VideoFrame, hang: Hang
) -> None:
    app = processor(video=hang)
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(app.video, picture)
        await hang.wait_running()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert 1 <= app.statistics().hung <= 4


async def test_a_hung_load_is_cancelled_and_tried_again(hang: Hang) -> None:
    app = processor(video=lambda frame: None, load=functools.partial(hang))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(app.load)
        await hang.wait_running()
        nursery.cancel_scope.cancel()
    assert app.load_state is LoadState.NOT_LOADED
    hang.let_go.set()
    await app.load()
    assert app.statistics().abandoned == 1


# --- holding the loop up ----------------------------------------------------------------------------------------------


async def test_an_async_handler_that_blocks_the_loop_is_named_but_for_its_first_call(
    picture: VideoFrame, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]

    async def slow(frame: VideoFrame) -> None:
        now[0] += 0.5

    app = processor(video=slow)
    app._handlers[HandlerKind.VIDEO]._watch.clock = lambda: now[0]
    await app.video(picture)
    assert caplog.records == []
    await app.video(picture)
    await app.video(picture)
    (record,) = caplog.records
    assert record.getMessage().startswith("video handler 'slow' held the event loop for 500 ms")
    assert app.statistics().blocked == 2


async def test_a_loader_that_blocks_the_loop_is_named_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [0.0]

    async def loader() -> None:
        now[0] += 5.0

    app = processor(video=lambda frame: None, load=loader)
    app._loaders[0]._watch.clock = lambda: now[0]
    await app.load()
    (record,) = caplog.records
    assert record.getMessage().startswith("model loader 'loader' held the event loop for 5000 ms")


# --- parameters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("updater_is_async", [True, False])
async def test_parameters_wait_for_a_frame_on_a_thread(
    picture: VideoFrame, hang: Hang, updater_is_async: bool
) -> None:
    log: list[str] = []
    updater = both(lambda params: log.append("updated"))[updater_is_async]

    def handler(frame: VideoFrame) -> None:
        log.append("frame in")
        hang()
        log.append("frame out")

    app = processor(video=handler, params=updater)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(app.video, picture)
        await hang.wait_running()
        nursery.start_soon(app.update_params, {})
        await trio.testing.wait_all_tasks_blocked()
        hang.let_go.set()
    assert log == ["frame in", "frame out", "updated"]


async def test_an_updater_that_says_so_does_not_wait(picture: VideoFrame, hang: Hang) -> None:
    got: list[dict[str, Any]] = []

    @param_updater(concurrent=True)
    def updater(params: dict[str, Any]) -> None:
        got.append(params)

    app = processor(video=hang, params=updater)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(app.video, picture)
        await hang.wait_running()
        await app.update_params({"gain": 2})
        assert got == [{"gain": 2}]
        hang.let_go.set()


async def test_parameters_do_not_wait_for_async_handlers(
    picture: VideoFrame, autojump_clock: trio.testing.MockClock
) -> None:
    log: list[str] = []

    async def handler(frame: VideoFrame) -> None:
        log.append("frame in")
        await trio.sleep(10)
        log.append("frame out")

    async def updater(params: dict[str, Any]) -> None:
        log.append("updated")

    app = processor(video=handler, params=updater)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(app.video, picture)
        await trio.sleep(1)
        nursery.start_soon(app.update_params, {"gain": 2})
    assert log == ["frame in", "updated", "frame out"]


async def test_an_updater_gets_a_dict_of_its_own() -> None:
    def updater(params: dict[str, Any]) -> None:
        params["mine"] = True

    given = {"gain": 2}
    app = processor(video=lambda frame: None, params=updater)
    await app.update_params(given)
    assert given == {"gain": 2}


async def test_without_an_updater_parameters_are_ignored() -> None:
    await processor(video=lambda frame: None).update_params({"gain": 2})


# --- the model --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", [0, 1, 2], ids=["plain", "async", "awaitable"])
async def test_a_model_loads_once_with_the_keywords_it_knows(colour: int) -> None:
    got: list[dict[str, Any]] = []

    def loader(*, path: str, device: str = "cpu") -> None:
        got.append({"path": path, "device": device})

    app = processor(video=lambda frame: None, load=both(loader)[colour])
    assert app.load_state is LoadState.NOT_LOADED
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(functools.partial(app.load, path="m.pt", width=640))
    await app.load()
    assert got == [{"path": "m.pt", "device": "cpu"}]


async def test_a_failed_load_tells_why_and_can_be_retried() -> None:
    calls: list[int] = []

    @model_loader
    def loader() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise FileNotFoundError("m.pt")

    app = processor(video=lambda frame: None, load=loader)
    with pytest.raises(
        HandlerError, match=r"model loader 'loader' raised FileNotFoundError: m\.pt"
    ):
        await app.load()
    assert app.load_state is LoadState.FAILED
    await app.load()
    await app.load()
    assert len(calls) == 2


async def test_a_keyword_that_nobody_gave_is_named() -> None:
    def loader(path: str) -> None: ...

    app = processor(video=lambda frame: None, load=loader)
    with pytest.raises(HandlerError, match="'path'"):
        await app.load()


async def test_without_a_loader_the_model_is_loaded_when_asked_for() -> None:
    app = processor(video=lambda frame: None)
    await app.load(path="m.pt")
    assert app.load_state is LoadState.LOADED


# --- streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", [0, 1, 2], ids=["plain", "async", "awaitable"])
async def test_start_and_stop_are_told_once_a_stream(colour: int) -> None:
    log: list[Any] = []
    app = processor(
        video=lambda frame: None,
        start=both(lambda params: log.append(dict(params)))[colour],
        stop=both(lambda: log.append("stop"))[colour],
    )
    await app.stream_stopped()
    for number in range(2):
        await app.stream_started({"stream": number})
        with pytest.raises(RuntimeError, match="app already runs in a stream"):
            await app.stream_started({})
        await app.stream_stopped()
        await app.stream_stopped()
    assert log == [{"stream": 0}, "stop", {"stream": 1}, "stop"]


async def test_a_start_handler_may_take_nothing() -> None:
    log: list[str] = []
    app = processor(video=lambda frame: None, start=lambda: log.append("start"))
    await app.stream_started({"width": 640})
    await app.stream_stopped()
    assert log == ["start"]


async def test_stop_is_due_also_when_start_failed() -> None:
    log: list[str] = []
    app = processor(video=lambda frame: None, start=fail, stop=lambda: log.append("stop"))
    with pytest.raises(HandlerError):
        await app.stream_started({})
    await app.stream_stopped()
    await app.stream_stopped()
    assert log == ["stop"]


async def test_stop_is_due_also_when_start_was_cancelled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log: list[str] = []

    async def hangs() -> None:
        await trio.sleep_forever()

    app = processor(video=lambda frame: None, start=hangs, stop=lambda: log.append("stop"))
    with trio.move_on_after(1):
        await app.stream_started({})
    await app.stream_stopped()
    await app.stream_stopped()
    assert log == ["stop"]


async def test_a_stop_that_fails_is_not_told_twice() -> None:
    app = processor(video=lambda frame: None, stop=functools.partial(fail))
    await app.stream_started({})
    with pytest.raises(HandlerError, match="raised ValueError"):
        await app.stream_stopped()
    await app.stream_stopped()
    await app.stream_started({})


def test_concurrency_is_the_video_handlers() -> None:
    @video_handler(concurrency=4)
    def handler(frame: VideoFrame) -> None: ...

    assert processor(video=handler).concurrency == 4
    assert processor(video=lambda frame: None).concurrency == 1
    assert processor(audio=lambda frame: None).concurrency == 1


async def test_a_concurrent_handler_gets_its_frames_at_once(picture: VideoFrame) -> None:
    meeting = threading.Barrier(4)

    @video_handler(concurrency=4)
    def handler(frame: VideoFrame) -> None:
        meeting.wait()

    app = processor(video=handler)
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(app.video, picture)
    assert not meeting.broken
