"""The trickle server on bare Trio and h11: sockets and clocks here, every rule in
``trickle_core.relay``.

What comes in: connections. What goes out: answers, and segments from shared memory.
"""

from __future__ import annotations

from trickle_trio.relay.limits import ServerLimits
from trickle_trio.relay.server import BoundRelay, serve_relay

__all__ = ["BoundRelay", "ServerLimits", "serve_relay"]
