"""The control API from outside, against any service that speaks it.

    pytest tests/conformance                                 ours, started here
    pytest tests/conformance --base-url http://host:8000     another one, which takes one stream at a time

With ``--base-url``, httpx and pytest are all that is needed, and what needs more than that one service is skipped
unless it is given: ``--several-url`` (the same with room for three streams), ``--loading-url`` (one whose model never
gets loaded), ``--relay-url`` (a trickle server that makes channels on demand, and that both sides reach). ``--token``
is sent as a bearer token. Streams that run on the services are stopped.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

PATIENCE = 20.0
"""Seconds for what takes moments."""

HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    for name in ("base", "several", "loading", "relay"):
        group.addoption(f"--{name}-url", help="see tests/conformance/conftest.py")
    group.addoption("--token", help="see tests/conformance/conftest.py")


def option(config: pytest.Config, name: str) -> str | None:
    """An option's value; None too where this file was read too late to add it."""
    value: str | None = config.getoption(name, None)
    return value


class Api(httpx.Client):
    """A service under test."""

    def start(self, **body: Any) -> httpx.Response:
        return self.post("/api/stream/start", json=body)

    def stop(self, **more: Any) -> httpx.Response:
        return self.post("/api/stream/stop", **more)

    def health(self) -> str:
        return str(self.get("/health").json()["status"])

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.get("/api/stream/status").json()
        return answer

    def clear(self) -> None:
        """Stop what runs; return when the service is ready for a stream."""
        for request_id in self.running():
            self.stop(params={"gateway_request_id": request_id})
        while self.stop().status_code == 200:
            pass
        wait(lambda: self.health() == "IDLE")

    def running(self) -> list[str]:
        """The ids of what runs, where the service tells them."""
        answer = self.get("/api/streams")
        return (
            [each["request_id"] for each in answer.json()["streams"]] if answer.is_success else []
        )


def wait(until: Callable[[], object]) -> None:
    """Ask again and again, until it is so; fail when that takes too long."""
    end = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def opened(request: pytest.FixtureRequest) -> Iterator[Callable[..., Api]]:
    """``opened("several", target, *arguments)``: the service of that name, given or started here."""
    config, processes, clients = request.config, [], {}

    def url_of(name: str, arguments: tuple[str, ...]) -> str:
        given = option(config, f"{name}_url")
        if given is None and option(config, "base_url") is not None:
            pytest.skip(f"--{name}-url is not given")
        if given is not None:
            return given
        command = [sys.executable, "-m", "trickle_trio.cli", *arguments, "--port", "0"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        return process.stdout.readline().split()[-1]

    def opened(name: str, *arguments: str) -> Api:
        if name not in clients:
            token = option(config, "token")
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            url = url_of(name, arguments)
            clients[name] = Api(base_url=url, headers=headers, timeout=PATIENCE)
        return clients[name]

    yield opened
    for client in clients.values():
        client.close()
    for process in processes:
        process.terminate()
        process.communicate()
        assert process.returncode == 0


def target(name: str) -> str:
    """A processor for a service of ours."""
    return f"{HERE / 'processors.py'}:{name}"


@pytest.fixture
def api(opened: Callable[..., Api]) -> Iterator[Api]:
    """A service with room for one stream, and with none running."""
    client = opened("base", "serve", target("passthrough"))
    client.clear()
    yield client
    client.clear()


@pytest.fixture
def several(opened: Callable[..., Api]) -> Iterator[Api]:
    """A service with room for three streams, and with none running."""
    client = opened("several", "serve", target("passthrough"), "--max-streams", "3")
    client.clear()
    yield client
    client.clear()


@pytest.fixture
def loading(opened: Callable[..., Api]) -> Api:
    """A service whose model is not there yet."""
    return opened("loading", "serve", target("Endless"))


@pytest.fixture
def relay(opened: Callable[..., Api]) -> str:
    """The address of a trickle server."""
    return str(opened("relay", "relay").base_url).rstrip("/")


@pytest.fixture
def refused() -> Callable[..., str]:
    """``refused(answer, 400)``: the message of an answer that is an error in the form that all errors have."""

    def check(answer: httpx.Response, status: int) -> str:
        body = answer.json()
        assert (answer.status_code, body["status"]) == (status, "error")
        assert body["current_state"]
        message: str = body["message"]
        assert message
        assert "Traceback" not in message
        return message

    return check
