from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from trickle_trio.media.frames import AudioFrame, AudioOutput, VideoFrame, VideoOutput
from trickle_trio.processor.errors import HandlerError, WrongReturnError
from trickle_trio.processor.results import (
    VideoProcessingResult,
    Withheld,
    audio_result,
    video_result,
)

TIME_BASE = Fraction(1, 90_000)
LABEL = "video handler 'tint'"


@pytest.fixture
def picture() -> VideoFrame:
    return VideoFrame.from_ndarray(
        np.full((8, 16, 3), 60, np.uint8), timestamp=4500, time_base=TIME_BASE
    )


@pytest.fixture
def sound() -> AudioFrame:
    return AudioFrame.from_ndarray(
        np.zeros((2, 960), np.float32), rate=48_000, timestamp=4500, time_base=TIME_BASE
    )


def seen(frame: VideoFrame | VideoProcessingResult) -> np.ndarray[Any, Any]:
    assert isinstance(frame, VideoFrame)
    return frame.to_ndarray()


def test_none_passes_the_input_on_and_withheld_holds_it_back(picture: VideoFrame) -> None:
    assert video_result(None, picture, LABEL) is picture
    assert video_result(Withheld, picture, LABEL) is Withheld
    assert Withheld is VideoProcessingResult.WITHHELD


def test_frames_come_out_as_they_are(picture: VideoFrame) -> None:
    other = VideoFrame.from_ndarray(np.zeros((4, 4, 3), np.uint8), timestamp=9, time_base=TIME_BASE)
    for result in (other, [other], (other,), VideoOutput(other, "id"), [VideoOutput(other, "id")]):
        assert video_result(result, picture, LABEL) is other


SHAPES = [(6, 10), (1, 6, 10)]
LAYOUTS = [
    (*shape, channels) if last else (*shape[:-2], channels, *shape[-2:])
    for shape in SHAPES
    for channels in (1, 3, 4)
    for last in (True, False)
]


@pytest.mark.parametrize("shape", LAYOUTS, ids=str)
@pytest.mark.parametrize("kind", ["float32", "uint8"])
@pytest.mark.parametrize("library", ["torch", "numpy"])
def test_bare_pictures_of_every_layout_get_the_inputs_time(
    picture: VideoFrame, shape: tuple[int, ...], kind: str, library: str
) -> None:
    array = np.full(shape, 1.0 if kind == "float32" else 255, kind)
    result = torch.from_numpy(array) if library == "torch" else array
    frame = video_result(result, picture, LABEL)
    assert isinstance(frame, VideoFrame)
    assert (frame.timestamp, frame.time_base) == (4500, TIME_BASE)
    assert (frame.width, frame.height) == (10, 6)
    assert seen(frame).min() == 255


def test_half_precision_and_wrapped_lists_are_pictures_too(picture: VideoFrame) -> None:
    half = torch.ones((6, 10, 3), dtype=torch.float16)
    assert seen(video_result([half], picture, LABEL)).min() == 255


WRONG_VIDEO = [
    (42, "returned int (42)"),
    ("picture", "returned str ('picture')"),
    (True, "returned bool (True)"),
    ({}, "returned dict;"),
    ([], "returned a list of 0 ()"),
    ([1, 2], "returned a list of 2 (int, int)"),
    ([1, 2.0, "x", 4], "returned a list of 4 (int, float, str, ...)"),
    ([[1]], "returned a list of 1 (list)"),
    (VideoProcessingResult, "returned the class VideoProcessingResult"),
    (np.zeros((4, 4), np.uint8), "returned data that is no frame: expected a picture as [H,W,C]"),
    (torch.zeros((2, 8, 8, 3)), "returned data that is no frame: expected a picture as [H,W,C]"),
    (np.zeros((8, 8, 3), np.int64), "got int64 of shape [8, 8, 3]"),
    (torch.zeros((8, 8, 5)), "got torch.float32 of shape [8, 8, 5]"),
]


@pytest.mark.parametrize(("result", "says"), WRONG_VIDEO, ids=[says for _, says in WRONG_VIDEO])
def test_a_wrong_picture_says_what_it_is_and_what_was_expected(
    picture: VideoFrame, result: Any, says: str
) -> None:
    with pytest.raises(WrongReturnError, match=re.escape(says)) as caught:
        video_result(result, picture, LABEL)
    assert str(caught.value).startswith(f"{LABEL} returned ")
    assert "expected a" in str(caught.value)
    assert isinstance(caught.value, HandlerError)


def test_an_audio_frame_is_no_picture(picture: VideoFrame, sound: AudioFrame) -> None:
    with pytest.raises(WrongReturnError, match="returned AudioFrame; expected a VideoFrame"):
        video_result(sound, picture, LABEL)


def test_sound_in_every_form(sound: AudioFrame) -> None:
    other = sound.replace_samples(np.ones((2, 960), np.float32))
    assert audio_result(None, sound, LABEL) == [sound]
    assert audio_result(other, sound, LABEL) == [other]
    assert audio_result([sound, other], sound, LABEL) == [sound, other]
    assert audio_result((other,), sound, LABEL) == [other]
    assert audio_result(AudioOutput([sound, other], "id"), sound, LABEL) == [sound, other]
    assert audio_result([AudioOutput([other], "id")], sound, LABEL) == [other]
    assert audio_result([], sound, LABEL) == []
    assert audio_result(Withheld, sound, LABEL) == []


@pytest.mark.parametrize("library", ["torch", "numpy"])
@pytest.mark.parametrize("wrapped", [True, False])
def test_bare_samples_get_the_inputs_time_and_rate(
    sound: AudioFrame, library: str, wrapped: bool
) -> None:
    array = np.full((2, 960), 0.5, np.float32)
    result: Any = torch.from_numpy(array) if library == "torch" else array
    (frame,) = audio_result([result] if wrapped else result, sound, LABEL)
    assert (frame.timestamp, frame.time_base, frame.rate) == (4500, TIME_BASE, 48_000)
    assert np.array_equal(frame.samples, array)


WRONG_AUDIO = [
    (1.5, "returned float (1.5)"),
    ([None], "returned NoneType"),
    ([[1]], "returned a list of 1 (list)"),
    ({}, "returned dict;"),
]


@pytest.mark.parametrize(("result", "says"), WRONG_AUDIO, ids=[says for _, says in WRONG_AUDIO])
def test_a_wrong_sound_says_what_it_is_and_what_was_expected(
    sound: AudioFrame, result: Any, says: str
) -> None:
    with pytest.raises(WrongReturnError, match=re.escape(says)) as caught:
        audio_result(result, sound, "audio handler 'echo'")
    assert "expected a list of AudioFrame" in str(caught.value)


def test_a_video_frame_is_no_sound(picture: VideoFrame, sound: AudioFrame) -> None:
    with pytest.raises(WrongReturnError, match="returned VideoFrame; expected a list"):
        audio_result(picture, sound, LABEL)
