"""What the service tells of itself."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize("path", ["/health", "/health/"])
def test_health_is_one_word_and_nothing_else(api: Any, loading: Any, path: str) -> None:
    assert api.get(path).json() == {"status": "IDLE"}
    api.start()
    assert api.get(path).json() == {"status": "OK"}
    api.stop()
    assert api.get(path).json() == {"status": "IDLE"}
    answer = loading.get(path)
    assert (answer.status_code, answer.json()) == (200, {"status": "LOADING"})


def test_versions(api: Any) -> None:
    version = api.get("/version").json()
    assert {"pipeline", "model_id", "version"} <= set(version)
    assert all(isinstance(value, str) for value in version.values())
    assert api.get("/app-version").json()["version"] == version["version"]


@pytest.mark.parametrize(
    ("path", "name", "own"),
    [
        ("/hardware/info", "gpu_info", {"major", "minor"}),
        ("/hardware/stats", "gpu_stats", {"utilization_compute", "utilization_memory"}),
    ],
)
def test_hardware(api: Any, path: str, name: str, own: set[str]) -> None:
    answer = api.get(path)
    body = answer.json()
    assert answer.status_code == 200
    assert {"pipeline", "model_id", name} <= set(body)
    assert list(body[name]) == [str(index) for index in range(len(body[name]))]
    for gpu in body[name].values():
        assert {"id", "name", "memory_total", "memory_free"} | own <= set(gpu)


def test_answers_are_json(api: Any) -> None:
    for path in ("/health", "/version", "/app-version", "/hardware/info", "/stream/status"):
        assert api.get(path).headers["Content-Type"].partition(";")[0] == "application/json"


def test_what_is_not_there(api: Any) -> None:
    assert api.get("/nothing").status_code == 404
    assert api.post("/stream/begin", json={}).status_code == 404
