"""What ``trickle bench`` measures: the cost and the delay of a stream on this machine.

The stream runs in a process of its own, against a relay in another, on footage that comes at its own pace; ffmpeg does
the like on the same footage. What comes out: figures. It stands above everything that a user of the library calls.
"""

from __future__ import annotations

from trickle_trio.bench.figures import Report
from trickle_trio.bench.footage import Size
from trickle_trio.bench.report import table
from trickle_trio.bench.run import BenchSettings, Progress, run_bench
from trickle_trio.bench.worker_process import BenchError

__all__ = ["BenchError", "BenchSettings", "Progress", "Report", "Size", "run_bench", "table"]
