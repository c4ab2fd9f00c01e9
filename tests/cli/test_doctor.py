"""``trickle doctor``: what it finds on this machine, on a broken one, and how it is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import av
import pytest
from attrs import evolve
from click.testing import CliRunner

from trickle_core.mpegts import Codec
from trickle_trio.cli.doctor import WIDTH, told
from trickle_trio.cli.main import root
from trickle_trio.doctor import EncoderFound, Findings, Torch, examine, remarks
from trickle_trio.service.hardware import GpuInfo

GPU: GpuInfo = {
    "id": "GPU-1",
    "name": "NVIDIA L4",
    "memory_total": 24_000_000_000,
    "memory_free": 23_000_000_000,
    "major": 8,
    "minor": 9,
}
NVENC = EncoderFound("h264_nvenc", "h264", is_hardware=True, reason=None)


@pytest.fixture(scope="module")
def findings() -> Findings:
    import trio  # noqa: PLC0415  examined once, outside the loops of the tests

    return trio.run(examine)


def test_what_streams_need_works_here(findings: Findings) -> None:
    assert findings.faults == ()
    assert findings.cpus >= 1
    assert findings.torch.devices[0] == "cpu"
    assert {codec.value for codec in Codec} <= {
        name for name, is_there in findings.decoders.items() if is_there
    }
    assert findings.libraries["av"] == av.__version__
    assert findings.libraries["libavcodec"].startswith(f"{av.library_versions['libavcodec'][0]}.")


def test_encoders_are_tried_and_not_only_listed(findings: Findings) -> None:
    found = {encoder.name: encoder for encoder in findings.encoders}
    for name in ("libx264", "libx265", "aac", "libopus"):
        assert found[name].reason is None
        assert not found[name].is_hardware
    assert found["h264_v4l2m2m"].is_hardware
    for encoder in findings.encoders:
        assert encoder.reason is None or "\n" not in encoder.reason


def test_it_is_said_in_lines_that_fit(findings: Findings) -> None:
    text = told(findings)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert f"torch       {findings.torch.version}" in text
    assert "\N{NO-BREAK SPACE}" not in text
    assert text.endswith("Picture and sound come through encoder, transport stream and decoder.")


def test_a_gpu_and_what_it_is_good_for_is_said(findings: Findings) -> None:
    torch = Torch("2.13.0+cpu", ("cpu",))
    noted = tuple(remarks(torch, {"0": GPU}, [NVENC]))
    text = told(evolve(findings, torch=torch, gpus={"0": GPU}, encoders=(NVENC,), remarks=noted))
    assert "GPUs        NVIDIA L4, 24,000 MB" in text
    assert "in hardware h264_nvenc" in text
    assert (
        "Note: there is a GPU, and torch 2.13.0+cpu cannot use it: models run on the CPU." in text
    )
    assert "Note: pictures can be encoded in hardware: trickle serve --encoder h264_nvenc." in text
    on_gpu = Torch("2.13.0", ("cpu", "cuda:0"))
    assert list(remarks(on_gpu, {"0": GPU}, [])) == []
    assert list(remarks(torch, {}, [evolve(NVENC, reason="no driver")])) == []


def test_as_json() -> None:
    result = CliRunner().invoke(root, ["doctor", "--json"])
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told["faults"] == []
    assert {
        "version",
        "python",
        "libraries",
        "torch",
        "gpus",
        "decoders",
        "encoders",
        "ffmpeg",
    } <= set(told)


def examined_with(folder: Path) -> subprocess.CompletedProcess[str]:
    """What it says where modules in this folder stand in for installed ones; there is no ffmpeg."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "PATH": str(folder)}
    command = [sys.executable, "-m", "trickle_trio.cli", "doctor"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_without_libav_it_says_that(tmp_path: Path) -> None:
    (tmp_path / "av.py").write_text("raise ImportError('libavcodec.so.62: no such file')")
    done = examined_with(tmp_path)
    assert done.returncode == 1
    assert done.stderr == "Error: this installation is broken: libavcodec.so.62: no such file\n"


def test_what_does_not_work_is_said_and_is_code_1(tmp_path: Path) -> None:
    """A torch that lacks a library of its own, as after half an installation."""
    (tmp_path / "torch.py").write_text("raise OSError('libcudart.so.12: no such file')")
    done = examined_with(tmp_path)
    assert done.returncode == 1
    assert done.stderr == "Error: torch cannot be imported (libcudart.so.12: no such file)\n"
    assert "torch       does not import" in done.stdout
    assert "ffmpeg      not installed" in done.stdout
    assert "come through" not in done.stdout
