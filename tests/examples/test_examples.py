"""Every example does what it says, on a live stream."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trio
from numpy.typing import NDArray

from tests.stage import RATE, Picture, like, open_stage
from trickle_trio.cli.targets import load_target

EXAMPLES = Path(__file__).parents[2] / "examples"

Change = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""From one picture to another, in floats of 0..1."""


def example(target: str) -> Any:
    """``example("effects:Effects")``: what a file holds, found as ``trickle serve`` finds it."""
    file, _, name = target.partition(":")
    return load_target(f"{EXAMPLES / file}.py:{name}")


def expecting(change: Change) -> Any:
    """Whether a picture, in floats of 0..1, came out changed in this way, and not as it came in."""

    def check(before: Picture, after: Picture) -> bool:
        expected = 255 * change(before / 255).clip(0, 1)
        return like(after, expected, 6) and not like(before, expected, 6)

    return check


async def test_tint(relay: str) -> None:
    async with open_stage(relay) as stage:
        await stage.serve(example("tint:tint"))
        await stage.shows(expecting(lambda picture: picture * [1, 1.5, 1]))


GRAY = np.array([0.2126, 0.7152, 0.0722])

EFFECTS: dict[str, Change] = {
    "red_tint": partial(np.add, [0.5, 0, 0]),
    "green_tint": partial(np.add, [0, 0.5, 0]),
    "blue_tint": partial(np.add, [0, 0, 0.5]),
    "grayscale": lambda picture: (picture + (picture @ GRAY)[..., np.newaxis]) / 2,
    "invert": lambda picture: np.full_like(picture, 0.5),
    "brightness": lambda picture: picture * 1.5,
    "color_shift": lambda picture: (picture + np.roll(picture, 1, axis=-1)) / 2,
}


async def test_effects_are_switched_while_the_stream_runs(relay: str) -> None:
    async with open_stage(relay) as stage:
        await stage.serve(example("effects:Effects"), effect="invert", intensity=1)
        await stage.shows(expecting(lambda picture: 1 - picture))
        for name, effect in EFFECTS.items():
            await stage.change(effect=name, intensity=0.5)
            await stage.shows(expecting(effect))
        await stage.change(effect="none")
        await stage.shows(like)
        answer = await stage.api.post("/api/stream/params", json={"effect": "no such"})
        assert answer.status_code == 400
        assert answer.json()["message"].startswith("effect: must be in ['none', 'red_tint'")


async def test_a_model_that_takes_its_time(relay: str) -> None:
    make = example("slow_model:GreenTint")
    async with open_stage(relay) as stage:
        address = await stage.nursery.start(
            example("slow_model:serve")(make(load_seconds=1e9), port=0)
        )
        assert (await stage.api.get(f"{address}/health")).json()["status"] == "LOADING"
        assert (await stage.api.post(f"{address}/api/stream/start", json={})).status_code == 503
        await stage.serve(make(load_seconds=0))
        await stage.shows(expecting(lambda picture: picture * [1, 2, 1]))


def loudness(track: NDArray[np.float32], begin: float, end: float, hertz: float) -> float:
    """How loud a tone is, from ``begin`` to ``end`` in seconds."""
    part = track[round(begin * RATE) : round(end * RATE)]
    turning = np.exp(-2j * np.pi * hertz * np.arange(len(part)) / RATE)
    return float(np.abs((part * turning).mean()) * 2)


async def heard(stage: Any, seconds: float) -> NDArray[np.float32]:
    """What came out, counted from the source's beginning."""
    await stage.came_in.until(lambda: stage.came_in.pictures)
    start = round(min(stage.came_in.pictures) / 90_000 * RATE)
    need = start + round(seconds * RATE)
    await stage.went_out.until(lambda: len(stage.went_out.heard()) > need)
    track: NDArray[np.float32] = stage.went_out.heard()
    return track[start:]


async def test_an_echo(relay: str) -> None:
    """The source beeps at the beginning of each of its seconds: for a tenth of one, at 1000 Hz."""
    async with open_stage(relay) as stage:
        await stage.serve(example("audio:Echo"), delay=0.4, level=0.8)
        track = await heard(stage, 1.6)
    beep = loudness(track, 1.02, 1.08, 1000)
    assert beep > 0.3
    assert loudness(track, 1.42, 1.48, 1000) == pytest.approx(0.8 * beep, rel=0.2)
    assert loudness(track, 1.2, 1.26, 1000) < 0.05


async def test_another_pitch(relay: str) -> None:
    async with open_stage(relay) as stage:
        await stage.serve(example("audio:Pitch"), factor=2)
        track = await heard(stage, 1.2)
    assert loudness(track, 1.03, 1.1, 2000) > 0.15
    assert loudness(track, 1.03, 1.1, 1000) < 0.05


async def test_text_beside_the_picture(relay: str) -> None:
    async with open_stage(relay) as stage:
        await stage.serve(example("text_output:Brightness"), every=3)
        lines = [json.loads(line) for line in await stage.lines(3)]
        await stage.shows(like)
    assert [line["frame"] for line in lines] == [0, 3, 6]
    assert all(0.2 < line["level"] < 0.8 for line in lines)
    assert lines[1]["seconds"] > lines[0]["seconds"]


async def test_an_overlay_while_another_model_loads(relay: str) -> None:
    def is_dim(before: Picture, after: Picture) -> bool:
        """Darker everywhere above the bar, and in the input's own colours."""
        top = np.s_[: len(before) // 4]
        return like(after[top], before[top] * (after[top].mean() / before[top].mean()), 6) and bool(
            after[top].mean() < 0.6 * before[top].mean()
        )

    async with open_stage(relay) as stage:
        await stage.serve(example("overlay:Models"))
        await stage.shows(expecting(partial(np.multiply, [1.3, 1, 0.7])))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(stage.change, model="cold", load_seconds=0.5))
            await stage.shows(is_dim)
        await stage.shows(expecting(partial(np.multiply, [0.7, 1, 1.3])))


async def test_boxes_are_drawn_and_told(relay: str) -> None:
    """The test picture has a red bar, the sixth of seven; a white disc passes over it now and then."""
    async with open_stage(relay, width=224, height=128) as stage:
        await stage.serve(example("boxes:Boxes"))
        [line] = [json.loads(line) for line in await stage.lines(1)]
        [box] = line["objects"]
        assert box["label"] == "red"
        assert abs(box["left"] - 160) <= 8
        assert abs(box["right"] - 192) <= 8
        rows = slice(box["top"] + 8, box["bottom"] - 8)

        def has_an_edge(before: Picture, after: Picture) -> bool:
            edge = np.s_[rows, box["left"] : box["left"] + 2]
            return bool(after[edge].mean() > before[edge].mean() + 80)

        await stage.shows(has_an_edge)


async def test_a_batch(relay: str) -> None:
    smooth = example("batching:smooth")
    async with open_stage(relay) as stage:
        await stage.serve(example("batching:Smooth"))

        def is_smooth(before: Picture, after: Picture) -> bool:
            pictures = torch.from_numpy(before.transpose(2, 0, 1).copy()).float()[np.newaxis]
            return like(after, smooth(pictures)[0].permute(1, 2, 0).numpy(), 4)

        await stage.shows(is_smooth)


async def test_those_who_wait_for_the_model_go_together() -> None:
    go_on = threading.Semaphore(0)
    sizes: list[int] = []

    def slow(pictures: torch.Tensor) -> torch.Tensor:
        sizes.append(len(pictures))
        assert go_on.acquire(timeout=30)
        return pictures + 1

    batcher = example("batching:Batcher")(slow)
    results: dict[int, float] = {}

    async def ask(number: int) -> None:
        results[number] = float(await batcher(torch.tensor(float(number))))

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(ask, number)
            await trio.testing.wait_all_tasks_blocked()
        go_on.release(2)
    assert sizes == [1, 3]
    assert results == {0: 1, 1: 2, 2: 3, 3: 4}


async def test_a_batch_that_fails_fails_for_one_and_gives_the_others_nothing() -> None:
    results: list[object] = []
    go_on = threading.Semaphore(0)

    def broken(pictures: torch.Tensor) -> torch.Tensor:
        assert go_on.acquire(timeout=30)
        if len(pictures) > 1:
            raise ArithmeticError("too many")
        return pictures

    batcher = example("batching:Batcher")(broken)

    async def ask() -> None:
        try:
            results.append(await batcher(torch.zeros(1)))
        except ArithmeticError as error:
            results.append(error)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
        go_on.release(2)
    assert [type(result) for result in results] == [torch.Tensor, ArithmeticError, type(None)]


async def test_twice_as_large(relay: str) -> None:
    async with open_stage(relay) as stage:
        await stage.serve(example("super_resolution:SuperResolution"))
        after = (await stage.went_out.until(lambda: [*stage.went_out.pictures.values()]))[0]
        before = min(stage.came_in.pictures)
        assert after.shape == (192, 320, 3)
        assert like(after[::2, ::2], stage.came_in.pictures[before], 25)


async def test_where_there_is_no_gpu_the_cpu_does_it(
    relay: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    kernel = torch.full((3, 1, 5, 5), 1 / 25)

    def is_blurred(before: Picture, after: Picture) -> bool:
        picture = torch.from_numpy(before.transpose(2, 0, 1).copy()).float()[np.newaxis]
        padded = torch.nn.functional.pad(picture, (2, 2, 2, 2), "reflect")
        blurred = torch.nn.functional.conv2d(padded, kernel, groups=3)
        return like(after, blurred[0].permute(1, 2, 0).numpy(), 4)

    async with open_stage(relay) as stage:
        await stage.serve(example("gpu:Blur"))
        await stage.shows(is_blurred)
    assert "working on the CPU, for want of a GPU" in capsys.readouterr().out


@pytest.mark.parametrize("end", ["its input's", "by signal"])
async def test_without_a_service(relay: str, capsys: pytest.CaptureFixture[str], end: str) -> None:
    async with open_stage(relay) as stage:
        over = trio.Event()

        async def run() -> None:
            await example("direct_client:main")(stage.url("in"), stage.url("out"))
            over.set()

        stage.nursery.start_soon(run)
        stage.roll()
        await stage.shows(lambda before, after: like(before[:, ::-1], after))
        if end == "by signal":
            signal.raise_signal(signal.SIGINT)
        else:
            await stage.cut()
        await over.wait()
    reason = "stopped" if end == "by signal" else "the input has ended"
    assert f"over: {reason}" in capsys.readouterr().out


async def test_routes_of_ones_own(relay: str, capsys: pytest.CaptureFixture[str]) -> None:
    warm, cold = [1.2, 1, 0.8], [0.8, 1, 1.2]
    async with open_stage(relay) as stage:
        await stage.serve(example("own_routes:make_app")(port=0))
        assert (await stage.api.get("/mood")).json() == {"mood": "plain"}
        page = {"Origin": "http://localhost:3000"}
        answer = await stage.api.put("/mood/cold", headers=page)
        assert answer.json() == {"mood": "cold"}
        assert answer.headers["X-Mood"] == "cold"
        assert answer.headers["Access-Control-Allow-Origin"] == page["Origin"]
        await stage.shows(expecting(partial(np.multiply, cold)))
        await stage.api.put("/mood/warm")
        await stage.shows(expecting(partial(np.multiply, warm)))
        assert (await stage.api.put("/mood/wild")).status_code == 404
    assert "moods: warm, plain, cold" in capsys.readouterr().out


def test_every_example_is_tried_here_and_says_how_it_is_run() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("*.py"))
    for path in EXAMPLES.glob("*.py"):
        assert f'"{path.stem}:' in tests or f'"{path.name}"' in tests, f"{path.name} is not tried"
        head = path.read_text(encoding="utf-8")
        assert f"{path.name}" in head.partition('"""\n')[0], f"{path.name} does not say how"
