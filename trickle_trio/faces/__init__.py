"""The names that programs written for the asyncio library use, each a thin face of what stands below.

Nothing is decided here: a client is a stream, a server is a service, a subscriber is a subscription. What comes in:
addresses and processors. docs/migrating.md says what differs.
"""

from __future__ import annotations

from trickle_trio.faces.client import SimpleTrickleClient, TrickleClient
from trickle_trio.faces.publisher import SegmentWriter, TricklePublisher
from trickle_trio.faces.server import StreamServer
from trickle_trio.faces.subscriber import SegmentReader, TrickleSubscriber

__all__ = [
    "SegmentReader",
    "SegmentWriter",
    "SimpleTrickleClient",
    "StreamServer",
    "TrickleClient",
    "TricklePublisher",
    "TrickleSubscriber",
]
