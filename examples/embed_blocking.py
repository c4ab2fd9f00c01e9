"""The protocol core driven by blocking sockets: ``http.client``, and a thread for each request.

    python embed_blocking.py http://127.0.0.1:3389/words               a few segments, there and back
    python embed_blocking.py http://127.0.0.1:3389/words publish       each line of stdin a segment
    python embed_blocking.py http://127.0.0.1:3389/words subscribe     print what arrives

Needs the standard library, attrs and ``trickle_core``. What to ask for, when, and what an answer
means is decided by the two machines of the core. Here their orders are carried out and what came of
them is reported, nothing else; docs/embedding.md goes through it step by step.

Left out: TLS. Keeping connections: each request has one of its own, which costs a live stream no
time, since its next request is always open ahead of its data. A limit to how long a server may
refuse to take bytes, and TCP keep-alive, without which a server that lost its power is noticed only
by a waiting GET. Reading segments ahead of whoever wants them.
"""

from __future__ import annotations

import queue
import random
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from socket import SHUT_RDWR
from urllib.parse import urlsplit

from attrs import define

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


@define(eq=False)
class Exchange:
    """One request under way. Its own thread sends the head and waits for the answer's; the user's
    thread sends the body of a POST meanwhile, or reads what a GET brought afterwards.
    """

    number: int
    connection: HTTPConnection
    ready: bool = False
    """The head has left: a body can follow."""
    bytes_sent: int = 0
    response: HTTPResponse | None = None

    def send_head(self, method: str, path: str, headers: dict[str, str]) -> None:
        """Send the request's head. Blocks."""
        self.connection.auto_open = 0  # once hung up, it must not be made anew
        self.connection.sock.settimeout(None)
        self.connection.putrequest(method, path)
        for name, value in headers.items():
            self.connection.putheader(name, value)
        self.connection.endheaders()

    def wait_for_head(self) -> ResponseStarted:
        """Wait for the answer's head, and any number of ``100 Continue`` before it."""
        if not self.ready:
            raise ConnectionAbortedError("hung up while it was made")
        self.response = response = self.connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return ResponseStarted(self.number, response.status, headers, self.bytes_sent)

    def send(self, piece: bytes) -> None:
        """Send a chunk; an empty one ends the body. Blocks while the server does not take it.

        Nothing is raised where that fails: the thread that waits for the answer notices too.
        """
        with suppress(OSError, HTTPException):
            self.connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))

    def hang_up(self) -> None:
        """Give the request up. A thread that waits in it is woken, and closes it."""
        if self.response is not None:
            self.close()
        elif self.connection.sock is not None:
            with suppress(OSError):
                self.connection.sock.shutdown(SHUT_RDWR)

    def close(self) -> None:
        """Close the connection, which nobody waits in."""
        self.connection.close()
        if self.response is not None:
            self.response.close()


class Driver:
    """Between a machine and the network.

    Whoever sees something, a request's thread, the clock's or the user's, gives it to the machine
    itself and carries out what is ordered, all under the lock of ``news``. Carrying out an order
    does not wait, and gives the machine nothing.
    """

    def __init__(
        self, url: str, machine: Subscriber | Publisher, obey: Callable[[Command], None]
    ) -> None:
        """``obey``: is given the orders that concern the machine's user."""
        self.news = threading.Condition()
        """Notified after each input."""
        self.exchanges: dict[int, Exchange] = {}
        """The requests that the machine has not given up and has not been told the end of."""
        self.ending: Ending | None = None
        self._url = urlsplit(url)
        self._machine = machine
        self._obey = obey
        self.input(machine.start)
        threading.Thread(target=self._keep_time).start()

    def input(self, machine_input: Callable[[float], list[Command]]) -> None:
        """Give the machine an input and do as it says."""
        with self.news:
            for order in machine_input(time.monotonic()):
                self._carry_out(order)
            self.news.notify_all()

    def report(self, exchange: Exchange, event: Event) -> None:
        """Tell the machine what became of a request, unless it has given it up."""
        with self.news:
            if exchange.number not in self.exchanges:
                exchange.close()
                return
            if not isinstance(event, ResponseStarted):
                self.exchanges.pop(exchange.number).close()
            self.input(lambda now: self._machine.receive(event, now))

    def read(self, number: int) -> bytes:
        """The next bytes of an answer's body; none at its end, whole or broken. Blocks."""
        exchange = self.exchanges.get(number)
        if exchange is None or exchange.response is None:
            return b""
        event: Event = RequestFinished(number)
        try:
            if piece := exchange.response.read1(65_536):
                return piece
            if exchange.response.length:  # http.client tells where a chunk breaks, but not this
                event = RequestFailed(number, Cause.BROKEN)
        except (OSError, HTTPException):
            event = RequestFailed(number, Cause.BROKEN)
        self.report(exchange, event)
        return b""

    def _keep_time(self) -> None:
        with self.news:
            while self.ending is None:
                left = self._machine.deadline() - time.monotonic()
                if left <= 0:
                    self.input(self._machine.handle_timeout)
                else:
                    self.news.wait(min(left, threading.TIMEOUT_MAX))

    def _carry_out(self, order: Command) -> None:
        match order:
            case OpenGet() | AskNext() | Create() | OpenPost() | Delete():
                connection = HTTPConnection(self._url.netloc, timeout=CONNECT_TIMEOUT)
                exchange = Exchange(order.request, connection)
                self.exchanges[order.request] = exchange
                threading.Thread(target=self._run, args=(exchange, order)).start()
            case EndBody(number):
                self.exchanges[number].send(b"")
            case Abort(number) | Discard(number):
                # Whoever keeps connections reads a discarded answer away instead.
                if number in self.exchanges:
                    self.exchanges.pop(number).hang_up()
            case Finish(ending):
                self.ending = ending
            case _:
                self._obey(order)

    def _run(self, exchange: Exchange, order: Request) -> None:
        """In the request's own thread: report the head of its answer, or its failure."""
        cause = Cause.REFUSED
        try:
            exchange.connection.connect()
            cause = Cause.BROKEN
            exchange.send_head(*request_of(order, self._url.path))
            with self.news:
                exchange.ready = exchange.number in self.exchanges
                self.news.notify_all()
            event: Event = exchange.wait_for_head()
        except (OSError, HTTPException):
            event = RequestFailed(exchange.number, cause, exchange.bytes_sent)
        self.report(exchange, event)


def request_of(order: Request, channel: str) -> tuple[str, str, dict[str, str]]:
    """What an order puts on the wire: method, path, headers."""
    match order:
        case OpenGet(_, seq):
            return "GET", f"{channel}/{seq}", {}
        case AskNext():
            return "GET", f"{channel}/{wire.NEXT}", {}
        case Create():
            return "POST", channel, {wire.EXPECT_CONTENT: MIME_TYPE, "Content-Length": "0"}
        case OpenPost(_, seq, reset):
            headers = {"Content-Type": MIME_TYPE, "Transfer-Encoding": "chunked"}
            return "POST", f"{channel}/{seq}", headers | ({wire.RESET: "1"} if reset else {})
        case Delete(_, seq):
            return "DELETE", channel if seq is None else f"{channel}/{seq}", {}


class Subscription:
    """Reads a channel, for one thread."""

    def __init__(self, url: str, settings: SubscriberSettings) -> None:
        self.truncated = False
        """The segment at hand broke off."""
        self._delivered: Deliver | None = None
        self._machine = Subscriber(settings, jitter=random.random)
        self.driver = Driver(url, self._machine, self._obey)

    def next_segment(self) -> Deliver | None:
        """Leave the segment at hand and wait for the next; None: it is over."""
        with self.driver.news:
            if self._machine.reader is not Reader.AWAY:
                self.driver.input(self._machine.drop_segment)
            self._delivered, self.truncated = None, False
            if self.driver.ending is None:
                self.driver.input(self._machine.want_segment)
            self.driver.news.wait_for(lambda: self._delivered or self.driver.ending)
            return self._delivered

    def pieces(self, segment: Deliver) -> Iterator[bytes]:
        """The bytes of the segment at hand, as they arrive."""
        while piece := self.driver.read(segment.request):
            yield piece

    def close(self) -> None:
        """Leave. Does not block."""
        self.driver.input(self._machine.close)

    def _obey(self, order: Command) -> None:
        match order:
            case Deliver():
                self._delivered = order
            case Truncate():
                self.truncated = True


class Publication:
    """Writes a channel, for one thread."""

    def __init__(self, url: str, settings: PublisherSettings) -> None:
        self._granted = -1
        self._machine = Publisher(settings, jitter=random.random)
        self.driver = Driver(url, self._machine, self._obey)

    @property
    def lost(self) -> int:
        """Segments that the server never confirmed."""
        return self._machine.lost

    def write(self, pieces: Iterable[bytes]) -> None:
        """Write a segment. Blocks while there is no connection, and while the server takes no
        bytes. Nothing is raised where it is lost; once it is over, nothing is written.
        """
        if self.driver.ending is not None:
            return
        self.driver.input(self._machine.begin_segment)
        try:
            for piece in filter(None, pieces):  # an empty chunk would end the body
                self._send(piece)
        except BaseException:  # half a segment must not be ended as if it were whole
            self.driver.input(self._machine.drop_segment)
            raise
        with self.driver.news:
            self.driver.news.wait_for(self._decided)
            if self._machine.writer is not Writer.WAITING:
                self.driver.input(self._machine.end_segment)

    def close(self) -> None:
        """Leave. Blocks until the last segments are confirmed, which the machine bounds."""
        self.driver.input(self._machine.close)
        with self.driver.news:
            self.driver.news.wait_for(lambda: self.driver.ending)

    def _send(self, piece: bytes) -> None:
        with self.driver.news:
            self.driver.news.wait_for(self._decided)
            if self._machine.writer is not Writer.WRITING:
                return  # the rest of a lost segment
            exchange = self.driver.exchanges[self._granted]
            # Before they leave: counted too late, a second POST could append to what arrived.
            exchange.bytes_sent += len(piece)
        exchange.send(piece)

    def _decided(self) -> bool:
        """Whether there is a connection to write to, or there will be none."""
        if self._machine.writer is Writer.WRITING:
            return self.driver.exchanges[self._granted].ready
        return self._machine.writer is Writer.BEREFT or self.driver.ending is not None

    def _obey(self, order: Command) -> None:
        if isinstance(order, Grant):
            self._granted = order.request


def say(line: str) -> None:
    """Print a line in one go: ``print`` writes its end by itself, and two threads say something."""
    sys.stdout.write(f"{line}\n")


def publish(url: str, lines: Iterable[str]) -> None:
    """Make each line a segment, and each word a piece of it."""
    settings = PublisherSettings(create=True, delete=True)
    with closing(Publication(url, settings)) as publication:
        for line in lines:
            publication.write(f"{word} ".encode() for word in line.split())
            if publication.driver.ending is not None:
                break
    say(f"writing is over: {publication.driver.ending}, {publication.lost} segments lost")


def subscribe(
    url: str, settings: SubscriberSettings, arrived: Callable[[int], None] = lambda _: None
) -> None:
    """Print what arrives, until the channel ends."""
    with closing(Subscription(url, settings)) as subscription:
        while segment := subscription.next_segment():
            words = b"".join(subscription.pieces(segment)).decode()
            broken = "(broken off)" if subscription.truncated else ""
            say(f"segment {segment.seq}, {segment.skipped} skipped: {words}{broken}")
            arrived(segment.seq)
    say(f"reading is over: {subscription.driver.ending}")


def there_and_back(url: str) -> None:
    """Write some segments, each once the one before has arrived, and print them."""
    arrived = queue.SimpleQueue[int]()
    patient = SubscriberSettings(start=0, wait_for_channel=10.0)
    reading = threading.Thread(target=subscribe, args=(url, patient, arrived.put))
    reading.start()

    def in_step() -> Iterator[str]:
        for line in LINES:
            yield line
            arrived.get(timeout=10.0)

    publish(url, in_step())


def main(url: str, role: str = "") -> None:
    """Do what the command line says. A channel is read from its first segment on; where that has
    left the window, the machine jumps to the live edge.
    """
    match role:
        case "publish":
            publish(url, sys.stdin)
        case "subscribe":
            subscribe(url, SubscriberSettings(start=0))
        case _:
            there_and_back(url)


if __name__ == "__main__":
    main(*sys.argv[1:3])
