"""What stands on the wire: header names, special sequence numbers, statuses, and the defaults both
ends share.

Sources: the protocol as the server inside a deployed Livepeer node speaks it ("deployed"), and the
public text of the trickle protocol where the two agree. Header names are lower case, as h11 and
httpx hand them over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SEQ: Final = "lp-trickle-seq"
"""On an answer: the sequence number of the segment that was read or written."""

LATEST: Final = "lp-trickle-latest"
"""On an answer: the *next write*, the lowest sequence number of which no byte has been written
yet."""

CLOSED: Final = "lp-trickle-closed"
"""On an answer: the channel has ended. Only the value ``terminated`` is in use."""

TERMINATED: Final = "terminated"

RESET: Final = "lp-trickle-reset"
"""On a POST of a segment: a publisher starts anew, every segment below this one is closed."""

SIZE: Final = "lp-trickle-size"
"""On the answer to a GET: how many bytes the segment already held. In the public text; a TODO in
the deployed server. Ours says the same on the early answer to a POST."""

EXPECT_CONTENT: Final = "expect-content"
"""On a POST that creates a channel: the MIME type of its segments."""

LIVE_EDGE: Final = -2
"""GET: the segment that is being written, or the last one written; 0 on an empty channel."""

NEXT_WRITE: Final = -1
"""GET: wait for the next segment. POST: write the segment at *next write*."""

NEXT: Final = "next"
"""The path part that asks where a new publisher would write."""

NO_SUCH_SEGMENT: Final = 470
"""The status of a GET for a segment that is not there on a channel that is."""

WINDOW: Final = 5
"""Segments that the deployed server keeps: a ring, slot = seq modulo 5."""

CHANGES: Final = "_changes"
"""The channel of the change feed."""

IDLE_TIMEOUT: Final = 300.0
"""Seconds without a write after which the deployed server sweeps a channel."""

CONTINUE_INTERVAL: Final = 10.0
"""Seconds between the ``100 Continue`` lines that the deployed server sends to a preconnected
POST."""

REFRESH_INTERVAL: Final = 20.0
"""Seconds after which the deployed client drops a waiting GET and opens it anew: some servers and
middle boxes cut a request that waited past their write timeout."""

MPEG_TS: Final = "video/mp2t"
JSON: Final = "application/json"
JSON_LINES: Final = "application/jsonl"


def parse_seq(text: str | None) -> int | None:
    """Read a sequence number as it stands in a path or a header; None where there is none or it is
    no integer.

    Only ASCII digits with an optional minus count: ``int`` would also take blanks, underscores and
    other scripts.
    """
    if text is None:
        return None
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= MAX_SEQ_DIGITS):
        return None
    return int(text)


MAX_SEQ_DIGITS: Final = 18
"""Longer numbers do not fit the 64 bits in which the deployed server keeps them."""


def bearer(token: str) -> str:
    """The value of ``authorization`` that shows a token. ``ValueError``: no header can carry it.

    Any printable ASCII without spaces will do, which is more than RFC 6750, 2.1, has tokens consist
    of: what people make up as a secret is not always base64.
    """
    if not (token.isascii() and token.isprintable() and token and " " not in token):
        raise ValueError(
            "token: expected printable ASCII without spaces, and at least one character"
        )
    return f"Bearer {token}"


def is_closed(headers: Mapping[str, str]) -> bool:
    """Whether an answer says that the channel has ended."""
    return CLOSED in headers
