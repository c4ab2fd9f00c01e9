"""Names and numbers on the wire, and what an answer says for good."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trickle_core import wire
from trickle_core.commands import Ending
from trickle_core.events import (
    Cause,
    Event,
    RequestFailed,
    RequestFinished,
    ResponseStarted,
    ending_of,
    reached,
    status_of,
)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("7", 7),
        ("-1", -1),
        ("-2", -2),
        ("007", 7),
        ("9" * 18, 10**18 - 1),
        ("-" + "9" * 18, 1 - 10**18),
        (None, None),
        ("", None),
        ("-", None),
        ("--1", None),
        ("+1", None),
        ("1.0", None),
        (" 1", None),
        ("1\n", None),
        ("1_000", None),
        ("next", None),
        ("²", None),
        ("٣", None),
        ("9" * 19, None),
        ("1" * 5000, None),
    ],
)
def test_a_sequence_number_is_plain_digits(text: str | None, number: int | None) -> None:
    assert wire.parse_seq(text) == number


@given(st.integers(min_value=-(10**18) + 1, max_value=10**18 - 1))
def test_every_number_that_the_server_can_keep_is_read(number: int) -> None:
    assert wire.parse_seq(str(number)) == number


@given(st.text())
def test_any_text_is_a_number_or_none(text: str) -> None:
    number = wire.parse_seq(text)
    assert number is None or abs(number) < 10**wire.MAX_SEQ_DIGITS


def test_header_names_are_lower_case() -> None:
    names = (wire.SEQ, wire.LATEST, wire.CLOSED, wire.RESET, wire.SIZE, wire.EXPECT_CONTENT)
    assert all(name == name.lower() for name in names)


def test_closed_is_told_by_its_header() -> None:
    assert wire.is_closed({wire.CLOSED: wire.TERMINATED})
    assert not wire.is_closed({wire.SEQ: "3"})


@pytest.mark.parametrize(
    ("status", "headers", "ending"),
    [
        (200, {}, None),
        (200, {wire.CLOSED: "terminated"}, Ending.CLOSED),
        (204, {}, None),
        (301, {}, None),
        (400, {}, Ending.REFUSED),
        (401, {}, Ending.REFUSED),
        (403, {}, Ending.REFUSED),
        (404, {}, Ending.GONE),
        (408, {}, None),
        (413, {}, Ending.REFUSED),
        (429, {}, None),
        (470, {}, None),
        (499, {}, Ending.REFUSED),
        (500, {}, None),
        (503, {}, None),
    ],
)
def test_what_an_answer_says_for_good(
    status: int, headers: dict[str, str], ending: Ending | None
) -> None:
    assert ending_of(ResponseStarted(1, status, headers)) is ending


@pytest.mark.parametrize(
    ("event", "was_there", "status"),
    [
        (ResponseStarted(1, 503, {}), True, 503),
        (RequestFinished(1), True, None),
        (RequestFailed(1, Cause.BROKEN), True, None),
        (RequestFailed(1, Cause.REFUSED), False, None),
        (RequestFailed(1, Cause.TIMED_OUT), False, None),
    ],
)
def test_what_an_event_says_of_the_server(
    event: Event, was_there: bool, status: int | None
) -> None:
    assert reached(event) is was_there
    assert status_of(event) == status


@pytest.mark.parametrize("token", ["x", "a/b+c==", "~!'"])
def test_a_token_is_shown_as_it_is(token: str) -> None:
    assert wire.bearer(token) == f"Bearer {token}"


@pytest.mark.parametrize("token", ["", " ", "a b", "a\n", "a\r\nx: y", "\u00e9", "\x7f"])
def test_what_no_header_can_carry_is_no_token(token: str) -> None:
    with pytest.raises(ValueError, match="token: expected printable ASCII"):
        wire.bearer(token)
