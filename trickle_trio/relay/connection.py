"""One client's connection: requests in, answers out, one after the other.

One task serves a connection. Where it waits for the relay (more of a segment, the answer to a
preconnected POST), it reads from the client at the same time, so that a client that leaves is
noticed at once; the relay's waker interrupts that (see bell.py).
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final, Protocol

import h11
import trio

from trickle_core import wire
from trickle_core.answer import Answer, text
from trickle_core.relay import Handled
from trickle_core.relay_settings import RelayRequest
from trickle_core.window.reader import Reader
from trickle_core.window.states import NEED_ROOM, WriterState
from trickle_core.window.writer import Writer
from trickle_trio.relay.bell import Bell
from trickle_trio.relay.limits import ServerLimits
from trickle_trio.relay.links import Gone, Link
from trickle_trio.relay.outlet import Outlet, Pushes
from trickle_trio.relay.phrasing import Phrasing

EVENTS_AT_ONCE: Final = 64

SILENT: Final = text(408, "The request did not come in time").closing()
BODY_TOO_LARGE: Final = text(413, "The request has no use for such a body").closing()


class Desk(Pushes, Protocol):
    """What a connection needs of the server."""

    limits: ServerLimits

    @property
    def ending(self) -> bool:
        """Whether each answer is its connection's last."""
        ...

    def handle(self, request: RelayRequest) -> Handled:
        """Ask the relay."""
        ...

    def relay_moved(self) -> None:
        """To be called after each input: the deadline may be another, and pushes be noted."""
        ...


class Connection:
    """Serve it once; it closes nothing."""

    def __init__(self, link: Link, desk: Desk) -> None:
        self._link = link
        self._desk = desk
        self._http = h11.Connection(h11.SERVER, desk.limits.max_header_bytes)
        self._phrasing = Phrasing(self._http, lambda: desk.ending)
        self._bell = Bell()
        self._between: trio.CancelScope | None = None
        self._patience = desk.limits.header_timeout
        self._read_ahead = 0
        self._last_finished: Reader | None = None

    async def serve(self) -> None:
        """Answer requests until the client or a limit ends it. Raises nothing for what a client
        does. Cancelling is safe: what was being written counts as broken off.
        """
        try:
            with suppress(Gone):
                await self._serve_requests()
        finally:
            if self._last_finished is not None:
                self._last_finished.client_left()

    def farewell(self) -> None:
        """Hang up if no request is under way; else with its answer."""
        if self._between is not None:
            self._between.cancel()

    async def _serve_requests(self) -> None:
        try:
            while await self._serve_request() and not self._desk.ending:
                self._http.start_next_cycle()
        except h11.RemoteProtocolError as error:
            await self._complain(error.error_status_hint)

    async def _serve_request(self) -> bool:
        request = await self._next_request()
        if request is None:
            return False
        handled = self._desk.handle(request)
        if isinstance(handled, Reader):
            await self._give(handled)
        elif isinstance(handled, Writer):
            await self._send_answer(await self._take(handled))
        else:
            await self._send_answer(await self._once_read(handled))
        return await self._may_go_on()

    # The request

    async def _next_request(self) -> RelayRequest | None:
        event: h11.Event | None = None
        with trio.move_on_after(self._patience) as self._between:
            event = await self._next_event()
        self._between = None
        self._patience = self._desk.limits.keep_alive_timeout
        if isinstance(event, h11.Request):
            self._phrasing.asked(event)
            return _relay_request(event)
        if event is None and self._http.trailing_data[0]:
            await self._send_answer(SILENT)
            await self._linger()
        return None

    async def _next_event(self) -> h11.Event:
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Event):
                return event
            if self._http.they_are_waiting_for_100_continue:
                await self._say_continue()
            await self._receive()

    async def _receive(self) -> None:
        data = await self._link.receive()
        self._http.receive_data(data)
        between = self._between
        if between is not None:
            patience = self._desk.limits.header_timeout
            between.deadline = min(between.deadline, trio.current_time() + patience)

    async def _once_read(self, answer: Answer) -> Answer:
        """The answer, once the request's useless body is out of the way."""
        return answer if answer.closes or await self._skip_body() else BODY_TOO_LARGE

    async def _skip_body(self) -> bool:
        skipped = 0
        with trio.move_on_after(self._desk.limits.header_timeout):
            while skipped <= self._desk.limits.max_idle_body:
                event = await self._next_event()
                if isinstance(event, h11.EndOfMessage):
                    return True
                skipped += len(event.data) if isinstance(event, h11.Data) else 0
        return False

    # A segment out

    async def _give(self, reader: Reader) -> None:
        try:
            if not await self._skip_body():
                await self._send_answer(BODY_TOO_LARGE)
                return
            self._read_ahead = 0
            outlet = Outlet(reader, self._link, self._phrasing, self._desk)
            await outlet.send_all(self._watch_client)
        finally:
            reader.close(trio.current_time())
            if reader.finished is not None:
                self._last_finished = reader

    async def _watch_client(self) -> None:
        """Notice that the client leaves. What it sends meanwhile are its next requests."""
        data = await self._link.receive()
        self._read_ahead += len(data)
        if not data or self._read_ahead > self._desk.limits.max_header_bytes:
            raise Gone
        self._http.receive_data(data)

    # A segment in

    async def _take(self, writer: Writer) -> Answer:
        writer.waker = self._bell.ring
        answer: Answer | None = None
        try:
            while answer is None:
                answer = await self._take_some(writer)
        finally:
            writer.abort(trio.current_time())
            self._desk.relay_moved()
        return answer

    async def _take_some(self, writer: Writer) -> Answer | None:
        # Readers are served once for all that has come, and others get their turn in between: a
        # body in chunks of a byte would else hold up everybody for half a second.
        for _ in range(EVENTS_AT_ONCE):
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                return await self._wait_for_body(writer)
            answer = await self._offer(writer, event)
            if answer is not None:
                return answer
        self._desk.relay_moved()
        await trio.lowlevel.checkpoint()
        return None

    async def _offer(self, writer: Writer, event: object) -> Answer | None:
        while True:
            if isinstance(event, h11.Data):
                taken = writer.write(event.data, trio.current_time())
            elif isinstance(event, h11.EndOfMessage):
                taken = writer.end(trio.current_time())
            else:
                raise Gone(f"{event} in a body")
            if taken is not NEED_ROOM:
                return taken if isinstance(taken, Answer) else None
            self._desk.relay_moved()
            await self._bell.wait(trio.sleep_forever)

    async def _wait_for_body(self, writer: Writer) -> Answer | None:
        self._desk.relay_moved()
        if self._http.they_are_waiting_for_100_continue and writer.answer is None:
            await self._say_continue()
        silent = await self._bell.wait(self._receive, wire.CONTINUE_INTERVAL)
        if silent and writer.state is WriterState.PRECONNECTED:
            await self._say_continue()
        return writer.answer

    async def _say_continue(self) -> None:
        await self._link.send(self._phrasing.go_on())

    # Between and after

    async def _send_answer(self, answer: Answer) -> None:
        await self._link.send(self._phrasing.answer(answer))

    async def _may_go_on(self) -> bool:
        if self._http.their_state is h11.SEND_BODY:
            await self._linger()
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def _complain(self, status: int) -> None:
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            # 501 is h11's word for a coding that it does not know. Here what a client sends is 4xx.
            status = status if status < 500 else 400
            await self._send_answer(text(status, "That is no HTTP request").closing())
            await self._linger()

    async def _linger(self) -> None:
        """Closing now would reset the connection, and the answer might be lost with it."""
        await self._link.send_end()
        with trio.move_on_after(self._desk.limits.close_delay):
            while await self._link.receive():
                pass


def _relay_request(event: h11.Request) -> RelayRequest:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
    return RelayRequest(event.method.decode("latin-1"), event.target.decode("latin-1"), headers)
