from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trickle_core.mpegts.nal import (
    DELIMITERS,
    ParameterSets,
    is_key,
    is_slice,
    nal_type,
    nal_units,
    parameter_sets,
    with_delimiter,
)
from trickle_core.mpegts.units import Codec

START = b"\x00\x00\x00\x01"
SHORT = b"\x00\x00\x01"

AVC = {"sps": b"\x67\x42\x00\x1e", "pps": b"\x68\xce\x38", "idr": b"\x65\x88", "p": b"\x41\x9a"}
HEVC = {
    "vps": b"\x40\x01\x0c",
    "sps": b"\x42\x01\x01",
    "pps": b"\x44\x01\xc1",
    "idr": b"\x26\x01\xaf",
    "cra": b"\x2a\x01\xaf",
    "p": b"\x02\x01\xd0",
}


def sei(*messages: tuple[int, bytes]) -> bytes:
    body = b""
    for kind, content in messages:
        body += b"\xff" * (kind // 255) + bytes([kind % 255])
        body += b"\xff" * (len(content) // 255) + bytes([len(content) % 255]) + content
    return b"\x06" + body + b"\x80"


def stream(*nals: bytes, start: bytes = START) -> bytes:
    return b"".join(start + nal for nal in nals)


@pytest.mark.parametrize("start", [START, SHORT])
def test_nal_units_come_without_start_codes_and_padding(start: bytes) -> None:
    data = stream(AVC["sps"], AVC["pps"] + b"\x00\x00", AVC["idr"], start=start)
    assert list(nal_units(data)) == [AVC["sps"], AVC["pps"], AVC["idr"]]


def test_what_stands_before_the_first_start_code_is_no_nal_unit() -> None:
    assert list(nal_units(b"garbage" + stream(AVC["idr"]))) == [AVC["idr"]]


@pytest.mark.parametrize("data", [b"", b"\x00", SHORT, b"\x65\x88", SHORT + SHORT])
def test_bytes_without_a_nal_unit_have_none(data: bytes) -> None:
    assert list(nal_units(data)) == []


def test_an_empty_nal_unit_between_others_is_passed_over() -> None:
    assert list(nal_units(SHORT + b"\x00" + stream(AVC["p"]))) == [AVC["p"]]


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.sampled_from([START, SHORT]))
def test_what_was_joined_is_told_apart(nals: list[bytes], start: bytes) -> None:
    # A NAL unit holds no start code and ends with no zero: emulation prevention sees to it.
    clean = [nal.replace(b"\x00", b"\x01") for nal in nals]
    assert list(nal_units(stream(*clean, start=start))) == clean


@pytest.mark.parametrize(
    ("nals", "key"),
    [
        ([AVC["sps"], AVC["pps"], AVC["idr"]], True),
        ([b"\x09\xf0", AVC["idr"]], True),
        ([AVC["p"]], False),
        ([AVC["p"], AVC["idr"]], False),
        ([b"\x42\x9a"], False),  # a data partition
        ([sei((5, b"x" * 20)), AVC["p"]], False),
        ([sei((6, b"\x80")), AVC["p"]], True),
        ([sei((1, b"\x00"), (6, b"\x80")), AVC["p"]], True),
        ([sei((6, b"\x80")), sei((1, b"\x00")), AVC["p"]], True),
        ([sei((300, b"x" * 300), (6, b"\x80")), AVC["p"]], True),
        ([sei((5, b"\x06\x01\x06\x01")), AVC["p"]], False),
        ([AVC["p"], sei((6, b"\x80"))], False),
        ([sei((6, b"\x80"))], False),
        ([AVC["sps"]], False),
        ([], False),
    ],
)
def test_a_key_picture_of_h264(nals: list[bytes], key: bool) -> None:
    assert is_key(stream(*nals), Codec.H264) is key


def test_the_length_of_a_message_does_not_count_emulation_prevention() -> None:
    # payloadSize 4; the third zero byte's guard makes five bytes of it in the stream.
    guarded = b"\x06" + b"\x01\x04\x00\x00\x03\x00\x07" + b"\x06\x01\x80" + b"\x80"
    assert is_key(stream(guarded, AVC["p"]), Codec.H264)


@pytest.mark.parametrize(
    "body", [b"", b"\x06", b"\xff", b"\xff\xff", b"\x01\xff\xff", b"\x01\x50\x80"]
)
def test_a_broken_message_is_no_recovery_point(body: bytes) -> None:
    assert not is_key(stream(b"\x06" + body, AVC["p"]), Codec.H264)


def test_not_all_of_a_long_nal_unit_is_read() -> None:
    # Millions of messages would keep the event loop for seconds.
    many = stream(b"\x06" + b"\x01\x00" * 4000 + b"\x06\x01\x80\x80", AVC["p"])
    assert not is_key(many, Codec.H264)
    assert is_key(stream(sei((6, b"\x80"), (5, b"x" * 9000)), AVC["p"]), Codec.H264)


def test_a_message_at_the_very_end_is_read() -> None:
    assert not is_key(stream(sei((6, b"\x80"))), Codec.H264)


@pytest.mark.parametrize(
    ("nals", "key"),
    [
        ([HEVC["vps"], HEVC["sps"], HEVC["pps"], HEVC["idr"]], True),
        ([HEVC["cra"]], True),
        ([HEVC["p"]], False),
        ([HEVC["p"], HEVC["idr"]], False),
        ([HEVC["vps"]], False),
        ([], False),
    ],
)
def test_a_key_picture_of_h265(nals: list[bytes], key: bool) -> None:
    assert is_key(stream(*nals), Codec.H265) is key


@given(st.binary(max_size=300), st.sampled_from([Codec.H264, Codec.H265]))
def test_any_bytes_can_be_asked(data: bytes, codec: Codec) -> None:
    assert is_key(data, codec) in (True, False)
    assert with_delimiter(data, codec).endswith(data)
    assert parameter_sets(data, codec) == parameter_sets(with_delimiter(data, codec), codec)


def test_parameter_sets_are_those_before_the_first_slice() -> None:
    data = stream(AVC["sps"], AVC["pps"], b"\x68\x99", AVC["idr"], b"\x67\x77")
    found = parameter_sets(data, Codec.H264)
    assert found == ParameterSets((), (AVC["sps"],), (AVC["pps"], b"\x68\x99"))
    assert found.annex_b() == stream(AVC["sps"], AVC["pps"], b"\x68\x99")


def test_parameter_sets_of_h265_have_a_vps() -> None:
    data = stream(HEVC["vps"], HEVC["sps"], HEVC["pps"], HEVC["idr"])
    found = parameter_sets(data, Codec.H265)
    assert found == ParameterSets((HEVC["vps"],), (HEVC["sps"],), (HEVC["pps"],))
    assert found.annex_b() == stream(HEVC["vps"], HEVC["sps"], HEVC["pps"])


def test_parameter_sets_may_come_without_a_slice() -> None:
    assert parameter_sets(stream(AVC["sps"]), Codec.H264) == ParameterSets(sps=(AVC["sps"],))


def test_a_picture_without_parameter_sets_has_none() -> None:
    assert parameter_sets(stream(AVC["p"]), Codec.H264) == ParameterSets()


@pytest.mark.parametrize("codec", [Codec.H264, Codec.H265])
def test_a_delimiter_is_put_in_front_once(codec: Codec) -> None:
    data = stream(AVC["p"] if codec is Codec.H264 else HEVC["p"])
    once = with_delimiter(data, codec)
    assert once == DELIMITERS[codec] + data
    assert with_delimiter(once, codec) is once


def test_a_delimiter_behind_a_short_start_code_is_seen() -> None:
    data = SHORT + b"\x09\x10" + stream(AVC["p"])
    assert with_delimiter(data, Codec.H264) is data


def test_types_of_both_codecs() -> None:
    assert nal_type(0x65, Codec.H264) == 5
    assert nal_type(0x26, Codec.H265) == 19
    assert is_slice(5, Codec.H264)
    assert not is_slice(7, Codec.H264)
    assert is_slice(19, Codec.H265)
    assert not is_slice(33, Codec.H265)
