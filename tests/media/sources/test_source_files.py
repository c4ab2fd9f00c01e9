"""Files of many kinds: what comes out plays, whole, in order, and in sync."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

import pytest

from trickle_core.mpegts import CLOCK_RATE, Codec, is_key, parameter_sets
from trickle_trio.media.sources import FileSource, SourceError

H264, H265, AAC, OPUS, MP2 = Codec.H264, Codec.H265, Codec.AAC, Codec.OPUS, Codec.MP2

CASES: dict[str, tuple[dict[str, Any], list[Codec]]] = {
    "plain.mp4": ({}, [H264, AAC]),
    "reordered.mp4": ({"bframes": 2}, [H264, AAC]),
    "reordered.mkv": ({"bframes": 2}, [H264, AAC]),
    "reordered.ts": ({"bframes": 2}, [H264, AAC]),
    "reordered.flv": ({"bframes": 2}, [H264, AAC]),
    "surround.mp4": ({"layout": "5.1", "bframes": 2}, [H264, AAC]),
    "cd.mp4": ({"rate": 44_100, "layout": "mono"}, [H264, AAC]),
    "opus.mp4": ({"audio": "libopus", "layout": "5.1"}, [H264, OPUS]),
    "opus.ts": ({"audio": "libopus"}, [H264, OPUS]),
    "mp2.ts": ({"audio": "mp2"}, [H264, MP2]),
    "web.webm": ({"video": "libvpx", "audio": "libopus"}, [H264, OPUS]),
    "motion.avi": ({"video": "mjpeg", "audio": "pcm_s16le"}, [H264, AAC]),
    "xvid.avi": ({"video": "mpeg4", "bframes": 2, "audio": "pcm_s16le"}, [H264, AAC]),
    "reordered.avi": ({"bframes": 2, "audio": "pcm_s16le"}, [H264, AAC]),
    "hevc.mp4": ({"video": "libx265", "bframes": 2}, [H264, AAC]),
}


@pytest.mark.parametrize("name", CASES)
def test_a_clip_plays_whole_and_in_sync(name: str, clips: Any, publish: Any) -> None:
    options, codecs = CASES[name]
    published = publish(FileSource(str(clips.make(name, **options))))
    played = published.played()
    assert published.codecs == codecs
    assert played.complaints == []
    times, brightness = zip(*played.pictures, strict=True)
    # Every picture, once, in the order in which they were drawn: they get brighter.
    assert len(times) == 60
    assert list(brightness) == sorted(brightness)
    assert max(brightness[i + 1] - brightness[i] for i in range(59)) < 9
    # An even 30 a second; Matroska and FLV count in milliseconds.
    assert all(b - a == pytest.approx(1 / 30, abs=0.0011) for a, b in pairwise(times))
    [click] = played.clicks()
    assert click - times[30] == pytest.approx(0, abs=0.004)


@pytest.mark.parametrize("name", ["surround.mp4", "cd.mp4", "opus.mp4"])
def test_copied_sound_keeps_rate_and_channels(name: str, clips: Any, publish: Any) -> None:
    options, _ = CASES[name]
    played = publish(FileSource(str(clips.make(name, **options)))).played()
    assert played.rate == options.get("rate", 48_000)
    assert played.layout.startswith(options["layout"])


def test_pictures_are_copied_and_not_encoded_anew(clips: Any, publish: Any) -> None:
    path = clips.make("a.mp4", bframes=2)
    copied, encoded = (publish(FileSource(str(path), transcode=t)) for t in (False, True))
    assert any(unit.pts > unit.dts for unit in copied.pictures)
    assert all(unit.pts == unit.dts for unit in encoded.pictures)
    assert encoded.played().complaints == []
    assert len(encoded.played().pictures) == 60


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.flv", "a.ts"])
def test_each_key_picture_has_its_parameter_sets(name: str, clips: Any, publish: Any) -> None:
    pictures = publish(FileSource(str(clips.make(name, bframes=2, gop=20)))).pictures
    keys = [unit for unit in pictures if unit.key]
    assert len(keys) == 3
    for unit in keys:
        sets = parameter_sets(unit.data, H264)
        assert len(sets.sps) == len(sets.pps) == 1
    assert [unit.key for unit in pictures] == [is_key(unit.data, H264) for unit in pictures]


def test_h265_is_copied_when_asked_for(clips: Any, publish: Any) -> None:
    path = clips.make("a.mp4", video="libx265", bframes=2)
    published = publish(FileSource(str(path), copy_h265=True))
    assert published.codecs == [H265, AAC]
    assert parameter_sets(published.pictures[0].data, H265).vps
    played = published.played()
    assert len(played.pictures) == 60
    assert played.complaints == []


def test_encoded_pictures_have_a_key_picture_each_gop(clips: Any, publish: Any) -> None:
    path = clips.make("a.mp4", bframes=2, gop=60)
    pictures = publish(FileSource(str(path), transcode=True, gop_seconds=0.5)).pictures
    keys = [number for number, unit in enumerate(pictures) if unit.key]
    assert keys == [0, 15, 30, 45]


@pytest.mark.parametrize(
    ("name", "options", "codecs"),
    [
        ("a.mp4", {"audio": None, "bframes": 2}, [H264]),
        ("a.h264", {"audio": None, "bframes": 2}, [H264]),
        ("b.h264", {"audio": None}, [H264]),
        ("a.m4a", {"video": None}, [AAC]),
        ("a.aac", {"video": None, "form": "adts"}, [AAC]),
        ("a.mp3", {"video": None, "audio": "libmp3lame"}, [AAC]),
        ("a.wav", {"video": None, "audio": "pcm_s16le"}, [AAC]),
        ("a.ogg", {"video": None, "audio": "libopus"}, [OPUS]),
    ],
    ids=str,
)
def test_picture_or_sound_alone(
    name: str, options: dict[str, Any], codecs: list[Codec], clips: Any, publish: Any
) -> None:
    published = publish(FileSource(str(clips.make(name, **options))))
    assert published.codecs == codecs
    played = published.played()
    assert played.complaints == []
    if codecs == [H264]:
        brightness = [bright for _, bright in played.pictures]
        assert len(brightness) == 60
        assert brightness == sorted(brightness)
    else:
        assert len(played.clicks()) == 1


def test_channels_that_adts_has_no_number_for_are_encoded_anew(clips: Any, publish: Any) -> None:
    # libavcodec describes 2.1 within the stream (a program config element).
    published = publish(FileSource(str(clips.make("a.mp4", layout="2.1"))))
    assert published.codecs == [H264, AAC]
    played = published.played()
    assert played.complaints == []
    assert len(played.clicks()) == 1


def test_the_same_channels_in_adts(clips: Any, publish: Any) -> None:
    path = clips.make("a.aac", video=None, layout="2.1", form="adts")
    played = publish(FileSource(str(path))).played()
    assert played.complaints == []
    assert played.layout == "3.0"


@pytest.mark.parametrize("name", ["a.mp4", "a.mp3"])
def test_cover_art_is_no_picture(name: str, clips: Any, publish: Any) -> None:
    audio = "libmp3lame" if name.endswith("3") else "aac"
    path = clips.make(name, video=None, audio=audio, cover=True)
    published = publish(FileSource(str(path)))
    assert published.codecs == [AAC]
    assert published.played().complaints == []


def test_units_come_in_the_order_to_write_them(clips: Any, publish: Any) -> None:
    for transcode in (False, True):
        units = publish(FileSource(str(clips.make("a.mp4", bframes=2)), transcode=transcode)).units
        assert [unit.dts for unit in units] == sorted(unit.dts for unit in units)


def test_sound_that_starts_late_or_ends_early_holds_nothing_up(clips: Any, publish: Any) -> None:
    path = clips.make("a.mp4", pictures=150, sound_seconds=1.5)
    with FileSource(str(path)) as source:
        ahead = 0
        while batch := source.read():
            ahead = max(ahead, batch[-1].dts - batch[0].dts)
    assert ahead < 3 * CLOCK_RATE
    assert len(publish(FileSource(str(path))).pictures) == 150


def test_nothing_comes_after_the_end(clips: Any) -> None:
    with FileSource(str(clips.make("a.mp4", pictures=5))) as source:
        while source.read():
            pass
        assert source.read() == []


@pytest.mark.parametrize("setting", ["gop_seconds", "timeout"])
def test_settings_are_checked_at_once(setting: str) -> None:
    with pytest.raises(ValueError, match=setting):
        FileSource("a.mp4", **cast("dict[str, Any]", {setting: 0}))


def test_a_clip_without_an_end_breaks_off_at_the_cut(clips: Any, publish: Any) -> None:
    path = clips.make("a.ts")
    path.write_bytes(path.read_bytes()[:40_000])
    assert 0 < len(publish(FileSource(str(path))).pictures) <= 60


def test_a_file_that_vanishes_from_a_loop(clips: Any) -> None:
    path = clips.make("a.mp4", pictures=5)
    with FileSource(str(path), loop=True) as source:
        source.read()
        path.unlink()
        with pytest.raises(SourceError, match=r"a\.mp4: no such file"):
            while True:
                source.read()
