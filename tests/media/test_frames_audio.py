"""Samples are [channels, samples] of the frame's own, whatever libav holds them in."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
import torch

from trickle_trio.frames import AudioFrame, AudioOutput
from trickle_trio.media.audio_frame import DTYPES, LAYOUTS, channels_of

if TYPE_CHECKING:
    from tests.media.conftest import Footage


def libav_frame(sample_format: str, layout: str, samples: int = 64) -> av.AudioFrame:
    """Each sample says its channel and its number."""
    channels = channels_of(layout)
    dtype = DTYPES[sample_format.removesuffix("p")]
    values = (np.arange(samples) % 10 + 10 * np.arange(channels)[:, np.newaxis]).astype(dtype)
    packed = np.ascontiguousarray(values.T).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(packed, sample_format.removesuffix("p"), layout)
    frame.sample_rate, frame.pts, frame.time_base = 48_000, 4800, Fraction(1, 48_000)
    if sample_format.endswith("p"):
        frame = av.AudioResampler(format=sample_format).resample(frame)[0]
    return frame


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("sample_format", [f + p for f in DTYPES for p in ("", "p")])
def test_samples_are_channels_by_samples_in_every_format(sample_format: str, layout: str) -> None:
    frame = AudioFrame.from_av_frame(libav_frame(sample_format, layout))
    channels = channels_of(layout)
    assert (frame.nb_samples, frame.channels) == (64, channels)
    samples = frame.samples
    assert samples.shape == (channels, 64)
    assert samples.dtype == DTYPES[sample_format.removesuffix("p")]
    assert samples[:, 3].tolist() == [3 + 10 * channel for channel in range(channels)]
    assert (frame.rate, frame.layout, frame.format) == (48_000, layout, sample_format)
    assert frame.seconds == pytest.approx(0.1)
    assert frame.duration == pytest.approx(64 / 48_000)
    again = AudioFrame.from_av_frame(frame.to_av_frame())
    assert again.samples.tolist() == samples.tolist()


def test_a_frame_that_nobody_listened_to_is_as_it_was_decoded() -> None:
    given = libav_frame("fltp", "stereo")
    frame = AudioFrame.from_av_frame(given)
    assert frame.to_av_frame() is given
    assert "64 samples fltp stereo" in repr(frame)
    frame.samples[:] = 0
    assert frame.to_av_frame() is not given
    assert not frame.to_av_frame().to_ndarray().any()
    assert given.to_ndarray().any()


def test_what_is_changed_in_place_is_heard_and_nowhere_else() -> None:
    given = libav_frame("fltp", "stereo")
    one, other = AudioFrame.from_av_frame(given), AudioFrame.from_av_frame(given)
    one.samples[:] = 0.5
    assert one.to_av_frame().to_ndarray().max() == 0.5
    assert other.samples.max() == 19


def test_replacing_keeps_time_rate_and_format() -> None:
    frame = AudioFrame.from_av_frame(libav_frame("fltp", "stereo"))
    frame.log_timestamps["decoded"] = 1.0
    made = frame.replace_samples(np.zeros((2, 32), np.float32))
    assert (made.timestamp, made.time_base, made.rate) == (4800, Fraction(1, 48_000), 48_000)
    assert (made.format, made.layout, made.nb_samples) == ("fltp", "stereo", 32)
    assert made.log_timestamps == {"decoded": 1.0}
    assert made.log_timestamps is not frame.log_timestamps


@pytest.mark.parametrize(
    ("sample_format", "given", "expected"),
    [
        ("fltp", np.array([[0.5, -1.0]], np.float64), [0.5, -1.0]),
        ("fltp", np.array([[1e300]]), [np.inf]),
        ("fltp", np.array([[16384, -32768]], np.int16), [0.5, -1.0]),
        ("fltp", np.array([[1 << 30, -(1 << 31)]], np.int32), [0.5, -1.0]),
        ("fltp", np.array([[192, 0]], np.uint8), [0.5, -1.0]),
        (
            "s16p",
            np.array([[0.5, -1.0, 9.0, -9.0, np.nan, np.inf]]),
            [16384, -32768, 32767, -32768, 0, 32767],
        ),
        ("s16", np.array([[40_000, -40_000, 5]], np.int64), [32767, -32768, 5]),
        ("s32", np.array([[1.0]]), [(1 << 31) - 1]),
        ("u8", np.array([[0.0, -1.0, 1.0]]), [128, 0, 255]),
    ],
)
def test_samples_are_brought_to_the_frames_format(
    sample_format: str, given: Any, expected: list[float]
) -> None:
    frame = AudioFrame.from_av_frame(libav_frame(sample_format, "mono"))
    for samples in (given, torch.from_numpy(given)):
        made = frame.replace_samples(samples)
        assert made.samples.dtype == DTYPES[sample_format.removesuffix("p")]
        assert made.samples[0].tolist() == expected


def test_another_number_of_channels_gets_its_usual_layout() -> None:
    frame = AudioFrame.from_av_frame(libav_frame("fltp", "5.1"))
    assert frame.replace_samples(np.zeros(10)).layout == "mono"
    assert frame.replace_samples(np.zeros((2, 10))).layout == "stereo"
    assert frame.replace_samples(np.zeros((6, 10))).layout == "5.1"


def test_frames_are_made_of_tensors_and_arrays() -> None:
    frame = AudioFrame.from_tensor(torch.zeros(2, 480), timestamp=960)
    assert (frame.format, frame.layout, frame.rate, frame.nb_samples) == (
        "fltp",
        "stereo",
        48_000,
        480,
    )
    assert (frame.seconds, frame.time_base) == (0.02, Fraction(1, 48_000))
    other = AudioFrame.from_ndarray(np.zeros(10, np.int16), 90, Fraction(1, 90_000), rate=8000)
    assert (other.format, other.layout, other.rate, other.seconds) == ("s16p", "mono", 8000, 0.001)
    assert AudioFrame.from_ndarray(np.zeros((4, 10)), layout="quad").layout == "quad"
    assert AudioFrame.from_tensor(torch.zeros(1, 4, requires_grad=True)).samples.shape == (1, 4)


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        (np.zeros((2, 2, 2)), ValueError, r"\[channels, samples\].*\[2, 2, 2\]"),
        (np.zeros((9, 2)), ValueError, "1 to 8 channels.*got 9"),
        (np.zeros((0, 2)), ValueError, "got 0"),
        (np.zeros((2, 2), bool), TypeError, "bool"),
        (np.zeros((2, 2), np.int64), TypeError, "int64"),
        (np.zeros((2, 2), complex), TypeError, "complex"),
        ([0.0], TypeError, "list"),
    ],
)
def test_anything_else_is_refused_with_what_came(
    given: Any, kind: type[Exception], said: str
) -> None:
    frame = AudioFrame.from_av_frame(libav_frame("fltp", "stereo"))
    for make in (frame.replace_samples, AudioFrame.from_ndarray):
        with pytest.raises(kind, match=said):
            make(given)


def test_a_layout_must_have_the_channels() -> None:
    with pytest.raises(ValueError, match=r"expected 6 channels for '5\.1', got 2"):
        AudioFrame.from_ndarray(np.zeros((2, 2)), layout="5.1")


def test_small_floats_become_those_that_libav_has() -> None:
    frame = AudioFrame.from_ndarray(np.full((1, 4), 0.5, np.float16))
    assert (frame.format, str(frame.samples.dtype), frame.samples[0, 0]) == ("fltp", "float32", 0.5)


def test_frames_without_a_rate_or_without_arrays_are_refused() -> None:
    given = av.AudioFrame("s64p", "mono", 16)
    with pytest.raises(ValueError, match="sample rate of at least 1, got 0"):
        AudioFrame.from_av_frame(given)
    given.sample_rate = 48_000
    frame = AudioFrame.from_av_frame(given)
    with pytest.raises(ValueError, match="got 's64p'"):
        frame.replace_samples(np.zeros(4))


def test_an_output_takes_one_frame_or_many(footage: Footage) -> None:
    frame = AudioFrame.from_ndarray(footage.tone(100))
    assert AudioOutput([frame, frame], "echo").frames == (frame, frame)
    assert AudioOutput(frame).frames == (frame,)
    assert AudioOutput([]).request_id == ""
