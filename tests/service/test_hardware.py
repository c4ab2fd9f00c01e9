"""GPUs as NVIDIA's binding tells them: it is stood in for, at the border to the vendor's code."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
import torch

from trickle_trio.service import hardware


class Driver:
    """Two GPUs, in the functions of the NVML API reference that we call."""

    def __init__(self) -> None:
        self.failing: set[str] = set()
        self.opened = 0

    def nvmlInit(self) -> None:  # noqa: N802  the vendor's name
        self.opened += 1

    def nvmlShutdown(self) -> None:  # noqa: N802  the vendor's name
        self.opened -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802  the vendor's name
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802  the vendor's name
        return 100 + index

    def nvmlDeviceGetUUID(self, device: int) -> str:  # noqa: N802  the vendor's name
        return f"GPU-{device}"

    def nvmlDeviceGetName(self, device: int) -> str:  # noqa: N802  the vendor's name
        return "A card"

    def nvmlDeviceGetMemoryInfo(self, device: int) -> Any:  # noqa: N802  the vendor's name
        return SimpleNamespace(total=48 << 30, free=40 << 30, used=8 << 30)

    def nvmlDeviceGetCudaComputeCapability(self, device: int) -> tuple[int, int]:  # noqa: N802  the vendor's name
        return 9, 0

    def nvmlDeviceGetUtilizationRates(self, device: int) -> Any:  # noqa: N802  the vendor's name
        return SimpleNamespace(gpu=37, memory=12)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver()

    def guarded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if name in made.failing:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
            return function(*arguments)

        return call

    for name in filter(lambda name: name.startswith("nvml"), dir(Driver)):
        assert hasattr(pynvml, name)
        monkeypatch.setattr(pynvml, name, guarded(name, getattr(made, name)))
    return made


def test_what_the_gpus_are_and_how_busy(driver: Driver) -> None:
    card = {"id": "GPU-101", "name": "A card", "memory_total": 48 << 30, "memory_free": 40 << 30}
    info, stats = hardware.gpu_info(), hardware.gpu_stats()
    assert list(info) == list(stats) == ["0", "1"]
    assert info["1"] == card | {"major": 9, "minor": 0}
    assert stats["1"] == card | {"utilization_compute": 37, "utilization_memory": 12}
    assert driver.opened == 0


@pytest.mark.parametrize("failing", ["nvmlInit", "nvmlDeviceGetCount"])
def test_a_driver_that_says_no_has_no_gpus(driver: Driver, failing: str) -> None:
    driver.failing.add(failing)
    assert (hardware.gpu_info(), hardware.gpu_stats()) == ({}, {})
    assert driver.opened == 0


def test_a_figure_that_a_gpu_does_not_tell_costs_no_other(driver: Driver) -> None:
    driver.failing |= {"nvmlDeviceGetUtilizationRates", "nvmlDeviceGetMemoryInfo"}
    told = hardware.gpu_stats()["0"]
    assert (told["name"], told["utilization_compute"], told["memory_free"]) == (
        "A card",
        None,
        None,
    )
    assert hardware.gpu_info()["0"]["major"] == 9


def test_no_driver_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "CDLL", load)
    assert (hardware.gpu_info(), hardware.gpu_stats()) == ({}, {})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_gpus_are_those_that_torch_finds() -> None:
    info, stats = hardware.gpu_info(), hardware.gpu_stats()
    assert torch.cuda.get_device_name(0) in {gpu["name"] for gpu in info.values()}
    capability = torch.cuda.get_device_capability(0)
    assert capability in {(gpu["major"], gpu["minor"]) for gpu in info.values()}
    for gpu in stats.values():
        assert 0 < (gpu["memory_free"] or 0) <= (gpu["memory_total"] or 0)


def test_neither_the_service_nor_a_question_for_gpus_imports_torch() -> None:
    program = (
        "import sys, trickle_trio.service as service; from trickle_trio.service import hardware; "
        "service.create_app(lambda frame: frame); hardware.gpu_info(); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
