"""A relay and the time, with short words for what clients do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import define, field

from trickle_core.answer import Answer, Head
from trickle_core.relay import Handled, Relay
from trickle_core.relay_settings import RelayRequest, RelaySettings
from trickle_core.window.reader import Reader
from trickle_core.window.states import ACCEPTED, CUT, END, Signal
from trickle_core.window.writer import Writer


@define
class Seen:
    """What a client of a GET got so far."""

    head: Head | None = None
    body: bytes = b""
    last: Signal | None = None

    @property
    def headers(self) -> dict[str, str]:
        assert self.head is not None
        return dict(self.head.headers)


@define
class House:
    """One relay. ``now`` is moved by the test."""

    relay: Relay
    now: float = 1000.0
    woken: list[object] = field(factory=list)

    def ask(self, method: str, path: str, **headers: str) -> Handled:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.relay.handle(RelayRequest(method, path, named), self.now)

    def answer(self, method: str, path: str, **headers: str) -> Answer:
        handled = self.ask(method, path, **headers)
        assert isinstance(handled, Answer), handled
        return handled

    def reader(self, path: str) -> Reader:
        handled = self.ask("GET", path)
        assert isinstance(handled, Reader), handled
        handled.waker = lambda: self.woken.append(handled)
        return handled

    def writer(self, path: str, **headers: str) -> Writer:
        handled = self.ask("POST", path, **headers)
        assert isinstance(handled, Writer), handled
        handled.waker = lambda: self.woken.append(handled)
        return handled

    def write(self, writer: Writer, data: bytes) -> None:
        assert writer.write(data, self.now) is ACCEPTED

    def end(self, writer: Writer) -> Answer:
        answer = writer.end(self.now)
        assert isinstance(answer, Answer)
        writer.abort(self.now)
        return answer

    def post(self, path: str, *pieces: bytes, **headers: str) -> Answer:
        """A whole segment."""
        writer = self.writer(path, **headers)
        for piece in pieces:
            self.write(writer, piece)
        return self.end(writer)

    def drain(self, reader: Reader, seen: Seen | None = None, *, close: bool = True) -> Seen:
        """Pull all that is there; at the end close the reader, as adapters do."""
        seen = seen or Seen()
        while not isinstance(pulled := reader.pull(1 << 20, self.now), Signal):
            if isinstance(pulled, Head):
                assert seen.head is None
                seen.head = pulled
            else:
                seen.body += b"".join(pulled)
        seen.last = pulled
        if close and pulled in (END, CUT):
            reader.close(self.now)
        return seen

    def pieces(self, reader: Reader, max_bytes: int = 1 << 20) -> list[memoryview]:
        """One pull that must give bytes."""
        pulled = reader.pull(max_bytes, self.now)
        assert isinstance(pulled, list), pulled
        return [memoryview(piece) for piece in pulled]

    def read(self, path: str) -> Seen:
        """GET of what is there; it goes on waiting where more may come."""
        return self.drain(self.reader(path))

    def body(self, path: str) -> bytes:
        seen = self.read(path)
        assert seen.last is END
        return seen.body

    def next_write(self, name: str) -> int:
        return int(self.answer("GET", f"/{name}/next").body)

    def wait(self, seconds: float) -> None:
        """Time goes by; what falls due on the way is done."""
        until = self.now + seconds
        while (due := self.relay.deadline()) <= until:
            self.now = max(self.now, due)
            self.relay.handle_timeout(self.now)
        self.now = until


HouseOf = Callable[..., House]


@pytest.fixture
def house_of() -> HouseOf:
    """``house_of(window=3)``: a house with these settings."""

    def build(**settings: Any) -> House:
        return House(Relay(RelaySettings(**settings)))

    return build


@pytest.fixture
def house(house_of: HouseOf) -> House:
    """A house with a channel ``a`` in it."""
    built = house_of()
    assert built.answer("POST", "/a", expect_content="video/mp2t").status == 200
    return built
