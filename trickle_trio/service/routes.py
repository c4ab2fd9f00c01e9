"""The views: each reads its request, calls ``Streams``, and says what came of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import trio
from quart import Response, current_app, request

from trickle_trio.service import hardware, reports
from trickle_trio.service.rules import RequestError
from trickle_trio.service.schemas import (
    StartRequest,
    decode_json,
)
from trickle_trio.service.streams import NoStreamError, Running, Streams

if TYPE_CHECKING:
    from trickle_trio.service.app import TrickleApp

View = Callable[..., Awaitable[Any]]

DASHBOARD: Final = Path(__file__).parent / "dashboard"

ASSETS: Final = {
    "index.html": "text/html",
    "style.css": "text/css",
    "player.js": "text/javascript",
    "page.js": "text/javascript",
}

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; media-src blob:; img-src data:"
)
"""The page needs nothing from anywhere else, so it may not have it."""


def add_to(app: TrickleApp) -> None:
    """Add every route to the app."""
    for prefix in ("/api/stream", "/stream"):
        for name, method, view in OLD_ROUTES:
            app.add_url_rule(f"{prefix}/{name}", f"{prefix}/{name}", view, methods=[method])
    for path, method, view in ROUTES:
        app.add_url_rule(path, f"{method} {path}", view, methods=[method])


def _app() -> TrickleApp:
    return cast("TrickleApp", current_app)


def _streams() -> Streams:
    return _app().streams


async def _body() -> bytes:
    return await request.get_data(cache=True, as_text=False, parse_form_data=False)


async def _json_body() -> object:
    """Read the body as JSON; raises RequestError. Without a Content-Type it is taken for JSON."""
    kind = request.mimetype
    if kind and kind != "application/json" and not kind.endswith("+json"):
        raise RequestError(f"Content-Type must be application/json, not {kind}")
    return decode_json(await _body())


async def _any_body() -> object:
    """Read the body as JSON if it is, or as nothing: for a stop, which nothing may keep from stopping."""
    if (request.content_length or 0) > (request.max_content_length or 0):
        return None
    try:
        return decode_json(await _body())
    except RequestError:
        return None


def _id_in(body: object) -> str | None:
    """Return the id that a request names, in its address or its body."""
    named = request.args.get("gateway_request_id")
    if named is None and isinstance(body, dict):
        named = body.get("gateway_request_id")
    return named if isinstance(named, str) and named else None


async def start() -> dict[str, Any]:
    """Start a stream."""
    streams = _streams()
    streams.check_ready()
    running = await streams.start(StartRequest.parse(await _json_body()))
    return {
        "status": "success",
        "message": "Stream started",
        "request_id": running.request_id,
        "current_state": reports.current_state(streams),
    }


async def stop() -> dict[str, Any]:
    """Stop a stream; the answer comes when everything of it is closed."""
    body = await _any_body() if _streams().max_streams > 1 else None
    try:
        running = _streams().find(_id_in(body))
    except NoStreamError as error:
        if _streams().running:
            raise
        raise NoStreamError("No active stream to stop") from error
    return await _stop(running)


async def _stop(running: Running) -> dict[str, Any]:
    await running.stop()
    return {"status": "success", "message": "Stream stopped", "request_id": running.request_id}


async def params() -> dict[str, Any]:
    """Change a stream's parameters."""
    body = await _json_body()
    named = _id_in(body)
    if _streams().max_streams > 1 and isinstance(body, dict):
        body = {key: value for key, value in body.items() if key != "gateway_request_id"}
    return await _update(_streams().find(named), body)


async def _update(running: Running, changes: object) -> dict[str, Any]:
    if not isinstance(changes, dict):
        raise RequestError("the body must be a JSON object")
    await running.stream.update_params(changes)
    return {"status": "success", "message": "Parameters updated", "request_id": running.request_id}


async def status() -> dict[str, Any]:
    """Tell the state of the service and of its stream."""
    streams = _streams()
    try:
        running = streams.find(_id_in(None))
    except NoStreamError:
        return reports.status(streams, None)
    return reports.status(streams, running)


async def health() -> dict[str, Any]:
    """Tell the state in one word."""
    return {"status": _streams().health.value}


async def version() -> dict[str, Any]:
    """Tell what runs here."""
    identity = _app().identity
    return {
        "pipeline": identity.pipeline,
        "model_id": identity.model_id,
        "version": identity.version,
    }


async def app_version() -> dict[str, Any]:
    """Tell the version alone."""
    return {"version": _app().identity.version}


async def hardware_info() -> dict[str, Any]:
    """Tell which GPUs there are."""
    return _hardware() | {"gpu_info": await trio.to_thread.run_sync(hardware.gpu_info)}


async def hardware_stats() -> dict[str, Any]:
    """Tell how busy the GPUs are."""
    return _hardware() | {"gpu_stats": await trio.to_thread.run_sync(hardware.gpu_stats)}


def _hardware() -> dict[str, Any]:
    identity = _app().identity
    return {"pipeline": identity.pipeline, "model_id": identity.model_id}


async def list_streams() -> dict[str, Any]:
    """Tell of every stream, and of the service: all that the dashboard asks for."""
    overview = reports.overview(_streams())
    return overview | {"service": overview["service"] | await version()}


def _named(request_id: str) -> Running | Response:
    try:
        return _streams().named(request_id)
    except NoStreamError as error:
        return _app().error(404, str(error))


async def one_stream(request_id: str) -> dict[str, Any] | Response:
    """Tell of one stream."""
    running = _named(request_id)
    return running if isinstance(running, Response) else reports.stream(running)


async def stop_stream(request_id: str) -> dict[str, Any] | Response:
    """Stop one stream."""
    running = _named(request_id)
    return running if isinstance(running, Response) else await _stop(running)


async def change_stream(request_id: str) -> dict[str, Any] | Response:
    """Change one stream's parameters."""
    running = _named(request_id)
    if isinstance(running, Response):
        return running
    return await _update(running, await _json_body())


async def input_mp4(request_id: str) -> Response:
    """Show what comes in."""
    running = _named(request_id)
    return running if isinstance(running, Response) else await _show(running.stream.input_tap)


async def output_mp4(request_id: str) -> Response:
    """Show what goes out."""
    running = _named(request_id)
    return running if isinstance(running, Response) else await _show(running.stream.output_tap)


async def _show(tap: Any) -> Response:
    if request.method == "HEAD":
        return Response(b"", content_type="video/mp4")
    return await _app().viewers.show(tap)


async def dashboard() -> Response:
    """Show the page."""
    return await asset("index.html")


async def asset(name: str) -> Response:
    """Give a part of the page."""
    if name not in ASSETS:
        return _app().error(404, f"The dashboard has no {name!r}")
    content = await trio.Path(DASHBOARD / name).read_bytes()
    headers = {
        "Cache-Control": "no-cache",
        "Content-Security-Policy": POLICY,
        "X-Content-Type-Options": "nosniff",
    }
    return Response(content, mimetype=ASSETS[name], headers=headers)


OLD_ROUTES: Final[tuple[tuple[str, str, View], ...]] = (
    ("start", "POST", start),
    ("stop", "POST", stop),
    ("params", "POST", params),
    ("status", "GET", status),
)
"""Under both prefixes of deployed services."""

ROUTES: Final[tuple[tuple[str, str, View], ...]] = (
    ("/live-video-to-video", "POST", start),
    ("/health", "GET", health),
    ("/version", "GET", version),
    ("/app-version", "GET", app_version),
    ("/hardware/info", "GET", hardware_info),
    ("/hardware/stats", "GET", hardware_stats),
    ("/api/streams", "GET", list_streams),
    ("/api/streams/<request_id>", "GET", one_stream),
    ("/api/streams/<request_id>", "DELETE", stop_stream),
    ("/api/streams/<request_id>/params", "PATCH", change_stream),
    ("/api/streams/<request_id>/input.mp4", "GET", input_mp4),
    ("/api/streams/<request_id>/output.mp4", "GET", output_mp4),
    ("/", "GET", dashboard),
    ("/dashboard/<name>", "GET", asset),
)
