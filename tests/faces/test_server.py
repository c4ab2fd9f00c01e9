"""A service under its older names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
import trio

from trickle_trio import StreamServer, TrickleApp, VideoFrame, create_app


def passthrough(frame: VideoFrame) -> VideoFrame:
    return frame


@pytest.mark.parametrize(
    "make",
    [
        lambda: StreamServer(frame_processor=passthrough, port=0, capability_name="tint"),
        lambda: create_app(frame_processor=passthrough, port=0, model_id="tint"),
        lambda: TrickleApp(frame_processor=passthrough, port=0, model_id="tint"),
    ],
    ids=["StreamServer", "create_app", "TrickleApp"],
)
async def test_it_runs_for_ever_and_can_be_extended(
    make: Callable[[], Any], nursery: trio.Nursery
) -> None:
    server = make()
    app = server if isinstance(server, TrickleApp) else server.app

    @app.get("/mine")
    async def mine() -> dict[str, str]:
        return {"said": "hello"}

    address = await nursery.start(server.run_forever)
    async with httpx.AsyncClient(base_url=address.url) as api:
        assert (await api.get("/mine")).json() == {"said": "hello"}
        assert (await api.get("/version")).json()["model_id"] == "tint"
        assert (await api.get("/health")).json()["status"] in ("LOADING", "IDLE")


def test_what_it_does_not_know_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="custom_routes"):
        StreamServer(frame_processor=passthrough, custom_routes=[])
