"""What a request's body says, checked once, at the edge.

A body that breaks a rule raises ``RequestError``, which names the field and what is wrong with it in one line; nothing
is started or changed by then. Fields that are not known are ignored at the top level (gateways send more than we use),
and go to the processor inside ``params``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from reprlib import Repr
from typing import Any, Final, NoReturn
from uuid import uuid4

import httpx
from attrs import field, frozen

from trickle_trio.driver import channel_url

MAX_FRAMERATE: Final = 60
DEFAULT_FRAMERATE: Final = 24
"""What today's users get without asking for a rate."""

MAX_SIDE: Final = 8192
MAX_AREA: Final = 8192 * 4320
"""The widest and the largest picture of any H.264 level (6.2; ITU-T H.264, table A-1)."""

MAX_ID: Final = 256
"""Characters of a request id: it stands in logs, events and addresses."""

YES: Final = frozenset({"true", "1", "yes"})
NO: Final = frozenset({"false", "0", "no"})

_shown: Final = Repr()
_shown.maxstring = _shown.maxother = 60


class RequestError(ValueError):
    """The body of a request breaks a rule. ``field`` is where, or None for the body as a whole."""

    def __init__(self, reason: str, *, field: str | None = None) -> None:
        super().__init__(reason if field is None else f"{field}: {reason}")
        self.field = field
        self.reason = reason


@frozen
class StreamParams:
    """``params`` of a start, or an update of them. ``None``: not given, so the default or what was before.

    ``others`` is the processor's. ``load_model`` is the service's own and goes no further.
    """

    width: int | None = None
    height: int | None = None
    max_framerate: int | None = None
    detect_out_resolution: bool | None = None
    show_loading: bool | None = None
    load_model: bool | None = None
    others: Mapping[str, Any] = field(factory=dict)

    @classmethod
    def parse(cls, value: object) -> StreamParams:
        """Read an object of parameters; raises ``RequestError``."""
        if not isinstance(value, dict):
            raise _wrong("params", "must be an object", value)
        given = {key: item for key, item in value.items() if key in _RULES and item is not None}
        ours = {key: _RULES[key](key, item) for key, item in given.items()}
        _check_size(ours)
        return cls(**ours, others={key: item for key, item in value.items() if key not in _RULES})

    def given(self) -> dict[str, Any]:
        """Return what was given, ours in its proper type and the processor's as it came, without ``load_model``."""
        ours = {key: getattr(self, key) for key in _RULES if key != "load_model"}
        return {key: value for key, value in ours.items() if value is not None} | dict(self.others)


@frozen
class StartRequest:
    """The body of a start."""

    request_id: str
    subscribe_url: str | None = None
    publish_url: str | None = None
    control_url: str | None = None
    events_url: str | None = None
    data_url: str | None = None
    params: StreamParams = field(factory=StreamParams)

    @classmethod
    def parse(cls, value: object) -> StartRequest:
        """Read the decoded body of a start; raises ``RequestError``."""
        if not isinstance(value, dict):
            raise RequestError("the body must be a JSON object")
        params = value.get("params")
        return cls(
            request_id=_request_id(value.get("gateway_request_id")),
            **{name: _url(name, value.get(name)) for name in URLS},
            params=StreamParams() if params is None else StreamParams.parse(params),
        )


URLS: Final = ("subscribe_url", "publish_url", "control_url", "events_url", "data_url")


def decode_json(body: bytes) -> object:
    """Read a body as JSON; raises ``RequestError``. Stricter than the standard library: no NaN and no Infinity."""
    try:
        value: object = json.loads(body, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise RequestError("the body is nested too deeply") from error
    except ValueError as error:
        raise RequestError(f"the body is not JSON: {error}") from error
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


def whole_number(name: str, value: object) -> int:
    """Read a whole number, also from ``"30"`` and ``30.0``; raises ``RequestError``."""
    if (
        isinstance(value, str)
        and value.strip().isascii()
        and value.strip().isdigit()
        and len(value) < 20
    ):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise _wrong(name, "must be a whole number", value)


def boolean(name: str, value: object) -> bool:
    """Read a boolean, also from 0, 1 and the usual words; raises ``RequestError``."""
    if isinstance(value, str) and value.strip().lower() in YES | NO:
        return value.strip().lower() in YES
    if isinstance(value, (bool, int, float)) and value in (0, 1):
        return bool(value)
    raise _wrong(name, "must be true or false", value)


def _side(name: str, value: object) -> int:
    number = whole_number(name, value)
    if not 0 < number <= MAX_SIDE:
        raise _wrong(name, f"must be from 1 to {MAX_SIDE}", value)
    return number


def _framerate(name: str, value: object) -> int:
    number = whole_number(name, value)
    if not 0 < number <= MAX_FRAMERATE:
        raise _wrong(name, f"must be from 1 to {MAX_FRAMERATE}", value)
    return number


_RULES: Final[Mapping[str, Any]] = {
    "width": _side,
    "height": _side,
    "max_framerate": _framerate,
    "detect_out_resolution": boolean,
    "show_loading": boolean,
    "load_model": boolean,
}


def _check_size(ours: Mapping[str, Any]) -> None:
    sides = ("width", "height")
    if sum(side in ours for side in sides) == 1:
        missing = next(side for side in sides if side not in ours)
        raise RequestError("is missing: width and height must be given together", field=missing)
    if ours.get("width", 0) * ours.get("height", 0) > MAX_AREA:
        raise _wrong(
            "width",
            f"times height must be at most {MAX_AREA} pixels",
            f"{ours['width']}x{ours['height']}",
        )


def _request_id(value: object) -> str:
    if value is None or value == "":
        return uuid4().hex
    if not isinstance(value, str):
        raise _wrong("gateway_request_id", "must be a string", value)
    if len(value) > MAX_ID:
        raise RequestError(f"must be at most {MAX_ID} characters", field="gateway_request_id")
    return value


def _url(name: str, value: object) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise _wrong(name, "must be a string", value)
    try:
        url = httpx.URL(value)
    except (httpx.InvalidURL, ValueError) as error:
        raise RequestError(f"is no URL: {error}", field=name) from error
    if url.scheme not in ("http", "https") or not url.host:
        raise _wrong(name, "must be an http or https address with a host", value)
    if url.port is not None and not 0 < url.port < 1 << 16:
        raise _wrong(name, "must have a port from 1 to 65535", value)
    try:
        channel_url(value)
    except ValueError as error:
        raise _wrong(name, "must be a channel's address, http://host:port/name", value) from error
    return value


def _wrong(name: str, rule: str, value: object) -> RequestError:
    return RequestError(f"{rule}, not {_shown.repr(value)}", field=name)
