"""What a processor asks of the streams that it runs in: an overlay while it is not ready, and how frames are left out.

The names and the defaults are those that today's programs use.
"""

from __future__ import annotations

import math
from enum import Enum
from pathlib import Path

from attrs import Attribute, converters, field, frozen


class OverlayMode(Enum):
    """What is shown in place of frames that the processor does not give."""

    PROGRESSBAR = "progressbar"
    """A message and a bar over the dim input."""
    PASSTHROUGH = "passthrough"
    """The input as it came."""


def _share(progress: float | None) -> float | None:
    if progress is None:
        return None
    if math.isnan(progress):
        raise ValueError("progress must be a number from 0 to 1, or None; got NaN")
    return min(max(float(progress), 0.0), 1.0)


def _is_font(_: object, __: Attribute[Path | None], path: Path | None) -> None:
    if path is not None and not path.is_file():
        raise ValueError(f"font: there is no file {str(path)!r}")


def _seconds(time: float | None) -> float | None:
    if time is not None and not time >= 0:
        raise ValueError(f"auto_timeout_seconds must be seconds, or None; got {time!r}")
    return time


def _at_least_one(count: int) -> int:
    return max(1, int(count))


def _is_text(_: object, attribute: Attribute[str], value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{attribute.name} must be text, not {value!r}")


@frozen
class OverlayConfig:
    """The loading overlay of a processor's streams. Given to a processor, it comes by itself.

    ``message`` and ``progress`` (0..1; None: unknown, the bar shimmers) are what it begins with;
    ``set_loading_progress`` changes them. ``enabled``: False, and it is never shown, whoever asks.
    ``auto_timeout_seconds``: it comes when frames have gone in and nothing has come out for so long; None: only when
    asked for. ``frame_count_to_disable``: it goes after so many frames in a row that came out. ``font``: the file of a
    TrueType or OpenType font; None: one that has Latin letters. ``TypeError``, ``ValueError``: it cannot be so.
    """

    mode: OverlayMode = field(default=OverlayMode.PROGRESSBAR, converter=OverlayMode)
    message: str = field(default="Loading...", validator=_is_text)
    progress: float | None = field(default=None, converter=_share)
    enabled: bool = True
    auto_timeout_seconds: float | None = field(default=1.5, converter=_seconds)
    frame_count_to_disable: int = field(default=1, converter=_at_least_one)
    font: Path | None = field(
        default=None, converter=converters.optional(Path), validator=_is_font, kw_only=True
    )
