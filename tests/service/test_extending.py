"""The service is an ordinary Quart app: what users add to it in Quart's ways works through ``app.service`` as well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from quart import Blueprint, Response, abort, request, websocket

from trickle_trio.media.frames import VideoFrame
from trickle_trio.service import TrickleApp, create_app, serve


def passthrough(frame: VideoFrame) -> VideoFrame:
    return frame


@pytest.fixture
def app() -> TrickleApp:
    return create_app(passthrough, port=0)


async def test_routes_and_blueprints(serving: Any, app: TrickleApp) -> None:
    @app.post("/mine/<int:number>")
    async def mine(number: int) -> dict[str, Any]:
        return {"number": number, "body": await request.get_json()}

    room = Blueprint("room", __name__, url_prefix="/room")

    @room.get("/door")
    def door() -> str:
        return "a plain function"

    app.register_blueprint(room)
    async with serving(app.service) as api:
        answer = await api.post("/mine/7", json=[1])
        assert answer.json() == {"number": 7, "body": [1]}
        assert (await api.get("/room/door")).text == "a plain function"
        assert (await api.get("/mine/seven")).status_code == 404


async def test_a_user_s_route_may_use_the_streams(serving: Any, app: TrickleApp) -> None:
    @app.get("/count")
    async def count() -> dict[str, int]:
        return {"running": len(app.streams.running)}

    async with serving(app.service) as api:
        await api.when("IDLE")
        await api.start()
        assert (await api.get("/count")).json() == {"running": 1}


async def test_error_handlers_come_before_ours(serving: Any, app: TrickleApp) -> None:
    @app.errorhandler(404)
    async def lost(error: Exception) -> tuple[str, int]:
        return "lost", 404

    @app.errorhandler(LookupError)
    async def found_out(error: LookupError) -> tuple[dict[str, str], int]:
        return {"mine": str(error)}, 418

    @app.get("/fail")
    async def fail() -> str:
        raise LookupError("this one")

    @app.get("/refuse")
    async def refuse() -> str:
        abort(409, "not now")

    async with serving(app.service) as api:
        assert (await api.get("/nothing")).text == "lost"
        answer = await api.get("/fail")
        assert (answer.status_code, answer.json()) == (418, {"mine": "this one"})
        answer = await api.get("/refuse")
        assert (answer.status_code, answer.json()["message"]) == (409, "not now")


async def test_request_functions_and_middleware_see_every_request(
    serving: Any, app: TrickleApp
) -> None:
    seen: list[str] = []
    inner = app.asgi_app

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])
        await inner(scope, receive, send)

    @app.before_request
    async def note() -> Response | None:
        seen.append(request.path)
        return Response("closed", 423) if request.path == "/stream/start" else None

    @app.after_request
    async def sign(response: Response) -> Response:
        response.headers["X-Mine"] = "1"
        return response

    app.asgi_app = outer  # type: ignore[method-assign]  # as Quart's documentation has it
    async with serving(app.service) as api:
        answer = await api.get("/version")
        assert answer.headers["X-Mine"] == "1"
        assert (await api.start()).status_code == 200
        answer = await api.post("/stream/start", json={})
        assert (answer.status_code, answer.text) == (423, "closed")
    assert seen[:3] == ["lifespan", "http", "/version"]


async def test_start_and_stop_functions_run_around_all_of_it(serving: Any, app: TrickleApp) -> None:
    order: list[str] = []

    @app.before_serving
    async def begin() -> None:
        await trio.lowlevel.checkpoint()
        order.append("begin")

    @app.while_serving
    async def around() -> Any:
        order.append("enter")
        yield
        order.append("leave")

    @app.after_serving
    async def end() -> None:
        await trio.lowlevel.checkpoint()
        order.append(f"end with {len(app.streams.running)}")

    async with serving(app.service) as api:
        await api.when("IDLE")
        await api.start()
        assert order == ["begin", "enter"]
    assert order[2:] == ["end with 0", "leave"]


async def test_static_files(serving: Any, app: TrickleApp, tmp_path: Path) -> None:
    (tmp_path / "hello.txt").write_text("hello")
    files = Blueprint("files", __name__, static_folder=str(tmp_path), static_url_path="/files")
    app.register_blueprint(files)
    async with serving(app.service) as api:
        assert (await api.get("/files/hello.txt")).text == "hello"
        assert (await api.get("/files/../app.py")).status_code == 404
        assert (await api.get("/files/none.txt")).status_code == 404


async def test_a_websocket(nursery: trio.Nursery, app: TrickleApp) -> None:
    @app.websocket("/talk")
    async def talk() -> None:
        await websocket.send(f"you said {await websocket.receive()!s}")

    async with app.test_client().websocket("/talk") as connection:
        await connection.send("hello")
        assert await connection.receive() == "you said hello"


def test_an_app_is_no_processor_and_says_how_it_is_run(app: TrickleApp) -> None:
    with pytest.raises(TypeError, match=r"app\.service"):
        serve(app)
