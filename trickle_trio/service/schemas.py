"""What a request's body says, checked once, at the edge.

A body that breaks a rule raises ``RequestError``, which names the field and what is wrong with it in one line; nothing
is started or changed by then. Fields that are not known are ignored at the top level (gateways send more than we use),
and go to the processor inside ``params``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

from attrs import field, frozen

from trickle_trio.service.rules import (
    Boolean,
    ChannelUrl,
    Field,
    JsonSchema,
    RequestError,
    Text,
    WholeNumber,
    asked,
    fields_of,
    object_schema,
    read_fields,
    reference,
    wrong,
)
from trickle_trio.stream.plain_json import read_json
from trickle_trio.stream.settings import (
    DEFAULT_FRAMERATE,
    MAX_FRAMERATE,
    URLS,
    check_directions,
)

MAX_SIDE: Final = 8192
MAX_AREA: Final = 8192 * 4320
"""The widest and the largest picture of any H.264 level (6.2; ITU-T H.264, table A-1)."""

MAX_ID: Final = 256
"""Characters of a request id: it stands in logs, events and addresses."""

_SIDE: Final = WholeNumber(1, MAX_SIDE)


@frozen
class StreamParams:
    """``params`` of a start, or an update of them. ``None``: not given, so the default or what was before.

    ``others`` is the processor's. ``load_model`` is the service's own and goes no further.
    """

    width: int | None = field(
        default=None,
        metadata=asked(_SIDE, "Pictures are scaled and cropped to this width; with height."),
    )
    height: int | None = field(
        default=None,
        metadata=asked(_SIDE, "Pictures are scaled and cropped to this height; with width."),
    )
    max_framerate: int | None = field(
        default=None,
        metadata=asked(
            WholeNumber(1, MAX_FRAMERATE),
            f"Pictures a second at most; {DEFAULT_FRAMERATE} by default.",
        ),
    )
    detect_out_resolution: bool | None = field(
        default=None,
        metadata=asked(
            Boolean(), "Whether the output takes the size of the frames that come back."
        ),
    )
    show_loading: bool | None = field(
        default=None, metadata=asked(Boolean(), "Whether the loading overlay is shown.")
    )
    load_model: bool | None = field(
        default=None,
        metadata=asked(Boolean(), "Load the model if it is not loaded; it goes no further."),
    )
    others: Mapping[str, Any] = field(factory=dict)

    @classmethod
    def parse(cls, value: object) -> StreamParams:
        """Read an object of parameters; raises ``RequestError``."""
        if not isinstance(value, dict):
            raise wrong("params", "must be an object", value)
        ours = read_fields(cls, value)
        _check_size(ours)
        return cls(**ours, others={key: item for key, item in value.items() if key not in _OURS})

    @classmethod
    def whole_schema(cls, of_processor: JsonSchema) -> JsonSchema:
        """Tell what a stream's parameters are: those of its processor first, then ours as they mean to be."""
        ours = {field.key: _plain(field) for field in fields_of(cls) if field.key != "load_model"}
        return of_processor | {"properties": of_processor["properties"] | ours}

    @classmethod
    def schema(cls) -> JsonSchema:
        """Tell what ``parse`` takes."""
        both, neither = ({"not": {"type": "null"}}, {"type": "null"})
        sides = [
            {"required": list(_SIDES), "properties": dict.fromkeys(_SIDES, both)},
            {"properties": dict.fromkeys(_SIDES, neither)},
        ]
        return object_schema(cls) | {
            "description": f"Any other key goes to the processor. Width times height: at most {MAX_AREA}.",
            "anyOf": sides,
        }

    def given(self) -> dict[str, Any]:
        """Return what was given, ours in its proper type and the processor's as it came, without ``load_model``."""
        ours = {key: getattr(self, key) for key in _OURS if key != "load_model"}
        return {key: value for key, value in ours.items() if value is not None} | dict(self.others)


def checked_update(params: Mapping[str, Any]) -> dict[str, Any]:
    """Check an update of parameters, whichever way it comes; raises ``RequestError``."""
    return StreamParams.parse(dict(params)).given()


def _plain(field: Field) -> JsonSchema:
    """Describe one of ours by its first form: the others are ways to say the same."""
    schema = field.rule.schema()
    form: JsonSchema = schema.get("anyOf", [schema])[0]
    return {"description": field.text} | form


_OURS: Final = tuple(each.key for each in fields_of(StreamParams))
_SIDES: Final = ("width", "height")


class _Params:
    """The rule for ``params`` inside a start."""

    def read(self, name: str, value: object) -> StreamParams:
        return StreamParams.parse(value)

    def schema(self) -> JsonSchema:
        return reference(StreamParams)


@frozen
class StartRequest:
    """The body of a start."""

    request_id: str = field(
        factory=lambda: uuid4().hex,
        metadata=asked(
            Text(MAX_ID), "The stream's name; made up when it is missing.", key="gateway_request_id"
        ),
    )
    subscribe_url: str | None = field(
        default=None, metadata=asked(ChannelUrl(), "The channel with the input.")
    )
    publish_url: str | None = field(
        default=None, metadata=asked(ChannelUrl(), "The channel for the output.")
    )
    control_url: str | None = field(
        default=None, metadata=asked(ChannelUrl(), "The channel that brings updates of parameters.")
    )
    events_url: str | None = field(
        default=None, metadata=asked(ChannelUrl(), "The channel for events.")
    )
    data_url: str | None = field(
        default=None, metadata=asked(ChannelUrl(), "The channel for what the processor says.")
    )
    params: StreamParams = field(factory=StreamParams, metadata=asked(_Params(), "Parameters."))

    @classmethod
    def parse(cls, value: object) -> StartRequest:
        """Read the decoded body of a start; raises ``RequestError``."""
        if not isinstance(value, dict):
            raise RequestError("the body must be a JSON object")
        request = cls(**read_fields(cls, value))
        _check_directions(request)
        return request

    @classmethod
    def schema(cls) -> JsonSchema:
        """Tell what ``parse`` takes."""
        return object_schema(cls)


def decode_json(body: bytes) -> object:
    """Read a body as JSON; raises ``RequestError``."""
    try:
        return read_json(body)
    except ValueError as error:
        raise RequestError(f"the body is not JSON: {error}") from error


def _check_size(ours: Mapping[str, Any]) -> None:
    if sum(side in ours for side in _SIDES) == 1:
        missing = next(side for side in _SIDES if side not in ours)
        raise RequestError("is missing: width and height must be given together", field=missing)
    if ours.get("width", 0) * ours.get("height", 0) > MAX_AREA:
        raise wrong(
            "width",
            f"times height must be at most {MAX_AREA} pixels",
            f"{ours['width']}x{ours['height']}",
        )


def _check_directions(request: StartRequest) -> None:
    try:
        check_directions({name: getattr(request, name) for name in URLS})
    except ValueError as error:
        raise RequestError(str(error)) from error
