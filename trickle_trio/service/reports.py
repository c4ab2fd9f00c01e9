"""What the service says about itself and its streams, as JSON."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Final, TypeVar, cast

import attrs
import trio

from trickle_trio.service import answers
from trickle_trio.service.streams import Ended, Health, Phase, Running, Streams
from trickle_trio.stream.meters import StreamStatistics

_PIPELINE: Final = {
    Health.LOADING: "LOADING",
    Health.ERROR: "ERROR",
    Health.IDLE: "READY",
    Health.OK: "READY",
}
"""The model's state alone, in the words that deployed services use beside the health."""

_STATM: Final = Path("/proc/self/statm")
_PAGE: Final = resource.getpagesize()


def current_state(streams: Streams) -> answers.CurrentState:
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


def status(streams: Streams) -> answers.Status:
    """The whole status of the service."""
    return {
        **current_state(streams),
        "client_active": bool(streams.running),
        "max_streams": streams.max_streams,
        "streams": [each.request_id for each in streams.running],
        "memory_bytes": resident_memory(),
    }


def stream_status(streams: Streams, running: Running) -> answers.StreamStatus:
    """The status of the service and of one stream."""
    answer: answers.StreamStatus = {
        **status(streams),
        "client_running": running.phase is Phase.RUNNING,
        "current_params": {
            "subscribe_url": running.settings.subscribe_url,
            "publish_url": running.settings.publish_url,
            "gateway_request_id": running.request_id,
        },
    }
    return _with_figures(answer, running)


def stream(running: Running) -> answers.Stream:
    """One stream, for a client that knows it by its id."""
    answer: answers.Stream = {
        "request_id": running.request_id,
        "phase": running.phase.value,
        "urls": running.settings.urls(),
        "params": running.stream.own_params | running.stream.params,
    }
    return _with_figures(answer, running)


def overview(streams: Streams, version: answers.Version) -> answers.Overview:
    """Every stream: those that run, and the last that have ended with their reasons; and how the service is."""
    return {
        "service": {
            "health": streams.health.value,
            "error_message": streams.error_message,
            "memory_bytes": resident_memory(),
            **version,
        },
        "max_streams": streams.max_streams,
        "streams": [stream(running) for running in streams.running],
        "ended": [_ended(each) for each in reversed(streams.ended)],
    }


def _ended(ended: Ended) -> answers.Ended:
    return {
        "request_id": ended.request_id,
        "at": round(ended.at, 3),
        "reason": ended.reason,
        "normal": ended.normal,
    }


T = TypeVar("T", answers.StreamStatus, answers.Stream)


def _with_figures(answer: T, running: Running) -> T:
    """Put the stream's own statistics beside, those as they are counted that are not told otherwise."""
    statistics = running.stream.statistics()
    counted = attrs.asdict(statistics)
    figures = {name: value for name, value in counted.items() if name not in MOVED}
    return cast("T", {**answer, **_clocked(statistics), **figures})


def _clocked(statistics: StreamStatistics) -> answers.Clocked:
    """Tell the rates by the names that gateways look for, and moments as seconds ago: our clock is no one else's."""
    fps = {name: round(rate, 2) for name, rate in statistics.fps().items()}
    delays = {share: _rounded(getattr(statistics, name)) for share, name in _DELAYS.items()}
    return {
        "fps": cast("answers.Fps", fps),
        "latency_ms": cast("answers.Delays", delays),
        "input_seconds_ago": _ago(statistics.last_input),
        "output_seconds_ago": _ago(statistics.last_output),
    }


_DELAYS: Final = {share: f"latency_ms_{share}" for share in ("p50", "p95", "p99")}

MOVED: Final = {*_DELAYS.values(), *answers.Fps.__annotations__, "last_input", "last_output"}
"""Statistics that are told by other names."""


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
