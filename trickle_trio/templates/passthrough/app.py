"""Every kind of handler, none of which does anything: the place to start from.

Each handler may be left out, and may be ``async def`` (it runs in the Trio loop) or ``def`` (it runs in a thread of its
own, where it may block). Without the audio handler sound would be copied, and never decoded.
"""

from __future__ import annotations

from typing import Any

import trio

from trickle_trio import (
    AudioFrame,
    VideoFrame,
    audio_handler,
    model_loader,
    on_stream_start,
    on_stream_stop,
    param_updater,
    serve,
    video_handler,
)


class Passthrough:
    """A processor: an object with marked methods."""

    @model_loader
    def load(self) -> None:
        """Load the model: once, in the background, while the service answers LOADING."""

    @on_stream_start
    async def begin(self, params: dict[str, Any]) -> None:
        """Take the parameters of the start."""

    @video_handler
    async def picture(self, frame: VideoFrame) -> VideoFrame:
        """Give back the picture, or another: ``frame.replace_tensor(self.model(frame.tensor))``."""
        return frame

    @audio_handler
    async def sound(self, frame: AudioFrame) -> AudioFrame:
        """Give back the sound, or other: ``frame.replace_samples(self.filter(frame.samples))``."""
        return frame

    @param_updater
    async def change(self, params: dict[str, Any]) -> None:
        """Take parameters that changed while the stream runs."""

    @on_stream_stop
    async def end(self) -> None:
        """Clean up after a stream, however it ended."""


if __name__ == "__main__":
    trio.run(serve(Passthrough()))
