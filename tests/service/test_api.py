"""The control API over real sockets, with real streams that have nothing to read: routes, bodies, states."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, cast
from urllib.parse import quote

import httpx
import pytest
import trio

from trickle_trio.media.frames import VideoFrame
from trickle_trio.processor import StreamLink, StreamProcessor, as_processor
from trickle_trio.service import TrickleApp, create_app, serve

PREFIXES = ("/api/stream", "/stream")


def passthrough(frame: VideoFrame) -> VideoFrame:
    return frame


def error_of(answer: httpx.Response, status: int) -> str:
    body = answer.json()
    assert (answer.status_code, body["status"]) == (status, "error")
    assert body["current_state"]["state"] in ("LOADING", "IDLE", "OK", "ERROR")
    message = body["message"]
    assert isinstance(message, str)
    assert message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("slash", ["", "/"])
async def test_a_stream_from_start_to_stop(api: Any, prefix: str, slash: str) -> None:
    answer = await api.post(f"{prefix}/start{slash}", json={"gateway_request_id": "one"})
    assert answer.status_code == 200
    body = answer.json()
    assert (body["status"], body["request_id"], body["current_state"]["state"]) == (
        "success",
        "one",
        "OK",
    )
    assert await api.health() == "OK"
    answer = await api.post(f"{prefix}/params{slash}", json={"strength": 1})
    assert (answer.status_code, answer.json()["status"]) == (200, "success")
    status = (await api.get(f"{prefix}/status{slash}")).json()
    assert status["client_running"] is True
    answer = await api.post(f"{prefix}/stop{slash}")
    assert (answer.status_code, answer.json()["status"]) == (200, "success")
    assert await api.health() == "IDLE"


async def test_the_managed_containers_start(api: Any) -> None:
    for path in ("/live-video-to-video", "/live-video-to-video/"):
        answer = await api.post(path, json={"model_id": "x", "manifest_id": "y", "params": None})
        assert answer.status_code == 200
        assert answer.json()["request_id"]
        assert (await api.stop()).status_code == 200


async def test_health_is_exactly_one_field(api: Any) -> None:
    assert (await api.get("/health")).json() == {"status": "IDLE"}
    assert (await api.get("/health/")).json() == {"status": "IDLE"}


async def test_the_status_has_every_field_of_deployed_services(api: Any) -> None:
    idle = (await api.get("/api/stream/status")).json()
    expected: dict[str, Any] = {
        "status": "IDLE",
        "state": "IDLE",
        "error_message": None,
        "pipeline_ready": True,
        "active_streams": 0,
        "startup_complete": True,
        "pipeline_state": "READY",
        "additional_info": {},
        "client_active": False,
    }
    assert expected.items() <= idle.items()
    assert "fps" not in idle
    await api.start(gateway_request_id="x", params={"width": "64", "height": 48.0})
    busy = (await api.get("/stream/status")).json()
    assert {
        "status": "OK",
        "active_streams": 1,
        "client_active": True,
        "client_running": True,
    }.items() <= busy.items()
    assert set(busy["fps"]) == {
        "ingress_video_fps",
        "egress_video_fps",
        "ingress_audio_fps",
        "egress_audio_fps",
    }
    assert busy["current_params"] == {
        "subscribe_url": None,
        "publish_url": None,
        "gateway_request_id": "x",
    }
    assert set(busy["latency_ms"]) == {"p50", "p95", "p99"}
    assert busy["dropped"] == {}


async def test_a_second_start_finds_the_service_in_use(api: Any) -> None:
    await api.start()
    assert error_of(await api.start(), 503) == "Pipeline is still in use"
    assert (await api.get("/api/stream/status")).json()["active_streams"] == 1


@pytest.mark.parametrize("places", [1, 3])
async def test_twenty_simultaneous_starts_end_in_as_many_streams_as_there_are_places(
    serving: Any, places: int
) -> None:
    answers: list[httpx.Response] = []

    async def start(api: Any) -> None:
        answers.append(await api.start())

    async with serving(passthrough, max_streams=places) as api:
        await api.when("IDLE")
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(start, api)
        codes = sorted(answer.status_code for answer in answers)
        assert codes == [200] * places + [503] * (20 - places)
        assert len((await api.get("/api/streams")).json()["streams"]) == places


async def test_stop_twice_and_start_again(api: Any) -> None:
    for _ in range(3):
        assert (await api.start()).status_code == 200
        assert (await api.stop()).status_code == 200
        assert error_of(await api.stop(), 400) == "No active stream to stop"


async def test_simultaneous_stops_all_wait_for_the_end(api: Any) -> None:
    await api.start()
    codes: list[int] = []

    async def stop() -> None:
        codes.append((await api.stop()).status_code)
        assert await api.health() == "IDLE"

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(stop)
    assert codes.count(200) >= 1
    assert set(codes) <= {200, 400}


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"", {}),
        (b"plain text", {"Content-Type": "text/plain"}),
        (b"\xff\xfe", {"Content-Type": "application/octet-stream"}),
        (b"{broken", {"Content-Type": "application/json"}),
        (b"[1, 2]", {}),
        (b"x" * 2_000_000, {"Content-Type": "text/plain"}),
    ],
)
async def test_nothing_in_its_body_keeps_a_stop_from_stopping(
    api: Any, body: bytes, headers: dict[str, str]
) -> None:
    await api.start()
    answer = await api.post("/api/stream/stop", content=body, headers=headers)
    assert answer.status_code == 200
    assert await api.health() == "IDLE"


async def test_a_body_of_unknown_length_and_no_end_keeps_none_of_several_streams(
    serving: Any,
) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield bytes(65536)

    async with serving(passthrough, max_streams=2) as api:
        await api.when("IDLE")
        await api.start()
        assert (await api.post("/api/stream/stop", content=body())).status_code == 200
        assert await api.health() == "IDLE"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"x"', b"null", b"\xff", b"[" * 100_000, b'{"params": NaN}'],
)
@pytest.mark.parametrize("path", ["/api/stream/start", "/live-video-to-video"])
async def test_a_start_that_is_no_json_object_starts_nothing(
    api: Any, path: str, body: bytes
) -> None:
    answer = await api.post(path, content=body, headers={"Content-Type": "application/json"})
    error_of(answer, 400)
    assert await api.health() == "IDLE"


async def test_a_start_of_another_content_type_says_which_one_is_meant(api: Any) -> None:
    answer = await api.post(
        "/api/stream/start", content=b"{}", headers={"Content-Type": "text/plain"}
    )
    assert error_of(answer, 400) == "Content-Type must be application/json, not text/plain"
    answer = await api.post("/api/stream/start", content=b"{}")
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"subscribe_url": "nope"}, "subscribe_url"),
        ({"publish_url": 5}, "publish_url"),
        ({"subscribe_url": "http://h/a", "publish_url": "http://h/a"}, "publish_url"),
        ({"params": {"width": 640}}, "height"),
        ({"params": {"max_framerate": 61}}, "max_framerate"),
        ({"params": {"show_loading": "perhaps"}}, "show_loading"),
        ({"params": "x"}, "params"),
    ],
)
async def test_a_wrong_field_is_named_and_nothing_starts(
    api: Any, body: dict[str, Any], field: str
) -> None:
    assert error_of(await api.start(**body), 400).startswith(f"{field}: ")
    assert await api.health() == "IDLE"


async def test_params_without_a_stream_or_with_a_wrong_field_change_nothing(api: Any) -> None:
    answer = await api.post("/api/stream/params", json={"x": 1})
    assert error_of(answer, 400).startswith("No active stream")
    await api.start(gateway_request_id="p", params={"max_framerate": 20, "x": 0})
    answer = await api.post("/api/stream/params", json={"max_framerate": 0, "x": 1})
    assert error_of(answer, 400).startswith("max_framerate: ")
    answer = await api.post("/api/stream/params", content=b"[1]")
    assert "JSON object" in error_of(answer, 400)
    stream = (await api.get("/api/streams/p")).json()
    assert stream["params"]["x"] == 0


async def test_params_reach_the_processor(serving: Any) -> None:
    told: list[dict[str, Any]] = []

    async def take(params: dict[str, Any]) -> None:
        told.append(params)

    async def begin(params: dict[str, Any]) -> None:
        told.append(params)

    processor = StreamProcessor(
        video_processor=passthrough, param_updater=take, on_stream_start=begin
    )
    async with serving(processor) as api:
        await api.when("IDLE")
        await api.start(params={"width": 64, "height": 64, "load_model": True, "mode": "a"})
        await api.post("/stream/params", json={"max_framerate": "12", "mode": "b", "load_model": 1})
    assert told == [{"mode": "a"}, {"mode": "b"}]


async def test_a_body_that_is_too_large_is_refused_without_being_held(api: Any) -> None:
    answer = await api.post("/api/stream/start", content=b" " * 1_100_000)
    error_of(answer, 413)

    async def drip() -> Any:
        for _ in range(20):
            yield b" " * 100_000

    error_of(await api.post("/api/stream/start", content=drip()), 413)
    assert await api.health() == "IDLE"


async def test_the_frameworks_errors_are_json_too(api: Any) -> None:
    error_of(await api.get("/nowhere"), 404)
    answer = await api.get("/api/stream/start")
    error_of(answer, 405)
    assert "POST" in answer.headers["Allow"]
    error_of(await api.get("/dashboard/../app.py"), 404)
    error_of(await api.get("/dashboard/app.py"), 404)


async def test_versions_and_hardware(serving: Any) -> None:
    async with serving(passthrough, pipeline="byoc", model_id="tint", version="7") as api:
        assert (await api.get("/version")).json() == {
            "pipeline": "byoc",
            "model_id": "tint",
            "version": "7",
        }
        assert (await api.get("/app-version")).json() == {"version": "7"}
        info, stats = (
            (await api.get("/hardware/info")).json(),
            (await api.get("/hardware/stats")).json(),
        )
    assert (info["pipeline"], info["model_id"], stats["model_id"]) == ("byoc", "tint", "tint")
    assert all(
        {"id", "name", "memory_total", "memory_free", "major", "minor"} == set(gpu)
        for gpu in info["gpu_info"].values()
    )
    assert all("utilization_compute" in gpu for gpu in stats["gpu_stats"].values())


def test_the_environment_says_what_options_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE", "p")
    monkeypatch.setenv("CAPABILITY_NAME", "c")
    monkeypatch.setenv("VERSION", "v")
    identity = create_app(passthrough).identity
    assert (identity.pipeline, identity.model_id, identity.version) == ("p", "c", "v")
    assert create_app(passthrough, model_id="m").identity.model_id == "m"


async def test_streams_by_their_ids(serving: Any) -> None:
    async with serving(passthrough, max_streams=2) as api:
        await api.when("IDLE")
        for name in ("one", "two"):
            assert (await api.start(gateway_request_id=name)).status_code == 200
        listed = (await api.get("/api/streams")).json()
        assert {each["request_id"] for each in listed["streams"]} == {"one", "two"}
        assert (await api.get("/api/streams/two")).json()["phase"] == "running"
        error_of(await api.get("/api/streams/three"), 404)
        error_of(await api.delete("/api/streams/three"), 404)
        error_of(await api.patch("/api/streams/three/params", json={}), 404)
        assert (
            await api.patch("/api/streams/two/params", json={"a": 1, "max_framerate": "7"})
        ).status_code == 200
        params = (await api.get("/api/streams/two")).json()["params"]
        assert (params["a"], params["max_framerate"]) == (1, 7)
        assert "a" not in (await api.get("/api/streams/one")).json()["params"]
        assert "say which" in error_of(await api.stop(), 400)
        assert (
            await api.post("/stream/params", json={"b": 2, "gateway_request_id": "one"})
        ).status_code == 200
        params = (await api.get("/api/streams/one")).json()["params"]
        assert (params["b"], "gateway_request_id" in params) == (2, False)
        assert (await api.get("/stream/status?gateway_request_id=two")).json()["current_params"][
            "gateway_request_id"
        ] == "two"
        assert "current_params" not in (await api.get("/stream/status")).json()
        assert (await api.post("/stream/stop?gateway_request_id=two")).status_code == 200
        assert (await api.delete("/api/streams/one")).status_code == 200
        ended = (await api.get("/api/streams")).json()["ended"]
        assert [(each["request_id"], each["reason"], each["normal"]) for each in ended] == [
            ("one", "stopped", True),
            ("two", "stopped", True),
        ]


@pytest.mark.parametrize(
    "name", ["a", "a/b", "params", "x/params", "input.mp4", "é ü", "100%25", "..a", "a?b#c", "a\nb"]
)
async def test_any_id_leads_to_its_stream(api: Any, name: str) -> None:
    await api.start(gateway_request_id=name)
    path = f"/api/streams/{quote(name, safe='')}"
    assert (await api.get(path)).json()["request_id"] == name
    assert (await api.get(f"{path}/")).json()["request_id"] == name
    assert (await api.patch(f"{path}/params", json={"a": 1})).status_code == 200
    assert (await api.patch(f"{path}/params/", json={"a": 1})).status_code == 200
    error_of(await api.post(path), 405)
    error_of(await api.post(f"{path}/params/"), 405)
    assert (await api.delete(f"{path}/")).status_code == 200


async def test_an_id_is_unique_among_those_that_run(serving: Any) -> None:
    async with serving(passthrough, max_streams=2) as api:
        await api.when("IDLE")
        await api.start(gateway_request_id="one")
        assert error_of(await api.start(gateway_request_id="one"), 400).startswith(
            "gateway_request_id: "
        )


async def test_a_single_stream_is_meant_whatever_the_id(api: Any) -> None:
    await api.start(gateway_request_id="ours")
    assert (
        await api.post("/stream/stop", json={"gateway_request_id": "theirs"})
    ).status_code == 200


async def test_a_stream_whose_start_the_processor_refuses_was_never_there(
    serving: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(params: dict[str, Any]) -> None:
        raise ValueError("no such style")

    processor = StreamProcessor(video_processor=passthrough, on_stream_start=refuse)
    async with serving(processor) as api:
        await api.when("IDLE")
        assert "no such style" in error_of(await api.start(), 400)
        assert await api.health() == "IDLE"
        assert (await api.get("/api/streams")).json()["ended"][0]["normal"] is False
    over = [record.levelname for record in caplog.records if "is over" in record.getMessage()]
    assert over == ["WARNING"]  # seen also by who has asked for no more than warnings


async def test_a_stream_that_fails_by_our_fault_costs_nobody_else_anything(
    serving: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Elsewhere:
        """Another stream, in which the processor is already: the next one breaks on that."""

    processor = StreamProcessor(video_processor=passthrough)
    handlers, elsewhere = as_processor(processor), cast("StreamLink", Elsewhere())
    async with serving(processor) as api:
        await api.when("IDLE")
        handlers.attach(elsewhere)
        assert "already runs in a stream" in error_of(await api.start(gateway_request_id="x"), 503)
        assert await api.health() == "IDLE"
        ended = (await api.get("/api/streams")).json()["ended"]
        assert [(each["request_id"], each["normal"]) for each in ended] == [("x", False)]
        handlers.detach(elsewhere)
        assert (await api.start()).status_code == 200
    assert "stream 'x' failed" in caplog.text


async def test_a_client_that_goes_while_its_stream_starts_leaves_none(serving: Any) -> None:
    entered, left = trio.Event(), trio.Event()

    async def hang(params: dict[str, Any]) -> None:
        entered.set()
        try:
            await trio.sleep_forever()
        finally:
            left.set()

    async with serving(StreamProcessor(video_processor=passthrough, on_stream_start=hang)) as api:
        await api.when("IDLE")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(api.start)
            await entered.wait()
            assert await api.health() == "OK"
            nursery.cancel_scope.cancel()
        await left.wait()
        await api.when("IDLE")


async def test_a_stop_while_a_stream_starts_ends_both(serving: Any) -> None:
    entered = trio.Event()

    async def hang(params: dict[str, Any]) -> None:
        entered.set()
        await trio.sleep_forever()

    answers: list[httpx.Response] = []

    async with serving(StreamProcessor(video_processor=passthrough, on_stream_start=hang)) as api:
        await api.when("IDLE")

        async def start() -> None:
            answers.append(await api.start())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(start)
            await entered.wait()
            assert (await api.stop()).status_code == 200
        assert "stopped" in error_of(answers[0], 503)
        assert await api.health() == "IDLE"


async def test_the_model_loads_in_the_background(serving: Any) -> None:
    release = trio.Event()

    async def load() -> None:
        await release.wait()

    async with serving(StreamProcessor(video_processor=passthrough, model_loader=load)) as api:
        assert await api.health() == "LOADING"
        status = (await api.get("/stream/status")).json()
        assert (status["pipeline_ready"], status["startup_complete"], status["pipeline_state"]) == (
            False,
            False,
            "LOADING",
        )
        wait = "Pipeline is still initializing. Please wait for IDLE status."
        assert error_of(await api.start(), 503) == wait
        assert error_of(await api.post("/stream/start", content=b"broken"), 503) == wait
        release.set()
        await api.when("IDLE")
        assert (await api.start()).status_code == 200


async def test_a_model_that_fails_is_an_error_with_its_reason_and_can_be_asked_for_again(
    serving: Any,
) -> None:
    attempts: list[int] = []

    async def load() -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError("no weights")

    async with serving(StreamProcessor(video_processor=passthrough, model_loader=load)) as api:
        await api.when("ERROR")
        status = (await api.get("/stream/status")).json()
        assert "no weights" in status["error_message"]
        assert status["pipeline_state"] == "ERROR"
        assert "no weights" in error_of(await api.start(), 503)
        assert "initializing" in error_of(await api.start(params={"load_model": "yes"}), 503)
        await api.when("IDLE")
        assert (await api.start()).status_code == 200


async def test_users_extend_the_app_as_any_quart_app() -> None:
    app = create_app(passthrough)
    began: list[str] = []

    @app.route("/mine/<int:number>")
    async def mine(number: int) -> dict[str, int]:
        return {"number": number}

    @app.route("/broken")
    async def broken() -> str:
        raise LookupError("a secret")

    @app.errorhandler(404)
    async def lost(error: Exception) -> tuple[str, int]:
        return "lost", 404

    @app.before_serving
    async def begin() -> None:
        began.append("began")

    @app.after_request
    async def sign(response: Any) -> Any:
        response.headers["X-Mine"] = "1"
        return response

    async with app.test_app() as running:
        client = running.test_client()
        answer = await client.get("/mine/7")
        assert (await answer.get_json(), answer.headers["X-Mine"]) == ({"number": 7}, "1")
        assert await (await client.get("/nothing")).get_data(as_text=True) == "lost"
        app.logger.disabled = True
        answer = await client.get("/broken")
        assert answer.status_code == 500
        assert "secret" not in (await answer.get_json())["message"]
        assert (await (await client.get("/health")).get_json())["status"] in ("LOADING", "IDLE")
    assert began == ["began"]


async def test_without_serve_the_app_houses_its_streams_itself() -> None:
    app: TrickleApp = create_app(passthrough)
    async with app.test_app() as running:
        client = running.test_client()
        with trio.fail_after(10):
            while (await client.post("/stream/start", json={})).status_code != 200:
                pass
        assert app.streams.running
    assert not app.streams.running


@pytest.mark.parametrize("broken", [42, None, "name", VideoFrame, lambda: 3, lambda a, b, c: a])
def test_what_is_no_processor_is_said_at_once(broken: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        serve(broken)


def test_options_are_checked_at_once() -> None:
    for port in (-1, 65_536):
        with pytest.raises(ValueError, match="port"):
            serve(passthrough, port=port)
    with pytest.raises(ValueError, match="max_streams"):
        serve(passthrough, max_streams=0)
    with pytest.raises(ValueError, match="one stream at a time"):
        serve(StreamProcessor(video_processor=passthrough), max_streams=2)
    serve(lambda: StreamProcessor(video_processor=passthrough), max_streams=2)


async def test_the_page_and_its_parts(api: Any) -> None:
    page = await api.get("/")
    assert page.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    for name, kind in (
        ("style.css", "text/css"),
        ("page.js", "text/javascript"),
        ("player.js", "text/javascript"),
        ("controls.js", "text/javascript"),
    ):
        assert f"/dashboard/{name}" in page.text or name in ("player.js", "controls.js")
        part = await api.get(f"/dashboard/{name}")
        assert (part.status_code, part.headers["Content-Type"].split(";")[0]) == (200, kind)
        assert "http://" not in part.text.replace("http://www.w3.org", "")
    assert json.loads((await api.get("/api/streams")).text)["service"]["health"] == "IDLE"
