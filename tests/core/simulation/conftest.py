"""Which seeds the simulation runs with: ``--seed N`` (or the variable ``TRICKLE_SEED``) for one."""

from __future__ import annotations

import os
from random import SystemRandom
from typing import Final

import pytest

FIXED: Final = (1, 3, 23, 134, 297, 371, 511, 526)
"""Those that once found something, or have much in them."""

RANDOM: Final = 4

SEED: Final = "TRICKLE_SEED"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, help="the one seed to simulate with")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" not in metafunc.fixturenames:
        return
    # Where the whole suite runs, this file is read after the command line: no such option then.
    chosen = metafunc.config.getoption("--seed", default=None) or os.environ.get(SEED)
    others = [SystemRandom().randrange(10**6) for _ in range(RANDOM)]
    metafunc.parametrize("seed", [*FIXED, *others] if chosen is None else [int(chosen)])


@pytest.fixture(scope="session")
def fixed_seeds() -> tuple[int, ...]:
    return FIXED
