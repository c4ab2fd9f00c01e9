"""An app with routes of its own: the service is an ordinary Quart app, and is extended in Quart's ways.

python examples/own_routes.py
curl http://127.0.0.1:8000/mood
curl -X PUT http://127.0.0.1:8000/mood/cold
"""

from __future__ import annotations

import torch
import trio
from quart import Response, abort

from trickle_trio import FrameProcessor, TrickleApp, VideoFrame, create_app

PAGES = "http://localhost:3000"
MOODS = {"warm": (1.2, 1.0, 0.8), "plain": (1.0, 1.0, 1.0), "cold": (0.8, 1.0, 1.2)}


class Mood(FrameProcessor):
    """Multiplies the colours of each picture."""

    mood = "plain"

    async def process_video_async(self, frame: VideoFrame) -> VideoFrame:
        """Colour one picture."""
        return frame.replace_tensor(frame.tensor * torch.tensor(MOODS[self.mood]))


def make_app(port: int = 8000) -> TrickleApp:
    """Put routes, a header on every answer and a start function beside what the service has.

    Web pages of other sites may change nothing here, but for those of ``PAGES``.
    """
    processor = Mood()
    app = create_app(processor, port=port, allow_origins=[PAGES])

    @app.get("/mood")
    async def tell() -> dict[str, str]:
        return {"mood": processor.mood}

    @app.put("/mood/<name>")
    async def change(name: str) -> dict[str, str]:
        if name not in MOODS:
            abort(404, f"expected one of {', '.join(MOODS)}")
        processor.mood = name
        return await tell()

    @app.after_request
    async def show_mood(response: Response) -> Response:
        response.headers["X-Mood"] = processor.mood
        return response

    @app.before_serving
    async def announce() -> None:
        print(f"moods: {', '.join(MOODS)}", flush=True)

    return app


if __name__ == "__main__":
    trio.run(make_app().service)
