"""Parameters that a processor declares as an attrs class: types, ranges, defaults and descriptions.

```
@frozen
class Look:
    strength: float = field(default=0.5, validator=[ge(0), le(1)], metadata={"description": "How much of it."})
    style: Literal["warm", "cold"] = "warm"
```
It is declared as ``Params`` inside a ``FrameProcessor`` or a class with marked methods, as ``params=`` of a
``StreamProcessor`` or of ``@param_updater``, or by annotating what the updater takes. From then on what is wrong is
refused by its name, before the processor hears of it; values come in their proper types (``"30"`` is 30 where a whole
number is asked for); and a stream begins with the defaults, whatever the one before it left behind. An updater that is
annotated with the class gets an instance with everything as it is by now; any other gets a dict of what has changed.

msgspec reads and describes the class; its validators are attrs' own and are run by it, and their bounds are looked up
for the description.
"""

from __future__ import annotations

import ast
import inspect
import json
import logging
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import pairwise
from typing import Any, Final

import attrs
import msgspec
from attrs import field, frozen

from trickle_trio.processor.errors import ParamsError

log: Final = logging.getLogger(__name__)

JsonSchema = dict[str, Any]

WORDS: Final = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
"""What stands for a boolean in a text."""

_PLACE: Final = re.compile(r"(?P<reason>.*) - at `\$\.(?P<name>\w+)", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(?P<name>\w+)`")

_LIMITS: Final = {
    ">=": "minimum",
    "<=": "maximum",
    ">": "exclusiveMinimum",
    "<": "exclusiveMaximum",
}


@frozen
class ParamsClass:
    """A class of parameters. All values that are handed around are such as JSON knows, but for ``make``'s."""

    kind: type[Any]
    _schema: JsonSchema = field(init=False, eq=False, repr=False)
    _booleans: frozenset[str] = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if not attrs.has(self.kind):
            raise TypeError(f"parameters are declared by an attrs class; got {self.kind!r}")
        _check_fields(self.kind)
        set_once = object.__setattr__  # as attrs does it in frozen classes
        set_once(self, "_schema", _schema_of(self.kind))
        booleans = (name for name, each in self._properties.items() if _allows(each, "boolean"))
        set_once(self, "_booleans", frozenset(booleans))

    @property
    def _properties(self) -> dict[str, JsonSchema]:
        properties: dict[str, JsonSchema] = self._schema["properties"]
        return properties

    def schema(self) -> JsonSchema:
        """Describe the parameters as JSON schema. They are given one by one, so none is required."""
        return self._schema

    def first(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return all parameters at the start of a stream: the given, and the defaults. Raises ParamsError."""
        return self._read({}, given)

    def change(self, current: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the given in their proper form, beside those that hold by now. Raises ParamsError."""
        whole = self._read(current, given)
        return {name: whole[name] for name in given}

    def make(self, values: Mapping[str, Any]) -> Any:
        """Make an instance of the class. Raises ParamsError."""
        return self._convert(values)

    def _read(self, current: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        self._refuse_unknown(given)
        given = {name: self._worded(name, value) for name, value in given.items()}
        try:
            whole: dict[str, Any] = msgspec.to_builtins(self._convert({**current, **given}))
        except ParamsError as error:
            named = self._named(error, current, given)
            raise self._with_choices(named) from error.__cause__
        for name in given:
            try:
                json.dumps(whole[name], allow_nan=False)
            except ValueError as error:
                raise ParamsError("must be a finite number", field=name) from error
        return whole

    def _convert(self, values: Mapping[str, Any]) -> Any:
        try:
            return msgspec.convert(dict(values), self.kind, strict=False)
        except msgspec.ValidationError as error:
            raise _explain(error) from error
        except Exception as error:
            # The boundary to validators of the user's, which may raise what they like.
            raise ParamsError(f"{type(error).__name__}: {error}") from error

    def _named(
        self, error: ParamsError, current: Mapping[str, Any], given: Mapping[str, Any]
    ) -> ParamsError:
        """Find out which of several values a validator meant, by trying each alone."""
        for name in given if error.field is None else ():
            try:
                self._convert({**current, name: given[name]})
            except ParamsError as alone:
                reason = alone.reason.removeprefix(f"'{name}' ")
                return ParamsError(reason, field=alone.field or name)
        return error

    def _with_choices(self, error: ParamsError) -> ParamsError:
        """Say what there is to choose from, where none of it was taken."""
        choices = self._properties.get(error.field or "", {}).get("enum")
        if not choices or "enum value" not in error.reason:
            return error
        known = ", ".join(map(repr, choices))
        return ParamsError(f"{error.reason}; expected one of {known}", field=error.field)

    def _refuse_unknown(self, given: Mapping[str, Any]) -> None:
        for name in given:
            if name not in self._properties:
                known = ", ".join(self._properties)
                raise ParamsError(f"is no parameter of this processor; it has {known}", field=name)

    def _worded(self, name: str, value: Any) -> Any:
        is_word = name in self._booleans and isinstance(value, str)
        return WORDS.get(value.strip().lower(), value) if is_word else value


def _explain(error: msgspec.ValidationError) -> ParamsError:
    text = str(error)
    if missing := _MISSING.fullmatch(text):
        return ParamsError("is missing, and has no default", field=missing["name"])
    if place := _PLACE.match(text):
        reason = place["reason"]
        return ParamsError(reason[:1].lower() + reason[1:], field=place["name"])
    # Those of attrs carry the attribute and more behind their text.
    said = error.__cause__.args[0] if error.__cause__ and error.__cause__.args else text
    return ParamsError(" ".join(str(said).split()))


# -- how it is described


def _check_fields(kind: type[Any]) -> None:
    """Raise TypeError for fields that msgspec passes over without a word, or reads without what belongs to them."""
    for attribute in attrs.fields(kind):
        where = f"{kind.__name__}.{attribute.name}"
        if attribute.name.startswith("_"):
            raise TypeError(f"{where}: a parameter's name begins with a letter")
        if attribute.type is None:
            raise TypeError(f"{where}: expected a type, as in {attribute.name}: float")
        if attribute.converter is not None:
            raise TypeError(f"{where}: a parameter is converted by its type; expected no converter")


def _schema_of(kind: type[Any]) -> JsonSchema:
    """Describe a class; raises TypeError for a type that no JSON value can become."""
    _, parts = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    schema: JsonSchema = parts.pop(kind.__name__)
    texts = _docstrings(kind)
    for attribute in attrs.fields(kind):
        described = _inlined(schema["properties"][attribute.name], parts)
        described.update(_bounds(attribute.validator))
        text = attribute.metadata.get("description", texts.get(attribute.name))
        schema["properties"][attribute.name] = {"description": text} | described if text else described  # fmt: skip
    schema.pop("required", None)
    if "description" in schema:
        schema["description"] = inspect.cleandoc(schema["description"])
    used = {
        name: part for name, part in parts.items() if f"#/$defs/{name}" in repr((schema, parts))
    }
    return schema | {"additionalProperties": False} | ({"$defs": used} if used else {})


def _inlined(described: JsonSchema, parts: Mapping[str, JsonSchema]) -> JsonSchema:
    """Put the choices of an enum where they are used: who draws a control need not look for them."""
    referred = parts.get(described.get("$ref", "").rpartition("/")[2], {})
    if "enum" not in referred:
        return dict(described)
    return {"enum": referred["enum"]} | {k: v for k, v in described.items() if k != "$ref"}


def _bounds(validator: Any) -> Iterator[tuple[str, Any]]:
    """Yield what attrs' validators say of a value, in JSON schema's words; nothing for those of the user's own."""
    for each in (*getattr(validator, "_validators", ()), getattr(validator, "validator", None)):
        if each is not None:
            yield from _bounds(each)
    if (limit := _LIMITS.get(getattr(validator, "compare_op", ""))) is not None:
        yield limit, validator.bound
    for attribute, word in (("max_length", "maxLength"), ("min_length", "minLength")):
        if (length := getattr(validator, attribute, None)) is not None:
            yield word, length
    if (options := getattr(validator, "options", None)) is not None:
        yield "enum", list(options)
    if (pattern := getattr(validator, "pattern", None)) is not None:
        yield "pattern", f"^(?:{pattern.pattern})$"


def _docstrings(kind: type[Any]) -> dict[str, str]:
    """Read the texts below the fields in the source, where there is one."""
    texts: dict[str, str] = {}
    with suppress(OSError, TypeError, SyntaxError):
        [tree] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
        body = tree.body if isinstance(tree, ast.ClassDef) else []
        for line, below in pairwise(body):
            match line, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    texts[name] = inspect.cleandoc(text)
    return texts


def _allows(described: JsonSchema, kind: str) -> bool:
    return any(each.get("type") == kind for each in described.get("anyOf", [described]))


# -- where it is declared


def declared_by(owner: object) -> type[Any] | None:
    """Return the attrs class that stands as ``Params`` in a class or an object. One that is none gets a warning."""
    declared = inspect.getattr_static(owner, "Params", None)
    if not isinstance(declared, type):
        return None
    if not attrs.has(declared):
        log.warning("%s is no attrs class: parameters are not checked", declared.__qualname__)
        return None
    return declared


def annotated_by(function: Callable[..., Any]) -> type[Any] | str | None:
    """Return the annotation of what a function takes: a class, or a name that cannot be looked up from here."""
    try:
        signature = inspect.signature(function, eval_str=True)
    except (NameError, AttributeError, SyntaxError, TypeError, ValueError):
        try:
            signature = inspect.signature(function)
        except ValueError:
            return None
    first = next(iter(signature.parameters.values()), None)
    annotation = first.annotation if first is not None else None
    return annotation if isinstance(annotation, (type, str)) else None


def means(annotation: type[Any] | str | None, kind: type[Any]) -> bool:
    """Whether an annotation says this class."""
    if isinstance(annotation, str):
        return annotation.strip("'\"").rpartition(".")[2] == kind.__name__
    return annotation is kind
