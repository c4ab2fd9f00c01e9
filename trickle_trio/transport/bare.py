"""Requests of which all but the target is known beforehand, as those of one channel are.

Nothing in them is parsed, checked or copied again: they cost a sixth of an ``httpx.Request`` that is made and sent
anew. Only a ``TrickleTransport`` that is called directly knows them.
"""

from __future__ import annotations

from collections.abc import Mapping

import h11
import httpx
from attrs import frozen

from trickle_trio.transport.connection import Origin, Timeouts


@frozen
class RequestKind:
    """What requests of one kind have in common."""

    method: str
    url: httpx.URL
    headers: httpx.Headers
    event: h11.Request
    """The head, with any target."""
    origin: Origin
    timeouts: Timeouts
    has_body: bool

    @classmethod
    def of(
        cls,
        method: str,
        url: httpx.URL,
        headers: Mapping[str, str],
        timeout: httpx.Timeout,
        *,
        has_body: bool,
    ) -> RequestKind:
        """Check it once. ``has_body``: they have one, in chunks. ``headers`` are those that the channel needs; those of
        HTTP are added.
        """
        given = [("host", url.netloc.decode()), *headers.items()]
        if has_body:
            given.append(("transfer-encoding", "chunked"))
        elif method == "POST":
            given.append(("content-length", "0"))
        event = h11.Request(method=method, target="/", headers=given)
        extensions = {"timeout": timeout.as_dict()}
        known = httpx.Request(method, url, headers=given, extensions=extensions)
        return cls(method, url, known.headers, event, Origin.of(url), Timeouts.of(known), has_body)


class BareRequest(httpx.Request):
    """One of them. ``target`` is what stands in the request line, encoded already."""

    def __init__(self, kind: RequestKind, target: bytes, stream: httpx.AsyncByteStream) -> None:
        self.kind = kind
        self.method = kind.method
        self.url = kind.url
        self.headers = kind.headers
        self.extensions = {}
        self.target = target
        self.stream = stream

    def head(self, framed: bytes) -> bytes:
        """The head of this request, from that of its kind."""
        return b"%b %b%b" % (self.method.encode(), self.target, framed[framed.index(b" HTTP/") :])
