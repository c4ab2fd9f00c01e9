"""What models give is sent as numbers and lists."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from trickle_trio.processor.spoken import MOST_VALUES, json_text


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (np.float32(0.5), 0.5),
        (np.int64(7), 7),
        (np.bool_(True), True),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (torch.tensor(0.25), 0.25),
        (torch.tensor([1.0, 2.0]), [1.0, 2.0]),
        ({"box": [np.int32(1)], "score": np.float64(0.5)}, {"box": [1], "score": 0.5}),
        ("text", "text"),
        (np.zeros(MOST_VALUES), [0.0] * MOST_VALUES),
    ],
    ids=lambda value: type(value).__name__,
)
def test_numbers_arrays_and_tensors(value: Any, told: Any) -> None:
    assert json.loads(json_text({"value": value})) == {"value": told}


@pytest.mark.parametrize(
    ("value", "error", "says"),
    [
        (object(), TypeError, "JSON has no form for object"),
        ({1, 2}, TypeError, "JSON has no form for set"),
        (np.zeros((1, 100, 101)), TypeError, "ndarray of 10100 values is too much to be sent"),
        (torch.zeros(10_001), TypeError, "Tensor of 10001 values"),
        (np.float32("nan"), ValueError, "JSON compliant"),
        (np.array([np.inf]), ValueError, "JSON compliant"),
        (float("nan"), ValueError, "JSON compliant"),
    ],
    ids=str,
)
def test_what_cannot_be_sent_is_told(value: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        json_text({"value": value})
