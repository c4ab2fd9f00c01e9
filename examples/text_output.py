"""Text beside the picture: a line on the data channel every so many frames.

    trickle serve examples/text_output.py:Brightness
    trickle stream start --subscribe-url http://127.0.0.1:3389/in --data-url http://127.0.0.1:3389/data
    trickle subscribe http://127.0.0.1:3389/data
    trickle stream params --param every=10

Without a publish_url nothing is encoded: the text is all that comes out.
"""

from __future__ import annotations

import trio
from attrs import field, frozen
from attrs.validators import ge

from trickle_trio import FrameProcessor, VideoFrame, param_updater, serve


class Brightness(FrameProcessor):
    """Says how bright each so many-th picture is."""

    @frozen
    class Params:
        """What may be asked for."""

        every: int = field(default=30, validator=ge(1))
        """Frames from one line to the next."""

    params = Params()
    count = 0

    async def on_stream_start(self, params: Params) -> None:
        """Begin to count."""
        self.params, self.count = params, 0

    @param_updater
    async def change(self, params: Params) -> None:
        """Take parameters."""
        self.params = params

    async def process_video_async(self, frame: VideoFrame) -> None:
        """Look at a picture, and pass it on."""
        if self.count % self.params.every == 0:
            level = float(frame.to_ndarray().mean()) / 255
            await self.send_data({"frame": self.count, "seconds": frame.seconds, "level": level})
        self.count += 1


if __name__ == "__main__":
    trio.run(serve(Brightness()))
