"""A stream's channels, as the gateway at their other ends sees them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest


class Channel:
    """A channel on the relay, of which only whole segments of JSON are read."""

    def __init__(self, client: httpx.Client, relay: str, kind: str) -> None:
        self.url = f"{relay}/{uuid4().hex}"
        self.client = client
        self.next = 0
        assert client.post(self.url, headers={"Expect-Content": kind}).status_code == 200

    def read(self) -> dict[str, Any]:
        """The next event; waits for it."""
        while not (answer := self.client.get(f"{self.url}/{self.next}").raise_for_status()).content:
            self.next += 1
        self.next += 1
        event: dict[str, Any] = json.loads(answer.content)
        return event

    def read_of(self, kind: str) -> dict[str, Any]:
        """The next event of this type."""
        while (event := self.read())["event"]["type"] != kind:
            pass
        return event

    def read_until(self, kind: str) -> list[str]:
        """The types of all events up to one of this type."""
        kinds: list[str] = []
        while kinds[-1:] != [kind]:
            kinds.append(self.read()["event"]["type"])
        return kinds


@pytest.fixture
def channel(relay: str) -> Iterator[Callable[..., Channel]]:
    """``channel()``: a new one."""
    with httpx.Client(timeout=20) as client:
        yield lambda kind="application/json": Channel(client, relay, kind)


def test_one_update_is_one_event(api: Any, channel: Any) -> None:
    events = channel()
    api.start(gateway_request_id="x", events_url=events.url)
    assert "params_updated" not in events.read_until("stream_started")
    api.post("/stream/params", json={"a": 1, "max_framerate": "7"})
    api.post("/stream/params", json={"max_framerate": 0})
    api.post("/stream/params", json={"last": True})
    updates = [events.read_of("params_updated") for _ in range(2)]
    assert {each["queue_event_type"] for each in updates} == {"ai_stream_events"}
    assert [set(each["event"]["params"]) for each in updates] == [{"a", "max_framerate"}, {"last"}]


def test_events_tell_of_the_start_and_the_stop(api: Any, channel: Any) -> None:
    events = channel()
    api.start(events_url=events.url)
    assert "runner_receive_stream_request" in events.read_until("stream_started")
    api.stop()
    events.read_until("stream_stopped")


def test_the_addresses_are_told(api: Any, channel: Any, relay: str) -> None:
    urls = {"subscribe_url": channel("video/mp2t").url, "publish_url": f"{relay}/{uuid4().hex}"}
    api.start(**urls)
    assert urls.items() <= api.status()["current_params"].items()


def test_an_input_that_is_not_there_is_no_fault_of_the_service(api: Any, relay: str) -> None:
    answer = api.start(subscribe_url=f"{relay}/{uuid4().hex}")
    assert answer.status_code in (200, 503)
    api.clear()
    assert api.start().status_code == 200
