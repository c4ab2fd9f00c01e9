"""What the subscriber does, event by event: each sentence of the protocol's reading side."""

from __future__ import annotations

import math

import pytest

from trickle_core import wire
from trickle_core.commands import Abort, Deliver, Discard, Ending, Finish, OpenGet, Truncate
from trickle_core.errors import LocalProtocolError
from trickle_core.events import Cause, RequestFailed, RequestFinished, ResponseStarted
from trickle_core.retry import RetryPolicy
from trickle_core.subscriber import Line, Reader, Subscriber, SubscriberSettings

RETRY = RetryPolicy(first=0.1, growth=2, longest=5, spread=0.5, give_up_after=30)


def head(request: int, status: int = 200, /, **headers: object) -> ResponseStarted:
    """An answer; ``seq=3`` stands for ``lp-trickle-seq: 3``, and so on."""
    named = {f"lp-trickle-{name}": str(value) for name, value in headers.items()}
    return ResponseStarted(request, status, named)


def missing(request: int, *, asked: int, latest: int) -> ResponseStarted:
    return head(request, 470, latest=latest, seq=asked)


def subscribed(start: int = wire.LIVE_EDGE, **settings: object) -> Subscriber:
    """A machine whose first GET (number 1) was opened at time 0."""
    machine = Subscriber(SubscriberSettings(start=start, retry=RETRY, **settings))  # type: ignore[arg-type]  # by name
    assert machine.start(0.0) == [OpenGet(1, start)]
    return machine


def reading(seq: int = 7, **settings: object) -> Subscriber:
    """A machine whose reader has segment ``seq`` (request 1) while the next is asked for (2)."""
    machine = subscribed(seq, **settings)
    machine.want_segment(now=1.0)
    assert machine.receive(head(1, seq=seq), now=1.0) == [Deliver(1, seq), OpenGet(2, seq + 1)]
    return machine


# -- the ordinary way


@pytest.mark.parametrize("start", [wire.LIVE_EDGE, wire.NEXT_WRITE, 0, 41])
def test_it_starts_where_it_was_told(start: int) -> None:
    assert Subscriber(SubscriberSettings(start=start)).start(now=5.0) == [OpenGet(1, start)]


def test_the_next_segment_is_asked_for_as_soon_as_this_one_has_begun() -> None:
    machine = subscribed()
    assert machine.want_segment(now=0.5) == []
    assert machine.receive(head(1, seq=7), now=3.0) == [Deliver(1, 7), OpenGet(2, 8)]
    assert machine.receive(RequestFinished(1), now=5.0) == []
    assert machine.want_segment(now=5.0) == []
    assert machine.receive(head(2, seq=8), now=5.1) == [Deliver(2, 8), OpenGet(3, 9)]
    assert machine.skipped == 0


def test_on_an_empty_channel_it_waits_for_the_first_segment() -> None:
    machine = subscribed()
    machine.want_segment(now=0.0)
    for request in range(2, 200):  # an hour
        assert machine.handle_timeout(machine.deadline()) == [
            Abort(request - 1),
            OpenGet(request, -2),
        ]
    assert machine.receive(head(199, seq=0), now=4000.0) == [Deliver(199, 0), OpenGet(200, 1)]


def test_an_answer_waits_for_a_reader_that_is_slow() -> None:
    machine = reading(7)
    assert machine.receive(head(2, seq=8), now=2.0) == []
    assert machine.deadline() == math.inf  # it may take its time
    assert machine.receive(RequestFinished(1), now=60.0) == []
    assert machine.want_segment(now=61.0) == [Deliver(2, 8), OpenGet(3, 9)]


def test_a_short_segment_may_be_whole_before_anybody_reads_it() -> None:
    machine = reading(7)
    assert machine.receive(head(2, seq=8), now=2.0) == []
    assert machine.receive(RequestFinished(2), now=2.0) == []
    assert machine.receive(RequestFinished(1), now=3.0) == []
    assert machine.want_segment(now=3.0) == [Deliver(2, 8), OpenGet(3, 9)]
    # Its end has been seen, and is not seen again: the reader may ask for the next at once.
    assert machine.reader is Reader.AWAY
    assert machine.want_segment(now=3.0) == []
    assert machine.receive(head(3, seq=9), now=4.0) == [Deliver(3, 9), OpenGet(4, 10)]


def test_an_empty_segment_is_a_segment() -> None:
    machine = reading(7)
    machine.receive(RequestFinished(1), now=1.0)
    machine.want_segment(now=1.0)
    assert machine.receive(head(2, seq=8), now=2.0) == [Deliver(2, 8), OpenGet(3, 9)]
    assert machine.receive(RequestFinished(2), now=2.0) == []


def test_at_the_next_write_the_number_is_learnt_from_the_answer() -> None:
    machine = subscribed(wire.NEXT_WRITE)
    machine.want_segment(now=0.0)
    assert machine.receive(head(1, seq=12), now=9.0) == [Deliver(1, 12), OpenGet(2, 13)]


def test_a_waiting_get_is_opened_anew_every_twenty_seconds() -> None:
    machine = subscribed(4)
    assert machine.deadline() == 20.0
    assert machine.handle_timeout(now=19.9) == []
    assert machine.handle_timeout(now=20.0) == [Abort(1), OpenGet(2, 4)]
    assert machine.deadline() == 40.0
    assert machine.receive(head(1, seq=4), now=21.0) == []  # too late: it was aborted
    assert machine.handle_timeout(now=43.0) == [Abort(2), OpenGet(3, 4)]
    assert machine.deadline() == 63.0


# -- segments that are not there


def test_a_reader_that_fell_out_of_the_window_jumps_to_the_live_edge() -> None:
    machine = reading(7)
    machine.receive(RequestFinished(1), now=40.0)
    machine.want_segment(now=40.0)
    answer = missing(2, asked=8, latest=21)
    assert machine.receive(answer, now=40.1) == [Discard(2), OpenGet(3, wire.LIVE_EDGE)]
    # While the question was under way the publisher went on.
    assert machine.receive(head(3, seq=22), now=40.2) == [
        Deliver(3, 22, skipped=14),
        OpenGet(4, 23),
    ]
    assert machine.skipped == 14


def test_so_does_one_that_starts_before_the_window() -> None:
    machine = subscribed(0)
    machine.want_segment(now=0.0)
    answer = missing(1, asked=0, latest=100)
    assert machine.receive(answer, now=0.1) == [Discard(1), OpenGet(2, wire.LIVE_EDGE)]
    assert machine.receive(head(2, seq=99), now=0.2) == [
        Deliver(2, 99, skipped=99),
        OpenGet(3, 100),
    ]


def test_a_jump_never_leads_back() -> None:
    machine = reading(7)
    answer = missing(2, asked=8, latest=21)
    assert machine.receive(answer, now=1.1) == [Discard(2), OpenGet(3, wire.LIVE_EDGE)]
    # A publisher has started anew, far below, between the two answers.
    assert machine.receive(head(3, seq=5), now=1.2) == [Discard(3)]
    assert machine.handle_timeout(now=machine.deadline()) == [OpenGet(4, 8)]


def test_a_live_edge_that_is_not_there_is_asked_for_again() -> None:
    machine = reading(7)
    machine.receive(missing(2, asked=8, latest=21), now=1.1)
    assert machine.receive(missing(3, asked=-2, latest=21), now=1.2) == [Discard(3)]
    assert machine.deadline() == 1.45
    assert machine.handle_timeout(now=1.45) == [OpenGet(4, wire.LIVE_EDGE)]


@pytest.mark.parametrize("latest", [3, 8])
def test_a_reader_ahead_of_the_publisher_asks_again_without_going_back(latest: int) -> None:
    machine = reading(7)
    assert machine.receive(missing(2, asked=8, latest=latest), now=1.0) == [Discard(2)]
    assert machine.line is Line.PAUSED
    assert machine.deadline() == 1.25
    assert machine.handle_timeout(now=1.25) == [OpenGet(3, 8)]


def test_a_470_that_says_nothing_else_means_too_early() -> None:
    machine = reading(7)
    assert machine.receive(ResponseStarted(2, 470, {}), now=1.0) == [Discard(2)]
    assert machine.handle_timeout(now=1.25) == [OpenGet(3, 8)]


def test_a_publisher_below_us_is_waited_for_as_long_as_it_takes() -> None:
    machine = reading(100)
    for request in range(2, 2000):
        now = machine.deadline()
        assert machine.handle_timeout(now)[-1] == OpenGet(request + 1, 101)
        answer = missing(request + 1, asked=101, latest=3)
        assert machine.receive(answer, now) == [Discard(request + 1)]


def test_pauses_before_an_early_segment_are_jittered() -> None:
    machine = Subscriber(SubscriberSettings(retry=RETRY), jitter=lambda: 0.5)
    machine.start(now=0.0)
    machine.receive(missing(1, asked=-2, latest=0), now=1.0)
    assert machine.deadline() == 1.0 + 0.25 * 0.75


def test_a_number_that_the_server_passed_over_counts_as_skipped() -> None:
    machine = reading(7)
    machine.drop_segment(now=1.5)
    machine.want_segment(now=1.5)
    assert machine.receive(head(2, seq=10), now=2.0) == [Deliver(2, 10, skipped=2), OpenGet(3, 11)]


# -- a reader that does not want to lag


def test_a_reader_that_lags_too_far_jumps_to_live() -> None:
    machine = reading(7, max_lag=2)
    machine.drop_segment(now=9.0)
    machine.want_segment(now=9.0)
    assert machine.receive(head(2, seq=8, latest=12), now=9.0) == [Discard(2), OpenGet(3, -2)]
    # What is given as the live edge is taken, however far on the publisher says it is by now.
    delivered = machine.receive(head(3, seq=11, latest=30), now=9.1)
    assert delivered == [Deliver(3, 11, skipped=3), OpenGet(4, 12)]


@pytest.mark.parametrize("headers", [{"latest": 11}, {"latest": "soon"}, {}])
def test_one_that_lags_a_little_reads_on(headers: dict[str, object]) -> None:
    machine = reading(7, max_lag=2)
    assert machine.receive(head(2, 200, seq=8, **headers), now=9.0) == []
    assert machine.line is Line.HELD


def test_without_a_bound_it_reads_everything() -> None:
    machine = reading(7)
    assert machine.receive(head(2, seq=8, latest=1000), now=9.0) == []
    assert machine.line is Line.HELD


# -- the end


def test_closed_is_the_end() -> None:
    machine = reading(7)
    finish = [Discard(2), Finish(Ending.CLOSED, 200)]
    assert machine.receive(head(2, seq=8, closed="terminated"), now=4.0) == finish
    assert machine.line is Line.OVER
    assert machine.deadline() == math.inf
    assert machine.receive(RequestFinished(1), now=5.0) == []  # the last segment is read to its end
    assert machine.want_segment(now=5.0) == []  # and nothing comes after it


def test_the_last_segment_can_break_after_the_end() -> None:
    machine = reading(7)
    machine.receive(head(2, closed="terminated"), now=4.0)
    assert machine.receive(RequestFailed(1, Cause.BROKEN), now=5.0) == [Truncate(1)]


def test_a_channel_that_is_gone_is_the_end() -> None:
    assert subscribed().receive(head(1, 404), now=0.1) == [Discard(1), Finish(Ending.GONE, 404)]


@pytest.mark.parametrize("status", [400, 401, 403, 410, 451])
def test_a_refusal_is_the_end(status: int) -> None:
    orders = subscribed().receive(head(1, status), now=0.1)
    assert orders == [Discard(1), Finish(Ending.REFUSED, status)]


def test_a_channel_can_be_waited_for() -> None:
    machine = subscribed(wait_for_channel=10.0)
    assert machine.receive(head(1, 404), now=0.1) == [Discard(1)]
    assert machine.handle_timeout(now=0.35) == [OpenGet(2, -2)]
    assert machine.receive(head(2, 404), now=9.9) == [Discard(2)]
    machine.handle_timeout(now=10.2)
    assert machine.receive(head(3, 404), now=10.3) == [Discard(3), Finish(Ending.GONE, 404)]


@pytest.mark.parametrize("sign", [head(2, seq=0), missing(2, asked=-2, latest=0)])
def test_once_it_was_there_it_is_waited_for_no_more(sign: ResponseStarted) -> None:
    machine = subscribed(wait_for_channel=3600.0, early_pause=1.0)
    machine.receive(head(1, 404), now=0.0)
    machine.want_segment(now=0.0)
    machine.handle_timeout(now=1.0)
    machine.receive(sign, now=1.5)
    if machine.line is Line.PAUSED:
        machine.handle_timeout(now=2.5)
    assert machine.receive(head(3, 404), now=3.0)[-1] == Finish(Ending.GONE, 404)


@pytest.mark.parametrize("cause", [Cause.REFUSED, Cause.BROKEN])
def test_a_server_that_began_anew_is_given_the_time_to_have_its_channels_again(
    cause: Cause,
) -> None:
    machine = reading(7, wait_for_channel=10.0)
    assert machine.receive(RequestFailed(1, Cause.BROKEN), now=2.0) == [Truncate(1)]
    assert machine.receive(RequestFailed(2, cause), now=2.0) == [Abort(2)]
    machine.want_segment(now=2.0)
    assert machine.handle_timeout(now=2.1) == [OpenGet(3, 8)]
    assert machine.receive(head(3, 404), now=2.1) == [Discard(3)]
    assert machine.handle_timeout(now=3.0) == [OpenGet(4, -2)], "another channel, other numbers"
    assert machine.receive(head(4, 404), now=3.0) == [Discard(4)]
    machine.handle_timeout(now=4.0)
    assert machine.receive(head(5, seq=0), now=4.0) == [Deliver(5, 0), OpenGet(6, 1)]
    assert machine.skipped == 0
    assert machine.receive(head(6, 404), now=4.5)[-1] == Finish(Ending.GONE, 404)


def test_but_not_for_ever() -> None:
    machine = reading(7, wait_for_channel=10.0)
    machine.receive(RequestFailed(2, Cause.BROKEN), now=2.0)
    machine.handle_timeout(now=2.1)
    machine.receive(head(3, 404), now=2.1)
    machine.handle_timeout(now=12.1)
    assert machine.receive(head(4, 404), now=12.1)[-1] == Finish(Ending.GONE, 404)


def test_a_channel_that_is_deleted_is_gone_at_once_also_for_who_would_wait() -> None:
    machine = reading(7, wait_for_channel=10.0)
    assert machine.receive(head(2, 404), now=2.0)[-1] == Finish(Ending.GONE, 404)


def test_who_waits_for_a_channel_from_its_beginning_gets_that() -> None:
    machine = subscribed(0, wait_for_channel=10.0)
    machine.receive(RequestFailed(1, Cause.REFUSED), now=1.0)
    assert machine.handle_timeout(now=2.0) == [OpenGet(2, 0)]
    machine.receive(head(2, 404), now=2.0)
    assert machine.handle_timeout(now=3.0) == [OpenGet(3, 0)]


def test_waiting_for_a_channel_is_no_failure() -> None:
    machine = subscribed(wait_for_channel=3600.0)
    machine.receive(RequestFailed(1, Cause.REFUSED), now=0.0)  # the server was still starting
    machine.handle_timeout(now=0.1)
    machine.receive(head(2, 404), now=0.1)
    machine.handle_timeout(now=40.0)
    assert machine.receive(RequestFailed(3, Cause.BROKEN), now=40.0) == [Abort(3)]


# -- faults


@pytest.mark.parametrize(
    "fault",
    [
        head(1, 500),
        head(1, 503),
        head(1, 408),
        head(1, 429),
        head(1, 302),
        head(1, 204),
        head(1, seq="seven"),
        head(1, seq=-1),
        head(1),  # no number, and the live edge has none of its own
        RequestFinished(1),
        RequestFailed(1, Cause.REFUSED),
        RequestFailed(1, Cause.BROKEN),
        RequestFailed(1, Cause.TIMED_OUT),
    ],
    ids=repr,
)
def test_a_fault_is_tried_again_from_the_same_position(
    fault: ResponseStarted | RequestFinished | RequestFailed,
) -> None:
    machine = subscribed()
    assert machine.receive(fault, now=1.0) == [Abort(1)]
    assert machine.line is Line.PAUSED
    assert machine.deadline() == 1.1
    assert machine.handle_timeout(now=1.1) == [OpenGet(2, -2)]


def test_an_answer_without_a_number_is_the_segment_asked_for() -> None:
    machine = subscribed(5)
    machine.want_segment(now=0.0)
    assert machine.receive(head(1), now=0.1) == [Deliver(1, 5), OpenGet(2, 6)]


def test_a_lower_number_than_asked_is_not_delivered_twice() -> None:
    machine = reading(7)
    assert machine.receive(head(2, seq=7), now=1.1) == [Discard(2)]
    assert machine.handle_timeout(now=2.0) == [OpenGet(3, 8)]


def test_pauses_grow_until_it_gives_up() -> None:
    machine = subscribed()
    now, opened, pauses = 0.0, 1, []
    while machine.receive(RequestFailed(opened, Cause.REFUSED), now) == [Abort(opened)]:
        pauses.append(round(machine.deadline() - now, 3))
        now = machine.deadline()
        opened += 1
        assert machine.handle_timeout(now) == [OpenGet(opened, -2)]
    assert pauses[:7] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
    assert 30 <= now <= 35
    assert machine.line is Line.OVER


def test_giving_up_tells_the_last_answer() -> None:
    machine = Subscriber(SubscriberSettings(retry=RetryPolicy(give_up_after=0)))
    machine.start(now=0.0)
    finish = Finish(Ending.GAVE_UP, 503)
    assert machine.receive(head(1, 503), now=0.1) == [Abort(1), finish]


def test_success_starts_the_count_anew() -> None:
    machine = subscribed(5)
    for request in (1, 2, 3):
        machine.receive(RequestFailed(request, Cause.BROKEN), now=1.0 * request)
        machine.handle_timeout(now=machine.deadline())
    machine.want_segment(now=29.0)
    machine.receive(head(4, seq=5), now=29.0)
    assert machine.receive(RequestFailed(5, Cause.BROKEN), now=31.0) == [Abort(5)]
    assert machine.deadline() == 31.1


def test_a_silent_publisher_behind_an_impatient_server_is_no_failure() -> None:
    """The server cuts each waiting GET after six seconds, for an hour."""
    machine = subscribed()
    request = 1
    for cut in range(6, 3600, 7):
        assert machine.receive(RequestFailed(request, Cause.BROKEN), float(cut)) == [Abort(request)]
        request += 1
        assert machine.handle_timeout(now=cut + 1.0) == [OpenGet(request, -2)]


def test_neither_is_one_fault_before_and_one_after_a_long_wait() -> None:
    machine = subscribed()
    machine.receive(RequestFailed(1, Cause.REFUSED), now=0.0)
    for request in range(2, 10):  # then it waits, refreshed every 20 s
        orders = machine.handle_timeout(now=machine.deadline())
        assert orders[-1] == OpenGet(request, -2)
    now = machine.deadline() - 18
    assert machine.receive(RequestFailed(9, Cause.BROKEN), now) == [Abort(9)]


# -- bodies


def test_a_broken_segment_is_marked_never_taken_for_whole() -> None:
    machine = reading(7)
    assert machine.receive(RequestFailed(1, Cause.BROKEN), now=2.0) == [Truncate(1)]
    assert machine.want_segment(now=2.0) == []
    assert machine.receive(head(2, seq=8), now=2.1) == [Deliver(2, 8), OpenGet(3, 9)]


def test_one_that_breaks_before_anybody_read_it_is_asked_for_again() -> None:
    machine = subscribed()
    machine.receive(head(1, seq=7), now=1.0)
    assert machine.receive(RequestFailed(1, Cause.BROKEN), now=2.0) == [Abort(1)]
    assert machine.handle_timeout(now=2.1) == [OpenGet(2, 7)]


def test_a_server_that_fails_for_good_while_a_segment_is_held() -> None:
    machine = Subscriber(SubscriberSettings(retry=RetryPolicy(give_up_after=0)))
    machine.start(now=0.0)
    machine.receive(head(1, seq=7), now=0.1)
    finish = [Abort(1), Finish(Ending.GAVE_UP)]
    assert machine.receive(RequestFailed(1, Cause.BROKEN), now=0.2) == finish


@pytest.mark.parametrize("line", [Line.HELD, Line.WHOLE])
def test_second_thoughts_about_a_held_answer_change_nothing(line: Line) -> None:
    machine = subscribed()
    machine.receive(head(1, seq=7), now=1.0)
    if line is Line.WHOLE:
        machine.receive(RequestFinished(1), now=1.0)
        assert machine.receive(RequestFailed(1, Cause.BROKEN), now=1.5) == []
        assert machine.receive(RequestFinished(1), now=1.5) == []
    assert machine.receive(head(1, 404), now=1.5) == []
    assert machine.receive(head(1, seq=9), now=1.5) == []
    assert machine.line is line


def test_second_heads_of_a_delivered_segment_change_nothing() -> None:
    machine = reading(7)
    assert machine.receive(head(1, 500), now=2.0) == []
    assert machine.reader is Reader.READING


# -- the reader leaves


def test_a_reader_can_leave_its_segment() -> None:
    machine = reading(7)
    assert machine.drop_segment(now=2.0) == [Abort(1)]
    assert machine.receive(RequestFailed(1, Cause.BROKEN), now=2.1) == []
    assert machine.receive(head(2, seq=8), now=2.2) == []
    assert machine.want_segment(now=3.0) == [Deliver(2, 8), OpenGet(3, 9)]


def test_a_reader_can_stop_waiting() -> None:
    machine = subscribed()
    machine.want_segment(now=0.0)
    assert machine.drop_segment(now=1.0) == []
    assert machine.receive(head(1, seq=7), now=2.0) == []  # kept for when it comes back
    assert machine.want_segment(now=9.0) == [Deliver(1, 7), OpenGet(2, 8)]


def test_leaving_a_segment_that_has_just_ended_is_legal() -> None:
    machine = reading(7)
    machine.receive(RequestFinished(1), now=2.0)
    assert machine.drop_segment(now=2.0) == []


def test_only_one_segment_can_be_wanted() -> None:
    machine = subscribed()
    machine.want_segment(now=0.0)
    with pytest.raises(LocalProtocolError, match="WAITING"):
        machine.want_segment(now=0.0)
    machine.receive(head(1, seq=7), now=1.0)
    with pytest.raises(LocalProtocolError, match="READING"):
        machine.want_segment(now=1.0)


# -- the user leaves


def test_closing_gives_up_all_that_is_open() -> None:
    machine = reading(7)
    assert machine.close(now=2.0) == [Abort(1), Abort(2), Finish(Ending.LEFT)]
    assert machine.close(now=2.0) == []
    assert machine.deadline() == math.inf
    for late in (head(2, seq=8), RequestFinished(1), RequestFailed(2, Cause.BROKEN)):
        assert machine.receive(late, now=3.0) == []


def test_closing_before_the_start() -> None:
    machine = Subscriber()
    assert machine.close(now=0.0) == [Finish(Ending.LEFT)]
    with pytest.raises(LocalProtocolError, match="START while OVER"):
        machine.start(now=1.0)


def test_closing_in_a_pause() -> None:
    machine = subscribed()
    machine.receive(head(1, 500), now=0.1)
    assert machine.close(now=0.1) == [Finish(Ending.LEFT)]


@pytest.mark.parametrize("whole", [False, True])
def test_closing_with_a_segment_held(whole: bool) -> None:
    machine = subscribed()
    machine.receive(head(1, seq=7), now=0.1)
    if whole:
        machine.receive(RequestFinished(1), now=0.1)
    assert machine.close(now=0.2) == [Abort(1), Finish(Ending.LEFT)]


def test_closing_after_the_end_leaves_the_last_segment() -> None:
    machine = reading(7)
    machine.receive(head(2, 404), now=1.5)
    assert machine.close(now=2.0) == [Abort(1)]


def test_it_starts_once() -> None:
    with pytest.raises(LocalProtocolError, match="START while ASKING"):
        subscribed().start(now=1.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": -3},
        {"refresh": 0},
        {"early_pause": 0},
        {"wait_for_channel": -1},
        {"max_lag": -1},
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SubscriberSettings(**wrong)  # type: ignore[arg-type]  # that is the point
