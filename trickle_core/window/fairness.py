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
they finish E - 1 (preconnect), and for those that reopen a GET.
"""

from __future__ import annotations

import math

from attrs import define, field

from trickle_core.relay_settings import RelaySettings
from trickle_core.window.segment import Segment


@define
class Finished:
    """Readers that read a segment to its end."""

    count: int = 0
    last: float = -math.inf


@define(eq=False)
class Fairness:
    """One channel's waiting."""

    settings: RelaySettings
    _waited: float = field(default=0.0, init=False)
    _finished: dict[int, Finished] = field(factory=dict, init=False)

    def own_time(self, now: float) -> float:
        """The publisher's own time."""
        return now - self._waited

    def reader_finished(self, seq: int, now: float) -> None:
        """A reader read segment ``seq`` to its end."""
        finished = self._finished.setdefault(seq, Finished())
        finished.count += 1
        finished.last = now

    def forget_below(self, seq: int) -> None:
        """Who finished these is not expected anywhere in the window."""
        for old in [known for known in self._finished if known < seq]:
            del self._finished[old]

    def forget_all(self) -> None:
        """The numbers begin anew."""
        self._finished.clear()

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
        before = self._finished.get(victim.seq - 1, Finished())
        arrived = len(victim.readers) + self._finished.get(victim.seq, Finished()).count
        return before.last if before.count > arrived else -math.inf
