from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import trio

from trickle_trio.media.frames import AudioFrame, VideoFrame
from trickle_trio.processor.outlet import Outlet, SendsToStream


class Stream:
    """A stream that takes what it is given, until it is full."""

    def __init__(self, *, full: bool = False) -> None:
        self.full = full
        self.got: list[Any] = []

    def take(self, thing: Any) -> bool:
        if not self.full:
            self.got.append(thing)
        return not self.full

    def send_data(self, text: str) -> bool:
        return self.take(text)

    def send_event(self, event: Mapping[str, Any], event_type: str) -> bool:
        return self.take((event, event_type))

    async def send_input_frame(self, frame: VideoFrame | AudioFrame) -> bool:
        await trio.lowlevel.checkpoint()
        return self.take(frame)

    def set_loading_overlay(self, enabled: bool) -> bool:
        return self.take(enabled)

    def set_loading_progress(self, progress: float | None, message: str | None = None) -> bool:
        return self.take((progress, message))


class Sender(SendsToStream):
    def __init__(self) -> None:
        self.outlet = Outlet()

    @property
    def _outlet(self) -> Outlet:
        return self.outlet


@pytest.fixture
def frame() -> VideoFrame:
    return VideoFrame.from_ndarray(
        np.zeros((4, 4, 3), np.uint8), timestamp=0, time_base=Fraction(1, 90_000)
    )


async def test_everything_reaches_the_stream(frame: VideoFrame) -> None:
    sender, stream = Sender(), Stream()
    sender.outlet.attach(stream)
    assert await sender.send_data("plain text")
    assert await sender.send_data({"boxes": [1, 2], "none": None})
    assert await sender.send_monitoring_event({"type": "mine"}, "ai_stream_events")
    assert await sender.send_monitoring_event({"type": "mine"})
    assert await sender.send_input_frame(frame)
    assert sender.set_loading_overlay(True)
    assert sender.set_loading_progress(0.5)
    assert sender.set_loading_progress(None, "nearly there")
    assert stream.got == [
        "plain text",
        '{"boxes": [1, 2], "none": null}',
        ({"type": "mine"}, "ai_stream_events"),
        ({"type": "mine"}, "stream_trace"),
        frame,
        True,
        (0.5, None),
        (None, "nearly there"),
    ]


async def everything(sender: Sender, frame: VideoFrame) -> list[bool]:
    return [
        await sender.send_data("x"),
        await sender.send_monitoring_event({}, "x"),
        await sender.send_input_frame(frame),
        sender.set_loading_overlay(True),
        sender.set_loading_progress(0.5),
    ]


async def test_without_a_stream_nothing_was_sent(frame: VideoFrame) -> None:
    sender, stream = Sender(), Stream()
    assert await everything(sender, frame) == [False] * 5
    sender.outlet.attach(stream)
    sender.outlet.detach(stream)
    assert await everything(sender, frame) == [False] * 5
    assert stream.got == []


async def test_what_the_stream_cannot_take_is_told(frame: VideoFrame) -> None:
    sender = Sender()
    sender.outlet.attach(Stream(full=True))
    assert await everything(sender, frame) == [False] * 5


async def test_data_that_json_cannot_hold_is_refused_where_it_is_sent() -> None:
    sender = Sender()
    with pytest.raises(TypeError, match="JSON has no form for bytes"):
        await sender.send_data(b"bytes")
    with pytest.raises(ValueError, match="JSON compliant"):
        await sender.send_data({"score": float("nan")})


async def test_a_cancelled_scope_still_sends() -> None:
    sender, stream = Sender(), Stream()
    sender.outlet.attach(stream)
    with trio.CancelScope() as scope:
        scope.cancel()
        await sender.send_data("farewell")
    assert scope.cancelled_caught
    assert stream.got == ["farewell"]


async def test_a_plain_handler_sends_without_waiting() -> None:
    sender, stream = Sender(), Stream()

    def plain_handler() -> tuple[bool, bool]:
        event = {"type": "seen"}
        return sender.send_data_nowait({"a": 1}), sender.send_monitoring_event_nowait(event, "mine")

    assert await trio.to_thread.run_sync(plain_handler) == (False, False)
    sender.outlet.attach(stream)
    assert await trio.to_thread.run_sync(plain_handler) == (True, True)
    assert stream.got == ['{"a": 1}', ({"type": "seen"}, "mine")]


def test_one_stream_at_a_time() -> None:
    outlet, first, second = Outlet(), Stream(), Stream()
    outlet.attach(first)
    with pytest.raises(RuntimeError, match="already runs in a stream"):
        outlet.attach(second)
    outlet.detach(second)
    assert outlet.link is first
    outlet.detach(first)
    outlet.attach(second)
