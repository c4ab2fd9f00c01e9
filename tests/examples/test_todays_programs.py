"""Programs as they are written for the asyncio library, of every shape that its documents show.

Each stands here in its old form. ``migrated`` changes what docs/migrating.md says is to be changed, and nothing else.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import trio

from tests.stage import PATIENT, Picture, like, open_stage
from trickle_core.relay_settings import RelaySettings
from trickle_trio import TricklePublisher, open_subscription
from trickle_trio.relay import serve_relay

FUNCTIONS = """
import asyncio
import logging
from pytrickle import StreamProcessor
from pytrickle.frames import AudioFrame, VideoFrame

logging.basicConfig(level=logging.INFO)
gain = 1.0

async def load(**kwargs):
    await asyncio.sleep(0.01)
    logging.info("loaded")

async def darken(frame: VideoFrame) -> VideoFrame:
    tensor = frame.tensor.clone()
    return frame.replace_tensor(tensor * gain)

async def listen(frame: AudioFrame):
    return [frame]

async def change(params: dict):
    global gain
    gain = params["gain"]

if __name__ == "__main__":
    processor = StreamProcessor(
        video_processor=darken,
        audio_processor=listen,
        model_loader=load,
        param_updater=change,
        name="darken",
        port=8000,
    )
    processor.run()
"""

HANDLERS = """
import asyncio
import numpy as np
from pytrickle import StreamProcessor
from pytrickle.decorators import (
    audio_handler, model_loader, on_stream_start, on_stream_stop, param_updater, video_handler,
)

class Handlers:
    def __init__(self):
        self.gain = None
        self.started = False

    @model_loader
    async def load(self, **kwargs):
        self.gain = 1.0

    @on_stream_start
    async def begin(self):
        self.started = True

    @video_handler
    async def picture(self, frame):
        assert self.started
        return frame.replace_tensor(frame.tensor * self.gain)

    @audio_handler
    async def sound(self, frame):
        return [frame.replace_samples(np.asarray(frame.samples))]

    @param_updater
    async def change(self, params):
        if "gain" in params:
            self.gain = params["gain"]

    @on_stream_stop
    async def end(self):
        del self.gain

async def main():
    processor = StreamProcessor.from_handlers(Handlers(), name="darken", port=8000)
    await processor.run_forever()

if __name__ == "__main__":
    asyncio.run(main())
"""

SUBCLASS = """
import asyncio
from typing import List, Optional
from pytrickle import FrameProcessor, StreamServer
from pytrickle.frames import AudioFrame, VideoFrame

class Darken(FrameProcessor):
    def __init__(self, gain: float, **kwargs):
        self.first_gain = gain
        super().__init__(**kwargs)

    async def initialize(self):
        self.gain = None

    def load_model(self, **kwargs):
        self.gain = self.first_gain

    async def process_video_async(self, frame: VideoFrame) -> Optional[VideoFrame]:
        return frame.replace_tensor(frame.tensor.clone() * self.gain)

    async def process_audio_async(self, frame: AudioFrame) -> Optional[List[AudioFrame]]:
        return [frame]

    def update_params(self, params: dict):
        self.gain = params.get("gain", self.gain)

async def main():
    processor = Darken(gain=1.0)
    await processor.start()
    server = StreamServer(frame_processor=processor, port=8000, capability_name="darken")
    await server.run_forever()

if __name__ == "__main__":
    asyncio.run(main())
"""

APP = """
import asyncio
from pytrickle import VideoOutput, create_app

def darken(frame):
    return VideoOutput(frame.replace_tensor(frame.tensor * 0.5), "darken")

async def main():
    app = create_app(frame_processor=darken)
    await app.run_forever()

if __name__ == "__main__":
    asyncio.run(main())
"""

FIRST_APP = """
import asyncio
from pytrickle import TrickleApp, VideoOutput

def darken(frame):
    return VideoOutput(frame.replace_tensor(frame.tensor * 0.5), "darken")

async def main():
    app = TrickleApp(frame_processor=darken, port=8000)
    await app.run_forever()

if __name__ == "__main__":
    asyncio.run(main())
"""

SIMPLE = """
import asyncio
import torch
from pytrickle import SimpleTrickleClient
from pytrickle.frames import VideoFrame, VideoOutput

def darken(frame: VideoFrame) -> VideoOutput:
    tensor = frame.tensor.clone()
    tensor[..., :] = torch.clamp(tensor[..., :] * 0.5, 0, 1)
    return VideoOutput(frame.replace_tensor(tensor), "darken")

async def main():
    client = SimpleTrickleClient(
        subscribe_url="http://localhost:3389/in", publish_url="http://localhost:3389/out"
    )
    await client.process_stream(
        frame_processor=darken, request_id="simple", width=160, height=96
    )

if __name__ == "__main__":
    asyncio.run(main())
"""

CLIENT = """
import asyncio
from pytrickle import FrameProcessor, TrickleClient

class Darken(FrameProcessor):
    gain = 1.0

    async def process_video_async(self, frame):
        return frame.replace_tensor(frame.tensor * self.gain)

    async def update_params(self, params):
        self.gain = params["gain"]

async def main():
    client = TrickleClient(
        subscribe_url="http://localhost:3389/in",
        publish_url="http://localhost:3389/out",
        control_url="http://localhost:3389/control",
        events_url="http://localhost:3389/events",
        width=160,
        height=96,
        frame_processor=Darken(),
    )
    await client.start("with control")

if __name__ == "__main__":
    asyncio.run(main())
"""

TEXT = """
import asyncio
import json
from pytrickle import StreamProcessor

class Counter(StreamProcessor):
    def __init__(self):
        self.count = 0
        super().__init__(video_processor=self.picture, name="counter", port=8000)

    async def picture(self, frame):
        self.count += 1
        if self.count % 5 == 0:
            await self.send_data(json.dumps({"count": self.count}))
            await self.send_monitoring_event({"count": self.count}, "count")
        return frame

async def main():
    await Counter().run_forever()

if __name__ == "__main__":
    asyncio.run(main())
"""

SERVICES = {
    "functions": FUNCTIONS,
    "handlers": HANDLERS,
    "subclass": SUBCLASS,
    "app": APP,
    "first app": FIRST_APP,
}
PARAMETERS = {"functions", "handlers", "subclass"}

CHANGES = (
    (r"\bfrom pytrickle\b", "from trickle_trio"),
    (r"\bimport asyncio\b", "import trio"),
    (r"\basyncio\.run\((\w+)\(\)\)", r"trio.run(\1)"),
    (r"\basyncio\.sleep\b", "trio.sleep"),
)


def migrated(program: str) -> str:
    """Change imports, ``asyncio.run`` and ``asyncio.sleep``."""
    for old, new in CHANGES:
        program = re.sub(old, new, program)
    assert "asyncio" not in program
    return program


def placed(program: str, port: int, relay: str) -> str:
    """Let it meet with our relay, on a free port."""
    program = program.replace("http://localhost:3389", relay).replace("port=8000", f"port={port}")
    return program.replace("(frame_processor=darken)", f"(frame_processor=darken, port={port})")


def main_of(program: str) -> Any:
    names: dict[str, Any] = {"__name__": "program"}
    exec(migrated(program), names)  # noqa: S102  our own words
    return names["main"]


def darker(before: Picture, after: Picture) -> bool:
    return like(after, before * 0.5, 6)


async def until_it_answers(url: str) -> str:
    async with httpx.AsyncClient() as client:
        while True:
            try:
                await client.get(f"{url}/health")
            except httpx.TransportError:
                await trio.lowlevel.checkpoint()
            else:
                return url


@pytest.mark.parametrize("name", ["handlers", "subclass", "app", "first app"])
async def test_a_service(name: str, relay: str, unused_port: int) -> None:
    program = placed(SERVICES[name], unused_port, relay)
    async with open_stage(relay) as stage:
        stage.nursery.start_soon(main_of(program))
        await stage.start(await until_it_answers(f"http://127.0.0.1:{unused_port}"))
        if name in PARAMETERS:
            await stage.shows(like)
            await stage.change(gain=0.5)
        await stage.shows(darker)
        if name == "subclass":
            assert (await stage.api.get("/version")).json()["model_id"] == "darken"
        assert (await stage.api.post("/api/stream/stop")).is_success


@pytest.mark.parametrize("name", ["functions", "app"])
async def test_as_a_program_of_its_own_until_ctrl_c(
    name: str, relay: str, unused_port: int, tmp_path: Path
) -> None:
    path = tmp_path / "program.py"
    path.write_text(migrated(placed(SERVICES[name], unused_port, relay)), encoding="utf-8")
    command = [sys.executable, "-W", "error", str(path)]
    async with open_stage(relay) as stage:
        process = await trio.lowlevel.open_process(command, stderr=subprocess.PIPE)
        try:
            said = await heard_until(process, "Listening on")
            await stage.start(f"http://127.0.0.1:{unused_port}")
            if name in PARAMETERS:
                await stage.shows(like)
                await stage.change(gain=0.5)
            await stage.shows(darker)
            process.send_signal(signal.SIGINT)
            said += await heard_until(process, None)
            assert await process.wait() == 0
        finally:
            process.kill()
            await process.wait()
    assert "Traceback" not in said


async def heard_until(process: trio.Process, word: str | None) -> str:
    """What it says on stderr, up to this word or to its end."""
    said = b""
    assert process.stderr is not None
    while word is None or word not in said.decode(errors="replace"):
        piece = await process.stderr.receive_some()
        if not piece:
            assert word is None, said.decode()
            await process.stderr.aclose()
            break
        said += piece
    return said.decode()


async def test_a_client_with_a_function(relay: str) -> None:
    async with open_stage(relay) as stage:
        stage.nursery.start_soon(main_of(placed(SIMPLE, 0, relay)))
        stage.roll()
        await stage.shows(darker)


async def test_a_client_with_control_and_events(nursery: trio.Nursery) -> None:
    # Whoever listens may come late on a busy machine, and is to hear all that was said all the same.
    settings = RelaySettings(window=50)
    relay = str((await nursery.start(partial(serve_relay, port=0, settings=settings))).url)
    said: list[dict[str, Any]] = []
    async with open_stage(relay) as stage:
        stage.nursery.start_soon(main_of(placed(CLIENT, 0, relay)))
        stage.nursery.start_soon(listen, stage.url("events"), said)
        stage.roll()
        await stage.shows(like)
        async with TricklePublisher(stage.url("control"), "application/json") as control:
            async with await control.next() as message:
                await message.write(b'{"gain": 0.5}')
            await stage.shows(darker)
        await stage.went_out.until(lambda: "params_updated" in types(said))
    assert types(said).index("stream_started") < types(said).index("params_updated")


async def listen(url: str, said: list[dict[str, Any]]) -> None:
    """Hear what is said on an events channel."""
    async with open_subscription(url, settings=PATIENT) as subscription:
        async for segment in subscription:
            said.append(json.loads(await segment.read()))  # noqa: PERF401  heard one by one


def types(said: list[dict[str, Any]]) -> list[str]:
    return [str(each["event"].get("type")) for each in said]


async def test_text_beside_the_picture(relay: str, unused_port: int) -> None:
    async with open_stage(relay) as stage:
        stage.nursery.start_soon(main_of(placed(TEXT, unused_port, relay)))
        await stage.start(await until_it_answers(f"http://127.0.0.1:{unused_port}"))
        assert [json.loads(line) for line in await stage.lines(2)] == [{"count": 5}, {"count": 10}]


BATCHED = """
import asyncio
from pytrickle import SimpleTrickleClient, VideoOutput

def redden(frame):
    tensor = frame.tensor.clone()
    tensor[:, :, :, 0] = 1
    return VideoOutput(frame.replace_tensor(tensor), "red")

async def main():
    await SimpleTrickleClient("http://localhost:3389/in", "http://localhost:3389/out").process_stream(redden)

if __name__ == "__main__":
    asyncio.run(main())
"""


async def test_a_tensor_taken_for_a_batch_is_explained_and_the_pictures_pass(
    relay: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The first generation's tensors were [1, height, width, 3]."""
    async with open_stage(relay) as stage:
        stage.nursery.start_soon(main_of(placed(BATCHED, 0, relay)))
        stage.roll()
        await stage.shows(like)
    assert "too many indices" in caplog.text
    assert (
        'a frame\'s tensor is [height, width, 3]: to_tensor(layout="BHWC") has a batch of one'
        in caplog.text
    )


async def test_a_batch_of_one_may_be_given_back(relay: str) -> None:
    changed = BATCHED.replace("frame.tensor.clone()", 'frame.to_tensor(layout="BHWC")')
    async with open_stage(relay) as stage:
        stage.nursery.start_soon(main_of(placed(changed, 0, relay)))
        stage.roll()
        await stage.shows(lambda before, after: like(after, np.maximum(before, [255, 0, 0]), 6))


WRONG = """
import asyncio
from pytrickle import StreamProcessor

async def wrong(frame):
    return {"frame": frame}

async def main():
    await StreamProcessor(video_processor=wrong, port=8000).run_forever()

if __name__ == "__main__":
    asyncio.run(main())
"""


async def test_a_wrong_return_says_what_it_is_and_the_pictures_pass(
    relay: str, unused_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_stage(relay) as stage:
        stage.nursery.start_soon(main_of(placed(WRONG, unused_port, relay)))
        await stage.start(await until_it_answers(f"http://127.0.0.1:{unused_port}"))
        await stage.shows(like)
        status = (await stage.api.get("/api/stream/status")).json()
    said = (
        "video handler 'wrong' returned dict; expected a VideoFrame, a tensor or array of a picture"
    )
    assert caplog.text.count(said) == 1, "it is said once"
    assert said in str(status)


def test_a_wrong_signature_is_told_before_anything_runs() -> None:
    wrong = WRONG.replace("wrong(frame)", "wrong()")
    with pytest.raises(
        TypeError, match=r"cannot be called with one frame: .*expected wrong\(frame\)"
    ):
        trio.run(main_of(wrong))
