"""Simulate for a while: ``python -m tests.core.simulation [--seed N] [--minutes M] [--runs R]``."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from random import SystemRandom

from tests.core.simulation.simulation import Failed, Simulation


def main() -> int:
    """Run; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, help="the first run's seed (default: a random one)")
    parser.add_argument("--minutes", type=float, default=60.0, help="virtual minutes a run")
    parser.add_argument("--runs", type=int, default=1, help="runs, with seeds that go up by one")
    options = parser.parse_args()
    first = SystemRandom().randrange(10**6) if options.seed is None else options.seed
    counters: Counter[str] = Counter()
    began = time.process_time()
    for seed in range(first, first + options.runs):
        try:
            counters += Simulation(seed).run(options.minutes)
        except Failed as failure:
            sys.stdout.write(f"{failure}\n")
            return 1
    spent = time.process_time() - began
    minutes = counters["virtual seconds"] / 60
    for name, count in sorted(counters.items()):
        sys.stdout.write(f"{count:>12} {name}\n")
    sys.stdout.write(f"{minutes / spent:.0f} virtual minutes a second, seeds from {first}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
