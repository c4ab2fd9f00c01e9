"""``trickle bench`` at work on real processes, with tiny counts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from trickle_trio.bench import BenchError, BenchSettings, Progress, Size, run_bench, table
from trickle_trio.bench.batch import Ffmpeg, find_ffmpeg
from trickle_trio.bench.footage import make_footage
from trickle_trio.bench.live import Traffic, Window, run_live
from trickle_trio.bench.worker_process import open_worker

TINY = BenchSettings(sizes=(Size.named("160p"),), seconds=0.5, turns=1)


def workers() -> set[int]:
    """Processes of ours that live."""
    children = Path(f"/proc/{Path('/proc/self').resolve().name}/task").glob("*/children")
    return {int(pid) for path in children for pid in path.read_text().split()}


@pytest.fixture
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No process and no file is left behind."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = workers()
    yield
    assert workers() <= before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("nothing_left")
async def test_a_run_gives_every_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ffmpeg on the path: so it is the same run wherever it is tested."""
    monkeypatch.setenv("PATH", "/nowhere")
    settings = BenchSettings(sizes=TINY.sizes, seconds=0.5, turns=1, streams=True, most_streams=2)
    progress = Progress()
    report = await run_bench(settings, progress)
    (figures,) = report.sizes
    assert report.came_out
    assert report.ffmpeg == "not installed"
    assert figures.decode.cpu_ms is not None
    assert figures.decode.ffmpeg_cpu_ms is None
    for handled in (figures.passthrough, figures.tint):
        assert handled.pictures >= 10
        assert handled.doubled == 0
        assert handled.lost < handled.pictures  # none on a machine that has nothing else to do
        assert handled.cost.cpu_ms
        assert handled.cost.wall_ms
        assert handled.cost.ratio is None
        assert handled.latency_ms.p50
        assert handled.first_output_ms
        assert handled.memory_mb > 20
        assert {"decode", "handler", "encode"} <= set(handled.stages)
        assert set(handled.threads) == {"event loop", "decode", "encode", "others"}
        assert min(handled.threads[name] for name in ("event loop", "decode", "encode")) > 0
    assert report.capacity is not None
    assert report.capacity.steps[0].streams == 1
    assert progress.text.startswith("160p: ")
    assert "not installed" in table(report)


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("stopped_at", ["making the footage", "decode only", "passthrough", "tint"])
async def test_a_cancelled_run_leaves_nothing(stopped_at: str) -> None:
    progress = Progress()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_bench, TINY, progress)
        while stopped_at not in progress.text:  # noqa: ASYNC110  what a user looks at
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()


async def test_pictures_that_come_out_twice_or_never_are_counted() -> None:
    footage = make_footage(TINY.sizes[0], 0.2, None)
    traffic = Traffic.through("http://127.0.0.1:1", footage)
    traffic.note_sent(1, 10.0)
    traffic.note_sent(2, 10.5)
    traffic.note_sent(3, 11.0)
    traffic.note_sent(4, 99.0)
    for pts, at in ((1, 10.02), (1, 10.03), (3, 11.04), (4, 99.1)):
        traffic.note_received(pts, at)
    window = Window(9.0, 12.0)
    assert traffic.sent_in(window) == [1, 2, 3]
    assert traffic.delays(window) == pytest.approx([20.0, 40.0])
    assert traffic.doubled(window) == 1


async def test_a_service_that_dies_is_one_clear_line() -> None:
    async with open_worker("passthrough") as (worker, said):
        assert said == {"ready": True}
        with pytest.raises(BenchError, match="the process that is measured ended: code 1"):
            await worker.tell(streams=[("no address", "none")])
            await worker.ask()


async def test_a_service_that_is_told_nothing_ends_with_its_input() -> None:
    async with open_worker("passthrough"):
        pass


async def test_a_relay_that_is_not_there_fails_the_run() -> None:
    footage = make_footage(TINY.sizes[0], 0.2, None)
    with pytest.raises(BenchError, match=r"^the relay does not answer: "):
        await run_live("http://127.0.0.1:1", footage, "passthrough")


async def test_a_service_that_dies_fails_the_run(relay: str, nursery: trio.Nursery) -> None:
    footage = make_footage(TINY.sizes[0], 3.0, None)
    before = workers()

    async def kill() -> None:
        while not (started := workers() - before):  # noqa: ASYNC110  the kernel tells nobody
            await trio.sleep(0.01)
        for pid in started:
            os.kill(pid, signal.SIGKILL)

    nursery.start_soon(kill)
    with pytest.raises(BenchError, match="the process that is measured ended: code -9"):
        await run_live(relay, footage, "passthrough")


def program(folder: Path, text: str) -> Path:
    path = folder / "ffmpeg"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


async def test_ffmpeg_is_told_by_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = program(tmp_path, "echo ffmpeg version 9.9 Copyright")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert await find_ffmpeg() == Ffmpeg(str(path), "9.9")


@pytest.mark.parametrize("text", ["exit 3", "kill -9 $$"])
async def test_an_ffmpeg_that_does_not_run_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    program(tmp_path, text)
    monkeypatch.setenv("PATH", str(tmp_path))
    ffmpeg = await find_ffmpeg()
    assert ffmpeg.path is None
    assert ffmpeg.version.startswith("does not run: ")
    assert await ffmpeg.cpu_ms("decode", tmp_path, 10) is None


async def test_what_an_ffmpeg_cannot_do_has_no_figure(tmp_path: Path) -> None:
    path = program(tmp_path, 'case "$*" in *libx264*|*-re*) exit 1;; *) exit 0;; esac')
    ffmpeg = Ffmpeg(str(path), "1")
    theirs = await ffmpeg.theirs("decode", tmp_path, 10)
    assert (theirs.flat is None, theirs.paced) == (False, None)
    assert await ffmpeg.cpu_ms("passthrough", tmp_path, 10) is None
    assert await ffmpeg.cpu_ms("decode", tmp_path, 10) is not None


@contextmanager
def bench(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "trickle_trio.cli", "bench", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_the_command_prints_one_json_object() -> None:
    with bench("--size", "160p", "--seconds", "0.5", "--json") as process:
        output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    report = json.loads(output)
    assert [figures["size"] for figures in report["sizes"]] == ["160p"]
    assert report["turns"] == 3
    assert report["capacity"] is None


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_that_is_stopped_says_so_and_is_code_1(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with bench("--size", "160p") as process:
        while not list(tmp_path.glob("trickle-bench-*/160p.ts")):
            assert process.poll() is None
        process.send_signal(number)
        output, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert output == ""
    assert errors.splitlines()[-1] == "Error: stopped before there were figures"
    assert "Traceback" not in errors


def test_a_file_without_pictures_is_code_1_and_one_line(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no picture")
    with bench("--input", str(path), "--size", "160p") as process:
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (1, "")
    assert errors.startswith(f"Error: {path}: ")
    assert len(errors.splitlines()) == 1
