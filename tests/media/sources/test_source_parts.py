"""The parts of a source by themselves: order, times, AAC's descriptions, parameter sets."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trickle_core.mpegts import (
    CLOCK_RATE,
    AccessUnit,
    AudioHeader,
    Codec,
    ElementaryStream,
    Muxer,
    nal_type,
    nal_units,
    parameter_sets,
    parse_adts,
)
from trickle_trio.media.sources import FileSource
from trickle_trio.media.sources.aac import AdtsShape, adts_shape
from trickle_trio.media.sources.copying import described_sets
from trickle_trio.media.sources.order import DecodingOrder
from trickle_trio.media.sources.stamps import (
    ORIGIN,
    Packet,
    PassClock,
    Stamped,
    Stamper,
    told_duration,
)

PICTURE = ElementaryStream(256, Codec.H264)
SOUND = ElementaryStream(257, Codec.AAC)
MILLISECONDS = Fraction(1, 1000)


def unit(stream: ElementaryStream, dts: int) -> AccessUnit:
    return AccessUnit(stream, b"", dts, dts)


# -- order


def steps() -> st.SearchStrategy[list[tuple[bool, int]]]:
    return st.lists(st.tuples(st.booleans(), st.integers(1, 200)), max_size=60)


def times_of(units: list[AccessUnit], stream: ElementaryStream) -> list[int]:
    return [u.dts for u in units if u.stream == stream]


@given(steps(), st.integers(0, 1000))
def test_order_keeps_each_track_whole_and_holds_no_more_than_it_may(
    moves: list[tuple[bool, int]], wait: int
) -> None:
    order = DecodingOrder((PICTURE, SOUND), wait)
    times = {PICTURE: 0, SOUND: 0}
    fed: list[AccessUnit] = []
    out: list[AccessUnit] = []
    for is_picture, step in moves:
        stream = PICTURE if is_picture else SOUND
        times[stream] += step
        fed.append(unit(stream, times[stream]))
        out += order.put(fed[-1:])
        for track in times:
            held = times_of(fed, track)[len(times_of(out, track)) :]
            assert not held or max(times.values()) - held[0] < max(wait, 1)
    out += order.flush()
    for track in times:
        assert times_of(out, track) == times_of(fed, track)


@given(steps())
def test_order_is_by_time_while_no_track_lags_too_far(moves: list[tuple[bool, int]]) -> None:
    order = DecodingOrder((PICTURE, SOUND), wait=10**9)
    times = {PICTURE: 0, SOUND: 0}
    out: list[AccessUnit] = []
    for is_picture, step in moves:
        stream = PICTURE if is_picture else SOUND
        times[stream] += step
        out += order.put([unit(stream, times[stream])])
    out += order.flush()
    assert [u.dts for u in out] == sorted(u.dts for u in out)


def test_order_puts_the_picture_before_its_sound() -> None:
    order = DecodingOrder((SOUND, PICTURE))
    assert order.put([unit(SOUND, 5)]) == []
    assert [u.stream for u in order.put([unit(PICTURE, 5)])] == [PICTURE, SOUND]


def test_order_without_waiting() -> None:
    order = DecodingOrder((SOUND, PICTURE), wait=0)
    assert order.put([unit(SOUND, 5)]) == [unit(SOUND, 5)]
    assert order.put([unit(PICTURE, 3)]) == [unit(PICTURE, 3)]


# -- times


def packet(pts: int | None, dts: int | None, duration: int = 33) -> Packet:
    made: Packet = av.Packet(b"x")
    made.pts, made.dts, made.duration, made.time_base = pts, dts, duration, MILLISECONDS
    return made


def stamped(stamper: Stamper, packets: list[Packet]) -> list[tuple[int, int]]:
    found = [s for p in packets for s in stamper.take(p)] + stamper.finish()
    return [(s.pts // 90, s.dts // 90) for s in found]


def test_first_pictures_without_dts_get_what_is_left_before_the_next() -> None:
    # As libav gives Matroska with two reordered pictures.
    packets = [packet(0, None), packet(100, None), packet(33, 0), packet(67, 33)]
    assert stamped(Stamper(told_duration), packets) == [(0, -66), (100, -33), (33, 0), (67, 33)]


def test_a_clip_too_short_for_any_dts() -> None:
    packets = [packet(0, None), packet(33, None)]
    assert stamped(Stamper(told_duration), packets) == [(0, 0), (33, 33)]


def test_a_dts_missing_later_goes_on_from_the_last() -> None:
    packets = [packet(0, 0), packet(40, None), packet(66, 66)]
    assert stamped(Stamper(told_duration), packets) == [(0, 0), (40, 33), (66, 66)]


def test_sound_needs_no_dts() -> None:
    packets = [packet(7, None), packet(40, None)]
    assert stamped(Stamper(told_duration, reorders=False), packets) == [(7, 7), (40, 40)]


def test_containers_without_pts_count() -> None:
    bare = Stamper(told_duration, has_pts=False)
    assert stamped(bare, [packet(None, None), packet(None, None)]) == [(0, 0), (33, 33)]
    avi = Stamper(told_duration, has_pts=False)
    assert stamped(avi, [packet(5, 0), packet(6, 33)]) == [(0, 0), (33, 33)]


def test_no_more_than_some_packets_are_held() -> None:
    stamper = Stamper(told_duration)
    held = 0
    while not stamper.take(packet(held, None)):
        held += 1
    assert held == 32


def test_passes_follow_each_other() -> None:
    clock = PassClock()
    sound, picture = Stamped(packet(0, 0), 900, 900, 1920), Stamped(packet(0, 0), 1000, 700, 3000)
    first = [clock.place(SOUND, sound), clock.place(PICTURE, picture)]
    assert clock.next_pass()
    second = [clock.place(SOUND, sound), clock.place(PICTURE, picture)]
    assert first[0].dts == ORIGIN
    assert [b.dts - a.dts for a, b in zip(first, second, strict=True)] == [3100, 3100]
    assert first[1].pts - first[1].dts == second[1].pts - second[1].dts == 300
    assert second[0].shift == second[0].pts - sound.pts


def test_no_pass_follows_an_empty_one() -> None:
    clock = PassClock()
    assert not clock.next_pass()
    clock.place(SOUND, Stamped(packet(0, 0), 0, 0, 1))
    assert clock.next_pass()
    assert not clock.next_pass()


def test_a_file_whose_times_jump(clips: Any, publish: Any) -> None:
    path = clips.make("a.ts", pictures=30)
    joined = path.with_name("b.ts")
    joined.write_bytes(path.read_bytes() * 3)
    pictures = publish(FileSource(str(joined))).pictures
    assert len(pictures) == 90
    assert max(b.dts - a.dts for a, b in pairwise(pictures)) < CLOCK_RATE / 5


# -- AAC


def config(*fields: tuple[int, int]) -> bytes:
    bits = "".join(f"{value:0{size}b}" for value, size in fields)
    size = -(-len(bits) // 8)
    return int(bits.ljust(8 * size, "0") or "0", 2).to_bytes(size)


LC, SBR, PS = (2, 5), (5, 5), (29, 5)
RATE_48, RATE_24, EXPLICIT = (3, 4), (6, 4), (15, 4)
LONG, SHORT = (0, 1), (1, 1)


@pytest.mark.parametrize(
    ("fields", "shape"),
    [
        ((LC, RATE_48, (2, 4), LONG), AdtsShape(2, 48_000, 2)),
        ((LC, RATE_48, (6, 4), LONG), AdtsShape(2, 48_000, 6)),
        ((LC, RATE_48, (7, 4), LONG), AdtsShape(2, 48_000, 8)),
        (((1, 5), RATE_24, (1, 4), LONG), AdtsShape(1, 24_000, 1)),
        ((SBR, RATE_24, (2, 4), RATE_48, LC, LONG), AdtsShape(2, 24_000, 2)),
        ((PS, RATE_24, (1, 4), RATE_48, LC, LONG), AdtsShape(2, 24_000, 1)),
        ((LC, EXPLICIT, (48_000, 24), (2, 4), LONG), AdtsShape(2, 48_000, 2)),
        ((LC, EXPLICIT, (47_000, 24), (2, 4), LONG), None),
        ((LC, (13, 4), (2, 4), LONG), None),
        ((LC, RATE_48, (0, 4), LONG), None),
        ((LC, RATE_48, (11, 4), LONG), None),
        ((LC, RATE_48, (2, 4), SHORT), None),
        (((23, 5), RATE_48, (2, 4), LONG), None),
        (((31, 5), (10, 6), RATE_48, (2, 4), LONG), None),
        ((LC, RATE_48), None),
        ((), None),
    ],
)
def test_what_adts_can_say(fields: tuple[tuple[int, int], ...], shape: AdtsShape | None) -> None:
    assert adts_shape(config(*fields)) == shape


@given(st.binary(max_size=12))
def test_any_description_is_read_or_refused(data: bytes) -> None:
    shape = adts_shape(data)
    if shape:
        header = parse_adts(shape.frame(b"abc"), 0)
        assert isinstance(header, AudioHeader)
        assert (header.rate, header.channels) == (shape.rate, shape.channels)


# -- parameter sets


@pytest.mark.parametrize("delimiter", [b"", b"\x00\x00\x00\x01\x09\xf0"])
def test_parameter_sets_are_repeated_where_a_stream_has_them_once(
    delimiter: bytes, clips: Any, publish: Any, tmp_path: Any
) -> None:
    """As RTSP cameras send them: beside the stream, or at its start."""
    published = publish(FileSource(str(clips.make("a.mp4", audio=None))))
    sets = parameter_sets(published.pictures[0].data, Codec.H264)
    muxer = Muxer(published.streams)
    wire = muxer.tables()
    for number, picture in enumerate(published.pictures):
        data = picture.data.replace(sets.annex_b(), b"") if number else picture.data
        wire += muxer.write(
            AccessUnit(PICTURE, delimiter + data, picture.pts, picture.dts, picture.key)
        )
    (tmp_path / "bare.ts").write_bytes(wire)
    mended = publish(FileSource(str(tmp_path / "bare.ts"))).pictures
    assert sum(p.key for p in mended) == 4
    for picture in mended:
        assert bool(parameter_sets(picture.data, Codec.H264).sps) is picture.key
        kinds = [nal_type(nal[0], Codec.H264) for nal in nal_units(picture.data)]
        assert kinds[0] == 9
        assert kinds.count(9) == 1


def test_parameter_sets_of_a_clip_that_begins_without_an_idr_picture(
    clips: Any, publish: Any, tmp_path: Any
) -> None:
    """As it is when a clip of open GOPs is cut without encoding: its keys are recovery points."""
    whole = clips.make("a.mp4", audio=None, bframes=2, x264="open-gop=1:b-adapt=0")
    with av.open(str(whole), "r") as old, av.open(str(tmp_path / "b.mp4"), "w") as new:
        source = old.streams.video[0]
        copy = new.add_stream_from_template(source)
        keys = 0
        for made in old.demux(source):
            keys += made.is_keyframe
            if keys > 1 and made.size:
                made.stream = copy
                new.mux(made)
    pictures = publish(FileSource(str(tmp_path / "b.mp4"))).pictures
    assert pictures[0].key
    assert not any(nal_type(nal[0], Codec.H264) == 5 for p in pictures for nal in nal_units(p.data))
    for picture in pictures:
        assert bool(parameter_sets(picture.data, Codec.H264).sps) is picture.key


@given(st.binary(max_size=64))
def test_any_description_of_a_track_is_read(description: bytes) -> None:
    sets = described_sets(b"\x01\x64\x00\x1f\xff" + description, Codec.H264)
    assert all(sets.sps)
    assert all(sets.pps)


def test_the_description_that_mp4_has_of_h264() -> None:
    record = bytes.fromhex("0164001fffe1 0003 676400 01 0002 68ee".replace(" ", ""))
    sets = described_sets(record, Codec.H264)
    assert (sets.sps, sets.pps) == ((b"\x67\x64\x00",), (b"\x68\xee",))
    with_start_codes = b"\x00\x00\x00\x01\x67\x64\x00\x01\x00\x00\x00\x01\x68\xee"
    assert described_sets(with_start_codes, Codec.H264).pps == (b"\x68\xee",)
    assert not described_sets(b"", Codec.H264).sps
