"""A picture on its way through a handler, converted only to what somebody asks for.

A frame holds what it was made from: a decoded picture, a tensor or an array. Nothing is converted before it is asked
for, so a frame that nobody looks at goes from the decoder to the encoder as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias

import av
import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from trickle_trio.media.colour import Colour
from trickle_trio.media.contexts import TIME_BASE
from trickle_trio.media.convert import PLANAR_RGB, RGB, RGB_FORMATS, Look, benches, draw
from trickle_trio.media.fit import Fit, Placement, place
from trickle_trio.media.pixels import SMALLEST, Layout, Pixels, packed_view, planar_views

if TYPE_CHECKING:
    import torch

Source: TypeAlias = av.VideoFrame | Pixels


class VideoFrame:
    """One picture with its time.

    Made by the decoder, by ``from_tensor`` or by ``from_ndarray``. Conversions block for a millisecond or two at 720p.
    Not for two threads at once.
    """

    __slots__ = (
        "_colour", "_placement", "_source", "_tensor", "_version",
        "log_timestamps", "pixel_aspect", "time_base", "timestamp",
    )  # fmt: skip

    timestamp: int
    """In units of ``time_base``."""
    time_base: Fraction
    """Seconds a unit."""
    log_timestamps: dict[str, float]
    """When the frame passed which station, for whoever measures. Goes on into frames made from this one."""
    pixel_aspect: Fraction
    """The width of a pixel over its height."""

    def __init__(
        self,
        source: Source,
        *,
        timestamp: int = 0,
        time_base: Fraction = TIME_BASE,
        colour: Colour | None = None,
        pixel_aspect: Fraction = Fraction(1),
        placement: Placement | None = None,
        log_timestamps: Mapping[str, float] | None = None,
    ) -> None:
        self._source = source
        self._colour = colour or _colour_of(source)
        self._placement = placement or Placement.whole(source.width, source.height)
        self._tensor: torch.Tensor | None = None
        self._version = 0
        self.timestamp = timestamp
        self.time_base = time_base
        self.pixel_aspect = pixel_aspect
        self.log_timestamps = dict(log_timestamps or {})

    # --- making one

    @classmethod
    def from_tensor(
        cls, tensor: torch.Tensor, timestamp: int = 0, time_base: Fraction = TIME_BASE
    ) -> VideoFrame:
        """Make a frame of a tensor: [H,W,C], [1,H,W,C], [C,H,W] or [1,C,H,W], C 1, 3 or 4, floats of 0..1 or uint8.

        Any device. The tensor is not copied: it is the frame's from now on. Raises ``TypeError`` or ``ValueError`` for
        anything else.
        """
        return cls(Pixels.of(tensor), timestamp=timestamp, time_base=time_base)

    @classmethod
    def from_ndarray(
        cls, array: NDArray[Any], timestamp: int = 0, time_base: Fraction = TIME_BASE
    ) -> VideoFrame:
        """Make a frame of an array; shapes, types and errors as for ``from_tensor``."""
        return cls(Pixels.of(array), timestamp=timestamp, time_base=time_base)

    @classmethod
    def from_av_frame(
        cls, picture: av.VideoFrame, pixel_aspect: Fraction = Fraction(1)
    ) -> VideoFrame:
        """Make a frame of a picture of PyAV's, with its time and colour. The picture is the frame's from now on."""
        return cls(
            picture,
            timestamp=picture.pts or 0,
            time_base=picture.time_base or TIME_BASE,
            pixel_aspect=pixel_aspect,
        )

    def replace_tensor(self, tensor: torch.Tensor | NDArray[Any]) -> VideoFrame:
        """Make a frame with this one's time and colour and other pixels, of any size; see ``from_tensor``."""
        pixels = Pixels.of(tensor)
        same_shape = (pixels.width, pixels.height) == (self.width, self.height)
        return VideoFrame(
            pixels,
            timestamp=self.timestamp,
            time_base=self.time_base,
            colour=self._colour,
            pixel_aspect=self.pixel_aspect if same_shape else Fraction(1),
            log_timestamps=self.log_timestamps,
        )

    def fitted(self, width: int, height: int, fit: Fit = Fit.COVER) -> VideoFrame:
        """Make a frame that shows this one's picture at another size.

        Nothing is scaled before it is asked for (but fitting what was fitted scales that first). Raises ``ValueError``
        for a size below 2x2.
        """
        if min(width, height) < SMALLEST:
            raise ValueError(
                f"expected a size of at least {SMALLEST}x{SMALLEST}, got {width}x{height}"
            )
        source, placement = self._shown()
        if placement != Placement.whole(source.width, source.height):
            source = self.to_av_frame()
        return VideoFrame(
            source,
            timestamp=self.timestamp,
            time_base=self.time_base,
            colour=self._colour,
            placement=place((source.width, source.height), (width, height), fit, self.pixel_aspect),
            log_timestamps=self.log_timestamps,
        )

    # --- what it says

    @property
    def width(self) -> int:
        """In pixels."""
        return self._placement.width

    @property
    def height(self) -> int:
        """In pixels."""
        return self._placement.height

    @property
    def seconds(self) -> float:
        """The time stamp in seconds."""
        return float(self.timestamp * self.time_base)

    @property
    def colour(self) -> Colour:
        """What the numbers mean when this is (again) a YUV picture."""
        return self._colour

    def __repr__(self) -> str:
        source, _ = self._shown()
        held = source.format if isinstance(source, Pixels) else source.format.name
        return f"<VideoFrame {self.width}x{self.height} {held} at {self.seconds:.3f} s>"

    # --- what it shows

    @property
    def tensor(self) -> torch.Tensor:
        """[H,W,3] float32 of 0..1 on the CPU, made at the first call.

        In memory, each colour lies by itself: ``.permute(2, 0, 1)``, as most models want it, is contiguous and costs
        nothing, and work on one colour is three times as fast. Where the colours of a pixel have to lie side by side,
        ask for ``to_tensor()``.

        It is this frame's own: what torch changes in it in place, the frame shows. Changes behind torch's back (through
        ``.numpy()`` or ``.data``) are not seen; give the result back with ``replace_tensor``.
        """
        if self._tensor is None:
            from trickle_trio.media.tensors import own_floats  # noqa: PLC0415 - it imports torch

            self._tensor = own_floats(self._own_pixels() or planar_views(self._drawn(PLANAR_RGB)))
            self._version = _version(self._tensor)
        return self._tensor

    def to_tensor(
        self,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        layout: Layout = "HWC",
    ) -> torch.Tensor:
        """Make a new tensor: floats of 0..1 (float32 unless ``dtype`` says otherwise), or 0..255 with uint8.

        ``layout`` is "HWC", "CHW", "BHWC" or "BCHW", B being 1. On a GPU the bytes cross the bus, from pinned memory
        and without waiting, and become floats there. Raises ``TypeError`` for another dtype, ``ValueError`` for
        another layout.
        """
        from trickle_trio.media.tensors import Wanted  # noqa: PLC0415 - it imports torch

        wanted = Wanted.of(device, dtype, layout)
        if wanted.takes_planes and isinstance(self._shown()[0], av.VideoFrame):
            return wanted.from_planes(planar_views(self._drawn(PLANAR_RGB)))
        pixels = self._own_pixels()
        if pixels is not None:
            return wanted.from_pixels(pixels)
        return wanted.from_packed(packed_view(self._drawn(RGB)))

    def to_ndarray(self) -> NDArray[np.uint8]:
        """Make a new array: uint8 [H,W,3]. What is changed in it, the frame does not show."""
        picture = self._drawn(RGB)
        array = packed_view(picture)
        source = self._source
        is_own = isinstance(source, Pixels) or source.format.name != RGB
        return array if is_own and array.flags.c_contiguous else array.copy()

    def to_av_frame(self, tensor: torch.Tensor | NDArray[Any] | None = None) -> av.VideoFrame:
        """Give the picture as PyAV has it, with its time: as it was decoded, or rgb24 where it is pixels.

        Do not draw into it: frames may share a decoded picture. With ``tensor``: that instead of what the frame shows.
        """
        if tensor is not None:
            return self.replace_tensor(tensor).to_av_frame()
        source, _ = self._shown()
        picture = self._drawn(RGB if isinstance(source, Pixels) else source.format.name)
        picture.pts, picture.time_base = self.timestamp, self.time_base
        return picture

    def rendered(self, look: Look) -> av.VideoFrame:
        """Give the picture as an encoder wants it; where that is how it was decoded, the decoded picture itself.

        A picture one pixel too large (odd sizes, with 4:2:0) loses the last row or column; any other is scaled to
        cover the wanted size.
        """
        excess = (self.width - look.width, self.height - look.height)
        if not all(0 <= pixels < SMALLEST for pixels in excess):
            return self.fitted(look.width, look.height).rendered(look)
        return self._draw(look)

    # --- how

    def _shown(self) -> tuple[Source, Placement]:
        """What this frame is drawn from now: its own tensor once somebody has changed that."""
        if self._tensor is None or _version(self._tensor) == self._version:
            return self._source, self._placement
        return Pixels.of(self._tensor), Placement.whole(self.width, self.height)

    def _own_pixels(self) -> Pixels | None:
        """The user's pixels, where they are what this frame shows."""
        source, placement = self._shown()
        is_whole = placement == Placement.whole(source.width, source.height)
        return source if isinstance(source, Pixels) and is_whole else None

    def _drawn(self, pixel_format: str) -> av.VideoFrame:
        return self._draw(Look(self.width, self.height, pixel_format, self._colour))

    def _draw(self, look: Look) -> av.VideoFrame:
        source, placement = self._shown()
        if isinstance(source, av.VideoFrame):
            return draw(source, self._colour, placement, look)
        with benches.lend((source.format, placement, look)) as bench:
            # An RGB picture may come back as it is, so it must not be a lent one.
            if look.format in RGB_FORMATS:
                base = av.VideoFrame(source.width, source.height, RGB)
            else:
                base = bench.scratch(source.width, source.height, source.format)
            source.fill(base)
            return bench.draw(base, self._colour, placement, look)


def _colour_of(source: Source) -> Colour:
    return (
        Colour.of(source)
        if isinstance(source, av.VideoFrame)
        else Colour.usual(source.width, source.height)
    )


def _version(tensor: torch.Tensor) -> int:
    """How often a tensor has been changed in place."""
    return tensor._version  # noqa: SLF001 - torch documents it and has no public name for it


@frozen
class VideoOutput:
    """A processed frame with a name for what made it, as handlers of the first generation return it."""

    frame: VideoFrame
    request_id: str = ""

    @property
    def timestamp(self) -> int:
        """The frame's."""
        return self.frame.timestamp

    @property
    def time_base(self) -> Fraction:
        """The frame's."""
        return self.frame.time_base

    @property
    def tensor(self) -> torch.Tensor:
        """The frame's."""
        return self.frame.tensor
