"""Addresses of what is to be read, and what libav says about them, in words for who typed them."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import av
from attrs import frozen
from av.container import InputContainer

from trickle_trio.media.sources.base import SourceError

_URL: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
_PASSWORD: Final = re.compile(r"(://[^/@:]*):[^/@]*@")

SELF_PACED: Final = frozenset(
    {"rtsp", "rtsps", "rtmp", "rtmps", "rtmpt", "rtp", "udp", "srt", "tcp"}
)
"""Protocols by which a live source pushes. What comes by HTTP is fetched: HLS brings seconds at once."""

_OPTIONS: Final = {"rtsp": {"rtsp_flags": "prefer_tcp"}, "rtsps": {"rtsp_flags": "prefer_tcp"}}
"""libav asks for UDP first, and on most ways loses packets of key frames."""

NO_MEDIA: Final = re.compile(r"tty|image2.*|.*_pipe")
"""Formats as which libav opens texts and single pictures."""


@frozen
class Address:
    """A path, or an address with a scheme."""

    text: str

    @property
    def scheme(self) -> str:
        """In lower case; "file" for a path."""
        return urlsplit(self.text).scheme.lower() if _URL.match(self.text) else "file"

    @property
    def shown(self) -> str:
        """As it may be shown: without a password."""
        return _PASSWORD.sub(r"\1:***@", self.text) if _URL.match(self.text) else self.text

    def connect(self, timeout: float) -> InputContainer:
        """Open it with libav. Blocks, on a network up to ``timeout`` seconds a step.

        ``SourceError`` says in one line what is wrong with it. What is read later may wait as long,
        then libav gives up with ``av.error.ExitError``.
        """
        if self.scheme == "file":
            self._check_path()
        # A path may look to libav like a protocol of its own: "take 1: water.mp4".
        name = self.text if _URL.match(self.text) else f"file:{self.text}"
        try:
            container = av.open(name, options=_OPTIONS.get(self.scheme, {}), timeout=timeout)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise SourceError(f"{self.shown}: {self.explain(error, timeout)}") from error
        return checked(container, self.shown)

    def _check_path(self) -> None:
        """Say what libav would call invalid data."""
        path = Path(self.text.removeprefix("file://"))
        if path.is_file() and path.stat().st_size == 0:
            raise SourceError(f"{self.shown}: the file is empty")
        if path.is_dir():
            raise SourceError(f"{self.shown}: is a directory, not a video")

    def explain(self, error: Exception, timeout: float) -> str:
        """Word what libav raised at opening, for the end of a sentence that begins with the address."""
        match error:
            case av.error.ProtocolNotFoundError():
                return f"{self.scheme}:// is not supported"
            case av.error.ExitError() | TimeoutError():
                return f"no answer within {timeout:g} s"
            case ConnectionRefusedError():
                return "cannot be reached: the connection was refused"
            case OSError(errno=errno.EIO) if self.scheme != "file":  # what an unknown host is, too
                return "cannot be reached"
        return explain(error)

    def explain_end(self, error: Exception, timeout: float) -> str:
        """Word what libav raised at reading."""
        match error:
            case av.error.ExitError() | TimeoutError():
                return f"nothing came for {timeout:g} s"
            case OSError() if self.scheme != "file":
                return "the connection was lost"
        return explain(error)


def explain(error: Exception) -> str:
    """Word what libav raised about any input."""
    match error:
        case FileNotFoundError():
            return "no such file"
        case PermissionError():
            return "may not be read (permission denied)"
        case av.error.InvalidDataError():
            return "is no video or sound that can be read"
    return getattr(error, "strerror", None) or str(error)


def checked(container: InputContainer, shown: str) -> InputContainer:
    """Refuse what libav opens and nobody would call a video."""
    if NO_MEDIA.fullmatch(container.format.name):
        container.close()
        raise SourceError(f"{shown}: is a text or a single picture, not a video")
    return container
