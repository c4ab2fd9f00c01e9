"""The fake stream that users test their processors in behaves as a stream does."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import trio
from attrs import field, frozen, validators

from trickle_trio import (
    AudioFrame,
    FrameProcessor,
    HandlerError,
    OverlayConfig,
    StreamProcessor,
    VideoFrame,
    Withheld,
    on_stream_start,
    param_updater,
    video_handler,
)
from trickle_trio.processor import ParamsError
from trickle_trio.testing import open_stream


def picture(value: int) -> VideoFrame:
    return VideoFrame.from_ndarray(np.full((48, 64, 3), value, np.uint8))


def sound(value: float) -> AudioFrame:
    return AudioFrame.from_ndarray(np.full((2, 960), value, np.float32))


class Recorder(FrameProcessor):
    """Notes what is called, and where."""

    @frozen
    class Params:
        gain: float = field(default=0.5, validator=validators.ge(0))
        label: str = ""

    def __init__(self, **load: Any) -> None:
        super().__init__(**load)
        self.calls: list[Any] = []

    def load_model(self, **given: Any) -> None:
        assert threading.current_thread() is not threading.main_thread()
        self.calls.append(("load", given))

    async def on_stream_start(self, params: Params) -> None:
        self.calls.append(("start", params))
        self.params = params

    @param_updater
    async def change(self, params: Params) -> None:
        if params.label == "forbidden":
            raise ValueError("no")
        self.calls.append(("change", params))
        self.params = params

    async def on_stream_stop(self) -> None:
        self.calls.append("stop")

    async def process_video_async(self, frame: VideoFrame) -> VideoFrame:
        return frame.replace_tensor(frame.tensor * self.params.gain)

    async def process_audio_async(self, frame: AudioFrame) -> AudioFrame:
        return frame.replace_samples(frame.samples * self.params.gain)


async def test_a_processor_lives_through_a_stream_as_in_a_service() -> None:
    processor = Recorder()
    params = processor.Params
    async with open_stream(processor, params={"label": "a"}, load={"path": "x"}) as stream:
        assert stream.params == {"gain": 0.5, "label": "a"}
        shown = await stream.video(picture(200))
        assert isinstance(shown, VideoFrame)
        assert shown.to_ndarray().mean() == pytest.approx(100, abs=1)
        [heard] = await stream.audio(sound(0.5))
        assert heard.samples.mean() == pytest.approx(0.25)
        await stream.update_params({"gain": 1})
        assert stream.params == {"gain": 1.0, "label": "a"}
    assert processor.calls == [
        ("load", {"path": "x"}),
        ("start", params(0.5, "a")),
        ("change", params(1.0, "a")),
        "stop",
    ]
    async with open_stream(processor):
        pass
    assert processor.calls[4:] == [("start", params()), "stop"]


async def test_wrong_parameters_change_nothing() -> None:
    processor = Recorder()
    async with open_stream(processor) as stream:
        with pytest.raises(ParamsError, match="gain"):
            await stream.update_params({"gain": -1})
        with pytest.raises(HandlerError, match="raised ValueError: no"):
            await stream.update_params({"label": "forbidden"})
        assert stream.params == {"gain": 0.5, "label": ""}
    with pytest.raises(ParamsError, match="gain"):
        async with open_stream(processor, params={"gain": "loud"}):
            pytest.fail("it was started")
    assert processor.calls.count("stop") == 1


async def test_what_the_processor_sends_is_kept() -> None:
    async def talk(frame: VideoFrame) -> VideoFrame:
        assert await processor.send_data({"boxes": [1, 2]})
        assert await processor.send_data("text")
        assert await processor.send_monitoring_event({"type": "seen", "at": (1, 2)}, "mine")
        assert await processor.send_input_frame(picture(1))
        assert not await processor.send_input_frame(sound(0))
        assert processor.set_loading_overlay(True)
        assert processor.set_loading_progress(0.25, "warming up")
        assert processor.set_loading_progress(0.5)
        with pytest.raises(TypeError):
            await processor.send_monitoring_event({"type": object()})
        with pytest.raises(TypeError, match="message"):
            processor.set_loading_progress(0.5, 7)  # type: ignore[arg-type]
        return frame

    processor = StreamProcessor(video_processor=talk)
    async with open_stream(processor) as stream:
        assert stream.overlay == OverlayConfig()
        await stream.video(picture(9))
    assert stream.data == ['{"boxes": [1, 2]}', "text"]
    assert stream.events == [("mine", {"type": "seen", "at": [1, 2]})]
    assert [frame.to_ndarray().mean() for frame in stream.inputs] == [1]
    assert stream.is_overlay_on
    assert (stream.overlay.progress, stream.overlay.message) == (0.5, "warming up")
    assert not await processor.send_data("to nobody")


async def test_an_overlay_that_is_turned_off_is_not_shown() -> None:
    async def ask(_: VideoFrame) -> None:
        assert not processor.set_loading_overlay(True)
        assert not processor.set_loading_progress(0.5)

    processor = StreamProcessor(video_processor=ask, overlay_config=OverlayConfig(enabled=False))
    async with open_stream(processor) as stream:
        await stream.video(picture(9))
        assert not stream.is_overlay_on


async def test_plain_functions_withheld_frames_and_faults() -> None:
    def odd(frame: VideoFrame) -> Any:
        value = int(frame.to_ndarray().mean())
        return {0: Withheld, 1: None, 2: "nonsense"}.get(value) or (frame if value < 3 else 1 / 0)

    async with open_stream(odd) as stream:
        assert await stream.video(picture(0)) is Withheld
        frame = picture(1)
        assert await stream.video(frame) is frame
        [untouched] = await stream.audio(sound(0.5))
        assert untouched.samples.mean() == 0.5
        with pytest.raises(HandlerError, match="nonsense"):
            await stream.video(picture(2))
        with pytest.raises(HandlerError, match="ZeroDivisionError"):
            await stream.video(picture(3))


class Steps:
    """Fails where it is told to."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.stops = 0

    @on_stream_start
    async def begin(self) -> None:
        if self.fails == "start":
            raise RuntimeError("no start")

    @video_handler
    async def picture(self, frame: VideoFrame) -> VideoFrame:
        if self.fails == "frame":
            await trio.sleep_forever()
        return frame


@pytest.mark.parametrize("place", ["start", "body", "frame"])
async def test_however_it_ends_the_processor_is_stopped(place: str, autojump_clock: Any) -> None:
    recorder = Recorder()
    processor = StreamProcessor(
        video_processor=Steps(place).picture,
        on_stream_start=Steps(place).begin,
        on_stream_stop=recorder.on_stream_stop,
    )
    raises = {"start": HandlerError, "body": KeyError, "frame": trio.TooSlowError}[place]
    with pytest.raises(raises):
        with trio.fail_after(10):
            async with open_stream(processor) as stream:
                await stream.video(picture(0))
                raise KeyError
    assert recorder.calls == ["stop"]
    async with open_stream(StreamProcessor(video_processor=Steps().picture)) as stream:
        await stream.video(picture(0))


async def test_a_stop_that_hangs_is_told(autojump_clock: Any) -> None:
    """In a stream it is cut off without a word."""
    processor = StreamProcessor(video_processor=Steps().picture, on_stream_stop=trio.sleep_forever)
    began = trio.current_time()
    with pytest.raises(trio.TooSlowError):
        async with open_stream(processor):
            pass
    assert trio.current_time() - began == pytest.approx(5)


async def test_one_stream_at_a_time() -> None:
    processor = Recorder()
    async with open_stream(processor) as stream:
        with pytest.raises(RuntimeError, match="already runs in a stream"):
            async with open_stream(processor):
                pytest.fail("it was started")
        assert await processor.send_data("still the first one's")
    assert stream.data == ["still the first one's"]
    with pytest.raises(TypeError, match="got 7"):
        async with open_stream(7):
            pytest.fail("it was started")


def make() -> Recorder:
    return Recorder()


@pytest.mark.parametrize("factory", [Recorder, make], ids=["class", "function"])
async def test_what_makes_processors_makes_one(factory: Any) -> None:
    async with open_stream(factory, params={"gain": 1}) as stream:
        frame = await stream.video(picture(10))
        assert isinstance(frame, VideoFrame)
        assert frame.to_ndarray().mean() == 10


async def test_parameters_of_the_stream_do_not_reach_the_processor() -> None:
    got: list[Any] = []
    ours = {"width": 64, "height": 48, "max_framerate": 30, "show_loading": True}
    processor = StreamProcessor(
        video_processor=Steps().picture, on_stream_start=got.append, param_updater=got.append
    )
    async with open_stream(processor, params=ours | {"a": 1}) as stream:
        await stream.update_params(ours | {"b": 2})
        assert stream.params == {"a": 1, "b": 2}
    assert got == [{"a": 1}, {"b": 2}]
