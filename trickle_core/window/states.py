"""The lives of a segment, a GET and a POST, as tables: every transition stands here and nowhere
else. What no table knows is a LocalProtocolError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Final, TypeVar

from trickle_core.errors import LocalProtocolError


class Input(Enum):
    """What can happen to them."""

    BYTES = auto()
    """A piece is written."""
    HEAD = auto()
    """The head of the answer is pulled."""
    END = auto()
    """The end is pulled, or the body has ended."""
    CLOSE = auto()
    """No byte will follow."""
    CUT = auto()
    """The memory is needed elsewhere."""
    ANSWER = auto()
    """The answer is known before the body has ended."""
    LEAVE = auto()
    """The adapter has done with it, or the client has gone."""


class SegmentState(Enum):
    """A segment's life."""

    FRESH = auto()
    """Waited for: no byte yet."""
    FILLING = auto()
    CLOSED = auto()


SEGMENT_TRANSITIONS: Final[Mapping[SegmentState, Mapping[Input, SegmentState]]] = {
    SegmentState.FRESH: {Input.BYTES: SegmentState.FILLING, Input.CLOSE: SegmentState.CLOSED},
    SegmentState.FILLING: {Input.BYTES: SegmentState.FILLING, Input.CLOSE: SegmentState.CLOSED},
    SegmentState.CLOSED: {Input.CLOSE: SegmentState.CLOSED},
}


class ReaderState(Enum):
    """The life of a GET."""

    WAITING = auto()
    """The head was not pulled yet."""
    STREAMING = auto()
    ENDED = auto()
    """All is pulled, though not all may be sent."""
    CUT = auto()
    GONE = auto()


READER_TRANSITIONS: Final[Mapping[ReaderState, Mapping[Input, ReaderState]]] = {
    ReaderState.WAITING: {
        Input.HEAD: ReaderState.STREAMING,
        Input.CUT: ReaderState.CUT,
        Input.LEAVE: ReaderState.GONE,
    },
    ReaderState.STREAMING: {
        Input.END: ReaderState.ENDED,
        Input.CUT: ReaderState.CUT,
        Input.LEAVE: ReaderState.GONE,
    },
    ReaderState.ENDED: {
        Input.END: ReaderState.ENDED,
        Input.CUT: ReaderState.CUT,
        Input.LEAVE: ReaderState.GONE,
    },
    ReaderState.CUT: {Input.LEAVE: ReaderState.GONE},
    ReaderState.GONE: {Input.LEAVE: ReaderState.GONE},
}


class WriterState(Enum):
    """The life of a POST."""

    PRECONNECTED = auto()
    """Not a byte of the body has come."""
    WRITING = auto()
    ANSWERED = auto()
    """The answer was known before the body had ended."""
    ENDED = auto()
    """The body came whole."""
    GONE = auto()


WRITER_TRANSITIONS: Final[Mapping[WriterState, Mapping[Input, WriterState]]] = {
    WriterState.PRECONNECTED: {
        Input.BYTES: WriterState.WRITING,
        Input.END: WriterState.ENDED,
        Input.ANSWER: WriterState.ANSWERED,
        Input.LEAVE: WriterState.GONE,
    },
    WriterState.WRITING: {
        Input.BYTES: WriterState.WRITING,
        Input.END: WriterState.ENDED,
        Input.ANSWER: WriterState.ANSWERED,
        Input.LEAVE: WriterState.GONE,
    },
    WriterState.ANSWERED: {Input.LEAVE: WriterState.GONE},
    WriterState.ENDED: {Input.LEAVE: WriterState.GONE},
    WriterState.GONE: {Input.LEAVE: WriterState.GONE},
}

S = TypeVar("S", bound=Enum)


def step(table: Mapping[S, Mapping[Input, S]], state: S, happening: Input) -> S:
    """The state that follows. Raises LocalProtocolError where the table knows none."""
    following = table[state].get(happening)
    if following is None:
        raise LocalProtocolError(f"{happening.name} is illegal in state {state.name}")
    return following


class Signal(Enum):
    """What a pull or a write says besides data."""

    NEED_DATA = auto()
    END = auto()
    CUT = auto()
    ACCEPTED = auto()
    NEED_ROOM = auto()


NEED_DATA: Final = Signal.NEED_DATA
"""Nothing more is there yet: the waker will be called."""

END: Final = Signal.END
"""The segment has been read to its end: close the reader once all is sent."""

CUT: Final = Signal.CUT
"""The rest is gone: break the answer off, so that nobody takes it for whole."""

ACCEPTED: Final = Signal.ACCEPTED
"""The piece was taken."""

NEED_ROOM: Final = Signal.NEED_ROOM
"""The piece was not taken: offer it again when the waker was called, and read nothing more of the
body until then."""

Waker = Callable[[], None]
"""Wakes who was told NEED_DATA or NEED_ROOM, and who is answered early. It is called in the midst of
things: it may note that something is to be done (set an event, cancel a scope), it must not call
back."""


def sleep_on() -> None:
    """The waker of somebody who does not wait."""
