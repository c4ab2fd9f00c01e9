"""The control API as a Quart-Trio app, which users may extend in Quart's own ways."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from importlib.metadata import version as package_version
from typing import Any, Final

import trio
from attrs import asdict, frozen
from quart import Response
from quart.json.provider import DefaultJSONProvider
from quart_trio import QuartTrio

from trickle_trio.media.encode import AudioEncoderSettings, VideoEncoderSettings
from trickle_trio.service import routes
from trickle_trio.service.defaults import stream_defaults
from trickle_trio.service.hosting import Address, Connection
from trickle_trio.service.live import NothingToShowError, UnplayableError, Viewers
from trickle_trio.service.metrics import Metrics
from trickle_trio.service.processors import processors_for
from trickle_trio.service.reports import current_state
from trickle_trio.service.rules import RequestError
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
    encoder that does not open gives way to libx264, with a warning. Raises TypeError for what is no processor, and
    ValueError where it cannot serve that many streams, or where an encoder refuses what it is told.
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
        pipeline: str | None = None,
        model_id: str | None = None,
        version: str | None = None,
        policy: StreamPolicy | None = None,
        video: VideoEncoderSettings | None = None,
        audio: AudioEncoderSettings | None = None,
    ) -> None:
        super().__init__("trickle_trio", static_folder=None)
        defaults = stream_defaults(policy, video, audio)
        self.streams = streams = Streams(processors_for(frame_processor, max_streams), defaults)
        self.identity = Identity.make(
            streams.name, pipeline=pipeline, model_id=model_id, version=version
        )
        self.service = Service(self, host, port)
        """What runs it: ``trio.run(app.service)``, or ``await nursery.start(app.service)``."""
        self.viewers = Viewers()
        self.metrics = Metrics(streams, **asdict(self.identity))
        self.config["MAX_CONTENT_LENGTH"] = MAX_BODY
        routes.add_to(self)
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

    def _answer_errors(self) -> None:
        """Say what went wrong in JSON. What users register for the same errors comes first, as always in Quart."""
        statuses = (
            (RequestError, 400),
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
        body = {"status": "error", "message": message, "current_state": current_state(self.streams)}
        response = Response(self.json.dumps(body) + "\n", status, mimetype="application/json")
        if status == 503:
            response.headers["Retry-After"] = "1"
        return response

    async def handle_http_exception(self, error: Any) -> Any:
        """Give the framework's own errors (404, 405, 413, ...) the same form, where no handler of a user's does."""
        answer: Any = await super().handle_http_exception(error)
        if answer is not error or error.code is None or error.code < 400:
            return answer
        response = self.error(error.code, error.description or error.name)
        allowed = [(name, value) for name, value in error.get_headers() if name == "Allow"]
        response.headers.extend(allowed)
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
