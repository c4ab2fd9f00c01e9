"""What a relay's server puts up with from its clients."""

from __future__ import annotations

from typing import Final

from attrs import field, frozen
from attrs.validators import ge, gt

KIB: Final = 1024


@frozen(kw_only=True)
class ServerLimits:
    """Times in seconds, sizes in bytes. Raises ValueError where a value makes no sense."""

    header_timeout: float = field(default=15.0, validator=gt(0))
    """From a connection's start, or a request's first byte, to the end of its head; also for the
    body of a request that has no use for one."""

    keep_alive_timeout: float = field(default=75.0, validator=gt(0))
    """Between two requests."""

    write_timeout: float = field(default=20.0, validator=gt(0))
    """A client that takes nothing for so long is dropped."""

    farewell: float = field(default=2.0, validator=ge(0))
    """At the server's end: for clients to take what is still there."""

    close_delay: float = field(default=2.0, validator=ge(0))
    """After an early answer: how long the rest of the body is read and thrown away. Closing at once
    would reset the connection, and the answer could be lost with it (RFC 9112, 9.6)."""

    max_header_bytes: int = field(default=16 * KIB, validator=ge(256))
    max_idle_body: int = field(default=64 * KIB, validator=ge(0))
    """Of a request that has no use for a body."""
    max_connections: int = field(default=10_000, validator=ge(1))
