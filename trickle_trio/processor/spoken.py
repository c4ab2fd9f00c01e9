"""JSON of what processors send: models give numpy's numbers and torch's, where Python's own are expected."""

from __future__ import annotations

import json
import math
from typing import Any, Final

MOST_VALUES: Final = 10_000
"""Of an array: boxes, scores, an embedding. A picture is none of that, and would hold the event loop for seconds."""


def json_text(value: Any) -> str:
    """Write a value as JSON; numbers, arrays and tensors are written as numbers and lists.

    Raises ``TypeError`` for what JSON has no form for, and for a larger array; ``ValueError`` for NaN and the
    infinities. Of a tensor on a GPU it waits for the GPU.
    """
    return json.dumps(value, allow_nan=False, default=_plain)


def _plain(value: Any) -> Any:
    kind = type(value).__name__
    if not (hasattr(value, "shape") and hasattr(value, "tolist")):
        raise TypeError(f"JSON has no form for {kind}")
    count = math.prod(value.shape)
    if count > MOST_VALUES:
        raise TypeError(f"{kind} of {count} values is too much to be sent, at most {MOST_VALUES}")
    return value.tolist()
