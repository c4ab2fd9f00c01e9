"""What a handler may give back, and what it means.

The way to write a handler that suits its author is the right one: a frame, the bare tensor or array, a list around
it, nothing at all. Anything else is told apart here, by name and kind, and not by a crash two stations further on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, Final, TypeVar

import numpy as np

from trickle_trio.media.frames import AudioFrame, AudioOutput, VideoFrame, VideoOutput
from trickle_trio.media.pixels import is_tensor
from trickle_trio.processor.errors import WrongReturnError

T = TypeVar("T")


class VideoProcessingResult(Enum):
    """What a handler can say instead of a frame. ``WITHHELD``: publish nothing for this one."""

    WITHHELD = "withheld"


Withheld: Final = VideoProcessingResult.WITHHELD

_VIDEO: Final = (
    "expected a VideoFrame, a tensor or array of a picture, None to pass the input on, or Withheld"
)
_AUDIO: Final = (
    "expected a list of AudioFrame, one AudioFrame, samples, None to pass the input on, or Withheld"
)


def video_result(result: Any, frame: VideoFrame, label: str) -> VideoFrame | VideoProcessingResult:
    """Read what a video handler made of ``frame``. Raises WrongReturnError, saying what it got instead."""
    single = _unpack(result)
    if single is None:
        return frame
    if isinstance(single, VideoFrame) or single is Withheld:
        return single
    if _is_data(single):
        return _wrap(frame.replace_tensor, single, label)
    raise _wrong(label, result, _VIDEO)


def _unpack(result: Any) -> Any:
    """Take the picture out of what handlers put around it: a list of one, a ``VideoOutput``."""
    if isinstance(result, (list, tuple)) and len(result) == 1:
        result = result[0]
    return result.frame if isinstance(result, VideoOutput) else result


def audio_result(result: Any, frame: AudioFrame, label: str) -> list[AudioFrame]:
    """Read what an audio handler made of ``frame``. Raises WrongReturnError, saying what it got instead."""
    if result is None:
        return [frame]
    return list(_sounds(result, frame, label))


def _sounds(result: Any, frame: AudioFrame, label: str) -> Iterator[AudioFrame]:
    if result is Withheld:
        return
    if isinstance(result, AudioFrame):
        yield result
    elif isinstance(result, AudioOutput):
        yield from _sounds(list(result.frames), frame, label)
    elif _is_data(result):
        yield _wrap(frame.replace_samples, result, label)
    elif isinstance(result, (list, tuple)):
        for item in result:
            if isinstance(item, (list, tuple)):
                raise _wrong(label, result, _AUDIO)
            yield from _sounds(item, frame, label)
    else:
        raise _wrong(label, result, _AUDIO)


def _is_data(value: object) -> bool:
    return isinstance(value, np.ndarray) or is_tensor(value)


def _wrap(make: Callable[[Any], T], data: Any, label: str) -> T:
    """Put bare data into a frame with the input's time, and let the frame judge its shape."""
    try:
        return make(data)
    except (TypeError, ValueError) as error:
        raise WrongReturnError(label, f"returned data that is no frame: {error}") from error


def _wrong(label: str, result: Any, expected: str) -> WrongReturnError:
    return WrongReturnError(label, f"returned {_describe(result)}; {expected}")


def _describe(result: Any) -> str:
    """Say what it is, without its content: a list of floats may have a million."""
    if isinstance(result, (list, tuple)):
        kinds = ", ".join(type(item).__name__ for item in result[:3])
        return f"a {type(result).__name__} of {len(result)} ({kinds}{', ...' * (len(result) > 3)})"
    if isinstance(result, type):
        return f"the class {result.__name__}"
    return (
        f"{type(result).__name__} ({result!r:.60})" if _is_small(result) else type(result).__name__
    )


def _is_small(result: Any) -> bool:
    return isinstance(result, (bool, int, float, str, Enum))
