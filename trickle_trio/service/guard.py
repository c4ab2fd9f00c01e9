"""Who may ask the service: not every web page that a browser on this machine has open.

Gateways and command lines name no origin, and are let in. A browser names the page's, and a page of another site must
not start or change anything, unless it is allowed to. It could also make its own name mean this machine (DNS
rebinding), and then is of no other site; but it cannot change the Host that the browser sends, so a service that
listens on the loopback answers to the loopback's names alone. A token, where one is set, is asked of everybody.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from ipaddress import ip_address
from reprlib import Repr
from typing import Final

from attrs import field, frozen
from quart import Response
from quart.wrappers.base import BaseRequestWebsocket
from werkzeug.datastructures import HeaderSet, WWWAuthenticate
from werkzeug.exceptions import Forbidden, Unauthorized

from trickle_core import wire

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing, and whose answers a browser keeps from other sites' pages by itself."""

ANY: Final = "*"

NEVER_BENT: Final = (".localhost", ".docker.internal")
"""Names that nobody can register (RFC 6761; ICANN keeps .internal for private use), and so nobody can bend. The second
kind is how containers call the machine that they run on."""

PREFLIGHT_AGE: Final = 600
"""Seconds for which a browser need not ask again."""

_ORIGIN: Final = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")

_shown: Final = Repr()
_shown.maxstring = 100


def _origins(given: Iterable[str]) -> frozenset[str]:
    origins = (given,) if isinstance(given, str) else tuple(given)
    for origin in origins:
        if origin != ANY and not _ORIGIN.fullmatch(origin):
            raise ValueError(
                f"allow_origins: expected scheme://host:port as a browser says it, or '*', got {origin!r}"
            )
    return frozenset(origins)


def _token(given: str | None) -> str | None:
    if given is not None:
        wire.bearer(given)  # raises where no header can carry it
    return given


@frozen
class Guard:
    """The rules of one service. ``bound``: the host that it listens on, where ``serve`` knows it."""

    origins: frozenset[str] = field(default=(), converter=_origins)
    token: str | None = field(default=None, converter=_token, repr=False)
    bound: str | None = None

    def check(self, asked: BaseRequestWebsocket, *, is_open: bool) -> None:
        """Raise Forbidden, or Unauthorized. ``is_open``: no token is asked for here."""
        self._check_host(asked)
        self._check_origin(asked)
        if self.token is not None and not is_open and asked.method != "OPTIONS":
            self._check_token(asked, self.token)

    def _check_host(self, asked: BaseRequestWebsocket) -> None:
        name = _host_name(asked.headers.get("Host", ""))
        if name and self.bound and _is_loopback(self.bound) and not self._is_ours(name):
            raise Forbidden(
                f"a service of this machine alone is asked for as {_shown.repr(name)}; if that is it, its "
                "allow_origins may say so"
            )

    def _is_ours(self, name: str) -> bool:
        allowed = {_host_name(origin.partition("://")[2]) for origin in self.origins}
        is_known = name == self.bound or name in allowed or ANY in self.origins
        return is_known or _is_loopback(name) or name.endswith(NEVER_BENT)

    def _check_origin(self, asked: BaseRequestWebsocket) -> None:
        origin = asked.headers.get("Origin")
        changes = asked.method not in SAFE or asked.scheme in ("ws", "wss")
        if origin is None or not changes or self.allows(origin):
            return
        page = origin.partition("://")[2].lower()
        if not page or page != asked.headers.get("Host", "").lower():
            raise Forbidden(
                f"a page of {_shown.repr(origin)} may not do this: see allow_origins of serve()"
            )

    def _check_token(self, asked: BaseRequestWebsocket, token: str) -> None:
        # Not by werkzeug's reading of the header, which takes a token with a "=" in it for parameters.
        scheme, _, given = asked.headers.get("Authorization", "").partition(" ")
        said = given.strip() if scheme.lower() == "bearer" else ""
        if not said or not hmac.compare_digest(said.encode(), token.encode()):
            reason = "the bearer token is wrong" if said else "the bearer token is missing"
            raise Unauthorized(reason, www_authenticate=WWWAuthenticate("bearer"))

    def allows(self, origin: str) -> bool:
        """Whether pages of this origin may do all that others may."""
        return ANY in self.origins or origin in self.origins

    def tell(self, asked: BaseRequestWebsocket, response: Response) -> Response:
        """Tell the browser of a page that is allowed so: the answer to its question first (CORS), and every answer."""
        origin = asked.headers.get("Origin")
        if self.origins:
            response.vary.add("Origin")
        if origin is not None and self.allows(origin):
            response.access_control_allow_origin = origin
            if asked.method == "OPTIONS":
                response.access_control_allow_methods = response.allow
                response.access_control_allow_headers = HeaderSet(["Authorization", "Content-Type"])
                response.access_control_max_age = PREFLIGHT_AGE
        return response


def _host_name(host: str) -> str:
    """Return the name in a Host header, without port and brackets."""
    name = host.partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return name.removeprefix("[").rstrip(".").lower()


def _is_loopback(name: str) -> bool:
    try:
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False
