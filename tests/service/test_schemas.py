from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openapi_schema_validator import OAS31Validator

from trickle_trio.service.rules import RequestError
from trickle_trio.service.schemas import (
    MAX_AREA,
    MAX_SIDE,
    StartRequest,
    StreamParams,
    decode_json,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
OURS = ("width", "height", "max_framerate", "detect_out_resolution", "show_loading", "load_model")


def test_a_start_needs_nothing_and_gets_an_id_of_its_own() -> None:
    one, other = (
        StartRequest.parse({}),
        StartRequest.parse({"params": None, "gateway_request_id": ""}),
    )
    assert one.request_id != other.request_id
    assert one.subscribe_url is None
    assert one.params == StreamParams()


def test_a_whole_start() -> None:
    body = {
        "subscribe_url": "http://127.0.0.1:3389/in",
        "publish_url": "https://host.example/out",
        "control_url": "",
        "gateway_request_id": "abc",
        "manifest_id": "unknown to us",
        "params": {"width": "1920", "height": 1080.0, "max_framerate": "30", "intensity": 0.7},
    }
    request = StartRequest.parse(body)
    assert request.request_id == "abc"
    assert request.publish_url == "https://host.example/out"
    assert request.control_url is None
    assert request.params == StreamParams(1920, 1080, 30, others={"intensity": 0.7})


@pytest.mark.parametrize("value", [True, 1, 1.0, "true", "TRUE", "1", "yes", " Yes "])
@pytest.mark.parametrize("name", ["detect_out_resolution", "show_loading", "load_model"])
def test_ways_to_say_yes(name: str, value: object) -> None:
    assert getattr(StreamParams.parse({name: value}), name) is True


@pytest.mark.parametrize("value", [False, 0, 0.0, "false", "False", "0", "no"])
def test_ways_to_say_no(value: object) -> None:
    assert StreamParams.parse({"show_loading": value}).show_loading is False


@pytest.mark.parametrize(
    ("params", "where"),
    [
        ({"width": 640}, "height"),
        ({"height": 640, "width": None}, "width"),
        ({"width": 0, "height": 480}, "width"),
        ({"width": 640, "height": -1}, "height"),
        ({"width": 640.5, "height": 480}, "width"),
        ({"width": True, "height": 480}, "width"),
        ({"width": "wide", "height": 480}, "width"),
        ({"width": "", "height": 480}, "width"),
        ({"width": "٣", "height": 480}, "width"),
        ({"width": "1_0", "height": 480}, "width"),
        ({"width": "1" * 30, "height": 480}, "width"),
        ({"width": [640], "height": 480}, "width"),
        ({"width": 1e300, "height": 480}, "width"),
        ({"width": MAX_SIDE + 1, "height": 480}, "width"),
        ({"width": MAX_SIDE, "height": MAX_SIDE}, "width"),
        ({"max_framerate": 0}, "max_framerate"),
        ({"max_framerate": 61}, "max_framerate"),
        ({"max_framerate": 29.97}, "max_framerate"),
        ({"max_framerate": "fast"}, "max_framerate"),
        ({"max_framerate": {}}, "max_framerate"),
        ({"show_loading": 2}, "show_loading"),
        ({"show_loading": "maybe"}, "show_loading"),
        ({"detect_out_resolution": []}, "detect_out_resolution"),
        ({"load_model": "on"}, "load_model"),
    ],
)
def test_a_wrong_parameter_is_named(params: dict[str, object], where: str) -> None:
    with pytest.raises(RequestError) as caught:
        StreamParams.parse(params)
    assert caught.value.field == where
    assert str(caught.value).startswith(where)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"subscribe_url": "no address"}, "subscribe_url"),
        ({"subscribe_url": "ftp://host/x"}, "subscribe_url"),
        ({"publish_url": "http://"}, "publish_url"),
        ({"publish_url": "/only/a/path"}, "publish_url"),
        ({"publish_url": "http://host.example/"}, "publish_url"),
        ({"publish_url": "http://host.example/out?x=1"}, "publish_url"),
        ({"publish_url": "http://host:99999999/x"}, "publish_url"),
        ({"publish_url": "http://a\nb/"}, "publish_url"),
        ({"events_url": "http://\ud800/"}, "events_url"),
        ({"data_url": "http://" + "a" * 100_000}, "data_url"),
        ({"control_url": 7}, "control_url"),
        ({"gateway_request_id": 7}, "gateway_request_id"),
        ({"gateway_request_id": "x" * 257}, "gateway_request_id"),
        ({"gateway_request_id": "half of a pair: \ud800"}, "gateway_request_id"),
        ({"params": "x"}, "params"),
        ({"params": []}, "params"),
        ({"params": {"width": 1}}, "height"),
        ([], None),
        ("text", None),
        (None, None),
    ],
)
def test_a_wrong_start_is_named(body: object, where: str | None) -> None:
    with pytest.raises(RequestError) as caught:
        StartRequest.parse(body)
    assert caught.value.field == where
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nope",
        b"\xff\xfe\xff",
        b'{"a": NaN}',
        b"[Infinity]",
        b'{"a": 1e999}',
        b"[-" + b"9" * 5000 + b".0]",
        b"9" * 5000,
        b"[" * 200_000,
    ],
)
def test_what_is_no_json(body: bytes) -> None:
    with pytest.raises(RequestError, match=r"\Athe body is not JSON: ") as caught:
        decode_json(body)
    assert len(str(caught.value)) < 300


def test_an_update_keeps_what_was_given_alone() -> None:
    update = StreamParams.parse({"max_framerate": "15", "load_model": True, "effect": None})
    assert update.given() == {"max_framerate": 15, "effect": None}


@given(JSON)
def test_any_body_is_taken_or_refused_with_a_reason(body: Any) -> None:
    with suppress(RequestError):
        assert StartRequest.parse(body).request_id


@given(st.dictionaries(st.sampled_from(OURS) | st.text(), JSON))
def test_any_params_are_taken_or_refused_and_nothing_of_the_processors_is_lost(
    params: dict[str, Any],
) -> None:
    with suppress(RequestError):
        parsed = StreamParams.parse(params)
        assert parsed.others == {key: value for key, value in params.items() if key not in OURS}
        assert StreamParams.parse(parsed.given()).given() == parsed.given()


PARAMS = OAS31Validator(StreamParams.schema())
START = OAS31Validator(
    StartRequest.schema() | {"components": {"schemas": {"StreamParams": StreamParams.schema()}}}
)
NUMBERS = st.integers(-1, 70) | st.sampled_from(
    [8192, 8193, 30.0, 29.97, "30", " 30 ", "3 0", "0x1"]
)
WORDS: st.SearchStrategy[Any] = st.sampled_from(
    ["yes", "NO", " True", "maybe", "", "1", 1.0, 2, None, False, []]
)
NEAR = st.fixed_dictionaries({}, optional=dict.fromkeys(OURS, NUMBERS | WORDS | JSON))
URLS_NEAR = st.sampled_from(["http://a:1/b", "HTTPS://a/b", "", None, "ftp://a/b", "x", 7])


def taken(kind: Any, value: Any) -> bool:
    try:
        kind.parse(value)
    except RequestError:
        return False
    return True


@given(NEAR)
def test_what_the_document_says_of_params_is_what_is_checked(params: dict[str, Any]) -> None:
    """But for the area, and for the range of a number in a text, which JSON schema cannot say."""
    said, done = PARAMS.is_valid(params), taken(StreamParams, params)
    assert said or not done
    texts = any(isinstance(params.get(key), str) for key in OURS[:3])
    if said and not done:
        width, height = (params.get(key) or 0 for key in ("width", "height"))
        assert texts or width * height > MAX_AREA


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "subscribe_url": URLS_NEAR,
            "gateway_request_id": st.none() | st.text(max_size=300) | JSON,
            "params": st.none() | NEAR | JSON,
        },
    )
    | JSON
)
def test_what_is_started_is_what_the_document_allows(body: Any) -> None:
    assert START.is_valid(body) or not taken(StartRequest, body)


@given(st.integers(1, 60), st.sampled_from(["yes", "1", "FALSE", 0, 1, True, None]))
def test_what_the_document_allows_is_started(rate: int, word: object) -> None:
    body = {
        "subscribe_url": "http://127.0.0.1:3389/in",
        "params": {"max_framerate": rate, "show_loading": word, "width": rate, "height": rate},
    }
    assert START.is_valid(body)
    assert taken(StartRequest, body)
