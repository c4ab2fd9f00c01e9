"""What a stream shows and counts: taps, tracks, meters."""

from __future__ import annotations

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trickle_core.mpegts import AccessUnit, Codec, ElementaryStream, ProgramMap
from trickle_trio.publication import PublicationStatistics
from trickle_trio.stream.meters import ARRIVALS_KEPT, RATE_WINDOW, Drop, Meters, Rate
from trickle_trio.stream.tap import VIEWER_BUFFER, Tap
from trickle_trio.stream.tracks import AUDIO_PID, VIDEO_PID, Tracks
from trickle_trio.subscription import SubscriptionStatistics

VIDEO = ElementaryStream(VIDEO_PID, Codec.H264)
SOUND = ElementaryStream(AUDIO_PID, Codec.AAC)


def picture(time: int, *, key: bool = False) -> AccessUnit:
    return AccessUnit(VIDEO, b"", time, time, key=key)


def sound(time: int) -> AccessUnit:
    return AccessUnit(SOUND, b"", time, time, key=True)


def drained(channel: trio.MemoryReceiveChannel[AccessUnit]) -> list[AccessUnit]:
    units = []
    while True:
        try:
            units.append(channel.receive_nowait())
        except (trio.WouldBlock, trio.EndOfChannel):
            return units


class TestTap:
    async def test_a_view_begins_with_a_key_frame(self) -> None:
        tap = Tap()
        tap.offer(picture(0, key=True))
        async with tap.open() as view:
            units = [picture(1), sound(1), picture(2, key=True), sound(2), picture(3)]
            for unit in units:
                tap.offer(unit)
            assert drained(view) == units[2:]

    async def test_where_there_is_no_picture_it_begins_with_any_sound(self) -> None:
        tap = Tap()
        async with tap.open() as view:
            tap.offer(sound(0))
            assert drained(view) == [sound(0)]

    async def test_who_lags_loses_up_to_the_next_key_frame_and_holds_nobody_up(self) -> None:
        tap = Tap()
        async with tap.open() as slow, tap.open() as quick:
            units = [picture(n, key=n % 100 == 0) for n in range(VIEWER_BUFFER + 50)]
            seen = []
            for unit in units:
                tap.offer(unit)
                seen += drained(quick)
            assert seen == units
            assert drained(slow) == units[:VIEWER_BUFFER]
            later = [picture(1000), picture(1001, key=True), picture(1002)]
            for unit in later:
                tap.offer(unit)
            assert drained(slow) == later[1:]

    async def test_closing_ends_every_view_behind_its_last_unit(self) -> None:
        tap = Tap()
        async with tap.open() as one, tap.open() as other:
            tap.offer(picture(0, key=True))
            tap.close()
            assert [unit async for unit in one] == [unit async for unit in other]

    async def test_a_view_of_a_closed_tap_is_over(self) -> None:
        tap = Tap()
        tap.close()
        tap.close()
        tap.offer(picture(0, key=True))
        async with tap.open() as view:
            assert [unit async for unit in view] == []

    async def test_a_view_that_is_left_costs_nothing_any_more(
        self, autojump_clock: MockClock
    ) -> None:
        tap = Tap()
        with trio.move_on_after(1):
            async with tap.open() as view:
                tap.offer(picture(0, key=True))
                while True:
                    await view.receive()
        tap.offer(picture(1, key=True))
        assert not tap._viewers

    async def test_a_waiting_viewer_wakes(self) -> None:
        tap, seen = Tap(), []

        async def look() -> None:
            async with tap.open() as view:
                seen.extend([unit async for unit in view])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            await wait_all_tasks_blocked()
            tap.offer(picture(0, key=True))
            tap.close()
        assert seen == [picture(0, key=True)]


class TestTracks:
    def test_the_first_of_each_kind_is_carried_under_our_numbers(self) -> None:
        tracks = Tracks()
        program = [ElementaryStream(50, Codec.AAC), ElementaryStream(51, Codec.OPUS, 2)]
        program += [ElementaryStream(60, Codec.H265), ElementaryStream(61, Codec.H264)]
        tracks.choose(ProgramMap(tuple(program)))
        assert tracks.video == ElementaryStream(VIDEO_PID, Codec.H265)
        assert tracks.audio == ElementaryStream(AUDIO_PID, Codec.AAC)
        unit = AccessUnit(program[2], b"", 0, 0)
        assert tracks.track_of(unit) == tracks.video
        assert tracks.track_of(attrs.evolve(unit, stream=program[0])) == tracks.audio
        for other in (program[1], program[3]):
            assert tracks.track_of(attrs.evolve(unit, stream=other)) is None

    def test_the_picture_goes_out_as_what_it_is_encoded(self) -> None:
        tracks = Tracks()
        tracks.choose(ProgramMap((ElementaryStream(60, Codec.H265),)))
        assert tracks.carried() == (VIDEO,)

    def test_copied_sound_goes_out_as_it_came(self) -> None:
        tracks = Tracks()
        tracks.choose(ProgramMap((ElementaryStream(60, Codec.OPUS, 6),)))
        assert tracks.carried() == (ElementaryStream(AUDIO_PID, Codec.OPUS, 6),)

    def test_and_handled_sound_as_what_it_is_encoded(self) -> None:
        tracks = Tracks(audio_codec=Codec.AAC)
        tracks.choose(ProgramMap((ElementaryStream(60, Codec.OPUS, 6),)))
        assert tracks.carried() == (SOUND,)

    def test_a_changed_program_is_chosen_from_again(self) -> None:
        tracks = Tracks()
        tracks.choose(ProgramMap((ElementaryStream(60, Codec.H264), SOUND)))
        tracks.choose(ProgramMap((ElementaryStream(70, Codec.H264),)))
        assert tracks.carried() == (VIDEO,)
        assert tracks.track_of(sound(0)) is None
        tracks.choose(ProgramMap(()))
        assert tracks.carried() == ()

    def test_pictures_that_are_made_here_stay_whatever_the_program_says(self) -> None:
        tracks = Tracks()
        tracks.expect_picture()
        assert tracks.carried() == (VIDEO,)
        tracks.choose(ProgramMap((SOUND,)))
        assert tracks.carried() == (VIDEO, SOUND)


class TestMeters:
    def test_a_rate_is_taken_over_its_window(self) -> None:
        rate = Rate()
        for n in range(100):
            rate.count(n / 10)
        assert rate.at(10.0) == pytest.approx(10, rel=0.1)
        assert rate.at(10.0 + RATE_WINDOW + 1) == 0.0

    def test_a_rate_that_has_just_begun_is_over_the_time_since(self) -> None:
        rate = Rate()
        assert rate.at(0.0) == 0.0
        rate.count(0.0)
        assert rate.at(0.1) == 0.0
        for n in range(1, 6):
            rate.count(n / 10)
        assert rate.at(0.5) == pytest.approx(12)

    async def test_delays_are_from_arrival_to_departure(self, autojump_clock: MockClock) -> None:
        meters = Meters()
        for n in range(100):
            meters.picture_arrived(n)
            await trio.sleep(0.01 * (n + 1))
            meters.picture_left(n)
        assert meters.latency(0.5) == pytest.approx(510)
        assert meters.latency(0.99) == pytest.approx(1000)

    async def test_what_never_arrived_has_no_delay_and_what_never_leaves_is_forgotten(self) -> None:
        meters = Meters()
        meters.picture_left(5)
        assert meters.latency(0.5) is None
        for n in range(3 * ARRIVALS_KEPT):
            meters.picture_arrived(n)
        assert len(meters._arrivals) == ARRIVALS_KEPT

    async def test_stages_are_told_when_they_have_taken_time(self) -> None:
        meters = Meters()
        meters.stage("encode")
        for seconds in (0.2, 0.8):
            meters.stage("decode").took(seconds)
        assert list(meters.stages()) == ["decode"]
        assert meters.stages()["decode"].count == 2
        assert meters.stages()["decode"].mean_ms == pytest.approx(500)

    async def test_a_snapshot_holds_all_of_it(self, autojump_clock: MockClock) -> None:
        meters = Meters()
        meters.size_in, meters.size_out = (640, 360), (320, 180)
        for n in range(10):
            meters.picture_arrived(n)
            meters.sound_arrived()
            await trio.sleep(0.1)
            meters.picture_left(n)
            meters.sound_left()
        meters.drop(Drop.FRAMERATE, 3)
        meters.drop(Drop.DAMAGED, 0)
        meters.error("decode", "bad")
        read = SubscriptionStatistics(segments=4, skipped=1, truncated=2, bytes_received=99)
        written = PublicationStatistics(segments=5, lost=1, bytes_sent=77)
        numbers = attrs.asdict(meters.snapshot(read, written))
        expected = {
            "frames_in": 10, "frames_out": 10, "audio_in": 10, "audio_out": 10,
            "dropped": {"above max_framerate": 3}, "errors": {"decode": 1}, "last_error": "bad",
            "width_in": 640, "height_in": 360, "width_out": 320, "height_out": 180,
            "segments_in": 4, "segments_skipped": 1, "segments_truncated": 2, "bytes_in": 99,
            "segments_out": 5, "segments_lost": 1, "bytes_out": 77,
        }  # fmt: skip
        assert {name: numbers[name] for name in expected} == expected
        assert numbers["seconds"] == pytest.approx(1)
        assert numbers["latency_ms_p50"] == pytest.approx(100)
        assert 9 < numbers["egress_video_fps"] < 12
