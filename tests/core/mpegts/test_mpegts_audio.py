from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trickle_core.mpegts.audio import (
    ADTS_RATES,
    AudioHeader,
    Unreadable,
    adts_header,
    find_opus,
    opus_control_header,
    opus_head,
    opus_samples,
    parse_adts,
    parse_mpeg_audio,
)


@given(
    size=st.integers(1, 0x1FFF - 7),
    rate=st.sampled_from(ADTS_RATES),
    channels=st.sampled_from([1, 2, 3, 4, 5, 6, 8]),
    pos=st.integers(0, 5),
)
def test_an_adts_header_says_what_it_was_told(
    size: int, rate: int, channels: int, pos: int
) -> None:
    data = bytes(pos) + adts_header(size, rate=rate, channels=channels)
    assert parse_adts(data, pos) == AudioHeader(pos, pos + 7 + size, 1024, rate, channels)


def test_a_real_adts_header() -> None:
    # 44.1 kHz, stereo, AAC-LC, 371 bytes in all.
    frame = parse_adts(bytes.fromhex("fff150802e7ffc"), 0)
    assert frame == AudioHeader(0, 371, 1024, 44_100, 2)
    assert adts_header(364, rate=44_100, channels=2) == bytes.fromhex("fff150802e7ffc")


def test_an_adts_header_with_a_checksum_is_longer() -> None:
    head = bytearray(adts_header(2, rate=48_000, channels=2))
    assert parse_adts(bytes(head), 0) == AudioHeader(0, 9, 1024, 48_000, 2)
    head[1] &= 0xFE
    assert parse_adts(bytes(head), 0) is Unreadable.WRONG


def test_an_adts_frame_may_hold_several_blocks() -> None:
    head = bytearray(adts_header(100, rate=48_000, channels=0))
    head[6] |= 3
    assert parse_adts(bytes(head), 0) == AudioHeader(0, 107, 4096, 48_000, 0)


@pytest.mark.parametrize(
    "head",
    [
        "ffe150802e7ffc",  # no sync word
        "fff750802e7ffc",  # a layer
        "fff174802e7ffc",  # sampling frequency 13
        "fff1508000dffc",  # shorter than its header
    ],
)
def test_what_is_no_adts_header(head: str) -> None:
    assert parse_adts(bytes.fromhex(head), 0) is Unreadable.WRONG


@pytest.mark.parametrize(
    ("size", "channels", "rate", "object_type"),
    [
        (0x1FFF, 2, 48_000, 2),
        (1, 7, 48_000, 2),
        (1, 2, 47_999, 2),
        (1, 2, 48_000, 5),
        (1, 9, 48_000, 2),
    ],
)
def test_what_adts_cannot_say(size: int, channels: int, rate: int, object_type: int) -> None:
    with pytest.raises(ValueError, match=r"ADTS|index"):
        adts_header(size, rate=rate, channels=channels, object_type=object_type)


@pytest.mark.parametrize(
    ("head", "length", "samples", "rate"),
    [
        ("fffd84c4", 384, 1152, 48_000),  # MPEG-1 layer II, 128 kbit/s
        ("fffdb2c4", 732, 1152, 44_100),  # 224 kbit/s, padded
        ("fff544c4", 192, 1152, 24_000),  # MPEG-2 layer II, 32 kbit/s
        ("fffb9064", 417, 1152, 44_100),  # MPEG-1 layer III, 128 kbit/s
        ("fff38064", 208, 576, 22_050),  # MPEG-2 layer III, 64 kbit/s
        ("ffe38864", 576, 576, 8_000),  # MPEG-2.5 layer III, 64 kbit/s
        ("ffff44c4", 128, 384, 48_000),  # MPEG-1 layer I, 128 kbit/s
        ("fff746c4", 132, 384, 24_000),  # MPEG-2 layer I, 64 kbit/s, padded
    ],
)
def test_mpeg_audio_frames(head: str, length: int, samples: int, rate: int) -> None:
    frame = parse_mpeg_audio(b"?" + bytes.fromhex(head), 1)
    assert isinstance(frame, AudioHeader)
    assert (frame.start, frame.samples, frame.rate) == (1, samples, rate)
    assert frame.end - frame.start == length


def test_one_channel_of_mpeg_audio() -> None:
    frame = parse_mpeg_audio(bytes.fromhex("fffd84c4"), 0)
    assert isinstance(frame, AudioHeader)
    assert frame.channels == 1
    stereo = parse_mpeg_audio(bytes.fromhex("fffd8404"), 0)
    assert isinstance(stereo, AudioHeader)
    assert stereo.channels == 2


@pytest.mark.parametrize(
    "head",
    [
        "ffdd84c4",  # no sync word
        "ffed84c4",  # reserved version
        "fff984c4",  # reserved layer
        "fffd8cc4",  # reserved rate
        "fffd04c4",  # free format
        "fffdf4c4",  # forbidden bit rate
    ],
)
def test_what_is_no_mpeg_audio_header(head: str) -> None:
    assert parse_mpeg_audio(bytes.fromhex(head), 0) is Unreadable.WRONG


@pytest.mark.parametrize(
    ("packet", "samples"),
    [
        ("00", 480),  # SILK 10 ms, one frame
        ("1900", 5760),  # SILK 60 ms, two frames
        ("6000", 480),  # hybrid 10 ms
        ("68", 960),  # hybrid 20 ms
        ("80", 120),  # CELT 2.5 ms
        ("fc", 960),  # CELT 20 ms, stereo
        ("fe", 1920),  # two frames of different sizes
        ("ff06", 5760),
        ("ff46", 5760),  # with padding
        ("ff07", 0),  # 140 ms: more than a packet may last
        ("ff", 0),
        ("ff00", 0),
        ("", 0),
    ],
)
def test_how_long_an_opus_packet_lasts(packet: str, samples: int) -> None:
    assert opus_samples(bytes.fromhex(packet)) == samples


@given(size=st.integers(1, 0xFFFF), pos=st.integers(0, 3))
def test_an_opus_access_unit_is_stripped_to_its_packet(size: int, pos: int) -> None:
    head = opus_control_header(size)
    packet = b"\xfc" * min(size, 2)
    frame = find_opus(bytes(pos) + head + packet, pos)
    start = pos + len(head)
    assert frame == (start, start + size, 960, 48_000, 0)


def test_trims_and_extensions_are_read_over() -> None:
    data = b"\x7f\xfc" + b"\x02" + b"\x01\x38" + b"\x00\x05" + b"\x03abc" + b"\xfc\x01"
    assert find_opus(data, 0) == (11, 13, 960, 48_000, 0)


@pytest.mark.parametrize(
    "data", ["", "7f", "7fe0", "7fe0ff", "7fe402", "7fe0ff00fc", "7ff802", "7fe0ffffff"]
)
def test_more_bytes_are_needed_to_tell(data: str) -> None:
    assert find_opus(bytes.fromhex(data), 0) is Unreadable.SHORT


@pytest.mark.parametrize("data", ["80e002fc", "7f0002fc", "7fe000fc", "7fe002ff00", "7fe001ff"])
def test_what_is_no_opus_access_unit(data: str) -> None:
    assert find_opus(bytes.fromhex(data), 0) is Unreadable.WRONG


def test_a_size_that_never_ends_is_no_opus_access_unit() -> None:
    assert find_opus(b"\x7f\xe0" + b"\xff" * 300, 0) is Unreadable.WRONG


@given(st.binary(max_size=20), st.integers(0, 25))
def test_any_bytes_can_be_parsed(data: bytes, pos: int) -> None:
    for parse in (parse_adts, parse_mpeg_audio):
        frame = parse(data, pos)
        assert isinstance(frame, Unreadable) or frame.end > frame.start >= pos
    found = find_opus(data, pos)
    assert isinstance(found, Unreadable) or found[1] > found[0] >= pos


def test_short_headers_are_short() -> None:
    assert parse_adts(b"\xff\xf1\x50\x80\x2e\x7f", 0) is Unreadable.SHORT
    assert parse_mpeg_audio(b"\xff\xfd\x84", 0) is Unreadable.SHORT


def test_the_head_of_an_opus_stream() -> None:
    assert opus_head(2) == b"OpusHead\x01\x02" + bytes.fromhex("0000 80bb0000 0000 00")
    six = bytes.fromhex("0000 80bb0000 0000 01 04 02 000401020305")
    assert opus_head(6) == b"OpusHead\x01\x06" + six
    with pytest.raises(ValueError, match="9 channels"):
        opus_head(9)
