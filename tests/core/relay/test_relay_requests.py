"""Requests in, answers out: protocol.md's table, paths, tokens, policies, limits."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trickle_core.answer import Answer
from trickle_core.relay import Relay
from trickle_core.relay_settings import Guard, Refusal, RelayRequest, RelaySettings
from trickle_core.window.reader import Reader
from trickle_core.window.states import NEED_DATA
from trickle_core.window.writer import Writer

if TYPE_CHECKING:
    from tests.core.relay.conftest import House, HouseOf

SESAME = "open"


def test_creating_a_channel_twice_is_legal(house: House) -> None:
    house.post("/a/0", b"x")
    assert house.answer("POST", "/a", expect_content="text/plain").status == 200
    assert house.read("/a/0").headers["content-type"] == "video/mp2t"


def test_without_autocreate_a_channel_must_be_there(house_of: HouseOf) -> None:
    house = house_of(autocreate=False)
    for path in ("/a", "/a/0"):
        answer = house.answer("POST", path)
        assert (answer.status, answer.body) == (404, b"Stream not found")
        assert answer.closes, "a preconnected POST must not wait for its body's end"
    made = house.relay.create("a", "video/mp2t", house.now)
    assert house.relay.create("a", "text/plain", house.now) is made
    assert house.answer("POST", "/a").status == 200
    assert isinstance(house.ask("POST", "/a/0"), Writer)


def test_a_post_makes_its_channel_with_its_type(house: House) -> None:
    house.post("/new/0", b"x", content_type="application/json")
    assert house.read("/new/0").headers["content-type"] == "application/json"
    house.post("/untyped/0", b"x")
    assert house.read("/untyped/0").headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize("path", ["/no/0", "/no/-1", "/no/next", "/no/x"])
def test_reading_an_unknown_channel_is_404(house: House, path: str) -> None:
    answer = house.answer("GET", path)
    assert (answer.status, answer.body, answer.closes) == (404, b"Stream not found", False)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/a/x", 400),
        ("GET", "/a/", 400),
        ("GET", "/a/1.0", 400),
        ("GET", "/a/99999999999999999999", 400),
        ("POST", "/a/x", 400),
        ("POST", "/a/-2", 400),
        ("POST", "/a/next", 400),
        ("DELETE", "/no", 400),
        ("DELETE", "/no/0", 404),
        ("DELETE", "/a/next", 400),
        ("GET", "/", 404),
        ("GET", "", 404),
        ("GET", "/a/0/0", 404),
        ("GET", "//0", 404),
        ("POST", "/a%FF", 400),
        ("POST", "/a%00", 400),
        ("POST", "/a%0D%0Ab", 400),
        ("POST", "/" + "n" * 256, 414),
        ("GET", "/a", 405),
        ("POST", "/a/0", 200),
        ("PUT", "/a/0", 405),
        ("HEAD", "/a/0", 405),
        ("OPTIONS", "*", 405),
    ],
)
def test_what_is_answered(house: House, method: str, path: str, status: int) -> None:
    handled = house.ask(method, path)
    assert (handled.status if isinstance(handled, Answer) else 200) == status


def test_a_refused_post_is_the_connections_last(house: House) -> None:
    assert house.answer("POST", "/a/x").closes
    assert not house.answer("GET", "/a/x").closes
    assert not house.answer("POST", "/a").closes


def test_what_a_place_allows_is_told(house: House) -> None:
    assert dict(house.answer("PUT", "/a/0").headers)["allow"] == "GET, POST, DELETE"
    assert dict(house.answer("GET", "/a").headers)["allow"] == "POST, DELETE"


def test_next_tells_where_a_publisher_would_write(house: House) -> None:
    house.post("/a/4", b"x")
    answer = house.answer("GET", "/a/next")
    headers = dict(answer.headers)
    assert (answer.status, answer.body, headers["lp-trickle-latest"]) == (200, b"5", "5")
    assert "lp-trickle-closed" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/live/a/0",
        "/live/a/0?x=1/2",
        "http://host:1/live/a/0",
        "/live/%61/0",
        "/live/a/0?u=http://x/y",
    ],
)
def test_paths_are_understood_however_written(house_of: HouseOf, path: str) -> None:
    house = house_of(base_path="live")
    house.post("/live/a/0", b"x")
    assert house.body(path) == b"x"


def test_below_the_base_path_is_nothing_else(house_of: HouseOf) -> None:
    house = house_of(base_path="/live/")
    for path in ("/a", "/live", "/liveliness/a", "/live//0"):
        assert house.answer("POST", path).status == 404


@pytest.mark.parametrize(
    ("guard", "reading", "writing"),
    [(Guard.BOTH, 401, 401), (Guard.READING, 401, 200), (Guard.WRITING, 200, 401)],
)
def test_a_token_guards(house_of: HouseOf, guard: Guard, reading: int, writing: int) -> None:
    house = house_of(token=SESAME, guard=guard)
    house.relay.create("a", "", house.now)
    for wrong in ({}, {"authorization": "Bearer other"}, {"authorization": "Basic open"}):
        assert house.answer("GET", "/a/next", **wrong).status == reading
        assert house.answer("POST", "/a", **wrong).status == writing
    right = {"authorization": "bearer open"}
    assert house.answer("GET", "/a/next", **right).status == 200
    assert house.answer("POST", "/a", **right).status == 200


def test_a_request_without_the_token_learns_nothing(house_of: HouseOf) -> None:
    house = house_of(token=SESAME)
    answer = house.answer("DELETE", "/a")
    assert (answer.status, dict(answer.headers)["www-authenticate"]) == (401, "Bearer")


def test_policies_can_refuse(house_of: HouseOf) -> None:
    asked = []

    def policy(request: RelayRequest, name: str) -> Refusal | None:
        asked.append((request.method, name))
        return Refusal(409, "Not now") if name == "no" else None

    house = house_of(before_create=policy, before_delete=policy)
    assert house.answer("POST", "/no").status == 409
    refused = house.answer("POST", "/no/0")
    assert (refused.status, refused.body, refused.closes) == (409, b"Not now", True)
    assert house.answer("POST", "/yes").status == 200
    assert house.answer("POST", "/yes").status == 200
    house.relay.create("no", "", house.now)
    assert house.answer("DELETE", "/no").status == 409
    assert house.answer("DELETE", "/yes").status == 200
    assert asked == [
        ("POST", "no"),
        ("POST", "no"),
        ("POST", "yes"),
        ("DELETE", "no"),
        ("DELETE", "yes"),
    ]
    assert list(house.relay.channels) == ["no"]


def test_channels_beyond_the_limit_are_refused(house_of: HouseOf) -> None:
    house = house_of(max_channels=1)
    assert house.answer("POST", "/a").status == 200
    assert house.answer("POST", "/b").status == 503
    assert house.answer("POST", "/a").status == 200
    house.answer("DELETE", "/a")
    assert house.answer("POST", "/b").status == 200


@pytest.mark.parametrize("mime_type", ["v" * 256, "vidéo/x"])
def test_a_media_type_must_be_one(house: House, mime_type: str) -> None:
    assert house.answer("POST", "/b", expect_content=mime_type).status == 400
    assert "b" not in house.relay.channels


def changes(house: House) -> list[object]:
    count = house.next_write("_changes")
    return [json.loads(house.body(f"/_changes/{seq}")) for seq in range(count)]


def test_the_change_feed_tells_of_every_change(house_of: HouseOf) -> None:
    house = house_of(changefeed=True)
    waiting = house.reader("/_changes/-1")
    house.drain(waiting)
    house.answer("POST", "/a")
    house.post("/b/0", b"x")
    house.post("/b/1", b"x")
    house.answer("DELETE", "/a")
    assert changes(house) == [{"added": ["a"]}, {"added": ["b"]}, {"removed": ["a"]}]
    seen = house.drain(waiting)
    assert json.loads(seen.body) == {"added": ["a"]}
    assert seen.headers["content-type"] == "application/json"


def test_the_change_feed_keeps_a_window_and_is_not_swept(house_of: HouseOf) -> None:
    house = house_of(changefeed=True)
    for number in range(7):
        house.answer("POST", f"/c{number}")
    house.wait(10_000)
    assert list(house.relay.channels) == ["_changes"]
    assert house.next_write("_changes") == 14
    assert house.answer("GET", "/_changes/8").status == 470
    assert json.loads(house.body("/_changes/13")) == {"removed": ["c6"]}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/_changes"),
        ("POST", "/_changes/0"),
        ("DELETE", "/_changes"),
        ("DELETE", "/_changes/0"),
    ],
)
def test_nobody_else_writes_the_change_feed(house_of: HouseOf, method: str, path: str) -> None:
    assert house_of(changefeed=True).answer(method, path).status == 403


def test_without_a_change_feed_its_name_is_free(house: House) -> None:
    house.post("/_changes/0", b"x")
    assert house.body("/_changes/0") == b"x"


def test_a_channel_without_a_write_is_swept(house: House) -> None:
    house.post("/a/0", b"x")
    house.wait(200)
    house.answer("POST", "/b")
    silent = house.writer("/b/0")
    house.wait(99)
    assert (set(house.relay.channels), house.woken) == ({"a", "b"}, [])
    house.wait(1)
    assert (set(house.relay.channels), house.woken) == ({"b"}, [])
    house.wait(200)
    assert (set(house.relay.channels), house.woken) == (set(), [silent])
    assert house.relay.deadline() == float("inf")


def test_every_write_puts_the_sweep_off(house: House) -> None:
    writer = house.writer("/a/0")
    for _ in range(5):
        house.wait(299)
        house.write(writer, b"x")
    house.end(writer)
    house.wait(299)
    assert "a" in house.relay.channels
    house.wait(1)
    assert not house.relay.channels
    house.answer("POST", "/a")
    house.wait(300)
    assert not house.relay.channels, "the next one is swept too"


@pytest.mark.parametrize("body", [[], [b"x"]])
def test_a_segments_end_puts_the_sweep_off_too(house: House, body: list[bytes]) -> None:
    writer = house.writer("/a/0")
    for piece in body:
        house.write(writer, piece)
    house.wait(200)
    house.end(writer)
    house.wait(299)
    assert "a" in house.relay.channels


def test_an_infinite_idle_timeout_never_sweeps(house_of: HouseOf) -> None:
    house = house_of(idle_timeout=float("inf"))
    house.answer("POST", "/a")
    assert house.relay.deadline() == float("inf")


def test_a_lingering_channel_does_not_disturb_the_sweep(house_of: HouseOf) -> None:
    house = house_of(linger=1000.0)
    house.answer("POST", "/a")
    house.wait(300)
    assert house.relay.channels["a"].closed
    house.answer("POST", "/b")
    house.wait(300)
    assert house.relay.channels["b"].closed
    house.wait(1000)
    assert not house.relay.channels


def test_making_and_deleting_channels_leaves_nothing(house: House) -> None:
    for _ in range(1000):
        house.answer("POST", "/b")
        house.answer("DELETE", "/b")
    assert len(house.relay._agenda._entries) == 1


def test_the_end_answers_everybody(house: House) -> None:
    writer, inside, waiting = house.writer("/a/0"), house.reader("/a/0"), house.reader("/a/1")
    house.write(writer, b"x")
    house.drain(waiting)
    house.relay.close(house.now)
    house.relay.close(house.now)
    assert writer.answer is not None
    assert dict(writer.answer.headers)["lp-trickle-closed"] == "terminated"
    assert house.drain(inside).body == b"x"
    assert house.drain(waiting).headers["lp-trickle-closed"] == "terminated"
    refused = house.answer("GET", "/a/0")
    assert (refused.status, refused.closes) == (503, True)
    assert house.answer("POST", "/a").closes
    assert house.relay.statistics().size == 0


def test_statistics_count_what_is_there(house: House) -> None:
    house.post("/a/0", b"12345")
    house.writer("/a/1")
    reader = house.reader("/a/0")
    found = house.relay.statistics()
    assert (found.channels, found.segments, found.size) == (1, 2, 5)
    assert (found.readers, found.writers) == (1, 1)
    reader.close(house.now)
    assert house.relay.statistics().readers == 0


@given(st.text(max_size=12), st.text(max_size=30), st.dictionaries(st.text(max_size=9), st.text()))
def test_no_request_raises(method: str, path: str, headers: dict[str, str]) -> None:
    relay = Relay(RelaySettings(token=SESAME))
    assert isinstance(relay.handle(RelayRequest(method, path, headers), 0.0), Answer)


@given(
    st.sampled_from(["GET", "POST", "DELETE"]),
    st.lists(
        st.sampled_from(["/", "a", "next", "-1", "5", "%", "%2", "é", "?", "://"]), max_size=6
    ),
    st.text(max_size=20),
)
def test_no_likely_request_raises(method: str, path: list[str], value: str) -> None:
    headers = dict.fromkeys(["authorization", "content-type", "expect-content"], value)
    handled = Relay().handle(RelayRequest(method, "".join(path), headers), 0.0)
    assert isinstance(handled, (Answer, Reader, Writer))
    if isinstance(handled, Reader):
        assert handled.pull(1, 0.0) is NEED_DATA


@pytest.mark.parametrize(
    "wrong",
    [
        {"window": 0},
        {"window": 2.5},
        {"idle_timeout": 0},
        {"linger": -1},
        {"linger": float("inf")},
        {"catch_up": -1},
        {"catch_up": float("inf")},
        {"token": ""},
        {"token": "two words"},
        {"patience": float("nan")},
        {"grace": -1},
        {"max_segment_bytes": 0},
        {"max_name_length": 0},
        {"unknown": 1},
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        RelaySettings(**wrong)  # type: ignore[arg-type] # they are wrong on purpose


@pytest.mark.parametrize(
    ("given", "kept"), [("", "/"), ("/", "/"), ("a", "/a/"), ("//a/b/", "/a/b/")]
)
def test_a_base_path_is_put_into_form(given: str, kept: str) -> None:
    assert RelaySettings(base_path=given).base_path == kept


@pytest.mark.parametrize("status", [200, 399, 600])
def test_a_refusal_is_an_error(status: int) -> None:
    with pytest.raises(ValueError, match=str(status)):
        Refusal(status)
