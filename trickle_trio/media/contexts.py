"""What the encoders and decoders share: libav's names for our codecs, its options, its time."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from fractions import Fraction
from typing import Final

import av
from av.codec.context import CodecContext

from trickle_core.mpegts.units import CLOCK_RATE, Codec

TIME_BASE: Final = Fraction(1, CLOCK_RATE)
"""Seconds in a tick of the clock that units and decoded frames count in."""


class Rest(Enum):
    """An encoder that has no context of libav's."""

    IDLE = auto()
    CLOSED = auto()


class RefusedOptionError(Exception):
    """libav opened an encoder, but not as it was told to."""


def clock_time(timestamp: int, time_base: Fraction) -> int:
    """Give a time in 1/90000 s."""
    return timestamp if time_base == TIME_BASE else round(timestamp * time_base * CLOCK_RATE)


def codec_of(encoder: str) -> Codec:
    """Say what an encoder of this name makes. Raises ``ValueError`` where there is none, or none of our codecs."""
    try:
        return Codec(av.codec.Codec(encoder, "w").canonical_name)
    except (
        ValueError
    ):  # av.UnknownCodecError is one; so is what Codec says to a codec that we do not carry
        known = ", ".join(codec.value for codec in Codec)
        raise ValueError(f"{encoder!r} is no encoder that is here, of {known}") from None


def open_encoder(
    context: CodecContext, options: Mapping[str, str], asked_for: Mapping[str, str]
) -> None:
    """Open an encoder with options.

    Raises ``av.FFmpegError`` where libav does not, ``RefusedOptionError`` where it knows none of this name among those
    that somebody ``asked_for``; it passes over unknown ones without a word.
    """
    context.options = {**options, **asked_for}
    context.open()
    unknown = asked_for.keys() & context.options.keys()
    if unknown:
        raise RefusedOptionError(f"{context.name} has no option {', '.join(sorted(unknown))}")
