"""What handlers get and give: pictures and sound with their times."""

from __future__ import annotations

from trickle_trio.media.audio_frame import AudioFrame, AudioOutput
from trickle_trio.media.fit import Fit
from trickle_trio.media.video_frame import VideoFrame, VideoOutput

__all__ = ["AudioFrame", "AudioOutput", "Fit", "VideoFrame", "VideoOutput"]
