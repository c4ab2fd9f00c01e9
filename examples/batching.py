"""Several pictures in one call of the model.

    trickle serve examples/batching.py:Smooth

A model that is slower than the pictures come, and does four nearly as fast as one, keeps up when it is given four.
``concurrency=4`` says that four pictures may be with the handler at once; they come out in their order, whoever is
ready first. ``Batcher`` does the rest.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import trio
from attrs import define, field
from torch import Tensor

from trickle_trio import VideoFrame, model_loader, serve, video_handler


@define(eq=False)
class Place:
    """One picture in a batch."""

    picture: Tensor
    result: Tensor | None = None


@define(eq=False)
class Batcher:
    """Calls a model with all pictures that wait for it: [count, 3, height, width] in and out."""

    model: Callable[[Tensor], Tensor]
    _waiting: list[Place] = field(factory=list)
    _at_work: trio.Lock = field(factory=trio.Lock)

    async def __call__(self, picture: Tensor) -> Tensor | None:
        """Have one picture processed; None where the batch that it was in failed."""
        place = Place(picture)
        self._waiting.append(place)
        async with self._at_work:
            # Whoever comes while the model works waits here. The first of them takes all of them along.
            if place in self._waiting:
                await self._run()
        return place.result

    async def _run(self) -> None:
        batch, self._waiting = self._waiting, []
        pictures = torch.stack([place.picture for place in batch])
        results = await trio.to_thread.run_sync(self.model, pictures)
        for place, result in zip(batch, results, strict=True):
            place.result = result


def smooth(pictures: Tensor) -> Tensor:
    """Stand in for a model: each pixel becomes the mean of its neighbourhood."""
    return torch.nn.functional.avg_pool2d(pictures, 9, stride=1, padding=4, count_include_pad=False)


class Smooth:
    """Smooths pictures, several at once."""

    @model_loader
    def load(self) -> None:
        """Load the model."""
        self.batcher = Batcher(smooth)

    @video_handler(concurrency=4)
    async def picture(self, frame: VideoFrame) -> VideoFrame | None:
        """Process one picture, together with others."""
        result = await self.batcher(frame.to_tensor(layout="CHW"))
        return None if result is None else frame.replace_tensor(result)


if __name__ == "__main__":
    trio.run(serve(Smooth()))
