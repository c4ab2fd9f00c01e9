"""What an operator decides about a relay: checked once here, believed everywhere else."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import Flag
from typing import Final

from attrs import Attribute, field, frozen
from attrs.validators import ge, gt, instance_of

from trickle_core import wire

MIB: Final = 1 << 20


@frozen
class RelayRequest:
    """One request's head. ``path`` as it stands on the wire; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str] = field(factory=dict)


@frozen
class Refusal:
    """A policy's no: a status from 400 to 599, and one line for the client."""

    status: int = field(default=403)
    reason: str = "Refused"

    @status.validator
    def _is_an_error(self, _attribute: Attribute[int], value: int) -> None:
        if not 400 <= value <= 599:
            raise ValueError(f"a refusal needs a status from 400 to 599, not {value}")


Policy = Callable[[RelayRequest, str], Refusal | None]
"""Asked with the request and the channel's name; None lets it pass. It must not block."""


class Guard(Flag):
    """What the bearer token is asked for."""

    READING = 1
    WRITING = 2
    BOTH = 3


def _base_path(text: str) -> str:
    return "/" + "".join(f"{part}/" for part in text.split("/") if part)


def _finite(instance: object, attribute: Attribute[float], value: float) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{attribute.name} must be finite, not {value}")


def _can_be_shown(_: object, __: Attribute[str | None], token: str | None) -> None:
    if token is not None:
        wire.bearer(token)


@frozen(kw_only=True)
class RelaySettings:
    """A relay's rules. Times in seconds, sizes in bytes. Raises ValueError or TypeError where a
    value makes no sense.
    """

    base_path: str = field(default="/", converter=_base_path)
    """Stands before each channel's name."""

    window: int = field(default=wire.WINDOW, validator=[instance_of(int), ge(1)])
    """Written segments that a channel keeps."""

    autocreate: bool = True
    """Whether a POST makes the channel that it names."""

    changefeed: bool = False
    """Whether the channel ``_changes`` tells of channels made and gone."""

    idle_timeout: float = field(default=wire.IDLE_TIMEOUT, validator=gt(0))
    """A channel without a write for so long is deleted. ``math.inf``: never."""

    linger: float = field(default=0.0, validator=[ge(0), _finite])
    """How long readers still find what a deleted channel held. The deployed server: not at all."""

    catch_up: float = field(default=10.0, validator=[ge(0), _finite])
    """How long it is kept for readers that are behind, so that they get what is there. Where nobody
    is, ``linger`` alone counts."""

    abandon_timeout: float = field(default=10.0, validator=gt(0))
    """A segment whose publisher broke off is closed after so long, if none came to carry on."""

    token: str | None = field(default=None, validator=_can_be_shown, repr=False)
    """The bearer token that ``guard`` asks for; None: open to all."""

    guard: Guard = Guard.BOTH

    before_create: Policy | None = None
    before_delete: Policy | None = None

    patience: float = field(default=1.0, validator=[ge(0), _finite])
    """The longest that a publisher waits, a segment, for readers at work."""

    grace: float = field(default=0.5, validator=[ge(0), _finite])
    """A reader that took nothing for so long is not at work."""

    live_window: float = field(default=4.0, validator=[ge(0), _finite])
    """A publisher that itself needs so long to fill a window is live: it waits for nobody."""

    max_segment_bytes: int = field(default=512 * MIB, validator=ge(1))
    max_channel_bytes: int = field(default=512 * MIB, validator=ge(1))
    max_total_bytes: int = field(default=2048 * MIB, validator=ge(1))
    max_channels: int = field(default=10_000, validator=ge(1))
    max_readers: int = field(default=1_000, validator=ge(1))
    """Open GETs a channel, waiting ones included."""
    max_writers: int = field(default=100, validator=ge(1))
    """Open POSTs a channel, preconnected ones included."""
    max_name_length: int = field(default=255, validator=ge(1))
