"""The frames that handlers get and give, under the name that users know."""

from __future__ import annotations

from trickle_trio.media.frames import AudioFrame, AudioOutput, VideoFrame, VideoOutput

__all__ = ["AudioFrame", "AudioOutput", "VideoFrame", "VideoOutput"]
