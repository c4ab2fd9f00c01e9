"""What ``trickle bench`` measures with."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import av
import pytest

from trickle_trio.bench.footage import Size, make_footage
from trickle_trio.media.sources import SourceError

SIZE = Size.named("96p")


def test_a_size_is_16_by_9_with_even_sides() -> None:
    assert Size.named("720p") == Size("720p", 1280, 720)
    assert Size.named("100p") == Size("100p", 178, 100)


@pytest.mark.parametrize("name", ["", "720", "p", "88p", "721p", "2162p", "720px", "99999p"])
def test_what_is_no_size_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"^'{name}': expected a size as 720p"):
        Size.named(name)


def test_the_scenery_is_h264_and_aac_in_segments_of_a_second() -> None:
    footage = make_footage(SIZE, 2.5, None)
    assert footage.seconds == 2.5
    assert [sum(unit in footage.pictures for unit in part) for part in footage.segments] == [
        30,
        30,
        15,
    ]
    assert all(part[0].key and part[0].stream.codec.is_video for part in footage.segments)
    with av.open(io.BytesIO(footage.transport_stream()), format="mpegts", mode="r") as container:
        kinds = {stream.type: stream.codec_context.name for stream in container.streams}
        times = [frame.time for frame in container.decode(video=0)]
    assert kinds == {"video": "h264", "audio": "aac"}
    assert len(times) == 75
    assert all(0.03 < after - before < 0.04 for before, after in pairwise(times))


def test_the_scenery_moves_and_is_the_same_each_time() -> None:
    first, again = make_footage(SIZE, 0.5, None), make_footage(SIZE, 0.5, None)
    assert [unit.data for unit in first.pictures] == [unit.data for unit in again.pictures]
    assert min(len(unit.data) for unit in first.pictures) > 100
    assert first.bit_rate == sum(len(unit.data) for unit in first.pictures) * 8 * 2


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A file of 12 pictures at 15 a second, of another shape."""
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=15)
        stream.width, stream.height, stream.pix_fmt = 128, 128, "yuv420p"
        for index in range(12):
            picture = av.VideoFrame(128, 128, "yuv420p")
            for plane in picture.planes:
                plane.update(bytes([20 * index]) * plane.buffer_size)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def test_a_file_is_brought_to_the_size_and_the_rate_and_is_looped(clip: Path) -> None:
    footage = make_footage(SIZE, 2.0, clip)
    with av.open(io.BytesIO(footage.transport_stream()), format="mpegts", mode="r") as container:
        pictures = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    assert len(pictures) == 60
    assert {picture.shape for picture in pictures} == {(SIZE.height, SIZE.width)}
    levels = [round(float(picture.mean())) for picture in pictures]
    assert levels[1:3] == pytest.approx([levels[2]] * 2, abs=2)  # each is shown twice
    falls = [index for index in range(1, 60) if levels[index] < levels[index - 1] - 100]
    assert falls == [23, 46]


@pytest.mark.parametrize("content", [b"", b"no picture at all" * 100])
def test_a_file_that_is_none_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "none.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"^\S*none\.mp4: [^\n]+$"):
        make_footage(SIZE, 1.0, path)


def test_a_file_of_sound_alone_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame(format="s16", layout="mono", samples=800)
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(SourceError, match="there is no picture in it"):
        make_footage(SIZE, 1.0, path)
