"""The ring under any order of events: a Hypothesis machine against what must always hold."""

from __future__ import annotations

from functools import partial
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from trickle_core.answer import Answer, Head
from trickle_core.channel import Channel
from trickle_core.relay import Relay
from trickle_core.relay_settings import RelayRequest, RelaySettings
from trickle_core.window.reader import Reader
from trickle_core.window.segment import Segment
from trickle_core.window.states import ACCEPTED, CUT, END, NEED_DATA, NEED_ROOM, ReaderState
from trickle_core.window.writer import Writer

SETTINGS = RelaySettings(
    window=3,
    max_segment_bytes=60,
    max_channel_bytes=150,
    max_total_bytes=200,
    max_readers=6,
    max_writers=5,
    idle_timeout=100,
    linger=3,
    changefeed=True,
)
NAMES = st.sampled_from(["a", "b"])
SEQS = st.integers(min_value=-4, max_value=12)
OFFSETS = st.integers(min_value=-2, max_value=2)


class Ring(RuleBasedStateMachine):
    """Two channels; ``written`` is the truth about each segment's bytes."""

    readers: Bundle[Reader] = Bundle("readers")
    writers: Bundle[Writer] = Bundle("writers")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.relay = Relay(SETTINGS)
        self.written: dict[Segment, bytes] = {}
        self.got: dict[Reader, bytes] = {}
        self.asleep: dict[Reader | Writer, None] = {}
        self.held: dict[Writer, float] = {}
        self.token = 0

    def ask(self, method: str, path: str, **headers: str) -> Any:
        handled = self.relay.handle(RelayRequest(method, path, headers), self.now)
        if isinstance(handled, (Reader, Writer)):
            handled.waker = partial(self.wake, handled)
        return handled

    def wake(self, one: Reader | Writer) -> None:
        self.asleep.pop(one, None)

    def channels(self) -> list[Channel]:
        return list(self.relay.channels.values())

    def segments(self) -> list[Segment]:
        return [
            segment
            for channel in self.channels()
            for segment in (*channel._segments.values(), *channel._held)
        ]

    @rule(target=writers, name=NAMES, offset=OFFSETS, reset=st.booleans())
    def post(self, name: str, offset: int, reset: bool) -> Any:
        """Near next write, where publishers are."""
        channel = self.relay.channels.get(name)
        seq = max(-1, (channel.next_write if channel else 0) + offset)
        headers = {"lp-trickle-reset": "1"} if reset else {}
        return self.open_writer(name, seq, headers)

    @rule(target=writers, name=NAMES, seq=st.integers(min_value=-1, max_value=12))
    def post_anywhere(self, name: str, seq: int) -> Any:
        return self.open_writer(name, seq, {})

    def open_writer(self, name: str, seq: int, headers: dict[str, str]) -> Writer | None:
        channel = self.relay.channels.get(name)
        writer = self.ask("POST", f"/{name}/{seq}", **headers)
        if isinstance(writer, Writer):
            return writer
        assert writer.closes
        assert writer.status in (503, 409)
        if writer.status == 409:
            assert channel is not None
            assert channel.writers
            assert not headers
            assert seq > channel.next_write + 2 * 5
        return None

    @rule(writer=writers, size=st.integers(min_value=1, max_value=50))
    def write(self, writer: Writer | None, size: int) -> None:
        if writer is None:
            return
        self.token += 1
        data = (b"%d." % self.token * size)[:size]
        early = writer.answer
        taken = writer.write(data, self.now)
        if taken is ACCEPTED:
            assert writer.segment is not None
            self.written[writer.segment] = self.written.get(writer.segment, b"") + data
        self.note_taken(writer, early, taken)

    def note_taken(self, writer: Writer, early: Answer | None, taken: object) -> None:
        if taken is NEED_ROOM:
            since = self.held.setdefault(writer, self.now)
            assert self.now < since + SETTINGS.patience
            self.asleep[writer] = None
        else:
            self.held.pop(writer, None)
            self.asleep.pop(writer, None)
        if early is not None:
            assert taken is early
        if isinstance(taken, Answer) and early is None and taken.status != 200:
            assert taken.status in (413, 507)
            assert taken.closes

    @rule(writer=consumes(writers), whole=st.booleans())
    def finish(self, writer: Writer | None, whole: bool) -> None:
        if writer is None:
            return
        if whole:
            self.note_taken(writer, writer.answer, writer.end(self.now))
        writer.abort(self.now)
        self.asleep.pop(writer, None)
        self.held.pop(writer, None)

    @rule(target=readers, name=NAMES, offset=OFFSETS)
    def get(self, name: str, offset: int) -> Any:
        channel = self.relay.channels.get(name)
        return self.open_reader(name, max((channel.next_write if channel else 0) + offset, 0))

    @rule(target=readers, name=NAMES, seq=SEQS)
    def get_anywhere(self, name: str, seq: int) -> Any:
        return self.open_reader(name, seq)

    def open_reader(self, name: str, seq: int) -> Reader | None:
        channel = self.relay.channels.get(name)
        handled = self.ask("GET", f"/{name}/{seq}")
        if isinstance(handled, Reader):
            self.got[handled] = b""
            return handled
        if handled.status == 200:
            assert channel is not None
            assert channel.closed
        else:
            assert handled.status in (404 if channel is None else 470, 503)
        if channel is not None and seq in (channel.next_write, -1) and not channel.closed:
            assert handled.status == 503, "next write can always be waited for"
        return None

    @rule(reader=readers, size=st.integers(min_value=1, max_value=100))
    def pull(self, reader: Reader | None, size: int) -> None:
        if reader is None or reader.state is ReaderState.GONE:
            return
        pulled = reader.pull(size, self.now)
        if isinstance(pulled, list):
            data = b"".join(pulled)
            assert 0 < len(data) <= size
            self.got[reader] += data
        elif isinstance(pulled, Head):
            assert self.written.get(reader.segment) or reader.segment.closed
        elif pulled is NEED_DATA:
            self.asleep[reader] = None
        elif pulled is END:
            assert self.got[reader] == self.written.get(reader.segment, b"")
        else:
            assert pulled is CUT

    @rule(reader=consumes(readers))
    def leave(self, reader: Reader | None) -> None:
        if reader is not None:
            reader.close(self.now)
            self.asleep.pop(reader, None)

    @rule(name=NAMES, seq=SEQS)
    def delete_segment(self, name: str, seq: int) -> None:
        assert self.ask("DELETE", f"/{name}/{seq}").status in (200, 400, 404)

    @rule(name=NAMES)
    def delete_channel(self, name: str) -> None:
        channel = self.relay.channels.get(name)
        there = channel is not None and not channel.closed
        assert self.ask("DELETE", f"/{name}").status == (200 if there else 400)

    @rule(seconds=st.sampled_from([0.01, 0.3, 1.0, 5.0, 60.0]))
    def time_goes_by(self, seconds: float) -> None:
        until = self.now + seconds
        while (due := self.relay.deadline()) <= until:
            self.now = max(self.now, due)
            self.relay.handle_timeout(self.now)
            for writer in [held for held in self.held if held not in self.asleep]:
                # As an adapter does: who is woken tries again.
                self.write(writer, 1)
        self.now = until

    @invariant()
    def nobody_sleeps_through(self) -> None:
        for one in self.asleep:
            if isinstance(one, Reader):
                assert one.state is not ReaderState.CUT
                assert not one.unread
                assert not one.segment.closed
            else:
                assert one.answer is None
                assert self.relay.deadline() <= self.held[one] + SETTINGS.patience

    @invariant()
    def readers_see_a_prefix(self) -> None:
        for reader, got in self.got.items():
            assert self.written.get(reader.segment, b"").startswith(got)

    @invariant()
    def memory_is_accounted_for_and_bounded(self) -> None:
        sizes = [segment.size for segment in self.segments()]
        feed = self.relay.channels["_changes"].size
        assert self.relay.statistics().size >= sum(sizes)
        assert self.relay.statistics().size <= SETTINGS.max_total_bytes + feed
        for channel in self.channels():
            kept = (*channel._segments.values(), *channel._held)
            assert channel.size == sum(segment.size for segment in kept)
            if channel.name != "_changes":
                assert channel.size <= SETTINGS.max_channel_bytes

    @invariant()
    def segments_are_few(self) -> None:
        for channel in self.channels():
            assert all(segment.readers for segment in channel._held)
            closed = [s.seq for s in channel._segments.values() if s.closed]
            lowest = channel.next_write - SETTINGS.window
            assert channel.closed or min(closed, default=lowest) >= lowest
            others = [s for s in channel._segments.values() if s.fresh and not s.readers]
            assert len(others) <= channel.writers

    def teardown(self) -> None:
        self.relay.close(self.now)
        for reader in self.got:
            if reader.state is not ReaderState.GONE:
                while (pulled := reader.pull(1000, self.now)) not in (END, CUT):
                    assert pulled is not NEED_DATA, "at the end nobody is left waiting"
                reader.close(self.now)
        assert self.relay.statistics().size == 0


TestRing = Ring.TestCase
TestRing.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
