"""Whether an encoder does on this machine what its settings say: found out by encoding something.

That an encoder is listed says nothing: those of GPUs are, with no GPU in sight. And what options an encoder takes shows
only when it is opened.
"""

from __future__ import annotations

import logging
from typing import Final

import av
import numpy as np
from attrs import evolve
from av import logging as av_logging
from av.codec.codec import Capabilities

from trickle_core.mpegts import Codec
from trickle_trio.media.audio_encoder import LAYOUTS, AudioEncoder, AudioEncoderSettings
from trickle_trio.media.audio_frame import AudioFrame
from trickle_trio.media.video_encoder import (
    LIMITED_FORMATS,
    VideoEncoder,
    VideoEncoderSettings,
)
from trickle_trio.media.video_frame import VideoFrame

log: Final = logging.getLogger(__name__)

TRIAL_SHAPE: Final = (360, 640, 3)
"""Encoders of GPUs refuse small pictures."""

TRIAL_SAMPLES: Final = 48_000

FALLBACK: Final = "libx264"

_HARDWARE: Final = Capabilities.hardware | Capabilities.hybrid


def trial(settings: VideoEncoderSettings) -> str | None:
    """Try whether an encoder really opens and encodes on this machine; gives the reason why not. Blocks."""
    reason = _video_trial(settings)
    # Its error is no more than a number, mostly; what libav says meanwhile tells what is missing. It is asked to speak
    # only where something is wrong: it takes the GIL for each line, on whatever thread of its own it says it.
    return reason and (_said_by_libav(settings) or reason)


def sound_trial(settings: AudioEncoderSettings) -> str | None:
    """Likewise of sound."""
    encoder = AudioEncoder(settings)
    units = encoder.encode(AudioFrame.from_ndarray(np.zeros((2, TRIAL_SAMPLES), np.float32)))
    units += encoder.flush()
    encoder.close()
    return None if units else encoder.statistics().last_error or "it gave no sound"


def encoders_of(codec: Codec) -> list[str]:
    """Name the encoders that this libav lists for a coding, and that our settings take: those of hardware last."""
    names = [name for name in sorted(av.codec.codecs_available) if _encodes(name, codec)]
    return sorted(names, key=is_hardware)


def is_hardware(encoder: str) -> bool:
    """Whether an encoder of this name needs hardware that a machine may lack."""
    return bool(av.codec.Codec(encoder, "w").capabilities & _HARDWARE)


def working_video(settings: VideoEncoderSettings) -> VideoEncoderSettings:
    """Give settings that encode here: these, or where they ask for hardware that does not, those of libx264.

    That is logged as a warning. ``ValueError``: an encoder that needs no hardware refuses its options. Blocks, for some
    10 ms, on a GPU for up to a second; the defaults are not tried.
    """
    reason = None if settings == VideoEncoderSettings() else trial(settings)
    if reason is None:
        return settings
    if not is_hardware(settings.codec):
        raise ValueError(f"{settings.codec} cannot encode so: {reason}")
    log.warning("%s does not encode here (%s): %s does", settings.codec, reason, FALLBACK)
    return evolve(settings, codec=FALLBACK, options={})  # its options mean nothing to another


def working_audio(settings: AudioEncoderSettings) -> AudioEncoderSettings:
    """Give settings that encode here. ``ValueError``: the encoder refuses its options. Blocks, for some 10 ms."""
    if settings == AudioEncoderSettings():
        return settings
    reason = sound_trial(settings)
    if reason is not None:
        raise ValueError(f"{settings.codec} cannot encode so: {reason}")
    return settings


def _encodes(name: str, codec: Codec) -> bool:
    try:
        encoder = av.codec.Codec(name, "w")
    except ValueError:  # av.UnknownCodecError: it is a decoder
        return False
    # libav's name for a coding stands for one of its encoders.
    is_it = encoder.name == name and encoder.canonical_name == codec.value
    formats = {known.name for known in encoder.video_formats or ()}
    is_rgb = bool(formats) and formats.isdisjoint(LIMITED_FORMATS)
    return is_it and (not is_rgb if codec.is_video else codec in LAYOUTS)


def _video_trial(settings: VideoEncoderSettings) -> str | None:
    encoder = VideoEncoder(settings)
    units = encoder.encode(VideoFrame.from_ndarray(np.zeros(TRIAL_SHAPE, np.uint8)), key=True)
    units += encoder.flush()
    encoder.close()
    return None if units else encoder.statistics().last_error or "it gave no picture"


def _said_by_libav(settings: VideoEncoderSettings) -> str:
    """The first of what an encoder calls an error when it is tried; nothing where it says nothing.

    What others say on this thread meanwhile is none of it: a file that the garbage collector closes, for one.
    """
    before = av_logging.get_level()
    av_logging.set_level(av_logging.ERROR)
    try:
        with av_logging.Capture() as said:
            _video_trial(settings)
    finally:
        av_logging.set_level(before)
    own = (" ".join(text.split()) for _, name, text in said if name == settings.codec)
    return next(own, "")
