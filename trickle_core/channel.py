"""One channel: a window of segments, those who read them and those who write them.

What is odd here, and why:

- **The window counts written segments.** The deployed server keeps a ring, in which a GET for the
  next segment already pushes the oldest one out. Here a segment leaves when the first byte comes of
  the one that takes its place. Segments that are only waited for stand in the same dict; each hangs
  on an open request, and goes with it.
- **A publisher can be made to wait** (NEED_ROOM): see fairness.py.
- **Memory is bounded by shedding.** Beyond its limit, first those readers are cut that still hold
  segments from outside the window, then the oldest segments leave it, then the write is refused.
- **A body that breaks off leaves its segment open**, as on the deployed server: a second POST to
  the same number appends. Unlike there, it is closed after ``abandon_timeout``.
- **A closed segment that is posted again starts anew**, and next write falls back. Then segments
  ahead of it that nobody writes leave: they belong to the publisher's former life, and GET -1 must
  wait, not return them.
- **A late segment is no old one.** Each has a connection of its own, so the first bytes, and even the
  heads, of two short ones overtake each other: a number inside the window that was never written
  is written without next write falling back.
- **A stray is refused**: a number far ahead of next write, posted while somebody else writes, would
  push out all that is there and send the readers to where no publisher comes for hours. A publisher
  that means it says so (reset), or writes alone. One that came between two segments is forgotten
  when the publisher goes on below it.
- **A hole is closed**: when a segment begins, those below it that nobody has opened for writing will
  not be written, and their readers go on; the one just below after ``LATE``, for it may be late. Who
  comes for a hole later finds an empty segment: 470 would make it jump over those that follow. So is
  a segment whose publisher broke off: who goes on behind it has given it up.
- **POST -1 learns its number with its first byte**, so that two preconnected ones do not meet in
  one segment.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import Enum, auto
from functools import partial
from typing import Final, Literal

from attrs import define, field

from trickle_core import wire
from trickle_core.answer import (
    CLOSE,
    TERMINATED,
    Answer,
    Headers,
    latest_header,
    no_such_segment,
    seq_header,
    text,
)
from trickle_core.relay_settings import RelaySettings
from trickle_core.window.books import Account, Agenda
from trickle_core.window.fairness import Fairness
from trickle_core.window.reader import Reader
from trickle_core.window.segment import Buffer, Segment
from trickle_core.window.states import ACCEPTED, NEED_ROOM, Input, Signal
from trickle_core.window.writer import Taken, Writer

LATE: Final = 1.0
"""Seconds by which the head of a POST may come after that of the next one has become a segment."""


class ChannelState(Enum):
    """A channel's life."""

    OPEN = auto()
    CLOSED = auto()
    """Deleted: what it holds can still be read for a while, where the settings say so."""


@define(eq=False)
class Channel:
    """Made by a ``Relay``, for which its methods are; the rest of the world holds readers and
    writers.
    """

    name: str
    mime_type: str
    settings: RelaySettings
    written_at: float
    """When a byte last came, or the channel was made: what the idle sweep looks at."""
    _account: Account
    _agenda: Agenda
    state: ChannelState = field(default=ChannelState.OPEN, init=False)
    next_write: int = field(default=0, init=False)
    _segments: dict[int, Segment] = field(factory=dict, init=False)
    _held: list[Segment] = field(factory=list, init=False)
    """Out of the window, and still being read; oldest first."""
    _writers: dict[Writer, None] = field(factory=dict, init=False)
    _fairness: Fairness = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._fairness = Fairness(self.settings)

    @property
    def closed(self) -> bool:
        """Whether it was deleted."""
        return self.state is ChannelState.CLOSED

    @property
    def segments(self) -> int:
        """Segments that take memory or are waited for."""
        return len(self._segments) + len(self._held)

    @property
    def readers(self) -> int:
        """Open GETs."""
        return sum(len(segment.readers) for segment in (*self._segments.values(), *self._held))

    @property
    def writers(self) -> int:
        """Open POSTs."""
        return len(self._writers)

    @property
    def size(self) -> int:
        """Bytes of all segments, those included that are held only by their readers."""
        return self._account.used

    # Reading

    def open_reader(self, asked: int, now: float) -> Reader | Answer:
        """GET a segment."""
        if self.readers >= self.settings.max_readers:
            return text(503, "Too many readers")
        seq = self._resolve(asked)
        segment = self._segments.get(seq) or self._precreate(seq, now)
        if segment is None:
            return self._not_there(asked if seq < 0 else seq)
        preconnected = seq == self.next_write
        reader = Reader(self, segment, preconnected, segment.size, progress_at=now)
        reader.follows = asked >= 0 and self._fairness.follows(segment, self._all_at(seq - 1))
        segment.followers += reader.follows
        segment.readers[reader] = None
        return reader

    def _all_at(self, seq: int) -> list[Segment]:
        return [one for one in (*self._segments.values(), *self._held) if one.seq == seq]

    def _resolve(self, asked: int) -> int:
        if asked >= 0:
            return asked
        if asked == wire.NEXT_WRITE:
            return self.next_write
        if asked == wire.LIVE_EDGE:
            return max(self.next_write - 1, 0)
        return self.next_write + asked + 1

    def _precreate(self, seq: int, now: float) -> Segment | None:
        # On an empty channel also 1: a subscriber that preconnects opens both at once.
        waited_for = seq == self.next_write or (self.next_write == 0 and seq == 1)
        if self.closed or not (waited_for or self._is_missing(seq)):
            return None
        segment = self._segments.setdefault(seq, Segment(seq))
        if not waited_for:
            self._expect_late(segment, now)
        return segment

    def _is_missing(self, seq: int) -> bool:
        """Whether nobody has written this number, though those around it are written: it is late,
        or was passed over. What had to leave for its memory left after all that is older.
        """
        older = any(known.seq < seq and known.size for known in self._segments.values())
        return older and seq < self.next_write and seq not in self._segments

    def _expect_late(self, segment: Segment, now: float) -> None:
        following = self._segments.get(segment.seq + 1)
        if following is not None and self._fairness.own_time(now) - following.began < LATE:
            self._agenda.add(now + LATE, partial(self._close_hole, segment.seq))
        else:
            self._close_segment(segment, now)

    def _not_there(self, seq: int) -> Answer:
        if self.closed and seq >= self.next_write:
            return Answer(200, (*seq_header(seq), *latest_header(self.next_write), *TERMINATED))
        return no_such_segment(seq, self.next_write)

    def reader_left(self, reader: Reader, now: float, *, finished: bool) -> None:
        """For the reader: it is closed."""
        segment = reader.segment
        segment.readers.pop(reader, None)
        segment.sleepers.pop(reader, None)
        segment.followers -= reader.follows
        if finished and segment.seq >= self.next_write - self.settings.window - 1:
            self._fairness.reader_finished(segment.seq, now, follows=reader.follows)
        self._forget_if_unwanted(segment)
        self._wake_held(now)

    def reader_gone(self, seq: int) -> None:
        """For the reader: who read ``seq`` to its end has left for good."""
        self._fairness.reader_gone(seq)

    def _forget_if_unwanted(self, segment: Segment) -> None:
        if segment.readers:
            return
        if segment in self._held:
            self._held.remove(segment)
            self._account.give(segment.size)
        elif self._is_hole(segment):
            self._segments.pop(segment.seq, None)

    # Writing

    def open_writer(self, asked: int, now: float, *, reset: bool = False) -> Writer | Answer:
        """POST a segment; ``asked`` is a number or -1."""
        if len(self._writers) >= self.settings.max_writers:
            return text(503, "Too many publishers", CLOSE)
        if self._is_stray(asked) and not reset:
            return text(409, "Too far ahead of the publisher at work", CLOSE)
        if reset:
            self._close_below(self.next_write if asked < 0 else asked, now)
        writer = Writer(self, asked, segment=self._segment_ahead(asked))
        self._writers[writer] = None
        return writer

    def _is_stray(self, asked: int) -> bool:
        if asked <= self.next_write + self._far:
            return False
        return any(known.segment is None or known.segment.seq < asked for known in self._writers)

    @property
    def _far(self) -> int:
        """So many numbers apart, two segments are not of one publisher: twice what can be under way
        at once.
        """
        return 2 * max(self.settings.window, wire.WINDOW)

    def _close_below(self, seq: int, now: float) -> None:
        for segment in [known for known in self._segments.values() if known.seq < seq]:
            self._close_segment(segment, now)
        self._trim(now)

    def _segment_ahead(self, asked: int) -> Segment | None:
        if asked < 0:
            return None
        segment = self._segments.setdefault(asked, Segment(asked))
        return None if segment.closed else segment

    def write(self, writer: Writer, data: Buffer, now: float) -> Taken:
        """For the writer: a piece of its body."""
        segment = writer.segment or self._segment_to_begin(writer)
        if segment.size + len(data) > self.settings.max_segment_bytes:
            return self._refuse(writer, segment, 413, "Segment too large", now)
        if not self._make_room(writer, segment, len(data), now):
            return NEED_ROOM
        if not self._account.fits(len(data)):
            return self._refuse(writer, segment, 507, "Out of memory", now)
        if segment.fresh:
            self._begin(segment, now, falls_back=True)
        writer.segment = segment
        writer.happen(Input.BYTES)
        self._append(segment, data, now)
        return ACCEPTED

    def _append(self, segment: Segment, data: Buffer, now: float) -> None:
        segment.append(data)
        self._account.take(len(data))
        self.written_at = now
        segment.wake()

    def end(self, writer: Writer, now: float) -> Answer | Literal[Signal.NEED_ROOM]:
        """For the writer: its body has ended."""
        segment = writer.segment or self._segment_to_begin(writer)
        if not self._make_room(writer, segment, 0, now):
            return NEED_ROOM
        if segment.fresh:
            self._begin(segment, now, falls_back=False)
        writer.happen(Input.END)
        del self._writers[writer]
        self.written_at = now
        self._close_segment(segment, now)
        self._trim(now)
        return Answer(200, seq_header(segment.seq))

    def writer_left(self, writer: Writer, now: float) -> None:
        """For the writer: its body broke off."""
        del self._writers[writer]
        segment = writer.segment
        if segment is None or self._writers_of(segment):
            return
        self._forget_if_unwanted(segment)
        if not segment.fresh:
            segment.abandoned_at = now
            due = now + self.settings.abandon_timeout
            # By number: the agenda must not keep a segment's memory alive.
            self._agenda.add(due, partial(self._close_abandoned, segment.seq))

    def _close_abandoned(self, seq: int, now: float) -> None:
        segment = self._segments.get(seq)
        if segment is None or self._writers_of(segment):
            return
        if segment.abandoned_at + self.settings.abandon_timeout <= now:
            self.close_segment(seq, now)

    def publish(self, data: bytes, now: float) -> None:
        """Write a whole segment at next write, as the relay itself does. Nobody is waited for."""
        segment = self._segments.get(self.next_write) or Segment(self.next_write)
        while (oldest := self._oldest_beyond(segment)) is not None:
            self._evict(oldest, now)
        self._begin(segment, now, falls_back=False)
        self._append(segment, data, now)
        self._close_segment(segment, now)

    def _segment_to_begin(self, writer: Writer) -> Segment:
        seq = self.next_write if writer.asked < 0 else writer.asked
        segment = self._segments.get(seq)
        return Segment(seq) if segment is None or segment.closed else segment

    def _begin(self, segment: Segment, now: float, *, falls_back: bool) -> None:
        following = segment.seq + 1
        if following < self.next_write and falls_back and self._was_written(segment):
            self._forget_ahead(segment, now)
            self.next_write = following
        self.next_write = max(self.next_write, following)
        former = self._segments.get(segment.seq, segment)
        if former is not segment:
            self._evict(former, now)
        self._segments[segment.seq] = segment
        segment.began = self._fairness.own_time(now)
        self._close_holes(segment, now)

    def _was_written(self, segment: Segment) -> bool:
        """Whether its number is written again, or merely late: each segment has a connection of
        its own, and short ones overtake each other.
        """
        known = self._segments.get(segment.seq)
        if known is None or known is segment:
            return segment.seq < self.next_write - self.settings.window
        return known.closed and known.size > 0

    def _forget_ahead(self, segment: Segment, now: float) -> None:
        self._fairness.forget_all()
        for other in list(self._segments.values()):
            foreign = other.seq > segment.seq + self._far
            unwritten = not other.fresh and not self._writers_of(other)
            if foreign or (other.seq > segment.seq and unwritten):
                self._evict(other, now)

    def _close_holes(self, segment: Segment, now: float) -> None:
        """Send readers on who wait in numbers that the publisher passed over, or gave up. One just
        below of which nothing has come may still be on its way.
        """
        for other in [known for known in self._segments.values() if known.seq < segment.seq]:
            if other.seq == segment.seq - 1 and self._is_hole(other):
                self._agenda.add(now + LATE, partial(self._close_hole, other.seq))
            elif self._is_hole(other) or self._is_abandoned(other):
                self._close_segment(other, now)

    def _is_abandoned(self, segment: Segment) -> bool:
        return segment.abandoned_at < math.inf and not self._writers_of(segment)

    def _is_hole(self, segment: Segment) -> bool:
        return segment.fresh and not self._writers_of(segment)

    def _close_hole(self, seq: int, now: float) -> None:
        segment = self._segments.get(seq)
        if segment is not None and self._is_hole(segment):
            self._close_segment(segment, now)

    # Room

    def _make_room(self, writer: Writer, segment: Segment, size: int, now: float) -> bool:
        """Push out what must go before ``size`` bytes come into ``segment``; False: wait."""
        while (victim := self._victim(segment, size)) is not None:
            if self._must_wait(writer, victim, now):
                return False
            self._evict(victim, now)
        if writer.held_since is not None:
            self._fairness.waited(writer.held_since, now)
            writer.held_since = None
        return True

    def _victim(self, segment: Segment, size: int) -> Segment | None:
        beyond = self._oldest_beyond(segment) if segment.fresh else None
        if beyond is not None or self._account.fits(size):
            return beyond
        self._cut_stragglers(size)
        others = (other for other in self._segments.values() if other.size)
        oldest = min(others, key=lambda other: other.seq, default=None)
        return None if oldest is segment or self._account.fits(size) else oldest

    def _oldest_beyond(self, segment: Segment) -> Segment | None:
        oldest = min(self._segments, default=segment.seq)
        return self._segments[oldest] if oldest <= segment.seq - self.settings.window else None

    def _must_wait(self, writer: Writer, victim: Segment, now: float) -> bool:
        since = now if writer.held_since is None else writer.held_since
        until = self._fairness.hold_until(victim, since, now)
        if until <= now:
            return False
        writer.held_since = since
        self._agenda.add(until, self._wake_held)
        return True

    def _wake_held(self, _now: float) -> None:
        for writer in self._writers:
            if writer.held_since is not None:
                writer.waker()

    def _cut_stragglers(self, size: int) -> None:
        while self._held and not self._account.fits(size):
            straggled = self._held.pop(0)
            self._account.give(straggled.size)
            readers, straggled.readers = straggled.readers, {}
            for reader in readers:
                reader.cut()

    def _evict(self, segment: Segment, now: float) -> None:
        self._segments.pop(segment.seq, None)
        self._close_segment(segment, now)
        self._fairness.forget_below(segment.seq)
        if segment.readers:
            self._held.append(segment)
        else:
            self._account.give(segment.size)

    # Closing

    def close_segment(self, seq: int, now: float) -> bool:
        """DELETE a segment: its readers go on, its writers are answered. False: not there."""
        segment = self._segments.get(seq)
        if segment is not None:
            self._close_segment(segment, now)
            self._trim(now)
        return segment is not None

    def _close_segment(self, segment: Segment, now: float) -> None:
        if segment.closed:
            return
        if segment.fresh and segment.seq >= self.next_write and not self.closed:
            # An empty segment: a GET of next write would else find it closed for ever.
            self.next_write = segment.seq + 1
        if segment.fresh:
            segment.began = self._fairness.own_time(now)
        segment.close()
        self._answer_early(self._writers_of(segment))
        segment.wake()

    def _trim(self, now: float) -> None:
        # Whoever closes segments far apart, or writes empty ones below the window, must not fill
        # the memory with them.
        oldest = self.next_write - self.settings.window
        for segment in list(self._segments.values()):
            if segment.closed and segment.seq < oldest:
                self._evict(segment, now)

    def _writers_of(self, segment: Segment) -> list[Writer]:
        return [writer for writer in self._writers if writer.segment is segment]

    def _answer_early(self, writers: Iterable[Writer]) -> None:
        for writer in writers:
            del self._writers[writer]
            ended = TERMINATED if self.closed else ()
            writer.answer_early(Answer(200, (*_so_far(writer.segment), *ended, *CLOSE)))

    def _refuse(
        self, writer: Writer, segment: Segment, status: int, reason: str, now: float
    ) -> Answer:
        answer = text(status, reason, (*seq_header(segment.seq), *CLOSE))
        del self._writers[writer]
        writer.answer_early(answer)
        self._close_segment(segment, now)
        self._trim(now)
        return answer

    def somebody_is_behind(self, now: float) -> bool:
        """Whether a reader at work has not come to the last segment yet."""
        last, since = self.next_write - 1, now - self.settings.catch_up
        kept = [*self._segments.values(), *self._held]
        reading = any(segment.readers for segment in kept if segment.seq < last)
        return reading or any(
            self._fairness.expects(segment, since) for segment in kept if segment.seq <= last
        )

    def close(self, now: float) -> None:
        """DELETE the channel: what is open is closed, who waits is told. Twice is legal."""
        self.state = ChannelState.CLOSED
        for segment in list(self._segments.values()):
            self._close_segment(segment, now)
        self._answer_early(list(self._writers))

    def clear(self, now: float) -> None:
        """Give back the memory; what is being read is held until it was read."""
        for segment in list(self._segments.values()):
            self._evict(segment, now)


def _so_far(segment: Segment | None) -> Headers:
    """What is known of a segment that is closed under its writer: by its size the writer knows
    whether all that it sent had come.
    """
    if segment is None:
        return ()
    return (*seq_header(segment.seq), (wire.SIZE, str(segment.size)))
