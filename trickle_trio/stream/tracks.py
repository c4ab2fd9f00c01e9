"""Which of the input's tracks are carried, and as what."""

from __future__ import annotations

from typing import Final

from attrs import define, evolve, field

from trickle_core.mpegts import AccessUnit, Codec, ElementaryStream, ProgramMap

VIDEO_PID: Final = 0x100
AUDIO_PID: Final = 0x101
"""Where libavformat puts them too: analysers' users know these numbers."""


@define(eq=False)
class Tracks:
    """One picture and one sound of the input, the first ones by default, under our own numbers.

    Whatever the input calls them: a track that moves to another PID is the same track behind this
    station. ``video_index`` and ``audio_index`` count the tracks of each kind in the program's order;
    where there are not so many, the first is carried. ``video_codec``: what pictures are encoded as.
    ``audio_codec``: what sound is encoded as, None where it is copied. ``copies_video``:
    pictures are, and go out as what they came in.
    """

    video_codec: Codec = Codec.H264
    audio_codec: Codec | None = None
    video_index: int = 0
    audio_index: int = 0
    copies_video: bool = False
    video: ElementaryStream | None = None
    audio: ElementaryStream | None = None
    _video_pid: int | None = None
    _audio_pid: int | None = None
    _encoded: ElementaryStream = field(init=False)
    """What the encoder of the picture makes."""
    _made_here: ElementaryStream | None = None
    """The picture that comes from elsewhere than the input."""
    _made_sound: ElementaryStream | None = None
    """What the encoder of the sound makes, once that is known."""

    def __attrs_post_init__(self) -> None:
        self._encoded = ElementaryStream(VIDEO_PID, self.video_codec)

    def choose(self, program: ProgramMap) -> None:
        """A new or changed program: choose again."""
        pictures = [stream for stream in program.streams if stream.codec.is_video]
        sounds = [stream for stream in program.streams if not stream.codec.is_video]
        self.video, self._video_pid = _pick(pictures, self.video_index, VIDEO_PID)
        self.audio, self._audio_pid = _pick(sounds, self.audio_index, AUDIO_PID)
        self.video = self.video or self._made_here

    def expect_picture(self) -> None:
        """Pictures will come from elsewhere than the input."""
        self._made_here = self._encoded
        self.video = self.video or self._made_here

    def came_in(self) -> frozenset[int]:
        """What is carried of the input, by our own numbers."""
        pids = {VIDEO_PID: self._video_pid, AUDIO_PID: self._audio_pid}
        return frozenset(ours for ours, theirs in pids.items() if theirs is not None)

    @property
    def makes_picture(self) -> bool:
        """Whether pictures come from elsewhere than the input."""
        return self._made_here is not None

    def track_of(self, unit: AccessUnit) -> ElementaryStream | None:
        """The track that a unit of the input belongs to; None: one that is not carried."""
        if unit.stream.pid == self._video_pid:
            return self.video
        return self.audio if unit.stream.pid == self._audio_pid else None

    def carried(self) -> tuple[ElementaryStream, ...]:
        """What the output carries."""
        carried = []
        if self.video and self.copies_video and not self._made_here:
            carried.append(self.video)
        elif self.video:
            carried.append(self._encoded)
        if self.audio and self.audio_codec:
            carried.append(self._made_sound or ElementaryStream(AUDIO_PID, self.audio_codec))
        elif self.audio:
            carried.append(self.audio)
        return tuple(carried)

    def encodes_sound_as(self, stream: ElementaryStream) -> None:
        """Sound is encoded as this from now on: of Opus the tables tell the channels too."""
        self._made_sound = stream


def _pick(
    streams: list[ElementaryStream], index: int, pid: int
) -> tuple[ElementaryStream | None, int | None]:
    if not streams:
        return None, None
    picked = streams[index if index < len(streams) else 0]
    return picked if picked.pid == pid else evolve(picked, pid=pid), picked.pid
