"""Several streams in one service, named beside the old addresses."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def both(several: Any) -> Any:
    """A service in which two streams run."""
    for name in ("one", "two"):
        assert several.start(gateway_request_id=name).status_code == 200
    return several


@pytest.mark.parametrize("where", ["query", "body"])
def test_a_stop_stops_the_one_that_it_names(both: Any, where: str) -> None:
    name = {"gateway_request_id": "one"}
    assert (
        both.stop(**({"params": name} if where == "query" else {"json": name})).status_code == 200
    )
    assert both.status()["active_streams"] == 1
    assert both.stop().status_code == 200  # the only one
    assert both.health() == "IDLE"


def test_without_a_name_nobody_is_meant(both: Any, refused: Any) -> None:
    refused(both.stop(), 400)
    refused(both.post("/stream/params", json={"a": 1}), 400)
    assert both.status()["active_streams"] == 2


def test_an_unknown_name_is_nobody(both: Any, refused: Any) -> None:
    refused(both.stop(json={"gateway_request_id": "three"}), 400)
    assert both.status()["active_streams"] == 2


def test_the_status_is_of_the_one_that_it_names(both: Any) -> None:
    status = both.get("/stream/status", params={"gateway_request_id": "two"}).json()
    assert status["current_params"]["gateway_request_id"] == "two"


def test_a_name_is_taken_once(both: Any, refused: Any) -> None:
    refused(both.start(gateway_request_id="one"), 400)
    assert both.status()["active_streams"] == 2


def test_the_first_wrong_start_costs_the_others_nothing(both: Any, refused: Any) -> None:
    refused(both.start(params={"width": 1}), 400)
    assert both.start(gateway_request_id="three").status_code == 200
    assert both.status()["active_streams"] == 3
