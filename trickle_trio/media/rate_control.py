"""Whether an encoder has to control its rate, or a constant quantiser will do.

A rate control that reckons with each picture's cost searches it for motion twice, once at half its size: a quarter of
what libx264 takes at ``superfast``. A constant quantiser needs none of that. One step finer than the quality asked for,
it looks the same: on real footage, bright, dark and zoomed, SSIM was within 0.003 (mostly above), PSNR 0.4 dB below to
1.3 above on average, 0.6 to 2 above in the worst picture, in 0.8 to 1.2 times the bits. But nothing holds it below a
cap. So it is used as long as it stays there by itself.
"""

from __future__ import annotations

from typing import Final

from attrs import Factory, define

from trickle_core.mpegts.units import CLOCK_RATE

BUFFER_SECONDS: Final = 1.0
"""At the cap: what an encoder may be ahead of it, which is what a player's buffer and an uplink have to bear."""

TOO_FULL: Final = 0.75
"""Of the buffer. The rest is for the key picture with which the controlled encoder begins."""

CALM_RATE: Final = 0.75
"""Of the cap: below this, a constant quantiser will hardly reach it again at once."""

CALM_SECONDS: Final = 5.0
"""That an encoder is controlled for at least, and for the longer, the less its rate is below the calm one: a change
costs an encoder and a key picture."""


@define
class LeakyBucket:
    """How many bits a stream is ahead of a bit rate (the model of H.264, annex C): bits come in, and drain steadily."""

    rate: float
    """Bits a second that drain."""
    size: float
    """Bits; what does not go in is forgotten."""
    _level: float = 0.0
    _pts: int | None = None

    def level(self, pts: int) -> float:
        """Give what is left at a time, in bits. Times are in 1/90000 s and never go back."""
        if self._pts is not None:
            drained = self.rate * (pts - self._pts) / CLOCK_RATE
            self._level = max(0.0, self._level - drained)
        self._pts = pts
        return self._level

    def pour(self, bits: float, pts: int) -> None:
        """Put bits in at a time."""
        self._level = min(self.size, self.level(pts) + bits)


def _burst(watch: RateWatch) -> LeakyBucket:
    return LeakyBucket(watch.cap, watch.buffer)


def _unrest(watch: RateWatch) -> LeakyBucket:
    return LeakyBucket(CALM_RATE * watch.cap, CALM_SECONDS * CALM_RATE * watch.cap)


@define
class RateWatch:
    """Watches what an encoder makes, and says when its rate has to be controlled and when no longer."""

    cap: int
    """Bits a second."""
    is_controlled: bool = False
    _ahead: LeakyBucket = Factory(_burst, takes_self=True)
    _unrest: LeakyBucket = Factory(_unrest, takes_self=True)
    """Drains only while the rate is well below the cap."""

    @property
    def buffer(self) -> int:
        """What may be ahead of the cap, in bits."""
        return int(self.cap * BUFFER_SECONDS)

    def room(self, pts: int) -> int:
        """Give what may come at once at this time, in bits; at least one."""
        return max(1, int(self.buffer - self._ahead.level(pts)))

    def took(self, bits: int, pts: int) -> None:
        """Tell of a coded picture."""
        self._ahead.pour(bits, pts)
        self._unrest.pour(bits, pts)

    def turns(self, pts: int, *, key: bool) -> bool:
        """Say whether the other kind of encoder takes over with the picture of this time; the watch then goes by that.

        To a controlled one at once, back only where a key picture comes anyway.
        """
        if self.is_controlled:
            turned = key and self._unrest.level(pts) == 0
        else:
            turned = self._ahead.level(pts) > TOO_FULL * self.buffer
            if turned:
                self._unrest.pour(self._unrest.size, pts)
        self.is_controlled ^= turned
        return turned
