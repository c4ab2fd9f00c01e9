"""Processes of their own, so that one side's CPU is not taken for the other's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from attrs import frozen

TICK: Final = 1 / os.sysconf("SC_CLK_TCK")
PAGE: Final = os.sysconf("SC_PAGE_SIZE")
ROOT: Final = Path(__file__).parents[2]


@frozen
class Process:
    """Another process. Linux only: it is looked at through ``/proc``."""

    popen: subprocess.Popen[str]

    def line(self) -> str:
        """The next line that it prints."""
        assert self.popen.stdout is not None
        return self.popen.stdout.readline().strip()

    def cpu(self) -> float:
        """Seconds of CPU that it has used."""
        fields = self._file("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * TICK

    def memory(self) -> int:
        """Bytes of memory that it holds."""
        return int(self._file("statm").split()[1]) * PAGE

    def _file(self, name: str) -> str:
        return Path(f"/proc/{self.popen.pid}/{name}").read_text(encoding="ascii")


@contextmanager
def running(module: str, *arguments: str) -> Iterator[Process]:
    """``python -m module arguments`` for the length of a block."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as popen:
        try:
            yield Process(popen)
        finally:
            popen.kill()


@frozen
class RelayProcess(Process):
    """A relay in a process of its own."""

    url: str


@contextmanager
def running_relay(*arguments: str) -> Iterator[RelayProcess]:
    """``trickle relay`` with these options, on a free port."""
    with running("trickle_trio.cli", "relay", "--port", "0", *arguments) as process:
        yield RelayProcess(process.popen, process.line().split()[-1])
