"""The signs of life that a stream gives over its events channel, whatever else is going on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import trio
from attrs import define, field

from trickle_trio.stream.events import HEARTBEAT, STATUS, Events, now_ms, told
from trickle_trio.stream.line import Line
from trickle_trio.stream.outbox import EVENT_KEEPALIVE
from trickle_trio.stream.reports import FaultReports
from trickle_trio.stream.states import Pulse


@define(eq=False)
class Beat:
    """Sends a heartbeat and the status every ``EVENT_KEEPALIVE`` seconds, from the start on.

    ``params``: gives the processor's parameters by now.
    """

    line: Line
    events: Events
    faults: FaultReports
    params: Callable[[], Mapping[str, Any]]
    _began: int = field(factory=now_ms, init=False)

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            self.events.send(self._heartbeat(), HEARTBEAT)
            self.events.send(self._status(), STATUS)
            await trio.sleep(EVENT_KEEPALIVE)

    def _heartbeat(self) -> dict[str, Any]:
        numbers = self.line.statistics()
        return {
            "type": "heartbeat",
            "urls": self.line.settings.urls(),
            "dimensions": {"width": numbers.width_out, "height": numbers.height_out},
            "fps": numbers.fps(),
        }

    def _status(self) -> dict[str, Any]:
        meters = self.line.meters
        pulse = meters.pulse(self.line.wishes.throttle.rate)
        return {
            "type": "status",
            "pipeline": self.line.handlers.name,
            "start_time": self._began,
            "state": pulse.state.value,
            "input_status": {
                "last_input_time": _epoch(meters.last_input),
                "fps": round(pulse.input_fps, 2),
            },
            "inference_status": self._inference(pulse, meters.last_output),
        }

    def _inference(self, pulse: Pulse, last_output: float | None) -> dict[str, Any]:
        return {
            "last_output_time": _epoch(last_output),
            "fps": round(pulse.output_fps, 2),
            "last_params": told(self.params()),
            "last_error": self.faults.last,
            "restart_count": 0,  # a processor is never replaced under its stream
        }


def _epoch(moment: float | None) -> int | None:
    """Milliseconds since the epoch for a moment of Trio's clock, which begins anywhere."""
    return None if moment is None else now_ms() - round(1000 * (trio.current_time() - moment))
