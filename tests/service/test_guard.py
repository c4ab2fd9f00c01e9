"""Who may ask: pages of other sites, names that are not ours, tokens."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from quart import websocket
from quart.testing import WebsocketResponseError

from trickle_trio.media.frames import VideoFrame
from trickle_trio.service import create_app, serve
from trickle_trio.service.guard import Guard

OTHER = "https://example.org"


def passthrough(frame: VideoFrame) -> VideoFrame:
    return frame


def denied(answer: httpx.Response, status: int) -> str:
    body = answer.json()
    assert (answer.status_code, set(body), body["status"]) == (
        status,
        {"status", "message"},
        "error",
    )
    message: str = body["message"]
    assert "\n" not in message
    assert len(message) < 300
    return message


@pytest.mark.parametrize("origin", [OTHER, "http://127.0.0.1:1", "null", "x" * 5000, ""])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/stream/start"),
        ("POST", "/live-video-to-video"),
        ("POST", "/api/stream/stop"),
        ("PATCH", "/api/streams/a/params"),
        ("DELETE", "/api/streams/a"),
        ("PUT", "/of/a/user"),
    ],
)
async def test_a_page_of_another_site_changes_nothing(
    api: Any, origin: str, method: str, path: str
) -> None:
    await api.start(gateway_request_id="a")
    before = (await api.get("/api/streams/a")).json()["params"]
    answer = await api.request(method, path, content=b'{"b": 1}', headers={"Origin": origin})
    assert "allow_origins" in denied(answer, 403)
    assert (await api.get("/api/streams/a")).json()["params"] == before


async def test_the_service_s_own_page_and_whoever_names_no_origin_may(api: Any) -> None:
    own = {"Origin": f"http://{api.base_url.netloc.decode()}"}
    assert (await api.post("/stream/start", json={}, headers=own)).status_code == 200
    assert (await api.post("/stream/stop", headers=own)).status_code == 200
    assert (await api.post("/stream/start", json={})).status_code == 200


async def test_what_changes_nothing_is_answered_but_not_handed_out(api: Any) -> None:
    answer = await api.get("/api/streams", headers={"Origin": OTHER})
    assert answer.status_code == 200
    assert "Access-Control-Allow-Origin" not in answer.headers
    answer = await api.options("/stream/start", headers={"Origin": OTHER})
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("allowed", [[OTHER, "http://localhost:3000"], ["*"]])
async def test_an_origin_that_is_allowed_may_all(serving: Any, allowed: list[str]) -> None:
    async with serving(passthrough, allow_origins=allowed, token="t") as api:  # noqa: S106
        await api.when("IDLE")
        asking = {
            "Origin": OTHER,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        }
        preflight = await api.options("/stream/start", headers=asking)
        assert preflight.status_code == 200
        assert preflight.headers["Access-Control-Allow-Origin"] == OTHER
        assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
        assert "authorization" in preflight.headers["Access-Control-Allow-Headers"].lower()
        headers = {"Origin": OTHER, "Authorization": "Bearer t"}
        answer = await api.post("/stream/start", json={}, headers=headers)
        assert answer.status_code == 200
        assert answer.headers["Access-Control-Allow-Origin"] == OTHER
        assert "Origin" in answer.headers["Vary"]
        refused = await api.post("/stream/start", json={}, headers={"Origin": OTHER})
        denied(refused, 401)
        assert refused.headers["Access-Control-Allow-Origin"] == OTHER
    if allowed != ["*"]:
        async with serving(passthrough, allow_origins=allowed) as api:
            answer = await api.post("/stream/stop", headers={"Origin": "https://other.example"})
            denied(answer, 403)
            assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    "name", ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.x"]
)
async def test_a_name_that_was_bent_to_this_machine_gets_nothing(api: Any, name: str) -> None:
    for path in ("/api/streams", "/", "/health", "/nothing"):
        denied(await api.get(path, headers={"Host": name}), 403)
    page = {"Host": name, "Origin": f"http://{name}"}
    denied(await api.post("/stream/start", json={}, headers=page), 403)


@pytest.mark.parametrize(
    "name",
    [
        "localhost",
        "LOCALHOST:1",
        "127.0.0.1:9",
        "[::1]:80",
        "localhost.",
        "app.localhost",
        "host.docker.internal:8000",
    ],
)
async def test_the_loopback_s_own_names_are_answered(api: Any, name: str) -> None:
    assert (await api.get("/api/streams", headers={"Host": name})).status_code == 200


async def test_a_proxy_s_name_is_answered_where_its_pages_are_allowed(serving: Any) -> None:
    async with serving(passthrough, allow_origins=["https://video.example"]) as api:
        assert (await api.get("/health", headers={"Host": "video.example"})).status_code == 200


async def test_where_all_pages_are_allowed_any_name_may_be_a_proxys(serving: Any) -> None:
    async with serving(passthrough, allow_origins=["*"]) as api:
        assert (await api.get("/health", headers={"Host": "video.example"})).status_code == 200


async def test_an_origin_of_no_name_is_not_that_of_a_service_that_is_not_named(api: Any) -> None:
    await api.start()
    answer = await api.post("/stream/stop", headers={"Host": "", "Origin": "null"})
    denied(answer, 403)


async def test_a_service_for_all_the_network_knows_no_names(serving: Any) -> None:
    async with serving(passthrough, host="0.0.0.0") as api:
        assert (await api.get("/health", headers={"Host": "video.example"})).status_code == 200


async def test_a_token_is_asked_for(serving: Any) -> None:
    async with serving(passthrough, token="secret") as api:  # noqa: S106
        await api.when("IDLE")
        for headers in ({}, {"Authorization": "secret"}, {"Authorization": "Basic c2VjcmV0Og=="}):
            answer = await api.post("/live-video-to-video", json={}, headers=headers)
            assert denied(answer, 401) == "the bearer token is missing"
            assert answer.headers["WWW-Authenticate"].lower() == "bearer"
        wrong = {"Authorization": "Bearer secrets"}
        assert denied(await api.get("/metrics", headers=wrong), 401) == "the bearer token is wrong"
        denied(await api.get("/nothing"), 401)
        denied(await api.get("/api/stream/start"), 401)
        right = {"Authorization": "bearer secret"}
        assert (await api.post("/stream/start", json={}, headers=right)).status_code == 200
        for path in ("/health", "/health/", "/", "/dashboard/page.js"):
            assert (await api.get(path)).status_code == 200
        described = (await api.get("/openapi.json", headers=right)).json()["paths"]
        assert described["/stream/start"]["post"]["security"] == [{"token": []}]
        assert described["/health"]["get"]["security"] == []


@pytest.mark.parametrize("token", ["k=v", "=", "a==", "a,b=c", 'key="value"', "!~"])
async def test_any_token_that_is_taken_opens(serving: Any, token: str) -> None:
    async with serving(passthrough, token=token) as api:
        right = {"Authorization": f"Bearer {token}"}
        assert (await api.get("/version", headers=right)).status_code == 200
        denied(await api.get("/version", headers={"Authorization": f"Bearer {token}x"}), 401)


@pytest.mark.parametrize(
    "header", ["Bearer é", "Bearer", "bearer\tx", "é", "Basic !", "Digest a=b"]
)
async def test_no_header_is_too_odd_to_be_refused(serving: Any, header: str) -> None:
    async with serving(passthrough, token="secret") as api:  # noqa: S106
        raw = [(b"Authorization", header.encode())]
        denied(await api.get("/version", headers=raw), 401)


async def test_routes_of_users_are_guarded_too_unless_they_say_otherwise() -> None:
    app = create_app(passthrough, token="secret")  # noqa: S106

    @app.get("/mine")
    async def mine() -> str:
        return "mine"

    @app.get("/all")
    async def everybodys() -> str:
        return "all"

    @app.get("/files/<name>")
    async def static(name: str) -> str:
        return name

    app.open_endpoints.add("everybodys")
    client = app.test_client()
    assert (await client.get("/files/a")).status_code == 401
    assert (await client.get("/mine")).status_code == 401
    assert (
        await client.get("/mine", headers={"Authorization": "Bearer secret"})
    ).status_code == 200
    assert (await client.get("/all")).status_code == 200


async def test_a_websocket_of_a_user_is_not_for_every_page() -> None:
    app = create_app(passthrough)

    @app.websocket("/talk")
    async def talk() -> None:
        await websocket.send("hello")

    client = app.test_client()
    async with client.websocket("/talk") as connection:
        assert await connection.receive() == "hello"
    with pytest.RaisesGroup(WebsocketResponseError, flatten_subgroups=True) as caught:
        async with client.websocket("/talk", headers={"Origin": OTHER}) as connection:
            await connection.receive()
    (refusal,) = caught.value.exceptions
    assert isinstance(refusal, WebsocketResponseError)
    assert refusal.response.status_code == 403


@pytest.mark.parametrize(
    "origin", ["example.org", "https://example.org/", "ftp://a", "", "https://", "https://a b"]
)
def test_an_origin_that_is_none_is_said_at_once(origin: str) -> None:
    with pytest.raises(ValueError, match="allow_origins"):
        serve(passthrough, allow_origins=[origin])


@pytest.mark.parametrize("token", ["", "a b", "é", "a\n"])
def test_a_token_that_is_none_is_said_at_once_and_a_good_one_is_not_shown(token: str) -> None:
    with pytest.raises(ValueError, match="token: expected"):
        serve(passthrough, token=token)
    assert "secret" not in repr(Guard(token="secret"))  # noqa: S106
