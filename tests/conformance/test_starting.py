"""A start: what it takes, what it refuses, and that a refused one leaves nothing."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

PREFIXES = ("/api/stream", "/stream")
STARTS = [f"{prefix}/start{slash}" for prefix in PREFIXES for slash in ("", "/")]
MANAGED = ["/live-video-to-video", "/live-video-to-video/"]


@pytest.mark.parametrize("path", STARTS + MANAGED)
def test_a_start_says_what_runs(api: Any, path: str) -> None:
    answer = api.post(path, json={"gateway_request_id": "one", "params": {}})
    body = answer.json()
    assert answer.status_code == 200
    assert {"status": "success", "request_id": "one"}.items() <= body.items()
    assert body["message"]
    assert body["current_state"]
    assert api.health() == "OK"


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_stream_from_start_to_stop_under_every_address(api: Any, prefix: str, slash: str) -> None:
    assert api.post(f"{prefix}/start{slash}", json={}).status_code == 200
    assert api.post(f"{prefix}/params{slash}", json={"a": 1}).json()["status"] == "success"
    assert api.get(f"{prefix}/status{slash}").json()["client_active"] is True
    assert api.post(f"{prefix}/stop{slash}").json()["status"] == "success"
    assert api.health() == "IDLE"


def test_nothing_need_be_given(api: Any) -> None:
    first = api.start().json()["request_id"]
    api.stop()
    second = api.start().json()["request_id"]
    assert first
    assert second
    assert first != second


@pytest.mark.parametrize(
    "body",
    [
        {"params": None},
        {"subscribe_url": None, "publish_url": None, "control_url": None, "data_url": None},
        {"model_id": "m", "manifest_id": "x", "stream_id": 7, "later": {"a": [1]}},
        {"params": {"strength": 0.5, "prompt": "ä", "nested": {"a": [None, True]}, "none": None}},
    ],
)
def test_null_unknown_and_the_processor_s_own_are_fine(api: Any, body: dict[str, Any]) -> None:
    assert api.start(**body).status_code == 200


def test_a_start_without_content_type_is_json(api: Any) -> None:
    assert api.post("/stream/start", content=b"{}").status_code == 200


@pytest.mark.parametrize(
    "params",
    [
        {"width": 1920, "height": 1080},
        {"width": "1920", "height": "1080"},
        {"width": 1920.0, "height": 1080.0},
        {"max_framerate": 1},
        {"max_framerate": 60},
        {"max_framerate": "30"},
        {"max_framerate": 30.0},
        *({"detect_out_resolution": value} for value in (True, False, 0, 1, "1", "0")),
        *({"detect_out_resolution": value} for value in ("true", "false", "yes", "no", "True")),
        *({"show_loading": value} for value in (True, False, "yes", 0)),
        {"load_model": True},
    ],
    ids=str,
)
def test_parameters_come_in_several_forms(api: Any, params: dict[str, Any]) -> None:
    assert api.start(params=params).status_code == 200


@pytest.mark.parametrize(
    "params",
    [
        {"width": 640},
        {"height": 640},
        {"width": 0, "height": 480},
        {"width": -640, "height": 480},
        {"width": 640.5, "height": 480},
        {"width": "wide", "height": 480},
        {"width": True, "height": 480},
        {"width": [640], "height": 480},
        {"max_framerate": 0},
        {"max_framerate": 61},
        {"max_framerate": "fast"},
        {"max_framerate": -1},
        {"detect_out_resolution": "perhaps"},
        {"detect_out_resolution": 2},
        "text",
        [1],
        7,
    ],
    ids=str,
)
def test_a_wrong_parameter_starts_nothing(api: Any, refused: Any, params: Any) -> None:
    refused(api.start(params=params), 400)
    assert api.health() == "IDLE"
    assert api.status()["active_streams"] == 0


@pytest.mark.parametrize(
    "body",
    [
        {"subscribe_url": 7},
        {"publish_url": ["http://a/b"]},
        {"control_url": {}},
        {"events_url": True},
        {"data_url": 1.5},
        {"gateway_request_id": 7},
    ],
    ids=str,
)
def test_a_field_of_a_wrong_type_is_named_and_starts_nothing(
    api: Any, refused: Any, body: dict[str, Any]
) -> None:
    assert next(iter(body)) in refused(api.start(**body), 400)
    assert api.health() == "IDLE"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'"text"', b"7", b"\xff\xfe", b"{'a': 1}", b"[" * 100_000]
)
@pytest.mark.parametrize("path", ["/api/stream/start", "/stream/start", "/live-video-to-video"])
def test_what_is_no_json_object_starts_nothing(
    api: Any, refused: Any, path: str, body: bytes
) -> None:
    refused(api.post(path, content=body, headers={"Content-Type": "application/json"}), 400)
    assert api.health() == "IDLE"


def test_a_second_start_is_told_so(api: Any, refused: Any) -> None:
    api.start(gateway_request_id="one")
    assert refused(api.start(gateway_request_id="two"), 503) == "Pipeline is still in use"
    status = api.status()
    assert status["active_streams"] == 1
    assert status["current_params"]["gateway_request_id"] == "one"


def test_while_the_model_loads_nothing_starts(loading: Any, refused: Any) -> None:
    text = "Pipeline is still initializing. Please wait for IDLE status."
    for answer in (loading.start(), loading.post("/live-video-to-video", json={})):
        assert refused(answer, 503) == text
    assert loading.health() == "LOADING"


def test_a_wrong_method_is_no_start(api: Any) -> None:
    answers: list[httpx.Response] = [api.get("/api/stream/start"), api.put("/stream/start")]
    assert [answer.status_code for answer in answers] == [405, 405]
    assert api.health() == "IDLE"
