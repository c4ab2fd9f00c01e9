"""The OpenAPI document: valid, whole, and what the service really does."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from trickle_trio.media.frames import VideoFrame
from trickle_trio.service import create_app


def passthrough(frame: VideoFrame) -> VideoFrame:
    return frame


@pytest.fixture
async def described(api: Any) -> dict[str, Any]:
    document: dict[str, Any] = (await api.get("/openapi.json")).json()
    return document


async def test_it_is_valid(described: dict[str, Any]) -> None:
    validate(described, cls=OpenAPIV31SpecValidator)
    assert described["openapi"].startswith("3.1")


async def test_it_describes_every_route_and_no_other(described: dict[str, Any]) -> None:
    served = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule.rstrip("/") or "/"), method.lower())
        for rule in create_app(passthrough).url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    told = {(path, method) for path, item in described["paths"].items() for method in item}
    assert told == served
    for path in ("/live-video-to-video", "/hardware/info", "/metrics", "/stream/start"):
        assert path in described["paths"]


async def test_every_operation_has_a_name_and_a_text(described: dict[str, Any]) -> None:
    operations = [each for item in described["paths"].values() for each in item.values()]
    assert all(operation["summary"] for operation in operations)
    assert len({operation["operationId"] for operation in operations}) == len(operations)


def check(described: dict[str, Any], path: str, answer: httpx.Response) -> Any:
    """An answer is one of those that the document tells of, in the form that it tells."""
    operation = described["paths"][path][answer.request.method.lower()]
    content = operation["responses"][str(answer.status_code)]["content"]
    kind = answer.headers["Content-Type"].partition(";")[0]
    assert kind in content or f"{kind.partition('/')[0]}/*" in content
    if kind == "application/json":
        schema = content[kind]["schema"] | {"components": described["components"]}
        OAS31Validator(schema).validate(answer.json())


ONE = "/api/streams/{request_id}"


async def test_answers_are_as_it_says(api: Any, described: dict[str, Any]) -> None:
    async def ask(method: str, path: str, template: str | None = None, **more: Any) -> int:
        answer = await api.request(method, path, **more)
        check(described, template or path, answer)
        return int(answer.status_code)

    plain = [path for path, item in described["paths"].items() if "get" in item and "{" not in path]
    for path in plain:
        assert await ask("GET", path) == 200
    assert await ask("GET", "/dashboard/page.js", "/dashboard/{name}") == 200
    assert await ask("GET", "/dashboard/none", "/dashboard/{name}") == 404
    assert await ask("GET", "/api/streams/none", ONE) == 404
    assert await ask("POST", "/stream/stop") == 400
    assert await ask("POST", "/stream/start", json={"params": {"width": 1}}) == 400
    assert await ask("POST", "/stream/start", content=b" " * 2_000_000) == 413
    assert await ask("POST", "/stream/start", json={"gateway_request_id": "a/b"}) == 200
    assert await ask("POST", "/live-video-to-video", json={}) == 503
    assert await ask("POST", "/stream/params", json={"a": 1, "max_framerate": "7"}) == 200
    assert await ask("GET", "/stream/status") == 200
    assert await ask("GET", "/api/streams") == 200
    assert await ask("GET", "/api/streams/a/b", ONE) == 200
    assert await ask("GET", "/metrics") == 200
    assert await ask("PATCH", "/api/streams/a/b/params", f"{ONE}/params", json={"b": 1}) == 200
    assert await ask("PATCH", "/api/streams/a/b/params", f"{ONE}/params", json=[]) == 400
    assert await ask("DELETE", "/api/streams/a/b/", ONE) == 200
    assert await ask("GET", "/api/streams") == 200
