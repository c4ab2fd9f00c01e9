"""Pixels as users hold them: numpy arrays and torch tensors of several shapes, to libav pictures and back.

torch is never imported here before a tensor is asked for or given: who gives one has imported it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeGuard

import av
import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from trickle_trio.media.convert import PLANAR_RGB, RGB, RGBA

if TYPE_CHECKING:
    import torch

Array: TypeAlias = NDArray[Any]
Layout: TypeAlias = Literal["HWC", "CHW", "BHWC", "BCHW"]

CHANNELS: Final = (1, 3, 4)
SMALLEST: Final = 2
"""Pixels a side. 4:2:0 video has one chroma sample for two by two pixels."""

BLOCK_BYTES: Final = 1 << 20
"""Floats and bytes are turned into each other in strips of so many bytes of floats, which stay in the cache from one
step to the next (at 1080p 2.0 ms against 2.5 in one go). Not in thinner ones: each call of numpy's costs a microsecond,
gives the GIL away and has to get it back."""

TO_UNIT: Final = np.float32(1 / 255)

EQUAL_STEPS: Final = np.float32(255.999)
"""0..1 falls into 256 steps of the same width when what this makes of it is cut off; n / 255 comes out as n. Rounding
255 times the float would take one pass more."""

WANTED: Final = (
    "expected a picture as [H,W,C], [1,H,W,C], [C,H,W] or [1,C,H,W], C being 1, 3 or 4, "
    "of floats 0..1 or of uint8"
)


def is_tensor(data: object) -> TypeGuard[torch.Tensor]:
    """Whether this is a torch tensor, without importing torch to find out."""
    # While another thread is still importing torch, the module is there and its Tensor is not; then
    # there is no tensor yet either.
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)
    return tensor is not None and isinstance(data, tensor)


class UnreadablePixelsError(RuntimeError):
    """The device that holds a picture does not give it back."""


@frozen(eq=False)
class Pixels:
    """A picture in a user's memory. ``hwc`` is a view of it as [height, width, channels]: nothing is copied."""

    hwc: Array | torch.Tensor

    @classmethod
    def of(cls, data: object) -> Pixels:
        """Take an array or a tensor as a picture.

        Raises ``TypeError`` for another type or dtype, ``ValueError`` for another shape; both say what came.
        """
        if is_tensor(data):
            given = data.detach()
            _check(given, is_fit=given.is_floating_point() or str(given.dtype) == "torch.uint8")
            given = given[0] if given.ndim == 4 else given
            return cls(given if _is_channels_last(given) else given.permute(1, 2, 0))
        if isinstance(data, np.ndarray):
            _check(data, is_fit=data.dtype.kind == "f" or data.dtype == np.uint8)
            array = data[0] if data.ndim == 4 else data
            return cls(array if _is_channels_last(array) else array.transpose(1, 2, 0))
        raise TypeError(f"{WANTED}; got {type(data).__name__}")

    @property
    def width(self) -> int:
        """In pixels."""
        return int(self.hwc.shape[1])

    @property
    def height(self) -> int:
        """In pixels."""
        return int(self.hwc.shape[0])

    @property
    def is_planar(self) -> bool:
        """Whether each channel lies by itself in memory."""
        hwc = self.hwc
        strides = hwc.strides if isinstance(hwc, np.ndarray) else hwc.stride()
        return hwc.shape[2] == 1 or abs(strides[1]) < abs(strides[2])

    def array(self) -> Array:
        """Bring the pixels to where numpy can read them: uint8, or floats of 0..1. Copies and waits only for a GPU.

        Raises ``UnreadablePixelsError`` where that fails.
        """
        hwc = self.hwc
        if isinstance(hwc, np.ndarray):
            return hwc
        if hwc.device.type != "cpu":
            return _fetched(hwc)
        # numpy has no bfloat16, and is slow with float16.
        return (hwc.float() if hwc.dtype.is_floating_point and hwc.itemsize < 4 else hwc).numpy()

    @property
    def format(self) -> str:
        """The pixel format of libav that takes these pixels with the least rearranging."""
        if self.is_planar:
            return PLANAR_RGB
        return RGBA if self.hwc.shape[2] == 4 else RGB

    def fill(self, picture: av.VideoFrame) -> None:
        """Draw the pixels into a picture of their size, rgb24, rgba or gbrp. Blocks, 0.7 ms for float32 at 720p.

        NaN comes out as black (as whatever the processor casts it to, which is 0 wherever we looked).
        """
        array = self.array()
        if array.dtype == np.uint8:
            for drawn, given in _pairs(picture, array):
                np.copyto(drawn, given)
            return
        with np.errstate(invalid="ignore"):
            for drawn, given in _pairs(picture, array):
                _quantise(drawn, given)


def _fetched(hwc: torch.Tensor) -> Array:
    from trickle_trio.media.tensors import fetched  # noqa: PLC0415 - it imports torch

    try:
        return fetched(hwc).numpy()
    except RuntimeError as error:
        # CUDA speaks up here, about kernels started long before, and about its memory.
        raise UnreadablePixelsError(f"{hwc.device} gave no picture back: {error}") from error


def _check(data: Array | torch.Tensor, *, is_fit: bool) -> None:
    got = f"{WANTED}; got {data.dtype} of shape {list(data.shape)}"
    if not is_fit:
        raise TypeError(got)
    if data.ndim not in (3, 4) or (data.ndim == 4 and data.shape[0] != 1):
        raise ValueError(got)
    shape = data.shape[-3:]
    if shape[0] not in CHANNELS and shape[2] not in CHANNELS:
        raise ValueError(got)
    if min(shape[:2] if shape[2] in CHANNELS else shape[1:]) < SMALLEST:
        raise ValueError(f"{got}, which is smaller than {SMALLEST}x{SMALLEST}")


def _is_channels_last(data: Array | torch.Tensor) -> bool:
    """Where both ends could be the channels, they are the last: that is how most users hold pictures."""
    return data.shape[2] in CHANNELS


def _pairs(picture: av.VideoFrame, array: Array) -> Iterator[tuple[Array, Array]]:
    """What is drawn, and what it is drawn from."""
    if picture.format.name != PLANAR_RGB:
        channels = 4 if picture.format.name == RGBA else 3
        yield packed_view(picture, channels), array[..., :channels]
        return
    for index, plane in enumerate(planar_views(picture)):
        yield plane, array[..., index if array.shape[2] > 1 else 0]


def _quantise(drawn: Array, given: Array) -> None:
    """Turn floats of 0..1 into bytes, strip by strip."""
    rows = _rows(given)
    scaled = np.empty((min(rows, len(given)), *given.shape[1:]), np.float32)
    for top in range(0, len(given), rows):
        block = given[top : top + rows]
        part = scaled[: len(block)]
        np.multiply(block, EQUAL_STEPS, out=part, casting="same_kind")
        # clip is fast; numpy's maximum and minimum take four times as long. The method and the assignment are what
        # np.clip and np.copyto come to, a few calls of Python later.
        part.clip(0, 255, out=part)
        drawn[top : top + rows] = part


def unit_floats(
    array: NDArray[np.uint8], floats: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Make floats of 0..1 of bytes, strip by strip, into ``floats`` where given. Blocks, 0.3 ms at 720p.

    numpy's work, not torch's, though it is mostly for tensors: as fast on one thread, and torch would wake its others.
    """
    made = np.empty(array.shape, np.float32) if floats is None else floats
    rows = _rows(array)
    for top in range(0, len(array), rows):
        strip = made[top : top + rows]
        strip[...] = array[top : top + rows]
        np.multiply(strip, TO_UNIT, out=strip)
    return made


def _rows(array: Array) -> int:
    return max(1, BLOCK_BYTES // (4 * int(array[0].size)))


def packed_view(picture: av.VideoFrame, channels: int = 3) -> NDArray[np.uint8]:
    """Show an rgb24 or rgba picture as [H,W,channels], its own memory; rows may be padded."""
    plane = picture.planes[0]
    return _view(plane, (picture.height, picture.width, channels), (plane.line_size, channels, 1))


def planar_views(picture: av.VideoFrame) -> list[NDArray[np.uint8]]:
    """Show red, green and blue of a gbrp picture, each [H,W], its own memory; rows may be padded."""
    planes = [picture.planes[i] for i in (2, 0, 1)]
    return [_view(plane, (picture.height, picture.width), (plane.line_size, 1)) for plane in planes]


def _view(plane: Any, shape: tuple[int, ...], strides: tuple[int, ...]) -> NDArray[np.uint8]:
    # Any: PyAV's stubs do not say that its planes are buffers
    return np.ndarray(shape, np.uint8, buffer=plane, strides=strides)
