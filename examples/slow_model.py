"""A green tint whose model takes five seconds to load.

    trickle serve examples/slow_model.py:GreenTint
    curl http://127.0.0.1:8000/health

The service is there at once and answers LOADING; it answers IDLE, and takes streams, when the model is loaded.
"""

from __future__ import annotations

import torch
import trio

from trickle_trio import FrameProcessor, VideoFrame, serve


class GreenTint(FrameProcessor):
    """Multiplies the green of each picture. ``GreenTint(load_seconds=0)`` does not take its time."""

    async def load_model(self, load_seconds: float = 5.0) -> None:
        """Load the model: keywords are those that the processor was made with.

        A real one blocks while it loads, and so is loaded by a ``def load_model``, which runs in a thread.
        """
        await trio.sleep(load_seconds)
        self.gain = torch.tensor([1.0, 2.0, 1.0])

    async def process_video_async(self, frame: VideoFrame) -> VideoFrame:
        """Tint one picture."""
        return frame.replace_tensor(frame.tensor * self.gain)


if __name__ == "__main__":
    trio.run(serve(GreenTint()))
