"""A loading overlay: while another model loads, viewers see the dim input with a bar, and no frozen picture.

    trickle serve examples/overlay.py:Models
    trickle stream params --param model=cold

It comes by itself too, when nothing has come out of the handler for 1.5 seconds: ``overlay_config`` is for that.
"""

from __future__ import annotations

import torch
import trio
from attrs import field, frozen
from attrs.validators import ge, in_

from trickle_trio import FrameProcessor, OverlayConfig, VideoFrame, param_updater, serve

MODELS = {"warm": (1.3, 1.0, 0.7), "cold": (0.7, 1.0, 1.3)}
"""What each does to red, green and blue."""

STEPS = 20


class Models(FrameProcessor):
    """Colours pictures by a model that can be changed while the stream runs."""

    overlay_config = OverlayConfig()

    @frozen
    class Params:
        """What may be asked for."""

        model: str = field(default="warm", validator=in_(list(MODELS)))
        """Which model."""
        load_seconds: float = field(default=5.0, validator=ge(0))
        """How long it takes to load."""

    async def on_stream_start(self, params: Params) -> None:
        """Begin with a model that is there already."""
        self.use(params.model)

    @param_updater
    async def change(self, params: Params) -> None:
        """Load another model. Whoever asked for it gets the answer when it is there."""
        if params.model == self.model:
            return
        self.set_loading_overlay(enabled=True)
        try:
            for step in range(STEPS):
                self.set_loading_progress(step / STEPS, f"Loading {params.model}")
                await trio.sleep(params.load_seconds / STEPS)
            self.use(params.model)
        finally:
            self.set_loading_overlay(enabled=False)

    def use(self, model: str) -> None:
        """Use a model from the next picture on."""
        self.model = model
        self.gain = torch.tensor(MODELS[model])

    async def process_video_async(self, frame: VideoFrame) -> VideoFrame:
        """Colour one picture."""
        return frame.replace_tensor(frame.tensor * self.gain)


if __name__ == "__main__":
    trio.run(serve(Models()))
