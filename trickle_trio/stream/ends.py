"""The two ends of a stream: its input and its output channel, opened, and why they end."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self

import trio
from attrs import define, field

from trickle_core.commands import Ending
from trickle_core.publisher import PublisherSettings
from trickle_core.retry import RetryPolicy
from trickle_core.subscriber import SubscriberSettings
from trickle_trio.driver import ChannelEnded, open_hidden_nursery
from trickle_trio.publication import Publication, PublicationStatistics, open_publication
from trickle_trio.stream.ending import End, StreamEnds
from trickle_trio.stream.times import loop_clock
from trickle_trio.subscription import Subscription, SubscriptionStatistics, open_subscription

CHANNEL_WAIT: Final = 10.0
"""Seconds that a channel may take to appear after a start: the publisher is often started by the
same hand."""

LONGEST_PAUSE: Final = 5.0
"""Seconds between two attempts to reach a server."""


EARLY_PAUSE: Final = 0.25
"""Seconds before something that is not there yet is asked for again."""


HELD: Final = 0.5
"""Seconds too late at which a task is woken for no other reason than that somebody holds the loop."""


@define(eq=False)
class Silence:
    """Cancels ``scope`` when nothing has been read for ``patience`` seconds.

    It is looked after by a task that sleeps that long: something comes fifty times a second, and to
    move the deadline of a scope each time would cost more than to read it.
    """

    patience: float
    scope: trio.CancelScope
    _time: Callable[[], float] = field(factory=loop_clock)
    _since: float = field(init=False)
    """Infinite while something is being passed on."""

    def __attrs_post_init__(self) -> None:
        self._since = self._time()

    async def watch(self) -> None:
        """Look after it until it has lasted too long. While a handler holds the event loop nothing can be
        read: then it begins anew.
        """
        while self._since + self.patience > (now := self._time()):
            since, due = self._since, min(self._since, now) + self.patience
            await trio.sleep_until(due)
            if since == self._since < math.inf and self._time() > due + HELD:
                self._since = self._time()
        self.scope.cancel()

    def broken(self) -> Self:
        """Something is there. While it is passed on, in a ``with`` block, a pipe that takes its time
        is not held against the input.
        """
        return self

    def __enter__(self) -> None:
        self._since = math.inf

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._since = self._time()


@define(eq=False)
class Input:
    """The channel that is read. ``patience``: seconds without anything after which it is over."""

    url: str
    patience: float
    token: str | None = field(default=None, repr=False)
    _subscription: Subscription | None = None

    def statistics(self) -> SubscriptionStatistics:
        """Counters so far."""
        return self._subscription.statistics() if self._subscription else SubscriptionStatistics()

    async def run(self, read: Callable[[Subscription, Silence], Awaitable[None]]) -> None:
        """Have the channel read until it ends. ``StreamEnds``: not in the ordinary way."""
        with trio.CancelScope() as scope:
            silence = Silence(self.patience, scope)
            async with open_hidden_nursery() as nursery:
                nursery.start_soon(silence.watch)
                await self._read(read, silence)
                nursery.cancel_scope.cancel()
        if scope.cancelled_caught:
            raise StreamEnds(End.INPUT_SILENT, f"{self.url}: nothing came for {self.patience:g} s")
        self._check_ending()

    async def _read(
        self, read: Callable[[Subscription, Silence], Awaitable[None]], silence: Silence
    ) -> None:
        try:
            async with open_subscription(
                self.url, token=self.token, settings=self._settings()
            ) as self._subscription:
                await read(self._subscription, silence)
        except ChannelEnded as error:
            raise StreamEnds(End.INPUT_UNAVAILABLE, str(error)) from error

    def _settings(self) -> SubscriberSettings:
        # A server that is away is to be told of as that, and not as silence: it gets less time, and
        # pauses that fit into the rest.
        retry = RetryPolicy(
            longest=min(LONGEST_PAUSE, self.patience / 20), give_up_after=0.9 * self.patience
        )
        return SubscriberSettings(
            wait_for_channel=min(CHANNEL_WAIT, 0.9 * self.patience),
            early_pause=min(EARLY_PAUSE, self.patience / 20),
            retry=retry,
        )

    def _check_ending(self) -> None:
        """A channel that was never there is a mistake; one that has gone is an end."""
        gone = self._subscription is not None and self._subscription.ending is Ending.GONE
        if gone and not self.statistics().segments:
            raise StreamEnds(End.INPUT_UNAVAILABLE, f"{self.url}: {Ending.GONE.value}")


@define(eq=False)
class Output:
    """The channel that is written."""

    url: str
    token: str | None = field(default=None, repr=False)
    _publication: Publication | None = None

    def statistics(self) -> PublicationStatistics:
        """Counters so far."""
        return self._publication.statistics() if self._publication else PublicationStatistics()

    async def run(self, write: Callable[[Publication], Awaitable[None]]) -> None:
        """Have the channel written. ``StreamEnds``: the channel ended first."""
        try:
            async with open_publication(
                self.url, token=self.token, settings=PublisherSettings(create=True)
            ) as self._publication:
                await write(self._publication)
        except ChannelEnded as error:
            normal = error.ending in (Ending.CLOSED, Ending.GONE)
            end = End.OUTPUT_ENDED if normal else End.OUTPUT_UNAVAILABLE
            raise StreamEnds(end, str(error)) from error
