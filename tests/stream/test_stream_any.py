"""Whatever comes in, in whatever order: what must hold of what goes out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any

import numpy as np
import trio
from attrs import evolve, field, frozen
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from trickle_core.mpegts import (
    CLOCK_RATE,
    CLOCK_WRAP,
    AccessUnit,
    Codec,
    Demuxer,
    ElementaryStream,
    TimelineSettings,
)
from trickle_core.relay_settings import RelaySettings
from trickle_trio.media.decode import AudioDecoder, DecoderStatistics, VideoDecoder
from trickle_trio.media.encode import AudioEncoder, VideoEncoder
from trickle_trio.media.frames import AudioFrame, VideoFrame
from trickle_trio.processor import StreamProcessor, as_processor
from trickle_trio.relay import serve_relay
from trickle_trio.stream.ending import End
from trickle_trio.stream.meters import Drop
from trickle_trio.stream.pipeline import Stream
from trickle_trio.stream.settings import Pace, StreamPolicy, StreamSettings

RATE = 48_000
POLICY = StreamPolicy(pace=Pace.EVERY_FRAME, segment_seconds=0.5)
APART = 0.040 * CLOCK_RATE
"""Picture and sound may get away from each other by so much."""
NEAR = TimelineSettings().gap + TimelineSettings().patience
"""Clocks that are so near to each other may be taken for one."""


@frozen
class Clip:
    """A stretch of input from one publisher. ``start``: where its clock begins, None: it goes on, after ``gap``."""

    has_picture: bool
    has_sound: bool
    size: tuple[int, int]
    fps: int
    count: int
    start: int | None
    gap: int


@st.composite
def clips(draw: st.DrawFn) -> Clip:
    has_picture, has_sound = draw(st.sampled_from([(True, True), (True, False), (False, True)]))
    start = st.one_of(
        st.none(),
        st.integers(CLOCK_RATE, CLOCK_WRAP - CLOCK_RATE),
        st.integers(CLOCK_WRAP - CLOCK_RATE, CLOCK_WRAP - 1),
    )
    return Clip(
        has_picture,
        has_sound,
        draw(st.sampled_from([(64, 48), (96, 64), (48, 80)])),
        draw(st.sampled_from([8, 24, 25, 30, 50])),
        draw(st.integers(4, 24)),
        draw(start),
        draw(st.sampled_from([0, 0, CLOCK_RATE // 3, 4 * CLOCK_RATE])),
    )


@lru_cache(maxsize=200)
def coded(number: int, clip: Clip) -> tuple[AccessUnit, ...]:
    """The units of a clip, whose first picture is at 0. No two sounds are alike."""
    units: list[AccessUnit] = []
    step = CLOCK_RATE // clip.fps
    if clip.has_picture:
        encoder = VideoEncoder()
        for index in range(clip.count):
            pixels = np.full((clip.size[1], clip.size[0], 3), 40 + index * 67 % 180, np.uint8)
            frame = VideoFrame.from_ndarray(pixels, index * step)
            units += encoder.encode(frame, key=index % 8 == 0)
        encoder.close()
    if clip.has_sound:
        length = RATE * clip.count // clip.fps
        noise = np.random.default_rng(number).normal(0, 0.1, (1, length)).astype(np.float32)
        sound = AudioEncoder(rate=RATE, layout="mono")
        units += sound.encode(AudioFrame.from_ndarray(noise, 0, rate=RATE)) + sound.flush()
        sound.close()
    return tuple(sorted(units, key=lambda unit: unit.dts))


def placed(film: Sequence[Clip]) -> list[tuple[AccessUnit, ...]]:
    """The units of each clip, on its publisher's clock."""
    parts, end = [], CLOCK_RATE
    for number, clip in enumerate(film):
        shift = end + clip.gap if clip.start is None else clip.start
        units = coded(number, evolve(clip, start=None, gap=0))
        parts.append(
            tuple(evolve(unit, pts=unit.pts + shift, dts=unit.dts + shift) for unit in units)
        )
        end = shift + clip.count * CLOCK_RATE // clip.fps
    return parts


def meet(film: Sequence[Clip], clocks: Sequence[Sequence[AccessUnit]]) -> bool:
    """Whether a clip's own clock begins by chance where another was shortly before. Its first picture may then be taken
    for one of the other's that comes late, and nothing that came so far says otherwise.
    """
    seen: list[int] = []
    for clip, units in zip(film, clocks, strict=True):
        if clip.start is not None and any(
            abs(unwrapped_step(before, clip.start)) < NEAR for before in seen
        ):
            return True
        seen += [unit.dts for unit in units]
    return False


def unwrapped_step(before: int, after: int) -> int:
    half = CLOCK_WRAP // 2
    return (after - before + half) % CLOCK_WRAP - half


def unwrapped(units: Sequence[AccessUnit]) -> list[int]:
    """Their pts, without the wraps of 33 bits."""
    times = [units[0].pts] if units else []
    for unit in units[1:]:
        times.append(times[-1] + unwrapped_step(times[-1], unit.pts))
    return times


@frozen
class Outcome:
    """What came of a film. ``shown``: the times at which its pictures came to the handler."""

    parts: list[bytes]
    shown: list[int]
    dropped: dict[str, int]
    errors: dict[str, int]
    units: list[AccessUnit] = field(init=False)

    @units.default
    def _taken_apart(self) -> list[AccessUnit]:
        demuxer = Demuxer()
        events = [e for part in self.parts for e in demuxer.feed(part) + demuxer.flush()]
        return [event for event in events if isinstance(event, AccessUnit)]

    def track(self, *, video: bool) -> list[AccessUnit]:
        return [unit for unit in self.units if unit.stream.codec.is_video == video]


async def run_through(kit: Any, parts: Sequence[bytes]) -> Outcome:
    """Have a stream process these segments."""
    shown: list[int] = []

    async def look(frame: VideoFrame) -> VideoFrame:
        shown.append(frame.timestamp)
        return frame

    collected: list[bytes] = []
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            relay = RelaySettings(window=50, linger=10)
            bound = await nursery.start(partial(serve_relay, port=0, settings=relay))
            source, target = f"{bound.url}/in", f"{bound.url}/out"
            for url in (source, target):
                await kit.make_channel(url)
            asked = StreamSettings(
                request_id="any",
                subscribe_url=source,
                publish_url=target,
                max_framerate=60,
                policy=POLICY,
            )
            stream = Stream(asked, as_processor(StreamProcessor(look)))
            async with trio.open_nursery() as both:
                both.start_soon(kit.collect, target, collected)
                async with trio.open_nursery() as whole:
                    whole.start_soon(partial(kit.publish, source, parts))
                    outcome = await stream.run()
                await kit.delete_channel(target)
            assert outcome.end is End.INPUT_ENDED
            nursery.cancel_scope.cancel()
    numbers = stream.statistics()
    return Outcome(collected, shown, numbers.dropped, numbers.errors)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(film=st.lists(clips(), min_size=1, max_size=4))
def test_time_rises_picture_and_sound_stay_together_and_segments_stand_alone(
    kit: Any, film: list[Clip]
) -> None:
    clocks = placed(film)
    assume(not meet(film, clocks))
    came = [unit for clip in clocks for unit in clip]
    pictures = [unit for unit in came if unit.stream.codec.is_video]
    out = trio.run(run_through, kit, [part for clip in clocks for part in kit.segments(clip)])

    assert out.errors == {}
    # Two clocks may meet by chance, with less than a sixtieth of a second between their pictures.
    assume(Drop.FRAMERATE.value not in out.dropped)
    assert len(out.shown) == len(pictures)
    seen, heard = out.track(video=True), out.track(video=False)
    assert len(seen) + sum(out.dropped.values()) == len(pictures)
    for track in (seen, heard):
        assert all(a < b for a, b in pairwise(unwrapped(track))), "time does not rise"

    for part in out.parts:
        check_alone(part)
    check_together(film, clocks, out)


def check_alone(part: bytes) -> None:
    """Every unit of a segment can be decoded from its beginning. Not by libav's demuxer, which gives false times to a
    segment in which the clock wraps.
    """
    demuxer = Demuxer()
    units = [e for e in demuxer.feed(part) + demuxer.flush() if isinstance(e, AccessUnit)]
    pictures = [unit for unit in units if unit.stream.codec.is_video]
    sounds = [unit for unit in units if not unit.stream.codec.is_video]
    seen, heard = VideoDecoder(Codec.H264), AudioDecoder(ElementaryStream(0x101, Codec.AAC))
    for track, times in ((pictures, unwrapped(pictures)), (sounds, unwrapped(sounds))):
        for unit, time in zip(track, times, strict=True):
            decoder = seen if unit.stream.codec.is_video else heard
            decoder.decode(evolve(unit, pts=time, dts=time))
    seen.flush()
    assert seen.statistics() == DecoderStatistics(decoded=len(pictures))
    assert heard.statistics().errors == 0
    assert units


def check_together(
    film: Sequence[Clip], clocks: Sequence[Sequence[AccessUnit]], out: Outcome
) -> None:
    """By how much each picture and each sound was moved: within a clip, by the same."""
    # Padding behind the end of two clips may be the same.
    often = Counter(unit.data for units in clocks for unit in units)
    sounds = {unit.data: unit.pts for unit in out.track(video=False) if often[unit.data] == 1}
    shown = iter(out.shown)
    for clip, units in zip(film, clocks, strict=True):
        moved: dict[bool, list[int]] = {True: [], False: []}
        for unit in units:
            if unit.stream.codec.is_video:
                moved[True].append((next(shown) - unit.pts) % CLOCK_WRAP)
            elif unit.data in sounds:
                moved[False].append((sounds[unit.data] - unit.pts) % CLOCK_WRAP)
        if clip.has_picture and clip.has_sound and moved[False]:
            every = moved[True] + moved[False]
            off = [unwrapped_step(every[0], shift) for shift in every]
            assert max(off) - min(off) <= APART, (clip, off)
