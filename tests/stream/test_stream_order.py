"""In which order units are written, and where segments end: pure decisions."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from trickle_core.mpegts import CLOCK_RATE, AccessUnit, Codec, ElementaryStream
from trickle_trio.stream.borders import PATIENCE, Borders, Place, Segment
from trickle_trio.stream.interleave import HELD, LONGEST, OVERLAP, Interleaver

VIDEO = ElementaryStream(0x100, Codec.H264)
SOUND = ElementaryStream(0x101, Codec.AAC)
WAIT = 1.0
LENGTH = 2 * CLOCK_RATE


def picture(time: int, *, key: bool = False) -> AccessUnit:
    return AccessUnit(VIDEO, b"p", time, time, key=key)


def sound(time: int) -> AccessUnit:
    return AccessUnit(SOUND, b"s", time, time, key=True)


def tracks(longest: int) -> st.SearchStrategy[list[AccessUnit]]:
    """Units of both tracks, each in the order of its times, ready in any order."""
    steps = st.lists(st.integers(1, longest), max_size=60)

    def merge(seed: tuple[list[int], list[int], list[bool]]) -> list[AccessUnit]:
        seen = [picture(time) for time in accumulate(seed[0])]
        heard = [sound(time) for time in accumulate(seed[1])]
        merged = []
        for takes_picture in seed[2]:
            source = seen if takes_picture else heard
            if source:
                merged.append(source.pop(0))
        return merged + seen + heard

    return st.tuples(steps, steps, st.lists(st.booleans(), max_size=120)).map(merge)


class TestInterleaver:
    @given(tracks(CLOCK_RATE), st.floats(0, 1))
    def test_nothing_is_lost_none_doubled_and_each_track_keeps_its_order(
        self, units: list[AccessUnit], step: float
    ) -> None:
        order = Interleaver(WAIT)
        out = [ready for n, unit in enumerate(units) for ready in order.put(unit, n * step)]
        out += order.flush()
        assert Counter(map(id, out)) == Counter(map(id, units))
        for stream in (VIDEO, SOUND):
            assert [u for u in out if u.stream is stream] == [
                u for u in units if u.stream is stream
            ]

    @given(tracks(CLOCK_RATE), st.floats(0, 1))
    def test_sound_is_never_held_longer_than_the_bounds(
        self, units: list[AccessUnit], step: float
    ) -> None:
        order, held, seen = Interleaver(WAIT), dict[int, float](), 0.0
        for n, unit in enumerate([picture(0), *units]):
            now = n * step
            seen = now if unit.stream is VIDEO else seen
            held |= {unit.pts: now} if unit.stream is SOUND else {}
            for ready in order.put(unit, now):
                held.pop(ready.pts if ready.stream is SOUND else -1, None)
            assert all(now - came < LONGEST for came in held.values())
            assert all(now - max(came, seen) < WAIT for came in held.values())

    def test_sound_waits_for_pictures_that_come_late_as_long_as_they_come(self) -> None:
        """A handler that takes three seconds a picture, and has two of them in hand."""
        order = Interleaver(WAIT)
        order.put(picture(0, key=True), 0.0)
        written = []
        for n in range(1, 200):
            now = n / 20
            written += order.put(sound(n * CLOCK_RATE // 20), now)
            if now > 3:
                written += order.put(picture((n - 60) * CLOCK_RATE // 20), now)
            elif n % 19 == 0:
                written += order.put(picture(n), now)
        seen = 0
        for unit in written:
            seen = unit.pts if unit.stream is VIDEO else seen
            assert unit.pts <= seen

    def test_when_pictures_stop_sound_goes_on_after_the_wait(self) -> None:
        order = Interleaver(WAIT)
        order.put(picture(0), 0.0)
        assert order.put(sound(1), 0.5) == []
        assert order.put(sound(2), 1.4) == []
        assert order.put(sound(3), 1.5) == [sound(1)]
        assert order.put(sound(4), 2.5) == [sound(2), sound(3)]

    def test_before_the_first_picture_of_all_sound_waits_longer_but_not_for_ever(self) -> None:
        order = Interleaver(WAIT)
        assert order.put(sound(0), 0.0) == []
        assert order.put(sound(1), LONGEST - 0.1) == []
        assert order.put(sound(2), LONGEST) == [sound(0)]
        assert order.put(picture(1), LONGEST) == [picture(1), sound(1)]

    def test_sound_that_comes_all_at_once_waits_for_the_pictures_that_follow(self) -> None:
        order = Interleaver(WAIT)
        burst = heard(0, 6)
        assert [ready for unit in burst for ready in order.put(unit, 1.0)] == []
        assert order.put(picture(0), 1.1) == [picture(0), sound(0)]
        ready = order.put(picture(CLOCK_RATE), 1.2)
        assert [unit for unit in ready if unit.stream is SOUND] == burst[1:11]

    def test_what_is_held_is_bounded_whatever_the_clock_says(self) -> None:
        order = Interleaver(WAIT)
        out = [ready for time in range(HELD + 3) for ready in order.put(sound(time), 0.0)]
        assert out == [sound(0), sound(1), sound(2)]

    @given(tracks(CLOCK_RATE))
    def test_pictures_never_wait(self, units: list[AccessUnit]) -> None:
        order = Interleaver(WAIT)
        for unit in units:
            ready = order.put(unit, 0.0)
            assert unit.stream is SOUND or unit in ready

    def test_sound_waits_for_the_picture_of_its_moment(self) -> None:
        order = Interleaver(WAIT)
        assert order.put(sound(0), 0.0) == []
        assert order.put(sound(2000), 0.0) == []
        assert order.put(picture(1000), 0.0) == [picture(1000), sound(0)]
        assert order.put(picture(3000), 0.0) == [picture(3000), sound(2000)]

    def test_sound_that_a_picture_begins_with_stands_behind_it_and_older_sound_before(self) -> None:
        order = Interleaver(WAIT)
        for time in (0, OVERLAP, OVERLAP + 1, 2 * OVERLAP):
            order.put(sound(time), 0.0)
        first = picture(2 * OVERLAP, key=True)
        assert order.put(first, 0.0) == [
            sound(0),
            sound(OVERLAP),
            first,
            sound(OVERLAP + 1),
            sound(2 * OVERLAP),
        ]

    def test_sound_of_the_past_goes_at_once(self) -> None:
        order = Interleaver(WAIT)
        order.put(picture(5000), 0.0)
        assert order.put(sound(4000), 0.0) == [sound(4000)]

    def test_without_a_picture_sound_goes_at_once(self) -> None:
        order = Interleaver(WAIT)
        assert order.put(sound(0), 0.0) == []
        order.has_picture = False
        assert order.put(sound(1), 0.0) == [sound(0), sound(1)]


def places(borders: Borders, units: list[AccessUnit]) -> list[Place]:
    return [borders.place(unit) for unit in units]


def heard(begin: float, end: float) -> list[AccessUnit]:
    """Sound every tenth of a second."""
    return [sound(round(n * CLOCK_RATE / 10)) for n in range(round(begin * 10), round(end * 10))]


class TestBorders:
    def test_a_segment_begins_at_each_key_frame_and_at_nothing_else(self) -> None:
        units = [picture(0, key=True), sound(1), picture(3000), picture(6000, key=True)]
        assert places(Borders(LENGTH), units) == [
            Place.FIRST,
            Place.WITHIN,
            Place.WITHIN,
            Place.FIRST,
        ]

    def test_before_the_first_key_frame_there_is_nowhere_to_go(self) -> None:
        units = [sound(0), picture(0), sound(1), picture(3000, key=True)]
        assert places(Borders(LENGTH), units) == [*[Place.NOWHERE] * 3, Place.FIRST]

    def test_after_a_lost_segment_too(self) -> None:
        borders = Borders(LENGTH)
        borders.place(picture(0, key=True))
        borders.lose()
        assert places(borders, [picture(3000), sound(3000)]) == [Place.NOWHERE] * 2
        assert borders.place(picture(6000, key=True)) is Place.FIRST

    def test_sound_alone_is_cut_by_time(self) -> None:
        borders = Borders(LENGTH, has_picture=False)
        firsts = [unit.pts for unit in heard(0, 7) if borders.place(unit) is Place.FIRST]
        assert firsts == [0, LENGTH, 2 * LENGTH, 3 * LENGTH]

    def test_a_picture_that_stays_away_is_waited_for_twice_a_segments_length(self) -> None:
        borders = Borders(LENGTH)
        borders.place(picture(0, key=True))
        firsts = [unit.pts for unit in heard(0, 9.5) if borders.place(unit) is Place.FIRST]
        assert firsts == [PATIENCE * LENGTH, (PATIENCE + 1) * LENGTH, (PATIENCE + 2) * LENGTH]
        assert borders.segment is Segment.SOUND

    def test_one_that_never_came_as_well(self) -> None:
        borders = Borders(LENGTH)
        got = places(borders, heard(0, 5))
        assert got.index(Place.FIRST) == PATIENCE * LENGTH * 10 // CLOCK_RATE

    def test_a_picture_that_is_back_begins_with_a_key_frame(self) -> None:
        borders = Borders(LENGTH)
        places(borders, [picture(0, key=True), *heard(0, 5)])
        assert borders.place(picture(5 * CLOCK_RATE)) is Place.NOWHERE
        assert borders.place(picture(5 * CLOCK_RATE + 3000, key=True)) is Place.FIRST

    def test_a_picture_that_is_late_has_not_gone(self) -> None:
        """A handler with seconds of delay: the sound of now stands beside pictures of then."""
        borders, delay = Borders(LENGTH), 10 * CLOCK_RATE
        for second in range(20):
            units = [picture(second * CLOCK_RATE, key=second % 2 == 0)]
            units += [sound(delay + second * CLOCK_RATE + n * 2000) for n in range(45)]
            expected = Place.FIRST if units[0].key else Place.WITHIN
            assert places(borders, units) == [expected, *[Place.WITHIN] * 45]

    def test_when_the_picture_leaves_the_program_sound_goes_on_by_itself(self) -> None:
        borders = Borders(LENGTH)
        places(borders, [picture(0, key=True), sound(0)])
        borders.has_picture = False
        assert places(borders, [sound(2000), sound(4000)]) == [Place.FIRST, Place.WITHIN]

    def test_other_tables_wait_for_a_key_frame_where_there_is_a_picture(self) -> None:
        borders = Borders(LENGTH)
        borders.place(picture(0, key=True))
        assert borders.renew(sound(1)) is Place.NOWHERE

    def test_and_come_at_once_where_there_is_none(self) -> None:
        borders = Borders(LENGTH, has_picture=False)
        borders.place(sound(0))
        assert borders.renew(sound(1)) is Place.FIRST

    @given(tracks(CLOCK_RATE // 2), st.data())
    def test_every_segment_can_be_decoded_alone(
        self, units: list[AccessUnit], data: st.DataObject
    ) -> None:
        borders = Borders(LENGTH)
        began: AccessUnit | None = None
        for unit in units:
            is_key = unit.stream is VIDEO and data.draw(st.booleans())
            unit = AccessUnit(unit.stream, b"", unit.pts, unit.pts, key=is_key)  # noqa: PLW2901
            place = borders.place(unit)
            if place is Place.FIRST:
                began = unit
                assert unit.key or unit.stream is SOUND
            elif place is Place.WITHIN:
                assert began is not None
                assert unit.stream is SOUND or began.stream is VIDEO
            else:
                assert not unit.key
