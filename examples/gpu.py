"""On the GPU where there is one, on the CPU where there is none.

    trickle serve examples/gpu.py:Blur

Only the bytes of the picture cross the bus, from pinned memory; they become floats on the GPU. The result may stay
there: it is fetched when it is encoded.
"""

from __future__ import annotations

import torch
import trio
from torch import Tensor, nn

from trickle_trio import VideoFrame, model_loader, serve, video_handler


class Blur:
    """Blurs pictures with a small convolution."""

    @model_loader
    def load(self) -> None:
        """Load the model to where it will work."""
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        name = (
            torch.cuda.get_device_name()
            if self.device.type == "cuda"
            else "the CPU, for want of a GPU"
        )
        print(f"working on {name}", flush=True)
        model = nn.Conv2d(3, 3, 5, padding=2, padding_mode="reflect", groups=3, bias=False)
        nn.init.constant_(model.weight, 1 / 25)
        self.model = model.to(self.device).eval()

    @video_handler
    def picture(self, frame: VideoFrame) -> Tensor:
        """Blur one picture, in a thread."""
        with torch.inference_mode():
            return self.model(frame.to_tensor(self.device, layout="BCHW"))  # type: ignore[no-any-return]


if __name__ == "__main__":
    trio.run(serve(Blur()))
