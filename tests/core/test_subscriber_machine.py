"""The subscriber as a machine: every state times every input, and any history at all."""

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
from trickle_core.commands import Abort, Command, Deliver, Discard, Finish, OpenGet, Truncate
from trickle_core.errors import LocalProtocolError
from trickle_core.events import Cause, Event, RequestFailed, RequestFinished, ResponseStarted
from trickle_core.retry import RetryPolicy
from trickle_core.subscriber import (
    TRANSITIONS,
    Line,
    Reader,
    Subscriber,
    SubscriberSettings,
    Trigger,
)

# -- every state times every input

HEADS: list[tuple[int, dict[str, str]]] = [
    (200, {}),
    (200, {wire.SEQ: "5"}),
    (200, {wire.SEQ: "5", wire.LATEST: "50"}),
    (200, {wire.SEQ: "1"}),
    (200, {wire.SEQ: "-7"}),
    (200, {wire.CLOSED: wire.TERMINATED}),
    (204, {}),
    (302, {}),
    (401, {}),
    (404, {}),
    (429, {}),
    (470, {}),
    (470, {wire.LATEST: "0"}),
    (470, {wire.LATEST: "5"}),
    (470, {wire.LATEST: "50"}),
    (500, {}),
]

Input = Callable[[Subscriber, float], list[Command]]
Row = tuple[Line, Trigger]


class Watched(Subscriber):
    """A subscriber that notes which rows of its table were used."""

    def __init__(self, given: SubscriberSettings, rows: set[Row]) -> None:
        super().__init__(given)
        self.rows = rows

    def copy(self) -> Watched:
        """The same again, but for what never changes and for the rows, which belong to all."""
        shared = (self.settings, self.settings.retry, self.rows)
        return deepcopy(self, {id(thing): thing for thing in shared})

    def _fire(self, trigger: Trigger) -> None:
        row = (self.line, trigger)
        super()._fire(trigger)
        assert self.line is TRANSITIONS[row[0]][trigger]
        self.rows.add(row)


def events(request: int) -> Iterator[Event]:
    yield from (ResponseStarted(request, status, headers) for status, headers in HEADS)
    yield RequestFinished(request)
    yield from (RequestFailed(request, cause) for cause in Cause)


def network(machine: Subscriber) -> Iterator[Event]:
    """Whatever a server can do now, about open requests, old ones and none of ours."""
    for request in {machine._line_request, machine._read_request, 1, 999} - {-1}:
        yield from events(request)


def local(machine: Subscriber) -> dict[str, bool]:
    """What the caller can do, and whether it may now."""
    return {
        "start": machine.line is Line.NEW,
        "want_segment": machine.reader is Reader.AWAY,
        "drop_segment": True,
        "close": True,
        "handle_timeout": True,
    }


def situation(machine: Subscriber, now: float) -> tuple[object, ...]:
    """All that its next step can depend on, but for the numbers' size."""
    return (
        machine.line,
        machine.reader,
        min(machine._asked, 0),
        min(machine._expected, 0),
        now < machine._patience,
        machine._backoff.failures > 0,
    )


@define
class Explored:
    """What was found by trying everything everywhere."""

    pairs: set[tuple[Line, Reader]]
    rows: set[Row]


def try_locally(machine: Watched, call: str, now: float) -> Watched:
    """Make a call, legal or not; what follows is the machine after it."""
    legal = local(machine)[call]
    after = machine.copy()
    try:
        getattr(after, call)(now)
        assert legal, f"{call} in {machine.line}, {machine.reader}"
    except LocalProtocolError:
        assert not legal, f"{call} in {machine.line}, {machine.reader}"
        assert situation(after, now) == situation(machine, now)
    return after


def followers(machine: Watched, now: float) -> Iterator[Watched]:
    for call in local(machine):
        yield try_locally(machine, call, now)
    for event in network(machine):
        after = machine.copy()
        after.receive(event, now)  # whatever a server does, nothing is raised
        yield after
    due = machine.deadline()
    if due < math.inf:
        after = machine.copy()
        after.handle_timeout(due)
        assert after.deadline() > due
        yield after


def explore(given: SubscriberSettings) -> Explored:
    found = Explored(set(), set())
    seen: set[tuple[object, ...]] = set()
    to_do: deque[tuple[Watched, float]] = deque([(Watched(given, found.rows), 0.0)])
    while to_do:
        machine, now = to_do.popleft()
        found.pairs.add((machine.line, machine.reader))
        now += 1.0
        for after in followers(machine, now):
            if situation(after, now) not in seen:
                seen.add(situation(after, now))
                to_do.append((after, now))
    return found


def test_every_input_in_every_state() -> None:
    patient = explore(SubscriberSettings(wait_for_channel=3.0, max_lag=1))
    hasty = explore(SubscriberSettings(start=3, retry=RetryPolicy(give_up_after=0)))
    impossible = {
        (Line.HELD, Reader.WAITING),  # who waits gets what is there
        (Line.WHOLE, Reader.WAITING),
        (Line.NEW, Reader.READING),
    }
    everything = {(line, reader) for line in Line for reader in Reader}
    assert patient.pairs | hasty.pairs == everything - impossible
    table = {(line, trigger) for line, triggers in TRANSITIONS.items() for trigger in triggers}
    assert patient.rows | hasty.rows == table, "a row that nothing reaches says nothing"


# -- a server that never does what it should


BAD: list[tuple[int, dict[str, str]]] = [
    (200, {wire.SEQ: "x"}),
    (200, {wire.SEQ: "2"}),
    (302, {}),
    (404, {}),
    (429, {}),
    (470, {}),
    (470, {wire.LATEST: "3"}),
    (470, {wire.LATEST: "900"}),
    (503, {}),
]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.sampled_from([*BAD, *Cause]), min_size=1, max_size=5),
    st.floats(0, 1, exclude_max=True),
)
def test_a_server_that_always_fails_is_not_stormed(
    answers: list[tuple[int, dict[str, str]] | Cause], dice: float
) -> None:
    machine = Subscriber(SubscriberSettings(start=5, wait_for_channel=3600.0), jitter=lambda: dice)
    now, asked = 0.0, 0
    orders = machine.start(now)
    bad = cycle(answers)
    while now < 30.0 and machine.line is not Line.OVER:
        for request in [order.request for order in orders if isinstance(order, OpenGet)]:
            asked += 1
            answer = next(bad)
            event: Event = (
                RequestFailed(request, answer)
                if isinstance(answer, Cause)
                else ResponseStarted(request, *answer)
            )
            orders = machine.receive(event, now)
            break
        else:
            now = machine.deadline()
            orders = machine.handle_timeout(now)
            assert machine.deadline() > now
    # The shortest pause is 0.05 s, and a jump asks once more without one.
    assert asked <= 2 * (1 + 30.0 / 0.05)


# -- any history at all

STATUSES = st.sampled_from([200, 200, 200, 200, 302, 404, 429, 470, 470, 500])
NUMBERS = st.integers(0, 40).map(str) | st.sampled_from(["-3", "", "seven"])


WHICH = st.integers(0, 999)
T = TypeVar("T")


def one_of(things: list[T], which: int) -> T:
    return things[which % len(things)]


@define
class Get:
    """One request as the network sees it."""

    asked: int
    says: int | None = None
    """The number that its answer gave."""
    answered: bool = False
    whole: bool = False
    over: bool = False


class History(RuleBasedStateMachine):
    """A reader, a clock, and a server that does as it likes."""

    @initialize(
        start=st.sampled_from([-2, -1, 0, 7]),
        max_lag=st.sampled_from([None, None, 0, 3]),
        wait=st.sampled_from([0.0, 5.0]),
        dice=st.floats(0, 1, exclude_max=True),
    )
    def subscribe(self, start: int, max_lag: int | None, wait: float, dice: float) -> None:
        self.machine = Subscriber(
            SubscriberSettings(start=start, max_lag=max_lag, wait_for_channel=wait),
            jitter=lambda: dice,
        )
        self.now = 100.0
        self.gets: dict[int, Get] = {}
        self.newest = 0
        self.delivered: int | None = None
        self.last = start - 1 if start >= 0 else None
        self.skipped = 0
        self.finished = False
        self.obey(self.machine.start(self.now))

    # What an adapter must be able to rely on.

    def obey(self, orders: list[Command]) -> None:
        for order in orders:
            getattr(self, f"on_{type(order).__name__.lower()}")(order)
        for request in [number for number, get in self.gets.items() if get.over]:
            del self.gets[request]
            self.delivered = None if self.delivered == request else self.delivered

    def on_openget(self, order: OpenGet) -> None:
        assert not self.finished
        assert order.request > self.newest, "a request number is used once"
        assert order.seq < 0 or self.last is None or order.seq > self.last, "numbers never go back"
        self.newest = order.request
        self.gets[order.request] = Get(order.seq)
        assert len([get for get in self.gets.values() if not get.over]) <= 2

    def on_abort(self, order: Abort) -> None:
        del self.gets[order.request]
        self.delivered = None if self.delivered == order.request else self.delivered

    def on_discard(self, order: Discard) -> None:
        get = self.gets.pop(order.request)
        assert get.answered
        assert order.request != self.delivered

    def on_deliver(self, order: Deliver) -> None:
        assert not self.finished
        get = self.gets[order.request]
        assert get.answered
        assert order.seq == (get.asked if get.says is None else get.says)
        assert self.delivered is None
        if self.last is None:
            assert order.skipped == 0
        else:
            assert order.seq == self.last + 1 + order.skipped, "every skip is accounted for"
            assert order.skipped >= 0, "none twice"
        self.delivered, self.last = order.request, order.seq
        get.over = get.whole  # then nothing more is heard of it
        self.skipped += order.skipped

    def on_truncate(self, order: Truncate) -> None:
        assert order.request == self.delivered
        assert self.gets[order.request].over

    def on_finish(self, order: Finish) -> None:
        assert not self.finished, "it ends once"
        self.finished = True
        assert set(self.gets) <= {self.delivered}, "all is given up before"

    # The reader and the clock.

    @precondition(lambda self: self.machine.reader is Reader.AWAY)
    @rule()
    def want(self) -> None:
        self.obey(self.machine.want_segment(self.now))

    @rule()
    def drop(self) -> None:
        self.obey(self.machine.drop_segment(self.now))

    @rule(seconds=st.sampled_from([0.01, 0.2, 1.0, 25.0, 100.0]))
    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while self.machine.deadline() <= until:
            self.now = self.machine.deadline()
            self.obey(self.machine.handle_timeout(self.now))
            assert self.machine.deadline() > self.now
        self.now = until
        assert self.machine.handle_timeout(self.now) == []

    # The server.

    def unanswered(self) -> list[int]:
        return [number for number, get in self.gets.items() if not get.answered]

    def breakable(self) -> list[int]:
        return [number for number, get in self.gets.items() if not get.whole]

    def arriving(self) -> list[int]:
        return [number for number in self.breakable() if self.gets[number].answered]

    @precondition(lambda self: self.unanswered())
    @rule(which=WHICH, status=STATUSES, right=st.booleans(), data=st.data())
    def answer(self, which: int, status: int, right: bool, data: st.DataObject) -> None:
        request = one_of(self.unanswered(), which)
        get = self.gets[request]
        headers: dict[str, str] = {}
        if right and get.asked >= 0:
            headers[wire.SEQ] = str(get.asked)
        else:
            headers |= data.draw(st.dictionaries(st.sampled_from([wire.SEQ, wire.LATEST]), NUMBERS))
        if data.draw(st.integers(0, 19)) == 0:
            headers[wire.CLOSED] = wire.TERMINATED
        get.answered, get.says = True, wire.parse_seq(headers.get(wire.SEQ))
        self.obey(self.machine.receive(ResponseStarted(request, status, headers), self.now))

    @precondition(lambda self: self.breakable())
    @rule(which=WHICH, cause=st.sampled_from(Cause))
    def fail(self, which: int, cause: Cause) -> None:
        request = one_of(self.breakable(), which)
        self.gets[request].over = True
        self.obey(self.machine.receive(RequestFailed(request, cause), self.now))

    @precondition(lambda self: self.arriving())
    @rule(which=WHICH)
    def finish(self, which: int) -> None:
        request = one_of(self.arriving(), which)
        self.gets[request].whole = True
        self.gets[request].over = request == self.delivered
        self.obey(self.machine.receive(RequestFinished(request), self.now))

    @precondition(lambda self: self.newest > len(self.gets))
    @rule(number=WHICH, event=WHICH)
    def report_late(self, number: int, event: int) -> None:
        old = [number for number in range(1, self.newest + 2) if number not in self.gets]
        late = one_of(list(events(one_of(old, number))), event)
        assert self.machine.receive(late, self.now) == []

    @precondition(lambda self: self.machine.line is not Line.OVER)
    @rule()
    def close(self) -> None:
        self.leave()

    # What holds at all times.

    def leave(self) -> None:
        self.obey(self.machine.close(self.now))
        assert self.finished
        assert not self.gets, "nothing is left open"
        assert self.machine.deadline() == math.inf

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        if self.machine.reader is Reader.WAITING and not self.finished:
            assert self.machine.deadline() < math.inf

    @invariant()
    def counts_agree(self) -> None:
        assert self.machine.skipped == self.skipped
        assert self.finished == (self.machine.line is Line.OVER)

    def teardown(self) -> None:
        if hasattr(self, "machine"):
            self.leave()


History.TestCase.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None, report_multiple_bugs=False
)
TestHistory = History.TestCase
