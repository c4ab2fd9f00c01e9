"""How streams end."""

from __future__ import annotations

from enum import Enum

from attrs import frozen


class End(Enum):
    """Why a stream is over."""

    INPUT_ENDED = "the input has ended"
    INPUT_UNAVAILABLE = "the input cannot be read"
    INPUT_SILENT = "the input was silent for too long"
    OUTPUT_ENDED = "the output was closed"
    OUTPUT_UNAVAILABLE = "the output cannot be written"
    HANDLER_HUNG = "the handler hangs"
    FAULT = "a fault in this program"

    @property
    def is_normal(self) -> bool:
        """Whether nothing went wrong on our side of it."""
        return self is End.INPUT_ENDED


@frozen
class Outcome:
    """How a stream ended: why, and the particulars in one line."""

    end: End
    detail: str = ""

    def __str__(self) -> str:
        """One line for a user."""
        return f"{self.end.value}: {self.detail}" if self.detail else self.end.value


class StreamEnds(Exception):
    """Raised by a station that ends its stream."""

    def __init__(self, end: End, detail: str = "") -> None:
        super().__init__(end, detail)
        self.outcome = Outcome(end, detail)
