"""What the publisher does, event by event: each sentence of the protocol's writing side."""

from __future__ import annotations

import math

import pytest

from trickle_core import wire
from trickle_core.commands import (
    Abort,
    AskNext,
    Create,
    Delete,
    Discard,
    EndBody,
    Ending,
    Finish,
    Grant,
    Lose,
    OpenGet,
    OpenPost,
)
from trickle_core.errors import LocalProtocolError
from trickle_core.events import Cause, Event, RequestFailed, RequestFinished, ResponseStarted
from trickle_core.publisher import (
    FAR_AHEAD,
    Line,
    Publisher,
    PublisherSettings,
    Writer,
)
from trickle_core.retry import RetryPolicy

SETTLING = wire.WINDOW - 1
"""So many segments and the one preconnected behind them fill the server's window."""

RETRY = RetryPolicy(first=0.1, growth=2, longest=5, spread=0.5, give_up_after=30)


def head(request: int, status: int = 200, /, sent: int = 0, **headers: object) -> ResponseStarted:
    """An answer; ``latest=3`` stands for ``lp-trickle-latest: 3``, and so on. ``sent``: bytes of
    the body that had left.
    """
    named = {f"lp-trickle-{name}": str(value) for name, value in headers.items()}
    return ResponseStarted(request, status, named, sent)


def broken(request: int, *, sent: int = 0) -> RequestFailed:
    return RequestFailed(request, Cause.BROKEN, sent)


def closed(request: int) -> ResponseStarted:
    return head(request, closed="terminated")


def machine_with(**settings: object) -> Publisher:
    return Publisher(PublisherSettings(retry=RETRY, **settings))  # type: ignore[arg-type]  # by name


def opened(first: int = 0, **settings: object) -> Publisher:
    """A machine with an idle POST of segment ``first`` (request 1), opened at time 0."""
    machine = machine_with(first=first, **settings)
    assert machine.start(now=0.0) == [OpenPost(1, first, reset=True)]
    return machine


def writing(first: int = 0, **settings: object) -> Publisher:
    """A machine whose writer has segment ``first`` (request 1), the next is preconnected (2)."""
    machine = opened(first, **settings)
    granted = [Grant(1, first), OpenPost(2, first + 1)]
    assert machine.begin_segment(now=0.0) == granted
    return machine


def settling(first: int = 0, **settings: object) -> Publisher:
    """A machine that has ended segment ``first`` at time 1 and waits for its answer (request 1)."""
    machine = writing(first, **settings)
    assert machine.end_segment(now=1.0) == [EndBody(1)]
    return machine


# -- where to begin


@pytest.mark.parametrize("latest", [0, 17])
def test_it_asks_where_to_begin(latest: int) -> None:
    machine = Publisher()
    assert machine.start(now=0.0) == [AskNext(1)]
    orders = machine.receive(head(1, latest=latest), now=0.1)
    assert orders == [Discard(1), OpenPost(2, latest, reset=True)]


@pytest.mark.parametrize("latest", [0, 17])
def test_an_older_server_is_asked_in_another_way(latest: int) -> None:
    machine = Publisher()
    machine.start(now=0.0)
    assert machine.receive(head(1, 400), now=0.1) == [Discard(1), OpenGet(2, FAR_AHEAD)]
    answer = head(2, 470, latest=latest, seq=FAR_AHEAD)
    assert machine.receive(answer, now=0.2) == [Discard(2), OpenPost(3, latest, reset=True)]


@pytest.mark.parametrize("headers", [{}, {"latest": "soon"}, {"latest": -1}])
def test_so_is_one_whose_answer_makes_no_sense(headers: dict[str, object]) -> None:
    machine = Publisher()
    machine.start(now=0.0)
    assert machine.receive(head(1, **headers), now=0.1) == [Discard(1), OpenGet(2, FAR_AHEAD)]  # type: ignore[arg-type]  # headers only


@pytest.mark.parametrize(
    "answer",
    [head(2, 470), head(2, 470, latest=-5), head(2, 470, latest=FAR_AHEAD), head(2, 500), head(2)],
    ids=repr,
)
def test_if_that_makes_no_sense_either_it_begins_again(answer: ResponseStarted) -> None:
    machine = machine_with()
    machine.start(now=0.0)
    machine.receive(head(1, 400), now=0.1)
    assert machine.receive(answer, now=0.2) == [Discard(2)]
    assert machine.handle_timeout(now=machine.deadline()) == [AskNext(3)]


def test_it_begins_where_it_was_told() -> None:
    opened(first=5)


def test_it_can_make_the_channel_first() -> None:
    machine = machine_with(create=True)
    assert machine.start(now=0.0) == [Create(1)]
    assert machine.receive(head(1), now=0.1) == [Discard(1), AskNext(2)]


def test_and_then_begin_where_it_was_told() -> None:
    machine = machine_with(create=True, first=5)
    machine.start(now=0.0)
    assert machine.receive(head(1), now=0.1) == [Discard(1), OpenPost(2, 5, reset=True)]


def test_a_server_that_makes_no_channels() -> None:
    machine = machine_with(create=True)
    machine.start(now=0.0)
    assert machine.receive(head(1, 404), now=0.1) == [Discard(1), Finish(Ending.GONE, 404)]


def test_what_was_made_is_not_made_again() -> None:
    machine = machine_with(create=True)
    machine.start(now=0.0)
    assert machine.receive(head(1, 503), now=0.1) == [Discard(1)]
    assert machine.handle_timeout(now=machine.deadline()) == [Create(2)]
    assert machine.receive(head(2), now=0.3) == [Discard(2), AskNext(3)]
    assert machine.receive(head(3, 503), now=0.4) == [Discard(3)]
    assert machine.handle_timeout(now=machine.deadline()) == [AskNext(4)]


def test_a_question_that_is_never_answered_is_asked_again() -> None:
    machine = machine_with(create=True, settle=4.0)
    machine.start(now=0.0)
    assert machine.deadline() == 4.0
    assert machine.handle_timeout(now=4.0) == [Abort(1)]
    assert machine.handle_timeout(now=4.1) == [Create(2)]
    machine.receive(head(2), now=5.0)
    assert machine.handle_timeout(now=9.0) == [Abort(3)]
    assert machine.handle_timeout(now=9.1) == [AskNext(4)]
    machine.receive(head(4, 400), now=10.0)
    assert machine.handle_timeout(now=14.0) == [Abort(5)]
    assert machine.handle_timeout(now=14.2) == [AskNext(6)]


# -- the ordinary way


def test_the_next_post_is_open_before_it_is_needed() -> None:
    machine = opened(first=3)
    assert machine.begin_segment(now=1.0) == [Grant(1, 3), OpenPost(2, 4)]
    assert machine.end_segment(now=2.0) == [EndBody(1)]
    assert machine.begin_segment(now=2.0) == [Grant(2, 4), OpenPost(3, 5)]
    assert machine.receive(head(1, seq=3), now=2.1) == [Discard(1)]
    assert machine.end_segment(now=3.0) == [EndBody(2)]
    assert machine.receive(head(2, seq=4), now=3.1) == [Discard(2)]
    assert machine.deadline() == math.inf
    assert machine.lost == 0


def test_a_writer_that_comes_early_waits() -> None:
    machine = Publisher()
    assert machine.begin_segment(now=0.0) == []
    machine.start(now=0.0)
    orders = machine.receive(head(1, latest=3), now=0.1)
    assert orders == [Discard(1), OpenPost(2, 3, reset=True), Grant(2, 3), OpenPost(3, 4)]


def test_an_open_post_waits_for_as_long_as_the_writer_likes() -> None:
    assert opened().deadline() == math.inf


def test_an_empty_segment_is_a_segment() -> None:
    machine = settling()
    assert machine.receive(head(1, seq=0), now=1.1) == [Discard(1)]
    assert machine.begin_segment(now=2.0) == [Grant(2, 1), OpenPost(3, 2)]


def test_a_writer_waits_for_a_server_that_does_not_keep_up() -> None:
    machine = opened()
    for seq in range(SETTLING):
        assert Grant(seq + 1, seq) in machine.begin_segment(now=1.0)
        machine.end_segment(now=1.0)
    assert machine.begin_segment(now=1.0) == []
    assert machine.writer is Writer.WAITING
    granted = [Grant(5, 4), OpenPost(6, 5)]
    assert machine.receive(head(2), now=3.0) == [Discard(2)]  # an older one is still on its way
    assert machine.receive(head(1), now=3.0) == [Discard(1), *granted]


def test_what_fills_the_window_is_numbers_not_segments() -> None:
    machine = opened()
    for _ in range(2):
        machine.begin_segment(now=1.0)
        machine.end_segment(now=1.0)
    machine.begin_segment(now=1.0)
    machine.drop_segment(now=1.0)
    machine.begin_segment(now=1.0)
    machine.end_segment(now=1.0)
    assert machine.begin_segment(now=1.0) == []  # the POST of 5 would push 0 out
    granted = [Grant(6, 4), OpenPost(7, 5)]
    assert machine.receive(head(1), now=3.0) == [Discard(1), *granted]


# -- reset: only where nothing of ours is under way below


def test_a_post_below_which_something_is_written_resets_nothing() -> None:
    machine = writing()
    machine.receive(head(2, 500), now=5.0)
    assert machine.handle_timeout(now=5.1) == [OpenPost(3, 1, reset=False)]


def test_nor_does_one_below_which_something_settles() -> None:
    machine = settling()
    machine.receive(head(2, 500), now=5.1)
    assert machine.handle_timeout(now=5.2) == [OpenPost(3, 1, reset=False)]


def test_one_that_is_opened_anew_with_nothing_below_it_does() -> None:
    machine = settling()
    machine.receive(head(1), now=1.1)
    machine.receive(head(2, 500), now=5.1)
    assert machine.handle_timeout(now=5.2) == [OpenPost(3, 1, reset=True)]


# -- answers to a POST that waits for its segment


def test_an_idle_post_that_is_refused_is_opened_again() -> None:
    machine = opened(first=3)
    assert machine.receive(head(1, 500), now=20.0) == [Abort(1)]
    assert machine.line is Line.PAUSED
    assert machine.handle_timeout(now=20.1) == [OpenPost(2, 3, reset=True)]


@pytest.mark.parametrize("refusal", [head, broken])
def test_that_may_go_on_for_hours(refusal: object) -> None:
    """The server's patience with silent bodies is fifteen seconds; the writer has none to say."""
    machine = opened(first=3)
    for request in range(1, 1000):
        now = machine.deadline() if machine.line is Line.PAUSED else 15.0 * request
        answer = head(request, 500) if refusal is head else broken(request)
        assert machine.receive(answer, now) == [Abort(request)]
        assert machine.handle_timeout(now + 0.1) == [OpenPost(request + 1, 3, reset=True)]


def test_a_server_that_is_out_of_reach_is_given_up() -> None:
    machine = opened(first=3)
    now, request = 0.0, 1
    while machine.receive(RequestFailed(request, Cause.REFUSED), now) == [Abort(request)]:
        now = machine.deadline()
        request += 1
        assert machine.handle_timeout(now) == [OpenPost(request, 3, reset=True)]
    assert 30 <= now <= 35
    assert machine.line is Line.OVER


def test_giving_up_tells_the_last_answer() -> None:
    machine = Publisher(PublisherSettings(first=0, retry=RetryPolicy(give_up_after=0)))
    machine.start(now=0.0)
    assert machine.receive(head(1, 503), now=0.1) == [Abort(1), Finish(Ending.GAVE_UP, 503)]


@pytest.mark.parametrize(
    ("answer", "finish"),
    [
        (head(1, 404), Finish(Ending.GONE, 404)),
        (closed(1), Finish(Ending.CLOSED, 200)),
        (head(1, 401), Finish(Ending.REFUSED, 401)),
        (head(1, 413), Finish(Ending.REFUSED, 413)),
    ],
)
def test_the_end_is_noticed_while_the_post_is_idle(answer: ResponseStarted, finish: Finish) -> None:
    machine = opened()
    assert machine.receive(answer, now=9.0) == [Abort(1), finish]
    assert machine.deadline() == math.inf
    assert machine.begin_segment(now=10.0) == []  # nothing is granted any more
    assert machine.drop_segment(now=10.0) == []


def test_a_segment_that_somebody_closed_is_passed_over() -> None:
    machine = writing(first=3)
    assert machine.receive(head(2, 200), now=1.0) == [Abort(2)]
    assert machine.handle_timeout(now=1.1) == [OpenPost(3, 5, reset=False)]


def test_a_server_that_closes_every_segment_is_given_up() -> None:
    machine = opened()
    request, now = 1, 0.0
    while machine.receive(head(request), now) == [Abort(request)]:
        now = machine.deadline()
        request += 1
        assert machine.handle_timeout(now) == [OpenPost(request, request - 1, reset=True)]
    assert machine.line is Line.OVER
    assert request < 20


@pytest.mark.parametrize(
    ("line", "number"), [(Line.CREATING, 1), (Line.LOCATING, 2), (Line.PROBING, 3)]
)
@pytest.mark.parametrize("ending", [Ending.GONE, Ending.CLOSED, Ending.REFUSED])
def test_the_end_can_be_the_answer_to_any_question(line: Line, number: int, ending: Ending) -> None:
    machine = machine_with(create=True)
    machine.start(now=0.0)
    answers = iter((head(1), head(2, 400)))
    while machine.line is not line:
        machine.receive(next(answers), now=0.1)
    answer = {
        Ending.GONE: head(number, 404),
        Ending.CLOSED: closed(number),
        Ending.REFUSED: head(number, 403),
    }[ending]
    finish = Finish(ending, answer.status)
    assert machine.receive(answer, now=0.2) == [Discard(number), finish]


# -- the segment being written


@pytest.mark.parametrize(
    "refusal",
    [head(1, 500), head(1, 429), head(1, 302), broken(1), RequestFailed(1, Cause.REFUSED)],
)
def test_an_untouched_segment_is_opened_again_under_its_number(refusal: Event) -> None:
    machine = writing(first=3)
    assert machine.receive(refusal, now=1.0) == [Abort(2), Abort(1)]
    assert machine.writer is Writer.WAITING
    granted = [OpenPost(3, 3, reset=True), Grant(3, 3), OpenPost(4, 4)]
    assert machine.handle_timeout(now=1.1) == granted
    assert machine.receive(head(1, 200), now=1.2) == []  # an answer to the one before
    assert machine.lost == 0


def test_also_while_the_line_is_paused() -> None:
    machine = writing(first=3)
    assert machine.receive(broken(2), now=1.0) == [Abort(2)]
    assert machine.receive(broken(1), now=1.0) == [Abort(1)]
    assert machine.deadline() == 1.2
    granted = [OpenPost(3, 3, reset=True), Grant(3, 3), OpenPost(4, 4)]
    assert machine.handle_timeout(now=1.2) == granted


def test_a_writer_may_lose_patience_with_that() -> None:
    machine = writing(first=3)
    machine.receive(broken(1), now=1.0)
    assert machine.drop_segment(now=1.0) == []
    assert machine.handle_timeout(now=1.1) == [OpenPost(3, 3, reset=True)]


def test_and_so_may_we() -> None:
    machine = Publisher(PublisherSettings(first=3, retry=RetryPolicy(give_up_after=0)))
    machine.start(now=0.0)
    machine.begin_segment(now=0.0)
    finish = [Abort(2), Abort(1), Lose(1), Finish(Ending.GAVE_UP, 500)]
    assert machine.receive(head(1, 500), now=0.1) == finish


@pytest.mark.parametrize("trouble", [broken(1, sent=1), head(1, 500, sent=1), head(1, 413, sent=1)])
def test_a_touched_segment_is_never_posted_again_but_closed(trouble: Event) -> None:
    machine = writing(first=3)
    assert machine.receive(trouble, now=1.0) == [Abort(1), Lose(1), Delete(3, 3)]
    assert machine.lost == 1
    assert machine.end_segment(now=1.5) == []  # the writer learns it in its own time
    assert machine.begin_segment(now=1.5) == [Grant(2, 4), OpenPost(4, 5)]
    assert machine.receive(head(3, 200), now=1.6) == [Discard(3)]


def test_neither_is_one_that_somebody_closed() -> None:
    machine = writing(first=3)
    assert machine.receive(head(1, 200), now=1.0) == [Abort(1), Lose(1), Delete(3, 3)]


def test_a_segment_that_is_too_large_before_its_first_byte_is_no_reason_to_try_again() -> None:
    machine = writing(first=3)
    assert machine.receive(head(1, 413), now=1.0) == [Abort(1), Lose(1), Delete(3, 3)]


def test_a_lost_segment_can_also_be_dropped() -> None:
    machine = writing(first=3)
    machine.receive(broken(1, sent=1), now=1.0)
    assert machine.drop_segment(now=1.5) == []
    assert machine.begin_segment(now=1.5) == [Grant(2, 4), OpenPost(4, 5)]
    assert machine.lost == 1


@pytest.mark.parametrize("sent", [0, 1000])
@pytest.mark.parametrize(
    ("answer", "finish"),
    [
        (head(1, 404), Finish(Ending.GONE, 404)),
        (closed(1), Finish(Ending.CLOSED, 200)),
        (head(1, 401), Finish(Ending.REFUSED, 401)),
    ],
)
def test_the_end_is_noticed_inside_a_segment(
    answer: ResponseStarted, finish: Finish, sent: int
) -> None:
    machine = writing()
    answer = ResponseStarted(1, answer.status, answer.headers, sent)
    assert machine.receive(answer, now=1.0) == [Abort(2), Abort(1), Lose(1), finish]
    assert machine.end_segment(now=2.0) == []


def test_the_end_on_the_preconnected_post_is_the_end_of_the_one_before() -> None:
    machine = writing()
    finish = [Abort(2), Abort(1), Lose(1), Finish(Ending.GONE, 404)]
    assert machine.receive(head(2, 404), now=1.0) == finish


def test_every_segment_breaks_until_it_gives_up() -> None:
    machine = opened()
    request, now, orders = 1, 0.0, []
    while Finish(Ending.GAVE_UP) not in orders:
        now += 2.0
        granted, _ = machine.begin_segment(now)
        assert isinstance(granted, Grant)
        orders = machine.receive(broken(granted.request, sent=500), now + 1.0)
        machine.end_segment(now + 1.0)
        request += 1
    assert 30 <= now <= 35


def test_two_losses_with_hours_between_them_are_no_reason_to_give_up() -> None:
    machine = writing()
    machine.receive(broken(1, sent=1), now=1.0)
    machine.end_segment(now=1.0)
    machine.begin_segment(now=7200.0)
    assert Lose(2) in machine.receive(broken(2, sent=1), now=7201.0)
    assert machine.line is Line.OPEN


def test_the_end_of_a_body_says_nothing_new() -> None:
    assert writing().receive(RequestFinished(1), now=1.0) == []


def test_a_segment_can_be_given_up() -> None:
    machine = writing(first=3)
    assert machine.drop_segment(now=1.0) == [Abort(1), Delete(3, 3)]
    assert machine.lost == 1
    assert machine.begin_segment(now=1.0) == [Grant(2, 4), OpenPost(4, 5)]


def test_one_of_which_nothing_has_left_leaves_no_gap() -> None:
    """A number that is passed over is a trap: readers can come for it later, and wait in it."""
    machine = writing(first=3)
    assert machine.drop_segment(now=1.0, untouched=True) == [Abort(2)]
    assert machine.deadline() == math.inf
    assert machine.begin_segment(now=2.0) == [Grant(1, 3), OpenPost(3, 4)]
    assert machine.lost == 0


def test_not_even_where_the_next_post_is_being_opened_again() -> None:
    machine = writing(first=3)
    machine.receive(broken(2), now=1.0)
    assert machine.drop_segment(now=1.0, untouched=True) == []
    assert machine.deadline() == math.inf
    assert machine.begin_segment(now=2.0) == [Grant(1, 3), OpenPost(3, 4)]


def test_so_can_one_that_was_not_granted_yet() -> None:
    machine = machine_with()
    machine.start(now=0.0)
    machine.begin_segment(now=0.0)
    assert machine.drop_segment(now=0.0) == []
    assert machine.receive(head(1, latest=3), now=0.1) == [Discard(1), OpenPost(2, 3, reset=True)]
    assert machine.lost == 0


@pytest.mark.parametrize(
    ("writer", "legal"),
    [
        (Writer.AWAY, {"begin_segment"}),
        (Writer.WAITING, {"drop_segment"}),
        (Writer.WRITING, {"end_segment", "drop_segment"}),
        (Writer.BEREFT, {"end_segment", "drop_segment"}),
    ],
)
@pytest.mark.parametrize("call", ["begin_segment", "end_segment", "drop_segment"])
def test_what_a_writer_may_do(writer: Writer, legal: set[str], call: str) -> None:
    machine = opened()
    if writer is not Writer.AWAY:
        machine.begin_segment(now=0.0)
    if writer is Writer.WAITING:
        machine.receive(broken(1), now=0.5)
    if writer is Writer.BEREFT:
        machine.receive(broken(1, sent=1), now=0.5)
    assert machine.writer is writer
    if call in legal:
        getattr(machine, call)(now=1.0)
        return
    with pytest.raises(LocalProtocolError, match=writer.name):
        getattr(machine, call)(now=1.0)
    assert machine.writer is writer


# -- segments that settle


@pytest.mark.parametrize(
    "trouble", [head(1, 500), head(1, 400), head(1, 413), broken(1, sent=9), RequestFinished(1)]
)
def test_a_segment_that_is_not_confirmed_is_lost_and_closed(trouble: Event) -> None:
    machine = settling(first=3)
    assert machine.receive(trouble, now=1.5) == [Abort(1), Delete(3, 3)]
    assert machine.lost == 1
    assert machine.line is Line.OPEN


def test_so_is_one_that_is_never_answered() -> None:
    machine = settling(first=3, settle=4.0)
    assert machine.deadline() == 5.0
    assert machine.handle_timeout(now=5.0) == [Abort(1), Delete(3, 3)]
    assert machine.lost == 1
    assert machine.receive(head(1), now=5.5) == []


def test_the_writer_goes_on_when_one_is_lost() -> None:
    machine = opened(settle=4.0)
    for request in range(1, 1 + SETTLING):
        machine.begin_segment(now=1.0 * request)
        machine.end_segment(now=1.0 * request)
    machine.begin_segment(now=5.0)
    expected = [Abort(1), Delete(6, 0), Grant(5, 4), OpenPost(7, 5)]
    assert machine.handle_timeout(now=5.0) == expected


@pytest.mark.parametrize(
    ("answer", "finish"),
    [(head(1, 404), Finish(Ending.GONE, 404)), (closed(1), Finish(Ending.CLOSED, 200))],
)
def test_the_end_can_be_the_answer_to_a_whole_segment(
    answer: ResponseStarted, finish: Finish
) -> None:
    machine = settling()
    assert machine.receive(answer, now=1.5) == [Abort(2), Abort(1), finish]
    assert machine.lost == 1


def test_one_that_fails_too_late_gives_all_up() -> None:
    machine = Publisher(PublisherSettings(first=0, retry=RetryPolicy(give_up_after=0)))
    machine.start(now=0.0)
    for _ in range(3):
        machine.begin_segment(now=1.0)
        machine.end_segment(now=1.0)
    orders = machine.handle_timeout(now=11.0)
    assert orders == [Abort(1), Abort(4), Abort(2), Abort(3), Finish(Ending.GAVE_UP)]
    assert machine.lost == 3


# -- what has to be deleted


def test_a_delete_that_is_lost_is_sent_again() -> None:
    machine = writing(first=3)
    machine.receive(broken(1, sent=1), now=1.0)
    assert machine.receive(RequestFailed(3, Cause.REFUSED), now=1.2) == []
    assert machine.deadline() == pytest.approx(1.3)
    assert machine.handle_timeout(now=1.3) == [Delete(4, 3)]
    assert machine.receive(head(4, 400), now=1.4) == [Discard(4)]
    assert machine.deadline() == math.inf


def test_it_is_given_up_with_everything_else() -> None:
    machine = writing(first=3)
    machine.receive(broken(1, sent=1), now=1.0)
    finish = [Abort(2), Abort(3), Finish(Ending.GONE, 404)]
    assert machine.receive(head(2, 404), now=1.0) == finish


# -- leaving


def test_leaving_waits_for_the_last_answer() -> None:
    machine = settling()
    assert machine.close(now=1.2) == [Abort(2)]
    assert machine.close(now=1.2) == []
    assert machine.receive(head(1), now=1.3) == [Discard(1), Finish(Ending.LEFT)]
    assert machine.close(now=1.4) == []
    assert machine.lost == 0


def test_a_segment_that_was_not_ended_is_dropped() -> None:
    machine = writing(first=3)
    assert machine.close(now=1.0) == [Abort(2), Abort(1), Delete(3, 3)]
    assert machine.receive(head(3, 200), now=1.1) == [Discard(3), Finish(Ending.LEFT)]


def test_the_channel_is_deleted_after_the_last_answer() -> None:
    machine = settling(delete=True)
    assert machine.close(now=1.2) == [Abort(2)]
    assert machine.receive(head(1), now=1.3) == [Discard(1), Delete(3, None)]
    assert machine.line is Line.DELETING
    assert machine.close(now=1.3) == []
    assert machine.receive(head(3), now=1.4) == [Discard(3), Finish(Ending.LEFT)]


def test_a_channel_that_is_deleted_needs_no_segment_closed() -> None:
    machine = writing(delete=True)
    assert machine.close(now=1.0) == [Abort(2), Abort(1), Delete(3, None)]


def test_nor_those_that_were_to_be_closed_before() -> None:
    machine = writing(delete=True)
    assert machine.drop_segment(now=1.0) == [Abort(1), Delete(3, 0)]
    assert machine.close(now=1.1) == [Abort(2), Abort(3), Delete(4, None)]


def test_a_server_that_does_not_answer_cannot_keep_us() -> None:
    machine = settling(first=3, farewell=2.0)
    assert machine.close(now=1.5) == [Abort(2)]
    assert machine.deadline() == 2.5
    assert machine.handle_timeout(now=2.5) == [Abort(1), Delete(3, 3)]
    assert machine.deadline() == 3.5
    assert machine.handle_timeout(now=3.5) == [Abort(3), Finish(Ending.LEFT)]
    assert machine.lost == 1


def test_half_of_the_farewell_is_kept_for_deleting_the_channel() -> None:
    machine = settling(first=3, farewell=2.0, delete=True)
    machine.close(now=1.5)
    assert machine.handle_timeout(now=2.5) == [Abort(1), Delete(3, None)]
    assert machine.receive(RequestFailed(3, Cause.REFUSED), now=2.6) == []
    assert machine.handle_timeout(now=2.7) == [Delete(4, None)]
    assert machine.handle_timeout(now=3.5) == [Abort(4), Finish(Ending.LEFT)]


@pytest.mark.parametrize("answer", [head(1, 404), closed(1), head(1, 500), broken(1)])
def test_whoever_has_left_is_told_of_no_other_end(answer: Event) -> None:
    machine = settling(first=3)
    machine.close(now=1.2)
    orders = machine.receive(answer, now=1.3)
    if orders == [Abort(1), Delete(3, 3)]:
        orders = machine.receive(head(3), now=1.4)
    assert orders[-1] == Finish(Ending.LEFT)
    assert machine.lost == 1


def test_leaving_before_anything_was_sent() -> None:
    machine = Publisher(PublisherSettings(delete=True))
    assert machine.close(now=0.0) == [Finish(Ending.LEFT)]
    with pytest.raises(LocalProtocolError, match="start while OVER"):
        machine.start(now=1.0)


@pytest.mark.parametrize("steps", range(4))
def test_leaving_while_the_beginning_is_still_sought(steps: int) -> None:
    machine = machine_with(create=True, delete=True)
    machine.start(now=0.0)
    for answer in (head(1), head(2, 400), head(3, 470, latest=5))[:steps]:
        machine.receive(answer, now=0.1)
    request = steps + 1
    assert machine.close(now=0.2) == [Abort(request), Delete(request + 1, None)]


def test_leaving_in_a_pause() -> None:
    machine = opened()
    machine.receive(broken(1), now=0.1)
    assert machine.close(now=0.1) == [Finish(Ending.LEFT)]
    assert machine.deadline() == math.inf


def test_leaving_while_a_writer_waits() -> None:
    machine = machine_with()
    machine.start(now=0.0)
    machine.begin_segment(now=0.0)
    assert machine.close(now=0.1) == [Abort(1), Finish(Ending.LEFT)]
    assert machine.writer is Writer.AWAY


def test_leaving_with_a_segment_that_was_lost() -> None:
    machine = writing()
    machine.receive(broken(1, sent=1), now=1.0)
    assert machine.close(now=1.0) == [Abort(2)]  # its readers are still to be sent on
    assert machine.receive(head(3), now=1.1) == [Discard(3), Finish(Ending.LEFT)]


def test_leaving_after_the_end() -> None:
    machine = opened()
    machine.receive(head(1, 404), now=1.0)
    assert machine.close(now=2.0) == []


def test_it_starts_once() -> None:
    with pytest.raises(LocalProtocolError, match="start while OPEN"):
        opened().start(now=1.0)


def test_early_calls_of_the_timer_do_nothing() -> None:
    machine = settling(settle=4.0)
    machine.receive(broken(2), now=1.0)
    assert machine.handle_timeout(now=1.05) == []


@pytest.mark.parametrize("wrong", [{"first": -1}, {"settle": 0}, {"farewell": 0}], ids=str)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PublisherSettings(**wrong)  # type: ignore[arg-type]  # that is the point
