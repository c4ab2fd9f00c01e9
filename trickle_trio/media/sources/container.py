"""Reading a container with libav, pass after pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import av
from attrs import define, frozen
from av.container import InputContainer

from trickle_core.mpegts import AccessUnit, ElementaryStream
from trickle_trio.media.sources.base import SourceError
from trickle_trio.media.sources.order import LONGEST_WAIT, DecodingOrder
from trickle_trio.media.sources.stamps import Packet, PassClock, Stamped, Stamper
from trickle_trio.media.sources.tracks import (
    Track,
    TrackSettings,
    chosen,
    stamper_for,
    track_for,
)


@define(eq=False)
class _Lane:
    """A track and what fills in its times."""

    track: Track
    stamper: Stamper


@frozen
class ReadingSettings:
    """How a container is read. ``shown``: what messages call it; ``explain``: how they word an error of libav's."""

    shown: str
    explain: Callable[[Exception], str]
    tracks: TrackSettings
    loop: bool = False


class ContainerReading:
    """Units of the picture and the sound of a container, in dts order. Blocks.

    ``connect`` opens the container, anew for each pass: not every format can be sought in, and opening costs some
    milliseconds.
    """

    def __init__(self, connect: Callable[[], InputContainer], settings: ReadingSettings) -> None:
        self._connect = connect
        self._settings = settings
        self._clock = PassClock()
        self._tracks: tuple[Track, ...] = ()
        self._gave = False
        """Whether this pass gave any unit: one that did not will not be followed by another."""
        self._lanes: dict[int, _Lane] = {}
        self._packets: Iterator[Packet] = iter(())
        self._begin_pass()
        wait = 0 if settings.tracks.live else LONGEST_WAIT
        self._order = DecodingOrder(self.streams, wait)

    @property
    def streams(self) -> tuple[ElementaryStream, ...]:
        """What it carries."""
        return tuple(track.stream for track in self._tracks)

    def read(self) -> list[AccessUnit]:
        """The next few units; none at the end. ``SourceError``: it broke off."""
        units: list[AccessUnit] = []
        while not units:
            packet = self._next_packet()
            if packet is not None:
                units = self._order.put(self._take(packet))
                continue
            units = self._order.put(self._end_pass())
            if not self._goes_on():
                return self._finish(units)
        return units

    def close(self) -> None:
        """Let go of the container."""
        self._packets = iter(())
        self._container.close()

    # -- passes

    def _begin_pass(self) -> None:
        self._container = self._connect()
        sources = chosen(self._container, self._settings.tracks)
        if not sources:
            self._container.close()
            raise SourceError(f"{self._settings.shown}: holds neither picture nor sound")
        _discard_others(self._container, sources)
        if not self._tracks:
            settings = self._settings.tracks
            self._tracks = tuple(track_for(source, settings) for source in sources)
        if len(sources) != len(self._tracks):
            raise SourceError(f"{self._settings.shown}: changed while it was looped")
        self._lanes, self._gave = {}, False
        for source, track in zip(sources, self._tracks, strict=True):
            track.begin(source)
            self._lanes[source.index] = _Lane(track, stamper_for(source))
        self._packets = self._container.demux(sources)

    def _goes_on(self) -> bool:
        """Begin the next pass of a loop."""
        self._container.close()
        if not self._settings.loop or not self._gave or not self._clock.next_pass():
            return False
        self._begin_pass()
        return True

    def _end_pass(self) -> list[AccessUnit]:
        units = []
        for lane in self._lanes.values():
            for stamped in lane.stamper.finish():
                units += self._place(lane, stamped)
            units += lane.track.end_pass()
        self._gave = self._gave or bool(units)
        return units

    def _finish(self, units: list[AccessUnit]) -> list[AccessUnit]:
        """The rest; nothing comes after."""
        self._lanes, self._packets = {}, iter(())
        for track in self._tracks:
            units += self._order.put(track.finish())
        units += self._order.flush()
        if not units and not self._gave:
            raise SourceError(f"{self._settings.shown}: nothing in it could be decoded")
        self._gave = True
        return units

    # -- packets

    def _next_packet(self) -> Packet | None:
        """The next packet that has something in it; None at the end of the pass."""
        try:
            return next(filter(_size, self._packets), None)
        except (av.FFmpegError, OSError) as error:
            reason = self._settings.explain(error)
            raise SourceError(f"{self._settings.shown}: reading broke off: {reason}") from error

    def _take(self, packet: Packet) -> list[AccessUnit]:
        lane = self._lanes[packet.stream_index]
        stamped = lane.stamper.take(packet)
        units = [unit for each in stamped for unit in self._place(lane, each)]
        self._gave = self._gave or bool(units)
        return units

    def _place(self, lane: _Lane, stamped: Stamped) -> list[AccessUnit]:
        return lane.track.take(self._clock.place(lane.track.stream, stamped))


def _size(packet: Packet) -> int:
    """0: a packet of libav's that marks the end, or one of AVI's that say "as before"."""
    return packet.size


_DISCARD: Final[Any] = getattr(av.stream, "Discard", None)
"""Younger than the oldest PyAV that we work with."""


def _discard_others(container: InputContainer, sources: list[Any]) -> None:
    """Have libav leave out the other streams: of HLS it would fetch every variant."""
    if _DISCARD is not None:
        for stream in container.streams:
            if stream not in sources:
                stream.discard = _DISCARD.all
