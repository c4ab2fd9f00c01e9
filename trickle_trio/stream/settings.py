"""What a stream is to do, and the bounds it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final, TypeVar

from attrs import Attribute, field, frozen, validators

from trickle_trio.driver import channel_url
from trickle_trio.media.encode import AudioEncoderSettings, VideoEncoderSettings
from trickle_trio.media.fit import Fit
from trickle_trio.media.pixels import SMALLEST
from trickle_trio.processor import FrameSkipConfig, OverlayConfig
from trickle_trio.stream.relay_tokens import RelayTokens

MAX_FRAMERATE: Final = 60
DEFAULT_FRAMERATE: Final = 24
"""What today's users get without asking for a rate."""

Choice = TypeVar("Choice", bound=Enum)

URLS: Final = ("subscribe_url", "publish_url", "control_url", "events_url", "data_url")
INPUTS: Final = ("subscribe_url", "control_url")
OUTPUTS: Final = ("publish_url", "events_url", "data_url")


class Pace(Enum):
    """What happens when the handler is slower than the input."""

    LIVE = "live"
    """The newest frames win: older ones that wait for the handler are dropped, and counted."""
    EVERY_FRAME = "every frame"
    """Nothing is dropped; the input is held back."""


def _one_of(kind: type[Choice], value: Choice | str) -> Choice:
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(repr(each.value) for each in kind)
        raise ValueError(f"expected one of {known}; got {value!r}") from None


def _pace(value: Pace | str) -> Pace:
    return _one_of(Pace, value)


def _fit(value: Fit | str) -> Fit:
    return _one_of(Fit, value)


@frozen(kw_only=True)
class StreamPolicy:
    """How a stream is carried, and the bounds that it keeps. Times are in seconds.

    ``pace`` and ``fit``, what becomes of a picture of another shape than was asked for, may be given
    by their names. ``video_track`` and ``audio_track``: which of the input's tracks of each kind is
    carried, counted from 0; the first, where there are not so many. ``segment_seconds``: length of
    an output segment (one GOP). ``input_timeout``: without input for so long, the stream ends.
    ``handler_timeout``: a frame's handler may take so long; ``handler_strikes`` such frames in a row
    end the stream. ``waiting_frames``: decoded frames that may wait for the handler, which bounds
    both delay and memory; live, only while it works them off. ``sound_wait``: how long sound waits for
    pictures when none come, and for its handler. ``farewell``: how long a stop may take to end the open segment.
    ``error_reports``: at most so many handler errors are logged and sent as events in ten seconds.
    """

    pace: Pace = field(default=Pace.LIVE, converter=_pace)
    fit: Fit = field(default=Fit.COVER, converter=_fit)
    video_track: int = field(default=0, validator=validators.ge(0))
    audio_track: int = field(default=0, validator=validators.ge(0))
    segment_seconds: float = field(default=2.0, validator=validators.gt(0))
    input_timeout: float = field(default=60.0, validator=validators.gt(0))
    handler_timeout: float = field(default=10.0, validator=validators.gt(0))
    handler_strikes: int = field(default=3, validator=validators.gt(0))
    waiting_frames: int = field(default=8, validator=validators.gt(0))
    sound_wait: float = field(default=1.0, validator=validators.gt(0))
    farewell: float = field(default=1.0, validator=validators.gt(0))
    error_reports: int = field(default=5, validator=validators.gt(0))


@frozen(kw_only=True)
class StreamDefaults:
    """What every stream of a service is told, whatever is asked of it at its start.

    ``video``: how pictures are encoded. ``audio``: how sound is, where a handler touches it; sound
    that nobody touches is copied. ``relay_tokens``: what is shown to relays that ask for a token.
    """

    policy: StreamPolicy = field(factory=StreamPolicy)
    video: VideoEncoderSettings = field(factory=VideoEncoderSettings)
    audio: AudioEncoderSettings = field(factory=AudioEncoderSettings)
    relay_tokens: RelayTokens = field(factory=RelayTokens)


def _is_channel(_: object, attribute: Attribute[str | None], value: str | None) -> None:
    if value is not None:
        try:
            channel_url(value)
        except ValueError as error:
            raise ValueError(f"{attribute.name}: {error}") from None


def check_directions(urls: Mapping[str, str | None]) -> None:
    """Raise ``ValueError``, naming the address, where what is written would be read again."""
    inputs = {channel_url(url): name for name in INPUTS if (url := urls.get(name))}
    for name in OUTPUTS:
        url = urls.get(name)
        if url and (other := inputs.get(channel_url(url))):
            raise ValueError(f"{name}: is the channel of {other} too; a stream cannot read itself")


@frozen(kw_only=True)
class StreamSettings:
    """One stream: its channels, and what was asked of it at the start.

    An address that is None is not used. ``width`` and ``height`` (pixels, both or neither): the
    size that the handler gets, by the policy's ``fit``; None: the input's. ``max_framerate``:
    frames a second at most. ``detect_out_resolution``: the output takes the size of the frames that
    the handler returns; otherwise the size it was given. ``show_loading``: the loading overlay is
    shown from the start on, until it is turned off. ``overlay``: what it looks like, and that it
    comes by itself; ``frame_skip``: which frames a slow handler does not get; None: as the processor
    says. ``params``: what goes to the processor.
    ``ValueError``: an address is none of a channel, or is read and written, or there is only one
    side of a size.
    """

    request_id: str
    subscribe_url: str | None = field(default=None, validator=_is_channel)
    publish_url: str | None = field(default=None, validator=_is_channel)
    control_url: str | None = field(default=None, validator=_is_channel)
    events_url: str | None = field(default=None, validator=_is_channel)
    data_url: str | None = field(default=None, validator=_is_channel)
    width: int | None = field(default=None, validator=validators.optional(validators.ge(1)))
    height: int | None = field(default=None, validator=validators.optional(validators.ge(1)))
    max_framerate: int = field(
        default=DEFAULT_FRAMERATE, validator=[validators.ge(1), validators.le(MAX_FRAMERATE)]
    )
    detect_out_resolution: bool = True
    show_loading: bool = False
    overlay: OverlayConfig | None = None
    frame_skip: FrameSkipConfig | None = None
    params: Mapping[str, Any] = field(factory=dict)
    policy: StreamPolicy = field(factory=StreamPolicy)
    video: VideoEncoderSettings = field(factory=VideoEncoderSettings)
    audio: AudioEncoderSettings = field(factory=AudioEncoderSettings)
    relay_tokens: RelayTokens = field(factory=RelayTokens)

    def __attrs_post_init__(self) -> None:
        if (self.width is None) != (self.height is None):
            raise ValueError("width and height are given together or not at all")
        check_directions(self.urls())

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height."""
        return frame_size(self.width, self.height)

    def urls(self) -> dict[str, str]:
        """The addresses in use, by their names."""
        return {name: url for name in URLS if (url := getattr(self, name))}


def frame_size(width: int | None, height: int | None) -> tuple[int, int] | None:
    """The size of a frame as it was asked for, or the next one that a frame can have."""
    if width is None or height is None:
        return None
    return max(width, SMALLEST), max(height, SMALLEST)
