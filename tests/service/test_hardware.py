"""GPUs as the driver's library tells them: the library is stood in for, at the border to the vendor's code."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from trickle_trio.service import hardware


class Library:
    """Two GPUs, in the calls of the NVML API reference."""

    failing: str | None = None

    def __getattr__(self, name: str) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            if name == self.failing:
                return 999
            getattr(self, f"_{name}")(*arguments)
            return 0

        return call

    def _nvmlInit_v2(self) -> None: ...  # noqa: N802  the vendor's name

    def _nvmlShutdown(self) -> None: ...  # noqa: N802  the vendor's name

    def _nvmlDeviceGetCount_v2(self, count: Any) -> None:  # noqa: N802  the vendor's name
        count._obj.value = 2

    def _nvmlDeviceGetHandleByIndex_v2(self, index: Any, device: Any) -> None:  # noqa: N802  the vendor's name
        device._obj.value = 100 + index.value

    def _nvmlDeviceGetUUID(self, device: Any, buffer: Any, size: Any) -> None:  # noqa: N802  the vendor's name
        assert size.value <= ctypes.sizeof(buffer)
        buffer.value = f"GPU-{device.value}".encode()

    def _nvmlDeviceGetName(self, device: Any, buffer: Any, size: Any) -> None:  # noqa: N802  the vendor's name
        buffer.value = b"A card"

    def _nvmlDeviceGetMemoryInfo(self, device: Any, memory: Any) -> None:  # noqa: N802  the vendor's name
        memory._obj.total, memory._obj.free, memory._obj.used = 48 << 30, 40 << 30, 8 << 30

    def _nvmlDeviceGetCudaComputeCapability(  # noqa: N802  the vendor's name
        self, device: Any, major: Any, minor: Any
    ) -> None:
        major._obj.value, minor._obj.value = 9, 0

    def _nvmlDeviceGetUtilizationRates(self, device: Any, rates: Any) -> None:  # noqa: N802  the vendor's name
        rates._obj.gpu, rates._obj.memory = 37, 12


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    made = Library()

    def load(name: str) -> Library:
        assert name == hardware.LIBRARY
        return made

    monkeypatch.setattr(ctypes, "CDLL", load)
    return made


def test_what_the_gpus_are_and_how_busy(library: Library) -> None:
    card = {"id": "GPU-101", "name": "A card", "memory_total": 48 << 30, "memory_free": 40 << 30}
    info, stats = hardware.gpu_info(), hardware.gpu_stats()
    assert list(info) == list(stats) == ["0", "1"]
    assert info["1"] == card | {"major": 9, "minor": 0}
    assert stats["1"] == card | {"utilization_compute": 37, "utilization_memory": 12}


@pytest.mark.parametrize(
    "failing", ["nvmlInit_v2", "nvmlDeviceGetCount_v2", "nvmlDeviceGetMemoryInfo"]
)
def test_a_driver_that_says_no_has_no_gpus(library: Library, failing: str) -> None:
    library.failing = failing
    assert hardware.gpu_info() == {}


def test_no_driver_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "LIBRARY", "no-such-library.so.7")
    assert hardware.gpu_info() == hardware.gpu_stats() == {}


def test_neither_the_service_nor_a_question_for_gpus_imports_torch() -> None:
    program = (
        "import sys, trickle_trio.service as service; from trickle_trio.service import hardware; "
        "service.create_app(lambda frame: frame); hardware.gpu_info(); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
