"""Text beside the picture: a line on the data channel every so many frames.

    trickle serve examples/text_output.py:Brightness
    trickle stream start --subscribe-url http://127.0.0.1:3389/in --data-url http://127.0.0.1:3389/data
    trickle subscribe http://127.0.0.1:3389/data
    trickle stream params --param every=10

Without a publish_url nothing is encoded: the text is all that comes out.
"""

from __future__ import annotations

from typing import Any

import trio

from trickle_trio import FrameProcessor, VideoFrame, serve


class Brightness(FrameProcessor):
    """Says how bright each ``every``-th picture is."""

    every = 30
    count = 0

    async def on_stream_start(self, params: dict[str, Any]) -> None:
        """Begin to count."""
        self.count = 0
        await self.update_params(params)

    async def process_video_async(self, frame: VideoFrame) -> None:
        """Look at a picture, and pass it on."""
        if self.count % self.every == 0:
            level = float(frame.to_ndarray().mean()) / 255
            await self.send_data({"frame": self.count, "seconds": frame.seconds, "level": level})
        self.count += 1

    async def update_params(self, params: dict[str, Any]) -> None:
        """Take ``every``, at least 1."""
        self.every = max(int(params.get("every", self.every)), 1)


if __name__ == "__main__":
    trio.run(serve(Brightness()))
