"""One stream: the nursery in which it lives, how it begins and ends, and what is said to it.

The media run down the line of stations (``line``); control, events and data run beside it and never
hold it up. A stop is a cancellation from outside. It ends every station at once but those that have
something to finish: the open segment, the last data and the last events get a short, bounded
farewell.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

import trio
from attrs import evolve

from trickle_trio.driver import open_hidden_nursery
from trickle_trio.processor import HandlerError, Handlers, ParamsError
from trickle_trio.stream.beat import Beat
from trickle_trio.stream.control import Control
from trickle_trio.stream.ending import End, Outcome, StreamEnds
from trickle_trio.stream.events import Events
from trickle_trio.stream.line import Line
from trickle_trio.stream.link import Link
from trickle_trio.stream.meters import Meters, StreamStatistics
from trickle_trio.stream.outbox import Outbox, data_outbox, events_outbox
from trickle_trio.stream.reports import FaultReports
from trickle_trio.stream.settings import StreamSettings, frame_size
from trickle_trio.stream.tap import Tap
from trickle_trio.stream.updates import Updates

log: Final = logging.getLogger(__name__)

STOP_HANDLER: Final = 5.0
"""Seconds that ``on_stream_stop`` may take."""

OURS: Final = ("width", "height", "max_framerate", "detect_out_resolution", "show_loading")
"""Parameters that are not the processor's."""

E = TypeVar("E", bound=BaseException)

ParamsCheck = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Turns parameters as they came into valid ones; ``ValueError`` names the field that is wrong."""


class Stream:
    """One stream of a processor.

    ``settings`` are those of the start. ``outcome`` is set at the end. Make it inside ``trio.run``.
    ``ParamsError``: a parameter is not as the processor declares it.
    """

    def __init__(
        self, settings: StreamSettings, handlers: Handlers, check_params: ParamsCheck = dict
    ) -> None:
        self.settings = settings
        self.handlers = handlers
        self.params = handlers.first_params(settings.params)
        """The processor's parameters by now."""
        asked = {name: getattr(settings, name) for name in OURS}
        self.own_params = {name: value for name, value in asked.items() if value is not None}
        """Ours by now."""
        self.outcome: Outcome | None = None
        self.meters = meters = Meters()
        self._check_params = check_params
        self._updates = Updates(self._checked, self._apply)
        self._outboxes: list[Outbox] = []
        events_url, data_url = settings.events_url, settings.data_url
        token = settings.relay_tokens.shown_to
        self._events = Events(
            settings.request_id,
            self._outbox(events_outbox(events_url, meters, token(events_url)))
            if events_url
            else None,
        )
        self._reports = FaultReports(self._events, meters, settings.policy.error_reports)
        self._line = Line(settings, handlers, meters, self._events, self._reports.tell)
        self._beat = Beat(self._line, self._events, self._reports, lambda: self.params)
        data = self._outbox(data_outbox(data_url, meters, token(data_url))) if data_url else None
        self._link = Link(
            self._events, data, self._line.frames, self._line.tracks, self._line.overlay
        )

    def _outbox(self, outbox: Outbox) -> Outbox:
        self._outboxes.append(outbox)
        return outbox

    @property
    def input_tap(self) -> Tap:
        """What comes in, coded, for whoever looks on."""
        return self._line.input_tap

    @property
    def output_tap(self) -> Tap:
        """What goes out, coded, for whoever looks on."""
        return self._line.output_tap

    def statistics(self) -> StreamStatistics:
        """A snapshot of the stream's numbers."""
        return self._line.statistics()

    # -- its life

    async def run(
        self, *, task_status: trio.TaskStatus[Stream] = trio.TASK_STATUS_IGNORED
    ) -> Outcome:
        """Run until the stream ends; returns why. Faults of the stream are in the outcome and not
        raised.

        ``HandlerError``: ``on_stream_start`` failed, so nothing was started. ``RuntimeError``: the
        processor is in another stream. Cancelling is the way to stop: the open segment is ended,
        and the farewell is bounded.
        """
        self.handlers.attach(self._link)
        try:
            async with open_hidden_nursery() as beside:
                self._start_beside(beside)
                try:
                    self.outcome = await self._live(task_status)
                finally:
                    self._end_beside(beside)
        finally:
            self._line.close()
            self.handlers.detach(self._link)
        return self.outcome

    def _start_beside(self, beside: trio.Nursery) -> None:
        """What runs beside the media, and never holds it up."""
        for outbox in self._outboxes:
            beside.start_soon(outbox.run)
        if self.settings.events_url:
            beside.start_soon(self._beat.run)
        if self.settings.control_url:
            url = self.settings.control_url
            token = self.settings.relay_tokens.shown_to(url)
            control = Control(url, self._updates.put, self._refuse, self.meters, token)
            beside.start_soon(control.run)

    def _end_beside(self, beside: trio.Nursery) -> None:
        for outbox in self._outboxes:
            outbox.close(self.settings.policy.farewell)
        beside.cancel_scope.cancel()

    async def _live(self, task_status: trio.TaskStatus[Stream]) -> Outcome:
        outcome = None
        self._events.trace("runner_receive_stream_request")
        # Before the input is opened: what came meanwhile would be old when the first frame is made.
        await self.handlers.prepare()
        try:
            await self._begin()
            task_status.started(self)
            outcome = await self._flow()
        finally:
            self._updates.close()
            await self._say_stopped(outcome)
        return outcome

    async def _begin(self) -> None:
        try:
            await self.handlers.stream_started(self.params)
        except HandlerError as error:
            self._reports.tell("on_stream_start", error)
            raise
        self._events.life("stream_started", params=self.params)

    async def _say_stopped(self, outcome: Outcome | None) -> None:
        if outcome and not outcome.end.is_normal:
            self._events.life("error", message=str(outcome))
        with trio.move_on_after(STOP_HANDLER, shield=True):
            try:
                await self.handlers.stream_stopped()
            except HandlerError as error:
                self._reports.tell("on_stream_stop", error)
        self._events.life("stream_stopped", reason=str(outcome) if outcome else "stopped")

    async def _flow(self) -> Outcome:
        """Run the line, and apply changes of parameters meanwhile: not before, and not after."""
        async with open_hidden_nursery() as nursery:
            nursery.start_soon(self._updates.run)
            outcome = await self._run_line()
            nursery.cancel_scope.cancel()
        return outcome

    async def _run_line(self) -> Outcome:
        """The one place where what a station raises becomes an outcome."""
        outcome = Outcome(End.INPUT_ENDED)
        try:
            async with trio.open_nursery() as nursery:
                self._line.start(nursery)
        except* StreamEnds as ended:
            outcome = next(_leaves(ended)).outcome
            log.info("stream %s: %s", self.settings.request_id, outcome)
        except* Exception as faults:
            # A fault of ours ends this stream and no other; its traceback is the log's.
            log.exception("stream %s failed", self.settings.request_id)
            outcome = Outcome(End.FAULT, repr(next(_leaves(faults))))
        return outcome

    # -- from outside, while it runs

    async def update_params(self, params: Mapping[str, Any]) -> None:
        """Change parameters: ours take effect here, the others go to the processor.

        Waits until they have, behind those that came before; several that wait are applied as one
        (``updates``). Cancelling gives up the waiting alone. ``ParamsError``: one is wrong.
        ``HandlerError``: the processor refuses them. Nothing has changed then.
        """
        await self._updates.make(params)

    def _checked(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """What is ours keeps the rules of the settings, also where nobody else checks."""
        ours, others = _split(self._check_params(params))
        try:
            evolve(self.settings, **ours)
        except (TypeError, ValueError) as error:
            raise ParamsError(str(error)) from error
        return ours | self.handlers.changed_params(self.params, others)

    async def _apply(self, params: Mapping[str, Any]) -> None:
        """Make a change: the processor first, for it may refuse."""
        ours, others = _split(self._checked(params))
        if others:
            try:
                await self._hand_over(others)
            except HandlerError as error:
                self._reports.tell("update_params", error)
                raise
        self.params.update(others)
        self.own_params.update(ours)
        self._wish(ours)
        self._events.life("params_updated", params=ours | others)

    async def _hand_over(self, params: Mapping[str, Any]) -> None:
        patience = self.settings.policy.handler_timeout
        with trio.move_on_after(patience) as scope:
            await self.handlers.update_params(params, self.params)
        if scope.cancelled_caught:
            raise HandlerError("the parameter updater", f"gave no answer within {patience:g} s")

    def _wish(self, params: Mapping[str, Any]) -> None:
        wishes = self._line.wishes
        wishes.size = frame_size(params.get("width"), params.get("height")) or wishes.size
        wishes.throttle.rate = params.get("max_framerate", wishes.throttle.rate)
        if "detect_out_resolution" in params:
            wishes.keep_size = not params["detect_out_resolution"]
        if "show_loading" in params:
            self._line.overlay.ask(params["show_loading"])

    def _refuse(self, reason: str) -> None:
        self._events.life("error", message=reason)


def _split(params: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Ours, and the processor's."""
    ours = {key: value for key, value in params.items() if key in OURS}
    return ours, {key: value for key, value in params.items() if key not in OURS}


def _leaves(group: BaseExceptionGroup[E]) -> Iterator[E]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
