"""Frames in, access units out."""

from __future__ import annotations

from trickle_trio.media.audio_encoder import (
    AudioEncoder,
    AudioEncoderSettings,
    AudioEncoderStatistics,
)
from trickle_trio.media.trial import (
    encoders_of,
    is_hardware,
    sound_trial,
    trial,
    working_audio,
    working_video,
)
from trickle_trio.media.video_encoder import (
    EncoderStatistics,
    VideoEncoder,
    VideoEncoderSettings,
)

__all__ = [
    "AudioEncoder",
    "AudioEncoderSettings",
    "AudioEncoderStatistics",
    "EncoderStatistics",
    "VideoEncoder",
    "VideoEncoderSettings",
    "encoders_of",
    "is_hardware",
    "sound_trial",
    "trial",
    "working_audio",
    "working_video",
]
