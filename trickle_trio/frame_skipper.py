"""The configuration of which frames are left out, under the name that users know."""

from __future__ import annotations

from trickle_trio.processor.options import FrameSkipConfig

__all__ = ["FrameSkipConfig"]
