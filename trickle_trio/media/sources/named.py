"""Sources by the names that the command line has for them."""

from __future__ import annotations

import sys
from typing import Final

from trickle_trio.media.sources.base import Source, SourceError
from trickle_trio.media.sources.file import FileSource
from trickle_trio.media.sources.pipe import PipeSource
from trickle_trio.media.sources.testsource import TestSource
from trickle_trio.media.sources.tracks import TrackSettings

TEST: Final = "testsrc"
STANDARD_INPUT: Final = "-"


def source_named(
    name: str, *, loop: bool = False, transcode: bool = False, gop_seconds: float = 2.0
) -> Source:
    """Make the source of this name: "testsrc", "-" for standard input, else a file or an address.

    It is not opened yet. ``SourceError``: standard input cannot be looped.
    """
    if name == TEST:
        return TestSource(gop_seconds=gop_seconds)
    if name != STANDARD_INPUT:
        return FileSource(name, loop=loop, transcode=transcode, gop_seconds=gop_seconds)
    if loop:
        raise SourceError("standard input cannot be looped: what came is gone")
    tracks = TrackSettings(transcode=transcode, gop_seconds=gop_seconds)
    return PipeSource(sys.stdin.buffer, tracks=tracks)
