"""What Prometheus is told, read by its own parser."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import REGISTRY

from trickle_trio.media.frames import VideoFrame
from trickle_trio.processor import StreamProcessor

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def passthrough(frame: VideoFrame) -> VideoFrame:
    return frame


async def scrape(api: Any) -> Samples:
    answer = await api.get("/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = [line for line in answer.text.splitlines() if line.startswith("# TYPE")]
    assert len(set(families)) == len(families)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


async def test_a_service_without_a_stream(serving: Any) -> None:
    async with serving(passthrough, max_streams=3, pipeline="p", model_id="m", version="7") as api:
        await api.when("IDLE")
        samples = await scrape(api)
    assert value(samples, "trickle_health", trickle_health="IDLE") == 1
    assert value(samples, "trickle_health", trickle_health="OK") == 0
    assert value(samples, "trickle_models", state="loaded") == 3
    assert value(samples, "trickle_streams") == 0
    assert value(samples, "trickle_streams_max") == 3
    assert value(samples, "trickle_service_info", pipeline="p", model_id="m", version="7") == 1
    assert value(samples, "process_resident_memory_bytes") > 1e6
    assert not [name for name, labels in samples if dict(labels).get("request_id")]


async def test_a_model_that_failed(serving: Any) -> None:
    async def load() -> None:
        raise OSError("no weights")

    async with serving(StreamProcessor(video_processor=passthrough, model_loader=load)) as api:
        await api.when("ERROR")
        samples = await scrape(api)
    assert value(samples, "trickle_models", state="failed") == 1
    assert value(samples, "trickle_health", trickle_health="ERROR") == 1


async def test_a_stream_in_figures(serving: Any, relay: str, publish: Any, coded: Any) -> None:
    async with serving(passthrough) as api, trio.open_nursery() as nursery:
        await api.when("IDLE")
        nursery.start_soon(publish, f"{relay}/in", coded())
        urls = {"subscribe_url": f"{relay}/in", "publish_url": f"{relay}/out"}
        await api.start(gateway_request_id='a "b"\n', params={"max_framerate": 60}, **urls)
        samples: Samples = {}
        mine = {"request_id": 'a "b"\n'}
        with trio.fail_after(20):
            while not samples.get(("trickle_stream_frames_sent_total", frozenset(mine.items()))):
                samples = await scrape(api)
        nursery.cancel_scope.cancel()
        assert value(samples, "trickle_streams") == 1
        assert value(samples, "trickle_stream_frames_received_total", **mine) >= 1
        assert value(samples, "trickle_stream_received_bytes_total", **mine) > 1000
        assert value(samples, "trickle_stream_stage_seconds_count", stage="decode", **mine) >= 1
        assert value(samples, "trickle_stream_latency_seconds", quantile="0.99", **mine) > 0
        assert value(samples, "trickle_stream_age_seconds", **mine) > 0
        assert (
            "trickle_stream_frames_dropped_total",
            frozenset({**mine, "reason": "slow_handler"}.items()),
        ) in samples
        assert (
            "trickle_stream_frames_per_second",
            frozenset({**mine, "direction": "ingress", "kind": "video"}.items()),
        ) in samples


async def test_what_is_over_is_told_of_no_more_so_that_ids_stay_few(api: Any) -> None:
    for number in range(5):
        await api.start(gateway_request_id=str(number))
        told = {dict(labels).get("request_id") for _, labels in await scrape(api)}
        assert told == {str(number), None}
        await api.stop()


@pytest.mark.parametrize(
    "accepted", ["text/plain; version=x.y", "application/openmetrics-text", "*"]
)
async def test_whatever_is_accepted_the_answer_is_the_plain_text(api: Any, accepted: str) -> None:
    answer = await api.get("/metrics", headers={"Accept": accepted})
    assert (answer.status_code, answer.headers["Content-Type"][:10]) == (200, "text/plain")


async def test_nothing_of_ours_is_in_the_registry_that_all_share(api: Any) -> None:
    await scrape(api)
    assert not [family.name for family in REGISTRY.collect() if family.name.startswith("trickle")]
