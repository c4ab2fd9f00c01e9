"""What a processor asks of the streams that it runs in: an overlay while it is not ready, and how frames are left out.

The names and the defaults are those that today's programs use.
"""

from __future__ import annotations

import math
from enum import Enum
from pathlib import Path

from attrs import Attribute, converters, field, frozen, validators


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


def _rate(fps: float | None) -> float | None:
    if fps is not None and not 0 < fps < math.inf:
        raise ValueError(f"target_fps must be frames a second, or None; got {fps!r}")
    return fps


@frozen
class FrameSkipConfig:
    """Which frames a handler does not get that is slower than the input: evenly spaced ones, before they wait.

    Without it, frames wait, and when there are too many the oldest go: the handler is busy all the time, and what it
    gets is as old as the queue is long. With it, it gets as many as it has managed lately, and those are fresh.

    ``target_fps``: frames a second at most, below ``max_framerate``; None: the input's. ``adaptation_cooldown``:
    seconds between two adaptations to the handler's speed, at least. ``max_queue_size``: frames that may wait, at most.
    ``max_cleanup_frames`` is taken for the sake of today's programs: a queue that is never too long needs no cleaning.
    ``ValueError``: it cannot be so.
    """

    target_fps: float | None = field(default=None, converter=_rate)
    adaptation_cooldown: float = field(default=0.5, validator=validators.ge(0))
    max_queue_size: int = field(default=15, validator=validators.ge(1))
    max_cleanup_frames: int = 50
