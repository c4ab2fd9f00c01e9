"""A loop goes on: times rise, sound is where it was beside the picture, and heard once."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from trickle_trio.media.sources import FileSource, SourceError

MILLISECOND = 90

CASES: dict[str, dict[str, Any]] = {
    "plain.mp4": {},
    "reordered.mp4": {"bframes": 2},
    "reordered.mkv": {"bframes": 2},
    "reordered.ts": {"bframes": 2},
    "reordered.flv": {"bframes": 2},
    "cd.mp4": {"bframes": 2, "rate": 44_100},
    "opus.mp4": {"audio": "libopus"},
    "opus.mkv": {"audio": "libopus"},
    "mp2.ts": {"audio": "mp2"},
    "short_sound.mp4": {"sound_seconds": 1.2},
    "long_sound.mp4": {"sound_seconds": 2.0, "pictures": 40},
    "mute.mp4": {"audio": None, "bframes": 2},
    "dark.m4a": {"video": None},
}


@pytest.mark.parametrize("transcode", [False, True], ids=["copied", "encoded"])
@pytest.mark.parametrize("name", CASES)
def test_each_pass_is_like_the_first(name: str, transcode: bool, clips: Any, publish: Any) -> None:
    path = str(clips.make(name, **CASES[name]))
    played = publish(FileSource(path, loop=True, transcode=transcode), seconds=7).played()
    assert played.complaints == []
    clicks = played.clicks()[:3]
    # A pass begins where the picture gets dark again.
    begins = [
        played.pictures[0][0] if played.pictures else 0.0,
        *(b[0] for a, b in pairwise(played.pictures) if b[1] < a[1] - 20),
    ][:3]
    assert len(clicks) == (0 if name == "mute.mp4" else 3)
    assert len(begins) == (1 if name == "dark.m4a" else 3)
    if clicks and played.pictures:
        offsets = [click - begin for click, begin in zip(clicks, begins, strict=True)]
        assert max(offsets) - min(offsets) < 0.001
    assert all(b[0] - a[0] > 0.032 for a, b in pairwise(played.pictures))


@pytest.mark.parametrize("name", [name for name in CASES if name != "mute.mp4"])
def test_sound_is_heard_once(name: str, clips: Any, publish: Any) -> None:
    path = str(clips.make(name, **CASES[name]))
    played = publish(FileSource(path, loop=True), seconds=7).played()
    for (start, block), (following, _) in pairwise(played.sound):
        assert following >= start + len(block) / played.rate - 0.001


@pytest.mark.parametrize("name", ["plain.mp4", "reordered.ts", "cd.mp4", "dark.m4a"])
def test_sound_of_the_picture_s_length_has_no_hole(name: str, clips: Any, publish: Any) -> None:
    path = str(clips.make(name, **CASES[name]))
    played = publish(FileSource(path, loop=True), seconds=7).played()
    for (start, block), (following, _) in pairwise(played.sound):
        assert following - start - len(block) / played.rate < 0.001


def test_the_picture_pauses_for_no_more_than_the_rest_of_the_sound(
    clips: Any, publish: Any
) -> None:
    path = str(clips.make("plain.mp4", bframes=2))
    pictures = publish(FileSource(path, loop=True), seconds=7).pictures
    times = sorted(unit.pts for unit in pictures[:-5])
    assert max(b - a for a, b in pairwise(times)) < 3000 + 1920


def test_long_runs_do_not_drift(clips: Any, publish: Any) -> None:
    path = str(clips.make("cd.mp4", rate=44_100, pictures=15))
    published = publish(FileSource(path, loop=True), seconds=30)
    begins = [unit.pts for unit in published.pictures[::15]]
    sounds = [unit.pts for unit in published.sounds if unit.pts >= begins[0]]
    per_pass = sum(pts < begins[1] for pts in sounds)
    offsets = [begin - sound for begin, sound in zip(begins, sounds[::per_pass], strict=False)]
    assert len(offsets) > 40
    assert max(offsets) - min(offsets) < MILLISECOND


def test_a_clip_shorter_than_tracks_wait_for_each_other(clips: Any, publish: Any) -> None:
    path = str(clips.make("a.mp4", pictures=3, gop=1, sound_seconds=0.02))
    assert len(publish(FileSource(path, loop=True), seconds=2).pictures) > 50


@pytest.mark.parametrize("loop", [False, True])
def test_what_cannot_be_decoded_is_told(loop: bool, clips: Any) -> None:
    path = clips.make("a.webm", video="libvpx", audio=None, pictures=5)
    path.write_bytes(
        path.read_bytes().replace(b"\x9d\x01\x2a", b"\x00\x00\x00")
    )  # VP8's key frames
    with (
        pytest.raises(SourceError, match=r"a\.webm: nothing in it could be decoded"),
        FileSource(str(path), loop=loop) as source,
    ):
        source.read()
