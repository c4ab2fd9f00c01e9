"""Facts that an adapter saw on the network, in the past tense. They go into a client machine's
``receive``.

Body bytes never do: a machine sees heads and outcomes, the adapter moves the bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

from attrs import frozen

from trickle_core import wire
from trickle_core.commands import Ending


class Cause(Enum):
    """Why a request came to nothing."""

    REFUSED = "no connection could be made"
    BROKEN = "the connection ended before the exchange did"
    TIMED_OUT = "the peer took too long"


@frozen
class ResponseStarted:
    """The head of an answer is here. ``headers`` has lower-case names.

    ``bytes_sent``: how many bytes of the request's body had left by then (0 where it has none).
    """

    request: int
    status: int
    headers: Mapping[str, str]
    bytes_sent: int = 0


@frozen
class RequestFinished:
    """The answer's body has ended as it should."""

    request: int


@frozen
class RequestFailed:
    """The exchange ended early. ``bytes_sent`` as in ``ResponseStarted``."""

    request: int
    cause: Cause
    bytes_sent: int = 0


Event = ResponseStarted | RequestFinished | RequestFailed
"""Whatever ``receive`` takes."""

MENDABLE: Final = frozenset({408, 429, wire.NO_SUCH_SEGMENT})
"""The statuses from 400 to 499 that speak of this moment only: a later try can fare better."""


def ending_of(head: ResponseStarted) -> Ending | None:
    """What an answer says for good about the channel, or about us; None: nothing."""
    if wire.is_closed(head.headers):
        return Ending.CLOSED
    if head.status == 404:
        return Ending.GONE
    if 400 <= head.status < 500 and head.status not in MENDABLE:
        return Ending.REFUSED
    return None


def reached(event: Event) -> bool:
    """Whether the event shows that the server was there."""
    return not isinstance(event, RequestFailed) or event.cause is Cause.BROKEN


def status_of(event: Event) -> int | None:
    """The status that an event brings, if it is an answer."""
    return event.status if isinstance(event, ResponseStarted) else None
