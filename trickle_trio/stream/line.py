"""The stations of a stream's media, and the channels that join them.

Every channel is bounded. When the input ends, its end walks down the line behind the last frame:
each station closes what it writes to when what it reads has ended.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Final

import trio
from attrs import define, field

from trickle_core.mpegts import AccessUnit
from trickle_trio.media.contexts import codec_of
from trickle_trio.media.frames import VideoFrame
from trickle_trio.media.sources import TrackSettings
from trickle_trio.processor import FrameSkipConfig, Handlers
from trickle_trio.stream.decode import PictureDecoding
from trickle_trio.stream.edge import LiveEdge
from trickle_trio.stream.egress import Egress
from trickle_trio.stream.encode import KeyRequest, PictureEncoding
from trickle_trio.stream.ends import Input, Output
from trickle_trio.stream.events import Events
from trickle_trio.stream.farewell import finish_within
from trickle_trio.stream.handing import Queue, Sender
from trickle_trio.stream.ingest import Ingest
from trickle_trio.stream.interleave import CodedUnits
from trickle_trio.stream.meters import Meters, StreamStatistics
from trickle_trio.stream.overlay import Overlay
from trickle_trio.stream.passing import PicturePassing
from trickle_trio.stream.process import PictureHandling
from trickle_trio.stream.settings import Pace, StreamSettings
from trickle_trio.stream.skipping import HandlerSpeed
from trickle_trio.stream.sound import SoundHandling
from trickle_trio.stream.step import SoundProgress
from trickle_trio.stream.tap import Tap
from trickle_trio.stream.throttle import Throttle
from trickle_trio.stream.times import RisingTimes
from trickle_trio.stream.tracks import Tracks
from trickle_trio.stream.waiting import WaitingFrames, WaitingSound
from trickle_trio.stream.watchdog import Report, Watchdog
from trickle_trio.stream.wishes import Wishes

UNITS_WAITING: Final = 64
"""Coded units between two stations: about a second, and no more than the network's own buffers
hold."""

FRAMES_READY: Final = 0
"""Processed frames between handler and encoder: none but the one that is handed over. As a float
tensor a frame is eight times as large as before the handler, where those wait that have to."""


@define(eq=False)
class Line:
    """The media of one stream. ``report``: where the faults of its handlers go."""

    settings: StreamSettings
    handlers: Handlers
    meters: Meters
    events: Events
    report: Report
    input_tap: Tap = field(factory=Tap)
    output_tap: Tap = field(factory=Tap)
    edge: LiveEdge = field(init=False)
    wishes: Wishes = field(init=False)
    overlay: Overlay = field(init=False)
    frames: WaitingFrames = field(init=False)
    tracks: Tracks = field(init=False)
    _times: RisingTimes = field(factory=RisingTimes, init=False)
    _skip: FrameSkipConfig | None = field(init=False)
    _input: Input | None = field(init=False)
    _output: Output | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        settings, policy = self.settings, self.settings.policy
        self.wishes = Wishes(
            settings.size,
            Throttle(settings.max_framerate),
            not settings.detect_out_resolution,
            policy.fit,
        )
        self.overlay = Overlay(
            settings.overlay or self.handlers.overlay_config,
            policy.pace,
            self.wishes,
            self._times,
            self.meters,
        )
        self.overlay.ask(settings.show_loading)
        self._skip = skip = settings.frame_skip or self.handlers.frame_skip_config
        room = min(policy.waiting_frames, skip.max_queue_size) if skip else policy.waiting_frames
        self.frames = WaitingFrames(room, policy.pace, self.meters, self.overlay)
        self.tracks = Tracks(
            codec_of(settings.video.codec),
            codec_of(settings.audio.codec) if self.handlers.handles_audio else None,
            policy.video_track,
            policy.audio_track,
            copies_video=not self.handlers.handles_video,
        )
        # Pictures that are copied all go out: the rest refers to them, and players want their sound.
        is_decoded = self.handlers.handles_video or self._wants_frames()
        self.edge = LiveEdge(is_decoded and policy.pace is Pace.LIVE)
        source, target = settings.subscribe_url, settings.publish_url
        token = settings.relay_tokens.shown_to
        self._input = Input(source, policy.input_timeout, token(source)) if source else None
        self._output = Output(target, token(target)) if target else None

    def statistics(self) -> StreamStatistics:
        """A snapshot of the stream's numbers."""
        read = self._input.statistics() if self._input else None
        written = self._output.statistics() if self._output else None
        return self.meters.snapshot(read, written)

    def close(self) -> None:
        """End the views of those who look on: nothing more will pass."""
        self.input_tap.close()
        self.output_tap.close()

    def start(self, nursery: trio.Nursery) -> None:
        """Start every station. Each ends by itself when what it reads does, or raises
        ``StreamEnds``.
        """
        pictures, coded = Queue[AccessUnit](UNITS_WAITING), self._coded()
        pictures_in = pictures.sender()
        keys = KeyRequest()
        progress = SoundProgress(self.settings.policy.sound_wait, self.tracks)
        sound = self._start_sound(nursery, coded.sender(), progress)
        if self.tracks.copies_video:
            pictures = self._start_passing(nursery, pictures, coded.sender(), keys, progress)
        frames = self._start_picture(nursery, pictures)
        self._start_encoding(nursery, frames, coded.sender(), keys, progress)
        self._start_output(nursery, coded, keys)
        nursery.start_soon(self._read, pictures_in, sound)

    def _coded(self) -> Queue[AccessUnit]:
        """What is to be written, in that order; where nothing is, it is only counted."""
        if self._output is None:
            return Queue(UNITS_WAITING)
        return CodedUnits(UNITS_WAITING, self.settings.policy.sound_wait, self.tracks)

    def _start_sound(
        self,
        nursery: trio.Nursery,
        coded: Sender[AccessUnit],
        progress: SoundProgress,
    ) -> WaitingSound:
        """Where the input's sound goes."""
        policy = self.settings.policy
        sound = WaitingSound(policy.sound_wait, policy.pace, self.meters)
        if self.handlers.handles_audio:
            handling = SoundHandling(
                self.handlers,
                self._watchdog(),
                self.meters,
                self.settings.audio,
                self.tracks,
                progress,
            )
            nursery.start_soon(handling.run, sound, coded)
        else:
            nursery.start_soon(sound.pass_by, coded)
        return sound

    def _start_passing(
        self,
        nursery: trio.Nursery,
        pictures: Queue[AccessUnit],
        past: Sender[AccessUnit],
        keys: KeyRequest,
        progress: SoundProgress,
    ) -> Queue[AccessUnit]:
        """Where pictures come from that are to be decoded, when no handler looks at them."""
        through = Queue[AccessUnit](UNITS_WAITING)
        seconds = self.settings.policy.segment_seconds
        passing = PicturePassing(
            self.tracks, seconds, keys, self.meters, progress, self._wants_frames
        )
        nursery.start_soon(passing.run, pictures, past, through.sender())
        return through

    def _wants_frames(self) -> bool:
        """Whether pictures must be decoded though no handler looks at them."""
        is_wanted = self.tracks.makes_picture or self.overlay.is_asked_for
        return self.wishes.size is not None or is_wanted

    def _start_picture(
        self, nursery: trio.Nursery, pictures: Queue[AccessUnit]
    ) -> Queue[VideoFrame]:
        """Where processed frames come from."""
        processed = Queue[VideoFrame](FRAMES_READY)
        nursery.start_soon(PictureDecoding(self.frames, self.meters, self.edge).run, pictures)
        nursery.start_soon(self.overlay.run, processed.sender())
        nursery.start_soon(self._handle, processed.sender())
        return processed

    async def _handle(self, processed: Sender[VideoFrame]) -> None:
        with processed:
            handling = PictureHandling(
                self.handlers,
                self.wishes,
                self.meters,
                self._watchdog(),
                self.overlay,
                self._times,
                self._speed(),
            )
            await handling.run(self.frames, processed)

    def _speed(self) -> HandlerSpeed | None:
        """What watches the handler's speed, where frames are to be left out for it."""
        if self._skip is None:
            return None
        most = self._skip.target_fps or math.inf
        self.wishes.throttle.limit = most
        if self.settings.policy.pace is Pace.EVERY_FRAME:
            return None
        return HandlerSpeed(self.handlers.concurrency, self._skip.adaptation_cooldown, most)

    def _start_encoding(
        self,
        nursery: trio.Nursery,
        frames: Queue[VideoFrame],
        coded: Sender[AccessUnit],
        keys: KeyRequest,
        progress: SoundProgress,
    ) -> None:
        if self._output is None:
            nursery.start_soon(self._count_pictures, frames, coded)
            return
        policy = self.settings.policy
        # Live, sound comes in time with its picture, and a picture that waited would be dropped.
        in_step = self.handlers.handles_audio and policy.pace is Pace.EVERY_FRAME
        encoding = PictureEncoding(
            self.settings.video,
            policy.segment_seconds,
            keys,
            self.meters,
            progress if in_step else None,
        )
        nursery.start_soon(encoding.run, frames, coded)

    def _start_output(
        self, nursery: trio.Nursery, units: Queue[AccessUnit], keys: KeyRequest
    ) -> None:
        if self._output is None:
            nursery.start_soon(self._count_coded, units)
            return
        policy = self.settings.policy
        egress = Egress(units, self.tracks, self.meters, self.output_tap, keys, policy, self.events)
        write = partial(self._output.run, egress.run)
        nursery.start_soon(finish_within, policy.farewell, write)

    def _watchdog(self) -> Watchdog:
        return Watchdog(self.settings.policy, self.report)

    async def _read(
        self,
        pictures: Sender[AccessUnit],
        sound: WaitingSound,
    ) -> None:
        """Read the input to its end; then nothing more comes into the pipe."""
        with pictures, sound:
            policy = self.settings.policy
            containers = TrackSettings(
                copy_h265=True,
                live=True,
                video_index=policy.video_track,
                audio_index=policy.audio_track,
            )
            ingest = Ingest(
                self.tracks,
                self.meters,
                self.input_tap,
                self.events,
                pictures,
                sound,
                self.edge,
                containers,
            )
            if self._input is not None:
                await self._input.run(ingest.run)
            else:
                await trio.sleep_forever()  # frames may come through send_input_frame

    async def _count_pictures(
        self,
        frames: Queue[VideoFrame],
        coded: Sender[AccessUnit],
    ) -> None:
        """Where there is no output, a processed frame has reached its end."""
        with frames, coded:
            async for frame in frames:
                self.meters.picture_left(frame.timestamp)

    async def _count_coded(self, units: Queue[AccessUnit]) -> None:
        with units:
            async for unit in units:
                if unit.stream.codec.is_video:
                    self.meters.picture_left(unit.pts)
                else:
                    self.meters.sound_left()
