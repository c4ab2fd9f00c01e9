"""What a relay answers, and the headers of the protocol on it."""

from __future__ import annotations

from typing import Final

from attrs import evolve, frozen

from trickle_core import wire

Headers = tuple[tuple[str, str], ...]

CLOSE: Final[Headers] = (("connection", "close"),)
"""On an answer that does not wait for the request's body. Deployed clients rely on it: it is what
wakes them when a preconnected POST is refused."""

TERMINATED: Final[Headers] = ((wire.CLOSED, wire.TERMINATED),)


@frozen
class Answer:
    """A whole answer. The adapter adds what frames it (Content-Length)."""

    status: int
    headers: Headers = ()
    body: bytes = b""

    @property
    def closes(self) -> bool:
        """Whether the connection ends with it: then it is sent at once, body read or not."""
        return CLOSE[0] in self.headers

    def closing(self) -> Answer:
        """The same, as the connection's last."""
        return self if self.closes else evolve(self, headers=(*self.headers, *CLOSE))


@frozen
class Head:
    """The head of an answer whose body is pulled from a ``Reader``."""

    status: int
    headers: Headers


def text(status: int, line: str, headers: Headers = ()) -> Answer:
    """An answer of one line."""
    kind = ("content-type", "text/plain; charset=utf-8")
    return Answer(status, (kind, *headers), line.encode())


def seq_header(seq: int) -> Headers:
    """Which segment it is about."""
    return ((wire.SEQ, str(seq)),)


def latest_header(next_write: int) -> Headers:
    """Where the publisher is."""
    return ((wire.LATEST, str(next_write)),)


def no_such_segment(asked: int, next_write: int) -> Answer:
    """470: not there, on a channel that is."""
    headers = (*latest_header(next_write), *seq_header(asked))
    return text(wire.NO_SUCH_SEGMENT, "Entry not found", headers)
