"""The server: listens, keeps the relay's time, ends it well."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

import attrs
import trio
from attrs import define, field, frozen

from trickle_core.channel import Channel
from trickle_core.relay import Handled, Relay, RelayStatistics
from trickle_core.relay_settings import Policy, Refusal, RelayRequest, RelaySettings
from trickle_trio.relay.connection import Connection
from trickle_trio.relay.limits import ServerLimits
from trickle_trio.relay.links import Gone, open_link

LOGGER: Final = logging.getLogger(__name__)

FULL: Final = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


@frozen
class BoundRelay:
    """Where a relay listens. A channel's address is ``f"{url}/{name}"``."""

    host: str
    port: int
    url: str
    statistics: Callable[[], RelayStatistics] = field(eq=False, repr=False)
    """What it holds at the moment."""
    channels: Mapping[str, Channel] = field(eq=False, repr=False)
    """The channels by name, as they are at any moment: to be looked at, not touched."""


async def serve_relay(
    *,
    host: str = "127.0.0.1",
    port: int = 3389,
    settings: RelaySettings = RelaySettings(),  # noqa: B008 - frozen
    limits: ServerLimits = ServerLimits(),  # noqa: B008 - frozen
    ssl_context: ssl.SSLContext | None = None,
    task_status: trio.TaskStatus[BoundRelay] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve a relay until cancelled, which ends it well: readers get what is there, waiting ones
    are told that their channel has ended, within ``limits.farewell``. Raises OSError where it
    cannot listen. ``port`` 0 takes a free one; ``task_status`` reports it once it listens.
    """
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        reason = f"cannot listen on {host}:{port}: {error.strerror}"
        raise OSError(error.errno, reason) from error
    try:
        await _Server(settings, limits, ssl_context).run(listeners, task_status)
    except BaseExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        raise group.exceptions[0] from None
    finally:
        for listener in listeners:
            listener.socket.close()


def _guarded(policy: Policy | None) -> Policy | None:
    """The named boundary to the operator's code: what it raises is told to the log, and to the
    client as a 500.
    """
    if policy is None:
        return None

    def consult(request: RelayRequest, name: str) -> Refusal | None:
        try:
            return policy(request, name)
        except Exception:
            LOGGER.exception("the relay's policy failed for channel %r", name)
            return Refusal(500, "The relay's policy failed")

    return consult


@define(eq=False)
class _Server:
    """One relay and its connections. The ``Desk`` of every connection."""

    settings: RelaySettings
    limits: ServerLimits
    _ssl_context: ssl.SSLContext | None
    _relay: Relay = field(init=False)
    _connections: dict[Connection, None] = field(factory=dict, init=False)
    _pushes: list[Callable[[], None]] = field(factory=list, init=False)
    _ended: trio.Event = field(factory=trio.Event, init=False)
    _alarm: trio.CancelScope = field(factory=trio.CancelScope, init=False)

    def __attrs_post_init__(self) -> None:
        settings = attrs.evolve(
            self.settings,
            before_create=_guarded(self.settings.before_create),
            before_delete=_guarded(self.settings.before_delete),
        )
        self._relay = Relay(settings)

    async def run(
        self, listeners: Sequence[trio.SocketListener], task_status: trio.TaskStatus[BoundRelay]
    ) -> None:
        shelter_in, shelter_out = trio.open_memory_channel[trio.Nursery](1)
        async with trio.open_nursery() as nursery:
            # Not nursery.start(): cancelled, it waits for what it has started, and that is shielded.
            nursery.start_soon(self._shelter, shelter_in)
            nursery.start_soon(self._keep_time)
            try:
                shelter = await shelter_out.receive()
                task_status.started(self._bound(listeners[0]))
                await trio.serve_listeners(self._welcome, list(listeners), handler_nursery=shelter)
            finally:
                self._ended.set()
                for listener in listeners:  # serve_listeners does so, where it was reached
                    listener.socket.close()

    def _bound(self, listener: trio.SocketListener) -> BoundRelay:
        host, port = listener.socket.getsockname()[:2]
        scheme = "http" if self._ssl_context is None else "https"
        authority = f"[{host}]" if ":" in host else host
        url = f"{scheme}://{authority}:{port}{self.settings.base_path}".rstrip("/")
        return BoundRelay(host, port, url, self._relay.statistics, self._relay.channels)

    async def _shelter(self, ready: trio.MemorySendChannel[trio.Nursery]) -> None:
        """Hold the connections, so that they outlive the server's cancellation by a farewell."""
        with trio.CancelScope(shield=True) as scope:
            async with trio.open_nursery() as nursery:
                ready.send_nowait(nursery)
                await self._ended.wait()
                scope.deadline = trio.current_time() + self.limits.farewell
                self._relay.close(trio.current_time())
                self.relay_moved()
                for connection in self._connections:
                    connection.farewell()

    async def _keep_time(self) -> None:
        while True:
            with trio.CancelScope(deadline=self._relay.deadline()) as self._alarm:
                await trio.sleep_forever()
            self._relay.handle_timeout(trio.current_time())
            self.relay_moved()

    async def _welcome(self, stream: trio.SocketStream) -> None:
        """Serve one client: what fails in it ends it alone."""
        try:
            await self._serve(stream)
        except Gone:
            return
        except Exception:
            LOGGER.exception("a fault of the relay's: one connection is dropped")

    async def _serve(self, stream: trio.SocketStream) -> None:
        if self.ending or len(self._connections) >= self.limits.max_connections:
            await self._turn_away(stream)
            return
        link = await open_link(
            stream,
            self._ssl_context,
            handshake_timeout=self.limits.header_timeout,
            write_timeout=self.limits.write_timeout,
        )
        connection = Connection(link, self)
        self._connections[connection] = None
        try:
            await connection.serve()
            await link.part()
        finally:
            del self._connections[connection]
            link.close()

    async def _turn_away(self, stream: trio.SocketStream) -> None:
        if self._ssl_context is None:
            with trio.move_on_after(self.limits.close_delay), suppress(trio.BrokenResourceError):
                await stream.send_all(FULL)

    @property
    def ending(self) -> bool:
        """See ``Desk``."""
        return self._ended.is_set()

    def handle(self, request: RelayRequest) -> Handled:
        """See ``Desk``."""
        handled = self._relay.handle(request, trio.current_time())
        self.relay_moved()
        return handled

    def relay_moved(self) -> None:
        """See ``Desk``."""
        self._alarm.deadline = self._relay.deadline()
        pushes, self._pushes = self._pushes, []
        for push in pushes:
            push()

    def note(self, push: Callable[[], None]) -> None:
        """See ``Desk``."""
        self._pushes.append(push)
