"""What a processor may ask of its streams, and what it may not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from trickle_trio.media.frames import VideoFrame
from trickle_trio.processor import (
    FrameProcessor,
    FrameSkipConfig,
    OverlayConfig,
    OverlayMode,
    StreamProcessor,
    as_processor,
    video_handler,
)


def test_the_defaults_are_those_that_users_know() -> None:
    config = OverlayConfig()
    assert config.mode is OverlayMode.PROGRESSBAR
    assert (config.message, config.progress, config.enabled) == ("Loading...", None, True)
    assert (config.auto_timeout_seconds, config.frame_count_to_disable) == (1.5, 1)


def test_a_mode_may_be_given_by_its_name() -> None:
    assert OverlayConfig("passthrough").mode is OverlayMode.PASSTHROUGH


@pytest.mark.parametrize(
    ("given", "kept"), [(None, None), (0.25, 0.25), (1, 1.0), (-3, 0.0), (1.0001, 1.0)]
)
def test_progress_stays_between_nothing_and_all(given: float | None, kept: float | None) -> None:
    assert OverlayConfig(progress=given).progress == kept


def test_it_takes_a_frame_at_least_to_end_it() -> None:
    assert OverlayConfig(frame_count_to_disable=0).frame_count_to_disable == 1


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"mode": "spinner"}, ValueError, "spinner"),
        ({"progress": math.nan}, ValueError, "progress"),
        ({"progress": "half"}, TypeError, "real number"),
        ({"message": 5}, TypeError, "message must be text"),
        ({"auto_timeout_seconds": -1}, ValueError, "auto_timeout_seconds"),
        ({"auto_timeout_seconds": math.nan}, ValueError, "auto_timeout_seconds"),
        ({"font": "/nowhere/at/all.ttf"}, ValueError, "no file"),
        ({"font": Path("/")}, ValueError, "no file"),
    ],
)
def test_what_cannot_be_is_refused(
    wrong: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        OverlayConfig(**wrong)


def test_the_defaults_of_skipping_are_those_that_users_know() -> None:
    config = FrameSkipConfig()
    assert (config.target_fps, config.adaptation_cooldown) == (None, 0.5)
    assert (config.max_queue_size, config.max_cleanup_frames) == (15, 50)


@pytest.mark.parametrize(
    "wrong",
    [
        {"target_fps": 0},
        {"target_fps": -5},
        {"target_fps": math.nan},
        {"target_fps": math.inf},
        {"adaptation_cooldown": -1},
        {"max_queue_size": 0},
    ],
)
def test_no_rate_that_there_is_not(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        FrameSkipConfig(**wrong)


async def look(frame: VideoFrame) -> None:
    return None


class Marked:
    @video_handler
    async def look(self, frame: VideoFrame) -> None:
        return None


class OnTheClass(FrameProcessor):
    overlay_config = OverlayConfig(message="on the class")

    async def process_video_async(self, frame: VideoFrame) -> None:
        return None


class OnTheInstance(FrameProcessor):
    def __init__(self) -> None:
        self.overlay_config = OverlayConfig(message="on the instance")

    async def process_video_async(self, frame: VideoFrame) -> None:
        return None


def test_every_form_of_a_processor_may_have_one() -> None:
    config = OverlayConfig(message="its own")
    forms = [
        StreamProcessor(look, overlay_config=config),
        StreamProcessor.from_handlers(Marked(), overlay_config=config),
        OnTheClass(),
        OnTheInstance(),
        look,
    ]
    found = [as_processor(form).overlay_config for form in forms]
    assert [each.message if each else None for each in found] == [
        "its own",
        "its own",
        "on the class",
        "on the instance",
        None,
    ]


def test_and_say_which_frames_it_does_not_get() -> None:
    skip = FrameSkipConfig(target_fps=5)

    class Skipping(OnTheClass):
        frame_skip_config = skip

    forms = [StreamProcessor(look, frame_skip_config=skip), Skipping(), OnTheClass()]
    assert [as_processor(form).frame_skip_config for form in forms] == [skip, skip, None]
