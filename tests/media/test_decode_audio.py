"""Sound comes out as it went in, at the time that its units say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trickle_core.mpegts.units import AccessUnit, Codec, ElementaryStream
from trickle_trio.media.decode import AudioDecoder
from trickle_trio.media.frames import AudioFrame

if TYPE_CHECKING:
    from tests.media.conftest import Footage

START = 1 << 34


def heard(units: list[AccessUnit]) -> list[AudioFrame]:
    decoder = AudioDecoder(units[0].stream)
    return [frame for unit in units for frame in decoder.decode(unit)] + decoder.flush()


def timeline(frames: list[AudioFrame], start: int, samples: int) -> NDArray[np.float64]:
    """What is heard from ``start`` (1/90000 s) on, each frame put where its time stamp says."""
    rate = frames[0].rate
    line = np.zeros((frames[0].channels, samples))
    for frame in frames:
        at = round((frame.timestamp - start) * rate / 90_000)
        values = frame.samples
        if np.issubdtype(values.dtype, np.integer):
            values = values / np.iinfo(values.dtype).max
        first, last = max(0, -at), min(frame.nb_samples, samples - at)
        if last > first:
            line[:, at + first : at + last] = values[:, first:last]
    return line


@pytest.mark.parametrize(
    ("codec", "layout"),
    [
        (Codec.AAC, "mono"),
        (Codec.AAC, "stereo"),
        (Codec.AAC, "5.1"),
        (Codec.AAC, "7.1"),
        (Codec.OPUS, "mono"),
        (Codec.OPUS, "stereo"),
        (Codec.OPUS, "5.1"),
        (Codec.OPUS, "7.1"),
        (Codec.MP2, "stereo"),
        (Codec.MP2, "mono"),
    ],
)
def test_every_codec_gives_back_each_channel_at_its_time(
    footage: Footage, codec: Codec, layout: str
) -> None:
    units = footage.sound(24_000, codec=codec, layout=layout, start=START)
    frames = heard(units)
    assert {(frame.layout, frame.rate) for frame in frames} == {(layout, 48_000)}
    assert [frame.timestamp for frame in frames] == [unit.pts for unit in units]
    sound = timeline(frames, START, 20_000)
    wanted = footage.tone(20_000, len(sound))
    loud = (
        range(len(sound))
        if layout not in ("5.1", "7.1")
        else [c for c in range(len(sound)) if c != 3]
    )
    for channel in loud:  # the fourth of 5.1 is for low frequencies, and loses ours
        match = np.corrcoef(sound[channel, 4000:], wanted[channel, 4000:])[0, 1]
        assert match > 0.97, (channel, match)


def test_a_damaged_unit_costs_itself_alone(footage: Footage) -> None:
    units = footage.sound(24_000)
    decoder = AudioDecoder(units[0].stream)
    broken = [evolve(unit, damaged=number in (5, 6)) for number, unit in enumerate(units)]
    broken[9] = evolve(broken[9], data=b"")
    broken[12] = evolve(broken[12], data=b"\xff\xf1 no AAC at all")
    times = [frame.timestamp for unit in broken for frame in decoder.decode(unit)]
    assert times == [unit.pts for n, unit in enumerate(units) if n not in (5, 6, 9, 12)]
    statistics = decoder.statistics()
    assert (statistics.errors, statistics.decoded) == (4, len(times))
    assert statistics.last_error


def test_rate_and_channels_may_change_on_the_way(footage: Footage) -> None:
    units = footage.sound(5 * 1024, layout="stereo")
    units += footage.sound(5 * 1024, layout="mono", rate=24_000, start=90_000)
    frames = heard(units)
    kinds = [(frame.layout, frame.rate) for frame in frames]
    assert kinds == [("stereo", 48_000)] * 6 + [("mono", 24_000)] * 6


def test_time_never_goes_back_without_a_flush(footage: Footage) -> None:
    units = footage.sound(4096)
    decoder = AudioDecoder(units[0].stream)
    assert sum(len(decoder.decode(unit)) for unit in units) == len(units)
    assert [decoder.decode(unit) for unit in units] == [[]] * len(units)
    assert decoder.statistics().misordered == len(units)
    decoder.flush()
    assert sum(len(decoder.decode(unit)) for unit in units) == len(units)


def test_a_decoder_can_be_flushed_before_it_heard_anything() -> None:
    assert AudioDecoder(ElementaryStream(257, Codec.AAC)).flush() == []


def test_a_closed_decoder_says_so(footage: Footage) -> None:
    units = footage.sound(2048)
    decoder = AudioDecoder(units[0].stream)
    decoder.close()
    decoder.close()
    with pytest.raises(RuntimeError, match="closed"):
        decoder.decode(units[0])
    with pytest.raises(RuntimeError, match="closed"):
        decoder.flush()


def test_a_picture_is_no_sound() -> None:
    with pytest.raises(ValueError, match="audio"):
        AudioDecoder(ElementaryStream(256, Codec.H264))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(codec=st.sampled_from([Codec.AAC, Codec.OPUS, Codec.MP2]), data=st.data())
def test_no_bytes_make_a_decoder_raise(footage: Footage, codec: Codec, data: st.DataObject) -> None:
    units = footage.sound(6000, codec=codec)
    decoder = AudioDecoder(units[0].stream)
    frames = []
    for unit in units:
        place = data.draw(st.integers(0, len(unit.data)))
        insert = data.draw(st.binary(max_size=20))
        frames += decoder.decode(
            evolve(unit, data=unit.data[:place] + insert + unit.data[place + 3 :])
        )
    frames += decoder.flush()
    times = [frame.timestamp for frame in frames]
    assert times == sorted(set(times))
    assert all(frame.nb_samples for frame in frames)
