"""A POST of a segment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from attrs import define, field

from trickle_core.answer import Answer
from trickle_core.errors import LocalProtocolError
from trickle_core.window.segment import Buffer, Segment
from trickle_core.window.states import (
    ACCEPTED,
    WRITER_TRANSITIONS,
    Input,
    Signal,
    Waker,
    WriterState,
    sleep_on,
    step,
)

if TYPE_CHECKING:
    from trickle_core.channel import Channel

Taken = Answer | Literal[Signal.ACCEPTED, Signal.NEED_ROOM]


@define(eq=False)
class Writer:
    """Feed it the body, then ``end`` it; ``abort`` it where the body breaks off."""

    channel: Channel
    asked: int
    """The number in the request: -1 is whatever next write is when the first byte comes."""
    segment: Segment | None
    """Where it writes; None while it has none."""
    waker: Waker = sleep_on
    state: WriterState = field(default=WriterState.PRECONNECTED, init=False)
    answer: Answer | None = field(default=None, init=False)
    """The early answer: the waker is called when there is one."""
    held_since: float | None = field(default=None, init=False)
    """Since when it has been told NEED_ROOM."""

    def write(self, data: Buffer, now: float) -> Taken:
        """Take a piece of the body, which nobody may change any more. ACCEPTED, NEED_ROOM, or the
        early answer. Does not block. Raises LocalProtocolError after ``end`` or ``abort``.
        """
        if self.answer is not None:
            return self.answer
        self._must_go_on()
        return self.channel.write(self, data, now) if data else ACCEPTED

    def end(self, now: float) -> Answer | Literal[Signal.NEED_ROOM]:
        """The body has ended, whole: the answer (or NEED_ROOM, for an empty segment)."""
        if self.answer is not None:
            return self.answer
        self._must_go_on()
        return self.channel.end(self, now)

    def abort(self, now: float) -> None:
        """The body broke off. After an answer, and a second time, it changes nothing."""
        open_still = self.state in (WriterState.PRECONNECTED, WriterState.WRITING)
        self.happen(Input.LEAVE)
        if open_still:
            self.channel.writer_left(self, now)

    def _must_go_on(self) -> None:
        if self.state not in (WriterState.PRECONNECTED, WriterState.WRITING):
            raise LocalProtocolError(f"no body goes on in state {self.state.name}")

    def happen(self, happening: Input) -> None:
        """For the channel: go on in the table."""
        self.state = step(WRITER_TRANSITIONS, self.state, happening)

    def answer_early(self, answer: Answer) -> None:
        """For the channel: the rest of the body does not count any more."""
        self.happen(Input.ANSWER)
        self.answer = answer
        self.waker()
