"""Parameters over HTTP: declared, checked, described, refused, and in effect from the start."""

from __future__ import annotations

from typing import Any, Literal

import httpx
import trio
from attrs import field, frozen, validators

from trickle_trio.media.frames import VideoFrame
from trickle_trio.processor import FrameProcessor, StreamProcessor


@frozen
class Look:
    """How it looks."""

    strength: float = field(
        default=0.5,
        validator=[validators.ge(0), validators.le(1)],
        metadata={"description": "How much of it."},
    )
    style: Literal["warm", "cold"] = "warm"


class Tint(FrameProcessor):
    """Notes what it is told."""

    Params = Look

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        super().__init__()

    async def process_video_async(self, frame: VideoFrame) -> VideoFrame:
        return frame

    def update_params(self, params: dict[str, Any]) -> None:
        if params.get("style") == "cold" and params.get("strength", 0) > 0.9:
            raise ValueError("too cold\nfor anybody")
        self.got.append(params)


def message_of(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status
    message = answer.json()["message"]
    assert "\n" not in message
    return str(message)


async def test_declared_parameters_from_start_to_stop(serving: Any) -> None:
    tint = Tint()
    async with serving(tint) as api:
        await api.when("IDLE")
        answer = await api.start(params={"strength": 3})
        assert message_of(answer, 400) == "strength: must be <= 1: 3.0"
        assert await api.health() == "IDLE"
        assert not tint.got
        answer = await api.start(gateway_request_id="one", params={"strength": "0.25"})
        assert answer.status_code == 200
        assert tint.got == [{"strength": 0.25, "style": "warm"}], "once, with the defaults"
        one = "/api/streams/one"
        for method, path in (("POST", "/stream/params"), ("PATCH", f"{one}/params")):
            for wrong, name in (
                ({"style": "loud"}, "style"),
                ({"strength": "much", "style": "cold"}, "strength"),
                ({"tint": 1}, "tint"),
                ({"strength": 1, "width": 64}, "height"),
            ):
                answer = await api.request(method, path, json=wrong)
                assert message_of(answer, 400).startswith(f"{name}: ")
        assert len(tint.got) == 1
        answer = await api.patch(f"{one}/params", json={"strength": 1, "max_framerate": "12"})
        assert answer.status_code == 200
        assert tint.got[1:] == [{"strength": 1.0}]
        params = (await api.get(one)).json()["params"]
        assert (params["strength"], params["style"], params["max_framerate"]) == (1.0, "warm", 12)
        await api.stop()
        await api.start(gateway_request_id="two")
        assert tint.got[-1] == {"strength": 0.5, "style": "warm"}, "not what the last one left"


async def test_what_the_processor_refuses_is_no_success_and_changes_nothing(serving: Any) -> None:
    async with serving(Tint()) as api:
        await api.when("IDLE")
        await api.start(gateway_request_id="one")
        change = {"style": "cold", "strength": 1, "width": 64, "height": 48}
        answer = await api.patch("/api/streams/one/params", json=change)
        assert "raised ValueError: too cold for anybody" in message_of(answer, 400)
        params = (await api.get("/api/streams/one")).json()["params"]
        assert (params["strength"], params["style"]) == (0.5, "warm")
        assert "width" not in params
        assert await api.health() == "OK"
        await api.stop()
        answer = await api.start(params={"style": "cold", "strength": 1})
        assert "too cold" in message_of(answer, 400)
        assert await api.health() == "IDLE"


async def test_the_schema_has_the_processors_parameters_and_ours(serving: Any) -> None:
    async with serving(Tint()) as api:
        await api.when("IDLE")
        assert (await api.get("/api/streams/one/params/schema")).status_code == 404
        await api.start(gateway_request_id="one")
        schema = (await api.get("/api/streams/one/params/schema")).json()
    assert (schema["title"], schema["additionalProperties"]) == ("Look", False)
    assert list(schema["properties"]) == [
        "strength",
        "style",
        "width",
        "height",
        "max_framerate",
        "detect_out_resolution",
        "show_loading",
    ]
    assert schema["properties"]["strength"] == {
        "description": "How much of it.",
        "type": "number",
        "default": 0.5,
        "minimum": 0,
        "maximum": 1,
    }
    assert schema["properties"]["max_framerate"]["maximum"] == 60
    assert schema["properties"]["show_loading"]["type"] == "boolean"


async def test_without_a_declaration_the_schema_leaves_the_rest_open(serving: Any) -> None:
    async with serving(lambda frame: frame) as api:
        await api.when("IDLE")
        await api.start(gateway_request_id="one")
        schema = (await api.get("/api/streams/one/params/schema")).json()
    assert "additionalProperties" not in schema
    assert "width" in schema["properties"]


async def test_simultaneous_changes_are_all_in_effect_when_they_are_answered(serving: Any) -> None:
    got: dict[str, Any] = {}

    async def update(params: dict[str, Any]) -> None:
        await trio.sleep(0.05)
        got.update(params)

    async def change(api: Any, number: int) -> None:
        answer = await api.post("/stream/params", json={f"key{number}": number})
        assert answer.status_code == 200
        assert got[f"key{number}"] == number

    async with serving(StreamProcessor(lambda frame: frame, param_updater=update)) as api:
        await api.when("IDLE")
        await api.start()
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(change, api, number)
