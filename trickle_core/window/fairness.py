"""How long a publisher waits for readers, so that a segment is not pushed out under their eyes.

Without it, whoever publishes as fast as it can pushes segments out of the window under readers that
do nothing but read: every quick server lost 60 to 97 % of the bytes so. Hence the byte that would
push segment E out waits

- while a reader of E is at work: it took bytes within ``grace``, and has not taken all;
- while a reader that finished E - 1 within ``grace`` has not come for E yet;

but never beyond ``patience``, and not at all where the publisher itself took ``live_window`` from
E's first byte until now. For that, the time in which it had to wait does not count: it is the
publisher's *own time*. So a live publisher is never held up, however slow its readers, and one that
publishes as fast as it can goes on at the pace of the slowest reader that is still at work.

A reader who comes to E is told from one who is still expected by counting: as many as finished E - 1
must have come to E, be there or have finished it too. That also holds for readers that open E before
they finish E - 1 (preconnect), and for those that reopen a GET. Who begins at E is not counted for
one who comes to it: it asked for no number, or there is nobody at E - 1 from whom it could come.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from attrs import define, field

from trickle_core.relay_settings import RelaySettings
from trickle_core.window.segment import Segment


@define
class Finished:
    """Readers that read a segment to its end."""

    count: int = 0
    followers: int = 0
    """How many of them had come from the segment before."""
    gone: int = 0
    """How many of them were seen to leave for good."""
    last: float = -math.inf


NOBODY: Final = Finished()


@define(eq=False)
class Fairness:
    """One channel's waiting."""

    settings: RelaySettings
    _waited: float = field(default=0.0, init=False)
    _finished: dict[int, Finished] = field(factory=dict, init=False)

    def own_time(self, now: float) -> float:
        """The publisher's own time."""
        return now - self._waited

    def follows(self, segment: Segment, before: Iterable[Segment]) -> bool:
        """Whether a reader that comes to ``segment`` by its number comes from the one before it."""
        there = self._finished_of(segment.seq - 1).count + sum(len(one.readers) for one in before)
        return self._arrived(segment) < there

    def reader_finished(self, seq: int, now: float, *, follows: bool) -> None:
        """A reader read segment ``seq`` to its end."""
        finished = self._finished.setdefault(seq, Finished())
        finished.count += 1
        finished.followers += follows
        finished.last = now

    def reader_gone(self, seq: int) -> None:
        """One that had finished ``seq`` has left for good."""
        if seq in self._finished:
            self._finished[seq].gone += 1

    def forget_below(self, seq: int) -> None:
        """Who finished these is not expected anywhere in the window."""
        for old in [known for known in self._finished if known < seq]:
            del self._finished[old]

    def forget_all(self) -> None:
        """The numbers begin anew."""
        self._finished.clear()

    def expects(self, segment: Segment, since: float) -> bool:
        """Whether a reader finished the segment before after ``since``, is still there, and has not
        come for this.
        """
        before = self._finished_of(segment.seq - 1)
        return before.count - before.gone > self._arrived(segment) and before.last >= since

    def waited(self, since: float, now: float) -> None:
        """The publisher's wait is over."""
        self._waited += now - since

    def hold_until(self, victim: Segment, since: float, now: float) -> float:
        """Until when a publisher that has been waiting ``since`` must still wait before it pushes
        ``victim`` out; not later than ``now``: it need not.
        """
        if self.own_time(since) - victim.began >= self.settings.live_window:
            return now
        return min(self._needed_until(victim), since + self.settings.patience)

    def _needed_until(self, victim: Segment) -> float:
        # Who has pulled all of a closed segment may still be sending it: it leaves when it is done.
        at_work = (
            reader.progress_at for reader in victim.readers if reader.unread or victim.closed
        )
        last = max(at_work, default=-math.inf)
        return max(last, self._last_expected(victim)) + self.settings.grace

    def _last_expected(self, victim: Segment) -> float:
        before = self._finished_of(victim.seq - 1)
        return before.last if before.count > self._arrived(victim) else -math.inf

    def _arrived(self, segment: Segment) -> int:
        return segment.followers + self._finished_of(segment.seq).followers

    def _finished_of(self, seq: int) -> Finished:
        return self._finished.get(seq, NOBODY)
