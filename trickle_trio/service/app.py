"""The control API as a Quart-Trio app, which users may extend in Quart's own ways."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from importlib.metadata import version as package_version
from typing import Any, Final

import trio
from attrs import asdict, frozen
from quart import Response, request, websocket
from quart.json.provider import DefaultJSONProvider
from quart_trio import QuartTrio

from trickle_trio.media.encode import AudioEncoderSettings, VideoEncoderSettings
from trickle_trio.processor import HandlerError, ParamsError
from trickle_trio.service import answers, routes
from trickle_trio.service.defaults import stream_defaults
from trickle_trio.service.guard import Guard
from trickle_trio.service.hosting import Address, Connection
from trickle_trio.service.live import NothingToShowError, UnplayableError, Viewers
from trickle_trio.service.metrics import Metrics
from trickle_trio.service.processors import processors_for
from trickle_trio.service.reports import current_state
from trickle_trio.service.running import Service
from trickle_trio.service.streams import NoStreamError, Streams, UnavailableError
from trickle_trio.stream.settings import StreamPolicy

MAX_BODY: Final = 1024 * 1024
"""Bytes of a request: parameters are small, and Quart holds a whole body in memory."""


class _Json(DefaultJSONProvider):
    """Answers keep the order in which they were written."""

    sort_keys = False


@frozen
class Identity:
    """What the service calls itself to gateways: by option, by environment, or by its processor's name."""

    pipeline: str
    model_id: str
    version: str

    @classmethod
    def make(
        cls, name: str, *, pipeline: str | None, model_id: str | None, version: str | None
    ) -> Identity:
        """Settle each from the first that says it."""
        env = os.environ.get
        return cls(
            pipeline or env("PIPELINE") or "byoc",
            model_id or env("MODEL_ID") or env("CAPABILITY_NAME") or name,
            version or env("VERSION") or package_version("trickle-trio"),
        )


class TrickleApp(QuartTrio):
    """The service's app: ``streams`` is its state, everything else is Quart.

    Takes a processor in any form that ``serve`` takes. ``host`` and ``port`` are where ``run_forever`` listens, port 0
    takes a free one. ``pipeline``, ``model_id`` and ``version`` are what ``/version`` says; by default what the
    environment says under ``PIPELINE``, ``MODEL_ID`` or ``CAPABILITY_NAME``, and ``VERSION``. ``policy``, ``video`` and
    ``audio`` hold for all streams: how they are carried, and how picture and touched sound are encoded; a hardware
    encoder that does not open gives way to libx264, with a warning.

    Each of ``max_streams`` processors loads its own model, unless ``share_model``: then the first loads it, once, and
    what its loader sets on it (``self.model = ...``) is set on the others too. ``prewarm``: a width and a height; a
    black picture of that size goes through the video handler before the service is ready, for models whose first
    picture takes long.

    Web pages of other sites may start and change nothing, unless ``allow_origins`` names theirs, as in
    ``"https://example.org"``, or ``"*"`` for all. ``token``: what every request must carry as a bearer token, but for
    those to ``/health``, to the page itself, and to the endpoints that are added to ``open_endpoints``.

    ``relay_tokens``: what relays ask streams for, by their addresses, as in ``{"http://relay:3389": "secret"}``. Each
    is shown to no other server, whatever addresses a stream is started with.

    Raises TypeError for what is no processor, and ValueError where it cannot serve that many streams, where an encoder
    refuses what it is told, and for an origin, a relay or a token that is none.
    """

    asgi_http_class = Connection
    json_provider_class = _Json

    def __init__(
        self,
        frame_processor: Any,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        max_streams: int = 1,
        share_model: bool = False,
        prewarm: tuple[int, int] | None = None,
        pipeline: str | None = None,
        model_id: str | None = None,
        version: str | None = None,
        policy: StreamPolicy | None = None,
        video: VideoEncoderSettings | None = None,
        audio: AudioEncoderSettings | None = None,
        allow_origins: Iterable[str] = (),
        token: str | None = None,
        relay_tokens: Mapping[str, str] | None = None,
    ) -> None:
        if isinstance(frame_processor, TrickleApp):
            raise TypeError(
                "expected a processor, got an app, which is served as it is: trio.run(app.service)"
            )
        super().__init__("trickle_trio", static_folder=None)
        defaults = stream_defaults(policy, video, audio, relay_tokens)
        self.streams = streams = Streams(
            processors_for(frame_processor, max_streams, share_model=share_model, prewarm=prewarm),
            defaults,
        )
        self.identity = Identity.make(
            streams.name, pipeline=pipeline, model_id=model_id, version=version
        )
        self.service = Service(self, host, port)
        """What runs it: ``trio.run(app.service)``, or ``await nursery.start(app.service)``."""
        self.viewers = Viewers()
        self.guard = Guard(allow_origins, token)
        self.open_endpoints = set(routes.OPEN)
        """Endpoints, in Quart's sense, that ask for no token."""
        self.metrics = Metrics(streams, **asdict(self.identity))
        self.config["MAX_CONTENT_LENGTH"] = MAX_BODY
        routes.add_to(self)
        self._stand_guard()
        self._answer_errors()
        self.before_serving(self._enter)
        self.after_serving(self.streams.close)

    async def run_forever(
        self, *, task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen and serve until cancelled; ``Service`` says how that ends. Reports the address once it listens."""
        await self.service(task_status=task_status)

    async def _enter(self) -> None:
        """House the streams here where no ``serve`` does: under another server, or in a test."""
        if not self.streams.is_open:
            await self.nursery.start(self.streams.run)

    def _stand_guard(self) -> None:
        """Check every request before anything else sees it, those to users' own routes among them."""

        async def check_request() -> None:
            self.guard.check(request, is_open=request.endpoint in self.open_endpoints)

        async def check_websocket() -> None:
            self.guard.check(websocket, is_open=websocket.endpoint in self.open_endpoints)

        async def tell(response: Response) -> Response:
            return self.guard.tell(request, response)

        self.before_request(check_request)
        self.before_websocket(check_websocket)
        self.after_request(tell)

    def _answer_errors(self) -> None:
        """Say what went wrong in JSON. What users register for the same errors comes first, as always in Quart."""
        statuses = (
            (ParamsError, 400),
            (HandlerError, 400),
            (NoStreamError, 400),
            (UnavailableError, 503),
            (NothingToShowError, 503),
            (UnplayableError, 501),
            (500, 500),
        )
        for kind, status in statuses:
            self.register_error_handler(kind, _answering(self, status))

    def error(self, status: int, message: str) -> Response:
        """Make an answer that says what is wrong and how the service is."""
        state = current_state(self.streams)
        body: answers.Refused = {"status": "error", "message": message, "current_state": state}
        response = self._json_response(body, status)
        if status == 503:
            response.headers["Retry-After"] = "1"
        return response

    def denial(self, status: int, message: str) -> Response:
        """Make an answer for somebody who may not ask: it does not tell how the service is."""
        body: answers.Denied = {"status": "error", "message": message}
        return self._json_response(body, status)

    def _json_response(self, body: Mapping[str, Any], status: int) -> Response:
        return Response(self.json.dumps(body) + "\n", status, mimetype="application/json")

    async def handle_http_exception(self, error: Any) -> Any:
        """Give the framework's own errors (404, 405, 413, ...) the same form, where no handler of a user's does."""
        answer: Any = await super().handle_http_exception(error)
        if answer is not error or error.code is None or error.code < 400:
            return answer
        text = error.description or error.name
        response = (
            self.denial(error.code, text)
            if error.code in (401, 403)
            else self.error(error.code, text)
        )
        kept = ("Allow", "WWW-Authenticate")
        response.headers.extend([each for each in error.get_headers() if each[0] in kept])
        return response


def _answering(app: TrickleApp, status: int) -> Callable[[Exception], Awaitable[Response]]:
    """Make an error handler that answers with this status."""

    async def answer(error: Exception) -> Response:
        message = "Internal error; the log says more" if status == 500 else str(error)
        return app.error(status, message)

    return answer


def create_app(frame_processor: Any, **options: Any) -> TrickleApp:
    """Make the service's app around a processor; options and errors are ``TrickleApp``'s."""
    return TrickleApp(frame_processor, **options)
