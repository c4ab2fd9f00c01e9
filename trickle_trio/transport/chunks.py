"""A chunked body as servers send it, taken apart (RFC 9112, section 7.1).

h11 can do all of it, and needs sixty calls a chunk for that, on a line that gets fifty chunks a
second. So what is plain is read here: a size, data, and again. Whatever else comes, an extension, the
last chunk with its trailers, or garbage, is left to h11, which has not seen any of the body until then.
"""

from __future__ import annotations

import re
from typing import Final

import h11

_CRLF: Final = b"\r\n"

_SIZE: Final = re.compile(rb"[1-9a-fA-F][0-9a-fA-F]{0,6}")
"""Below 256 MiB. Zero is the last chunk, and its trailers are h11's."""

_LONGEST: Final = 7 + len(_CRLF)


class PlainChunks:
    """Bytes in, pieces of the body out; each chunk by itself, none held back."""

    def __init__(self) -> None:
        self.is_over = False
        """What comes next is not plain: ``rest`` is to be read by somebody else."""
        self._data = b""
        self._at = 0
        self._left = 0
        """Bytes of the present chunk that are still to come, with the CRLF behind it."""

    @property
    def rest(self) -> bytes:
        """What has not been taken apart."""
        return self._data[self._at :]

    def feed(self, data: bytes) -> None:
        """Take in what has come."""
        self._data, self._at = self.rest + data, 0

    def piece(self) -> bytes:
        """The next piece of the body; empty: there is none yet, or ``is_over``.

        ``h11.RemoteProtocolError``: a chunk does not end where it should.
        """
        if self._at == len(self._data):
            return b""
        if self._left <= len(_CRLF) and not self._next_chunk():
            return b""
        begin, self._at = self._at, min(self._at + self._left - len(_CRLF), len(self._data))
        self._left -= self._at - begin
        piece = self._data[begin : self._at]
        if self._left == len(_CRLF) and self._data.startswith(_CRLF, self._at):
            self._at, self._left = self._at + len(_CRLF), 0
        return piece

    def _next_chunk(self) -> bool:
        """Go from the end of one chunk to the data of the next; False: not all of that is there."""
        if self._left and not self._end_chunk():
            return False
        end = self._data.find(_CRLF, self._at, self._at + _LONGEST)
        if end < 0:
            self.is_over = len(self._data) - self._at >= _LONGEST
            return False
        size = self._data[self._at : end]
        if not _SIZE.fullmatch(size):
            self.is_over = True
            return False
        self._at, self._left = end + len(_CRLF), int(size, 16) + len(_CRLF)
        return True

    def _end_chunk(self) -> bool:
        tail = self._data[self._at : self._at + self._left]
        if not _CRLF[len(_CRLF) - self._left :].startswith(tail):
            raise h11.RemoteProtocolError("a chunk is longer than it says")
        self._at += len(tail)
        self._left -= len(tail)
        return not self._left
