"""Sound: an echo, and another pitch. The picture is copied, it is neither decoded nor encoded anew.

    trickle serve examples/audio.py:Echo
    trickle stream params --param delay=0.4 --param level=0.7

    trickle serve examples/audio.py:Pitch
    trickle stream params --param factor=1.6

A frame's ``samples`` are [channels, samples], floats of -1..1 for what AAC and Opus decode to; a frame lasts about
20 ms, so whoever needs what came before keeps it.
"""

from __future__ import annotations

import numpy as np
import trio
from attrs import field, frozen
from attrs.validators import ge, le
from numpy.typing import NDArray

from trickle_trio import AudioFrame, audio_handler, param_updater, serve

Samples = NDArray[np.float32]


class Echo:
    """Adds what was heard a while ago."""

    @frozen
    class Params:
        """What may be asked for."""

        delay: float = field(default=0.25, validator=[ge(0), le(5)])
        """In seconds."""
        level: float = field(default=0.5, validator=[ge(0), le(1)])
        """How loud the echo is, compared to what it repeats."""

    params = Params()
    past: Samples = np.zeros((1, 0), np.float32)

    @param_updater
    async def change(self, params: Params) -> None:
        """Take parameters."""
        self.params = params

    @audio_handler
    async def sound(self, frame: AudioFrame) -> AudioFrame:
        """Mix the past in."""
        length = round(self.params.delay * frame.rate)
        if self.past.shape != (frame.channels, length):
            self.past = np.zeros((frame.channels, length), np.float32)
        heard = np.concatenate((self.past, frame.samples), axis=1)
        self.past = heard[:, frame.nb_samples :]
        echo = self.params.level * heard[:, : frame.nb_samples]
        return frame.replace_samples(frame.samples + echo)


class Pitch:
    """Makes every tone higher or lower, without making it shorter or longer.

    As tape machines did it: two heads run over a short loop of tape faster than it was written. Each fades out before
    it has to jump back, while the other is in the middle of its way.
    """

    @frozen
    class Params:
        """What may be asked for."""

        factor: float = field(default=1.6, validator=[ge(0.25), le(4)])
        """2 is an octave higher, 0.5 one lower."""

    params = Params()
    loop_seconds = 0.04
    phase = 0.0
    past: Samples = np.zeros((1, 0), np.float32)

    @param_updater
    async def change(self, params: Params) -> None:
        """Take parameters."""
        self.params = params

    @audio_handler
    async def sound(self, frame: AudioFrame) -> AudioFrame:
        """Read the tape with both heads."""
        loop = round(self.loop_seconds * frame.rate)
        if self.past.shape != (frame.channels, loop):
            self.past = np.zeros((frame.channels, loop), np.float32)
        tape = np.concatenate((self.past, frame.samples), axis=1)
        phases = self.phase - np.arange(frame.nb_samples + 1) * (self.params.factor - 1) / loop
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


if __name__ == "__main__":
    trio.run(serve(Echo()))
