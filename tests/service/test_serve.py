"""The service's own life: its address, its end, and what it leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trickle_trio.media.encode import AudioEncoderSettings, VideoEncoderSettings
from trickle_trio.media.frames import VideoFrame
from trickle_trio.processor import StreamProcessor
from trickle_trio.service import Address, serve
from trickle_trio.stream.settings import StreamPolicy

PROGRAM = """
import sys, trio
from trickle_trio.service import serve
from trickle_trio.processor import StreamProcessor

def tint(frame):
    return frame

async def begin(params):
    print("stream", flush=True)

async def end():
    print("stopped", flush=True)

service = serve(StreamProcessor(video_processor=tint, on_stream_start=begin, on_stream_stop=end), port=int(sys.argv[1]))
"""

RUN = PROGRAM + "trio.run(service); print('over')"

AWAITED = (
    PROGRAM
    + """
async def main():
    await service()
    print("over")

trio.run(main)
"""
)


def passthrough(frame: VideoFrame) -> VideoFrame:
    return frame


def open_descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


async def test_nursery_start_reports_an_address_that_answers(nursery: trio.Nursery) -> None:
    address = await nursery.start(serve(passthrough, port=0))
    assert isinstance(address, Address)
    assert str(address) == f"http://127.0.0.1:{address.port}"
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{address}/health")).status_code == 200
    nursery.cancel_scope.cancel()


async def test_a_port_in_use_is_one_plain_oserror(nursery: trio.Nursery) -> None:
    address = await nursery.start(serve(passthrough, port=0))
    with pytest.raises(
        OSError, match=f"cannot listen on 127.0.0.1:{address.port}: the port is in use"
    ):
        await serve(passthrough, port=address.port)()
    nursery.cancel_scope.cancel()


async def test_a_service_runs_once(nursery: trio.Nursery) -> None:
    service = serve(passthrough, port=0)
    await nursery.start(service)
    with pytest.raises(RuntimeError, match="make a new service"):
        await service()
    nursery.cancel_scope.cancel()


async def test_the_apps_own_start_that_fails_is_said_unwrapped() -> None:
    service = serve(passthrough, port=0)

    @service.app.before_serving
    async def fail() -> None:
        raise LookupError("no such file of mine")

    with pytest.raises(Exception, match="no such file of mine") as caught:
        await service()
    assert not isinstance(caught.value, BaseExceptionGroup)


async def test_cancelling_stops_the_streams_and_leaves_nothing(serving: Any) -> None:
    stopped: list[str] = []

    async def stop() -> None:
        await trio.lowlevel.checkpoint()
        stopped.append("stopped")

    async def cycle() -> None:
        async with serving(
            StreamProcessor(video_processor=passthrough, on_stream_stop=stop)
        ) as api:
            await api.when("IDLE")
            assert (await api.start()).status_code == 200

    await cycle()
    descriptors, threads = open_descriptors(), threading.active_count()
    await cycle()
    assert stopped == ["stopped", "stopped"]
    assert open_descriptors() == descriptors
    assert threading.active_count() <= threads


async def test_the_end_does_not_wait_for_a_start_that_hangs(serving: Any) -> None:
    entered = trio.Event()
    answers: list[httpx.Response] = []

    async def hang(params: dict[str, Any]) -> None:
        entered.set()
        await trio.sleep_forever()

    async def start(api: Any) -> None:
        answers.append(await api.start())

    async with trio.open_nursery() as nursery:
        async with serving(
            StreamProcessor(video_processor=passthrough, on_stream_start=hang)
        ) as api:
            await api.when("IDLE")
            nursery.start_soon(start, api)
            await entered.wait()
    assert [answer.status_code for answer in answers] == [503]


async def test_the_end_does_not_wait_for_a_model_that_still_loads(serving: Any) -> None:
    left = trio.Event()

    async def load() -> None:
        try:
            await trio.sleep_forever()
        finally:
            left.set()

    async with serving(StreamProcessor(video_processor=passthrough, model_loader=load)) as api:
        assert await api.health() == "LOADING"
    assert left.is_set()


class CancelAt(trio.abc.Instrument):
    """Cancels a scope before the n-th step that any task takes."""

    def __init__(self, step: int, scope: trio.CancelScope) -> None:
        self.left = step
        self.scope = scope

    def before_task_step(self, task: object) -> None:
        self.left -= 1
        if self.left == 0:
            self.scope.cancel()


@pytest.mark.parametrize("steps", [range(1, 101), range(101, 201)], ids=str)
async def test_a_service_may_be_cancelled_at_any_moment(steps: range) -> None:
    for step in steps:
        with trio.CancelScope() as scope:
            instrument = CancelAt(step, scope)
            trio.lowlevel.add_instrument(instrument)
            try:
                async with trio.open_nursery() as nursery:
                    await nursery.start(serve(passthrough, port=0))
                    nursery.cancel_scope.cancel()
            finally:
                trio.lowlevel.remove_instrument(instrument)


async def test_an_exception_in_the_apps_nursery_costs_no_stream(serving: Any) -> None:
    service = serve(passthrough, port=0)

    async def fail() -> None:
        raise LookupError("on purpose")

    @service.app.route("/fail", methods=["POST"])
    async def start_failing() -> str:
        service.app.nursery.start_soon(fail)
        return "started"

    async with serving(service) as api:
        await api.when("IDLE")
        await api.start()
        assert (await api.post("/fail")).status_code == 200
        await wait_all_tasks_blocked()
        assert await api.health() == "OK"
        assert (await api.stop()).status_code == 200


@contextmanager
def program(code: str = RUN) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A program that is nothing but a service; its address, once it has said it."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    with process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert "Listening on http://127.0.0.1:" in line
            yield process, line.split()[4]
        finally:
            process.kill()


@pytest.mark.parametrize(("code", "number"), [(RUN, signal.SIGINT), (AWAITED, signal.SIGTERM)])
def test_a_program_that_is_nothing_but_a_service_ends_well_on_a_signal(
    code: str, number: signal.Signals
) -> None:
    with program(code) as (process, url):
        while httpx.post(f"{url}/api/stream/start", json={}).status_code != 200:
            pass
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert out.split() == ["stream", "stopped", "over"]
    assert "Traceback" not in err
    assert f"{number.name}: ending" in err


def test_a_port_in_use_ends_a_program_with_the_reason_on_its_last_line() -> None:
    with program() as (_, url):
        port = url.rsplit(":", 1)[1]
        second = subprocess.run(
            [sys.executable, "-c", RUN, port],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    assert second.returncode == 1
    assert second.stderr.strip().splitlines()[-1].startswith("OSError: ")
    assert "the port is in use" in second.stderr.strip().splitlines()[-1]


def test_what_streams_are_told_is_checked_at_once() -> None:
    with pytest.raises(TypeError, match="policy: expected StreamPolicy, got 'live'"):
        serve(passthrough, policy="live")  # type: ignore[arg-type]  # as a user may
    with pytest.raises(ValueError, match=r"libx264 cannot encode so: .*presett"):
        serve(passthrough, video=VideoEncoderSettings(options={"presett": "fast"}))


async def test_what_streams_are_told_reaches_them(serving: Any) -> None:
    policy = StreamPolicy(pace="every frame", segment_seconds=1, audio_track=1)
    video = VideoEncoderSettings(options={"preset": "veryfast"})
    audio = AudioEncoderSettings(codec="libopus")
    service = serve(passthrough, port=0, policy=policy, video=video, audio=audio)
    async with serving(service) as api:
        await api.when("IDLE")
        assert (await api.start()).is_success
        [running] = service.app.streams.running
        settings = running.settings
        assert (settings.policy, settings.video, settings.audio) == (policy, video, audio)


async def test_and_comes_by_way_of_a_stream_processor(serving: Any) -> None:
    policy = StreamPolicy(segment_seconds=1)
    processor = StreamProcessor(passthrough, port=0, policy=policy)
    service: Any = processor._service()
    async with serving(service) as api:
        await api.when("IDLE")
        assert (await api.start()).is_success
        assert service.app.streams.running[0].settings.policy == policy
