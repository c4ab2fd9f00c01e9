"""The trickle SDK for Trio: frames in, the user's function, frames out; everything else is ours.

Names are imported from their rooms when they are first asked for, so that a program which only
relays, publishes or subscribes starts at once and stays small.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

# torch's worker threads otherwise spin while they wait for each other, which starves everything
# else on a machine that decodes and encodes beside it: a 720p tint took 17 to 31 ms of CPU a frame
# so and 1.8 ms this way (2 cores). And one core is left to the codecs and the loop: a step that is
# spread over all cores waits for the one that decodes (a 720p tint on 2 busy cores: 99 of 100 frames
# within 110 to 620 ms, with a core left within 90 to 420). Both are read when torch is imported, so
# they have to stand here; whoever sets them differently has the last word.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) - 1)))

if TYPE_CHECKING:
    from trickle_trio.driver import ChannelEnded as ChannelEnded
    from trickle_trio.faces import SimpleTrickleClient as SimpleTrickleClient
    from trickle_trio.faces import StreamServer as StreamServer
    from trickle_trio.faces import TrickleClient as TrickleClient
    from trickle_trio.faces import TricklePublisher as TricklePublisher
    from trickle_trio.faces import TrickleSubscriber as TrickleSubscriber
    from trickle_trio.media.encode import AudioEncoderSettings as AudioEncoderSettings
    from trickle_trio.media.encode import VideoEncoderSettings as VideoEncoderSettings
    from trickle_trio.media.frames import AudioFrame as AudioFrame
    from trickle_trio.media.frames import AudioOutput as AudioOutput
    from trickle_trio.media.frames import Fit as Fit
    from trickle_trio.media.frames import VideoFrame as VideoFrame
    from trickle_trio.media.frames import VideoOutput as VideoOutput
    from trickle_trio.processor import FrameProcessor as FrameProcessor
    from trickle_trio.processor import FrameSkipConfig as FrameSkipConfig
    from trickle_trio.processor import HandlerError as HandlerError
    from trickle_trio.processor import OverlayConfig as OverlayConfig
    from trickle_trio.processor import OverlayMode as OverlayMode
    from trickle_trio.processor import ParamsError as ParamsError
    from trickle_trio.processor import StreamProcessor as StreamProcessor
    from trickle_trio.processor import VideoProcessingResult as VideoProcessingResult
    from trickle_trio.processor import Withheld as Withheld
    from trickle_trio.processor import audio_handler as audio_handler
    from trickle_trio.processor import model_loader as model_loader
    from trickle_trio.processor import on_stream_start as on_stream_start
    from trickle_trio.processor import on_stream_stop as on_stream_stop
    from trickle_trio.processor import param_updater as param_updater
    from trickle_trio.processor import video_handler as video_handler
    from trickle_trio.publication import Publication as Publication
    from trickle_trio.publication import SegmentLost as SegmentLost
    from trickle_trio.publication import open_publication as open_publication
    from trickle_trio.relay import serve_relay as serve_relay
    from trickle_trio.service import TrickleApp as TrickleApp
    from trickle_trio.service import create_app as create_app
    from trickle_trio.service import serve as serve
    from trickle_trio.stream.ending import End as End
    from trickle_trio.stream.ending import Outcome as Outcome
    from trickle_trio.stream.settings import Pace as Pace
    from trickle_trio.stream.settings import StreamPolicy as StreamPolicy
    from trickle_trio.subscription import Subscription as Subscription
    from trickle_trio.subscription import open_subscription as open_subscription
    from trickle_trio.transport import TrickleTransport as TrickleTransport

_ROOMS: Final = {
    "driver": ["ChannelEnded"],
    "faces": [
        "SimpleTrickleClient",
        "StreamServer",
        "TrickleClient",
        "TricklePublisher",
        "TrickleSubscriber",
    ],
    "media.encode": ["AudioEncoderSettings", "VideoEncoderSettings"],
    "media.frames": ["AudioFrame", "AudioOutput", "Fit", "VideoFrame", "VideoOutput"],
    "processor": [
        "FrameProcessor",
        "FrameSkipConfig",
        "HandlerError",
        "OverlayConfig",
        "OverlayMode",
        "ParamsError",
        "StreamProcessor",
        "VideoProcessingResult",
        "Withheld",
        "audio_handler",
        "model_loader",
        "on_stream_start",
        "on_stream_stop",
        "param_updater",
        "video_handler",
    ],
    "publication": ["Publication", "SegmentLost", "open_publication"],
    "relay": ["serve_relay"],
    "service": ["TrickleApp", "create_app", "serve"],
    "stream.ending": ["End", "Outcome"],
    "stream.settings": ["Pace", "StreamPolicy"],
    "subscription": ["Subscription", "open_subscription"],
    "transport": ["TrickleTransport"],
}

_HOMES: Final = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = sorted(_HOMES)  # noqa: PLE0605  one list, not two


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
