"""What has to be closed on the server after a loss.

A segment that broke off stays open there, with what had arrived, and its readers wait in it. The
very trouble that broke it often swallows the ``DELETE`` too, so each is sent again until the server
has answered for good: 400 and 404 say that there is nothing left to close.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from attrs import define, field

from trickle_core import wire
from trickle_core.commands import Abort, Command, Delete, Discard
from trickle_core.events import MENDABLE, Event, ResponseStarted
from trickle_core.retry import Backoff


@define
class Deletions:
    """A short queue of ``DELETE``s, sent one after another.

    ``mint`` makes request numbers; ``patience``: seconds to wait for an answer; ``backoff`` says
    when to send one again, and when to give it up. At most ``wire.WINDOW`` are kept: what is older
    has left the server.
    """

    mint: Callable[[], int]
    patience: float
    backoff: Backoff
    _queue: list[int | None] = field(factory=list, init=False)
    _request: int = field(default=-1, init=False)
    _timer: float = field(default=math.inf, init=False)

    @property
    def pending(self) -> bool:
        """Whether anything is left to do."""
        return bool(self._queue)

    def add(self, seq: int | None, now: float) -> list[Command]:
        """Delete segment ``seq``, or the channel where it is None."""
        self._queue.append(seq)
        if len(self._queue) == 1:
            return self._send(now)
        if len(self._queue) > wire.WINDOW:
            del self._queue[1]  # the first is under way
        return []

    def receive(self, event: Event, now: float) -> list[Command]:
        """Take in what was seen on the network; events of other requests change nothing."""
        if event.request != self._request:
            return []
        if not isinstance(event, ResponseStarted):
            return self._try_again(now)
        discard = Discard(self._request)
        answered = event.status < 500 and event.status not in MENDABLE
        return [discard, *(self._done(now) if answered else self._try_again(now))]

    def deadline(self) -> float:
        """When ``handle_timeout`` is to be called; ``math.inf``: no timer runs."""
        return self._timer

    def handle_timeout(self, now: float) -> list[Command]:
        """The timer fired. Early calls do nothing."""
        if now < self._timer:
            return []
        if self._request < 0:
            return self._send(now)
        return [Abort(self._request), *self._try_again(now)]

    def clear(self) -> list[Command]:
        """Give up what is left."""
        self._queue.clear()
        request, self._request = self._request, -1
        self._timer = math.inf
        return [Abort(request)] if request >= 0 else []

    def _send(self, now: float) -> list[Command]:
        self._request = self.mint()
        self._timer = now + self.patience
        return [Delete(self._request, self._queue[0])]

    def _try_again(self, now: float) -> list[Command]:
        again = self.backoff.failed(now)
        if again is None:
            return self._done(now)
        self._request, self._timer = -1, again
        return []

    def _done(self, now: float) -> list[Command]:
        self.backoff.succeeded()
        self._request, self._timer = -1, math.inf
        self._queue.pop(0)
        return self._send(now) if self._queue else []
