"""The protocol core driven by asyncio: its streams, h11, and a task for each request.

    python embed_asyncio.py http://127.0.0.1:3389/words               a few segments, there and back
    python embed_asyncio.py http://127.0.0.1:3389/words publish       each line of stdin a segment
    python embed_asyncio.py http://127.0.0.1:3389/words subscribe     print what arrives

Needs the standard library, attrs, h11 and ``trickle_core``. What to ask for, when, and what an
answer means is decided by the two machines of the core. Here their orders are carried out and what
came of them is reported, nothing else; docs/embedding.md goes through it step by step, and
embed_blocking.py does the same with threads.

Left out: TLS. Keeping connections: each request has one of its own, which costs a live stream no
time, since its next request is always open ahead of its data. TCP keep-alive, without which a
server that lost its power is noticed only by a waiting GET. Reading segments ahead of whoever wants
them.
"""

from __future__ import annotations

import asyncio
import random
import sys
from asyncio import TaskGroup
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing
from urllib.parse import urlsplit

import h11
from attrs import define, field

from trickle_core import wire
from trickle_core.commands import (
    Abort,
    AskNext,
    Command,
    Create,
    Delete,
    Deliver,
    Discard,
    EndBody,
    Ending,
    Finish,
    Grant,
    OpenGet,
    OpenPost,
    Truncate,
)
from trickle_core.events import Cause, Event, RequestFailed, RequestFinished, ResponseStarted
from trickle_core.publisher import Publisher, PublisherSettings, Writer
from trickle_core.subscriber import Reader, Subscriber, SubscriberSettings

Request = OpenGet | AskNext | Create | OpenPost | Delete

MIME_TYPE = "text/plain"
LINES = ("the first segment", "one of many pieces", "the last one")
CONNECT_TIMEOUT = 10.0
"""Seconds. The machines time no connection attempt; this must stay below their 20 s refresh."""
STALL = 20.0
"""Seconds without a byte taken after which a server counts as gone."""


@define(eq=False)
class Exchange:
    """One request under way. Its task sends the head and waits for the answer's; the user's task
    sends the body of a POST meanwhile, or reads what a GET brought afterwards.
    """

    number: int
    task: asyncio.Task[None] | None = None
    http: h11.Connection = field(factory=lambda: h11.Connection(h11.CLIENT))
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    """There once the head has left: a body can follow."""
    bytes_sent: int = 0

    async def open(self, host: str, port: int, head: h11.Request, *, whole: bool) -> None:
        """Connect and send the head; ``whole``: nothing follows it. Raises ``OSError``."""
        async with asyncio.timeout(CONNECT_TIMEOUT):
            reader, writer = await asyncio.open_connection(host, port)
        writer.write(self.http.send(head) or b"")
        self.streams = reader, writer
        if whole:
            self.send(h11.EndOfMessage())

    async def next_event(self) -> h11.Event:
        """What comes next of the answer. Raises ``OSError`` or h11's error where it breaks off."""
        if self.streams is None:
            raise ConnectionAbortedError("there is no connection")
        while not isinstance(event := self.http.next_event(), h11.Event):
            self.http.receive_data(await self.streams[0].read(65_536))
        return event

    async def wait_for_head(self) -> Event:
        """Wait for the answer's head, behind any number of ``100 Continue``."""
        while isinstance(event := await self.next_event(), h11.InformationalResponse):
            pass
        if not isinstance(event, h11.Response):
            raise ConnectionAbortedError("no answer came")
        headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
        return ResponseStarted(self.number, event.status_code, headers, self.bytes_sent)

    def send(self, event: h11.Data | h11.EndOfMessage) -> None:
        """Send a piece of the body, or its end. Does not block."""
        if self.streams is not None:
            self.streams[1].write(self.http.send(event) or b"")

    async def drain(self) -> None:
        """Wait until the server has taken most of what was sent.

        Nothing is raised where it never will: the task that waits for the answer notices too.
        """
        if self.streams is None:
            return
        try:
            async with asyncio.timeout(STALL):
                await self.streams[1].drain()
        except OSError:  # TimeoutError is one
            self.hang_up()

    def hang_up(self) -> None:
        """Close the connection, also under a task that waits in it. Ends no body as if whole."""
        if self.streams is not None:
            self.streams[1].transport.abort()
        elif self.task is not None:
            self.task.cancel()  # it still connects


class Driver:
    """Between a machine and the network.

    asyncio runs one task at a time, so whoever sees something gives it to the machine itself and
    carries out what is ordered. Carrying out an order does not wait, and gives the machine nothing.
    """

    def __init__(
        self,
        url: str,
        machine: Subscriber | Publisher,
        obey: Callable[[Command], None],
        tasks: TaskGroup,
    ) -> None:
        """``obey``: is given the orders that concern the machine's user."""
        self.exchanges: dict[int, Exchange] = {}
        """The requests that the machine has not given up and has not been told the end of."""
        self.ending: Ending | None = None
        self._url = urlsplit(url)
        self._machine = machine
        self._obey = obey
        self._tasks = tasks
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._alarm = self._loop.call_at(machine.deadline(), self._time_out)
        self.input(machine.start)

    def input(self, machine_input: Callable[[float], list[Command]]) -> None:
        """Give the machine an input, do as it says, and set the clock anew."""
        for order in machine_input(self._loop.time()):
            self._carry_out(order)
        self._alarm.cancel()
        if self.ending is None:
            self._alarm = self._loop.call_at(self._machine.deadline(), self._time_out)
        self._news.set()

    def _time_out(self) -> None:
        # The loop's clock is coarse: it may call a moment before the time.
        due = self._machine.deadline()
        self.input(lambda now: self._machine.handle_timeout(max(now, due)))

    async def until(self, true: Callable[[], object]) -> None:
        """Wait for something that an input brings about."""
        while not true():
            self._news.clear()
            await self._news.wait()

    def report(self, exchange: Exchange, event: Event) -> None:
        """Tell the machine what became of a request, unless it has given it up."""
        if exchange.number not in self.exchanges:
            exchange.hang_up()
            return
        if not isinstance(event, ResponseStarted):
            self.exchanges.pop(exchange.number).hang_up()
        self.input(lambda now: self._machine.receive(event, now))

    async def read(self, number: int) -> bytes:
        """The next bytes of an answer's body; none at its end, whole or broken."""
        exchange = self.exchanges.get(number)
        if exchange is None:
            return b""
        outcome: Event = RequestFinished(number)
        try:
            event = await exchange.next_event()
            if isinstance(event, h11.Data):
                return bytes(event.data)
        except (OSError, h11.RemoteProtocolError):
            outcome = RequestFailed(number, Cause.BROKEN)
        self.report(exchange, outcome)
        return b""

    async def aclose(self) -> None:
        """Close the machine and let it say goodbye. It bounds the time that this takes."""
        self.input(self._machine.close)
        await self.until(lambda: self.ending)

    def _carry_out(self, order: Command) -> None:
        match order:
            case OpenGet() | AskNext() | Create() | OpenPost() | Delete():
                exchange = self.exchanges[order.request] = Exchange(order.request)
                exchange.task = self._tasks.create_task(self._run(exchange, order))
            case EndBody(number):
                self.exchanges[number].send(h11.EndOfMessage())
            case Abort(number) | Discard(number):
                # Whoever keeps connections reads a discarded answer away instead.
                if number in self.exchanges:
                    self.exchanges.pop(number).hang_up()
            case Finish(ending):
                self.ending = ending
            case _:
                self._obey(order)

    async def _run(self, exchange: Exchange, order: Request) -> None:
        """In the request's own task: report the head of its answer, or its failure."""
        cause = Cause.REFUSED
        host, port = self._url.hostname or "", self._url.port or 80
        head = head_of(order, self._url.netloc, self._url.path)
        try:
            await exchange.open(host, port, head, whole=not isinstance(order, OpenPost))
            cause = Cause.BROKEN
            self._news.set()
            event = await exchange.wait_for_head()
        except (OSError, h11.RemoteProtocolError):
            event = RequestFailed(exchange.number, cause, exchange.bytes_sent)
        self.report(exchange, event)


def head_of(order: Request, host: str, channel: str) -> h11.Request:
    """What an order puts on the wire."""
    method, path, headers = "GET", channel, {"host": host}
    match order:
        case OpenGet(_, seq):
            path = f"{channel}/{seq}"
        case AskNext():
            path = f"{channel}/{wire.NEXT}"
        case Create():
            method = "POST"
            headers |= {wire.EXPECT_CONTENT: MIME_TYPE, "content-length": "0"}
        case OpenPost(_, seq, reset):
            method, path = "POST", f"{channel}/{seq}"
            headers |= {"content-type": MIME_TYPE, "transfer-encoding": "chunked"}
            headers |= {wire.RESET: "1"} if reset else {}
        case Delete(_, closed):
            method, path = "DELETE", channel if closed is None else f"{channel}/{closed}"
    return h11.Request(method=method, target=path, headers=list(headers.items()))


class Subscription:
    """Reads a channel, for one task."""

    def __init__(self, url: str, settings: SubscriberSettings, tasks: TaskGroup) -> None:
        self.truncated = False
        """The segment at hand broke off."""
        self._delivered: Deliver | None = None
        self._machine = Subscriber(settings, jitter=random.random)
        self.driver = Driver(url, self._machine, self._obey, tasks)

    async def next_segment(self) -> Deliver | None:
        """Leave the segment at hand and wait for the next; None: it is over."""
        if self._machine.reader is not Reader.AWAY:
            self.driver.input(self._machine.drop_segment)
        self._delivered, self.truncated = None, False
        if self.driver.ending is None:
            self.driver.input(self._machine.want_segment)
        await self.driver.until(lambda: self._delivered or self.driver.ending)
        return self._delivered

    async def pieces(self, segment: Deliver) -> AsyncIterator[bytes]:
        """The bytes of the segment at hand, as they arrive."""
        while piece := await self.driver.read(segment.request):
            yield piece

    async def aclose(self) -> None:
        """Leave."""
        await self.driver.aclose()

    def _obey(self, order: Command) -> None:
        match order:
            case Deliver():
                self._delivered = order
            case Truncate():
                self.truncated = True


class Publication:
    """Writes a channel, for one task."""

    def __init__(self, url: str, settings: PublisherSettings, tasks: TaskGroup) -> None:
        self._granted = -1
        self._machine = Publisher(settings, jitter=random.random)
        self.driver = Driver(url, self._machine, self._obey, tasks)

    @property
    def lost(self) -> int:
        """Segments that the server never confirmed."""
        return self._machine.lost

    async def write(self, pieces: Iterable[bytes]) -> None:
        """Write a segment. Waits while there is no connection, and while the server takes no
        bytes. Nothing is raised where it is lost; once it is over, nothing is written.
        """
        if self.driver.ending is not None:
            return
        self.driver.input(self._machine.begin_segment)
        try:
            for piece in pieces:
                await self._send(piece)
            await self.driver.until(self._decided)
        except BaseException:  # half a segment must not be ended as if it were whole
            self.driver.input(self._machine.drop_segment)
            raise
        if self._machine.writer is not Writer.WAITING:
            self.driver.input(self._machine.end_segment)

    async def aclose(self) -> None:
        """Leave. Waits until the last segments are confirmed, which the machine bounds."""
        await self.driver.aclose()

    async def _send(self, piece: bytes) -> None:
        await self.driver.until(self._decided)
        if self._machine.writer is not Writer.WRITING:
            return  # the rest of a lost segment
        exchange = self.driver.exchanges[self._granted]
        # Before they leave: counted too late, a second POST could append to what arrived.
        exchange.bytes_sent += len(piece)
        exchange.send(h11.Data(data=piece))
        await exchange.drain()

    def _decided(self) -> bool:
        """Whether there is a connection to write to, or there will be none."""
        if self._machine.writer is Writer.WRITING:
            return self.driver.exchanges[self._granted].streams is not None
        return self._machine.writer is Writer.BEREFT or self.driver.ending is not None

    def _obey(self, order: Command) -> None:
        if isinstance(order, Grant):
            self._granted = order.request


async def publish(url: str, lines: AsyncIterator[str]) -> None:
    """Make each line a segment, and each word a piece of it."""
    settings = PublisherSettings(create=True, delete=True)
    async with TaskGroup() as tasks, aclosing(Publication(url, settings, tasks)) as publication:
        async for line in lines:
            await publication.write(f"{word} ".encode() for word in line.split())
            if publication.driver.ending is not None:
                break
    print(f"writing is over: {publication.driver.ending}, {publication.lost} segments lost")


async def subscribe(
    url: str, settings: SubscriberSettings, arrived: Callable[[int], None] = lambda _: None
) -> None:
    """Print what arrives, until the channel ends."""
    async with TaskGroup() as tasks, aclosing(Subscription(url, settings, tasks)) as subscription:
        while segment := await subscription.next_segment():
            words = b"".join([piece async for piece in subscription.pieces(segment)]).decode()
            broken = "(broken off)" if subscription.truncated else ""
            print(f"segment {segment.seq}, {segment.skipped} skipped: {words}{broken}")
            arrived(segment.seq)
    print(f"reading is over: {subscription.driver.ending}")


async def there_and_back(url: str) -> None:
    """Write some segments, each once the one before has arrived, and print them."""
    arrived = asyncio.Queue[int]()
    patient = SubscriberSettings(start=0, wait_for_channel=10.0)

    async def in_step() -> AsyncIterator[str]:
        for line in LINES:
            yield line
            async with asyncio.timeout(10.0):
                await arrived.get()

    async with TaskGroup() as both:
        both.create_task(subscribe(url, patient, arrived.put_nowait))
        both.create_task(publish(url, in_step()))


async def standard_input() -> AsyncIterator[str]:
    """Its lines. They are waited for on a thread: asyncio cannot wait for a file."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        yield line


async def main(url: str, role: str = "") -> None:
    """Do what the command line says. A channel is read from its first segment on; where that has
    left the window, the machine jumps to the live edge.
    """
    match role:
        case "publish":
            await publish(url, standard_input())
        case "subscribe":
            await subscribe(url, SubscriberSettings(start=0))
        case _:
            await there_and_back(url)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
