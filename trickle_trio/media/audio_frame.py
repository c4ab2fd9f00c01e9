"""Sound on its way through a handler: samples as an array, however libav holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import av
import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

from trickle_trio.media.pixels import is_tensor

if TYPE_CHECKING:
    import torch

Samples: TypeAlias = NDArray[Any]

DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    "u8": np.dtype(np.uint8),
    "s16": np.dtype(np.int16),
    "s32": np.dtype(np.int32),
    "flt": np.dtype(np.float32),
    "dbl": np.dtype(np.float64),
}
"""libav's packed sample formats; with a ``p`` behind it is the planar one."""

LAYOUTS: Final = ("mono", "stereo", "3.0", "4.0", "5.0", "5.1", "6.1", "7.1")
"""What so many channels are taken for where nothing else is said."""

POINTERS_IN_A_FRAME: Final = 8
"""AV_NUM_DATA_POINTERS (libavutil/frame.h). PyAV reads past the list of planes when all of them are in use."""


class AudioFrame:
    """A run of samples of all channels, with its time. Not for two threads at once."""

    __slots__ = ("_source", "format", "layout", "log_timestamps", "rate", "time_base", "timestamp")

    rate: int
    """Samples a second."""
    layout: str
    """libav's name: "mono", "stereo", "5.1"."""
    format: str
    """libav's name: "fltp", "s16". Says the dtype of ``samples``; floats are in -1..1."""
    timestamp: int
    """Of the first sample, in units of ``time_base``."""
    time_base: Fraction
    """Seconds a unit."""
    log_timestamps: dict[str, float]
    """When the frame passed which station, for whoever measures. Goes on into frames made from this one."""

    def __init__(
        self,
        source: av.AudioFrame | Samples,
        *,
        rate: int,
        layout: str,
        format: str,  # noqa: A002 - what users know it by
        timestamp: int = 0,
        time_base: Fraction | None = None,
        log_timestamps: Mapping[str, float] | None = None,
    ) -> None:
        if rate < 1:
            raise ValueError(f"expected a sample rate of at least 1, got {rate}")
        self._source = source
        self.rate = rate
        self.layout = layout
        self.format = format
        self.timestamp = timestamp
        self.time_base = time_base or Fraction(1, rate)
        self.log_timestamps = dict(log_timestamps or {})

    # --- making one

    @classmethod
    def from_ndarray(
        cls,
        samples: Samples,
        timestamp: int = 0,
        time_base: Fraction | None = None,
        *,
        rate: int = 48_000,
        layout: str | None = None,
    ) -> AudioFrame:
        """Make a frame of [channels, samples] (or [samples], mono), floats of -1..1, int16, int32 or uint8.

        ``time_base`` is one sample, ``layout`` the usual one of so many channels, unless given. The array is the
        frame's from now on. Raises ``TypeError`` for another type or dtype, ``ValueError`` for another shape.
        """
        array = _shaped(samples)
        sample_format = _format_of(array.dtype)
        layout = _checked_layout(layout, len(array))
        array = _recoded(array, DTYPES[sample_format])
        return cls(
            array,
            rate=rate,
            layout=layout,
            format=f"{sample_format}p",
            timestamp=timestamp,
            time_base=time_base,
        )

    @classmethod
    def from_tensor(
        cls,
        samples: torch.Tensor | Samples,
        timestamp: int = 0,
        time_base: Fraction | None = None,
        *,
        rate: int = 48_000,
        layout: str | None = None,
    ) -> AudioFrame:
        """Make a frame of a tensor, on any device; everything else as for ``from_ndarray``."""
        return cls.from_ndarray(_shaped(samples), timestamp, time_base, rate=rate, layout=layout)

    @classmethod
    def from_av_frame(cls, frame: av.AudioFrame) -> AudioFrame:
        """Make a frame of one of PyAV's, with its time. That is the frame's from now on."""
        return cls(
            frame,
            rate=frame.sample_rate,
            layout=frame.layout.name,
            format=frame.format.name,
            timestamp=frame.pts or 0,
            time_base=frame.time_base,
        )

    def replace_samples(self, samples: Samples | torch.Tensor) -> AudioFrame:
        """Make a frame with this one's time, rate and format and other samples, any number of them.

        Shapes and errors as for ``from_ndarray``. Floats are scaled to an integer format and the other way round;
        integers of another width are clipped to the format's range. Another number of channels gets its usual layout.
        """
        array = _recoded(_shaped(samples), dtype_of(self.format))
        return AudioFrame(
            array,
            rate=self.rate,
            layout=self.layout
            if len(array) == self.channels
            else _checked_layout(None, len(array)),
            format=self.format,
            timestamp=self.timestamp,
            time_base=self.time_base,
            log_timestamps=self.log_timestamps,
        )

    # --- what it says

    @property
    def channels(self) -> int:
        """How many."""
        return channels_of(self.layout)

    @property
    def nb_samples(self) -> int:
        """Per channel."""
        source = self._source
        return int(source.shape[1]) if isinstance(source, np.ndarray) else source.samples

    @property
    def seconds(self) -> float:
        """The time stamp in seconds."""
        return float(self.timestamp * self.time_base)

    @property
    def duration(self) -> float:
        """In seconds."""
        return self.nb_samples / self.rate

    def __repr__(self) -> str:
        kind = f"{self.nb_samples} samples {self.format} {self.layout} {self.rate} Hz"
        return f"<AudioFrame {kind} at {self.seconds:.3f} s>"

    # --- what it sounds like

    @property
    def samples(self) -> Samples:
        """[channels, samples], whether the format is planar or packed; made at the first call.

        It is this frame's own: what is changed in it, is heard.
        """
        if not isinstance(self._source, np.ndarray):
            self._source = _to_array(self._source)
        return self._source

    def to_av_frame(self) -> av.AudioFrame:
        """Give it as PyAV has it, with its time. Do not write into it: frames may share it."""
        source = self._source
        frame = (
            _to_av(source, self.format, self.layout) if isinstance(source, np.ndarray) else source
        )
        frame.sample_rate = self.rate
        frame.pts, frame.time_base = self.timestamp, self.time_base
        return frame


def dtype_of(sample_format: str) -> np.dtype[Any]:
    """Say what numpy calls a sample. Raises ``ValueError`` for a format that has no arrays."""
    dtype = DTYPES.get(sample_format.removesuffix("p"))
    if dtype is None:
        raise ValueError(
            f"expected a sample format of {', '.join(DTYPES)}, or with a p; got {sample_format!r}"
        )
    return dtype


def channels_of(layout: str) -> int:
    """How many channels a layout of libav's has."""
    return av.AudioLayout(layout).nb_channels


def _checked_layout(layout: str | None, channels: int) -> str:
    if layout is not None:
        if channels_of(layout) != channels:
            raise ValueError(
                f"expected {channels_of(layout)} channels for {layout!r}, got {channels}"
            )
        return layout
    if not 1 <= channels <= len(LAYOUTS):
        raise ValueError(
            f"expected 1 to {len(LAYOUTS)} channels as [channels, samples], got {channels}"
        )
    return LAYOUTS[channels - 1]


def _shaped(samples: Samples | torch.Tensor) -> Samples:
    array = samples.detach().cpu().numpy() if is_tensor(samples) else samples
    if not isinstance(array, np.ndarray):
        raise TypeError(
            f"expected samples as a numpy array or a torch tensor, got {type(samples).__name__}"
        )
    if array.ndim not in (1, 2):
        raise ValueError(
            f"expected [channels, samples] or [samples], got shape {list(array.shape)}"
        )
    return array if array.ndim == 2 else array[np.newaxis]


def _format_of(dtype: np.dtype[Any]) -> str:
    for sample_format, known in DTYPES.items():
        if known == dtype:
            return sample_format
    if dtype.kind == "f":
        return "flt"
    raise TypeError(f"expected samples of floats, int16, int32 or uint8, got {dtype}")


def _recoded(array: Samples, dtype: np.dtype[Any]) -> Samples:
    """Bring samples to a dtype, and to the range that goes with it."""
    given = array.dtype
    if given == dtype:
        return array
    if given.kind == "f" and dtype.kind == "f":
        with np.errstate(over="ignore"):  # far beyond full scale is far beyond full scale
            return array.astype(dtype)
    if given.kind == "f":
        return _to_integers(array, dtype)
    if given.kind not in "iu" or (dtype.kind == "f" and given not in DTYPES.values()):
        raise TypeError(
            f"expected samples of {dtype}, of floats, int16, int32 or uint8, got {given}"
        )
    if dtype.kind == "f":
        middle, full = _range(given)
        return ((array.astype(np.float64) - middle) / full).astype(dtype)
    limits = np.iinfo(dtype)
    return array.clip(limits.min, limits.max).astype(dtype)


def _to_integers(array: Samples, dtype: np.dtype[Any]) -> Samples:
    middle, full = _range(dtype)
    limits = np.iinfo(dtype)
    unit = np.nan_to_num(array.astype(np.float64)).clip(-1, 1)
    scaled: Samples = np.rint(unit * full + middle)
    return scaled.clip(limits.min, limits.max).astype(dtype)


def _range(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Where silence is, and how far full scale is from it."""
    limits = np.iinfo(dtype)
    middle = (int(limits.max) + int(limits.min) + 1) // 2
    return middle, int(limits.max) + 1 - middle


def _to_array(frame: av.AudioFrame) -> Samples:
    channels = frame.layout.nb_channels
    if frame.format.is_planar and channels < POINTERS_IN_A_FRAME:
        return frame.to_ndarray()
    if frame.format.is_planar:
        packer = av.AudioResampler(format=frame.format.name.removesuffix("p"))
        frame = packer.resample(frame)[0]
    return np.ascontiguousarray(frame.to_ndarray().reshape(-1, channels).T)


def _to_av(array: Samples, sample_format: str, layout: str) -> av.AudioFrame:
    if sample_format.endswith("p") and len(array) < POINTERS_IN_A_FRAME:
        return av.AudioFrame.from_ndarray(
            np.ascontiguousarray(array), format=sample_format, layout=layout
        )
    packed = np.ascontiguousarray(array.T).reshape(1, -1)
    return av.AudioFrame.from_ndarray(packed, format=sample_format.removesuffix("p"), layout=layout)


def _as_tuple(frames: Sequence[AudioFrame] | AudioFrame) -> tuple[AudioFrame, ...]:
    return (frames,) if isinstance(frames, AudioFrame) else tuple(frames)


@frozen
class AudioOutput:
    """Processed frames with a name for what made them, as handlers of the first generation return them."""

    frames: tuple[AudioFrame, ...] = field(converter=_as_tuple)
    request_id: str = ""
