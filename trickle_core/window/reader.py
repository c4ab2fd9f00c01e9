"""A GET of a segment, pulled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from attrs import define, field

from trickle_core import wire
from trickle_core.answer import TERMINATED, Head, latest_header, seq_header
from trickle_core.errors import LocalProtocolError
from trickle_core.window.segment import Buffer, Segment
from trickle_core.window.states import (
    CUT,
    END,
    NEED_DATA,
    READER_TRANSITIONS,
    Input,
    ReaderState,
    Signal,
    Waker,
    sleep_on,
    step,
)

if TYPE_CHECKING:
    from trickle_core.channel import Channel

Pulled = Head | list[Buffer] | Literal[Signal.NEED_DATA, Signal.END, Signal.CUT]


_LET_GO: Final = Segment(-1)
"""What a closed reader is left with: who keeps it does not keep what it read."""


@define(eq=False)
class Reader:
    """Pull it until END or CUT, then close it; close it also when the client has gone."""

    channel: Channel
    segment: Segment
    preconnected: bool
    """It asked for next write: then no ``Lp-Trickle-Latest`` is due."""
    held_before: int
    """Bytes that the segment held when it came: ``Lp-Trickle-Size``."""
    progress_at: float
    """When it last took bytes, or came."""
    follows: bool = False
    """It comes from the segment before (see fairness.py)."""
    waker: Waker = sleep_on
    state: ReaderState = field(default=ReaderState.WAITING, init=False)
    position: int = field(default=0, init=False)
    finished: int | None = field(default=None, init=False)
    """The segment after whose end it was closed."""

    @property
    def unread(self) -> int:
        """Bytes that are there and were not pulled yet."""
        return self.segment.size - self.position

    def pull(self, max_bytes: int, now: float) -> Pulled:
        """First the head, once the first byte is there or the segment closed; then pieces, at most
        ``max_bytes`` together; NEED_DATA in between; at last END, or CUT. Does not block. Raises
        LocalProtocolError after ``close``.
        """
        if self.state is ReaderState.GONE:
            raise LocalProtocolError("this reader was closed")
        if self.state is ReaderState.CUT:
            return CUT
        if not self.unread and not self.segment.closed:
            self.segment.sleepers[self] = None
            return NEED_DATA
        if self.state is ReaderState.WAITING:
            return self._pull_head()
        if self.unread:
            return self._pull_bytes(max_bytes, now)
        self.state = step(READER_TRANSITIONS, self.state, Input.END)
        return END

    def _pull_bytes(self, max_bytes: int, now: float) -> list[Buffer]:
        pieces = self.segment.read(self.position, max_bytes)
        self.position += sum(map(len, pieces))
        self.progress_at = now
        return pieces

    def _pull_head(self) -> Head:
        self.state = step(READER_TRANSITIONS, self.state, Input.HEAD)
        headers = [
            ("content-type", self.channel.mime_type),
            *seq_header(self.segment.seq),
            (wire.SIZE, str(self.held_before)),
        ]
        if not self.preconnected or not self.segment.size:
            headers += latest_header(self.channel.next_write)
        # A segment that was written empty is not where the channel ended: others may follow it.
        is_unwritten = self.segment.seq >= self.channel.next_write and not self.segment.size
        if self.channel.closed and is_unwritten:
            headers += TERMINATED
        return Head(200, tuple(headers))

    def close(self, now: float) -> None:
        """All is sent, or the client has gone. Closing twice is legal."""
        was, self.state = self.state, step(READER_TRANSITIONS, self.state, Input.LEAVE)
        if was is not ReaderState.GONE:
            self.finished = self.segment.seq if was is ReaderState.ENDED else None
            self.channel.reader_left(self, now, finished=was is ReaderState.ENDED)
            self.segment = _LET_GO

    def client_left(self) -> None:
        """The client has gone for good after ``close``: it does not come for what follows. Whoever
        cannot tell need not call it; then it is expected for a while.
        """
        seq, self.finished = self.finished, None
        if seq is not None:
            self.channel.reader_gone(seq)

    def cut(self) -> None:
        """For the channel: its memory is needed elsewhere."""
        self.state = step(READER_TRANSITIONS, self.state, Input.CUT)
        self.waker()
