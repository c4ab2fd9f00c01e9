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
from av.codec.codec import Capabilities

from trickle_trio.media.audio_encoder import AudioEncoder, AudioEncoderSettings
from trickle_trio.media.audio_frame import AudioFrame
from trickle_trio.media.video_encoder import VideoEncoder, VideoEncoderSettings
from trickle_trio.media.video_frame import VideoFrame

log: Final = logging.getLogger(__name__)

TRIAL_SHAPE: Final = (360, 640, 3)
"""Encoders of GPUs refuse small pictures."""

TRIAL_SAMPLES: Final = 48_000

FALLBACK: Final = "libx264"

_HARDWARE: Final = Capabilities.hardware | Capabilities.hybrid


def trial(settings: VideoEncoderSettings) -> str | None:
    """Try whether an encoder really opens and encodes on this machine; gives the reason why not. Blocks."""
    encoder = VideoEncoder(settings)
    units = encoder.encode(VideoFrame.from_ndarray(np.zeros(TRIAL_SHAPE, np.uint8)), key=True)
    units += encoder.flush()
    encoder.close()
    if units:
        return None
    return encoder.statistics().last_error or f"{settings.codec} gave no picture"


def working_video(settings: VideoEncoderSettings) -> VideoEncoderSettings:
    """Give settings that encode here: these, or where they ask for hardware that does not, those of libx264.

    That is logged as a warning. ``ValueError``: an encoder that needs no hardware refuses its options. Blocks, for some
    10 ms, on a GPU for up to a second; the defaults are not tried.
    """
    reason = None if settings == VideoEncoderSettings() else trial(settings)
    if reason is None:
        return settings
    if not av.codec.Codec(settings.codec, "w").capabilities & _HARDWARE:
        raise ValueError(f"{settings.codec} cannot encode so: {reason}")
    log.warning("%s does not encode here (%s): %s does", settings.codec, reason, FALLBACK)
    return evolve(settings, codec=FALLBACK, options={})  # its options mean nothing to another


def working_audio(settings: AudioEncoderSettings) -> AudioEncoderSettings:
    """Give settings that encode here. ``ValueError``: the encoder refuses its options. Blocks, for some 10 ms."""
    if settings == AudioEncoderSettings():
        return settings
    encoder = AudioEncoder(settings)
    units = encoder.encode(AudioFrame.from_ndarray(np.zeros((2, TRIAL_SAMPLES), np.float32)))
    units += encoder.flush()
    encoder.close()
    if not units:
        reason = encoder.statistics().last_error or "it gave no sound"
        raise ValueError(f"{settings.codec} cannot encode so: {reason}")
    return settings
