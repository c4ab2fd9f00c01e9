from __future__ import annotations

import pytest

from trickle_core.mpegts.audio import adts_header, opus_control_header
from trickle_core.mpegts.findings import Damage, DamageReason, TsEvent
from trickle_core.mpegts.framing import AudioFramer, VideoFramer, framer
from trickle_core.mpegts.units import CLOCK_WRAP, AccessUnit, Codec, ElementaryStream

VIDEO = ElementaryStream(0x100, Codec.H264)
AAC = ElementaryStream(0x101, Codec.AAC)
OPUS = ElementaryStream(0x101, Codec.OPUS, 2)
MP2 = ElementaryStream(0x101, Codec.MP2)

IDR = b"\x00\x00\x00\x01\x65\x88"
P = b"\x00\x00\x00\x01\x41\x9a"

FRAME = 1920  # 1024 samples at 48 kHz, in 1/90000 s


def adts(fill: int, size: int = 50) -> bytes:
    return adts_header(size, rate=48_000, channels=2) + bytes([fill]) * size


def cut(
    framer_: AudioFramer,
    data: bytes,
    pts: int | None = 0,
    *,
    damaged: bool = False,
    lost_before: bool = False,
) -> list[TsEvent]:
    return framer_.units((data, pts, None), damaged=damaged, lost_before=lost_before)


def unit(
    data: bytes, time: int, *, lost: bool = False, stream: ElementaryStream = AAC
) -> AccessUnit:
    return AccessUnit(stream, data, time, time, key=True, lost_before=lost)


BAD = Damage(0x101, DamageReason.BAD_FRAME)
UNTIMED = Damage(0x101, DamageReason.NO_TIMESTAMP)


# --- video ----------------------------------------------------------------------------------------


def picture(
    framer_: VideoFramer, pts: int | None, dts: int | None = None
) -> tuple[int, int] | None:
    events = framer_.units((P, pts, dts), damaged=False, lost_before=False)
    return (events[0].pts, events[0].dts) if isinstance(events[0], AccessUnit) else None


def test_a_pes_is_a_picture() -> None:
    events = VideoFramer(VIDEO).units((IDR, 6000, 3000), damaged=True, lost_before=True)
    assert events == [AccessUnit(VIDEO, IDR, 6000, 3000, True, True, True)]


def test_dts_equals_pts_where_the_wire_gives_none() -> None:
    assert picture(VideoFramer(VIDEO), 6000) == (6000, 6000)


def test_an_empty_pes_is_nothing() -> None:
    assert VideoFramer(VIDEO).units((b"", 1, None), damaged=False, lost_before=False) == []


def test_a_picture_before_any_time_is_damage() -> None:
    events = VideoFramer(VIDEO).units((P, None, None), damaged=False, lost_before=False)
    assert events == [Damage(0x100, DamageReason.NO_TIMESTAMP)]


def test_a_picture_without_a_time_comes_a_period_later() -> None:
    video = VideoFramer(VIDEO)
    assert picture(video, 9000, 9000) == (9000, 9000)
    assert picture(video, None) == (12_000, 12_000)  # 30 a second, as long as nothing is known
    assert picture(video, 14_400, 10_800) == (14_400, 10_800)
    assert picture(video, 18_000, 14_400) == (18_000, 14_400)
    assert picture(video, None) == (18_000, 18_000)
    assert picture(video, None) == (21_600, 21_600)


def test_a_gap_is_no_period_and_times_wrap() -> None:
    video = VideoFramer(VIDEO)
    assert picture(video, CLOCK_WRAP - 3600 - 100_000) is not None
    assert picture(video, CLOCK_WRAP - 3600) is not None
    assert picture(video, None) == (CLOCK_WRAP - 600, CLOCK_WRAP - 600)
    assert picture(video, None) == (2400, 2400)


# --- audio ----------------------------------------------------------------------------------------


def test_frames_are_told_apart_and_timed() -> None:
    data = adts(1) + adts(2, 60) + adts(3)
    expected = [unit(adts(1), 500), unit(adts(2, 60), 500 + FRAME), unit(adts(3), 500 + 2 * FRAME)]
    assert cut(AudioFramer(AAC), data, 500) == expected


def test_times_do_not_drift_by_rounding() -> None:
    frame = adts_header(10, rate=44_100, channels=1) + bytes(10)
    units = cut(AudioFramer(AAC), frame * 441, 0)
    assert isinstance(units[-1], AccessUnit)
    assert units[-1].pts == 440 * 1024 * 90_000 // 44_100


def test_times_wrap() -> None:
    units = cut(AudioFramer(AAC), adts(1) * 2, CLOCK_WRAP - 1)
    assert units == [unit(adts(1), CLOCK_WRAP - 1), unit(adts(1), FRAME - 1)]


def test_a_pes_without_a_time_goes_on() -> None:
    aac = AudioFramer(AAC)
    assert cut(aac, adts(1), 0) == [unit(adts(1), 0)]
    assert cut(aac, adts(2), None) == [unit(adts(2), FRAME)]
    assert cut(aac, adts(3), 9000) == [unit(adts(3), 9000)]


def test_a_header_may_come_in_three_pieces() -> None:
    aac = AudioFramer(AAC)
    frame = adts(1)
    assert cut(aac, frame[:3], 0) == []
    assert cut(aac, frame[3:5], None) == []
    assert cut(aac, frame[5:] + adts(2), 9000) == [unit(frame, 0), unit(adts(2), 9000)]


def test_frames_before_any_time_are_damage() -> None:
    aac = AudioFramer(AAC)
    assert cut(aac, adts(1) + adts(2)[:20], None) == [UNTIMED]
    assert cut(aac, adts(3), 0) == [unit(adts(3), 0)]


def test_an_empty_pes_of_audio_is_nothing() -> None:
    assert cut(AudioFramer(AAC), b"", 0) == []


@pytest.mark.parametrize("at", [1, 6, 7, 40])
def test_a_frame_may_go_on_in_the_next_pes(at: int) -> None:
    aac = AudioFramer(AAC)
    head, tail = adts(2)[:at], adts(2)[at:]
    assert cut(aac, adts(1) + head, 0) == [unit(adts(1), 0)]
    # The time of a PES is that of the first frame that begins in it.
    later = FRAME * 2 + 7
    assert cut(aac, tail + adts(3), later) == [unit(adts(2), FRAME), unit(adts(3), later)]


def test_a_frame_may_go_on_for_several_pes() -> None:
    aac = AudioFramer(AAC)
    whole = adts(1, 600)
    assert cut(aac, whole[:200], 70) == []
    assert cut(aac, whole[200:400], None) == []
    assert cut(aac, whole[400:], None) == [unit(whole, 70)]


def test_a_loss_forgets_the_frame_that_had_begun() -> None:
    aac = AudioFramer(AAC)
    assert cut(aac, adts(1)[:30], 0) == []
    assert cut(aac, adts(2), 9000, lost_before=True) == [unit(adts(2), 9000, lost=True)]


def test_a_damaged_pes_gives_its_whole_frames() -> None:
    aac = AudioFramer(AAC)
    assert cut(aac, adts(1) + adts(2)[:30], 0, damaged=True) == [unit(adts(1), 0)]
    assert cut(aac, adts(3), 9000) == [unit(adts(3), 9000)]


def test_garbage_is_skipped_and_told_once() -> None:
    expected = [BAD, unit(adts(1), 0, lost=True), unit(adts(2), FRAME)]
    assert cut(AudioFramer(AAC), b"garbage" + adts(1) + adts(2), 0) == expected


def test_garbage_between_frames() -> None:
    expected = [unit(adts(1), 0), BAD, unit(adts(2), FRAME, lost=True)]
    assert cut(AudioFramer(AAC), adts(1) + b"garbage" + adts(2), 0) == expected


def test_what_looks_like_a_frame_must_be_followed_by_one() -> None:
    # A header within the garbage that leads nowhere; and one that no frame could have.
    false = adts_header(20, rate=48_000, channels=2) + b"\xff\xf1\xff\xff" + bytes(60)
    expected = [BAD, unit(adts(1), 0, lost=True), unit(adts(2), FRAME)]
    assert cut(AudioFramer(AAC), b"?" + false + adts(1) + adts(2), 0) == expected


def test_nothing_but_garbage() -> None:
    aac = AudioFramer(AAC)
    assert cut(aac, b"garbage" * 10, 0) == [BAD]
    assert cut(aac, adts(1), 50) == [unit(adts(1), 50)]


def test_a_header_cut_off_behind_garbage_is_waited_for() -> None:
    aac = AudioFramer(AAC)
    assert cut(aac, b"garbage" + adts(1)[:4], 30) == [BAD]
    assert cut(aac, adts(1)[4:], None) == [unit(adts(1), 30)]


def test_a_frame_that_does_not_go_on_is_given_up() -> None:
    aac = AudioFramer(AAC)
    assert cut(aac, adts(1)[:30], 0) == []
    # A segment was skipped: this PES begins with a frame of its own.
    expected = [BAD, unit(adts(2), 9000, lost=True), unit(adts(3), 9000 + FRAME)]
    assert cut(aac, adts(2) + adts(3), 9000) == expected


def test_a_beginning_that_turns_out_to_be_none_is_given_up() -> None:
    aac = AudioFramer(AAC)
    assert cut(aac, adts(1) + b"\xff\xf1", 0) == [unit(adts(1), 0)]
    expected = [BAD, unit(adts(2), 9000, lost=True)]
    assert cut(aac, adts(2), 9000) == expected


def test_opus_is_stripped_to_its_packets() -> None:
    packets = [b"\xfc" + bytes(2), b"\xfc" + bytes(300), b"\x80"]
    data = b"".join(opus_control_header(len(packet)) + packet for packet in packets)
    expected = [
        unit(packet, time, stream=OPUS)
        for packet, time in zip(packets, (0, 1800, 3600), strict=True)
    ]
    assert cut(AudioFramer(OPUS), data, 0) == expected


def test_opus_after_garbage() -> None:
    packet = opus_control_header(3) + b"\xfc" + bytes(2)
    expected = [BAD, unit(b"\xfc\x00\x00", 0, lost=True, stream=OPUS)]
    assert cut(AudioFramer(OPUS), b"\x7f" + packet, 0) == expected


def test_mpeg_audio() -> None:
    frame = bytes.fromhex("fffd84c4") + bytes(380)
    expected = [unit(frame, 0, stream=MP2), unit(frame, 2160, stream=MP2)]
    assert cut(AudioFramer(MP2), frame + frame, 0) == expected


def test_each_codec_has_its_framer() -> None:
    assert isinstance(framer(VIDEO), VideoFramer)
    for stream in (AAC, OPUS, MP2):
        assert isinstance(framer(stream), AudioFramer)
