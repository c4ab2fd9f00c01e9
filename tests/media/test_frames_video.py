"""A frame converts what is asked for, when it is asked for, and belongs to nobody else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Any, get_args

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from trickle_core.mpegts.units import Codec
from trickle_trio.frames import VideoFrame, VideoOutput
from trickle_trio.media.colour import Colour
from trickle_trio.media.convert import Look
from trickle_trio.media.decode import VideoDecoder
from trickle_trio.media.encode import VideoEncoder
from trickle_trio.media.fit import Fit
from trickle_trio.media.pixels import Layout, UnreadablePixelsError
from trickle_trio.media.tensors import Wanted, fetched

if TYPE_CHECKING:
    from tests.media.conftest import Footage

HEIGHT, WIDTH = 90, 160
COLOUR = Colour.usual(WIDTH, HEIGHT)


def look(width: int = WIDTH, height: int = HEIGHT, pixel_format: str = "yuv420p") -> Look:
    return Look(width, height, pixel_format, COLOUR)


@pytest.fixture
def frame(footage: Footage) -> VideoFrame:
    return VideoFrame.from_av_frame(footage.picture(3, WIDTH, HEIGHT))


# --- lazy


def test_a_frame_that_nobody_looked_at_goes_to_the_encoder_as_it_was_decoded(
    footage: Footage,
) -> None:
    picture = footage.picture(3, WIDTH, HEIGHT)
    frame = VideoFrame.from_av_frame(picture)
    assert frame.rendered(look()) is picture
    assert frame.to_av_frame() is picture
    assert frame.tensor.shape == (HEIGHT, WIDTH, 3)
    assert frame.rendered(look()) is picture


def test_torch_stays_out_until_a_tensor_is_asked_for() -> None:
    program = """
import sys, numpy
from fractions import Fraction
from trickle_core.mpegts.units import Codec
from trickle_trio.media.decode import VideoDecoder, AudioDecoder
from trickle_trio.media.encode import VideoEncoder, AudioEncoder
from trickle_trio.frames import VideoFrame, AudioFrame
encoder, again, decoder = VideoEncoder(), VideoEncoder(), VideoDecoder(Codec.H264)
shown = 0
for number in range(3):
    given = VideoFrame.from_ndarray(numpy.zeros((48, 64, 3), numpy.uint8), timestamp=number * 3000)
    for unit in encoder.encode(given):
        for frame in decoder.decode(unit):
            assert frame.to_ndarray().shape == (48, 64, 3)
            shown += len(again.encode(frame.fitted(32, 32)))
sound, ears = AudioEncoder(), 0
hears = AudioDecoder(sound.stream)
for number in range(5):
    for unit in sound.encode(AudioFrame.from_ndarray(numpy.zeros((2, 1024)), number * 1024)):
        ears += len(hears.decode(unit))
assert shown == 3 and ears > 2
assert "torch" not in sys.modules
assert tuple(frame.tensor.shape) == (48, 64, 3)
assert "torch" in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


# --- what it says


def test_it_knows_its_time_and_its_size(footage: Footage) -> None:
    frame = VideoFrame.from_av_frame(footage.picture(3, WIDTH, HEIGHT))
    assert (frame.width, frame.height) == (WIDTH, HEIGHT)
    assert (frame.timestamp, frame.time_base) == (9000, Fraction(1, 90_000))
    assert frame.seconds == pytest.approx(0.1)
    assert "160x90" in repr(frame)
    assert "yuv420p" in repr(frame)


def test_what_is_made_of_it_keeps_time_colour_and_marks(footage: Footage) -> None:
    colour = Colour(matrix=9, full_range=True)
    picture = footage.picture(3, WIDTH, HEIGHT, "yuvj420p", colour)
    frame = VideoFrame.from_av_frame(picture, Fraction(4, 3))
    frame.log_timestamps["decoded"] = 1.5
    for made in (frame.replace_tensor(frame.tensor), frame.fitted(64, 64)):
        assert (made.timestamp, made.time_base, made.colour) == (9000, frame.time_base, colour)
        assert made.log_timestamps == {"decoded": 1.5}
        assert made.log_timestamps is not frame.log_timestamps
    assert frame.replace_tensor(frame.tensor).pixel_aspect == Fraction(4, 3)
    assert frame.replace_tensor(torch.zeros(64, 64, 3)).pixel_aspect == 1


def test_frames_are_made_of_tensors_and_arrays() -> None:
    second = Fraction(1, 1000)
    made = VideoFrame.from_tensor(torch.zeros(4, 6, 3), timestamp=500, time_base=second)
    assert (made.seconds, made.width, made.height) == (0.5, 6, 4)
    assert VideoFrame.from_ndarray(np.zeros((4, 6, 3)), 500, second).seconds == 0.5
    assert VideoFrame.from_tensor(torch.zeros(4, 6, 3)).timestamp == 0


def test_an_output_names_what_made_it(frame: VideoFrame) -> None:
    output = VideoOutput(frame, "red_tint")
    assert (output.frame, output.request_id) == (frame, "red_tint")
    assert (output.timestamp, output.time_base) == (frame.timestamp, frame.time_base)
    assert output.tensor is frame.tensor
    assert VideoOutput(frame).request_id == ""


# --- what it shows


def test_the_tensor_is_made_once_of_floats(frame: VideoFrame) -> None:
    tensor = frame.tensor
    assert frame.tensor is tensor
    assert (tensor.shape, tensor.dtype, tensor.device.type) == (
        (HEIGHT, WIDTH, 3),
        torch.float32,
        "cpu",
    )
    assert tensor.permute(2, 0, 1).is_contiguous()
    assert frame.to_tensor().is_contiguous()
    assert 0 <= float(tensor.min()) < float(tensor.max()) <= 1
    np.testing.assert_allclose(tensor.numpy() * 255, frame.to_ndarray(), atol=1e-3)


def test_it_shows_what_was_in_the_picture(frame: VideoFrame, footage: Footage) -> None:
    shown = frame.to_ndarray().astype(int) - footage.rgb(3, WIDTH, HEIGHT)
    assert np.abs(shown).mean() < 3


def test_what_torch_changes_in_place_is_shown(frame: VideoFrame) -> None:
    frame.tensor[..., 1] = 0
    assert frame.to_ndarray()[..., 1].max() == 0
    assert frame.to_tensor()[..., 1].max() == 0
    assert frame.to_tensor(layout="CHW")[1].max() == 0
    assert frame.rendered(look(pixel_format="rgb24")).to_ndarray()[..., 1].max() == 0
    assert frame.fitted(80, 44).to_ndarray()[..., 1].max() == 0


def test_what_torch_changes_under_inference_mode_is_shown(frame: VideoFrame) -> None:
    with torch.inference_mode():
        frame.tensor.mul_(0)
    assert frame.to_ndarray().max() == 0


def test_a_tensor_shares_no_memory_with_another_frame(footage: Footage) -> None:
    picture = footage.picture(3, WIDTH, HEIGHT)
    one, other = VideoFrame.from_av_frame(picture), VideoFrame.from_av_frame(picture)
    before = other.to_ndarray()
    one.tensor.zero_()
    assert np.array_equal(other.to_ndarray(), before)
    given = torch.ones(HEIGHT, WIDTH, 3)
    first, second = VideoFrame.from_tensor(given), VideoFrame.from_tensor(given)
    first.tensor.zero_()
    assert second.to_ndarray().min() == 255
    assert given.min() == 1


def test_arrays_are_the_callers_own(footage: Footage) -> None:
    for picture in (footage.picture(3, WIDTH, HEIGHT), footage.picture(3, WIDTH, HEIGHT, "rgb24")):
        frame = VideoFrame.from_av_frame(picture)
        first = frame.to_ndarray()
        kept = first.copy()
        first[:] = 0
        assert np.array_equal(frame.to_ndarray(), kept)
    given = np.full((8, 8, 3), 7, np.uint8)
    frame = VideoFrame.from_ndarray(given)
    frame.to_ndarray()[:] = 0
    assert given.min() == 7


@pytest.mark.parametrize("width", [160, 161, 162, 175])
def test_arrays_are_contiguous_whatever_the_width(footage: Footage, width: int) -> None:
    array = VideoFrame.from_av_frame(footage.picture(0, width, 90, "yuv444p")).to_ndarray()
    assert array.shape == (90, width, 3)
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert np.abs(array.astype(int) - footage.rgb(0, width, 90)).mean() < 3


@pytest.mark.parametrize("layout", get_args(Layout))
@pytest.mark.parametrize("dtype", [None, torch.float16, torch.bfloat16, torch.float64, torch.uint8])
def test_tensors_come_in_the_layout_and_dtype_that_is_asked_for(
    frame: VideoFrame, layout: Layout, dtype: torch.dtype | None
) -> None:
    replaced = frame.replace_tensor(frame.tensor)
    for shown in (frame, replaced, frame.fitted(WIDTH, HEIGHT)):
        made = shown.to_tensor(dtype=dtype, layout=layout)
        assert made.dtype == (dtype or torch.float32)
        assert made.is_contiguous()
        hwc = made.squeeze(0) if layout.startswith("B") else made
        assert made.ndim == len(layout)
        hwc = hwc.permute(1, 2, 0) if layout.endswith("CHW") else hwc
        unit = hwc.double() / 255 if dtype == torch.uint8 else hwc.double()
        # planar and packed conversions of swscale round differently
        assert torch.mean(torch.abs(unit - frame.tensor.double())) < 2 / 255


def test_new_tensors_are_the_callers_own(frame: VideoFrame) -> None:
    for layout in get_args(Layout):
        for dtype in (torch.float32, torch.uint8):
            frame.to_tensor(dtype=dtype, layout=layout).zero_()
    assert frame.to_ndarray().max() > 200


def test_other_layouts_and_dtypes_are_refused_with_what_is_possible(frame: VideoFrame) -> None:
    wrong: Any = "WHC"
    with pytest.raises(ValueError, match="HWC, CHW, BHWC, BCHW; got 'WHC'"):
        frame.to_tensor(layout=wrong)
    with pytest.raises(TypeError, match=r"got torch\.int64"):
        frame.to_tensor(dtype=torch.int64)


# --- what may be given

RGB = np.linspace(0, 255, 12 * 16 * 3).reshape(12, 16, 3).astype(np.uint8)
GREY = np.repeat(RGB[..., :1], 3, axis=-1)
RGBA = np.concatenate((RGB, np.full((12, 16, 1), 9, np.uint8)), axis=-1)

FORMS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "HWC": lambda hwc: hwc,
    "1HWC": lambda hwc: hwc[np.newaxis],
    "CHW": lambda hwc: np.ascontiguousarray(hwc.transpose(2, 0, 1)),
    "1CHW": lambda hwc: np.ascontiguousarray(hwc.transpose(2, 0, 1))[np.newaxis],
    "CHW, a view": lambda hwc: hwc.transpose(2, 0, 1),
    "HWC, a view of CHW": lambda hwc: np.ascontiguousarray(hwc.transpose(2, 0, 1)).transpose(
        1, 2, 0
    ),
    "HWC, every other pixel": lambda hwc: np.repeat(np.repeat(hwc, 2, 0), 2, 1)[::2, ::2],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
@pytest.mark.parametrize(("given", "expected"), [(RGB, RGB), (RGBA, RGB), (RGB[..., :1], GREY)])
def test_every_form_of_picture_is_taken(
    form: str, dtype: str, given: NDArray[np.uint8], expected: NDArray[np.uint8]
) -> None:
    typed = given if dtype == "uint8" else (given / 255).astype(dtype)
    array = FORMS[form](typed)
    atol = 1 if dtype == "float16" else 0
    for frame in (VideoFrame.from_ndarray(array), VideoFrame.from_tensor(torch.from_numpy(array))):
        assert (frame.width, frame.height) == (16, 12)
        np.testing.assert_allclose(frame.to_ndarray().astype(int), expected, atol=atol)
        np.testing.assert_allclose(frame.tensor.numpy() * 255, expected, atol=atol + 0.01)
        np.testing.assert_allclose(frame.to_tensor(dtype=torch.uint8).int(), expected, atol=atol)
        assert frame.to_av_frame().format.name == "rgb24"
        luma = frame.rendered(Look(16, 12, "yuv444p", COLOUR)).to_ndarray()[0]
        weighted = expected @ np.array([0.299, 0.587, 0.114]) * 219 / 255 + 16
        assert np.abs(luma - weighted).mean() < 2


@pytest.mark.parametrize(
    "array",
    [RGB[::-1], RGB[:, ::-1], RGB.astype(">f4") / np.float32(255), np.asfortranarray(RGB)],
    ids=["upside down", "mirrored", "big endian", "fortran"],
)
def test_odd_memory_is_taken_too(array: NDArray[Any]) -> None:
    unit = array if array.dtype == np.uint8 else array * 255
    array.flags.writeable = False
    frame = VideoFrame.from_ndarray(array)
    np.testing.assert_allclose(frame.to_ndarray(), unit, atol=1e-3)
    np.testing.assert_allclose(frame.tensor.numpy() * 255, unit, atol=0.01)


def test_gradients_bfloat16_and_wild_values_are_taken() -> None:
    unit = torch.from_numpy(RGB).float() / 255
    learned = VideoFrame.from_tensor(unit.clone().requires_grad_())
    assert np.array_equal(learned.to_ndarray(), RGB)
    assert not learned.tensor.requires_grad
    brain = VideoFrame.from_tensor(unit.to(torch.bfloat16))
    assert np.abs(brain.to_ndarray().astype(int) - RGB).max() <= 1
    wild = torch.tensor([-5.0, 0.5, 1e30]).expand(4, 4, 3)
    assert VideoFrame.from_tensor(wild).to_ndarray()[0, 0].tolist() == [0, 127, 255]
    assert VideoFrame.from_tensor(wild).tensor[0, 0].tolist() == [0, 0.5, 1]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_makes_some_picture_and_no_noise(bad: float) -> None:
    tensor = torch.full((4, 4, 3), 0.5)
    tensor[1] = bad
    frame = VideoFrame.from_tensor(tensor)
    shown = frame.to_ndarray()
    assert np.delete(shown, 1, axis=0).tolist() == np.full((3, 4, 3), 127).tolist()
    assert torch.isfinite(frame.tensor).all()
    frame.rendered(Look(4, 4, "yuv420p", COLOUR))


@pytest.mark.parametrize(
    "shape",
    [
        (4, 4),
        (5, 6, 2),
        (2, 6, 5),
        (2, 4, 4, 3),
        (1, 5, 6, 7),
        (1, 1, 4, 4, 3),
        (5,),
        (0, 4, 3),
        (1, 4, 3),
    ],
)
def test_other_shapes_are_refused_with_what_came(shape: tuple[int, ...], frame: VideoFrame) -> None:
    for given in (np.zeros(shape), torch.zeros(shape)):
        with pytest.raises(
            ValueError, match=r"expected a picture as \[H,W,C\].*got .*float"
        ) as caught:
            frame.replace_tensor(given)
        assert str(list(shape)) in str(caught.value)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (np.zeros((4, 4, 3), np.int32), "int32"),
        (torch.zeros(4, 4, 3, dtype=torch.int64), "int64"),
        (np.zeros((4, 4, 3), bool), "bool"),
        ([[[0.0]]], "list"),
        (None, "NoneType"),
    ],
)
def test_other_types_are_refused_with_what_came(given: Any, named: str, frame: VideoFrame) -> None:
    with pytest.raises(TypeError, match=named):
        frame.replace_tensor(given)


def test_what_a_device_does_not_give_back_is_said_in_one_type() -> None:
    lost = VideoFrame.from_tensor(torch.zeros(4, 4, 3, device="meta"))
    with pytest.raises(UnreadablePixelsError, match="meta"):
        lost.rendered(Look(4, 4, "yuv420p", COLOUR))


# --- for libav


def test_pictures_for_libav_carry_the_time(footage: Footage) -> None:
    frame = VideoFrame.from_ndarray(footage.rgb(), 7, Fraction(1, 30))
    for picture in (frame.to_av_frame(), frame.to_av_frame(torch.zeros(4, 6, 3))):
        assert (picture.pts, picture.time_base, picture.format.name) == (
            7,
            Fraction(1, 30),
            "rgb24",
        )
    assert np.array_equal(frame.to_av_frame().to_ndarray(), footage.rgb())
    assert frame.to_av_frame(torch.zeros(4, 6, 3)).width == 6


def test_two_pictures_of_one_frame_do_not_share_what_is_lent(footage: Footage) -> None:
    one = VideoFrame.from_ndarray(footage.rgb(1))
    other = VideoFrame.from_ndarray(footage.rgb(9))
    wanted = Look(320, 180, "rgb24", COLOUR)
    kept = one.rendered(wanted)
    other.rendered(wanted)
    other.to_av_frame()
    assert np.array_equal(kept.to_ndarray(), footage.rgb(1))


@pytest.mark.parametrize(("width", "height"), [(33, 17), (32, 17), (33, 16), (3, 3)])
@pytest.mark.parametrize("pixel_format", ["rgb24", "yuv444p"])
def test_odd_sizes_lose_their_last_row_and_column(
    footage: Footage, width: int, height: int, pixel_format: str
) -> None:
    given = footage.rgb(0, width, height)
    if pixel_format == "rgb24":
        frame = VideoFrame.from_ndarray(given)
    else:
        frame = VideoFrame.from_av_frame(footage.picture(0, width, height, pixel_format))
    even = Look(width & ~1, height & ~1, "yuv420p", COLOUR)
    picture = frame.rendered(even)
    assert (picture.width, picture.height, picture.format.name) == (
        even.width,
        even.height,
        "yuv420p",
    )
    shown = VideoFrame.from_av_frame(picture).to_ndarray().astype(int)
    if even.width > 2:  # with a single chroma sample there is little to compare
        assert np.abs(shown - given[: even.height, : even.width]).mean() < 12


# --- fitted


def test_fitting_covers_and_keeps_the_middle(footage: Footage) -> None:
    array = np.zeros((100, 200, 3), np.uint8)
    array[:, 50:150] = (255, 0, 0)
    array[:, :50] = (0, 0, 255)
    for source in (VideoFrame.from_ndarray(array), _as_picture(array)):
        shown = source.fitted(50, 50).to_ndarray()
        assert shown.shape == (50, 50, 3)
        assert (np.abs(shown[:, 2:-2].astype(int) - (255, 0, 0)) < 12).all()


def test_fitting_can_keep_everything_between_black_bars() -> None:
    array = np.full((100, 200, 3), 255, np.uint8)
    for source in (VideoFrame.from_ndarray(array), _as_picture(array)):
        fitted = source.fitted(100, 100, Fit.CONTAIN)
        for shown in (fitted.to_ndarray(), _rgb_of(fitted.rendered(look(100, 100)))):
            assert shown[:24].max() < 8
            assert shown[76:].max() < 8
            assert shown[26:74].min() > 245


def test_fitting_can_stretch() -> None:
    array = np.zeros((100, 200, 3), np.uint8)
    array[:, :100] = 255
    shown = _as_picture(array).fitted(50, 100, Fit.STRETCH).to_ndarray()
    assert shown[:, :23].min() > 240
    assert shown[:, 27:].max() < 15


def test_pixels_that_are_not_square_are_made_so(footage: Footage) -> None:
    wide = VideoFrame.from_av_frame(footage.picture(0, 90, 90), pixel_aspect=Fraction(2))
    fitted = wide.fitted(180, 90, Fit.CONTAIN)
    assert fitted.pixel_aspect == 1
    assert fitted.to_ndarray()[:, (2, 177)].max() > 100


def test_what_was_fitted_can_be_fitted_again_and_looked_at(frame: VideoFrame) -> None:
    small = frame.fitted(64, 64)
    assert (small.width, small.height) == (64, 64)
    assert small.tensor.shape == (64, 64, 3)
    assert small.to_tensor(layout="CHW").shape == (3, 64, 64)
    again = small.fitted(32, 16)
    assert again.to_ndarray().shape == (16, 32, 3)
    assert frame.to_ndarray().shape == (HEIGHT, WIDTH, 3)
    assert frame.rendered(look(64, 64)).width == 64


@pytest.mark.parametrize("size", [(0, 10), (10, 1), (-4, 10)])
def test_sizes_that_are_none_are_refused(frame: VideoFrame, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least 2x2"):
        frame.fitted(*size)


def _as_picture(array: NDArray[np.uint8]) -> VideoFrame:
    rgb = av.VideoFrame.from_ndarray(array, "rgb24")
    return VideoFrame.from_av_frame(rgb.reformat(format="yuv420p", dst_color_range=1, threads=1))


def _rgb_of(picture: av.VideoFrame) -> NDArray[np.uint8]:
    return VideoFrame.from_av_frame(picture).to_ndarray()


# --- on a GPU


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize("layout", ["HWC", "CHW", "BHWC", "BCHW"])
def test_what_is_sent_to_a_device_is_what_is_made_here(
    frame: VideoFrame, dtype: torch.dtype, layout: Any
) -> None:
    """The way over a bus, with this processor at its other end."""
    wanted = Wanted.of("cpu", dtype, layout)
    rgb = frame.to_ndarray()
    sent = wanted._lay_out(wanted._of_sent(rgb))
    here = frame.to_tensor("cpu", dtype, layout)
    assert (sent.dtype, sent.shape, sent.is_contiguous()) == (here.dtype, here.shape, True)
    assert torch.allclose(sent.float(), here.float(), atol=2 / 255, rtol=0.01)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_what_comes_back_from_a_device_is_what_is_drawn_here(channels: int) -> None:
    pixels = torch.rand(HEIGHT, WIDTH, channels) * 1.5 - 0.2
    pixels[0, 0] = float("nan")
    home = fetched(pixels)
    assert (home.dtype, tuple(home.shape)) == (torch.uint8, (HEIGHT, WIDTH, 3))
    drawn = VideoFrame.from_tensor(pixels).to_ndarray()
    assert np.abs(home.numpy().astype(int) - drawn).max() <= 1


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.gpu
@gpu
def test_a_gpu_gets_bytes_and_gives_bytes_back(frame: VideoFrame) -> None:
    there = frame.to_tensor("cuda", layout="BCHW")
    assert (there.device.type, tuple(there.shape)) == ("cuda", (1, 3, HEIGHT, WIDTH))
    assert torch.allclose(there.cpu()[0].permute(1, 2, 0), frame.tensor, atol=1e-3)
    back = frame.replace_tensor(there)
    assert np.abs(back.to_ndarray().astype(int) - frame.to_ndarray()).max() <= 1
    assert back.tensor.device.type == "cpu"
    assert back.to_tensor("cuda", torch.float16).device.type == "cuda"


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize("layout", ["HWC", "CHW", "BHWC", "BCHW"])
def test_every_tensor_on_a_gpu_is_the_one_here(
    frame: VideoFrame, dtype: torch.dtype, layout: Any
) -> None:
    there, here = frame.to_tensor("cuda", dtype, layout), frame.to_tensor("cpu", dtype, layout)
    assert (there.dtype, there.shape) == (here.dtype, here.shape)
    assert torch.allclose(there.cpu().float(), here.float(), atol=2 / 255, rtol=0.01)


@pytest.mark.gpu
@gpu
def test_the_picture_crosses_the_bus_as_bytes_from_and_into_pinned_memory(
    frame: VideoFrame,
) -> None:
    before = torch.cuda.memory_allocated()
    there = Wanted.of("cuda", None, "HWC")._send(torch.from_numpy(frame.to_ndarray()))
    assert there.dtype == torch.uint8
    assert torch.cuda.memory_allocated() - before < 2 * WIDTH * HEIGHT * 3 + 1024
    assert fetched(there).is_pinned()


@pytest.mark.gpu
@gpu
def test_many_frames_in_flight_do_not_mix(footage: Footage) -> None:
    """Pinned memory is lent again as soon as a copy is over, and not before."""
    frames = [VideoFrame.from_ndarray(np.full((360, 640, 3), n, np.uint8)) for n in range(100)]
    there = [frame.to_tensor("cuda", torch.uint8) for frame in frames]
    assert [int(tensor.float().mean()) for tensor in there] == list(range(100))
    assert [int(VideoFrame.from_tensor(t).to_ndarray().mean()) for t in there] == list(range(100))


@pytest.mark.gpu
@gpu
def test_a_picture_from_a_gpu_is_encoded(footage: Footage) -> None:
    encoder, decoder = VideoEncoder(), VideoDecoder(Codec.H264)
    shown = []
    for number in range(5):
        frame = VideoFrame.from_av_frame(footage.picture(number))
        processed = frame.replace_tensor(frame.to_tensor("cuda", torch.float16) * 0.5)
        for unit in encoder.encode(processed):
            shown += decoder.decode(unit)
    assert len(shown) == 5
    before = footage.rgb(0).mean()
    assert abs(shown[0].to_ndarray().mean() - before / 2) < 4
