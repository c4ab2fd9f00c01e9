"""Which bearer token is shown to which relay.

A stream's addresses come from whoever starts it. A token is shown to the server that it is for, and to no other: who
may start a stream is not to learn it by naming a server of their own.
"""

from __future__ import annotations

from collections.abc import Mapping

import httpx
from attrs import field, frozen

from trickle_core import wire
from trickle_trio.transport.connection import Origin


@frozen
class RelayTokens:
    """Tokens by the servers that ask for them."""

    _by_origin: Mapping[Origin, str] = field(factory=dict, repr=False)

    @classmethod
    def of(cls, tokens: Mapping[str, str]) -> RelayTokens:
        """Take tokens by addresses as ``http://relay:3389``. ``ValueError``: one of either is none."""
        for token in tokens.values():
            wire.bearer(token)
        return cls({_origin(address): token for address, token in tokens.items()})

    def shown_to(self, channel: str) -> str | None:
        """The token for the server of a channel, whose address has been checked."""
        return self._by_origin.get(Origin.of(httpx.URL(channel)))


def _origin(address: str) -> Origin:
    try:
        url = httpx.URL(address)
    except (httpx.InvalidURL, TypeError):
        url = httpx.URL()
    is_server = url.scheme in ("http", "https") and url.host and url.raw_path in (b"", b"/")
    if not is_server or url.userinfo or url.fragment:
        raise ValueError(f"relay_tokens: {address!r} is no relay: http://host:port is expected")
    return Origin.of(url)
