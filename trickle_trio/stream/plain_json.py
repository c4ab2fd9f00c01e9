"""JSON as the rest of the world reads it. Python's own parser also takes NaN and the infinities, and makes an infinity
of 1e999; what holds one could be told to nobody again: no browser reads it.
"""

from __future__ import annotations

import json
import math
from typing import NoReturn


def read_json(text: bytes | bytearray) -> object:
    """Read a JSON text; raises ValueError, which says in one line why it is none."""
    try:
        value: object = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return value


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(text)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name:.40} is no JSON value")
