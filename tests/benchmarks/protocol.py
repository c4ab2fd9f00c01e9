"""The protocol's speed on this machine: ``python -m tests.benchmarks.protocol [PART ...] [--json]``.

Parts: ``small`` segments beside aiohttp's client, ``early`` answers, the ``relay`` under load, the
``core`` alone, what cancelled requests ``leave``. All of them take about three minutes. Each line is
a figure and what is asked of it. Ratios are of pairs taken in turn, so a busy machine blurs them, and
does not bend them; times and shares of a core are only good on a quiet one.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
from collections.abc import Callable, Sequence
from typing import Final

from tests.benchmarks import core, early, fanout, leftovers, small
from tests.benchmarks.report import Figure

PARTS: Final[dict[str, Callable[[], list[Figure]]]] = {
    "small": small.run,
    "early": early.run,
    "relay": fanout.run,
    "core": core.run,
    "leave": leftovers.run,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    options = parser.parse_args(arguments)
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    allow_many_files()
    measured = []
    for part in options.parts or PARTS:
        for figure in PARTS[part]():
            measured.append(figure)
            if not options.json:
                sys.stdout.write(f"{figure.line()}\n")
                sys.stdout.flush()
    if options.json:
        python = f"{platform.python_implementation()} {platform.python_version()}"
        figures = [figure.as_object() for figure in measured]
        json.dump({"python": python, "machine": platform.machine(), "figures": figures}, sys.stdout)
        sys.stdout.write("\n")
    return 0


def allow_many_files() -> None:
    """A thousand channels need two thousand sockets, here and in the relay."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    sys.exit(main())
