"""Several streams in one service, with real media through a real relay: what happens to one is its own affair."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from trickle_core.relay_settings import RelaySettings
from trickle_trio.media.frames import VideoFrame
from trickle_trio.processor import FrameProcessor, video_handler
from trickle_trio.relay import serve_relay
from trickle_trio.stream.settings import Pace, StreamPolicy


class Moody(FrameProcessor):
    """Does what its parameters say: well, or badly in some way."""

    mood = "good"

    async def on_stream_start(self, params: dict[str, Any]) -> None:
        self.mood = params.get("mood", "good")
        self.got: list[Any] = []
        if self.mood == "no start":
            raise ValueError("not today")

    def update_params(self, params: dict[str, Any]) -> None:
        self.got.append(params)
        if self.mood == "no params":
            raise ValueError("not like this")

    async def on_stream_stop(self) -> None:
        if self.mood == "no stop":
            raise ValueError("not over yet")

    @video_handler
    async def handle(self, frame: VideoFrame) -> Any:
        if self.mood == "raises":
            raise ValueError("not this frame")
        if self.mood == "wrong":
            return "a picture"
        if self.mood == "hangs":
            await trio.sleep_forever()
        return frame


@pytest.fixture
async def relay(nursery: trio.Nursery) -> str:
    settings = RelaySettings(window=20)

    async def serve(*, task_status: trio.TaskStatus[Any]) -> None:
        await serve_relay(port=0, settings=settings, task_status=task_status)

    return str((await nursery.start(serve)).url)


class Service:
    """A service in which the stream "good" runs, and what its neighbour goes through."""

    def __init__(self, api: Any, relay: str) -> None:
        self.api, self.relay = api, relay
        self.turn = 0

    async def start(self, name: str, mood: str, *, source: str = "in") -> Any:
        self.turn += 1
        return await self.api.start(
            gateway_request_id=name,
            subscribe_url=f"{self.relay}/{source}",
            publish_url=f"{self.relay}/out-{name}-{self.turn}",
            params={"mood": mood, "max_framerate": 60},
        )

    async def figures(self, name: str) -> Any:
        return (await self.api.get(f"/api/streams/{name}")).json()

    async def flows(self, name: str, frames: int = 20) -> None:
        """Wait until so many more frames of this stream have come out."""
        until = (await self.figures(name))["frames_out"] + frames
        with trio.fail_after(10):
            while (await self.figures(name))["frames_out"] < until:
                pass


async def starts_and_stops(service: Service) -> None:
    assert (await service.start("other", "good")).status_code == 200
    await service.flows("other", 5)
    assert (await service.api.delete("/api/streams/other")).status_code == 200


async def does_not_start(service: Service) -> None:
    answer = await service.start("other", "no start")
    assert (answer.status_code, "not today" in answer.text) == (400, True)


async def has_no_input(service: Service) -> None:
    assert (await service.start("other", "good", source="nowhere")).status_code == 200
    assert (await service.figures("other"))["input_state"] == "waiting"
    assert (await service.api.delete("/api/streams/other")).status_code == 200


def misbehaves(mood: str) -> Callable[[Service], Awaitable[None]]:
    async def run(service: Service) -> None:
        assert (await service.start("other", mood)).status_code == 200
        if mood == "no params":
            answer = await service.api.patch("/api/streams/other/params", json={"a": 1})
            assert answer.status_code == 400
        elif mood not in ("no stop", "hangs"):
            await service.flows("other", 5)
            assert (await service.figures("other"))["errors"]["video"] >= 5
        assert (await service.api.delete("/api/streams/other")).status_code == 200

    run.__name__ = mood
    return run


async def test_a_neighbour_may_do_as_it_likes(
    serving: Any, relay: str, publish: Any, coded: Any, nursery: trio.Nursery
) -> None:
    """Every frame of the one stream comes out, whatever the other does beside it."""
    made: list[Moody] = []

    def make() -> Moody:
        made.append(Moody())
        return made[-1]

    fates = [
        starts_and_stops,
        does_not_start,
        has_no_input,
        *map(misbehaves, ("raises", "wrong", "hangs", "no params", "no stop")),
    ]
    nursery.start_soon(publish, f"{relay}/in", coded())
    # Live, a busy machine would drop frames too.
    policy = StreamPolicy(pace=Pace.EVERY_FRAME)
    async with serving(make, max_streams=2, policy=policy) as api:
        await api.when("IDLE")
        service = Service(api, relay)
        assert (await service.start("good", "good")).status_code == 200
        await service.flows("good")
        before = await service.figures("good")
        for fate in fates:
            await fate(service)
            assert await api.health() == "OK"
        await service.flows("good")
        after = await service.figures("good")
        names = [each["request_id"] for each in (await api.get("/api/streams")).json()["streams"]]
        assert names == ["good"]
        assert (await api.start(gateway_request_id="good")).status_code == 400
        ended = (await api.get("/api/streams")).json()["ended"]
        assert len(ended) == len(fates)
    assert after["dropped"] == before["dropped"], "what its own start cost, and no more"
    assert after["errors"] == before["errors"] == {}
    assert after["segments_lost"] == after["segments_skipped"] == 0
    good = next(each for each in made if getattr(each, "got", None) is not None)
    assert good.got == [], "parameters of the other"
    assert len(made) == 2


def held() -> tuple[int, int]:
    """How many tasks this run has, and how many files this process."""
    files = Path("/proc/self/fd")
    tasks = trio.lowlevel.current_statistics().tasks_living
    return tasks, len(list(files.iterdir())) if files.exists() else 0


async def test_again_and_again_with_output_each_time(
    serving: Any, relay: str, publish: Any, coded: Any, nursery: trio.Nursery
) -> None:
    nursery.start_soon(publish, f"{relay}/in", coded())
    async with serving(Moody) as api:
        await api.when("IDLE")
        service = Service(api, relay)
        then = (0, 0)
        for turn in range(8):
            assert (await service.start("again", "good")).status_code == 200
            await service.flows("again", 3)
            assert (await api.stop()).status_code == 200
            assert await api.health() == "IDLE"
            if turn == 1:  # what is made once, is made
                then = held()
        with trio.fail_after(10):  # the relay lets go of its connections
            while any(now >= before + 6 for now, before in zip(held(), then, strict=True)):
                await trio.lowlevel.checkpoint()  # less than one a turn: some come and go
        assert [each["reason"] for each in (await api.get("/api/streams")).json()["ended"]] == [
            "stopped"
        ] * 8


async def test_two_streams_have_numbers_of_their_own(
    serving: Any, relay: str, publish: Any, coded: Any, nursery: trio.Nursery
) -> None:
    nursery.start_soon(publish, f"{relay}/in", coded())
    async with serving(Moody, max_streams=2) as api:
        await api.when("IDLE")
        service = Service(api, relay)
        await service.start("good", "good")
        await service.start("bad", "raises")
        await service.flows("good")
        await service.flows("bad")
        good, bad = await service.figures("good"), await service.figures("bad")
        assert good["errors"] == {}
        assert bad["errors"].keys() == {"video"}
        assert "not this frame" in bad["last_error"]
        assert (await api.patch("/api/streams/bad/params", json={"a": 1})).status_code == 200
        assert "a" not in (await service.figures("good"))["params"]
        assert (await api.start(gateway_request_id="third")).status_code == 503
        assert (await api.post("/stream/stop", json={"gateway_request_id": "bad"})).is_success
        await service.flows("good")
        assert (await service.figures("good"))["errors"] == {}
