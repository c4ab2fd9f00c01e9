"""Parameters that come over the control channel. The picture never waits for them."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import define, field

from trickle_core.retry import RetryPolicy
from trickle_core.subscriber import SubscriberSettings
from trickle_trio.driver import ChannelEnded
from trickle_trio.stream.meters import Meters
from trickle_trio.stream.plain_json import read_json
from trickle_trio.subscription import IncomingSegment, open_subscription

log: Final = logging.getLogger(__name__)

LARGEST_MESSAGE: Final = 4 * 1024 * 1024
"""Bytes of a control message: a whole one is held in memory before it is read as JSON."""

_PATIENT: Final = SubscriberSettings(
    wait_for_channel=60.0, retry=RetryPolicy(give_up_after=math.inf)
)


class BadMessage(Exception):
    """A control message that cannot be applied; the text says why."""


@define(eq=False)
class Control:
    """Reads the control channel and hands every message to ``apply``, in order, without waiting for
    what comes of it: a storm is not to pile up in the channel, from whose window it would fall.

    A message that is malformed, or that ``apply`` refuses with ``ValueError``, changes nothing and
    goes to ``refused``.
    """

    url: str
    apply: Callable[[Mapping[str, Any]], None]
    refused: Callable[[str], None]
    meters: Meters
    token: str | None = field(default=None, repr=False)

    async def run(self) -> None:
        """Read until the channel ends; never raises for what a peer does."""
        try:
            async with open_subscription(
                self.url, token=self.token, settings=_PATIENT
            ) as subscription:
                async for segment in subscription:
                    await self._take(segment)
        except ChannelEnded as error:
            self.meters.error("control", str(error))
            log.warning("control channel: %s", error)

    async def _take(self, segment: IncomingSegment) -> None:
        try:
            message = await _read(segment)
            if message and message.get("keep") != "alive":
                self.apply(message)
        except (BadMessage, ValueError) as error:
            self.meters.error("control", str(error))
            self.refused(str(error))


async def _read(segment: IncomingSegment) -> dict[str, Any]:
    """The whole segment as one JSON object; an empty one is an empty object."""
    text = bytearray()
    async for piece in segment:
        text += piece
        if len(text) > LARGEST_MESSAGE:
            raise BadMessage(
                f"control message {segment.seq} is larger than {LARGEST_MESSAGE} bytes"
            )
    if segment.truncated:
        raise BadMessage(f"control message {segment.seq} broke off after {len(text)} bytes")
    if not text.strip():
        return {}
    try:
        message = read_json(text)
    except ValueError as error:
        raise BadMessage(f"control message {segment.seq} is not JSON: {error}") from error
    if not isinstance(message, dict):
        raise BadMessage(
            f"control message {segment.seq} is a {type(message).__name__}, not an object"
        )
    return message
