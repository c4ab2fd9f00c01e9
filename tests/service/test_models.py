"""Models: loaded once, in the background, shared where that is wished, warmed up, tried again."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trickle_trio.media.frames import VideoFrame
from trickle_trio.processor import FrameProcessor, LoadState, StreamProcessor
from trickle_trio.service.processors import processors_for
from trickle_trio.service.streams import Health, Streams, UnavailableError


class Loaded(FrameProcessor):
    """Loads a model, and notes what it sees. ``failures``: how often loading fails first."""

    made: list[Loaded]
    loads: int
    failures: int

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []
        type(self).made.append(self)
        super().__init__()

    def initialize(self) -> None:
        self.tokens = ["a"]
        self.device = "cpu"

    async def load_model(self) -> None:
        type(self).loads += 1
        await trio.sleep(0.01)
        if type(self).loads <= type(self).failures:
            raise OSError("no weights")
        self.model = object()

    async def process_video_async(self, frame: VideoFrame) -> VideoFrame:
        assert self.model
        self.sizes.append((frame.width, frame.height))
        return frame


@pytest.fixture
def kind() -> type[Loaded]:
    """A class of its own for each test."""

    class Fresh(Loaded):
        made: list[Loaded] = []  # noqa: RUF012
        loads = 0
        failures = 0

    return Fresh


async def test_each_processor_has_a_model_of_its_own(kind: type[Loaded]) -> None:
    processors = processors_for(kind, 3)
    for handlers in processors:
        await handlers.load()
    assert kind.loads == 3
    assert len({id(each.model) for each in kind.made}) == 3


async def test_one_model_for_all_is_loaded_once_whoever_asks(kind: type[Loaded]) -> None:
    processors = processors_for(kind, 3, share_model=True)
    async with trio.open_nursery() as nursery:
        for handlers in reversed(processors):
            nursery.start_soon(handlers.load)
            nursery.start_soon(handlers.load)
    assert {handlers.load_state for handlers in processors} == {LoadState.LOADED}
    assert kind.loads == 1
    assert len({id(each.model) for each in kind.made}) == 1
    assert len({id(each.tokens) for each in kind.made}) == 1
    assert len({id(each.sizes) for each in kind.made}) == 3, "what is a stream's stays its own"


async def test_a_shared_model_that_fails_is_tried_again_for_all(kind: type[Loaded]) -> None:
    kind.failures = 1
    processors = processors_for(kind, 2, share_model=True)
    for handlers in processors[:1]:
        with pytest.raises(Exception, match="no weights"):
            await handlers.load()
    await processors[1].load()
    assert kind.loads == 2
    await processors[0].load()
    assert kind.loads == 2
    assert len({id(each.model) for each in kind.made}) == 1
    assert [each.device for each in kind.made] == ["cpu", "cpu"], (
        "set by the attempt that failed too"
    )


async def test_a_model_that_cannot_be_shared_is_said_before_anything_runs(
    kind: type[Loaded],
) -> None:
    loaded = kind()
    await loaded.start()
    late = iter([loaded, kind()])
    with pytest.raises(ValueError, match="has its model already"):
        processors_for(lambda: next(late), 2, share_model=True)
    mixed = iter([kind(), StreamProcessor(lambda frame: frame)])
    with pytest.raises(ValueError, match="same loaders"):
        processors_for(lambda: next(mixed), 2, share_model=True)


async def test_a_model_that_lives_elsewhere_is_loaded_once_too() -> None:
    loads: list[int] = []
    processors = processors_for(
        lambda: StreamProcessor(lambda frame: frame, model_loader=lambda: loads.append(1)),
        3,
        share_model=True,
    )
    for handlers in processors:
        await handlers.load()
    assert loads == [1]


@pytest.mark.parametrize("share_model", [False, True])
async def test_a_picture_goes_through_before_it_is_ready(
    kind: type[Loaded], share_model: bool
) -> None:
    for handlers in processors_for(kind, 2, share_model=share_model, prewarm=(64, 48)):
        await handlers.load()
    seen = [each.sizes for each in kind.made]
    assert seen == ([[(64, 48)], []] if share_model else [[(64, 48)], [(64, 48)]])


async def test_a_picture_that_does_not_go_through_is_a_model_that_failed(serving: Any) -> None:
    def fail(frame: VideoFrame) -> VideoFrame:
        raise MemoryError(f"{frame.width} is too wide")

    async with serving(fail, prewarm=(4096, 16)) as api:
        await api.when("ERROR")
        status = (await api.get("/stream/status")).json()
        assert "4096 is too wide" in status["error_message"]


def test_a_picture_has_a_size() -> None:
    with pytest.raises(ValueError, match="prewarm"):
        processors_for(lambda frame: frame, 1, prewarm=(0, 5))


async def test_a_failed_model_is_asked_for_again_by_a_request(
    serving: Any, kind: type[Loaded]
) -> None:
    kind.failures = 1
    async with serving(kind, max_streams=2, share_model=True) as api:
        await api.when("ERROR")
        answer = await api.start(gateway_request_id="one")
        assert answer.status_code == 503
        assert "no weights" in answer.json()["message"]
        assert (await api.post("/api/model/load")).json()["status"] == "LOADING"
        await api.when("IDLE")
        loads = kind.loads
        assert (await api.post("/api/model/load")).json()["status"] == "IDLE"
        answer = await api.start(gateway_request_id="one", params={"load_model": True})
        assert answer.status_code == 200
    assert kind.loads == loads, "it is there already"


async def test_load_model_while_a_stream_runs_changes_nothing(
    serving: Any, kind: type[Loaded]
) -> None:
    async with serving(kind) as api:
        await api.when("IDLE")
        await api.start(gateway_request_id="one", params={"show_loading": "yes"})
        answer = await api.post("/stream/params", json={"load_model": True, "show_loading": 0})
        assert answer.status_code == 200
        params = (await api.get("/api/streams/one")).json()["params"]
        assert params["show_loading"] is False
        assert "load_model" not in params
    assert kind.loads == 1


async def test_idle_is_said_when_the_first_frame_has_nothing_to_wait_for(
    kind: type[Loaded],
) -> None:
    """A start that comes before is welcome all the same: what is still missing cannot fail."""
    [handlers] = processors_for(kind, 1)
    streams = Streams([handlers])
    seen = [streams.health]
    with pytest.raises(UnavailableError):
        streams.check_ready()
    await handlers.load()
    seen.append(streams.health)
    streams.check_ready()
    await handlers.prepare()
    seen.append(streams.health)
    assert seen == [Health.LOADING, Health.LOADING, Health.IDLE]


async def test_who_has_loaded_its_model_before_is_prepared_all_the_same(
    kind: type[Loaded],
) -> None:
    [handlers] = processors_for(kind, 1)
    await handlers.load()
    streams = Streams([handlers])
    async with trio.open_nursery() as nursery:
        await nursery.start(streams.run)
        await wait_all_tasks_blocked()
        assert streams.health is Health.IDLE
        nursery.cancel_scope.cancel()
    assert kind.loads == 1
