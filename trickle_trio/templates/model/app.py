"""A PyTorch model with a parameter, on the GPU where there is one.

It is loaded in the background, and runs in a thread. It finds edges with weights made by hand, so that nothing is to be
downloaded: put yours in its place.
"""

from __future__ import annotations

import torch
import trio
from attrs import field, frozen
from attrs.validators import ge, le
from torch import Tensor, nn

from trickle_trio import VideoFrame, model_loader, param_updater, serve, video_handler


class Edges(nn.Module):
    """Pictures [1, 3, height, width] in 0..1 in; how much of an edge each pixel is, in the same shape, out."""

    def __init__(self) -> None:
        super().__init__()
        across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 4
        self.kernels = nn.Parameter(torch.stack([across, across.T]).unsqueeze(1))

    def forward(self, pictures: Tensor) -> Tensor:
        """Look for them in the grey of the pictures."""
        grey = nn.functional.pad(pictures.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
        slopes = nn.functional.conv2d(grey, self.kernels)
        edges: Tensor = slopes.norm(dim=1, keepdim=True).clamp(0, 1)
        return edges.expand(-1, 3, -1, -1)


class Model:
    """Shows what the model makes of each picture."""

    @frozen
    class Params:
        """What may be asked for. Wrong values are refused by name, and the dashboard draws a control for each."""

        strength: float = field(default=1.0, validator=[ge(0), le(1)])
        """How much of the result is shown, and how little of the picture."""

    params = Params()

    @model_loader
    def load(self) -> None:
        """Load the model, in a thread: the service answers LOADING until it is done."""
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = Edges().to(self.device).eval()

    @param_updater
    async def change(self, params: Params) -> None:
        """Take all parameters as they are from now on: at the start, and at each change."""
        self.params = params

    @video_handler
    def picture(self, frame: VideoFrame) -> Tensor:
        """Run the model, in a thread. Any of [H, W, C], [C, H, W] and batches of one may be given back."""
        with torch.inference_mode():
            picture = frame.to_tensor(self.device, layout="BCHW")
            return picture.lerp(self.model(picture), self.params.strength)


if __name__ == "__main__":
    trio.run(serve(Model()))
