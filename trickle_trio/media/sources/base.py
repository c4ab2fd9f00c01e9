"""What every source is: opened, read from one thread at a time, closed from any."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum, auto
from threading import Lock
from types import TracebackType
from typing import Protocol, Self

from trickle_core.mpegts import AccessUnit, ElementaryStream


class SourceError(Exception):
    """A source cannot be opened, or read on. The text is one line for whoever named the source."""


class Source(Protocol):
    """Access units from somewhere, one batch after another.

    Everything blocks but ``close``. ``with source:`` opens and closes it.
    """

    @property
    def streams(self) -> tuple[ElementaryStream, ...]:
        """What it carries, under the numbers that its units have; known once it is open."""
        ...

    @property
    def keeps_time(self) -> bool:
        """Whether units come when they are due, so that nobody else needs to pace them."""
        ...

    def open(self) -> None:
        """Make ready to read. ``SourceError``: it cannot be."""
        ...

    def read(self) -> list[AccessUnit]:
        """The next few units; none at the end, and once it is closed. ``SourceError``: it broke off.

        Times are in 1/90000 s and unbounded; dts rises strictly for each stream, over the passes of a
        loop too.
        """
        ...

    def close(self) -> None:
        """Let go of everything. From any thread, more than once.

        While another thread is opening or reading, that one is told to come back and does it then.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class SourceState(Enum):
    """Where a source is in its life.

    ======= ================== =======================================
    state   what happens       next state
    ======= ================== =======================================
    NEW     ``open`` begins    BUSY
    READY   ``read`` begins    BUSY
    BUSY    that is done       READY; CLOSED when it raised
    BUSY    ``close``          LEAVING: the busy thread is interrupted
    LEAVING that is done       CLOSED: the busy thread cleans up
    NEW     ``close``          CLOSED
    READY   ``close``          CLOSED: the closing thread cleans up
    ======= ================== =======================================
    """

    NEW = auto()
    READY = auto()
    BUSY = auto()
    LEAVING = auto()
    CLOSED = auto()


class BlockingSource(ABC):
    """The life of a source; what is in it, is its subclass's."""

    def __init__(self) -> None:
        self._state = SourceState.NEW
        self._lock = Lock()

    @property
    @abstractmethod
    def streams(self) -> tuple[ElementaryStream, ...]:
        """See ``Source``."""

    @property
    def keeps_time(self) -> bool:
        """See ``Source``."""
        return False

    def open(self) -> None:
        """See ``Source``."""
        if not self._begin(SourceState.NEW):
            raise SourceError("the source was closed before it was opened")
        try:
            self._open()
        except BaseException:
            self._end(SourceState.CLOSED)
            raise
        self._end(SourceState.READY)

    def read(self) -> list[AccessUnit]:
        """See ``Source``."""
        if not self._begin(SourceState.READY):
            return []
        try:
            units = self._read()
        except BaseException:
            self._end(SourceState.CLOSED)
            raise
        self._end(SourceState.READY)
        return units

    def close(self) -> None:
        """See ``Source``."""
        with self._lock:
            was = self._state
            if was in (SourceState.LEAVING, SourceState.CLOSED):
                return
            self._state = SourceState.LEAVING if was is SourceState.BUSY else SourceState.CLOSED
            if was is SourceState.BUSY:
                self._interrupt()
        if was is SourceState.READY:
            self._release()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @abstractmethod
    def _open(self) -> None: ...

    @abstractmethod
    def _read(self) -> list[AccessUnit]: ...

    def _interrupt(self) -> None:  # noqa: B027 - most sources do not wait for anybody
        """Make a waiting ``_open`` or ``_read`` come back, with whatever it has."""

    @abstractmethod
    def _release(self) -> None:
        """Let go of what ``_open`` took, also of the half of it when that raised."""

    @property
    def _is_leaving(self) -> bool:
        """Whether ``_open`` or ``_read`` should come back."""
        return self._state is SourceState.LEAVING

    def _begin(self, expected: SourceState) -> bool:
        """Enter BUSY; False: it is closed."""
        with self._lock:
            if self._state in (SourceState.CLOSED, SourceState.LEAVING):
                return False
            if self._state is not expected:
                raise RuntimeError(f"the source is {self._state.name}, not {expected.name}")
            self._state = SourceState.BUSY
            return True

    def _end(self, state: SourceState) -> None:
        """Leave BUSY; who was told meanwhile to close, does it."""
        with self._lock:
            leaves = self._state is SourceState.LEAVING or state is SourceState.CLOSED
            self._state = SourceState.CLOSED if leaves else state
        if leaves:
            self._release()
