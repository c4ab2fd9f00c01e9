"""What a stream tells the world about itself over its events channel. Never waits, never blocks the
picture.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Final

from attrs import define, field

from trickle_trio.processor.spoken import json_text
from trickle_trio.stream.outbox import Outbox

TRACE: Final = "stream_trace"
LIFE: Final = "ai_stream_events"
HEARTBEAT: Final = "stream_heartbeat"
STATUS: Final = "status"


def now_ms() -> int:
    """Milliseconds since the epoch, as events carry them."""
    return time.time_ns() // 1_000_000


@define(eq=False)
class Events:
    """The events of one stream; without an outbox they go nowhere."""

    request_id: str
    outbox: Outbox | None
    _traced: set[str] = field(factory=set)

    def send(self, event: Mapping[str, Any], queue_event_type: str) -> bool:
        """Queue an event; False: there is no channel for it.

        ``TypeError`` or ``ValueError``: JSON cannot hold it.
        """
        if self.outbox is None:
            return False
        stamped = {"timestamp": now_ms(), "request_id": self.request_id, **event}
        whole = {"event": stamped, "queue_event_type": queue_event_type}
        return self.outbox.put(json_text(whole))

    def trace(self, kind: str) -> None:
        """A milestone of the stream, told once: ``runner_receive_first_ingest_segment`` and its
        like.
        """
        if kind not in self._traced:
            self._traced.add(kind)
            self.send({"type": kind}, TRACE)

    def life(self, kind: str, **details: Any) -> None:
        """A turn in the stream's life: started, params_updated, error, stopped. What JSON cannot
        hold is told as text: programs start streams with parameters of any type.
        """
        self.send({"type": kind, **{name: told(value) for name, value in details.items()}}, LIFE)


def told(value: object) -> object:
    """Return a value as an event can hold it: as text where JSON cannot."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return repr(value)
    return value
