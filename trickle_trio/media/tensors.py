"""Tensors as users want them: device, dtype, layout. Imported, and with it torch, when the first one is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, get_args

import numpy as np
import torch
from attrs import frozen
from numpy.typing import NDArray

from trickle_trio.media.pixels import EQUAL_STEPS, TO_UNIT, Array, Layout, Pixels, unit_floats

LAYOUTS: Final = get_args(Layout)

_LARGEST_KEPT: Final = (32 << 20) - (1 << 16)
"""The most that glibc's allocator keeps for later blocks of this size, once one has been freed."""


def _keep_large_blocks() -> None:
    """Have the memory of freed tensors used again from the first one on.

    Until a block as large has been freed, glibc gives each one back to the kernel, and the next one comes page by page:
    5 ms for the tensor of a 720p frame, and as much for each that the handler makes of it. Nothing is touched here.
    """
    np.empty(_LARGEST_KEPT, np.uint8)


_keep_large_blocks()


@frozen
class Wanted:
    """What the caller asked for. ``is_planar``: each channel by itself."""

    device: torch.device
    dtype: torch.dtype
    is_planar: bool
    is_batch: bool

    @classmethod
    def of(cls, device: torch.device | str, dtype: torch.dtype | None, layout: str) -> Wanted:
        """Check what was asked for; ``TypeError`` and ``ValueError`` say what would have been possible."""
        if layout not in LAYOUTS:
            raise ValueError(f"expected a layout of {', '.join(LAYOUTS)}; got {layout!r}")
        dtype = torch.float32 if dtype is None else dtype
        if not (dtype.is_floating_point or dtype == torch.uint8):
            raise TypeError(
                f"expected a floating dtype (0..1) or torch.uint8 (0..255); got {dtype}"
            )
        return cls(torch.device(device), dtype, layout.endswith("CHW"), layout.startswith("B"))

    @property
    def takes_planes(self) -> bool:
        """Whether swscale should take the channels apart: on the CPU it does so faster than torch (0.65 to 0.97 ms)."""
        return self.is_planar and self.device.type == "cpu"

    def from_packed(self, rgb: NDArray[np.uint8]) -> torch.Tensor:
        """Make the tensor of [H,W,3] bytes."""
        return self._lay_out(self._of_bytes(rgb) if self._is_local else self._of_sent(rgb))

    def from_planes(self, planes: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """Make the tensor of three times [H,W] bytes, on the CPU."""
        if self.dtype == torch.uint8:
            chw = torch.from_numpy(np.stack(planes))
        else:
            chw = _floats_of_planes(planes).to(self.dtype)
        return chw.unsqueeze(0) if self.is_batch else chw

    def from_pixels(self, pixels: Pixels) -> torch.Tensor:
        """Make the tensor of what a user gave."""
        hwc = floats_of(tensor_of(pixels).to(self.device))
        return self._lay_out(quantised(hwc) if self.dtype == torch.uint8 else hwc.to(self.dtype))

    @property
    def _is_local(self) -> bool:
        return self.device.type == "cpu"

    def _of_bytes(self, array: NDArray[np.uint8]) -> torch.Tensor:
        if self.dtype == torch.uint8:
            return torch.from_numpy(array.copy())
        return torch.from_numpy(unit_floats(array)).to(self.dtype)

    def _of_sent(self, rgb: NDArray[np.uint8]) -> torch.Tensor:
        sent = self._send(torch.from_numpy(rgb))
        return sent if self.dtype == torch.uint8 else sent.to(self.dtype).mul_(float(TO_UNIT))

    def _send(self, rgb: torch.Tensor) -> torch.Tensor:
        if self.device.type != "cuda":
            return rgb.to(self.device)
        # torch's pinned memory is cached, and kept until the copy out of it is over.
        pinned = torch.empty(rgb.shape, dtype=rgb.dtype, pin_memory=True).copy_(rgb)
        return pinned.to(self.device, non_blocking=True)

    def _lay_out(self, hwc: torch.Tensor) -> torch.Tensor:
        laid_out = hwc.permute(2, 0, 1).contiguous() if self.is_planar else hwc
        return laid_out.unsqueeze(0) if self.is_batch else laid_out


def tensor_of(pixels: Pixels) -> torch.Tensor:
    """Give what a user gave as a tensor; a tensor is given as it is."""
    hwc = pixels.hwc
    return torch.from_numpy(_plain(hwc)) if isinstance(hwc, np.ndarray) else hwc


def floats_of(hwc: torch.Tensor) -> torch.Tensor:
    """Make [H,W,3] float32 of 0..1 of [H,W,C] in any dtype, in memory of its own, on the same device."""
    given = _colours(hwc)
    floats = given.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    if given.dtype == torch.uint8:
        return floats.mul_(float(TO_UNIT))
    return floats.nan_to_num_(0.0, 1.0, 0.0).clamp_(0.0, 1.0)


def own_floats(source: Pixels | Sequence[NDArray[np.uint8]]) -> torch.Tensor:
    """Make a frame's own tensor: [H,W,3] float32 of 0..1 on the CPU, one that counts its changes in any mode.

    ``source``: what a user gave, or three times [H,W]. Of planes, a tensor whose colours lie apart: the README's
    tint of one of them takes 0.9 ms at 720p instead of 2.7, and the ways there and back are as long.
    """
    with torch.inference_mode(mode=False):
        if isinstance(source, Pixels):
            return floats_of(tensor_of(source).cpu())
        return _floats_of_planes(source).permute(1, 2, 0)


def _floats_of_planes(planes: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
    """Make [3,H,W] float32 of 0..1."""
    floats = np.empty((len(planes), *planes[0].shape), np.float32)
    for channel, plane in zip(floats, planes, strict=True):
        unit_floats(plane, channel)
    return torch.from_numpy(floats)


def quantised(hwc: torch.Tensor) -> torch.Tensor:
    """Make contiguous uint8 [H,W,3] of [H,W,C], floats of 0..1 or uint8, on the device it is on."""
    given = _colours(hwc)
    if given.dtype != torch.uint8:
        scaled = torch.nan_to_num(given.float(), 0.0, 1.0, 0.0).mul_(float(EQUAL_STEPS))
        given = scaled.clamp_(0, 255).to(torch.uint8)
    return given.contiguous()


def fetched(hwc: torch.Tensor) -> torch.Tensor:
    """Bring [H,W,C] on any device home, as contiguous uint8 [H,W,3]. Waits for what the device has to do for it.

    The bytes cross the bus, into pinned memory: what the driver copies to any other, it copies twice.
    """
    there = quantised(hwc)
    if there.device.type != "cuda":
        return there.cpu()
    here = torch.empty(there.shape, dtype=there.dtype, pin_memory=True)
    here.copy_(there, non_blocking=True)
    torch.cuda.current_stream(there.device).synchronize()
    return here


def _colours(hwc: torch.Tensor) -> torch.Tensor:
    return hwc.expand(-1, -1, 3) if hwc.shape[2] == 1 else hwc[..., :3]


def _plain(array: Array) -> Array:
    """Make torch take it: no negative strides, no read-only memory, no foreign byte order or width."""
    return np.array(array, np.uint8 if array.dtype == np.uint8 else np.float32, order="C")
