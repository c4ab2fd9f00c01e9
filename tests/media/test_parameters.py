"""What parameter sets say, and what is taken out of them."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import pytest
from av.video.codeccontext import VideoCodecContext
from hypothesis import given
from hypothesis import strategies as st

from trickle_core.mpegts.nal import parameter_sets
from trickle_core.mpegts.units import Codec
from trickle_trio.media.colour import Colour
from trickle_trio.media.parameters import escaped, unescaped, without_timing

if TYPE_CHECKING:
    from tests.media.conftest import Footage


def facts(sps: bytes, data: bytes) -> tuple[Any, ...]:
    """What a decoder knows after a key picture with this SPS in the place of its own."""
    own = parameter_sets(data, Codec.H264).sps[0]
    reader = av.CodecContext.create("h264", "r")
    assert isinstance(reader, VideoCodecContext)
    [picture] = reader.decode(av.Packet(data.replace(own, sps))) + reader.decode(None)
    assert not picture.is_corrupt
    shape = (picture.width, picture.height, picture.format.name, reader.sample_aspect_ratio)
    colour = (picture.colorspace, picture.color_range, picture.color_primaries, picture.color_trc)
    return *shape, *colour, bytes(picture.planes[0]), reader.framerate


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le", "yuv444p"])
@pytest.mark.parametrize("aspect", [Fraction(1), Fraction(64, 45), Fraction(1001, 997)])
@pytest.mark.parametrize("colour", [Colour(1), Colour(5, True, 5, 6), Colour(2)])
@pytest.mark.parametrize("extra", ["", ":nal-hrd=vbr", ":chromaloc=1", ":overscan=show"])
def test_the_timing_is_taken_out_and_nothing_else(
    footage: Footage, pixel_format: str, aspect: Fraction, colour: Colour, extra: str
) -> None:
    options = {"x264-params": f"keyint=1{extra}", "maxrate": "500k", "bufsize": "500k"}
    [unit] = footage.video(
        1,
        pixel_format=pixel_format,
        colour=colour,
        size=(64, 48),
        options=options,
        sample_aspect_ratio=aspect,
    )
    [sps] = parameter_sets(unit.data, Codec.H264).sps
    timed, timeless = facts(sps, unit.data), facts(without_timing(sps), unit.data)
    assert timed[:-1] == timeless[:-1]
    assert timed[-1]
    assert not timeless[-1]
    assert without_timing(without_timing(sps)) == without_timing(sps)


@given(st.binary(max_size=60))
def test_what_cannot_be_read_is_left_as_it_is_or_read_somehow(sps: bytes) -> None:
    assert without_timing(sps)[:1] == sps[:1]


@given(st.lists(st.sampled_from([0, 1, 3, 4, 255]), max_size=40).map(bytes))
def test_escaping_leaves_no_start_code_and_can_be_undone(data: bytes) -> None:
    coded = escaped(data)
    for forbidden in (b"\0\0\0", b"\0\0\1", b"\0\0\2"):
        assert forbidden not in coded
    assert unescaped(coded) == data
