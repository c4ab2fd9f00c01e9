"""schemathesis against the OpenAPI document: no 500, no answer that the document does not tell of.

No part of the tests that pytest finds by itself: ``tox -e fuzz`` runs it. Streams go to a relay of its own and nowhere
else.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    positive_data_acceptance,
    unsupported_method,
)

from trickle_trio.service.openapi import document
from trickle_trio.service.routes import ROUTES

PROCESSOR: Final = f"{Path(__file__).parents[1] / 'conformance' / 'processors.py'}:passthrough"

RUNNING: Final = "fuzz"
"""The stream that runs while anything but a start is asked for."""

METHODS: Final = (allow_header_conformance, unsupported_method)
"""Not asked below a stream's address: an id may hold slashes, so it could be a stream's address as well."""


@contextmanager
def program(*arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run ``trickle ...``; its address."""
    command = [sys.executable, "-m", "trickle_trio.cli", *arguments, "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[-1], process
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def relay() -> Iterator[str]:
    with program("relay") as (url, _):
        yield url


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    with ExitStack() as stack:
        url, process = stack.enter_context(program("serve", PROCESSOR))
        yield url
        process.terminate()
        _, said = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Traceback" not in said


@pytest.fixture(scope="module")
def client(service: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service) as client:
        yield client


schema = schemathesis.openapi.from_dict(
    document(ROUTES, title="", version="", secret=False)
).exclude(path_regex="^/stream/")  # the same views as under /api/stream


@schema.parametrize()
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_one_that_the_document_tells_of(
    case: schemathesis.Case[Any], client: httpx.Client, relay: str
) -> None:
    starts = case.path.endswith(("/start", "/live-video-to-video"))
    if starts:
        client.post("/stream/stop")
        keep_at_home(case.body, relay)
    else:
        client.post("/stream/start", json={"gateway_request_id": RUNNING})
        name_what_runs(case)
    # JSON schema cannot say the range of a number in a text, nor an area; and a service may be full.
    excluded = [positive_data_acceptance, *(METHODS if "{request_id}/" in case.path else ())]
    case.call_and_validate(base_url=str(client.base_url), excluded_checks=excluded)


def keep_at_home(body: Any, relay: str) -> None:
    """Let no address lead anywhere but to the relay."""
    if isinstance(body, dict):
        for name, value in body.items():
            if name.endswith("_url") and isinstance(value, str) and "://" in value:
                body[name] = f"{relay}/{name}"


def name_what_runs(case: schemathesis.Case[Any]) -> None:
    """Let every other id be that of the stream that runs; a picture of it would be waited for."""
    name = case.path_parameters.get("request_id")
    if isinstance(name, str) and len(name) % 2 and not case.path.endswith(".mp4"):
        case.path_parameters["request_id"] = RUNNING
