"""What somebody else writes into a pipe: MPEG-TS on standard input, mostly.

A transport stream of H.264 with sound that can be copied is taken apart by our own demuxer. libavformat would look at
0.7 s of a live stream before it gives the first unit, and hold each picture until the next one starts, 36 ms at 30
frames a second. Everything else goes through libavformat, which reads it from the same pipe.
"""

from __future__ import annotations

import os
import re
import select
from collections.abc import Iterable
from typing import BinaryIO, Final

import av
from attrs import define, evolve, field
from av.container import InputContainer

from trickle_core.mpegts import (
    AccessUnit,
    Codec,
    Demuxer,
    ElementaryStream,
    ProgramMap,
    Timeline,
    TsEvent,
)
from trickle_trio.media.audio_encoder import AUDIO_PID
from trickle_trio.media.sources.address import checked, explain
from trickle_trio.media.sources.base import BlockingSource, SourceError
from trickle_trio.media.sources.container import ContainerReading, ReadingSettings
from trickle_trio.media.sources.tracks import TrackSettings
from trickle_trio.media.video_encoder import VIDEO_PID

CHUNK: Final = 64 * 1024
"""Bytes read at a time: what a pipe holds on Linux."""

_AT_ONCE: Final = {"fpsprobesize": "0"}
"""libavformat would look at twenty pictures to tell their rate, which nobody asks for."""

_TABLES_WITHIN: Final = 1 << 20
"""Bytes within which a transport stream shows its tables: they are sent every half second or so."""

_PACKETS_WITHIN: Final = 4096
"""Bytes within which it shows that it is one: a reader may have come in the middle of a packet."""

_IN_STEP: Final = re.compile(rb"G(?=.{187}G.{187}G)", re.DOTALL)
"""Three sync bytes at a packet's distance."""


class Pipe:
    """The reading end of a pipe, or any other descriptor; a read that waits can be called back."""

    def __init__(self, file: BinaryIO) -> None:
        self._source = file.fileno()
        self._called_back, self._call_back = os.pipe()

    def read(self, size: int = CHUNK) -> bytes:
        """What is there, at least one byte; nothing at the end, or when called back. Blocks."""
        poll = select.poll()
        poll.register(self._source, select.POLLIN)
        poll.register(self._called_back, select.POLLIN)
        if any(descriptor == self._called_back for descriptor, _ in poll.poll()):
            return b""
        return os.read(self._source, size)

    def call_back(self) -> None:
        """End every read, now and from now on. From any thread."""
        os.write(self._call_back, b"x")

    def close(self) -> None:
        """Let go of everything but the file, which is the caller's."""
        os.close(self._called_back)
        os.close(self._call_back)


@define(eq=False)
class _Replay:
    """The pipe from its beginning, though some of it has been read already: a file for libav."""

    beginning: bytes
    pipe: Pipe

    def read(self, size: int) -> bytes:
        """As a file does."""
        if not self.beginning:
            return self.pipe.read(size)
        data, self.beginning = self.beginning[:size], self.beginning[size:]
        return data


class TransportReading:
    """Units of a transport stream as they come, by our own demuxer; ``events``: what it has found so far."""

    def __init__(self, pipe: Pipe, demuxer: Demuxer, events: Iterable[TsEvent]) -> None:
        self.streams: tuple[ElementaryStream, ...] = ()
        self._pipe = pipe
        self._demuxer = demuxer
        self._timeline = Timeline()
        self._by_pid: dict[int, ElementaryStream] = {}
        self._ready = self._units(events)

    def read(self) -> list[AccessUnit]:
        """The next few units; none at the end."""
        units, self._ready = self._ready, []
        while not units:
            data = self._pipe.read()
            units = self._units(self._demuxer.feed(data) if data else self._demuxer.flush())
            if not data:
                break
        return units

    def close(self) -> None:
        """Nothing is held."""

    def _units(self, events: Iterable[TsEvent]) -> list[AccessUnit]:
        units = []
        for event in events:
            if isinstance(event, ProgramMap):
                self._choose(event)
            elif isinstance(event, AccessUnit) and (stream := self._by_pid.get(event.stream.pid)):
                units.append(self._timeline.place(evolve(event, stream=stream)))
        return units

    def _choose(self, program: ProgramMap) -> None:
        """Follow the tracks to other PIDs; one that is coded otherwise than at first is not carried on."""
        carried = copyable(program)
        self.streams = self.streams or tuple(carried.values())
        self._by_pid = {pid: stream for pid, stream in carried.items() if stream in self.streams}


def copyable(program: ProgramMap) -> dict[int, ElementaryStream]:
    """By their own PIDs, the first picture and the first sound that need no encoding, as they are carried."""
    picture = next((s for s in program.streams if s.codec is Codec.H264), None)
    sound = next((s for s in program.streams if not s.codec.is_video), None)
    carried = {}
    if picture:
        carried[picture.pid] = evolve(picture, pid=VIDEO_PID)
    if sound:
        carried[sound.pid] = evolve(sound, pid=AUDIO_PID)
    return carried


@define(eq=False)
class _Beginning:
    """What has been read of a pipe to find out what it is."""

    demuxer: Demuxer = field(factory=Demuxer)
    data: bytearray = field(factory=bytearray)
    events: list[TsEvent] = field(factory=list)

    def take(self, data: bytes) -> None:
        self.data += data
        self.events += self.demuxer.feed(data)

    @property
    def program(self) -> ProgramMap | None:
        return next((event for event in self.events if isinstance(event, ProgramMap)), None)

    @property
    def tells_enough(self) -> bool:
        size = len(self.data)
        no_packets = size >= _PACKETS_WITHIN and not _IN_STEP.search(self.data)
        return self.program is not None or no_packets or size >= _TABLES_WITHIN


class PipeSource(BlockingSource):
    """A pipe, as standard input is one. ``shown``: what messages call it; ``tracks``: how they are carried.

    The file stays the caller's; nobody else must have read from it, or read on.
    """

    def __init__(
        self,
        file: BinaryIO,
        *,
        shown: str = "standard input",
        tracks: TrackSettings | None = None,
    ) -> None:
        super().__init__()
        self._file = file
        self._shown = shown
        self._tracks = tracks or TrackSettings()
        self._pipe: Pipe | None = None
        self._reading: ContainerReading | TransportReading | None = None

    @property
    def streams(self) -> tuple[ElementaryStream, ...]:
        """What it carries."""
        return self._reading.streams if self._reading else ()

    def _open(self) -> None:
        if self._file.isatty():
            raise SourceError(f"{self._shown} is a terminal: a stream must be piped into it")
        self._pipe = Pipe(self._file)
        beginning = _Beginning()
        while not beginning.tells_enough and (data := self._pipe.read()):
            beginning.take(data)
        if self._is_leaving:
            return
        if not beginning.data:
            raise SourceError(f"{self._shown}: nothing came")
        if self._needs_no_codec(beginning.program):
            self._reading = TransportReading(self._pipe, beginning.demuxer, beginning.events)
        else:
            self._reading = self._by_libav(_Replay(bytes(beginning.data), self._pipe))

    def _needs_no_codec(self, program: ProgramMap | None) -> bool:
        """Whether our own demuxer sees picture and sound. Where it sees one, the other may be of a codec it skips."""
        return not self._tracks.transcode and program is not None and len(copyable(program)) == 2

    def _by_libav(self, file: _Replay) -> ContainerReading:
        def connect() -> InputContainer:
            try:
                container = av.open(file, "r", options=_AT_ONCE if self._tracks.live else {})
            except (av.FFmpegError, OSError, ValueError) as error:
                raise SourceError(f"{self._shown}: {explain(error)}") from error
            return checked(container, self._shown)

        return ContainerReading(connect, ReadingSettings(self._shown, explain, self._tracks))

    def _read(self) -> list[AccessUnit]:
        return self._reading.read() if self._reading and not self._is_leaving else []

    def _interrupt(self) -> None:
        if self._pipe:
            self._pipe.call_back()

    def _release(self) -> None:
        if self._reading:
            self._reading.close()
        if self._pipe:
            self._pipe.close()
