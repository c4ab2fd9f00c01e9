"""The views: each reads its request, calls ``Streams``, and says what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import trio
from quart import Response, current_app, request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.routing import PathConverter

from trickle_trio.service import answers, hardware, metrics, reports
from trickle_trio.service.openapi import Route, document
from trickle_trio.service.rules import RequestError
from trickle_trio.service.schemas import StartRequest, StreamParams, decode_json
from trickle_trio.service.streams import NoStreamError, Running, Streams

if TYPE_CHECKING:
    from trickle_trio.service.app import TrickleApp

DASHBOARD: Final = Path(__file__).parent / "dashboard"

ASSETS: Final = {
    "index.html": "text/html",
    "style.css": "text/css",
    "controls.js": "text/javascript",
    "player.js": "text/javascript",
    "page.js": "text/javascript",
}

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; media-src blob:; img-src data:"
)
"""The page needs nothing from anywhere else, so it may not have it."""


class StreamId(PathConverter):
    """An id may hold slashes and line ends, for it is the gateway's; a slash behind it is none of it."""

    regex = r"[^/](?s:.)*?"

    def to_python(self, value: str) -> str:
        """Leave that slash out."""
        return value.removesuffix("/")


def add_to(app: TrickleApp) -> None:
    """Add every route to the app, with a slash behind it or without.

    Werkzeug's maps that are not strict see to that, but not behind an id that may hold slashes: there it is a rule of
    its own.
    """
    app.url_map.strict_slashes = False
    app.url_map.converters["stream_id"] = StreamId
    for route in ROUTES:
        slashes = ("", "/") if "<stream_id:" in route.path else ("",)
        for slash in slashes:
            path = f"{route.path}{slash}"
            app.add_url_rule(path, _endpoint(route), route.view, methods=[route.method])


def _endpoint(route: Route) -> str:
    return f"{route.method} {route.path}"


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
    try:
        return decode_json(await _body())
    except (RequestError, RequestEntityTooLarge):
        return None


def _id_in(body: object) -> str | None:
    """Return the id that a request names, in its address or its body."""
    named = request.args.get("gateway_request_id")
    if named is None and isinstance(body, dict):
        named = body.get("gateway_request_id")
    return named if isinstance(named, str) and named else None


async def start() -> answers.Started:
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


async def stop() -> answers.Done:
    """Stop a stream; the answer comes when everything of it is closed."""
    body = await _any_body() if _streams().max_streams > 1 else None
    try:
        running = _streams().find(_id_in(body))
    except NoStreamError as error:
        if _streams().running:
            raise
        raise NoStreamError("No active stream to stop") from error
    return await _stop(running)


async def _stop(running: Running) -> answers.Done:
    await running.stop()
    return {"status": "success", "message": "Stream stopped", "request_id": running.request_id}


async def params() -> answers.Done:
    """Change a stream's parameters."""
    body = await _json_body()
    named = _id_in(body)
    if _streams().max_streams > 1 and isinstance(body, dict):
        body = {key: value for key, value in body.items() if key != "gateway_request_id"}
    return await _update(_streams().find(named), body)


async def _update(running: Running, changes: object) -> answers.Done:
    if not isinstance(changes, dict):
        raise RequestError("the body must be a JSON object")
    await running.stream.update_params(changes)
    return {"status": "success", "message": "Parameters updated", "request_id": running.request_id}


async def status() -> answers.Status | answers.StreamStatus:
    """Tell the state of the service and of its stream."""
    streams = _streams()
    try:
        running = streams.find(_id_in(None))
    except NoStreamError:
        return reports.status(streams)
    return reports.stream_status(streams, running)


async def load_model() -> answers.CurrentState:
    """Load the model again, where that has failed; the answer does not wait for it."""
    _streams().load_model()
    for _ in range(2):  # Trio shuffles the tasks of one turn: by the second, the loading has begun
        await trio.lowlevel.checkpoint()
    return reports.current_state(_streams())


async def health() -> answers.HealthAnswer:
    """Tell the state in one word."""
    return {"status": _streams().health.value}


async def version() -> answers.Version:
    """Tell what runs here."""
    identity = _app().identity
    return {
        "pipeline": identity.pipeline,
        "model_id": identity.model_id,
        "version": identity.version,
    }


async def app_version() -> answers.AppVersion:
    """Tell the version alone."""
    return {"version": _app().identity.version}


async def hardware_info() -> answers.HardwareInfo:
    """Tell which GPUs there are."""
    found = await trio.to_thread.run_sync(hardware.gpu_info)
    return {**_model(), "gpu_info": found}


async def hardware_stats() -> answers.HardwareStats:
    """Tell how busy the GPUs are."""
    found = await trio.to_thread.run_sync(hardware.gpu_stats)
    return {**_model(), "gpu_stats": found}


def _model() -> answers.Model:
    identity = _app().identity
    return {"pipeline": identity.pipeline, "model_id": identity.model_id}


async def list_streams() -> answers.Overview:
    """Tell of every stream, and of the service: all that the dashboard asks for."""
    return reports.overview(_streams(), await version())


def _named(request_id: str) -> Running | Response:
    try:
        return _streams().named(request_id)
    except NoStreamError as error:
        return _app().error(404, str(error))


async def one_stream(request_id: str) -> answers.Stream | Response:
    """Tell of one stream."""
    running = _named(request_id)
    return running if isinstance(running, Response) else reports.stream(running)


async def stop_stream(request_id: str) -> answers.Done | Response:
    """Stop one stream."""
    running = _named(request_id)
    return running if isinstance(running, Response) else await _stop(running)


async def change_stream(request_id: str) -> answers.Done | Response:
    """Change one stream's parameters."""
    running = _named(request_id)
    if isinstance(running, Response):
        return running
    return await _update(running, await _json_body())


async def params_schema(request_id: str) -> dict[str, Any] | Response:
    """Describe a stream's parameters as JSON schema."""
    running = _named(request_id)
    if isinstance(running, Response):
        return running
    return StreamParams.whole_schema(running.handlers.params_schema())


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


async def show_metrics() -> Response:
    """Tell Prometheus how the service and its streams do."""
    return Response(_app().metrics.expose(), content_type=metrics.CONTENT_TYPE)


async def openapi() -> dict[str, Any]:
    """Describe this API."""
    identity = _app().identity
    return document(
        ROUTES,
        title=identity.model_id,
        version=identity.version,
        secret=_app().guard.token is not None,
    )


def _on_streams(prefix: str) -> tuple[Route, ...]:
    """The routes of deployed services, under one of their prefixes."""
    update = (400, 413)
    return (
        Route(f"{prefix}/start", "POST", start, answers.Started, StartRequest, (*update, 503)),
        Route(f"{prefix}/stop", "POST", stop, answers.Done, refuses=(400,)),
        Route(f"{prefix}/params", "POST", params, answers.Done, StreamParams, update),
        Route(f"{prefix}/status", "GET", status, answers.Status | answers.StreamStatus),
    )


_ONE: Final = "/api/streams/<stream_id:request_id>"

ROUTES: Final = (
    *_on_streams("/api/stream"),
    *_on_streams("/stream"),
    Route("/live-video-to-video", "POST", start, answers.Started, StartRequest, (400, 413, 503)),
    Route("/health", "GET", health, answers.HealthAnswer, guarded=False),
    Route("/api/model/load", "POST", load_model, answers.CurrentState),
    Route("/version", "GET", version, answers.Version),
    Route("/app-version", "GET", app_version, answers.AppVersion),
    Route("/hardware/info", "GET", hardware_info, answers.HardwareInfo),
    Route("/hardware/stats", "GET", hardware_stats, answers.HardwareStats),
    Route("/api/streams", "GET", list_streams, answers.Overview),
    Route(_ONE, "GET", one_stream, answers.Stream, refuses=(404,)),
    Route(_ONE, "DELETE", stop_stream, answers.Done, refuses=(404,)),
    Route(f"{_ONE}/params", "PATCH", change_stream, answers.Done, StreamParams, (400, 404, 413)),
    Route(f"{_ONE}/params/schema", "GET", params_schema, dict, refuses=(404,)),
    Route(f"{_ONE}/input.mp4", "GET", input_mp4, "video/mp4", refuses=(404, 501, 503)),
    Route(f"{_ONE}/output.mp4", "GET", output_mp4, "video/mp4", refuses=(404, 501, 503)),
    Route("/metrics", "GET", show_metrics, "text/plain"),
    Route("/openapi.json", "GET", openapi, dict),
    Route("/", "GET", dashboard, "text/html", guarded=False),
    Route("/dashboard/<name>", "GET", asset, "text/*", refuses=(404,), guarded=False),
)

OPEN: Final = frozenset(_endpoint(route) for route in ROUTES if not route.guarded)
"""Endpoints that ask for no token."""
