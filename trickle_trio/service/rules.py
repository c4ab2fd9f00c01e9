"""What a field of a request may be.

A rule reads a value, and says in JSON schema what it takes; both from the same figures, so that the OpenAPI document
tells what is checked. A class of a request puts a rule at each of its fields by ``asked``; ``read_fields`` and
``object_schema`` walk them. What is missing or null is left to the field's default, whatever the rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from reprlib import Repr
from typing import Any, Final, NamedTuple, Protocol

import attrs
from attrs import frozen

from trickle_trio.driver import channel_url
from trickle_trio.processor import ParamsError

YES: Final = ("true", "1", "yes")
NO: Final = ("false", "0", "no")

_SPACE: Final = r"[ \t\r\n]*"
_DIGITS: Final = re.compile(rf"^{_SPACE}[0-9]{{1,19}}{_SPACE}$")
"""19 digits hold every 64-bit number, and are too few to be a burden."""

_HALF: Final = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair: JSON can hold one, but nothing that is encoded as UTF-8, as metrics and addresses are."""

_shown: Final = Repr()
_shown.maxstring = _shown.maxother = 60

JsonSchema = dict[str, Any]


class RequestError(ParamsError):
    """The body of a request breaks a rule. ``field`` is where, or None for the body as a whole."""


def wrong(name: str, rule: str, value: object) -> RequestError:
    """Say that a field must be otherwise than it is, in one line of bounded length."""
    return RequestError(f"{rule}, not {_shown.repr(value)}", field=name)


class Rule(Protocol):
    """One kind of value."""

    def read(self, name: str, value: object) -> Any:
        """Return the value in its proper type; raises ``RequestError``, which names the field."""

    def schema(self) -> JsonSchema:
        """Tell what is taken."""


@frozen
class WholeNumber:
    """A whole number from ``least`` to ``most``, also as ``"30"`` or ``30.0``."""

    least: int
    most: int

    def read(self, name: str, value: object) -> int:
        """Read it; raises ``RequestError``."""
        number = self._number(name, value)
        if not self.least <= number <= self.most:
            raise wrong(name, f"must be from {self.least} to {self.most}", value)
        return number

    def _number(self, name: str, value: object) -> int:
        if isinstance(value, str) and _DIGITS.fullmatch(value):
            return int(value)
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise wrong(name, "must be a whole number", value)

    def schema(self) -> JsonSchema:
        """A number, or its digits."""
        number = {"type": "integer", "minimum": self.least, "maximum": self.most}
        return {"anyOf": [number, {"type": "string", "pattern": _DIGITS.pattern}]}


@frozen
class Boolean:
    """A boolean, also as 0, 1 and the usual words in any case."""

    def read(self, name: str, value: object) -> bool:
        """Read it; raises ``RequestError``."""
        if isinstance(value, str) and value.strip(" \t\r\n").lower() in YES + NO:
            return value.strip().lower() in YES
        if isinstance(value, (bool, int, float)) and value in (0, 1):
            return bool(value)
        raise wrong(name, "must be true or false", value)

    def schema(self) -> JsonSchema:
        """A boolean, a number, or a word."""
        words = "|".join(
            "".join(
                f"[{letter}{letter.upper()}]" if letter.isalpha() else letter for letter in word
            )
            for word in YES + NO
        )
        word = {"type": "string", "pattern": f"^{_SPACE}({words}){_SPACE}$"}
        return {"anyOf": [{"type": "boolean"}, {"enum": [0, 1]}, word]}


@frozen
class Text:
    """A text of at most ``longest`` characters; an empty one counts as missing."""

    longest: int

    def read(self, name: str, value: object) -> str | None:
        """Read it; raises ``RequestError``."""
        if not isinstance(value, str):
            raise wrong(name, "must be a string", value)
        if len(value) > self.longest:
            raise RequestError(f"must be at most {self.longest} characters", field=name)
        if _HALF.search(value):
            raise wrong(name, "must be whole characters", value)
        return value or None

    def schema(self) -> JsonSchema:
        """A string."""
        return {"type": "string", "maxLength": self.longest}


@frozen
class ChannelUrl:
    """A channel's address; an empty one counts as missing."""

    def read(self, name: str, value: object) -> str | None:
        """Check it; raises ``RequestError``."""
        if not isinstance(value, str):
            raise wrong(name, "must be a string", value)
        try:
            return channel_url(value) and value if value else None
        except ValueError as error:
            rule = "must be a channel's address, http://host:port/name"
            raise wrong(name, rule, value) from error

    def schema(self) -> JsonSchema:
        """A string that is empty, or begins as such an address does."""
        address = {"type": "string", "pattern": "^[hH][tT][tT][pP][sS]?://", "examples": [_EXAMPLE]}
        return {"anyOf": [address, {"const": ""}]}


_EXAMPLE: Final = "http://127.0.0.1:3389/in"


class Field(NamedTuple):
    """A field of a request: the name of the attribute that takes it, and the name that it has in JSON."""

    attribute: str
    key: str
    rule: Rule
    text: str


def asked(rule: Rule, text: str, *, key: str | None = None) -> dict[Any, Any]:
    """Describe an attribute that a field of a request may fill, as its metadata. ``key``: its name in JSON."""
    return {Field: (key, rule, text)}


def fields_of(kind: type[attrs.AttrsInstance]) -> Iterator[Field]:
    """Yield the fields that a request of this class may have."""
    for attribute in attrs.fields(kind):
        if Field in attribute.metadata:
            key, rule, text = attribute.metadata[Field]
            yield Field(attribute.name, key or attribute.name, rule, text)


def read_fields(kind: type[attrs.AttrsInstance], value: Mapping[str, Any]) -> dict[str, Any]:
    """Read the fields that are given, as arguments for the class; raises ``RequestError``."""
    read = {
        field.attribute: field.rule.read(field.key, value[field.key])
        for field in fields_of(kind)
        if value.get(field.key) is not None
    }
    return {name: item for name, item in read.items() if item is not None}


def object_schema(kind: type[attrs.AttrsInstance]) -> JsonSchema:
    """Tell what an object that becomes this class may hold; other fields may stand beside."""
    return {
        "type": "object",
        "properties": {field.key: _property(field) for field in fields_of(kind)},
    }


def _property(field: Field) -> JsonSchema:
    schema = field.rule.schema()
    kinds = schema.get("anyOf", [schema])
    return {"description": field.text, "anyOf": [*kinds, {"type": "null"}]}


def reference(kind: type) -> JsonSchema:
    """Point to the schema of a class in the OpenAPI document."""
    return {"$ref": f"#/components/schemas/{kind.__name__}"}
