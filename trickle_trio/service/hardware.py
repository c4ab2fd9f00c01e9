"""The GPUs of this machine, asked of the driver itself.

NVIDIA's management library comes with the driver, so a few calls through ctypes need no package and no torch. Function
names and structures: NVML API reference. Where it is missing, or says no, there are no GPUs.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

LIBRARY: Final = "libnvidia-ml.so.1"

_NAME_SIZE: Final = 96
"""NVML_DEVICE_UUID_V2_BUFFER_SIZE, the larger of the two texts asked for."""


class _Memory(ctypes.Structure):
    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _NvmlError(Exception):
    """A call into the library did not succeed."""


class _Nvml:
    """The library, between its init and its shutdown."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(LIBRARY)

    def __enter__(self) -> _Nvml:
        self.call("nvmlInit_v2")
        return self

    def __exit__(self, *_: object) -> None:
        self.call("nvmlShutdown")

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function; raises _NvmlError for every result but success."""
        result: int = getattr(self._library, name)(*arguments)
        if result != 0:
            raise _NvmlError(f"{name} returned {result}")

    def devices(self) -> list[ctypes.c_void_p]:
        count = ctypes.c_uint()
        self.call("nvmlDeviceGetCount_v2", ctypes.byref(count))
        return [self._device(index) for index in range(count.value)]

    def _device(self, index: int) -> ctypes.c_void_p:
        device = ctypes.c_void_p()
        self.call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(device))
        return device

    def text(self, name: str, device: ctypes.c_void_p) -> str:
        buffer = ctypes.create_string_buffer(_NAME_SIZE)
        self.call(name, device, buffer, ctypes.c_uint(_NAME_SIZE))
        return buffer.value.decode("utf-8", "replace")

    def describe(self, device: ctypes.c_void_p) -> dict[str, Any]:
        """Everything that either route tells of a device."""
        memory, load = _Memory(), _Utilization()
        major, minor = ctypes.c_int(), ctypes.c_int()
        self.call("nvmlDeviceGetMemoryInfo", device, ctypes.byref(memory))
        self.call(
            "nvmlDeviceGetCudaComputeCapability", device, ctypes.byref(major), ctypes.byref(minor)
        )
        self.call("nvmlDeviceGetUtilizationRates", device, ctypes.byref(load))
        return {
            "id": self.text("nvmlDeviceGetUUID", device),
            "name": self.text("nvmlDeviceGetName", device),
            "memory_total": memory.total,
            "memory_free": memory.free,
            "major": major.value,
            "minor": minor.value,
            "utilization_compute": load.gpu,
            "utilization_memory": load.memory,
        }


def _all() -> dict[str, dict[str, Any]]:
    try:
        with _Nvml() as library:
            found = [library.describe(device) for device in library.devices()]
    except (OSError, AttributeError, _NvmlError):
        return {}
    return {str(index): device for index, device in enumerate(found)}


def gpu_info() -> dict[str, dict[str, Any]]:
    """Return what each GPU is, keyed "0", "1", ...; blocks for some milliseconds."""
    hidden = ("utilization_compute", "utilization_memory")
    return {key: _without(device, hidden) for key, device in _all().items()}


def gpu_stats() -> dict[str, dict[str, Any]]:
    """Return how busy each GPU is, keyed "0", "1", ...; blocks for some milliseconds."""
    return {key: _without(device, ("major", "minor")) for key, device in _all().items()}


def _without(device: dict[str, Any], hidden: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in device.items() if name not in hidden}
