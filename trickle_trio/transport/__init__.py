"""A full-duplex HTTP/1.1 transport for httpx, over Trio streams and h11.

httpx's own transport sends the whole request body before it looks for the answer. A trickle POST may trickle for
minutes, and its server may answer at any moment: 404, or 200 with ``Lp-Trickle-Closed``. Here the two directions are
two tasks. The caller of ``handle_async_request`` waits for the answer; the body is sent by a task in the transport's
nursery; neither waits for the other.

What ends what, in one place:

* The answer's head says 300 or above while the body is still on its way: the server has refused the body, the sender
  is stopped (RFC 9112, section 9.5), what follows of the answer can still be read, the connection is not used again.
* An answer below 300 may be one side of a conversation: both directions go on. When the answer is whole and the body
  still is not, the sender has ``UNSENT_GRACE`` to finish before ``aclose`` stops it, or none if the server closes.
* A write that fails because the peer has gone does not end the reading: the answer that explains it may already lie
  in the receive buffer. Only when that reading fails too does the caller see the error of the write.
* Anything else that goes wrong with the body (its iterator raises, a write timeout, more bytes than ``Content-Length``
  promised) closes the connection, which wakes the reader, and the reader raises it. Nothing escapes from the nursery.

Closing is always synchronous: the socket is closed, without a TLS ``close_notify``, as HTTP clients do; HTTP's own
framing tells whether a message was whole. So closing needs no shield from cancellation, and ends writes that have one.

There is no proxy support, no HTTP/2, and no limit on connections: each request that finds no idle connection opens
one. A transport belongs to one subscription or publication; a pool shared by many costs more than it saves.
"""

from __future__ import annotations

from trickle_trio.transport.bare import BareRequest, RequestKind
from trickle_trio.transport.pool import TransportStatistics, TrickleTransport, default_ssl_context
from trickle_trio.transport.pushed import PushedBody

__all__ = [
    "BareRequest",
    "PushedBody",
    "RequestKind",
    "TransportStatistics",
    "TrickleTransport",
    "default_ssl_context",
]
