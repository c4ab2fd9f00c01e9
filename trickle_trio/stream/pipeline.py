"""One stream: the nursery in which its stations run, and how it begins and ends.

The stations are tasks joined by bounded channels, and end by closing them: when the input ends, the
end walks down the line behind the last frame. A stop is a cancellation from outside. It ends every
station at once but those that have something to finish: the open segment and the last events get a
short, bounded farewell.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final, TypeVar

import trio

from trickle_core.commands import Ending
from trickle_core.mpegts import AccessUnit, Codec
from trickle_core.publisher import PublisherSettings
from trickle_core.retry import RetryPolicy
from trickle_core.subscriber import SubscriberSettings
from trickle_trio.driver import ChannelEnded, open_hidden_nursery
from trickle_trio.media.encode import VideoEncoderSettings
from trickle_trio.media.frames import AudioFrame, VideoFrame
from trickle_trio.processor import HandlerError, Handlers
from trickle_trio.publication import Publication, PublicationStatistics, open_publication
from trickle_trio.stream.control import Control
from trickle_trio.stream.decode import PictureDecoding, WaitingFrames
from trickle_trio.stream.egress import Egress
from trickle_trio.stream.encode import KeyRequest, PictureEncoding
from trickle_trio.stream.ending import End, Outcome, StreamEnds
from trickle_trio.stream.events import HEARTBEAT, Events
from trickle_trio.stream.farewell import finish_within
from trickle_trio.stream.ingest import Ingest
from trickle_trio.stream.meters import Meters, StreamStatistics
from trickle_trio.stream.outbox import EVENT_KEEPALIVE, Outbox, data_outbox, events_outbox
from trickle_trio.stream.process import PictureHandling, Throttle, Watchdog, Wishes
from trickle_trio.stream.settings import StreamSettings
from trickle_trio.stream.sound import SoundHandling
from trickle_trio.stream.tap import Tap
from trickle_trio.stream.tracks import Tracks
from trickle_trio.subscription import Subscription, SubscriptionStatistics, open_subscription

log: Final = logging.getLogger(__name__)

CHANNEL_WAIT: Final = 10.0
"""Seconds that a channel may take to appear after a start: the publisher is often started by the
same hand."""

STOP_HANDLER: Final = 5.0
"""Seconds that ``on_stream_stop`` may take."""

REPORT_WINDOW: Final = 10.0
"""Seconds over which handler errors are bounded in the log and in the events."""

UNITS_WAITING: Final = 64
"""Coded units between two stations: about a second, and no more than the network's own buffers
hold."""

FRAMES_READY: Final = 2
"""Processed frames before the encoder: one that is encoded, one that is next."""

OURS: Final = frozenset(
    {"width", "height", "max_framerate", "detect_out_resolution", "show_loading"}
)
"""Parameters that are not the processor's."""

E = TypeVar("E", bound=BaseException)

ParamsCheck = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Turns parameters as they came into valid ones; ``ValueError`` names the field that is wrong."""


class Stream:
    """One stream of a processor. It implements ``StreamLink``: what the processor sends reaches the
    channels here.

    ``settings`` are those of the start. ``outcome`` is set at the end. Make it inside ``trio.run``.
    """

    def __init__(
        self, settings: StreamSettings, handlers: Handlers, check_params: ParamsCheck = dict
    ) -> None:
        self.settings = settings
        self.handlers = handlers
        self.params: dict[str, Any] = dict(settings.params)
        """The processor's parameters by now."""
        self.outcome: Outcome | None = None
        self.meters = Meters()
        self.input_tap = Tap()
        self.output_tap = Tap()
        self._check_params = check_params
        self._tracks = Tracks(audio_codec=Codec.AAC if handlers.handles_audio else None)
        self._frames = WaitingFrames(
            settings.policy.waiting_frames, settings.policy.pace, self.meters
        )
        self._wishes = Wishes(
            size=_size(settings.width, settings.height),
            throttle=Throttle(settings.max_framerate),
            keep_size=not settings.detect_out_resolution,
        )
        self._subscription: Subscription | None = None
        self._publication: Publication | None = None
        self._events_box = (
            events_outbox(settings.events_url, self.meters) if settings.events_url else None
        )
        self._data_box = data_outbox(settings.data_url, self.meters) if settings.data_url else None
        self._events = Events(settings.request_id, self._events_box)
        self._reports: deque[float] = deque()

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
        self.handlers.attach(self)
        try:
            async with open_hidden_nursery() as beside:
                self._start_beside(beside)
                try:
                    self.outcome = await self._live(task_status)
                finally:
                    self._end_beside(beside)
        finally:
            self.input_tap.close()
            self.output_tap.close()
            self.handlers.detach(self)
        return self.outcome

    def _start_beside(self, beside: trio.Nursery) -> None:
        """What runs beside the media, and never holds it up."""
        for outbox in self._outboxes():
            beside.start_soon(finish_within, self.settings.policy.farewell, outbox.run)
        if self._events_box:
            beside.start_soon(self._beat)
        if self.settings.control_url:
            url = self.settings.control_url
            control = Control(url, self.update_params, self._refuse_control, self.meters)
            beside.start_soon(control.run)

    def _end_beside(self, beside: trio.Nursery) -> None:
        for outbox in self._outboxes():
            outbox.close()
        beside.cancel_scope.cancel()

    def _outboxes(self) -> list[Outbox]:
        return [box for box in (self._events_box, self._data_box) if box]

    async def _live(self, task_status: trio.TaskStatus[Stream]) -> Outcome:
        outcome = None
        self._events.trace("runner_receive_stream_request")
        try:
            await self.handlers.stream_started(self.settings.params)
            task_status.started(self)
            self._events.life("stream_started", params=self.params)
            outcome = await self._flow()
        finally:
            await self._say_stopped(outcome)
        return outcome

    async def _say_stopped(self, outcome: Outcome | None) -> None:
        if outcome and not outcome.end.is_normal:
            self._events.life("error", message=str(outcome))
        with trio.move_on_after(STOP_HANDLER, shield=True):
            try:
                await self.handlers.stream_stopped()
            except HandlerError as error:
                self._report("on_stream_stop", error)
        self._events.life("stream_stopped", reason=str(outcome) if outcome else "stopped")

    async def _flow(self) -> Outcome:
        """Run the stations. The one place where what a station raises becomes an outcome."""
        outcome = Outcome(End.INPUT_ENDED)
        try:
            async with trio.open_nursery() as nursery:
                self._start_stations(nursery)
        except* StreamEnds as ended:
            outcome = next(_leaves(ended)).outcome
            log.info("stream %s: %s", self.settings.request_id, outcome)
        except* Exception as faults:
            # A fault of ours ends this stream and no other; its traceback is the log's.
            log.exception("stream %s failed", self.settings.request_id)
            outcome = Outcome(End.FAULT, repr(next(_leaves(faults))))
        return outcome

    # -- its stations

    def _start_stations(self, nursery: trio.Nursery) -> None:
        policy = self.settings.policy
        watchdog = partial(Watchdog, policy, self._report)
        pictures_in, pictures_out = trio.open_memory_channel[AccessUnit](UNITS_WAITING)
        processed_in, processed_out = trio.open_memory_channel[VideoFrame](FRAMES_READY)
        coded_in, coded_out = trio.open_memory_channel[AccessUnit](UNITS_WAITING)
        sound_in = coded_in.clone()
        if self.handlers.handles_audio:
            sound = SoundHandling(self.handlers, watchdog(), self.meters)
            sound_in, sound_out = trio.open_memory_channel[AccessUnit](UNITS_WAITING)
            nursery.start_soon(sound.run, sound_out, coded_in.clone())
        ingest = Ingest(
            self._tracks,
            self.meters,
            self.input_tap,
            policy.pace,
            self._events,
            pictures_in,
            sound_in,
        )
        nursery.start_soon(self._read, ingest)
        nursery.start_soon(PictureDecoding(self._frames, self.meters).run, pictures_out)
        handling = PictureHandling(self.handlers, self._wishes, self.meters, watchdog())
        nursery.start_soon(handling.run, self._frames, processed_in)
        if self.settings.publish_url is None:
            nursery.start_soon(self._count_pictures, processed_out)
            nursery.start_soon(self._count_sound, coded_out)
            coded_in.close()
            return
        keys = KeyRequest()
        encoding = PictureEncoding(
            VideoEncoderSettings(), policy.segment_seconds, keys, self.meters
        )
        nursery.start_soon(encoding.run, processed_out, coded_in)
        egress = Egress(
            coded_out, self._tracks, self.meters, self.output_tap, keys, policy, self._events
        )
        write = partial(self._write, egress, self.settings.publish_url)
        nursery.start_soon(finish_within, policy.farewell, write)

    async def _read(self, ingest: Ingest) -> None:
        """Read the input to its end; then nothing more comes into the pipe."""
        with ingest.pictures, ingest.sound:
            if self.settings.subscribe_url is None:
                await trio.sleep_forever()  # frames may come through send_input_frame
            else:
                await self._subscribe(ingest, self.settings.subscribe_url)

    async def _subscribe(self, ingest: Ingest, url: str) -> None:
        patience = self.settings.policy.input_timeout
        settings = SubscriberSettings(
            wait_for_channel=min(CHANNEL_WAIT, patience), retry=RetryPolicy(give_up_after=patience)
        )
        with trio.move_on_after(patience) as silence:
            try:
                async with open_subscription(url, settings=settings) as self._subscription:
                    await ingest.run(self._subscription, silence, patience)
                    self._check_input(self._subscription)
            except ChannelEnded as error:
                raise StreamEnds(End.INPUT_UNAVAILABLE, str(error)) from error
        if silence.cancelled_caught:
            raise StreamEnds(End.INPUT_SILENT, f"{url}: nothing for {patience:g} s")

    def _check_input(self, subscription: Subscription) -> None:
        """A channel that was never there is a mistake; one that has gone is an end."""
        if subscription.ending is Ending.GONE and not self.meters.last_input:
            raise StreamEnds(End.INPUT_UNAVAILABLE, f"{subscription.url}: {Ending.GONE.value}")

    async def _write(self, egress: Egress, url: str) -> None:
        try:
            async with open_publication(
                url, settings=PublisherSettings(create=True)
            ) as self._publication:
                await egress.run(self._publication)
        except ChannelEnded as error:
            normal = error.ending in (Ending.CLOSED, Ending.GONE)
            end = End.OUTPUT_ENDED if normal else End.OUTPUT_UNAVAILABLE
            raise StreamEnds(end, str(error)) from error

    async def _count_pictures(self, frames: trio.MemoryReceiveChannel[VideoFrame]) -> None:
        """Where there is no output, a processed frame has reached its end."""
        async for frame in frames:
            self.meters.picture_left(frame.timestamp)

    async def _count_sound(self, units: trio.MemoryReceiveChannel[AccessUnit]) -> None:
        async for _ in units:
            self.meters.sound_left()

    # -- from outside, while it runs

    async def update_params(self, params: Mapping[str, Any]) -> None:
        """Change parameters: ours take effect here, the others go to the processor.

        ``ValueError``: one is wrong, and nothing was changed. A processor that fails over its own
        is reported, not raised.
        """
        checked = dict(self._check_params(params))
        self._wish(checked)
        others = {key: value for key, value in checked.items() if key not in OURS}
        self.params.update(others)
        if others:
            try:
                await self.handlers.update_params(others)
            except HandlerError as error:
                self._report("update_params", error)
        self._events.life("params_updated", params=checked)

    def _wish(self, params: Mapping[str, Any]) -> None:
        size = _size(params.get("width"), params.get("height"))
        self._wishes.size = size or self._wishes.size
        self._wishes.throttle.rate = params.get("max_framerate", self._wishes.throttle.rate)
        if "detect_out_resolution" in params:
            self._wishes.keep_size = not params["detect_out_resolution"]

    def _refuse_control(self, reason: str) -> None:
        self._events.life("error", message=reason)

    def _report(self, source: str, error: BaseException) -> None:
        """Count a fault of the user's code, and tell of it unless there were too many lately."""
        text = f"{error}: {error.__cause__!r}" if error.__cause__ else str(error)
        self.meters.error(source, text)
        now = trio.current_time()
        while self._reports and now - self._reports[0] > REPORT_WINDOW:
            self._reports.popleft()
        if len(self._reports) < self.settings.policy.error_reports:
            self._reports.append(now)
            log.error("stream %s: %s", self.settings.request_id, text, exc_info=error.__cause__)
            self._events.life("error", source=source, message=text)

    async def _beat(self) -> None:
        """Show that the stream lives."""
        while True:
            numbers = self.statistics()
            self._events.send(
                {
                    "type": "heartbeat",
                    "urls": self.settings.urls(),
                    "dimensions": {"width": numbers.width_out, "height": numbers.height_out},
                    "fps": numbers.fps(),
                },
                HEARTBEAT,
            )
            await trio.sleep(EVENT_KEEPALIVE)

    def statistics(self) -> StreamStatistics:
        """A snapshot of the stream's numbers."""
        read = self._subscription.statistics() if self._subscription else SubscriptionStatistics()
        written = self._publication.statistics() if self._publication else PublicationStatistics()
        return self.meters.snapshot(read, written)

    # -- for the processor

    def send_data(self, text: str) -> bool:
        """Queue a line for the data channel; False: there is none. Does not block."""
        return self._data_box is not None and self._data_box.put(text)

    def send_event(self, event: Mapping[str, Any], event_type: str) -> bool:
        """Queue an event; False: there is no events channel. Does not block."""
        return self._events.send(event, event_type)

    async def send_input_frame(self, frame: VideoFrame | AudioFrame) -> bool:
        """Put a picture before the handler, as if it had been decoded; False: sound cannot be put
        there.
        """
        if isinstance(frame, AudioFrame):
            return False
        self._tracks.expect_picture()
        await self._frames.put(frame)
        return True

    def set_loading_overlay(self, enabled: bool) -> bool:  # noqa: FBT001  the users' signature
        """The overlay is not drawn yet."""
        return False


def _size(width: int | None, height: int | None) -> tuple[int, int] | None:
    return (width, height) if width and height else None


def _leaves(group: BaseExceptionGroup[E]) -> Iterator[E]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
