"""A test picture with a tone that never end: nothing else is needed to see a stream run."""

from __future__ import annotations

from fractions import Fraction
from typing import ClassVar

from attrs import Attribute, field, frozen, validators

from trickle_core.mpegts import CLOCK_RATE, AccessUnit, ElementaryStream
from trickle_trio.media.audio_encoder import AudioEncoder
from trickle_trio.media.frames import AudioFrame, VideoFrame
from trickle_trio.media.sources.base import BlockingSource
from trickle_trio.media.sources.beeps import RATE, Beeps
from trickle_trio.media.sources.card import SMALLEST, Card
from trickle_trio.media.sources.order import DecodingOrder
from trickle_trio.media.sources.stamps import ORIGIN
from trickle_trio.media.video_encoder import VideoEncoder, VideoEncoderSettings

TIME_BASE = Fraction(1, CLOCK_RATE)
SAMPLE = Fraction(1, RATE)


def _even(_: object, attribute: Attribute[int], value: int) -> None:
    if value % 2:
        raise ValueError(f"{attribute.name} is {value}; 4:2:0 pictures have even sides")


@frozen(kw_only=True)
class TestSettings:
    """See ``TestSource``."""

    __test__: ClassVar = False
    width: int = field(validator=[validators.ge(SMALLEST[0]), _even])
    height: int = field(validator=[validators.ge(SMALLEST[1]), _even])
    fps: int = field(validator=[validators.ge(1), validators.le(120)])
    gop_seconds: float = field(validator=validators.gt(0))


class TestSource(BlockingSource):
    """A moving test card of ``width`` times ``height`` pixels, ``fps`` times a second, in H.264 and AAC.

    At the beginning of each second a lamp lights up and a beep is heard. There is a key picture every ``gop_seconds``.
    """

    __test__: ClassVar = False  # its name would make pytest take it for tests

    def __init__(
        self, *, width: int = 640, height: int = 360, fps: int = 30, gop_seconds: float = 2.0
    ) -> None:
        super().__init__()
        self._settings = settings = TestSettings(
            width=width, height=height, fps=fps, gop_seconds=gop_seconds
        )
        self._card = Card(settings.width, settings.height, settings.fps)
        self._beeps = Beeps(settings.fps)
        self._gop = max(1, round(settings.gop_seconds * settings.fps))
        self._pictures = VideoEncoder(VideoEncoderSettings(frame_rate=Fraction(settings.fps)))
        self._sounds = AudioEncoder(rate=RATE, layout="mono")
        self._order = DecodingOrder(self.streams)
        self._index = 0

    @property
    def streams(self) -> tuple[ElementaryStream, ...]:
        """H.264 and AAC."""
        return self._pictures.stream, self._sounds.stream

    @property
    def card(self) -> Card:
        """What is drawn: where its lamp is, for who measures."""
        return self._card

    def _open(self) -> None:
        """Nothing is to be waited for."""

    def _read(self) -> list[AccessUnit]:
        units: list[AccessUnit] = []
        while not units:
            units = self._order.put(self._picture() + self._sound())
            self._index += 1
        return units

    def _release(self) -> None:
        self._pictures.close()
        self._sounds.close()

    def _picture(self) -> list[AccessUnit]:
        picture = self._card.draw(self._index)
        picture.pts = ORIGIN + self._index * CLOCK_RATE // self._settings.fps
        picture.time_base = TIME_BASE
        frame = VideoFrame.from_av_frame(picture)
        return self._pictures.encode(frame, key=self._index % self._gop == 0)

    def _sound(self) -> list[AccessUnit]:
        time = ORIGIN * RATE // CLOCK_RATE + self._beeps.first_sample(self._index)
        samples = self._beeps.samples(self._index)
        return self._sounds.encode(AudioFrame.from_ndarray(samples, time, SAMPLE, rate=RATE))
