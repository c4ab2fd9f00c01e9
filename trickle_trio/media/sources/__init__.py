"""What can be published: files and addresses, a pipe, a test picture.

What may come in: bytes of any container and codec that libav reads. What goes out: access units that
a transport stream carries, in the order to write them. Everything here blocks; nothing knows Trio.
"""

from __future__ import annotations

from trickle_trio.media.sources.base import Source, SourceError
from trickle_trio.media.sources.file import FileSource
from trickle_trio.media.sources.named import source_named
from trickle_trio.media.sources.pipe import PipeSource
from trickle_trio.media.sources.testsource import TestSource
from trickle_trio.media.sources.tracks import TrackSettings

__all__ = [
    "FileSource",
    "PipeSource",
    "Source",
    "SourceError",
    "TestSource",
    "TrackSettings",
    "source_named",
]
