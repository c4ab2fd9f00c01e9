"""What AAC in a container says about itself, and whether ADTS, its form in a transport stream, can say it."""

from __future__ import annotations

from typing import Final

from attrs import frozen

from trickle_core.mpegts import adts_header
from trickle_core.mpegts.audio import ADTS_RATES

_SBR: Final = 5
_PS: Final = 29
"""Object types that wrap another one: its bands above (HE-AAC), its second channel (HE-AAC v2). ADTS names what
is inside, decoders find the rest by themselves (ISO/IEC 14496-3, 1.6.5.3, implicit signalling)."""

_ESCAPE: Final = 31
_EXPLICIT_RATE: Final = 15
_IN_ADTS: Final = range(1, 5)
"""Object types that ADTS has two bits for: Main, LC, SSR, LTP."""

_CHANNELS: Final = (0, 1, 2, 3, 4, 5, 6, 8)
"""By channelConfiguration (table 1.19). 0, where a program config element describes them, and those above 7 are
beyond ADTS, or beyond its players."""


@frozen
class AdtsShape:
    """What every ADTS header of a track says."""

    object_type: int
    rate: int
    channels: int

    def frame(self, data: bytes) -> bytes:
        """One raw frame with its header."""
        header = adts_header(
            len(data), rate=self.rate, channels=self.channels, object_type=self.object_type
        )
        return header + data


def adts_shape(config: bytes) -> AdtsShape | None:
    """Read an AudioSpecificConfig (ISO/IEC 14496-3, 1.6.2.1); None where ADTS cannot say the same."""
    bits = _Bits(config)
    object_type, rate, channel_config = bits.object_type(), bits.rate(), bits.take(4)
    if object_type in (_SBR, _PS):
        bits.rate()
        object_type = bits.object_type()
    is_short = bool(bits.take(1))  # frameLengthFlag: 960 samples a frame instead of 1024
    if bits.overran or is_short or object_type not in _IN_ADTS or rate not in ADTS_RATES:
        return None
    if not 0 < channel_config < len(_CHANNELS):
        return None
    return AdtsShape(object_type, rate, _CHANNELS[channel_config])


class _Bits:
    """Bits from the first on; zeros behind the last, and ``overran``."""

    def __init__(self, data: bytes) -> None:
        self._left = 8 * len(data)
        self._number = int.from_bytes(data)

    @property
    def overran(self) -> bool:
        return self._left < 0

    def take(self, count: int) -> int:
        self._left -= count
        return 0 if self.overran else self._number >> self._left & (1 << count) - 1

    def object_type(self) -> int:
        kind = self.take(5)
        return 32 + self.take(6) if kind == _ESCAPE else kind

    def rate(self) -> int:
        index = self.take(4)
        if index == _EXPLICIT_RATE:
            return self.take(24)
        return ADTS_RATES[index] if index < len(ADTS_RATES) else 0
