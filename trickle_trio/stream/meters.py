"""What a stream knows about itself: rates, delays, losses and their reasons."""

from __future__ import annotations

from collections import Counter, deque
from enum import Enum
from typing import Final

from attrs import define, field, frozen

from trickle_trio.publication import PublicationStatistics
from trickle_trio.stream.states import GAP, Flow, Pulse
from trickle_trio.stream.times import loop_clock
from trickle_trio.subscription import SubscriptionStatistics

RATE_WINDOW: Final = 2.0
"""Seconds over which a rate is taken."""

EVENTS_KEPT: Final = 1024
"""Events that a rate is taken of at most: five hundred a second, for an input that is read as fast as
can be."""

DELAYS_KEPT: Final = 900
"""Delays in the percentiles: half a minute at 30 frames a second."""

ARRIVALS_KEPT: Final = 1024
"""Frames that may be under way, or lost without a word, before their arrivals are forgotten."""


class Drop(Enum):
    """Why a frame did not come out."""

    FRAMERATE = "above max_framerate"
    SKIPPED = "left out, so that the frames before a slow handler are evenly spaced"
    BEFORE_START = "it was there before the stream began"
    SLOW_HANDLER = "the handler, or the encoder behind it, is slower than the input"
    BURST = "it came in a burst, with more at once than may wait"
    OVERLAID = "the loading overlay was shown in its place"
    WITHHELD = "the handler withheld it"
    OUT_OF_ORDER = "its time was not after that of the frame before"
    NO_OUTPUT = "the output could not be written"
    DAMAGED = "it could not be decoded"
    NOT_ENCODED = "it could not be encoded"


@define
class Rate:
    """Events a second over the last ``RATE_WINDOW`` seconds, or over the last ``EVENTS_KEPT`` events
    where those were more.
    """

    _times: deque[float] = field(factory=lambda: deque(maxlen=EVENTS_KEPT))

    def count(self, now: float) -> None:
        """One more."""
        self._times.append(now)

    def at(self, now: float) -> float:
        """Events a second by now: over the time since the first one while that is short."""
        while self._times and now - self._times[0] > RATE_WINDOW:
            self._times.popleft()
        if len(self._times) < 2:
            return 0.0
        return len(self._times) / max(now - self._times[0], 1e-3)


@frozen
class StageTime:
    """A station's work: how often, and milliseconds a time on average."""

    count: int
    mean_ms: float


@define
class Stage:
    """A station's work so far."""

    count: int = 0
    seconds: float = 0.0

    def took(self, seconds: float) -> None:
        """One more item, and how long it took."""
        self.count += 1
        self.seconds += seconds


@frozen(kw_only=True)
class StreamStatistics:
    """A snapshot. Rates are a second, delays in milliseconds from a frame's arrival to its
    processed form's sending; ``input_state`` and ``output_state`` are values of ``Flow``.
    ``overlay_frames`` were sent too, and are in nothing else that is said of the output's pictures.
    """

    seconds: float
    frames_in: int
    frames_out: int
    overlay_frames: int
    audio_in: int
    audio_out: int
    ingress_video_fps: float
    egress_video_fps: float
    ingress_audio_fps: float
    egress_audio_fps: float
    latency_ms_p50: float | None
    latency_ms_p95: float | None
    latency_ms_p99: float | None
    dropped: dict[str, int]
    errors: dict[str, int]
    last_error: str | None
    stages: dict[str, StageTime]
    width_in: int | None
    height_in: int | None
    width_out: int | None
    height_out: int | None
    segments_in: int
    segments_skipped: int
    segments_truncated: int
    segments_out: int
    segments_lost: int
    bytes_in: int
    bytes_out: int
    last_input: float | None
    last_output: float | None
    input_state: str
    output_state: str

    def fps(self) -> dict[str, float]:
        """Rates by the names that the status and the heartbeat give them."""
        return {
            "ingress_video_fps": self.ingress_video_fps,
            "egress_video_fps": self.egress_video_fps,
            "ingress_audio_fps": self.ingress_audio_fps,
            "egress_audio_fps": self.egress_audio_fps,
        }


class Meters:
    """The counters of one stream. Everything here is quick and never blocks."""

    def __init__(self) -> None:
        self._time = loop_clock()
        self.started = self._time()
        self.frames_in = self.frames_out = self.audio_in = self.audio_out = 0
        self.dropped: Counter[Drop] = Counter()
        self.errors: Counter[str] = Counter()
        self.last_error: str | None = None
        self.size_in: tuple[int, int] | None = None
        self.size_out: tuple[int, int] | None = None
        self.last_input: float | None = None
        self.last_output: float | None = None
        self.input_since: float | None = None
        """Since when input has come without a longer gap."""
        self.video_in, self.video_out, self.sound_in, self.sound_out = (Rate() for _ in range(4))
        self.overlay_frames = 0
        self._overlaid: dict[int, None] = {}
        self._arrivals: dict[int, float] = {}
        self._delays: deque[float] = deque(maxlen=DELAYS_KEPT)
        self._stages: dict[str, Stage] = {}

    def picture_arrived(self, pts: int) -> None:
        """A coded picture is here."""
        now = self._arrived()
        self.frames_in += 1
        self.video_in.count(now)
        self._arrivals[pts] = now
        while len(self._arrivals) > ARRIVALS_KEPT:
            del self._arrivals[next(iter(self._arrivals))]

    def sound_arrived(self) -> None:
        """A coded stretch of sound is here."""
        self.audio_in += 1
        self.sound_in.count(self._arrived())

    def _arrived(self) -> float:
        now = self._time()
        if self.last_input is None or now - self.last_input > GAP:
            self.input_since = now
        self.last_input = now
        return now

    def picture_left(self, pts: int) -> None:
        """What became of the picture with this time has been sent."""
        now = self.last_output = self._time()
        if self._overlaid and pts in self._overlaid:
            del self._overlaid[pts]
            self.overlay_frames += 1
            return
        self.frames_out += 1
        self.video_out.count(now)
        arrived = self._arrivals.pop(pts, None)
        if arrived is not None:
            self._delays.append(now - arrived)

    def overlay_left(self, pts: int) -> None:
        """What has this time is none of the handler's pictures, and is not to be counted among them."""
        self._overlaid[pts] = None
        while len(self._overlaid) > ARRIVALS_KEPT:
            del self._overlaid[next(iter(self._overlaid))]

    def sound_left(self) -> None:
        """A stretch of sound has been sent."""
        self.audio_out += 1
        now = self._time()
        self.sound_out.count(now)
        if not self.frames_in:  # where there is a picture, sound alone is no output
            self.last_output = now

    def drop(self, reason: Drop, count: int = 1) -> None:
        """Frames will not come out."""
        if count:
            self.dropped[reason] += count

    def error(self, kind: str, text: str, count: int = 1) -> None:
        """Something went wrong, so many times, and the stream lives on."""
        self.errors[kind] += count
        self.last_error = text

    def stage(self, name: str) -> Stage:
        """Where a station's time is counted. It is shown when it has taken some."""
        return self._stages.setdefault(name, Stage())

    def pulse(self, most: float) -> Pulse:
        """Return what the stream's state follows from: of its pictures, or of its sound where it has
        nothing else.
        """
        now = self._time()
        came, left = (
            (self.video_in, self.video_out)
            if self.frames_in or not self.audio_in
            else (self.sound_in, self.sound_out)
        )
        input_since = now if self.input_since is None else self.input_since
        return Pulse(
            age=now - self.started,
            input_fps=came.at(now),
            output_fps=left.at(now),
            input_gap=_ago(self.last_input, now),
            without_output=now - max(input_since, self.last_output or input_since),
            most=most,
        )

    def latency(self, share: float) -> float | None:
        """Return the delay in milliseconds that this share of the last frames stayed below."""
        if not self._delays:
            return None
        ranked = sorted(self._delays)
        return 1000 * ranked[min(int(share * len(ranked)), len(ranked) - 1)]

    def stages(self) -> dict[str, StageTime]:
        """Every station's work so far."""
        return {
            name: StageTime(stage.count, 1000 * stage.seconds / stage.count)
            for name, stage in self._stages.items()
            if stage.count
        }

    def snapshot(
        self, read: SubscriptionStatistics | None, written: PublicationStatistics | None
    ) -> StreamStatistics:
        """Everything by now, with the counters of the two ends; None: there is no such end."""
        now = self._time()
        came, left = _ago(self.last_input, now), _ago(self.last_output, now)
        input_state = Flow.of(came, has_channel=read is not None)
        output_state = Flow.of(left, has_channel=written is not None)
        read = read or SubscriptionStatistics()
        written = written or PublicationStatistics()
        width_in, height_in = self.size_in or (None, None)
        width_out, height_out = self.size_out or (None, None)
        return StreamStatistics(
            seconds=now - self.started,
            frames_in=self.frames_in,
            frames_out=self.frames_out,
            overlay_frames=self.overlay_frames,
            audio_in=self.audio_in,
            audio_out=self.audio_out,
            ingress_video_fps=self.video_in.at(now),
            egress_video_fps=self.video_out.at(now),
            ingress_audio_fps=self.sound_in.at(now),
            egress_audio_fps=self.sound_out.at(now),
            latency_ms_p50=self.latency(0.5),
            latency_ms_p95=self.latency(0.95),
            latency_ms_p99=self.latency(0.99),
            dropped={reason.value: count for reason, count in self.dropped.items()},
            errors=dict(self.errors),
            last_error=self.last_error,
            stages=self.stages(),
            width_in=width_in,
            height_in=height_in,
            width_out=width_out,
            height_out=height_out,
            segments_in=read.segments,
            segments_skipped=read.skipped,
            segments_truncated=read.truncated,
            segments_out=written.segments,
            segments_lost=written.lost,
            bytes_in=read.bytes_received,
            bytes_out=written.bytes_sent,
            last_input=self.last_input,
            last_output=self.last_output,
            input_state=input_state.value,
            output_state=output_state.value,
        )


def _ago(moment: float | None, now: float) -> float | None:
    return None if moment is None else now - moment
