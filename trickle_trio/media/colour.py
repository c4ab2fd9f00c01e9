"""What the numbers of a picture mean: matrix, range, primaries, transfer.

The codes are those of ITU-T H.273 (ISO/IEC 23091-2), as H.264 and H.265 carry them and libav hands them on.
"""

from __future__ import annotations

from typing import Final

import av
from attrs import frozen
from av.video.reformatter import ColorRange

BT709: Final = 1
UNSPECIFIED: Final = 2
SMPTE170M: Final = 6
"""BT.601 for 525 lines; its matrix is that of 5 (BT.470BG, 625 lines)."""

HD_HEIGHT: Final = 720
HD_WIDTH: Final = 1280
"""From here on a picture that says nothing is taken for BT.709, as players do."""

_MEANINGLESS: Final = (0, UNSPECIFIED, 3)
"""Matrix codes that do not tell how to get from YUV to RGB: identity (it is RGB), unspecified, reserved."""

_SWSCALE_MATRIX: Final = {BT709: 1, 4: 4, 5: 5, SMPTE170M: 5, 7: 7, 9: 9, 10: 9}
"""H.273 matrix to swscale's ``SWS_CS_*`` (libswscale/swscale.h)."""


@frozen
class Colour:
    """How the numbers of a YUV picture are to be read. ``full_range``: 0..255 instead of 16..235."""

    matrix: int
    full_range: bool = False
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED

    @staticmethod
    def usual(width: int, height: int) -> Colour:
        """What a picture of this size means that says nothing: BT.709 for HD, BT.601 below, limited range."""
        return Colour(_usual_matrix(width, height))

    @classmethod
    def of(cls, picture: av.VideoFrame) -> Colour:
        """Read the tags of a picture; what is missing is filled in by its size."""
        matrix, layout = picture.colorspace, picture.format
        rgb = layout.is_rgb
        if rgb or matrix in _MEANINGLESS:
            matrix = _usual_matrix(picture.width, picture.height)
        full = picture.color_range == ColorRange.JPEG or layout.name.startswith("yuvj")
        return cls(matrix, not rgb and full, picture.color_primaries, picture.color_trc)

    @property
    def range(self) -> ColorRange:
        """The range as libav names it."""
        return ColorRange.JPEG if self.full_range else ColorRange.MPEG

    @property
    def swscale_matrix(self) -> int:
        """The matrix as swscale names it; BT.709 for the few that swscale has no numbers for."""
        return _SWSCALE_MATRIX.get(self.matrix, 1)

    def tag(self, picture: av.VideoFrame) -> None:
        """Write the tags onto a picture."""
        picture.colorspace = self.matrix
        picture.color_range = self.range
        picture.color_primaries = self.primaries
        picture.color_trc = self.transfer


def _usual_matrix(width: int, height: int) -> int:
    return BT709 if width >= HD_WIDTH or height >= HD_HEIGHT else SMPTE170M
