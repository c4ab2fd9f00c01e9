"""Sound: an echo, and another pitch. The picture is copied, it is neither decoded nor encoded anew.

    trickle serve examples/audio.py:Echo
    trickle stream params --param delay=0.4 --param level=0.7

    trickle serve examples/audio.py:Pitch
    trickle stream params --param factor=1.6

A frame's ``samples`` are [channels, samples], floats of -1..1 for what AAC and Opus decode to; a frame lasts about
20 ms, so whoever needs what came before keeps it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import trio
from numpy.typing import NDArray

from trickle_trio import AudioFrame, FrameProcessor, serve

Samples = NDArray[np.float32]


class Echo(FrameProcessor):
    """Adds what was heard ``delay`` seconds ago, at ``level`` times its loudness."""

    delay = 0.25
    level = 0.5
    past: Samples = np.zeros((1, 0), np.float32)

    async def process_audio_async(self, frame: AudioFrame) -> AudioFrame:
        """Mix the past in."""
        length = round(self.delay * frame.rate)
        if self.past.shape != (frame.channels, length):
            self.past = np.zeros((frame.channels, length), np.float32)
        heard = np.concatenate((self.past, frame.samples), axis=1)
        self.past = heard[:, frame.nb_samples :]
        return frame.replace_samples(frame.samples + self.level * heard[:, : frame.nb_samples])

    async def update_params(self, params: dict[str, Any]) -> None:
        """Take ``delay`` (seconds, up to 5) and ``level`` (0 to 1)."""
        self.delay = min(max(float(params.get("delay", self.delay)), 0.0), 5.0)
        self.level = min(max(float(params.get("level", self.level)), 0.0), 1.0)


class Pitch(FrameProcessor):
    """Makes every tone ``factor`` times as high, without making it shorter.

    As tape machines did it: two heads run over a short loop of tape faster than it was written. Each fades out before
    it has to jump back, while the other is in the middle of its way.
    """

    factor = 1.6
    loop_seconds = 0.04
    phase = 0.0
    past: Samples = np.zeros((1, 0), np.float32)

    async def process_audio_async(self, frame: AudioFrame) -> AudioFrame:
        """Read the tape with both heads."""
        loop = round(self.loop_seconds * frame.rate)
        if self.past.shape != (frame.channels, loop):
            self.past = np.zeros((frame.channels, loop), np.float32)
        tape = np.concatenate((self.past, frame.samples), axis=1)
        phases = self.phase - np.arange(frame.nb_samples + 1) * (self.factor - 1) / loop
        self.past, self.phase = tape[:, frame.nb_samples :], phases[-1] % 1
        heads = (self.head(tape, (phases[:-1] + shift) % 1, loop) for shift in (0, 0.5))
        return frame.replace_samples(sum(heads, np.zeros_like(frame.samples)))

    def head(self, tape: Samples, phases: NDArray[np.float64], loop: int) -> Samples:
        """What one head reads: ``phases`` says how far it is behind, as a part of the loop."""
        places = loop + np.arange(len(phases)) - phases * loop
        fade = np.sin(np.pi * phases) ** 2
        known = np.arange(tape.shape[1])
        read = [fade * np.interp(places, known, channel) for channel in tape]
        return np.asarray(read, np.float32)

    async def update_params(self, params: dict[str, Any]) -> None:
        """Take ``factor``: 2 is an octave higher, 0.5 one lower."""
        self.factor = min(max(float(params.get("factor", self.factor)), 0.25), 4.0)


if __name__ == "__main__":
    trio.run(serve(Echo()))
