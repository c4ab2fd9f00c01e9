"""The OpenAPI document of the control API.

Nothing in it is written twice: what a request may hold comes from the rules that read it (``rules.py``), what an
answer holds from the type that its view is checked against (``answers.py``), what a stream counts from its statistics,
and the addresses from the table that the app serves them by.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable
from types import UnionType
from typing import Any, Final

import msgspec
from attrs import frozen

from trickle_trio.service import answers, reports
from trickle_trio.service.rules import JsonSchema, reference
from trickle_trio.service.schemas import StartRequest, StreamParams
from trickle_trio.stream.meters import StreamStatistics

View = Callable[..., Awaitable[Any]]

REASONS: Final = {
    400: "A field is wrong, or there is no such stream",
    401: "The bearer token is missing or wrong",
    403: "A web page of another site asks, or a name that is not the service's is asked for",
    404: "There is nothing of this name",
    413: "The body is too large",
    501: "The stream's codec cannot be shown in a browser",
    503: "Not now: try again later",
}

ANY_OBJECT: Final[JsonSchema] = {"type": "object"}

ONE_STREAM: Final[JsonSchema] = {
    "name": "gateway_request_id",
    "in": "query",
    "description": "Which stream, where there is room for several.",
    "schema": {"type": "string"},
}


@frozen
class Route:
    """One route: where, what it calls, and what goes in and out.

    ``gives``: the type of the answer, or the media type of one that is no JSON. ``takes``: the class that the body is
    read as; None: there is no body, or a stop's, which may be anything. ``guarded``: whether a token is asked for.
    """

    path: str
    method: str
    view: View
    gives: type | UnionType | str
    takes: type | None = None
    refuses: tuple[int, ...] = ()
    guarded: bool = True

    @property
    def names_stream(self) -> bool:
        """Whether the stream is named beside the path, by those who know of several."""
        return bool(re.search("/stream/(stop|params|status)$", self.path))


def document(routes: Iterable[Route], *, title: str, version: str, secret: bool) -> JsonSchema:
    """Draw the document. ``secret``: whether the service asks for a token."""
    paths: dict[str, Any] = {}
    for route in routes:
        operation = _operation(route, secret=secret and route.guarded)
        paths.setdefault(_template(route.path), {})[route.method.lower()] = operation
    token = {"type": "http", "scheme": "bearer"}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "description": _DESCRIPTION},
        "paths": paths,
        "components": {"schemas": _schemas(), "securitySchemes": {"token": token}},
    }


_DESCRIPTION: Final = (
    "Starts, changes, watches and stops live streams. The routes under /stream and /api/stream are those of deployed "
    "services and act on the only stream, or on the one that gateway_request_id names."
)


def _template(path: str) -> str:
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", path)


def _operation(route: Route, *, secret: bool) -> JsonSchema:
    operation: JsonSchema = {
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{_template(route.path)}").strip(
            "_"
        ),
        "summary": inspect.cleandoc(route.view.__doc__ or "").partition("\n")[0],
        "parameters": _parameters(route),
        "responses": _responses(route),
        "security": [{"token": []}] if secret else [],
    }
    if body := _body(route):
        operation["requestBody"] = body
    return operation


def _parameters(route: Route) -> list[JsonSchema]:
    inside = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", _template(route.path))
    ]
    return [*inside, ONE_STREAM] if route.names_stream else inside


def _body(route: Route) -> JsonSchema | None:
    if route.takes is not None:
        return {"required": True, "content": _json(reference(route.takes))}
    if not route.path.endswith("/stop"):
        return None
    content = _json({}) | {"text/plain": {"schema": {"type": "string"}}}
    return {"description": "Anything, or nothing.", "content": content}


def _responses(route: Route) -> JsonSchema:
    refusals = {*route.refuses, 403, *([401] if route.guarded else [])}
    return {"200": {"description": "As asked for.", "content": _content(route)}} | {
        str(status): {"description": REASONS[status], "content": _refusal(status)}
        for status in sorted(refusals)
    }


def _refusal(status: int) -> JsonSchema:
    return _json(reference(answers.Denied if status in (401, 403) else answers.Refused))


def _content(route: Route) -> JsonSchema:
    return {route.gives: {}} if isinstance(route.gives, str) else _json(_answer(route.gives))


def _answer(kind: type | UnionType) -> JsonSchema:
    if isinstance(kind, UnionType):
        return {"anyOf": [_answer(each) for each in kind.__args__]}
    if kind is dict:
        return ANY_OBJECT
    if kind in (answers.Stream, answers.StreamStatus):
        return {"allOf": [reference(kind), {"$ref": "#/components/schemas/Figures"}]}
    return reference(kind)


def _json(schema: JsonSchema) -> JsonSchema:
    return {"application/json": {"schema": schema}}


_ANSWERS: Final = (
    *(
        kind
        for kind in vars(answers).values()
        if getattr(kind, "__module__", "") == answers.__name__
    ),
    StreamStatistics,
)


def _schemas() -> JsonSchema:
    """Every type by its name. Docstrings become descriptions, without their indentation."""
    _, schemas = msgspec.json.schema_components(
        _ANSWERS, ref_template="#/components/schemas/{name}"
    )
    for schema in schemas.values():
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
    schemas["Figures"] = _figures(schemas.pop("StreamStatistics"), schemas.pop("Clocked"))
    schemas["Overview"]["properties"]["streams"]["items"] = _answer(answers.Stream)
    return schemas | {kind.__name__: kind.schema() for kind in (StartRequest, StreamParams)}


def _figures(counted: JsonSchema, clocked: JsonSchema) -> JsonSchema:
    """Tell a stream's figures as ``reports`` does: as they are counted, but for those that are told otherwise."""
    kept = {name: kind for name, kind in counted["properties"].items() if name not in reports.MOVED}
    properties = clocked["properties"] | kept
    return {
        "title": "Figures",
        "description": "What a stream counts: milliseconds, bytes, and rates a second.",
        "type": "object",
        "properties": properties,
        "required": list(properties),
    }
