"""What this side can do wrong. What a peer does wrong is an outcome, never an exception."""

from __future__ import annotations


class LocalProtocolError(Exception):
    """A call that is illegal in the present state: a fault in the calling program, never the
    peer's.
    """
