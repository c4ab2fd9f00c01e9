"""The decorators that make methods handlers, under the name that users know."""

from __future__ import annotations

from trickle_trio.processor.decorators import (
    audio_handler,
    model_loader,
    on_stream_start,
    on_stream_stop,
    param_updater,
    video_handler,
)

__all__ = [
    "audio_handler",
    "model_loader",
    "on_stream_start",
    "on_stream_stop",
    "param_updater",
    "video_handler",
]
