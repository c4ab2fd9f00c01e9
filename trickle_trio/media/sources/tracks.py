"""Which tracks of a container are carried, and how: copied where that can be, else encoded anew."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final, Protocol, TypeVar

from attrs import frozen
from av.audio.codeccontext import AudioCodecContext
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from trickle_core.mpegts import (
    CLOCK_RATE,
    AccessUnit,
    AudioHeader,
    Codec,
    ElementaryStream,
    opus_head,
    opus_samples,
    parse_adts,
)
from trickle_core.mpegts.audio import OPUS_RATE
from trickle_trio.media.audio_encoder import AUDIO_PID
from trickle_trio.media.sources.aac import adts_shape
from trickle_trio.media.sources.copying import PictureCopy, SoundCopy
from trickle_trio.media.sources.stamps import WITHOUT_PTS, Packet, Placed, Stamper, told_duration
from trickle_trio.media.sources.transcode import PictureTranscoding, SoundTranscoding

NO_MOTION: Final = Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails
"""Cover art and the like: pictures beside the sound."""

AAC: Final = ElementaryStream(AUDIO_PID, Codec.AAC)


S = TypeVar("S", bound=Stream)


class Track(Protocol):
    """One track of the container on its way to one of the transport stream."""

    stream: ElementaryStream

    def begin(self, source: Stream) -> None:
        """A pass over the container begins, which is opened anew for each."""

    def take(self, placed: Placed) -> list[AccessUnit]:
        """Take the next packet; the units that are complete now."""

    def end_pass(self) -> list[AccessUnit]:
        """The pass has ended; the units that are complete now."""

    def finish(self) -> list[AccessUnit]:
        """The last pass has ended; the rest."""


@frozen
class TrackSettings:
    """How tracks are carried. See ``FileSource`` for what each means."""

    transcode: bool = False
    copy_h265: bool = False
    gop_seconds: float = 2.0
    live: bool = False
    video_index: int | None = None
    """Which picture, counted from 0; None: libav's choice."""
    audio_index: int | None = None


def chosen(container: InputContainer, settings: TrackSettings) -> list[VideoStream | AudioStream]:
    """The picture and the sound to carry, of those that libav can decode: as told, else its choice of each."""
    pictures = list(filter(_is_motion, container.streams.video))
    picture = _nth(pictures, settings.video_index) or container.streams.best("video")
    if picture not in pictures:
        picture = next(iter(pictures), None)
    sounds = list(filter(_is_readable, container.streams.audio))
    sound = _nth(sounds, settings.audio_index) or container.streams.best("audio", related=picture)
    if sound not in sounds:
        sound = next(iter(sounds), None)
    carried = (picture, sound)
    return [each for each in carried if isinstance(each, VideoStream | AudioStream)]


def _nth(streams: Sequence[S], index: int | None) -> S | None:
    """The stream that is told; the first, where there are not so many."""
    if index is None or not streams:
        return None
    return streams[index if index < len(streams) else 0]


def _is_motion(stream: VideoStream) -> bool:
    return not stream.disposition & NO_MOTION and _is_readable(stream)


def _is_readable(stream: Stream) -> bool:
    """Whether libav has a decoder for it: PyAV gives it no context otherwise, whatever its types say."""
    return getattr(stream, "codec_context", None) is not None


def track_for(source: VideoStream | AudioStream, settings: TrackSettings) -> Track:
    """How a stream of a container is carried."""
    if isinstance(source, VideoStream):
        return _picture_track(source, settings)
    copy = None if settings.transcode else _sound_copy(source)
    return copy or SoundTranscoding()


def _picture_track(source: VideoStream, settings: TrackSettings) -> Track:
    name = source.codec_context.codec.canonical_name
    has_pts = _has_pts(source)
    copied = {"h264": Codec.H264} | ({"hevc": Codec.H265} if settings.copy_h265 else {})
    # Pictures that are reordered without saying when they are shown: only a decoder knows.
    is_timed = has_pts or not source.codec_context.has_b_frames
    if name in copied and is_timed and not settings.transcode:
        return PictureCopy(copied[name])
    return PictureTranscoding(settings.gop_seconds, has_pts=has_pts, live=settings.live)


def _sound_copy(source: AudioStream) -> Track | None:
    """The track that copies this sound; None: it cannot be copied."""
    config = source.codec_context.extradata or b""
    match source.codec_context.codec.canonical_name:
        case "aac" if config:
            shape = adts_shape(config)
            return SoundCopy(AAC, shape.frame) if shape else None
        case "aac":
            return AdtsTrack()
        case "opus" if _is_plain(config, source.codec_context):
            channels = source.codec_context.layout.nb_channels
            return SoundCopy(ElementaryStream(AUDIO_PID, Codec.OPUS, channels))
        case "mp2":
            return SoundCopy(ElementaryStream(AUDIO_PID, Codec.MP2))
    return None


_MAPPING: Final = 18
"""Where an Opus header says how its streams map to channels (RFC 7845, 5.1)."""


def _is_plain(head: bytes, context: AudioCodecContext) -> bool:
    """Whether a transport stream's descriptor of so many channels says all that this Opus header says."""
    channels = context.layout.nb_channels
    if channels > 8:
        return False
    return channels <= 2 if not head else head[_MAPPING:] == opus_head(channels)[_MAPPING:]


class AdtsTrack:
    """AAC that has its ADTS headers already; how it is carried shows in the first one.

    A header may say that the channels are described within the frame (channel_configuration 0), which browsers do not
    play: then it is encoded anew.
    """

    def __init__(self) -> None:
        self.stream = AAC
        self._way: Track | None = None

    def begin(self, source: Stream) -> None:
        """A pass over the container begins."""
        self._source = source
        if self._way:
            self._way.begin(source)

    def take(self, placed: Placed) -> list[AccessUnit]:
        """Take the next packet; the units that are complete now."""
        if self._way is None:
            self._way = self._choose(bytes(placed.packet))
            self._way.begin(self._source)
        return self._way.take(placed)

    def end_pass(self) -> list[AccessUnit]:
        """The pass has ended."""
        return self._way.end_pass() if self._way else []

    def finish(self) -> list[AccessUnit]:
        """The last pass has ended."""
        return self._way.finish() if self._way else []

    @staticmethod
    def _choose(frame: bytes) -> Track:
        header = parse_adts(frame, 0)
        plain = isinstance(header, AudioHeader) and header.channels > 0
        return SoundCopy(AAC) if plain else SoundTranscoding()


def stamper_for(source: VideoStream | AudioStream) -> Stamper:
    """What fills in the times of a stream's packets."""
    if isinstance(source, VideoStream):
        return Stamper(told_duration, has_pts=_has_pts(source))
    return Stamper(partial(_sounds, source.codec_context), reorders=False)


def _sounds(context: AudioCodecContext, packet: Packet) -> int:
    """How long a packet sounds: the container may say less of the last one, but it is decoded whole."""
    samples, rate = context.frame_size or 0, context.sample_rate
    if context.codec.canonical_name == "opus":
        samples, rate = opus_samples(bytes(packet)), OPUS_RATE
    return max(told_duration(packet), round(samples * CLOCK_RATE / rate) if rate else 0)


def _has_pts(source: Stream) -> bool:
    return source.container.format.name not in WITHOUT_PTS
