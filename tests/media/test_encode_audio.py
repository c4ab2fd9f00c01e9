"""Encoded sound is heard when it was heard before, whatever comes in which portions, with which holes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trickle_core.mpegts.audio import AudioHeader, parse_adts
from trickle_core.mpegts.units import AccessUnit, Codec
from trickle_trio.media.decode import AudioDecoder
from trickle_trio.media.encode import AudioEncoder, AudioEncoderSettings
from trickle_trio.media.frames import AudioFrame

if TYPE_CHECKING:
    from tests.media.conftest import Footage

TICKS = Fraction(1, 90_000)
MS = 90
OPUS = AudioEncoderSettings(codec="libopus")


def portion(
    samples: NDArray[Any], first: int, rate: int = 48_000, layout: str | None = None, late: int = 0
) -> AudioFrame:
    """A frame whose first sample is the stream's sample number ``first``; ``late`` moves its time by so many ticks."""
    time = round(first * 90_000 / rate) + late
    return AudioFrame.from_ndarray(samples, time, TICKS, rate=rate, layout=layout)


def portions(signal: NDArray[np.float32], size: int = 1024, **kind: Any) -> list[AudioFrame]:
    return [
        portion(signal[:, at : at + size], at, **kind) for at in range(0, signal.shape[1], size)
    ]


def encoded(encoder: AudioEncoder, frames: Iterable[AudioFrame]) -> list[AccessUnit]:
    return [unit for frame in frames for unit in encoder.encode(frame)] + encoder.flush()


def heard(units: list[AccessUnit], samples: int, rate: int = 48_000) -> NDArray[np.float64]:
    """Decode, and put each frame where its time says."""
    decoder = AudioDecoder(units[0].stream)
    frames = [frame for unit in units for frame in decoder.decode(unit)] + decoder.flush()
    assert decoder.statistics().errors == 0
    line = np.zeros((frames[0].channels, samples))
    for frame in frames:
        at = round(frame.seconds * rate)
        values = frame.samples[:, max(0, -at) : max(0, samples - at)]
        start = max(0, at)
        line[:, start : start + values.shape[1]] = values[:, : max(0, samples - start)]
    return line


def delay(one: NDArray[np.float64], other: NDArray[np.float32], within: int = 2000) -> int:
    """By how many samples ``one`` is later than ``other``."""
    middle = len(other) // 2
    probe = other[middle - 4000 : middle + 4000]
    fits = [
        float(np.dot(one[middle - 4000 + shift : middle + 4000 + shift], probe))
        for shift in range(-within, within + 1, 4)
    ]
    return 4 * int(np.argmax(fits)) - within


def noise(samples: int, channels: int = 2) -> NDArray[np.float32]:
    """Low noise: unlike a tone it fits at one place only."""
    white = np.random.default_rng(5).normal(0, 1, (channels, samples + 64))
    smooth = np.apply_along_axis(lambda row: np.convolve(row, np.ones(33) / 33, "valid"), 1, white)
    return np.asarray(0.9 * smooth[:, :samples], np.float32)


def rising(units: list[AccessUnit]) -> bool:
    return all(a.pts < b.pts for a, b in itertools.pairwise(units))


# --- what comes out is what went in, when it went in


@pytest.mark.parametrize("settings", [AudioEncoderSettings(), OPUS], ids=["aac", "opus"])
@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1", "7.1"])
def test_sound_stays_where_it_was(
    footage: Footage, settings: AudioEncoderSettings, layout: str
) -> None:
    channels = av.AudioLayout(layout).nb_channels
    tone = footage.tone(24_000, channels)
    frames = portions(tone, layout=layout)
    encoder = AudioEncoder.like(frames[0], settings)
    units = encoded(encoder, frames)
    assert rising(units)
    assert all(unit.key and unit.dts == unit.pts for unit in units)
    sound = heard(units, 22_000)
    assert sound.shape[0] == channels
    for channel in range(channels):
        if channel != 3:  # low frequencies only
            assert np.corrcoef(sound[channel, 4000:], tone[channel, 4000:22_000])[0, 1] > 0.95


@pytest.mark.parametrize("settings", [AudioEncoderSettings(), OPUS], ids=["aac", "opus"])
def test_it_is_not_a_millisecond_late(settings: AudioEncoderSettings) -> None:
    signal = noise(48_000)
    units = encoded(AudioEncoder(settings), portions(signal))
    assert abs(delay(heard(units, 48_000)[0], signal[0])) <= 24


@pytest.mark.parametrize("size", [1, 7, 960, 1024, 5000])
def test_portions_may_be_of_any_length(footage: Footage, size: int) -> None:
    tone = footage.tone(4096 if size == 1 else 20_000)
    whole = encoded(AudioEncoder(), portions(tone, 20_000))
    parts = encoded(AudioEncoder(), portions(tone, size))
    assert [unit.pts for unit in parts] == [unit.pts for unit in whole]
    assert [unit.data for unit in parts] == [unit.data for unit in whole]


def test_times_are_those_of_the_source_to_the_tick(footage: Footage) -> None:
    start = (1 << 36) + 7
    frames = portions(footage.tone(10 * 1024))
    for frame in frames:
        frame.timestamp += start
    units = encoded(AudioEncoder(), frames)
    assert [unit.pts for unit in units] == [start + 1920 * number for number in range(-1, 10)]


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100, 96_000])
def test_aac_keeps_the_rate(rate: int) -> None:
    signal = noise(48_000)
    frames = portions(signal, rate=rate)
    encoder = AudioEncoder.like(frames[0])
    assert encoder.rate == rate
    units = encoded(encoder, frames)
    header = parse_adts(units[3].data, 0)
    assert isinstance(header, AudioHeader)
    assert (header.rate, header.channels, header.end) == (rate, 2, len(units[3].data))
    assert abs(delay(heard(units, 48_000, rate)[0], signal[0])) <= 24


@pytest.mark.parametrize(
    ("rate", "coded"), [(44_100, 48_000), (22_050, 24_000), (96_000, 48_000), (16_000, 16_000)]
)
def test_opus_gets_the_nearest_rate_that_it_has(rate: int, coded: int) -> None:
    signal = noise(rate)
    frames = portions(signal, rate=rate)
    encoder = AudioEncoder.like(frames[0], OPUS)
    assert encoder.rate == coded
    sound = heard(encoded(encoder, frames), 48_000)[0]
    at = np.arange(rate) * 48_000 / rate
    assert abs(delay(np.interp(at, np.arange(48_000), sound), signal[0])) <= 24


@pytest.mark.parametrize(
    ("given", "aac", "opus"),
    [
        ("5.1(side)", "5.1", "5.1"),
        ("quad", "4.0", "quad"),
        ("6.1", "7.1", "6.1"),
        ("2.1", "3.0", "3.0"),
    ],
)
def test_layouts_without_a_name_in_the_container_get_the_next_one(
    given: str, aac: str, opus: str
) -> None:
    for kind, expected in ((None, aac), (OPUS, opus)):
        signal = noise(9600, av.AudioLayout(given).nb_channels)
        frames = portions(signal, layout=given)
        encoder = AudioEncoder.like(frames[0], kind)
        assert encoder.layout == expected
        assert len(encoded(encoder, frames)) >= 9
        assert encoder.statistics().failures == 0


def test_the_stream_says_how_many_channels_where_the_container_wants_it() -> None:
    assert AudioEncoder(OPUS, pid=400, layout="5.1").stream.channels == 6
    assert AudioEncoder(pid=400, layout="5.1").stream.channels is None
    assert AudioEncoder(pid=400).stream.pid == 400
    assert AudioEncoder(OPUS).stream.codec is Codec.OPUS


# --- other kinds on the way


def test_frames_of_another_kind_are_brought_to_the_encoders(footage: Footage) -> None:
    encoder = AudioEncoder()
    stereo = portions(footage.tone(24_000))
    assert not encoder.needs_new(stereo[0])
    units = [unit for frame in stereo for unit in encoder.encode(frame)]
    mono = footage.tone(22_050, 1, 44_100)
    integers = (mono * 32767).astype(np.int16)
    for at in range(0, 22_050, 1000):
        frame = portion(integers[:, at : at + 1000], at, 44_100, late=45_000)
        assert encoder.needs_new(frame)
        units += encoder.encode(frame)
    units += encoder.flush()
    assert rising(units)
    sound = heard(units, 44_000)
    assert np.abs(sound[:, 26_000:44_000]).max() > 0.2
    assert np.corrcoef(sound[0, 26_000:44_000], sound[1, 26_000:44_000])[0, 1] > 0.99
    statistics = encoder.statistics()
    assert (statistics.silence, statistics.restarts, statistics.failures) == (0, 0, 0)


def test_an_encoder_that_takes_anothers_place_does_not_repeat_its_time(footage: Footage) -> None:
    frames = portions(footage.tone(20 * 1024))
    first = AudioEncoder()
    units = encoded(first, frames[:10])
    assert first.last_pts == units[-1].pts
    second = AudioEncoder.like(frames[10], after=first.last_pts)
    units += encoded(second, frames[10:])
    assert rising(units)
    assert len(units) == 21


def test_numbers_that_are_none_are_silence(footage: Footage) -> None:
    tone = footage.tone(9600)
    tone[:, 3000:4000] = np.nan
    tone[:, 5000] = np.inf
    encoder = AudioEncoder()
    assert len(encoded(encoder, portions(tone))) == 11
    assert encoder.statistics().failures == 0


# --- time that is not as it should be


def test_jitter_of_a_millisecond_moves_nothing(footage: Footage) -> None:
    frames = portions(footage.tone(20 * 1024))
    for number, frame in enumerate(frames):
        frame.timestamp += (number % 3 - 1) * MS // 2
    units = encoded(AudioEncoder(), frames)
    assert {b.pts - a.pts for a, b in itertools.pairwise(units)} == {1920}


def test_a_clock_that_runs_off_is_followed(footage: Footage) -> None:
    """The samples' clock is one in a thousand slow against the time stamps': after 40 s that makes 40 ms."""
    encoder = AudioEncoder()
    units = []
    for number in range(1900):
        frame = AudioFrame.from_ndarray(
            np.zeros((2, 1024), np.float32), round(number * 1921.92), TICKS
        )
        units += encoder.encode(frame)
    assert rising(units)
    last = len(units) - 2
    assert abs(units[-1].pts - round(last * 1921.92)) <= 2 * MS
    assert encoder.statistics().silence == 0


@pytest.mark.parametrize("hole", [1024, 3 * 1024, 24_000])
def test_a_hole_is_filled_with_silence(hole: int) -> None:
    signal = noise(96_000)
    before, after = signal[:, :24_000], signal[:, 24_000 + hole :]
    frames = portions(before)
    frames += [
        portion(after[:, at : at + 1024], 24_000 + hole + at)
        for at in range(0, after.shape[1], 1024)
    ]
    encoder = AudioEncoder()
    units = encoded(encoder, frames)
    assert encoder.statistics().silence == pytest.approx(hole, abs=2)
    assert {b.pts - a.pts for a, b in itertools.pairwise(units)} <= {1919, 1920, 1921}
    sound = heard(units, 96_000)[0]
    assert np.abs(sound[24_300 : 24_000 + hole - 300]).max() < 0.05
    assert abs(delay(sound, signal[0])) <= 48


def test_a_long_hole_stays_one(footage: Footage) -> None:
    frames = portions(footage.tone(10 * 1024))
    later = portions(footage.tone(10 * 1024))
    for frame in later:
        frame.timestamp += 100 * 90_000
    encoder = AudioEncoder()
    units = encoded(encoder, frames + later)
    assert rising(units)
    assert encoder.statistics().restarts == 1
    assert max(b.pts - a.pts for a, b in itertools.pairwise(units)) > 99 * 90_000
    assert units[-1].pts == 100 * 90_000 + 9 * 1920
    assert len(units) == 22


def test_what_was_heard_already_is_left_out() -> None:
    signal = noise(48_000)
    frames = portions(signal)
    again = frames[:10] + frames[8:12] + frames[10:]
    encoder = AudioEncoder()
    units = encoded(encoder, again)
    assert encoder.statistics().overlap == 4 * 1024
    assert {b.pts - a.pts for a, b in itertools.pairwise(units)} == {1920}
    assert abs(delay(heard(units, 48_000)[0], signal[0])) <= 24


def test_half_heard_portions_are_cut() -> None:
    signal = noise(48_000)
    frames = portions(signal, 4096)
    frames.insert(3, portion(signal[:, 10_000:14_096], 10_000))
    encoder = AudioEncoder()
    units = encoded(encoder, frames)
    assert encoder.statistics().overlap == pytest.approx(4096, abs=4)
    assert abs(delay(heard(units, 48_000)[0], signal[0])) <= 24


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 3000),
            st.sampled_from([0, 0, 0, 45, -45, 900, -900, 9000, -9000, 300_000, -50_000]),
            st.sampled_from([("mono", 48_000), ("stereo", 48_000), ("stereo", 44_100)]),
        ),
        min_size=1,
        max_size=20,
    ),
    st.sampled_from([AudioEncoderSettings(), OPUS]),
)
def test_time_rises_whatever_comes(
    footage: Footage, story: list[tuple[int, int, tuple[str, int]]], settings: AudioEncoderSettings
) -> None:
    encoder = AudioEncoder(settings)
    units, time = [], 900_000
    for samples, jump, (layout, rate) in story:
        time += jump
        tone = footage.tone(samples, 1 if layout == "mono" else 2, rate)
        units += encoder.encode(AudioFrame.from_ndarray(tone, time, TICKS, rate=rate))
        time += round(samples * 90_000 / rate)
    units += encoder.flush()
    assert rising(units)
    assert encoder.statistics().failures == 0
    assert encoder.statistics().encoded == len(story)


# --- settings, failures, the end


@pytest.mark.parametrize(
    "wrong", [{"codec": "libx264"}, {"codec": "mp2"}, {"codec": "nothing"}, {"bit_rate": -1}]
)
def test_settings_are_checked_where_they_are_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        AudioEncoderSettings(**wrong)


def test_a_bit_rate_counts(footage: Footage) -> None:
    signal = noise(48_000)
    low, high = (
        sum(
            len(u.data)
            for u in encoded(AudioEncoder(AudioEncoderSettings(bit_rate=rate)), portions(signal))
        )
        for rate in (32_000, 256_000)
    )
    assert low * 2 < high


def test_an_encoder_that_does_not_open_counts_and_goes_on(footage: Footage) -> None:
    encoder = AudioEncoder(AudioEncoderSettings(codec="libopus", options={"frame_duration": "7"}))
    frames = portions(footage.tone(3000))
    assert encoded(encoder, frames) == []
    statistics = encoder.statistics()
    assert (statistics.failures, statistics.failures_in_a_row, statistics.encoded) == (3, 3, 0)
    assert "avcodec_open2" in str(statistics.last_error)


def test_after_a_flush_it_goes_on_in_step(footage: Footage) -> None:
    frames = portions(footage.tone(20 * 1024))
    encoder = AudioEncoder()
    units = encoded(encoder, frames[:10]) + encoded(encoder, frames[10:])
    assert rising(units)
    assert units[-1].pts == 19 * 1920


def test_a_closed_encoder_says_so(footage: Footage) -> None:
    encoder = AudioEncoder()
    frame = portions(footage.tone(1024))[0]
    encoder.encode(frame)
    encoder.close()
    encoder.close()
    assert encoder.flush() == []
    with pytest.raises(RuntimeError, match="closed"):
        encoder.encode(frame)
