"""The clocks of an input made one: unbounded, never going back, sound and picture together.

What comes in: 33-bit clocks that wrap after 26.5 hours, jump when a publisher reconnects, start
anew with each file of a loop, and lose seconds on bad networks. Each stretch in which the input's
clock is steady is an epoch; out = in + the epoch's offset, one offset for all streams, so that what
belongs together stays together. The streams cross a jump at different moments, since sound is sent
a little before or after its picture, and for that time two epochs are in use.

Which epoch is a unit's? It stays in that of the unit before, if it is near to that one. Otherwise
it goes where another stream went before it, if it is near to what came there. Otherwise the clock
jumped: a new epoch begins, behind all that was given out.

Time stamps are not trusted, they may be garbage too:

- A stream that comes back at once to the clock that it left had a false time stamp: it returns.
- A stream that keeps to an old epoch while a newer one near to it goes on and on follows: they are
  the same clock, and something above was taken for a jump that was none.
- A unit that would not rise is put one tick behind the one before, if it is off by little:
  duplicates, jitter of a muxer that rounds, two units changed over. It is not dropped, since other
  pictures may refer to it. If it is off by more, the epoch is moved: for all its streams, so that
  they stay together.
"""

from __future__ import annotations

from typing import Final

from attrs import define, evolve, field, frozen
from attrs.validators import ge

from trickle_core.mpegts.units import CLOCK_RATE, CLOCK_WRAP, AccessUnit

_HALF: Final = CLOCK_WRAP // 2
_VIDEO_PERIOD: Final = CLOCK_RATE // 30
_AUDIO_PERIOD: Final = 1024 * CLOCK_RATE // 48_000
_LONGEST_PERIOD: Final = CLOCK_RATE
_LONGEST_REORDERING: Final = 10 * CLOCK_RATE
"""From dts to pts at most: sixteen pictures, which is what the codecs allow, at 2 a second."""


@frozen
class TimelineSettings:
    """Where the borders are, in 1/90000 s."""

    gap: int = field(default=10 * CLOCK_RATE, validator=ge(0))
    """A step forward up to this is a real gap and is kept: a network stalls for seconds. Above, a
    publisher went and came again: nobody wants to watch the minutes between."""

    slack: int = field(default=CLOCK_RATE // 25, validator=ge(0))
    """A step back up to this (40 ms) is jitter. It is also the most by which a unit is put off its
    place: below the 45 ms from which on ITU-R BT.1359 has people notice early sound."""

    patience: int = field(default=2 * CLOCK_RATE, validator=ge(0))
    """How long two epochs are in use at most: muxers keep sound and picture within one second."""


def _signed(difference: int) -> int:
    """A difference of two 33-bit times: the smaller way round."""
    return (difference + _HALF) % CLOCK_WRAP - _HALF


@define(eq=False)
class _Epoch:
    number: int
    offset: int
    first: int
    latest: int
    """The latest dts of any stream, unwrapped."""

    def locate(self, time: int) -> int:
        """A 33-bit time on this epoch's clock."""
        return self.latest + _signed(time - self.latest)

    def distance(self, time: int) -> int:
        return abs(_signed(time - self.latest))


@define
class _Place:
    """Where a unit came: its epoch, its dts there, and what was given out."""

    epoch: _Epoch
    time: int
    dts: int


@define
class _Track:
    place: _Place
    """Of the last unit."""
    left: _Place
    """The last unit in the epoch before; the first of all where there was none before."""
    top: int
    """The latest pts given out."""
    period: int
    is_away: bool = False
    """It has left the program."""

    def step(self, time: int) -> int:
        """From the last unit to one with this dts, in its epoch."""
        return self.place.epoch.locate(time) - self.place.time


class Timeline:
    """Places the units of one stream, of all its tracks, in the order in which they come."""

    def __init__(self, settings: TimelineSettings | None = None) -> None:
        self._settings = settings or TimelineSettings()
        self._tracks: dict[int, _Track] = {}
        self._newest: _Epoch | None = None
        """Of the epochs that the tracks are in."""

    def place(self, unit: AccessUnit) -> AccessUnit:
        """The unit with its time on the output's clock, in 1/90000 s, unbounded.

        The first epoch keeps its times. ``dts`` rises strictly for each PID, ``pts`` >= ``dts``. A
        pts before its dts, or more than 10 s after, counts as equal to it. Does not block or raise.
        """
        stream, raw = unit.stream, unit.dts
        track = self._tracks.get(stream.pid)
        if track is None or track.is_away or track.place.epoch is not self._newest:
            return self._settle(track, unit)
        # Nearly all units are one step forward on the clock that all are on. For those this says
        # what ``_settle`` says, in a fraction of its calls.
        place, epoch = track.place, self._newest
        ahead = (raw - epoch.latest + _HALF) % CLOCK_WRAP - _HALF
        time = epoch.latest + ahead
        step, dts, reordering = time - place.time, time + epoch.offset, unit.pts - raw
        is_ordinary = 0 < step <= self._settings.gap and dts > place.dts
        if not is_ordinary or not 0 <= reordering <= _LONGEST_REORDERING:
            return self._settle(track, unit)
        pts = dts + reordering
        place.time, place.dts = time, dts
        if ahead > 0:
            epoch.latest = time
        if step <= _LONGEST_PERIOD:
            track.period = step
        track.top = max(track.top, pts)
        return AccessUnit(stream, unit.data, pts, dts, unit.key, unit.damaged, unit.lost_before)

    def leave(self, pid: int) -> None:
        """The stream has left the program. When it comes back, it goes where the others are by then:
        where it was itself says nothing any more.
        """
        if pid in self._tracks:
            self._tracks[pid].is_away = True

    def _settle(self, track: _Track | None, unit: AccessUnit) -> AccessUnit:
        """``place``, of any unit."""
        epoch = self._epoch(track, unit)
        time = epoch.locate(unit.dts)
        epoch.latest = max(epoch.latest, time)
        dts = self._rise(track, epoch, time)
        shown = time + epoch.offset + _reordering(unit)
        pts = max(dts, shown)
        self._remember(track, unit, _Place(epoch, time, dts), pts)
        return AccessUnit(
            unit.stream, unit.data, pts, dts, unit.key, unit.damaged, unit.lost_before
        )

    def _epoch(self, track: _Track | None, unit: AccessUnit) -> _Epoch:
        newest = self._newest
        if newest is None:
            return _Epoch(0, 0, unit.dts, unit.dts)
        if track is None or track.is_away:
            joins = self._joins(newest, unit.dts)
            return newest if joins else self._begin(newest, _period(unit), unit)
        known = self._known(track, newest, unit.dts)
        return self._begin(newest, track.period, unit) if known is None else known

    def _joins(self, newest: _Epoch, time: int) -> bool:
        """Whether a stream that comes into the program is on the clock of the others. Where those
        have all left, nothing goes on but time: it must not go back.
        """
        if all(track.is_away for track in self._tracks.values()):
            ahead = newest.locate(time) - newest.latest
            return -self._settings.slack <= ahead <= self._settings.gap
        return newest.distance(time) <= self._settings.gap

    def _known(self, track: _Track, newest: _Epoch, time: int) -> _Epoch | None:
        """The epoch, of those in use, that a unit of this track belongs to; None: the clock jumped."""
        own, gap = track.place.epoch, self._settings.gap
        joins = own is not newest and newest.distance(time) <= gap
        if -self._settings.slack <= track.step(time) <= gap:
            follows = joins and self._is_settled(newest)
            return newest if follows else own
        if self._returns(track, time):
            return track.left.epoch
        if joins:
            return newest
        # Others went on while this one was silent.
        is_late = track.step(time) > gap and own.distance(time) <= gap
        return own if is_late else None

    def _is_settled(self, epoch: _Epoch) -> bool:
        return epoch.latest - epoch.first > self._settings.patience

    def _returns(self, track: _Track, time: int) -> bool:
        """Whether a unit goes on where the track was just before it left for its present epoch."""
        left = track.left
        step = left.epoch.locate(time) - left.time
        is_recent = track.place.dts - left.dts <= self._settings.patience
        return is_recent and 0 < step <= self._settings.patience

    def _begin(self, newest: _Epoch, period: int, unit: AccessUnit) -> _Epoch:
        """A new epoch, one frame behind all that was given out.

        Behind the latest pts, not dts: the pictures of the epoch before must all be shown first.
        """
        start = max(track.top for track in self._tracks.values()) + period
        return _Epoch(newest.number + 1, start - unit.dts, unit.dts, unit.dts)

    def _rise(self, track: _Track | None, epoch: _Epoch, time: int) -> int:
        """The dts to give out; moves the epoch where it must be moved."""
        dts = time + epoch.offset
        if track is None:
            return dts
        last = track.place.dts if track.place.epoch is epoch else track.top
        if dts > last:
            return dts
        if last - dts > self._settings.slack:
            epoch.offset += last - dts + track.period
            return last + track.period
        return last + 1

    def _remember(self, track: _Track | None, unit: AccessUnit, place: _Place, pts: int) -> None:
        if track is None:
            track = _Track(place, evolve(place), pts, _period(unit))
            self._tracks[unit.stream.pid] = track
        elif track.place.epoch is not place.epoch:
            track.left = track.place
        elif 0 < place.time - track.place.time <= _LONGEST_PERIOD:
            track.period = place.time - track.place.time
        track.place, track.is_away = place, False
        track.top = max(track.top, pts)
        self._newest = max((t.place.epoch for t in self._tracks.values()), key=_number)


def _number(epoch: _Epoch) -> int:
    return epoch.number


def _period(unit: AccessUnit) -> int:
    """How long a frame lasts, as long as nothing is known: 30 pictures a second, AAC at 48 kHz."""
    return _VIDEO_PERIOD if unit.stream.codec.is_video else _AUDIO_PERIOD


def _reordering(unit: AccessUnit) -> int:
    reordering = _signed(unit.pts - unit.dts)
    return reordering if 0 <= reordering <= _LONGEST_REORDERING else 0
