"""Orders of a client machine to its adapter, in the imperative. They are carried out in the order
given, at once.

Request numbers are minted by the machine. The adapter reports on each with the events of
``trickle_core.events``; a late report of a request that was aborted or discarded may still be
given, the machine knows it and ignores it.
"""

from __future__ import annotations

from enum import Enum

from attrs import frozen


class Ending(Enum):
    """Why a subscription or a publication is over."""

    CLOSED = "the channel was closed"
    GONE = "there is no such channel"
    REFUSED = "the server refuses"
    GAVE_UP = "the server could not be reached for too long"
    LEFT = "closed from this side"


@frozen
class OpenGet:
    """Send ``GET channel/seq``. ``seq`` may be -1 or -2."""

    request: int
    seq: int


@frozen
class AskNext:
    """Send ``GET channel/next``."""

    request: int


@frozen
class Create:
    """Send ``POST channel`` with the MIME type as ``Expect-Content``."""

    request: int


@frozen
class OpenPost:
    """Send the head of ``POST channel/seq`` and keep its body open."""

    request: int
    seq: int
    reset: bool = False


@frozen
class EndBody:
    """End the body of this POST as whole."""

    request: int


@frozen
class Delete:
    """Send ``DELETE channel/seq``, or ``DELETE channel`` where ``seq`` is None."""

    request: int
    seq: int | None


@frozen
class Abort:
    """Give this request up: close its connection, never end its body as if whole.

    Nothing is to be done where the request has failed already.
    """

    request: int


@frozen
class Discard:
    """Nobody wants the rest of this answer. Read a short one away so that its connection can be
    used again. Given only where the answer's head is here and the request's body is whole.
    """

    request: int


@frozen
class Deliver:
    """The body of this answer is segment ``seq``: give it to the reader. ``skipped``: segments
    missed just before it.
    """

    request: int
    seq: int
    skipped: int = 0


@frozen
class Truncate:
    """The segment that the reader has ends here, without being whole."""

    request: int


@frozen
class Grant:
    """The writer's segment is ``seq``; its bytes go into the body of this POST, from the first not
    yet taken on.
    """

    request: int
    seq: int


@frozen
class Lose:
    """The segment that the writer was writing is lost, with what had left. It goes on with a new
    one.
    """

    request: int


@frozen
class Finish:
    """It is over: no further segment will be delivered or granted. ``status``: the HTTP status that
    said so, if any.
    """

    ending: Ending
    status: int | None = None


Command = (
    OpenGet
    | AskNext
    | Create
    | OpenPost
    | EndBody
    | Delete
    | Abort
    | Discard
    | Deliver
    | Truncate
    | Grant
    | Lose
    | Finish
)
"""Whatever an input of a client machine returns."""
