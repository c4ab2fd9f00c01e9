"""The same pictures from a file: our decoder, and ffmpeg with one thread."""

from __future__ import annotations

import resource
import shutil
import subprocess
import time
from pathlib import Path
from typing import Final

import trio
from attrs import frozen

from trickle_core.mpegts import AccessUnit
from trickle_trio.bench.figures import Theirs, Turn
from trickle_trio.media.decode import VideoDecoder

ENCODE: Final = ("-c:v", "libx264", "-preset", "superfast", "-tune", "zerolatency", "-bf", "0")
ONE_THREAD: Final = ("-threads", "1")
PACED: Final = ("-re",)
ROUND_TRIP: Final = ("-vf", "format=rgb24,format=yuv420p", "-filter_threads", "1")

TASKS: Final[dict[str, tuple[str, ...]]] = {
    "decode": (),
    "passthrough": (*ENCODE, *ONE_THREAD),
    "tint": (*ROUND_TRIP, *ENCODE, *ONE_THREAD),
}
"""What ffmpeg does beside each of ours: decode; decode and encode; the same with the picture in RGB between."""


@frozen
class Ffmpeg:
    """The program. ``path`` None: there is none that works, and ``version`` says why."""

    path: str | None
    version: str

    async def theirs(self, task: str, footage: Path, pictures: int) -> Theirs:
        """What it takes for a picture, in one go and at the pictures' pace: as long as they last."""
        flat = await self.cpu_ms(task, footage, pictures)
        return Theirs(flat, await self.cpu_ms(task, footage, pictures, PACED))

    async def cpu_ms(
        self, task: str, footage: Path, pictures: int, pace: tuple[str, ...] = ()
    ) -> float | None:
        """CPU milliseconds that it takes for a picture; None where it cannot do that.

        What it needs to begin is left out: that is what the first picture costs. Cancelling ends it.
        """
        if self.path is None:
            return None
        whole = await self._cpu(task, footage, pictures, pace)
        first = await self._cpu(task, footage, 1, pace)
        if whole is None or first is None or pictures < 2:
            return None
        return 1000 * (whole - first) / (pictures - 1)

    async def _cpu(
        self, task: str, footage: Path, pictures: int, pace: tuple[str, ...]
    ) -> float | None:
        assert self.path is not None  # noqa: S101 - seen by the caller
        reading = (*ONE_THREAD, *pace, "-i", str(footage), "-an", "-frames:v", str(pictures))
        command = [self.path, "-nostdin", "-v", "error", *reading, *TASKS[task], "-f", "null", "-"]
        before = _cpu_of_children()
        done = await trio.run_process(
            command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        return _cpu_of_children() - before if done.returncode == 0 else None


async def find_ffmpeg() -> Ffmpeg:
    """Look for it on the path, and ask for its version."""
    path = shutil.which("ffmpeg")
    if path is None:
        return Ffmpeg(None, "not installed")
    try:
        done = await trio.run_process(
            [path, "-version"], capture_stdout=True, stderr=subprocess.DEVNULL
        )
    except (OSError, subprocess.CalledProcessError) as error:
        return Ffmpeg(None, f"does not run: {error}")
    words = done.stdout.decode(errors="replace").split()
    return Ffmpeg(path, words[2] if len(words) > 2 else "of an unknown version")


def _cpu_of_children() -> float:
    """CPU seconds of all children that have ended. While one is waited for, no other one ends."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


async def time_decoding(pictures: list[AccessUnit]) -> Turn:
    """What our decoder takes for a picture, on a thread; cannot be cancelled, but is short."""
    cpu, wall = await trio.to_thread.run_sync(_decode, pictures)
    return Turn(cpu, wall, None)


def _decode(pictures: list[AccessUnit]) -> tuple[float, float]:
    """The first one opens the decoder, which is left out here as it is of ffmpeg."""
    decoder = VideoDecoder(pictures[0].stream.codec)
    decoder.decode(pictures[0])
    cpu, wall = time.thread_time(), time.perf_counter()
    for picture in pictures[1:]:
        decoder.decode(picture)
    cpu, wall = time.thread_time() - cpu, time.perf_counter() - wall
    decoder.close()
    count = max(1, len(pictures) - 1)
    return 1000 * cpu / count, 1000 * wall / count
