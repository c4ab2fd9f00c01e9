"""Parameters, stop and status of a stream."""

from __future__ import annotations

from typing import Any

import pytest

STATUS = {
    "status",
    "state",
    "error_message",
    "pipeline_ready",
    "active_streams",
    "startup_complete",
    "pipeline_state",
    "additional_info",
    "client_active",
}


def test_parameters_change_while_it_runs(api: Any) -> None:
    api.start()
    for params in ({"strength": 1}, {"width": "64", "height": 48.0}, {"max_framerate": "7"}, {}):
        answer = api.post("/api/stream/params", json=params)
        assert (answer.status_code, answer.json()["status"]) == (200, "success")
        assert answer.json()["message"]


@pytest.mark.parametrize(
    "params",
    [
        {"width": 640},
        {"max_framerate": 61, "strength": 1},
        {"detect_out_resolution": "perhaps"},
        [1],
        "text",
        None,
    ],
    ids=str,
)
def test_wrong_parameters_are_refused_and_the_stream_goes_on(
    api: Any, refused: Any, params: Any
) -> None:
    api.start()
    refused(api.post("/api/stream/params", json=params), 400)
    assert api.status()["active_streams"] == 1


@pytest.mark.parametrize("body", [b"", b"{", b"\xff"])
def test_parameters_that_are_no_json_are_refused(api: Any, refused: Any, body: bytes) -> None:
    api.start()
    refused(api.post("/stream/params", content=body), 400)
    assert api.health() == "OK"


def test_parameters_without_a_stream(api: Any, refused: Any) -> None:
    answer = api.post("/stream/params", json={"a": 1})
    assert refused(answer, 400).startswith("No active stream")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", None),
        (b"", "application/json"),
        (b"{}", "application/json"),
        (b"{broken", "application/json"),
        (b"null", "application/json"),
        (b"stop it", "text/plain"),
        (b"a=1&b=2", "application/x-www-form-urlencoded"),
        (b"\x00\xff", "application/octet-stream"),
        (b"x", "no type at all"),
        (b"x" * 3_000_000, "text/plain"),
    ],
)
@pytest.mark.parametrize("path", ["/api/stream/stop", "/stream/stop/"])
def test_a_stop_stops_whatever_its_body_says(
    api: Any, path: str, body: bytes, kind: str | None
) -> None:
    api.start()
    answer = api.post(path, content=body, headers={"Content-Type": kind} if kind else {})
    assert (answer.status_code, answer.json()["status"]) == (200, "success")
    assert api.health() == "IDLE"


def test_a_stop_of_nothing(api: Any, refused: Any) -> None:
    assert refused(api.stop(), 400) == "No active stream to stop"
    api.start()
    assert api.stop().status_code == 200
    assert refused(api.stop(), 400) == "No active stream to stop"


def test_start_and_stop_over_and_over(api: Any) -> None:
    for _ in range(20):
        assert api.start().status_code == 200
        assert api.stop().status_code == 200
        assert api.health() == "IDLE"


def test_the_status_without_a_stream(api: Any) -> None:
    status = api.status()
    assert set(status) >= STATUS
    assert status["status"] == status["state"] == "IDLE"
    assert (status["active_streams"], status["client_active"]) == (0, False)
    assert (status["pipeline_ready"], status["startup_complete"]) == (True, True)
    assert "current_params" not in status


def test_the_status_with_a_stream(api: Any) -> None:
    api.start(gateway_request_id="x", params={"width": 64, "height": 64})
    status = api.status()
    assert set(status) >= STATUS | {"client_running", "fps", "current_params"}
    assert status["status"] == status["state"] == "OK"
    assert (status["active_streams"], status["client_active"]) == (1, True)
    assert set(status["fps"]) >= {
        "ingress_video_fps",
        "egress_video_fps",
        "ingress_audio_fps",
        "egress_audio_fps",
    }
    assert all(isinstance(rate, int | float) for rate in status["fps"].values())
    assert status["current_params"]["gateway_request_id"] == "x"
    assert {"subscribe_url", "publish_url"} <= set(status["current_params"])


def test_the_status_while_the_model_loads(loading: Any) -> None:
    status = loading.status()
    assert set(status) >= STATUS
    assert status["state"] == "LOADING"
    assert (status["pipeline_ready"], status["startup_complete"]) == (False, False)
