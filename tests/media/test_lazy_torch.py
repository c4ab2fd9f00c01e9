"""torch is looked for without being imported, also while another thread imports it."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from trickle_trio.media.pixels import is_tensor


def test_a_tensor_is_told_from_an_array() -> None:
    assert is_tensor(torch.zeros(1))
    assert not is_tensor(np.zeros(1))


def test_half_imported_torch_has_made_no_tensor_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))
    assert not is_tensor(np.zeros(1))
