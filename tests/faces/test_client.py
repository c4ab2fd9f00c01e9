"""A stream without a service."""

from __future__ import annotations

import numpy as np
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.stage import like, open_stage
from trickle_trio import (
    End,
    FrameProcessor,
    HandlerError,
    Outcome,
    SimpleTrickleClient,
    StreamProcessor,
    TrickleClient,
    VideoFrame,
)
from trickle_trio.frames import VideoOutput


class Negative(FrameProcessor):
    """Records its life."""

    def __init__(self) -> None:
        super().__init__()
        self.life: list[object] = []

    async def load_model(self) -> None:
        self.life.append("loaded")

    async def on_stream_start(self, params: dict[str, object]) -> None:
        self.life.append(params)

    async def process_video_async(self, frame: VideoFrame) -> VideoFrame:
        return frame.replace_tensor(1 - frame.tensor)

    async def update_params(self, params: dict[str, object]) -> None:
        self.life.append(params)

    async def on_stream_stop(self) -> None:
        self.life.append("stopped")


async def test_it_runs_until_it_is_stopped_and_may_be_started_again(relay: str) -> None:
    negative = Negative()
    async with open_stage(relay) as stage:
        client = TrickleClient(
            subscribe_url=stage.url("in"),
            publish_url=stage.url("out"),
            frame_processor=negative,
            max_framerate=60,
        )
        outcomes: list[Outcome | None] = []

        async def run() -> None:
            outcomes.append(await client.start("one", params={"level": 1}))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            stage.roll()
            await stage.shows(lambda before, after: like(255 - before, after))
            await client.update_params({"level": 2})
            assert client.running
            numbers = client.statistics()
            assert numbers is not None
            assert numbers.frames_out > 0
            await client.stop()
            assert not client.running
            assert negative.life[-1] == "stopped"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.start)
            await stage.came_in.until(lambda: len(negative.life) == 5)
            client.stop()
    assert outcomes == [None]
    assert negative.life == ["loaded", {"level": 1}, {"level": 2}, "stopped", {}, "stopped"]


async def test_it_ends_with_its_input_and_says_so(relay: str) -> None:
    client = TrickleClient(f"{relay}/in", f"{relay}/out")
    with trio.fail_after(30):
        async with open_stage(relay) as stage, trio.open_nursery() as nursery:
            outcomes: list[Outcome | None] = []

            async def run() -> None:
                outcomes.append(await client.start())
                nursery.cancel_scope.cancel()

            nursery.start_soon(run)
            stage.roll()
            before, after = await stage.shows(like)
            await stage.cut()
            await trio.sleep_forever()
    assert like(before, after), "without a processor pictures pass unchanged"
    assert outcomes == [Outcome(End.INPUT_ENDED)]


async def test_cancelling_stops_it_and_leaves_nothing(relay: str) -> None:
    negative = Negative()
    async with open_stage(relay) as stage, trio.open_nursery() as nursery:
        client = TrickleClient(stage.url("in"), stage.url("out"), frame_processor=negative)
        nursery.start_soon(client.start)
        stage.roll()
        await stage.went_out.until(lambda: stage.went_out.pictures)
        nursery.cancel_scope.cancel()
    assert not client.running
    assert negative.life == ["loaded", {}, "stopped"]


async def test_simply(relay: str) -> None:
    """As the documents of the first generation have it: a plain function, a ``VideoOutput``, a size."""

    def red(frame: VideoFrame) -> VideoOutput:
        tensor = frame.tensor.clone()
        tensor[..., 0] = 1
        return VideoOutput(frame.replace_tensor(tensor), "red")

    async with open_stage(relay) as stage, trio.open_nursery() as nursery:
        client = SimpleTrickleClient(subscribe_url=stage.url("in"), publish_url=stage.url("out"))
        nursery.start_soon(lambda: client.process_stream(red, "simple", width=80, height=48))
        stage.roll()
        after = await stage.went_out.until(lambda: [*stage.went_out.pictures.values()])
        assert after[-1].shape == (48, 80, 3)
        assert after[-1][..., 0].mean() > 200
        await client.stop()
    assert np.ptp(after[-1][..., 2]) > 100


async def test_one_stream_at_a_time() -> None:
    processor = StreamProcessor(lambda frame: frame, on_stream_start=trio.sleep_forever)
    client = TrickleClient(frame_processor=processor)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.start)
        await wait_all_tasks_blocked()
        with pytest.raises(RuntimeError, match="one stream at a time"):
            await client.start()
        with pytest.raises(ValueError, match="max_framerate: must be from 1 to 60, not 99"):
            await client.update_params({"max_framerate": 99})
        await client.stop()


async def test_what_is_wrong_is_said_at_once_or_by_start() -> None:
    with pytest.raises(TypeError, match="expected a function that takes a frame"):
        TrickleClient(frame_processor=3)
    with pytest.raises(ValueError, match=r"publish_url: .* names no channel"):
        TrickleClient(publish_url="http://127.0.0.1:1/")
    assert TrickleClient().statistics() is None
    with pytest.raises(RuntimeError, match="no stream runs"):
        await TrickleClient().update_params({"level": 1})
    await TrickleClient().stop()
    await SimpleTrickleClient("http://127.0.0.1:1/a", "http://127.0.0.1:1/b").stop()

    def load() -> None:
        raise OSError("no such model")

    broken = TrickleClient(frame_processor=StreamProcessor(lambda f: f, model_loader=load))
    with pytest.raises(HandlerError, match="no such model"):
        await broken.start()
    assert not broken.running
