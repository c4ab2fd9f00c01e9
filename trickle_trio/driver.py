"""Between a client machine of the core and the network: its orders become requests, what they meet
becomes its events.

The machine decides synchronously, wherever an input comes from: Trio runs one task at a time, so no
inbox and no second task stand between a fact and its consequence. (An inbox with a task behind it
was tried first; each event then cost a task switch, and the reader of a broken segment had to wait
for a verdict that is a plain return value here.) Only time needs a task of its own, ``keep_time``.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, Protocol

import httpx
import trio
from attrs import define, field, frozen

from trickle_core import wire
from trickle_core.commands import (
    Abort,
    AskNext,
    Command,
    Create,
    Delete,
    Discard,
    EndBody,
    Ending,
    OpenGet,
    OpenPost,
)
from trickle_core.events import Cause, Event, RequestFailed, RequestFinished, ResponseStarted
from trickle_trio.transport import BareRequest, PushedBody, RequestKind, TrickleTransport

SHORT_BODY: Final = 65_536
"""Bytes of an unwanted answer that are read away to keep its connection; beyond that a new
connection is cheaper."""

DRAIN_TIME: Final = 1.0
"""Seconds that such reading may take."""

MAX_PORT: Final = 65_535

_TIMEOUTS: Final = httpx.Timeout(connect=10.0, read=None, write=20.0, pool=None)
"""No read timeout: a preconnected GET is unanswered for as long as the publisher is silent."""

NO_BODY: Final = httpx.ByteStream(b"")


@frozen
class Reply:
    """An answer: its head, and its body as it arrives. ``headers`` has lower-case names: httpx's own
    mapping searches a list each time. ``close`` is quick; a cancelled call has closed it too.
    ``whole``: no byte of the body is still to come.
    """

    status: int
    headers: dict[str, str]
    pieces: AsyncIterator[bytes]
    close: Callable[[], Awaitable[None]]
    whole: bool = False


Send = Callable[[httpx.Request], Awaitable[Reply]]


UNAUTHORIZED: Final = 401


class ChannelEnded(Exception):
    """The channel cannot be used any more: ``ending`` says why, ``status`` is the server's answer,
    if there was one.
    """

    def __init__(self, url: str, ending: Ending, status: int | None = None) -> None:
        super().__init__(url, ending, status)
        self.url = url
        self.ending = ending
        self.status = status

    def __str__(self) -> str:
        """One line for a user."""
        answer = f" (status {self.status})" if self.status is not None else ""
        hint = (
            ": it asks for a bearer token, or for another one"
            if self.status == UNAUTHORIZED
            else ""
        )
        return f"{self.url}: {self.ending.value}{answer}{hint}"


class Machine(Protocol):
    """What a driver needs of a machine, beyond the inputs that its own user gives."""

    def receive(self, event: Event, now: float) -> list[Command]:
        """Take in an event."""

    def deadline(self) -> float:
        """When ``handle_timeout`` is due."""

    def handle_timeout(self, now: float) -> list[Command]:
        """The deadline has come."""


@define(eq=False)
class Exchange:
    """One request that is under way."""

    number: int
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    body: PushedBody | None = None
    reply: Reply | None = None
    unwanted: bool = False
    """The answer is to be read away, by the task that has just reported its head."""

    @property
    def bytes_sent(self) -> int:
        """Bytes of the request's body that may have left."""
        return self.body.taken if self.body else 0

    def answered(self) -> Reply:
        """The answer, which is there."""
        assert self.reply is not None, "only an answered request is read"  # noqa: S101
        return self.reply

    async def close(self) -> None:
        """Close what is open of the answer."""
        if self.reply is not None:
            await self.reply.close()


class Make(Protocol):
    """How requests of one channel are made: the method, what follows the channel's address."""

    def __call__(
        self, method: str, part: str, headers: Mapping[str, str], body: PushedBody | None = None
    ) -> httpx.Request:
        """Make one."""


@frozen
class Requests:
    """How the requests of one channel are made and sent."""

    url: str
    mime_type: str
    make: Make
    send: Send

    def of(self, order: Command, body: PushedBody | None) -> httpx.Request:
        """Build the request that an order asks for."""
        match order:
            case OpenGet(seq=seq):
                return self.make("GET", f"/{seq}", {})
            case OpenPost(seq=seq, reset=reset):
                headers = {"content-type": self.mime_type, **({wire.RESET: "1"} if reset else {})}
                return self.make("POST", f"/{seq}", headers, body)
            case AskNext():
                return self.make("GET", f"/{wire.NEXT}", {})
            case Create():
                return self.make("POST", "", {wire.EXPECT_CONTENT: self.mime_type})
            case Delete(seq=seq):
                return self.make("DELETE", "" if seq is None else f"/{seq}", {})
            case _:
                raise TypeError(f"no request: {order!r}")


@frozen
class Access:
    """How a channel's server is reached: through a client of the user's, and with which bearer token."""

    client: httpx.AsyncClient | None = None
    token: str | None = field(default=None, repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """What each request carries. ``ValueError``: no header can carry the token."""
        return {} if self.token is None else {"authorization": wire.bearer(self.token)}


@define
class BareRequests:
    """Makes requests for a transport that is called directly, and sends them. ``common``: headers of
    all of them.
    """

    url: httpx.URL
    transport: TrickleTransport
    common: Mapping[str, str]
    _kinds: dict[tuple[str, bool, tuple[str, ...]], RequestKind] = field(factory=dict, init=False)

    def __call__(
        self, method: str, part: str, headers: Mapping[str, str], body: PushedBody | None = None
    ) -> httpx.Request:
        """See ``Make``."""
        key = (method, body is not None, tuple(headers))
        kind = self._kinds.get(key)
        if kind is None:
            has_body = body is not None
            every = {**self.common, **headers}
            kind = RequestKind.of(method, self.url, every, _TIMEOUTS, has_body=has_body)
            self._kinds[key] = kind
        return BareRequest(kind, self.url.raw_path + part.encode(), body or NO_BODY)

    async def send(self, request: httpx.Request) -> Reply:
        """See ``Send``."""
        exchange = await self.transport.exchange(request)
        head = exchange.head
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in head.headers}
        return Reply(head.status_code, headers, exchange, exchange.aclose, exchange.is_whole())


@frozen
class ClientRequests:
    """Makes requests as the user's client makes them."""

    client: httpx.AsyncClient
    url: str
    common: Mapping[str, str]

    def __call__(
        self, method: str, part: str, headers: Mapping[str, str], body: PushedBody | None = None
    ) -> httpx.Request:
        """See ``Make``."""
        url, every = f"{self.url}{part}", {**self.common, **headers}
        return self.client.build_request(
            method, url, headers=every, content=body, timeout=_TIMEOUTS
        )

    async def send(self, request: httpx.Request) -> Reply:
        """See ``Send``."""
        response = await self.client.send(request, stream=True)
        raw = response.headers.raw
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in raw}
        pieces = aiter(response.stream)  # type: ignore[arg-type]  # of an AsyncClient
        return Reply(response.status_code, headers, pieces, partial(_close, pieces, response))


async def _close(pieces: AsyncIterator[bytes], response: httpx.Response) -> None:
    if isinstance(pieces, AsyncGenerator):
        await pieces.aclose()
    await response.aclose()


class Driver:
    """Carries a machine's orders out, and tells it what came of them.

    ``order`` is called with the orders that concern the machine's own user: ``Deliver``, ``Grant``,
    ``Finish`` ..., and with those that end a request.
    """

    def __init__(self, machine: Machine, room: Room, order: Callable[[Command], None]) -> None:
        self._machine = machine
        self._requests = room.requests
        self._nursery = room.nursery
        self._order = order
        self._exchanges: dict[int, Exchange] = {}
        self._alarm = math.inf
        self._earlier = trio.Event()

    def input(self, machine_input: Callable[[float], list[Command]]) -> None:
        """Give the machine an input, and carry out what it orders. Does not block."""
        for order in machine_input(trio.current_time()):
            self._carry_out(order)
        self._keep_alarm()

    def _keep_alarm(self) -> None:
        if self._machine.deadline() < self._alarm:
            self._earlier.set()

    def report(self, event: Event) -> None:
        """Tell the machine what was seen. Does not block."""
        for order in self._machine.receive(event, trio.current_time()):
            self._carry_out(order)
        self._keep_alarm()

    async def keep_time(self) -> None:
        """Wait for the machine's deadlines, for ever."""
        while True:
            self._alarm = self._machine.deadline()
            self._earlier = trio.Event()
            with trio.move_on_at(self._alarm) as sleep:
                await self._earlier.wait()
            if sleep.cancelled_caught:
                self.input(self._machine.handle_timeout)

    def header(self, number: int, name: str) -> str:
        """What an answer says under this name, in lower case; empty where it says nothing."""
        return self._exchanges[number].answered().headers.get(name, "")

    def body(self, number: int) -> PushedBody:
        """The body of an open POST."""
        body = self._exchanges[number].body
        assert body is not None, "only a POST is granted"  # noqa: S101
        return body

    async def read(self, number: int) -> bytes:
        """The next piece of an answer's body; ``b""`` at its end, whole or broken.

        Blocks until something arrives. A cancelled call gives the rest of the body up.
        """
        exchange = self._exchanges.get(number)
        if exchange is None:
            return b""
        try:
            async for piece in exchange.answered().pieces:
                return piece
        except (httpx.TransportError, httpx.StreamError):
            self._give_up(number)
            return b""
        except BaseException:
            self._give_up(number)
            raise
        await exchange.close()
        self._drop(exchange)
        self.report(RequestFinished(number))
        return b""

    def _give_up(self, number: int) -> None:
        self._abort(number)
        self.report(RequestFailed(number, Cause.BROKEN))

    def _carry_out(self, order: Command) -> None:
        match order:
            case OpenGet(number) | AskNext(number) | Create(number) | Delete(number):
                self._open(Exchange(number), order)
            case OpenPost(number):
                self._open(Exchange(number, body=PushedBody()), order)
            case EndBody(number):
                self.body(number).end()
            case Discard(number):
                self._discard(number)
                self._order(order)
            case Abort(number):
                self._abort(number)
                self._order(order)
            case _:
                self._order(order)

    def _open(self, exchange: Exchange, order: Command) -> None:
        self._exchanges[exchange.number] = exchange
        self._nursery.start_soon(self._run, exchange, self._requests.of(order, exchange.body))

    async def _run(self, exchange: Exchange, request: httpx.Request) -> None:
        """Send a request and report what comes first, the head of its answer or its failure."""
        with exchange.scope:
            try:
                reply = await self._requests.send(request)
            except httpx.TransportError as error:
                event = RequestFailed(exchange.number, _cause(error), exchange.bytes_sent)
                self._drop(exchange)
                self.report(event)
                return
            exchange.reply = reply
            if exchange.number not in self._exchanges:  # aborted in the same instant
                await exchange.close()
                return
            head = (exchange.number, reply.status, reply.headers)
            self.report(ResponseStarted(*head, exchange.bytes_sent))
            if exchange.unwanted and reply.whole:
                await exchange.close()
            elif exchange.unwanted:
                exchange.scope.deadline = trio.current_time() + DRAIN_TIME
                await _read_away(exchange)

    def _drop(self, exchange: Exchange) -> None:
        self._exchanges.pop(exchange.number, None)
        if exchange.body:
            exchange.body.break_off()

    def _abort(self, number: int) -> None:
        exchange = self._exchanges.get(number)
        if exchange is None:
            return
        self._drop(exchange)
        exchange.scope.cancel()
        self._nursery.start_soon(exchange.close)

    def _discard(self, number: int) -> None:
        exchange = self._exchanges[number]
        self._drop(exchange)
        exchange.unwanted = True


async def _read_away(exchange: Exchange) -> None:
    size = 0
    try:
        async for piece in exchange.answered().pieces:
            size += len(piece)
            if size > SHORT_BODY:
                break
    except httpx.TransportError:
        pass  # it was unwanted, and its connection is gone either way
    finally:
        await exchange.close()


def _cause(error: httpx.TransportError) -> Cause:
    if isinstance(error, httpx.ConnectError | httpx.UnsupportedProtocol):
        return Cause.REFUSED
    if isinstance(error, httpx.TimeoutException):
        return Cause.TIMED_OUT
    return Cause.BROKEN


@asynccontextmanager
async def open_requests(url: str, mime_type: str, access: Access) -> AsyncIterator[Requests]:
    """The requests of one channel: over the user's client, or over connections of its own."""
    address, common = channel_url(url), access.headers
    if access.client is not None:
        through = ClientRequests(access.client, address, common)
        yield Requests(address, mime_type, through, through.send)
        return
    async with TrickleTransport() as transport:
        bare = BareRequests(httpx.URL(address), transport, common)
        yield Requests(address, mime_type, bare, bare.send)


@frozen
class Room:
    """Where one channel's requests live: how they are made, and the nursery of their tasks."""

    requests: Requests
    nursery: trio.Nursery


@asynccontextmanager
async def open_room(url: str, mime_type: str, access: Access) -> AsyncIterator[Room]:
    """A room that a cancellation outside does not reach: it ends when the block does, however that
    ends.

    So the block's own ``finally`` can still say goodbye over connections that work. What the block
    raises comes out bare.
    """
    async with open_hidden_nursery() as outer:
        shield = trio.CancelScope(shield=True)
        ready_in, ready_out = trio.open_memory_channel[Room](1)
        # Not outer.start(): cancelled, it waits for what it has started, and that is shielded.
        outer.start_soon(_keep_room, shield, ready_in, url, mime_type, access)
        try:
            yield await ready_out.receive()
        finally:
            shield.cancel()


async def _keep_room(
    shield: trio.CancelScope,
    ready: trio.MemorySendChannel[Room],
    url: str,
    mime_type: str,
    access: Access,
) -> None:
    with shield:
        async with open_requests(url, mime_type, access) as requests, trio.open_nursery() as tasks:
            ready.send_nowait(Room(requests, tasks))
            await trio.sleep_forever()


def channel_url(url: str) -> str:
    """Check a channel's address. ``ValueError`` says what is wrong with it."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise ValueError(f"{url!r} is no channel address: {error}") from None
    host_is_odd = not parsed.host or "%" in parsed.host or (parsed.port or 0) > MAX_PORT
    if parsed.scheme not in ("http", "https") or host_is_odd:
        raise ValueError(f"{url!r} is no channel address: http://host:port/name is expected")
    if parsed.path.strip("/") == "":
        raise ValueError(f"{url!r} names no channel: http://host:port/name is expected")
    if parsed.query or parsed.fragment:
        raise ValueError(f"{url!r} is no channel address: it has a query or a fragment")
    return str(parsed).rstrip("/")


@asynccontextmanager
async def open_hidden_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery inside an API that does not show it: what one task or the body raises comes out
    bare.
    """
    single: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        if len(group.exceptions) != 1:
            raise
        single = group.exceptions[0]
    if single is not None:
        raise single  # outside of the handler, so that the group is not shown as its context
