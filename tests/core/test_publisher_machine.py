"""The publisher as a machine: every state times every input, and any history at all."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import cycle
from typing import TypeVar

from attrs import define
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from trickle_core import wire
from trickle_core.commands import (
    Abort,
    AskNext,
    Command,
    Create,
    Delete,
    Discard,
    EndBody,
    Finish,
    Grant,
    Lose,
    OpenGet,
    OpenPost,
)
from trickle_core.errors import LocalProtocolError
from trickle_core.events import Cause, Event, RequestFailed, RequestFinished, ResponseStarted
from trickle_core.publisher import (
    TRANSITIONS,
    Line,
    Publisher,
    PublisherSettings,
    Trigger,
    Writer,
)
from trickle_core.retry import RetryPolicy

Answer = tuple[int, dict[str, str]]

CLOSED = {wire.CLOSED: wire.TERMINATED}

# -- every state times every input

HEADS: list[Answer] = [
    (200, {}),
    (200, {wire.LATEST: "5"}),
    (200, {wire.LATEST: "-5"}),
    (200, CLOSED),
    (302, {}),
    (400, {}),
    (401, {}),
    (404, {}),
    (413, {}),
    (429, {}),
    (470, {wire.LATEST: "5"}),
    (500, {}),
]

Row = tuple[Line, Trigger]
Call = Callable[[float], list[Command]]


class Watched(Publisher):
    """A publisher that notes which rows of its table were used."""

    def __init__(self, given: PublisherSettings, rows: set[Row]) -> None:
        super().__init__(given)
        self.rows = rows

    def copy(self) -> Watched:
        """The same again, but for what never changes and for the rows, which belong to all."""
        shared = (self.settings, self.settings.retry, self.rows)
        return deepcopy(self, {id(thing): thing for thing in shared})

    def _fire(self, trigger: Trigger) -> None:
        self.rows.add((self.line, trigger))
        super()._fire(trigger)


def events(request: int) -> Iterator[Event]:
    for sent in (0, 5):
        yield from (ResponseStarted(request, status, headers, sent) for status, headers in HEADS)
        yield from (RequestFailed(request, cause, sent) for cause in Cause)
    yield RequestFinished(request)


def network(machine: Publisher) -> Iterator[Event]:
    """Whatever a server can do now, about open requests, old ones and none of ours."""
    open_ones = {machine._line_request, machine._write_request, machine._deletions._request}
    for request in {*open_ones, *list(machine._settling)[:1], 999} - {-1}:
        yield from events(request)


def local(machine: Publisher) -> dict[str, bool]:
    """What the caller can do, and whether it may now."""
    return {
        "start": machine.line is Line.NEW,
        "begin_segment": machine.writer is Writer.AWAY,
        "end_segment": machine.writer in (Writer.WRITING, Writer.BEREFT),
        "drop_segment": machine.writer is not Writer.AWAY,
        "close": True,
        "handle_timeout": True,
    }


def situation(machine: Publisher) -> tuple[object, ...]:
    """All that its next step can depend on, but for the numbers' size."""
    return (
        machine.line,
        machine.writer,
        machine._seq is None,
        machine._to_create,
        len(machine._settling),
        machine._deletions.pending,
        machine._deletions._request < 0,
    )


@define
class Explored:
    """What was found by trying everything everywhere."""

    pairs: set[tuple[Line, Writer]]
    rows: set[Row]


def try_locally(machine: Watched, call: str, now: float) -> Watched:
    """Make a call, legal or not; what follows is the machine after it."""
    legal = local(machine)[call]
    after = machine.copy()
    try:
        getattr(after, call)(now)
        assert legal, f"{call} in {machine.line}, {machine.writer}"
    except LocalProtocolError:
        assert not legal, f"{call} in {machine.line}, {machine.writer}"
        assert situation(after) == situation(machine)
    return after


def followers(machine: Watched, now: float) -> Iterator[Watched]:
    for call in local(machine):
        yield try_locally(machine, call, now)
    for event in network(machine):
        after = machine.copy()
        after.receive(event, now)  # whatever a server does, nothing is raised
        yield after
    if machine.writer is Writer.WRITING:
        after = machine.copy()
        after.drop_segment(now, untouched=True)
        yield after
    due = machine.deadline()
    if due < math.inf:
        after = machine.copy()
        after.handle_timeout(due)
        assert after.deadline() > due
        yield after


def explore(given: PublisherSettings) -> Explored:
    found = Explored(set(), set())
    seen: set[tuple[object, ...]] = set()
    to_do: deque[tuple[Watched, float]] = deque([(Watched(given, found.rows), 0.0)])
    while to_do:
        machine, now = to_do.popleft()
        found.pairs.add((machine.line, machine.writer))
        now += 0.01
        for after in followers(machine, now):
            if situation(after) not in seen:
                seen.add(situation(after))
                to_do.append((after, now))
    return found


def test_every_input_in_every_state() -> None:
    hasty = RetryPolicy(give_up_after=0)
    ways = [
        explore(PublisherSettings(create=True, delete=True)),
        explore(PublisherSettings(create=True, first=3, retry=hasty)),
        explore(PublisherSettings(first=3, retry=hasty)),
        explore(PublisherSettings(retry=hasty)),
    ]
    before_the_first = {Line.NEW, Line.CREATING, Line.LOCATING, Line.PROBING}
    after_the_last = {Line.CLOSING, Line.DELETING}
    impossible = {
        (line, writer)
        for line in before_the_first | after_the_last
        for writer in (Writer.WRITING, Writer.BEREFT)
    } | {(Line.OVER, Writer.WRITING)}
    everything = {(line, writer) for line in Line for writer in Writer}
    assert set().union(*(way.pairs for way in ways)) == everything - impossible
    table = {(line, trigger) for line, triggers in TRANSITIONS.items() for trigger in triggers}
    reached = set().union(*(way.rows for way in ways))
    assert reached == table, "a row that nothing reaches says nothing"


# -- a server that never does what it should

BAD: list[Answer] = [(200, {}), (302, {}), (413, {}), (429, {}), (470, {}), (503, {})]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.sampled_from([*BAD, *Cause]), min_size=1, max_size=5),
    st.floats(0, 1, exclude_max=True),
    st.sampled_from([None, 5]),
    st.booleans(),
)
def test_a_server_that_always_fails_is_not_stormed(
    answers: list[Answer | Cause], dice: float, first: int | None, touched: bool
) -> None:
    """A writer that begins a segment every half second, and a server that spoils everything."""
    machine = Publisher(PublisherSettings(first=first), jitter=lambda: dice)
    bad = cycle(answers)
    asked = 0
    now, next_segment = 0.0, 0.5
    orders = machine.start(now)

    def spoil(request: int) -> list[Command]:
        answer = next(bad)
        sent = int(touched and request == machine._write_request)
        if isinstance(answer, Cause):
            return machine.receive(RequestFailed(request, answer, sent), now)
        return machine.receive(ResponseStarted(request, *answer, sent), now)

    while now < 20.0 and machine.line is not Line.OVER:
        opened = [o for o in orders if isinstance(o, OpenPost | AskNext | OpenGet | Delete)]
        asked += len(opened)
        orders = [order for opening in opened for order in spoil(opening.request)]
        if orders:
            continue
        now = min(machine.deadline(), next_segment)
        orders = machine.handle_timeout(now)
        assert machine.deadline() > now
        if now == next_segment:
            next_segment += 0.5
            if machine.writer in (Writer.WRITING, Writer.BEREFT):
                orders += machine.end_segment(now)
            if machine.writer is Writer.AWAY:
                orders += machine.begin_segment(now)
    # The shortest pause is 0.05 s, for the line and for the DELETEs; each way out of it opens at
    # most two requests. A segment is good for three more.
    assert asked <= 4 * (1 + 20.0 / 0.05) + 3 * 40


# -- any history at all

WHICH = st.integers(0, 999)
T = TypeVar("T")


def one_of(things: list[T], which: int) -> T:
    return things[which % len(things)]


@define
class Exchange:
    """One request as the network sees it."""

    order: Command
    granted: bool = False
    sent: int = 0
    whole: bool = False
    """Its body has ended."""
    answered: bool = False
    over: bool = False

    @property
    def seq(self) -> int:
        assert isinstance(self.order, OpenPost)
        return self.order.seq

    @property
    def under_way(self) -> bool:
        """Whether it is a segment that a reset from above would cut."""
        return isinstance(self.order, OpenPost) and self.granted and not self.over


class History(RuleBasedStateMachine):
    """A writer, a clock, and a server that does as it likes."""

    @initialize(
        first=st.sampled_from([None, 0, 7]),
        create=st.booleans(),
        delete=st.booleans(),
        give_up_after=st.sampled_from([1.0, 30.0, math.inf]),
        dice=st.floats(0, 1, exclude_max=True),
    )
    def publish(
        self, first: int | None, create: bool, delete: bool, give_up_after: float, dice: float
    ) -> None:
        retry = RetryPolicy(give_up_after=give_up_after)
        self.machine = Publisher(
            PublisherSettings(first=first, create=create, delete=delete, retry=retry),
            jitter=lambda: dice,
        )
        self.now = 100.0
        self.exchanges: dict[int, Exchange] = {}
        self.newest = 0
        self.writing: int | None = None
        self.top = -1
        """The highest number of which something may have left."""
        self.begun = self.confirmed = self.lost = 0
        self.owed: set[int] = set()
        """Segments whose readers hang."""
        self.highest = -1
        """The highest number that was granted."""
        self.finished = False
        self.obey(self.machine.start(self.now))

    # What an adapter must be able to rely on.

    def obey(self, orders: list[Command], given_up: int | None = None) -> None:
        for order in orders:
            getattr(self, f"on_{type(order).__name__.lower()}")(order)
        recalled = self.writing is not None and self.writing not in self.exchanges
        if recalled:
            if self.writing == given_up:
                self.lost += 1
            else:
                self.begun -= 1
            self.writing = None
        for request in [number for number, it in self.exchanges.items() if it.over]:
            del self.exchanges[request]
        assert not any(it.answered for it in self.exchanges.values()), "each answer is acted upon"

    def on_opening(self, order: OpenPost | AskNext | OpenGet | Create | Delete) -> None:
        assert not self.finished
        assert order.request > self.newest, "a request number is used once"
        self.newest = order.request
        self.exchanges[order.request] = Exchange(order)

    on_asknext = on_openget = on_create = on_opening

    def on_delete(self, order: Delete) -> None:
        self.on_opening(order)
        if order.seq is None:
            assert not any(it.under_way for it in self.exchanges.values()), "it would be cut"
        else:
            self.owed.discard(order.seq)

    def on_openpost(self, order: OpenPost) -> None:
        assert order.seq > self.top, "nothing is appended to what has left"
        below = any(it.under_way for it in self.exchanges.values())
        assert order.reset != below, "a reset cuts what is under way"
        self.on_opening(order)

    def on_grant(self, order: Grant) -> None:
        assert not self.finished
        assert self.writing is None
        exchange = self.exchanges[order.request]
        assert exchange.order == OpenPost(order.request, order.seq, exchange.order.reset)  # type: ignore[union-attr]  # so it is one
        exchange.granted = True
        self.writing = order.request
        self.highest = max(self.highest, order.seq)
        self.begun += 1

    def on_endbody(self, order: EndBody) -> None:
        assert order.request == self.writing
        self.writing = None
        self.exchanges[order.request].whole = True
        self.top = self.exchanges[order.request].seq

    def on_abort(self, order: Abort) -> None:
        exchange = self.exchanges.pop(order.request)
        if not exchange.granted:
            return
        if exchange.whole:
            self.lost += 1
        if exchange.sent or exchange.whole:
            self.top = max(self.top, exchange.seq)
            self.owed.add(exchange.seq)

    def on_discard(self, order: Discard) -> None:
        exchange = self.exchanges.pop(order.request)
        assert exchange.answered
        assert exchange.whole or not isinstance(exchange.order, OpenPost), "its body is still open"
        self.confirmed += exchange.granted

    def on_lose(self, order: Lose) -> None:
        assert order.request == self.writing
        self.writing = None
        self.lost += 1

    def on_finish(self, order: Finish) -> None:
        assert not self.finished, "it ends once"
        self.finished = True
        assert not [it for it in self.exchanges.values() if not it.over], "all is given up before"

    # The writer and the clock.

    @precondition(lambda self: self.machine.writer is Writer.AWAY)
    @rule()
    def begin(self) -> None:
        self.obey(self.machine.begin_segment(self.now))

    @precondition(lambda self: self.writing is not None)
    @rule(size=st.integers(1, 100_000))
    def send(self, size: int) -> None:
        assert self.writing is not None
        exchange = self.exchanges[self.writing]
        exchange.sent += size
        assert exchange.seq >= self.top
        self.top = exchange.seq

    @precondition(lambda self: self.machine.writer in (Writer.WRITING, Writer.BEREFT))
    @rule()
    def end(self) -> None:
        self.obey(self.machine.end_segment(self.now))

    @precondition(lambda self: self.machine.writer is not Writer.AWAY)
    @rule()
    def drop(self) -> None:
        if self.writing is None or self.exchanges[self.writing].sent:
            self.obey(self.machine.drop_segment(self.now), given_up=self.writing)
            return
        exchange = self.exchanges[self.writing]
        exchange.granted, self.writing = False, None
        self.begun -= 1
        self.obey(self.machine.drop_segment(self.now, untouched=True))
        assert exchange in self.exchanges.values(), "it waits for another segment"

    @precondition(lambda self: self.writing is not None)
    @rule()
    def drop_without_a_word(self) -> None:
        self.obey(self.machine.drop_segment(self.now), given_up=self.writing)

    @rule(seconds=st.sampled_from([0.01, 0.2, 1.0, 12.0, 100.0]))
    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while self.machine.deadline() <= until:
            self.now = self.machine.deadline()
            self.obey(self.machine.handle_timeout(self.now))
            assert self.machine.deadline() > self.now
        self.now = until
        assert self.machine.handle_timeout(self.now) == []

    # The server.

    @precondition(lambda self: self.exchanges)
    @rule(which=WHICH, answer=st.sampled_from(HEADS))
    def answer(self, which: int, answer: Answer) -> None:
        self.respond(one_of(list(self.exchanges), which), answer)

    @precondition(lambda self: self.exchanges)
    @rule(which=WHICH)
    def answer_well(self, which: int) -> None:
        self.respond(one_of(list(self.exchanges), which), (200, {wire.LATEST: "12"}))

    def respond(self, request: int, answer: Answer) -> None:
        exchange = self.exchanges[request]
        exchange.answered = True
        self.obey(self.machine.receive(ResponseStarted(request, *answer, exchange.sent), self.now))

    @precondition(lambda self: self.exchanges)
    @rule(which=WHICH, cause=st.sampled_from(Cause))
    def fail(self, which: int, cause: Cause) -> None:
        request = one_of(list(self.exchanges), which)
        exchange = self.exchanges[request]
        exchange.over = True
        self.obey(self.machine.receive(RequestFailed(request, cause, exchange.sent), self.now))

    @precondition(lambda self: self.newest > len(self.exchanges))
    @rule(number=WHICH, event=WHICH)
    def report_late(self, number: int, event: int) -> None:
        old = [number for number in range(1, self.newest + 2) if number not in self.exchanges]
        late = one_of(list(events(one_of(old, number))), event)
        assert self.machine.receive(late, self.now) == []

    @rule()
    def close(self) -> None:
        self.obey(self.machine.close(self.now), given_up=self.writing)

    # What holds at all times.

    @invariant()
    def nothing_piles_up(self) -> None:
        posts = [it for it in self.exchanges.values() if isinstance(it.order, OpenPost)]
        assert sum(not it.granted for it in posts) <= 1
        assert sum(it.granted and not it.whole for it in posts) <= 1
        assert sum(it.whole for it in posts) < wire.WINDOW
        assert len(self.exchanges) - len(posts) <= 2  # a question or nothing, and a DELETE
        patience = self.machine.settings.settle
        waits = any(
            it.whole or not isinstance(it.order, OpenPost) for it in self.exchanges.values()
        )
        assert not waits or self.machine.deadline() <= self.now + patience, (
            "no answer is waited for"
        )

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        if self.machine.writer is Writer.WAITING and not self.finished:
            assert self.machine.deadline() < math.inf

    @invariant()
    def counts_agree(self) -> None:
        assert self.machine.lost == self.lost
        under_way = sum(it.under_way for it in self.exchanges.values())
        assert self.begun == self.confirmed + self.lost + under_way
        assert self.finished == (self.machine.line is Line.OVER)
        assert (self.writing is not None) == (self.machine.writer is Writer.WRITING)

    def teardown(self) -> None:
        if not hasattr(self, "machine"):
            return
        self.reach_everybody()
        self.close()
        left_at = self.now
        while not self.finished:
            self.now = self.machine.deadline()
            self.obey(self.machine.handle_timeout(self.now))
        assert self.now <= left_at + self.machine.settings.farewell
        assert not self.exchanges, "nothing is left open"
        assert self.machine.deadline() == math.inf

    def reach_everybody(self) -> None:
        """Once the server answers again, nobody is left hanging in a segment that was lost, as far
        as the server's window reaches.
        """
        deletes = [r for r, it in self.exchanges.items() if isinstance(it.order, Delete)]
        while deletes or (self.machine._deletions.pending and not self.finished):
            for request in deletes:
                self.respond(request, (200, {}))
            if not deletes:
                assert self.machine.deadline() < math.inf, "the next one is never sent"
                self.now = self.machine.deadline()
                self.obey(self.machine.handle_timeout(self.now))
            deletes = [r for r, it in self.exchanges.items() if isinstance(it.order, Delete)]
        gone = self.machine.line in (Line.DELETING, Line.OVER)
        assert gone or not [seq for seq in self.owed if seq > self.highest - wire.WINDOW]


History.TestCase.settings = settings(
    max_examples=100, stateful_step_count=50, deadline=None, report_multiple_bugs=False
)
TestHistory = History.TestCase
