"""The loading overlay's configuration, under the name that users know."""

from __future__ import annotations

from trickle_trio.processor.options import OverlayConfig, OverlayMode

__all__ = ["OverlayConfig", "OverlayMode"]
