"""Units onto the stream's clock when the program changes under them."""

from __future__ import annotations

import pytest

from trickle_core.mpegts import CLOCK_RATE, AccessUnit, Codec, ElementaryStream
from trickle_trio.stream.arrival import LONGEST, Arrivals

VIDEO = ElementaryStream(0x100, Codec.H264)
SOUND = ElementaryStream(0x101, Codec.AAC)
S = CLOCK_RATE
STEP = 3000


def unit(stream: ElementaryStream, time: int) -> AccessUnit:
    return AccessUnit(stream, b"", time, time, key=True)


def arrived(
    arrivals: Arrivals, *units: tuple[ElementaryStream, int]
) -> list[tuple[ElementaryStream, int]]:
    """What comes out, and when."""
    out = [placed for each in units for placed in arrivals.place(unit(*each))]
    return [(placed.stream, placed.pts) for placed in out]


@pytest.mark.parametrize(("there", "joins"), [(VIDEO, SOUND), (SOUND, VIDEO)])
@pytest.mark.parametrize("back", [S // 2, 5 * S])
def test_a_track_that_joins_waits_for_one_that_was_there_to_tell_the_clock(
    there: ElementaryStream, joins: ElementaryStream, back: int
) -> None:
    arrivals = Arrivals()
    arrivals.expect(frozenset({there.pid}))
    for n in range(300):
        arrivals.place(unit(there, S + n * STEP))
    again = S + 300 * STEP - back
    arrivals.expect(frozenset({VIDEO.pid, SOUND.pid}))
    assert arrived(arrivals, (joins, again), (joins, again + 1920)) == []
    (first, when), (second, later), (told, now) = arrived(arrivals, (there, again + 1000))
    assert (first, second, told) == (joins, joins, there)
    assert (later - when, now - when) == (1920, 1000)
    assert now == S + 300 * STEP
    assert arrived(arrivals, (joins, again + 2 * 1920)) == [(joins, when + 2 * 1920)]


def test_nothing_waits_when_tracks_stay_or_go_or_all_are_new() -> None:
    arrivals = Arrivals()
    both = frozenset({VIDEO.pid, SOUND.pid})
    for pids in (both, both, frozenset({SOUND.pid}), frozenset({VIDEO.pid})):
        assert arrivals.expect(pids) == []
        for pid in pids:
            stream = VIDEO if pid == VIDEO.pid else SOUND
            assert len(arrivals.place(unit(stream, S))) == 1


def test_a_track_that_does_not_come_is_not_waited_for_without_end() -> None:
    arrivals = Arrivals()
    arrivals.expect(frozenset({VIDEO.pid}))
    arrivals.place(unit(VIDEO, S))
    arrivals.expect(frozenset({VIDEO.pid, SOUND.pid}))
    came = [len(arrivals.place(unit(SOUND, S + n * 1920))) for n in range(LONGEST + 2)]
    assert came == [0] * (LONGEST - 1) + [LONGEST, 1, 1]


def test_what_waits_comes_out_at_the_end_and_at_the_next_change() -> None:
    arrivals = Arrivals()
    arrivals.expect(frozenset({VIDEO.pid}))
    arrivals.place(unit(VIDEO, S))
    both = frozenset({VIDEO.pid, SOUND.pid})
    arrivals.expect(both)
    arrivals.place(unit(SOUND, S))
    assert [placed.stream for placed in arrivals.expect(both)] == [SOUND]
    assert arrivals.flush() == []
