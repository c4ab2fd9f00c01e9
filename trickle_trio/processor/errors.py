"""What can go wrong with a user's code, in types that the pipeline can decide by."""

from __future__ import annotations


class HandlerError(Exception):
    """A user's handler failed. ``handler`` says which; ``__cause__`` is what the handler raised."""

    def __init__(self, handler: str, message: str) -> None:
        # Both go to the base: copying and pickling rebuild an exception from its args.
        super().__init__(handler, message)
        self.handler = handler
        self.message = message

    def __str__(self) -> str:
        return f"{self.handler} {self.message}"


class WrongReturnError(HandlerError):
    """A handler gave back something that is neither media nor stands for it."""


class ParamsError(ValueError):
    """A parameter is not as it must be. ``field`` says which one, or is None for all of them together."""

    def __init__(self, reason: str, *, field: str | None = None) -> None:
        super().__init__(reason if field is None else f"{field}: {reason}")
        self.field = field
        self.reason = reason
