"""Whether encoders do what they are told, found out on this machine."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

import av
import pytest
from av.codec.codec import Capabilities

from trickle_core.mpegts import Codec
from trickle_trio.media.encode import (
    AudioEncoderSettings,
    VideoEncoderSettings,
    encoders_of,
    is_hardware,
    sound_trial,
    trial,
    working_audio,
    working_video,
)

HARDWARE = [
    name
    for name in ("h264_nvenc", "h264_v4l2m2m", "h264_qsv", "h264_amf")
    if name in av.codecs_available
    and av.codec.Codec(name, "w").capabilities & (Capabilities.hardware | Capabilities.hybrid)
]


def test_a_trial_says_why_not() -> None:
    assert trial(VideoEncoderSettings()) is None
    assert trial(VideoEncoderSettings(codec="libx265")) is None
    unknown = trial(VideoEncoderSettings(options={"presett": "fast"}))
    assert unknown == "libx264 has no option presett"
    refused = trial(VideoEncoderSettings(options={"crf": "good"}))
    assert refused is not None
    assert "good" in refused
    assert "avcodec_open2" not in refused
    assert av.logging.get_level() is None
    assert sound_trial(AudioEncoderSettings()) is None
    assert (
        sound_trial(AudioEncoderSettings(options={"loudness": "11"}))
        == "aac has no option loudness"
    )


class Noisy(Mapping[str, str]):
    """Options beside which libav says something of another file."""

    def __init__(self, options: dict[str, str]) -> None:
        self.options = options

    def __getitem__(self, name: str) -> str:
        return self.options[name]

    def __iter__(self) -> Iterator[str]:
        av.logging.log(av.logging.ERROR, "mpegts", "dts < pcr, TS is invalid")
        return iter(self.options)

    def __len__(self) -> int:
        return len(self.options)


def test_what_libav_says_of_others_is_no_reason() -> None:
    refused = trial(VideoEncoderSettings(options=Noisy({"crf": "good"})))
    assert refused is not None
    assert "good" in refused


def test_encoders_are_listed_by_what_they_make_and_hardware_comes_last() -> None:
    pictures = encoders_of(Codec.H264)
    assert pictures[0] == "libx264"
    assert not {"h264", "libx264rgb"} & set(pictures)
    assert pictures == sorted(pictures, key=is_hardware)
    assert set(HARDWARE) <= set(pictures)
    assert [encoders_of(codec) for codec in (Codec.H265, Codec.AAC, Codec.OPUS, Codec.MP2)] == [
        ["libx265", *(name.replace("h264", "hevc") for name in pictures[1:])],
        ["aac"],
        ["libopus"],
        [],
    ]


def test_what_works_is_taken_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    for settings in (
        VideoEncoderSettings(),
        VideoEncoderSettings(codec="libx265", bit_rate=500_000),
        VideoEncoderSettings(options={"preset": "veryfast"}),
    ):
        assert working_video(settings) is settings
    sound = AudioEncoderSettings(codec="libopus", bit_rate=64_000)
    assert working_audio(sound) is sound
    assert not caplog.records


@pytest.mark.parametrize("name", HARDWARE)
def test_hardware_that_does_not_open_gives_way_with_one_warning(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    asked = VideoEncoderSettings(codec=name, bit_rate=900_000, options={"preset": "p4"})
    if trial(asked) is None:
        pytest.skip(f"{name} works here")
    caplog.clear()
    got = working_video(asked)
    assert got == VideoEncoderSettings(codec="libx264", bit_rate=900_000)
    assert trial(got) is None
    [told] = [record for record in caplog.records if record.name.startswith("trickle_trio")]
    assert told.levelno == logging.WARNING
    assert told.message.startswith(f"{name} does not encode here (")


def test_software_that_refuses_its_options_is_an_error_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"libx264 cannot encode so: .*presett") as told:
        working_video(VideoEncoderSettings(options={"presett": "fast"}))
    assert "\n" not in str(told.value)
    with pytest.raises(ValueError, match=r"aac cannot encode so: .*loudness"):
        working_audio(AudioEncoderSettings(options={"loudness": "11"}))
