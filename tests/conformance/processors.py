"""Processors for the services that the suite starts itself; it needs them for nothing else."""

from __future__ import annotations

import trio

from trickle_trio import FrameProcessor, VideoFrame


def passthrough(frame: VideoFrame) -> VideoFrame:
    """Change nothing."""
    return frame


class Endless(FrameProcessor):
    """A model that never gets loaded."""

    async def load_model(self, **kwargs: object) -> None:
        """Take for ever."""
        await trio.sleep_forever()

    async def process_video_async(self, frame: VideoFrame) -> VideoFrame:
        """Never called."""
        return frame
