"""The user's code and its rules. Knows no network and no codec.

Frames come in, whatever form the user chose is called with them, frames go out. ``as_processor`` is the door for the
user's side, ``Handlers`` for the pipeline's, ``service_hook`` leads up to the service.
"""

from __future__ import annotations

from trickle_trio.processor.base import FrameProcessor
from trickle_trio.processor.decorators import (
    audio_handler,
    model_loader,
    on_stream_start,
    on_stream_stop,
    param_updater,
    video_handler,
)
from trickle_trio.processor.errors import HandlerError, ParamsError, WrongReturnError
from trickle_trio.processor.forms import Processor, as_processor
from trickle_trio.processor.functions import StreamProcessor
from trickle_trio.processor.handler import HandlerStatistics
from trickle_trio.processor.handlers import Handlers
from trickle_trio.processor.hosting import service_hook
from trickle_trio.processor.loading import LoadState
from trickle_trio.processor.options import FrameSkipConfig, OverlayConfig, OverlayMode
from trickle_trio.processor.outlet import StreamLink
from trickle_trio.processor.results import VideoProcessingResult, Withheld

__all__ = [
    "FrameProcessor",
    "FrameSkipConfig",
    "HandlerError",
    "HandlerStatistics",
    "Handlers",
    "LoadState",
    "OverlayConfig",
    "OverlayMode",
    "ParamsError",
    "Processor",
    "StreamLink",
    "StreamProcessor",
    "VideoProcessingResult",
    "Withheld",
    "WrongReturnError",
    "as_processor",
    "audio_handler",
    "model_loader",
    "on_stream_start",
    "on_stream_stop",
    "param_updater",
    "service_hook",
    "video_handler",
]
