"""What the service says about itself and its streams, as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import attrs
import trio

from trickle_trio.service.streams import Ended, Health, Phase, Running, Streams

_PIPELINE: Final = {
    Health.LOADING: "LOADING",
    Health.ERROR: "ERROR",
    Health.IDLE: "READY",
    Health.OK: "READY",
}
"""The model's state alone, in the words that deployed services use beside the health."""

_STATM: Final = Path("/proc/self/statm")
_PAGE: Final = 4096


def current_state(streams: Streams) -> dict[str, Any]:
    """The state that a status begins with, and that stands in every answer to a start."""
    health = streams.health
    return {
        "status": health.value,
        "state": health.value,
        "error_message": streams.error_message,
        "pipeline_ready": health in (Health.IDLE, Health.OK),
        "active_streams": len(streams.running),
        "startup_complete": health is not Health.LOADING,
        "pipeline_state": _PIPELINE[health],
        "additional_info": {},
    }


def status(streams: Streams, running: Running | None) -> dict[str, Any]:
    """The whole status: of the service, and of one stream where there is one."""
    answer = current_state(streams) | {
        "client_active": bool(streams.running),
        "max_streams": streams.max_streams,
        "streams": [each.request_id for each in streams.running],
        "memory_bytes": resident_memory(),
    }
    if running is None:
        return answer
    return answer | {
        "client_running": running.phase is Phase.RUNNING,
        "current_params": {
            "subscribe_url": running.settings.subscribe_url,
            "publish_url": running.settings.publish_url,
            "gateway_request_id": running.request_id,
        },
        **_figures(running),
    }


def stream(running: Running) -> dict[str, Any]:
    """One stream, for a client that knows it by its id."""
    return {
        "request_id": running.request_id,
        "phase": running.phase.value,
        "urls": running.settings.urls(),
        "params": running.wishes | running.stream.params,
        **_figures(running),
    }


def overview(streams: Streams) -> dict[str, Any]:
    """Every stream: those that run, and the last that have ended with their reasons; and how the service is."""
    return {
        "service": {
            "health": streams.health.value,
            "error_message": streams.error_message,
            "memory_bytes": resident_memory(),
        },
        "max_streams": streams.max_streams,
        "streams": [stream(running) for running in streams.running],
        "ended": [_ended(each) for each in reversed(streams.ended)],
    }


def _ended(ended: Ended) -> dict[str, Any]:
    return attrs.asdict(ended) | {"at": round(ended.at, 3)}


def _figures(running: Running) -> dict[str, Any]:
    """The stream's own statistics, with the four rates under the name that gateways look for.

    Our clock means nothing outside: the last input and output are told as seconds ago.
    """
    statistics = running.stream.statistics()
    figures: dict[str, Any] = attrs.asdict(statistics)
    for name in (*statistics.fps(), *_DELAYS.values(), "last_input", "last_output"):
        del figures[name]
    return {
        "fps": {name: round(rate, 2) for name, rate in statistics.fps().items()},
        "latency_ms": {
            share: _rounded(getattr(statistics, name)) for share, name in _DELAYS.items()
        },
        "input_seconds_ago": _ago(statistics.last_input),
        "output_seconds_ago": _ago(statistics.last_output),
        **figures,
    }


_DELAYS: Final = {share: f"latency_ms_{share}" for share in ("p50", "p95", "p99")}


def _ago(moment: float | None) -> float | None:
    return None if moment is None else round(trio.current_time() - moment, 3)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def resident_memory() -> int | None:
    """Return the bytes of this process that are in memory; None where the system does not say."""
    try:
        return int(_STATM.read_text(encoding="ascii").split()[1]) * _PAGE
    except OSError:
        return None
