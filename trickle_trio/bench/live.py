"""A live run: footage goes through a relay and a service at its own pace, and comes back; every picture is timed.

Both ends are here, so one clock times them: a picture's last byte handed to the socket, and the last byte of what
became of it received. The two are matched by their time stamp, which a stream keeps.
"""

from __future__ import annotations

import time
from collections import defaultdict
from itertools import count
from typing import Any, Final

import httpx
import trio
from attrs import define, field, frozen

from trickle_core.mpegts import CLOCK_RATE, AccessUnit, Demuxer, Muxer
from trickle_core.publisher import PublisherSettings
from trickle_trio.bench.figures import LiveTurn
from trickle_trio.bench.footage import Footage
from trickle_trio.bench.worker_process import BenchError, Worker, open_worker
from trickle_trio.driver import open_hidden_nursery
from trickle_trio.publication import Publication, open_publication
from trickle_trio.subscription import Subscription, open_subscription

LEAD: Final = 0.5
"""Seconds that the input runs before the stream is started."""
SETTLE: Final = 0.5
"""Seconds that a stream runs before it is measured: what it makes once is made then."""
DRAIN: Final = 1.0
"""Seconds that the last pictures have to come out."""
SLACK: Final = 0.3
"""Seconds of footage beyond the end, so that it does not end before the measuring does."""

AROUND: Final = LEAD + SETTLE + SLACK
"""Seconds of footage beyond those that are measured."""

THREADS: Final = {
    "MainThread": "event loop",
    "trickle decode": "decode",
    "trickle encode": "encode",
}
"""The threads of a stream, as they are called where they run and in the figures. Others: handlers', libraries'."""

_names: Final = count()


@frozen
class Window:
    """While it was measured, by ``time.perf_counter``."""

    begin: float
    end: float


@define(eq=False)
class Traffic:
    """One stream's two ends, and when each picture passed them. Times are of ``time.perf_counter``."""

    footage: Footage
    source: str
    target: str
    first_output: float | None = None
    _sent: dict[int, float] = field(factory=dict)
    _received: dict[int, list[float]] = field(factory=lambda: defaultdict(list))
    _arrived: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)

    @classmethod
    def through(cls, relay: str, footage: Footage) -> Traffic:
        """Channels that nobody has used yet."""
        name = next(_names)
        return cls(footage, f"{relay}/in-{name}", f"{relay}/out-{name}")

    async def publish(self) -> None:
        """Send the footage as it falls due, a second a segment; then keep the channel."""
        async with open_publication(
            self.source, settings=PublisherSettings(create=True)
        ) as publication:
            await self._send_all(publication)
            await trio.sleep_forever()

    async def _send_all(self, publication: Publication) -> None:
        muxer = Muxer(self.footage.streams)
        start = trio.current_time() - self.footage.units[0].dts / CLOCK_RATE
        for units in self.footage.segments:
            tables = muxer.tables()
            async with publication.segment() as segment:
                for unit in units:
                    await trio.sleep_until(start + unit.dts / CLOCK_RATE)
                    await segment.send(tables + muxer.write(unit))
                    tables = b""
                    if unit.stream.codec.is_video:
                        self.note_sent(unit.pts, time.perf_counter())

    async def read(self) -> None:
        """Take what comes out, for as long as it comes."""
        async with open_subscription(self.target) as subscription:
            await self._read_all(subscription)

    async def _read_all(self, subscription: Subscription) -> None:
        demuxer = Demuxer()
        async for segment in subscription:
            async for piece in segment:
                now = time.perf_counter()
                self.first_output = self.first_output or now
                for event in demuxer.feed(piece):
                    if isinstance(event, AccessUnit) and event.stream.codec.is_video:
                        self.note_received(event.pts, now)

    def note_sent(self, pts: int, now: float) -> None:
        """A picture has been handed to the socket."""
        self._sent[pts] = now

    def note_received(self, pts: int, now: float) -> None:
        """What became of it is here."""
        self._received[pts].append(now)
        self._arrived.unpark_all()

    async def wait_out(self, window: Window) -> None:
        """Wait until every picture that was sent then has come out."""
        while any(pts not in self._received for pts in self.sent_in(window)):
            await self._arrived.park()

    def sent_in(self, window: Window) -> list[int]:
        """The pictures that were sent then."""
        return [pts for pts, at in self._sent.items() if window.begin <= at <= window.end]

    def delays(self, window: Window) -> list[float]:
        """Milliseconds, of those that were sent then and came out."""
        pictures = [pts for pts in self.sent_in(window) if pts in self._received]
        return [1000 * (self._received[pts][0] - self._sent[pts]) for pts in pictures]

    def doubled(self, window: Window) -> int:
        """How many came out again."""
        return sum(max(0, len(self._received.get(pts, ())) - 1) for pts in self.sent_in(window))


async def run_live(
    relay: str, footage: Footage, handler: str, streams: int = 1, settle: float = SETTLE
) -> LiveTurn:
    """Run so many streams with a handler in one service, on all of the footage; takes a little longer than that.
    ``settle``: seconds that they run before they are measured.

    ``BenchError``: the service died. Cancelling is safe: nothing is left.
    """
    traffics = [Traffic.through(relay, footage) for _ in range(streams)]
    await _make_channels([traffic.target for traffic in traffics])
    async with open_worker(handler) as (worker, _), open_hidden_nursery() as nursery:
        for traffic in traffics:
            nursery.start_soon(traffic.publish)
            nursery.start_soon(traffic.read)
        await trio.sleep(LEAD)
        turn = await _measure(worker, traffics, footage.seconds - AROUND + SETTLE - settle, settle)
        nursery.cancel_scope.cancel()
    return turn


async def _make_channels(addresses: list[str]) -> None:
    """So that their readers need not ask again and again."""
    async with httpx.AsyncClient() as client:
        for address in addresses:
            try:
                (await client.post(address)).raise_for_status()
            except httpx.HTTPError as error:
                raise BenchError(f"the relay does not answer: {error}") from error


async def _measure(
    worker: Worker, traffics: list[Traffic], seconds: float, settle: float
) -> LiveTurn:
    started = time.perf_counter()
    await worker.tell(streams=[(traffic.source, traffic.target) for traffic in traffics])
    await trio.sleep(settle)
    before = await worker.ask()
    begin = time.perf_counter()
    await trio.sleep(seconds)
    after = await worker.ask()
    window = Window(begin, time.perf_counter())
    with trio.move_on_after(DRAIN):
        for traffic in traffics:
            await traffic.wait_out(window)
    return _sum_up(traffics, window, started, before, after)


def _sum_up(
    traffics: list[Traffic],
    window: Window,
    started: float,
    before: dict[str, Any],
    after: dict[str, Any],
) -> LiveTurn:
    pictures = sum(len(traffic.sent_in(window)) for traffic in traffics)
    delays = [delay for traffic in traffics for delay in traffic.delays(window)]
    firsts = [traffic.first_output for traffic in traffics]
    known = [1000 * (first - started) for first in firsts if first is not None]
    return LiveTurn(
        cpu_ms=1000 * (after["cpu"] - before["cpu"]) / pictures if pictures else None,
        pictures=pictures,
        lost=pictures - len(delays),
        doubled=sum(traffic.doubled(window) for traffic in traffics),
        delays=tuple(delays),
        first_output_ms=max(known) if len(known) == len(firsts) else None,
        memory_mb=after["memory_mb"],
        stages=after["stages"],
        threads=_threads(before, after, pictures),
    )


def _threads(before: dict[str, Any], after: dict[str, Any], pictures: int) -> dict[str, float]:
    """CPU milliseconds a picture, of the threads that live at the end; of streams, all together."""
    begun: dict[str, float] = before["threads"]
    ended: dict[str, float] = after["threads"]
    spent = {name: seconds - begun.get(name, 0.0) for name, seconds in ended.items()}
    if not pictures or not spent:
        return {}
    others = after["cpu"] - before["cpu"] - sum(spent.values())
    named = {THREADS[name]: seconds for name, seconds in spent.items() if name in THREADS}
    unnamed = sum(seconds for name, seconds in spent.items() if name not in THREADS)
    total = {**named, "others": max(0.0, others + unnamed)}
    return {name: 1000 * seconds / pictures for name, seconds in total.items()}
