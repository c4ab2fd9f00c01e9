"""The GPUs of this machine, asked of NVIDIA's driver.

``pynvml`` is NVIDIA's own binding of its management library (nvidia-ml-py): it needs no torch, and says so where there
is no driver. Without one there are no GPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypedDict

import pynvml


class Gpu(TypedDict):
    """What both routes tell of a GPU; memory in bytes."""

    id: str | None
    name: str | None
    memory_total: int | None
    memory_free: int | None


class GpuInfo(Gpu):
    """A GPU with its compute capability."""

    major: int | None
    minor: int | None


class GpuStats(Gpu):
    """A GPU with its load, in percent."""

    utilization_compute: int | None
    utilization_memory: int | None


def gpu_info() -> dict[str, GpuInfo]:
    """Return what each GPU is, keyed "0", "1", ...; blocks for some milliseconds."""
    with _driver() as devices:
        return {str(index): _info(device) for index, device in enumerate(devices)}


def gpu_stats() -> dict[str, GpuStats]:
    """Return how busy each GPU is, keyed "0", "1", ...; blocks for some milliseconds."""
    with _driver() as devices:
        return {str(index): _stats(device) for index, device in enumerate(devices)}


@contextmanager
def _driver() -> Iterator[list[object]]:
    """Open the library for a moment, so that nothing of it is held while nobody asks; yield the devices."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield []
        return
    try:
        yield _devices()
    finally:
        pynvml.nvmlShutdown()


def _devices() -> list[object]:
    try:
        return [
            pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())
        ]
    except pynvml.NVMLError:
        return []


def _info(device: object) -> GpuInfo:
    capability = _asked(pynvml.nvmlDeviceGetCudaComputeCapability, device)
    major, minor = capability or (None, None)
    return {**_gpu(device), "major": major, "minor": minor}


def _stats(device: object) -> GpuStats:
    load = _asked(pynvml.nvmlDeviceGetUtilizationRates, device)
    return {
        **_gpu(device),
        "utilization_compute": load and load.gpu,
        "utilization_memory": load and load.memory,
    }


def _gpu(device: object) -> Gpu:
    memory = _asked(pynvml.nvmlDeviceGetMemoryInfo, device)
    return {
        "id": _asked(pynvml.nvmlDeviceGetUUID, device),
        "name": _asked(pynvml.nvmlDeviceGetName, device),
        "memory_total": memory and memory.total,
        "memory_free": memory and memory.free,
    }


def _asked(question: Callable[[object], Any], device: object) -> Any:
    """Ask one thing. A part of a GPU, for one, tells no load: that costs the one figure and not the others."""
    try:
        return question(device)
    except pynvml.NVMLError:
        return None
