"""The service's streams: how many may run, which do, and whether the model is there for them.

What the outside sees follows from what is inside, and is kept nowhere:

| model (``Handlers.load_state``)  | places            | health  | a start             |
| -------------------------------- | ----------------- | ------- | ------------------- |
| not loaded, loading              | all free          | LOADING | refused: wait       |
| failed                           | all free          | ERROR   | refused: the reason |
| loaded, torch still coming       | all free          | LOADING | takes a place       |
| loaded                           | all free          | IDLE    | takes a place       |
| loaded                           | some taken        | OK      | takes a place       |
| loaded                           | all taken         | OK      | refused: in use     |

The third line is for those who wait for IDLE to have no delay: a start that comes before takes the rest of an import
longer (``Handlers.prepare``), but nothing that may fail.

A place is STARTING, RUNNING, then STOPPING from the moment that somebody asks for it; it is free again when everything
of the stream is closed, whichever way it ended. A stream that fails frees its place like any other, and is no fault of
the service.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from enum import Enum
from typing import Any, Final

import trio
from attrs import define, field, frozen

from trickle_trio.processor import HandlerError, Handlers, LoadState
from trickle_trio.service.rules import RequestError
from trickle_trio.service.schemas import StartRequest, checked_update
from trickle_trio.stream.ending import End, Outcome
from trickle_trio.stream.pipeline import OURS, Stream
from trickle_trio.stream.settings import URLS, StreamDefaults, StreamSettings

log: Final = logging.getLogger(__name__)

REMEMBERED: Final = 16
"""Streams that have ended and are still told of, with their reasons."""

LOADING_TEXT: Final = "Pipeline is still initializing. Please wait for IDLE status."
IN_USE_TEXT: Final = "Pipeline is still in use"


class Health(Enum):
    """The service's state, as gateways know it."""

    LOADING = "LOADING"
    IDLE = "IDLE"
    OK = "OK"
    ERROR = "ERROR"


class Phase(Enum):
    """Where a stream stands in its place."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


class UnavailableError(Exception):
    """The service cannot take a stream now."""


class NoStreamError(Exception):
    """There is no such stream."""


@define(eq=False)
class Running:
    """A stream in its place."""

    settings: StreamSettings
    handlers: Handlers
    stream: Stream = field(init=False)
    phase: Phase = Phase.STARTING
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    ended: trio.Event = field(factory=trio.Event)
    outcome: Outcome | None = None
    refusal: HandlerError | None = None
    """What the processor raised when it was told of the stream, so that it never began."""

    def __attrs_post_init__(self) -> None:
        self.stream = Stream(self.settings, self.handlers, checked_update)

    @property
    def request_id(self) -> str:
        """The gateway's name for it, or the one that was made up."""
        return self.settings.request_id

    async def stop(self) -> None:
        """End it; return when everything of it is closed. Cancelling gives up the waiting, not the stop."""
        self.phase = Phase.STOPPING
        self.scope.cancel()
        await self.ended.wait()


@frozen
class Ended:
    """A stream that is over: ``at`` in seconds since the epoch, and why in one line."""

    request_id: str
    at: float
    reason: str
    normal: bool

    @classmethod
    def of(cls, running: Running) -> Ended:
        """Tell how it ended. A stop has no outcome, for it comes from outside."""
        cause = running.refusal or running.outcome
        normal = cause is None or (running.outcome is not None and running.outcome.end.is_normal)
        return cls(running.request_id, time.time(), str(cause or "stopped"), normal)


@define(eq=False)
class Place:
    """Room for one stream: a processor, and the stream that uses it."""

    handlers: Handlers
    running: Running | None = None


class Streams:
    """All streams of one service. ``run`` is their nursery; everything else works while it runs.

    One place for each of ``processors``: a processor serves one stream at a time. ``defaults``: what every stream is
    told.
    """

    def __init__(self, processors: list[Handlers], defaults: StreamDefaults | None = None) -> None:
        self._places = [Place(handlers) for handlers in processors]
        self._defaults = defaults or StreamDefaults()
        self._nursery: trio.Nursery | None = None
        self._closing = trio.Event()
        self._load_error: str | None = None
        self.ended: deque[Ended] = deque(maxlen=REMEMBERED)

    @property
    def max_streams(self) -> int:
        """How many streams may run at once."""
        return len(self._places)

    @property
    def is_open(self) -> bool:
        """Whether ``run`` runs."""
        return self._nursery is not None

    @property
    def running(self) -> list[Running]:
        """The streams that hold a place, in no order that means anything."""
        return [place.running for place in self._places if place.running is not None]

    @property
    def name(self) -> str:
        """What messages call the processor."""
        return self._places[0].handlers.name

    @property
    def health(self) -> Health:
        """The state of the service, by the table above."""
        models = set(self.load_states)
        if LoadState.FAILED in models:
            return Health.ERROR
        if models != {LoadState.LOADED}:
            return Health.LOADING
        if self.running:
            return Health.OK
        is_prepared = all(place.handlers.is_prepared for place in self._places)
        return Health.IDLE if is_prepared else Health.LOADING

    @property
    def load_states(self) -> list[LoadState]:
        """Where the model of each place stands."""
        return [place.handlers.load_state for place in self._places]

    @property
    def error_message(self) -> str | None:
        """Why the model is not there."""
        return self._load_error if self.health is Health.ERROR else None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Load the model in the background and house the streams, until ``close``.

        Cancelling is the quick way to end: every stream is stopped, with its own bounded farewell.
        """
        if self.is_open:
            raise RuntimeError("these streams were run already: make a new service")
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self.load_model()
            task_status.started()
            await self._closing.wait()
            await self._stop_all()
            nursery.cancel_scope.cancel()

    async def close(self) -> None:
        """Take no more streams, and stop those that run; return when everything of them is closed."""
        self._closing.set()
        await self._stop_all()

    async def _stop_all(self) -> None:
        async with trio.open_nursery() as nursery:
            for running in self.running:
                nursery.start_soon(running.stop)

    @property
    def _house_nursery(self) -> trio.Nursery:
        if self._nursery is None:
            raise RuntimeError("the streams have no nursery: start run() first")
        return self._nursery

    def load_model(self) -> None:
        """Load and prepare what is not, in the background; nothing where it is."""
        for place in self._places:
            handlers = place.handlers
            if handlers.load_state in _LOADABLE or not handlers.is_prepared:
                self._house_nursery.start_soon(self._load, handlers)

    async def _load(self, handlers: Handlers) -> None:
        try:
            await handlers.load()
            await handlers.prepare()
        except HandlerError as error:
            self._load_error = str(error)
            _tell_of_load(handlers, error)

    def check_ready(self) -> None:
        """Raise ``UnavailableError`` while the model loads: nothing about a start is looked at before."""
        models = set(self.load_states)
        is_loading = LoadState.FAILED not in models and models != {LoadState.LOADED}
        if is_loading or self._closing.is_set():
            raise UnavailableError(LOADING_TEXT)

    async def start(self, request: StartRequest) -> Running:
        """Start a stream; return when it runs.

        Raises ``UnavailableError``; ``RequestError`` for an id that is taken or what the processor says no to, and
        ``ParamsError`` for a parameter that is not as the processor declares it.
        Cancelling is safe: nothing is left.
        """
        place = self._place_for(request)
        running = place.running = Running(settings_of(request, self._defaults), place.handlers)
        await self._house_nursery.start(self._house, place, running)
        if running.refusal is not None:
            raise RequestError(str(running.refusal)) from running.refusal
        if running.phase is Phase.STOPPING:
            raise UnavailableError("The stream was stopped while it started")
        if running.phase is Phase.STARTING:
            raise UnavailableError(f"The stream ended while it started: {running.outcome}")
        return running

    def _place_for(self, request: StartRequest) -> Place:
        """Find room. No await stands between this and taking it, so simultaneous starts cannot share a place."""
        if self.health is Health.ERROR and request.params.load_model:
            self.load_model()
            raise UnavailableError(LOADING_TEXT)
        if self.health is Health.ERROR:
            raise UnavailableError(f"The model is not there: {self.error_message}")
        self.check_ready()
        free = [place for place in self._places if place.running is None]
        if not free:
            raise UnavailableError(IN_USE_TEXT)
        if any(running.request_id == request.request_id for running in self.running):
            raise RequestError("a stream of this id is running", field="gateway_request_id")
        return free[0]

    async def _house(
        self, place: Place, running: Running, *, task_status: trio.TaskStatus[None]
    ) -> None:
        """Run a stream in its place. Whatever it raises is its own fault and stays in here."""
        started = _Started(running, task_status)
        try:
            with running.scope:
                running.outcome = await running.stream.run(task_status=started)
        except HandlerError as error:
            running.refusal = error
        except Exception as error:
            # The boundary behind which a stream may fail as it likes.
            running.outcome = Outcome(End.FAULT, f"{type(error).__name__}: {error}")
            log.exception("stream %r failed", running.request_id)
        finally:
            place.running = None
            running.ended.set()
            self.ended.append(Ended.of(running))
        ended = self.ended[-1]
        level = logging.INFO if ended.normal else logging.WARNING
        log.log(level, "stream %r is over: %s", running.request_id, ended.reason)
        started.release()

    def find(self, request_id: str | None = None) -> Running:
        """Return the stream of this id, or without an id the only one. Raises ``NoStreamError``.

        Where there is room for one stream only, it is meant whatever the id: a gateway need not know ours.
        """
        running = self.running
        if request_id is not None and self.max_streams > 1:
            running = [each for each in running if each.request_id == request_id]
        if not running:
            raise NoStreamError("No active stream")
        if len(running) > 1:
            raise NoStreamError("Several streams are active: say which by gateway_request_id")
        return running[0]

    def named(self, request_id: str) -> Running:
        """Return the stream of exactly this id. Raises ``NoStreamError``."""
        for running in self.running:
            if running.request_id == request_id:
                return running
        raise NoStreamError(f"No active stream {request_id!r}")


_LOADABLE: Final = (LoadState.NOT_LOADED, LoadState.FAILED)


class _Started(trio.TaskStatus[Any]):
    """Passes the stream's "started" on, once: the start waits no longer."""

    def __init__(self, running: Running, status: trio.TaskStatus[None]) -> None:
        self._running = running
        self._status = status

    def started(self, value: object = None) -> None:
        """The stream runs, unless somebody stops it already."""
        if self._running.phase is Phase.STARTING:
            self._running.phase = Phase.RUNNING
        self.release()

    def release(self) -> None:
        """Let the start return, whatever became of it."""
        status, self._status = self._status, trio.TASK_STATUS_IGNORED
        status.started()


def settings_of(request: StartRequest, defaults: StreamDefaults) -> StreamSettings:
    """Turn what was asked for into what a stream is to do."""
    params = request.params
    given = {name: value for name in OURS if (value := getattr(params, name)) is not None}
    urls = {name: getattr(request, name) for name in URLS}
    return StreamSettings(
        request_id=request.request_id,
        params=dict(params.others),
        policy=defaults.policy,
        video=defaults.video,
        audio=defaults.audio,
        relay_tokens=defaults.relay_tokens,
        **urls,
        **given,
    )


def _tell_of_load(handlers: Handlers, error: HandlerError) -> None:
    """Log why a model is not there, with the traceback of the user's code and not of ours."""
    log.error(
        "the model of %s cannot be loaded: %s", handlers.name, error, exc_info=error.__cause__
    )
