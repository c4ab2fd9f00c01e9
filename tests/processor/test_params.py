"""Parameters that a processor declares: what is taken, what is refused by its name, how they are described."""

from __future__ import annotations

import enum
import json
from typing import Annotated, Any, Literal

import pytest
from attrs import define, field, frozen, validators
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from trickle_trio.media.frames import VideoFrame
from trickle_trio.processor import (
    FrameProcessor,
    Handlers,
    ParamsError,
    StreamProcessor,
    as_processor,
    on_stream_start,
    param_updater,
    video_handler,
)
from trickle_trio.processor.params import ParamsClass


class Mode(enum.Enum):
    SOFT = "soft"
    HARD = "hard"


@frozen
class Look:
    """How it looks."""

    strength: float = field(
        default=0.5,
        validator=[validators.ge(0), validators.le(1)],
        metadata={"description": "How much of it."},
    )
    count: int = field(default=3, validator=validators.gt(0))
    """How many.

    Of what, is open.
    """
    on: bool = True
    mode: Mode = Mode.SOFT
    style: Literal["warm", "cold"] = "warm"
    name: str | None = field(default=None, validator=validators.optional(validators.max_len(5)))
    code: str = field(default="ab", validator=validators.matches_re("[a-c]+"))
    side: int = field(default=2, validator=validators.in_([2, 4]))
    tags: list[str] = field(factory=list)
    share: Annotated[int, Meta(ge=1, le=5, description="Of five.")] = 2
    low: int = 0
    high: int = field(default=9)

    @high.validator
    def _is_above(self, _: Any, value: int) -> None:
        if value < self.low:
            raise ValueError("high is below low")


LOOK = ParamsClass(Look)


@pytest.mark.parametrize(
    ("given_", "taken"),
    [
        ({"count": "30"}, {"count": 30}),
        ({"count": 30.0}, {"count": 30}),
        ({"strength": "0.25"}, {"strength": 0.25}),
        ({"strength": 1}, {"strength": 1.0}),
        ({"on": "yes"}, {"on": True}),
        ({"on": " No "}, {"on": False}),
        ({"on": 0}, {"on": False}),
        ({"mode": "hard"}, {"mode": "hard"}),
        ({"style": "cold", "side": 4}, {"style": "cold", "side": 4}),
        ({"name": "abc", "tags": ["a"]}, {"name": "abc", "tags": ["a"]}),
        ({"low": 10, "high": 11}, {"low": 10, "high": 11}),
        ({}, {}),
    ],
)
def test_values_come_in_their_proper_types(given_: Any, taken: Any) -> None:
    got = LOOK.change(LOOK.first({}), given_)
    assert got == taken
    assert {name: type(value) for name, value in got.items()} == {
        name: type(value) for name, value in taken.items()
    }


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"count": "many"}, "count: expected `int`"),
        ({"count": 30.5}, "count: expected `int`, got `float`"),
        ({"count": True}, "count: expected `int`, got `bool`"),
        ({"count": None}, "count: expected `int`, got `null`"),
        ({"count": 0}, "count: must be > 0: 0"),
        ({"count": 1, "strength": 2}, "strength: must be <= 1: 2.0"),
        ({"strength": "nan"}, "strength: "),
        ({"on": "perhaps"}, "on: expected `bool`"),
        ({"mode": "loud"}, "mode: invalid enum value 'loud'; expected one of 'hard', 'soft'"),
        ({"style": 5}, "style: "),
        ({"name": "far too long"}, "name: Length of 'name' must be <= 5"),
        ({"code": "xyz"}, "code: must match regex"),
        ({"side": 3}, "side: must be in"),
        ({"tags": ["a", 1]}, "tags: expected `str`, got `int`"),
        ({"share": 9}, "share: expected `int` <= 5"),
        ({"high": -1}, "high: high is below low"),
        ({"low": 10}, "low: high is below low"),
        ({"strenght": 1}, "strenght: is no parameter of this processor; it has strength, "),
    ],
)
def test_what_is_wrong_is_refused_by_its_name(wrong: Any, message: str) -> None:
    with pytest.raises(ParamsError) as caught:
        LOOK.change(LOOK.first({}), wrong)
    assert str(caught.value).startswith(message)
    assert caught.value.field in wrong


@given(st.dictionaries(st.sampled_from([*LOOK.schema()["properties"], "other"]),
                       st.none() | st.booleans() | st.integers() | st.floats() | st.text()))  # fmt: skip
def test_whatever_comes_is_taken_or_refused_and_taken_again_as_it_is(values: Any) -> None:
    current = LOOK.first({})
    try:
        taken = LOOK.change(current, values)
    except ParamsError:
        return
    assert taken.keys() == values.keys()
    assert LOOK.change(current, taken) == taken
    json.dumps(taken, allow_nan=False)
    assert isinstance(LOOK.make({**current, **taken}), Look)


def test_a_start_has_every_default_and_no_gap() -> None:
    first = LOOK.first({"count": "7"})
    assert (first["count"], first["strength"], first["mode"]) == (7, 0.5, "soft")

    @frozen
    class Needy:
        must: int
        may: int = 1

    needy = ParamsClass(Needy)
    with pytest.raises(ParamsError, match="must: is missing, and has no default"):
        needy.first({})
    assert needy.first({"must": 1}) == {"must": 1, "may": 1}
    assert "required" not in needy.schema()


def test_a_validator_that_fails_in_its_own_way_is_a_refusal_too() -> None:
    @frozen
    class Odd:
        a: int = field(default=1)

        @a.validator
        def _divide(self, _: Any, value: int) -> None:
            assert 1 / value

    with pytest.raises(ParamsError, match="a: ZeroDivisionError"):
        ParamsClass(Odd).first({"a": 0})


def test_the_description_says_what_is_taken() -> None:
    schema = LOOK.schema()
    assert (schema["title"], schema["description"]) == ("Look", "How it looks.")
    assert schema["additionalProperties"] is False
    properties = schema["properties"]
    assert properties["strength"] == {
        "description": "How much of it.",
        "type": "number",
        "default": 0.5,
        "minimum": 0,
        "maximum": 1,
    }
    assert properties["count"]["exclusiveMinimum"] == 0
    assert properties["count"]["description"] == "How many.\n\nOf what, is open."
    assert properties["mode"] == {"enum": ["hard", "soft"], "default": "soft"}
    assert properties["style"] == {"enum": ["cold", "warm"], "default": "warm"}
    assert properties["name"]["maxLength"] == 5
    assert properties["code"]["pattern"] == "^(?:[a-c]+)$"
    assert properties["side"]["enum"] == [2, 4]
    assert (properties["share"]["maximum"], properties["share"]["description"]) == (5, "Of five.")
    json.dumps(schema)
    assert "$defs" not in schema


@pytest.mark.parametrize("kind", [dict, int, VideoFrame, "Look", None])
def test_only_attrs_classes_declare_parameters(kind: Any) -> None:
    with pytest.raises(TypeError, match="attrs class"):
        ParamsClass(kind)


@frozen
class Hidden:
    _level: int = 1


@frozen
class Doubled:
    level: float = field(default=1.0, converter=abs)


@frozen
class Untyped:
    level = field(default=1)  # type: ignore[var-annotated]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Hidden, "Hidden._level: a parameter's name begins with a letter"),
        (Doubled, "Doubled.level: .* expected no converter"),
        (Untyped, "Untyped.level: expected a type"),
    ],
)
def test_what_could_not_be_heeded_is_refused_where_it_is_declared(
    kind: type[Any], reason: str
) -> None:
    with pytest.raises(TypeError, match=reason):
        ParamsClass(kind)


@pytest.mark.parametrize("gains", [["inf"], [1, "nan"]])
def test_numbers_inside_are_finite_too(gains: list[Any]) -> None:
    @frozen
    class Mix:
        gains: list[float] = field(factory=list)

    with pytest.raises(ParamsError, match="gains: must be a finite number"):
        ParamsClass(Mix).first({"gains": gains})


def test_a_type_that_json_cannot_become_is_refused_where_it_is_declared() -> None:
    @frozen
    class Deep:
        net: VideoFrame | None = None

    with pytest.raises(TypeError):
        ParamsClass(Deep)


# -- where it is declared, and what the processor gets


def passthrough(frame: VideoFrame) -> VideoFrame:
    return frame


class Inside(FrameProcessor):
    Params = Look

    def __init__(self) -> None:
        self.got: list[Any] = []
        super().__init__()

    async def process_video_async(self, frame: VideoFrame) -> VideoFrame:
        return frame

    def update_params(self, params: dict[str, Any]) -> None:
        self.got.append(params)


class Annotated_(FrameProcessor):  # noqa: N801
    def __init__(self) -> None:
        self.got: list[Any] = []
        super().__init__()

    async def process_video_async(self, frame: VideoFrame) -> VideoFrame:
        return frame

    async def update_params(self, params: Look) -> None:  # type: ignore[override]
        self.got.append(params)


class Marked:
    def __init__(self) -> None:
        self.got: list[Any] = []

    @video_handler
    def handle(self, frame: VideoFrame) -> VideoFrame:
        return frame

    @param_updater(params=Look)
    def update(self, params: dict[str, Any]) -> None:
        self.got.append(params)


class MarkedAround(Marked):
    @define
    class Params:
        strength: float = 0.5

    @param_updater
    def update(self, params: Params) -> None:  # type: ignore[override]
        self.got.append(params)


async def test_a_dict_of_changes_or_an_object_of_all_by_the_annotation() -> None:
    for processor in (Inside(), Marked()):
        handlers = as_processor(processor)
        await handlers.update_params({"count": 4}, LOOK.first({"strength": 0.1}))
        assert processor.got == [{"count": 4}]
        assert handlers.params == LOOK
    annotated = Annotated_()
    handlers = as_processor(annotated)
    await handlers.update_params({"count": 4}, LOOK.first({"strength": 0.1, "mode": "hard"}))
    assert annotated.got == [Look(count=4, strength=0.1, mode=Mode.HARD)]
    around = MarkedAround()
    await as_processor(StreamProcessor.from_handlers(around)).update_params({"strength": 0.2})
    assert around.got == [MarkedAround.Params(0.2)]


def test_a_class_that_declares_nothing_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """Who forgets ``@frozen`` takes the parameters for checked."""

    class Forgetful(FrameProcessor):
        class Params:
            strength: float = 0.5

        async def process_video_async(self, frame: VideoFrame) -> VideoFrame:
            return frame

    handlers = as_processor(Forgetful())
    assert handlers.params is None
    [told] = caplog.messages
    assert told.endswith("Forgetful.Params is no attrs class: parameters are not checked")


def test_without_a_declaration_anything_goes() -> None:
    handlers = as_processor(passthrough)
    assert handlers.params is None
    assert handlers.first_params({"a": object}) == {"a": object}
    assert handlers.changed_params({"a": 1}, {"b": 2}) == {"b": 2}
    assert handlers.params_schema() == {"type": "object", "properties": {}}


def test_two_declarations_are_one_too_many() -> None:
    @frozen
    class Other:
        a: int = 1

    with pytest.raises(TypeError, match="declares its parameters more than once: Look, Other"):
        StreamProcessor(passthrough, params=Other, param_updater=Marked().update)
    assert as_processor(StreamProcessor(passthrough, params=Look)).params == LOOK


# -- at the start of a stream


class Calls:
    """What was called, in order."""

    def __init__(self) -> None:
        self.made: list[Any] = []

    def handlers(self, *, start: str | None, **options: Any) -> Handlers:
        def with_params(params: dict[str, Any]) -> None:
            self.made.append(("start", params))

        def without() -> None:
            self.made.append(("start", None))

        def update(params: dict[str, Any]) -> None:
            self.made.append(("update", params))

        starts = {"with": with_params, "without": without, None: None}
        processor = StreamProcessor(
            passthrough, param_updater=update, on_stream_start=starts[start], **options
        )
        return as_processor(processor)


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("with", [("start", {"a": 1})]),
        ("without", [("start", None), ("update", {"a": 1})]),
        (None, [("update", {"a": 1})]),
    ],
)
async def test_parameters_take_effect_once_at_the_start(start: Any, expected: Any) -> None:
    calls = Calls()
    handlers = calls.handlers(start=start)
    await handlers.stream_started(handlers.first_params({"a": 1}))
    assert calls.made == expected


async def test_without_any_the_updater_is_not_called_at_the_start() -> None:
    calls = Calls()
    await calls.handlers(start=None).stream_started({})
    assert calls.made == []


async def test_declared_ones_begin_with_their_defaults_each_time() -> None:
    calls = Calls()
    handlers = calls.handlers(start=None, params=Look)
    for given_ in ({"count": "7"}, {}):
        await handlers.stream_started(handlers.first_params(given_))
        await handlers.stream_stopped()
    assert [params["count"] for _, params in calls.made] == [7, 3]


async def test_what_is_called_at_the_start_may_take_the_object() -> None:
    got: list[Any] = []

    class Starts(Marked):
        @on_stream_start
        async def begin(self, params: Look) -> None:
            got.append(params)

    handlers = as_processor(Starts())
    await handlers.stream_started(handlers.first_params({"count": 5}))
    assert got == [Look(count=5)]
