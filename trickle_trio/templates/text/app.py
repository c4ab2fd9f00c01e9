"""Text beside the picture: it says when something begins to move, and when it ceases.

It is said on the data channel, a line each time. Started without a ``publish_url``, it encodes nothing: the text is all
that comes out.
"""

from __future__ import annotations

import numpy as np
import trio
from attrs import field, frozen
from attrs.validators import ge, le
from numpy.typing import NDArray

from trickle_trio import FrameProcessor, VideoFrame, param_updater, serve

STEP = 8
"""Every so many-th pixel is looked at, across and down."""


class Motion(FrameProcessor):
    """Compares each picture with the one before."""

    @frozen
    class Params:
        """What may be asked for. Wrong values are refused by name, and the dashboard draws a control for each."""

        threshold: float = field(default=0.02, validator=[ge(0), le(1)])
        """How much the picture must change, on average over all pixels, to be called moving."""

    params = Params()

    async def on_stream_start(self, params: Params) -> None:
        """Begin with nothing to compare with."""
        self.params = params
        self.before: NDArray[np.float32] | None = None
        self.moves = False

    @param_updater
    async def change(self, params: Params) -> None:
        """Take all parameters as they are from now on."""
        self.params = params

    async def process_video_async(self, frame: VideoFrame) -> None:
        """Look at a picture. Nothing is given back, so it is passed on as it is."""
        grey = frame.to_ndarray()[::STEP, ::STEP].mean(axis=2, dtype=np.float32) / 255
        if self.before is not None and self.before.shape == grey.shape:
            moves = bool(np.abs(grey - self.before).mean() > self.params.threshold)
            if moves is not self.moves:
                await self.send_data({"seconds": frame.seconds, "moves": moves})
            self.moves = moves
        self.before = grey


if __name__ == "__main__":
    trio.run(serve(Motion()))
