"""What the service says about itself to Prometheus.

The figures are read from the streams' own statistics when somebody asks, so that nothing is counted twice. Only
streams that run are told of: as many request ids as there are places, and a stream's counters go with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
    StateSetMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from trickle_trio.processor import LoadState
from trickle_trio.service.streams import Health, Streams
from trickle_trio.stream.meters import Drop, StreamStatistics

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4

_QUANTILES: Final = {"0.5": "p50", "0.95": "p95", "0.99": "p99"}

_PLAIN: Final = (
    ("overlay_frames_sent", "overlay_frames", "Pictures of the loading overlay that went out."),
    ("segments_received", "segments_in", "Segments read from the input channel."),
    ("segments_skipped", "segments_skipped", "Segments of the input that were missed."),
    ("segments_truncated", "segments_truncated", "Segments of the input that broke off."),
    ("segments_sent", "segments_out", "Segments written to the output channel."),
    ("segments_lost", "segments_lost", "Segments of the output that broke off."),
    ("received_bytes", "bytes_in", "Bytes read from the input channel."),
    ("sent_bytes", "bytes_out", "Bytes written to the output channel."),
)
"""Counters without labels of their own: name, figure, text."""


class Metrics:
    """The registry of one service: nothing global, so that several services in one process do not mix."""

    def __init__(self, streams: Streams, **identity: str) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Service(streams, identity))
        ProcessCollector(registry=self._registry)

    def expose(self) -> bytes:
        """Return everything by now, as ``CONTENT_TYPE`` says. To be called in the Trio thread; takes milliseconds."""
        return generate_latest(self._registry)


class _Service(Collector):
    """Reads the streams at the moment of each question."""

    def __init__(self, streams: Streams, identity: dict[str, str]) -> None:
        self._streams = streams
        self._identity = identity

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        yield from self._of_service()
        told = [(each.request_id, each.stream.statistics()) for each in self._streams.running]
        for family in (_pictures, _sound, _rates, _dropped, _errors, _latency, _stages, _counters):
            yield from family(told)
        yield _ages(told)

    def _of_service(self) -> Iterator[Metric]:
        streams = self._streams
        yield InfoMetricFamily("trickle_service", "What runs here.", self._identity)
        states = {state.value: state is streams.health for state in Health}
        yield StateSetMetricFamily("trickle_health", "The state of the service.", states)
        models = GaugeMetricFamily(
            "trickle_models", "Processors by where their models stand.", labels=["state"]
        )
        counts = Counter(streams.load_states)
        for state in LoadState:
            models.add_metric([state.name.lower()], counts[state])
        yield models
        yield GaugeMetricFamily("trickle_streams", "Streams that run.", len(streams.running))
        yield GaugeMetricFamily("trickle_streams_max", "Streams at most.", streams.max_streams)


Told = list[tuple[str, StreamStatistics]]


def _pictures(told: Told) -> Iterator[Metric]:
    yield _counter("frames_received", "Pictures that came in.", told, "frames_in")
    yield _counter("frames_sent", "Processed pictures that went out.", told, "frames_out")


def _sound(told: Told) -> Iterator[Metric]:
    yield _counter("audio_frames_received", "Stretches of sound that came in.", told, "audio_in")
    yield _counter("audio_frames_sent", "Stretches of sound that went out.", told, "audio_out")


def _counters(told: Told) -> Iterator[Metric]:
    for name, figure, text in _PLAIN:
        yield _counter(name, text, told, figure)


def _counter(name: str, text: str, told: Told, figure: str) -> Metric:
    family = CounterMetricFamily(f"trickle_stream_{name}", text, labels=["request_id"])
    for request_id, statistics in told:
        family.add_metric([request_id], getattr(statistics, figure))
    return family


def _rates(told: Told) -> Iterator[Metric]:
    family = GaugeMetricFamily(
        "trickle_stream_frames_per_second",
        "Frames a second over the last two seconds.",
        labels=["request_id", "direction", "kind"],
    )
    for request_id, statistics in told:
        for name, rate in statistics.fps().items():
            direction, kind, _ = name.split("_")
            family.add_metric([request_id, direction, kind], rate)
    yield family


def _dropped(told: Told) -> Iterator[Metric]:
    family = CounterMetricFamily(
        "trickle_stream_frames_dropped",
        "Pictures that did not come out.",
        labels=["request_id", "reason"],
    )
    for request_id, statistics in told:
        for reason in Drop:
            count = statistics.dropped.get(reason.value, 0)
            family.add_metric([request_id, reason.name.lower()], count)
    yield family


def _errors(told: Told) -> Iterator[Metric]:
    family = CounterMetricFamily(
        "trickle_stream_errors", "Faults that the stream lived on.", labels=["request_id", "kind"]
    )
    for request_id, statistics in told:
        for kind, count in statistics.errors.items():
            family.add_metric([request_id, kind], count)
    yield family


def _latency(told: Told) -> Iterator[Metric]:
    """Quantiles alone: they are of the last frames, and a sum over all would be another figure."""
    family = SummaryMetricFamily(
        "trickle_stream_latency_seconds",
        "From a picture's arrival to its processed form's sending.",
    )
    for request_id, statistics in told:
        for quantile, share in _QUANTILES.items():
            delay = getattr(statistics, f"latency_ms_{share}")
            if delay is not None:
                labels = {"request_id": request_id, "quantile": quantile}
                family.add_sample(family.name, labels, delay / 1000)
    yield family


def _stages(told: Told) -> Iterator[Metric]:
    family = SummaryMetricFamily(
        "trickle_stream_stage_seconds", "A station's work.", labels=["request_id", "stage"]
    )
    for request_id, statistics in told:
        for name, stage in statistics.stages.items():
            total = stage.count * stage.mean_ms / 1000
            family.add_metric([request_id, name], stage.count, total)
    yield family


def _ages(told: Told) -> Metric:
    family = GaugeMetricFamily(
        "trickle_stream_age_seconds", "How long the stream has run.", labels=["request_id"]
    )
    for request_id, statistics in told:
        family.add_metric([request_id], statistics.seconds)
    return family
