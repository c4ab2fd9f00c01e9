"""Sound, louder or softer, without clipping.

The picture is copied, it is neither decoded nor encoded anew.
"""

from __future__ import annotations

import numpy as np
import trio
from attrs import field, frozen
from attrs.validators import ge, le

from trickle_trio import AudioFrame, audio_handler, param_updater, serve


class Volume:
    """Multiplies all samples, and bends what would be too loud."""

    @frozen
    class Params:
        """What may be asked for. Wrong values are refused by name, and the dashboard draws a control for each."""

        gain: float = field(default=2.0, validator=[ge(0), le(10)])
        """1 leaves the sound as it is, nearly."""

    params = Params()

    @param_updater
    async def change(self, params: Params) -> None:
        """Take all parameters as they are from now on: at the start, and at each change."""
        self.params = params

    @audio_handler
    async def sound(self, frame: AudioFrame) -> AudioFrame:
        """Handle some 20 ms of sound. ``frame.samples`` are [channels, samples], floats of -1..1 mostly."""
        return frame.replace_samples(np.tanh(frame.samples * self.params.gain))


if __name__ == "__main__":
    trio.run(serve(Volume()))
