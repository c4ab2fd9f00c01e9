"""An ASGI app on Hypercorn, with what Hypercorn and quart-trio leave open mended.

Each mend has a test that fails without it. Seen with Hypercorn 0.18 and quart-trio 0.12:

1. When a response has ended, Hypercorn says "disconnect" to the app, and quart-trio takes that for the client's and
   cancels what Hypercorn still does behind the response: ``Connection: close`` never closes, and the idle time of a
   kept connection is never armed. ``Connection`` tells the two apart.
2. Hypercorn shields its sends, so a reader that stalls holds its task for good, and with it the shutdown.
   ``TCP_USER_TIMEOUT``, which accepted connections inherit from the listener, ends them while the service runs;
   at the end ``_cut_stragglers`` does.
3. ``RESPONSE_TIMEOUT`` would cut live responses at 60 s: they are sent with ``timeout = None`` (``live.py``).
4. A request's body has no back pressure: no media come that way, and ``MAX_CONTENT_LENGTH`` bounds it.
5. An exception in ``app.nursery`` ends the app's lifespan: nothing of ours runs there.
6. ``after_serving`` comes when the connections are gone already: streams are stopped in the shutdown trigger.
7. A kept connection ends after 5 s and 1,000 requests by default: ``KEEP_ALIVE`` and ``KEPT_REQUESTS``.
8. An answer that comes before the request's end closes the connection under a client that still sends, and so is lost:
   the rest of the request is read away first, for ``DRAIN`` seconds.
9. A connection that its client has closed is kept until its idle time is over, for nobody. ``_Peer`` takes the place of
   Hypercorn's own class, which its ``serve`` looks up in its module.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

import hypercorn.trio
import hypercorn.trio.run
import trio
from hypercorn.config import Config, Sockets
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.typing import (
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    ASGISendEvent,
    Framework,
)
from quart import Request
from quart.asgi import ASGIHTTPConnection
from quart_trio.asgi import TrioASGIHTTPConnection

KEEP_ALIVE: Final = 75.0
"""Seconds that a connection may be idle: longer than the minute after which most clients' pools drop theirs, because
the side that closes first should be the one that knows whether it is about to ask again."""

KEPT_REQUESTS: Final = 1_000_000

STALL_TIMEOUT: Final = 20.0
"""Seconds after which a peer that takes nothing is given up."""

GRACE: Final = 1.0
"""Seconds that answers in flight have at the end."""

LIFESPAN_TIMEOUT: Final = 10.0
"""Seconds that the app's own start and stop functions have."""

DRAIN: Final = 2.0
"""Seconds that the rest of a request may take when its answer is there already."""

BACKLOG: Final = 128

_FDS: Final = Path("/dev/fd")

logger = logging.getLogger("trickle_trio.service.http")


_LOOPBACKS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  nothing is bound by it


class Address(NamedTuple):
    """Where the service listens. As a string: its URL."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """The address as a browser on this machine takes it: a wildcard is no address."""
        host = _LOOPBACKS.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def __str__(self) -> str:
        return self.url


class Connection(TrioASGIHTTPConnection):
    """One request and its response.

    ``lifetime(request)`` is an exit stack for what the response needs until its last byte: it is left in the task that
    called the view, when the response has been sent or given up.
    """

    _ended = False

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Handle the request."""
        received = trio.Event()

        async def receive_and_note() -> ASGIReceiveEvent:
            message = await receive()
            if message["type"] != "http.request" or not message.get("more_body"):
                received.set()
            return message

        async def send_and_note(message: ASGISendEvent) -> None:
            if message["type"] == "http.response.start":
                with trio.move_on_after(DRAIN):
                    await received.wait()
            self._ended = message["type"] == "http.response.body" and not message.get("more_body")
            await send(message)

        await super().__call__(receive_and_note, send_and_note)

    async def handle_messages(  # type: ignore[override]  # quart-trio's own signature differs from Quart's
        self, nursery: trio.Nursery, request: Request, receive: ASGIReceiveCallable
    ) -> None:
        """Take the request's body in, and cancel the view when the client goes before its answer is sent."""
        await ASGIHTTPConnection.handle_messages(self, request, receive)
        if not self._ended:
            nursery.cancel_scope.cancel()

    async def handle_request(  # type: ignore[override]  # quart-trio's own signature differs from Quart's
        self, nursery: trio.Nursery, request: Request, send: ASGISendCallable
    ) -> None:
        """Call the view and send its response."""
        async with AsyncExitStack() as stack:
            setattr(request, _LIFETIME, stack)
            await super().handle_request(nursery, request, send)


_LIFETIME: Final = "_trickle_lifetime"


def lifetime(request: Request) -> AsyncExitStack:
    """Return the exit stack that is left when the response to this request has been sent or given up."""
    stack: AsyncExitStack = getattr(request, _LIFETIME)
    return stack


async def open_listener(
    host: str, port: int, *, stall_timeout: float = STALL_TIMEOUT
) -> socket.socket:
    """Bind and listen; port 0 takes a free one. Raises OSError that says in one line what is wrong."""
    try:
        found = await trio.socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        raise OSError(error.errno, f"cannot listen on {host!r}: {error.strerror}") from error
    # The first is enough; IPv4 first, because "localhost" is both and users type 127.0.0.1.
    family, _, _, _, where = min(found, key=lambda each: each[0] is not socket.AF_INET)
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        _bind(listener, where, stall_timeout)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {_reason(error)}") from error
    return listener


def _bind(listener: socket.socket, where: tuple[object, ...], stall_timeout: float) -> None:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sys.platform == "linux":
        listener.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(stall_timeout * 1000)
        )
    listener.bind(where)
    listener.listen(BACKLOG)
    listener.settimeout(0)


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use (port=0 takes a free one)"
    return error.strerror or str(error)


class _Peer(TCPServer):
    """A connection as Hypercorn serves it, which ends with its client."""

    _has_gone = False

    async def _read_data(self) -> None:
        await super()._read_data()
        self._has_gone = True
        await self.idle_task.stop()

    async def _idle_timeout(self) -> None:
        if not self._has_gone:
            await super()._idle_timeout()


hypercorn.trio.run.TCPServer = _Peer  # type: ignore[attr-defined]


class _Config(Config):
    """Hypercorn's settings around a socket that listens already."""

    def __init__(self, listener: socket.socket, *, keep_alive: float) -> None:
        self._listener = listener
        self.accesslog = None
        self.errorlog = logger
        self.backlog = BACKLOG
        self.graceful_timeout = GRACE
        self.include_server_header = False
        self.keep_alive_max_requests = KEPT_REQUESTS
        self.keep_alive_timeout = keep_alive
        self.startup_timeout = self.shutdown_timeout = LIFESPAN_TIMEOUT

    def create_sockets(self) -> Sockets:
        """Hand the socket over."""
        return Sockets([], [self._listener], [])


class _Quiet(logging.Filter):
    """Drops Hypercorn's own "Running on ...": the service says it once, in its words."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.INFO


logger.addFilter(_Quiet())


async def host(
    app: Framework,
    listener: socket.socket,
    until: Callable[[], Awaitable[None]],
    *,
    keep_alive: float = KEEP_ALIVE,
    task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve ``app`` on ``listener`` until ``until`` returns, then finish what is in flight and close everything.

    Reports the address once it accepts connections. ``until`` may still do things while the app answers: this is the
    place to end live responses. The end takes ``GRACE`` seconds at most. Cancelling is safe: everything is dropped.
    """
    name = listener.getsockname()
    address = Address(name[0], name[1])

    async def trigger() -> None:
        await until()
        nursery.start_soon(_cut_stragglers, address)

    with listener:
        async with trio.open_nursery() as nursery:
            server = hypercorn.trio.serve(
                app,
                _Config(listener, keep_alive=keep_alive),
                shutdown_trigger=trigger,
                task_status=_Started(address, task_status),
            )
            await server
            nursery.cancel_scope.cancel()


class _Started(trio.TaskStatus[list[str]]):
    """Reports our address in the place of Hypercorn's list."""

    def __init__(self, address: Address, status: trio.TaskStatus[Address]) -> None:
        self._address = address
        self._status = status

    def started(self, value: list[str] | None = None) -> None:
        self._status.started(self._address)


async def _cut_stragglers(address: Address) -> None:
    """Break the connections that are still there when the grace is over.

    Hypercorn offers no hold on them, and its sends cannot be cancelled; but the process' own table of descriptors says
    which sockets were accepted on our address, and a socket that is shut down wakes whoever waits for it.
    """
    await trio.sleep(GRACE)
    with suppress(FileNotFoundError):
        for connection in _accepted(address):
            with connection, suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def _accepted(address: Address) -> Iterator[socket.socket]:
    """Yield duplicates of the sockets in this process that were accepted on ``address``."""
    for entry in list(_FDS.iterdir()):
        with suppress(OSError):
            connection = _duplicate(int(entry.name))
            if _was_accepted_on(connection, address):
                yield connection
            else:
                connection.close()


def _duplicate(descriptor: int) -> socket.socket:
    """Make a socket of a copy of a descriptor; raises OSError where it is none, or gone."""
    copy = os.dup(descriptor)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise


def _was_accepted_on(connection: socket.socket, address: Address) -> bool:
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    try:
        connection.getpeername()
        here = connection.getsockname()
    except OSError:
        return False
    is_ours = address.host in _LOOPBACKS or here[0] == address.host
    return bool(is_ours and here[1] == address.port)


@contextmanager
def unwrapped() -> Iterator[None]:
    """Raise the only exception of a group in its place: who calls us need not know of the nurseries inside."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if error is group:
            raise
        raise error from error.__cause__
