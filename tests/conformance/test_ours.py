"""The addresses that this project adds; a service that has none of them is not asked for them."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def api(api: Any) -> Any:
    if api.get("/api/streams").status_code == 404:
        pytest.skip("it has no /api/streams")
    return api


def test_streams_by_their_ids(api: Any) -> None:
    assert api.get("/api/streams").json()["streams"] == []
    api.start(gateway_request_id="one", params={"a": 1, "max_framerate": "7"})
    assert [each["request_id"] for each in api.get("/api/streams").json()["streams"]] == ["one"]
    assert api.get("/api/streams/one").json()["params"]["max_framerate"] == 7
    assert api.patch("/api/streams/one/params", json={"b": 2}).status_code == 200
    params = api.get("/api/streams/one/").json()["params"]
    assert (params["a"], params["b"]) == (1, 2)
    assert api.delete("/api/streams/one").status_code == 200
    assert api.get("/api/streams/one").status_code == 404
    assert api.get("/api/streams").json()["ended"][0]["request_id"] == "one"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("DELETE", ""),
        ("PATCH", "/params"),
        ("GET", "/input.mp4"),
        ("GET", "/output.mp4"),
    ],
)
def test_an_id_that_is_none(api: Any, refused: Any, method: str, path: str) -> None:
    refused(api.request(method, f"/api/streams/none{path}", json={}), 404)


@pytest.mark.parametrize(
    ("params", "became"),
    [
        ({"width": "1920", "height": 1080.0}, {"width": 1920, "height": 1080}),
        ({"max_framerate": "30"}, {"max_framerate": 30}),
        ({"detect_out_resolution": "No"}, {"detect_out_resolution": False}),
        ({"show_loading": 1}, {"show_loading": True}),
        ({}, {"max_framerate": 24}),
        ({"load_model": "yes", "x": "30"}, {"x": "30"}),
    ],
    ids=str,
)
def test_parameters_take_their_proper_types(
    api: Any, params: dict[str, Any], became: dict[str, Any]
) -> None:
    api.start(gateway_request_id="one", params=params)
    told = api.get("/api/streams/one").json()["params"]
    assert became.items() <= told.items()
    assert "load_model" not in told


def test_wrong_parameters_change_nothing_at_all(api: Any, refused: Any) -> None:
    api.start(gateway_request_id="one", params={"a": 0})
    before = api.get("/api/streams/one").json()["params"]
    refused(api.post("/stream/params", json={"a": 1, "max_framerate": 0}), 400)
    refused(api.patch("/api/streams/one/params", json={"a": 1, "height": 5}), 400)
    assert api.get("/api/streams/one").json()["params"] == before


def test_metrics_and_the_document(api: Any) -> None:
    api.start(gateway_request_id="one")
    metrics = api.get("/metrics")
    assert metrics.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert 'request_id="one"' in metrics.text
    described = api.get("/openapi.json").json()
    assert described["openapi"].startswith("3.1")
    assert "/live-video-to-video" in described["paths"]


def test_a_page_of_another_site_starts_nothing(api: Any) -> None:
    answer = api.post("/stream/start", json={}, headers={"Origin": "https://example.org"})
    assert answer.status_code == 403
    assert api.health() == "IDLE"


def test_the_dashboard(api: Any) -> None:
    assert api.get("/").headers["Content-Type"].startswith("text/html")
