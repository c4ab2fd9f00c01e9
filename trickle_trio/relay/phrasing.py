"""Answers as HTTP/1.1 on the wire: heads by h11, bodies of segments framed around shared memory."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import h11

from trickle_core.answer import CLOSE, Answer, Head, Headers
from trickle_core.window.segment import Buffer

REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus}


class Phrasing:
    """Puts answers into words, for the client at hand: HTTP/1.0 knows neither chunks nor 1xx."""

    def __init__(self, http: h11.Connection, is_last: Callable[[], bool]) -> None:
        self._http = http
        self._is_last = is_last
        self._asked_without_body = False

    def asked(self, request: h11.Request) -> None:
        """What is answered from now on."""
        self._asked_without_body = request.method == b"HEAD"

    def answer(self, answer: Answer) -> list[Buffer]:
        """A whole answer."""
        length = (("content-length", str(len(answer.body))),)
        words: list[Buffer] = [self._response(answer.status, (*answer.headers, *length))]
        if answer.body and not self._asked_without_body:
            words.append(self._http.send(h11.Data(data=answer.body)))
        words.append(self.end())
        return words

    def head(self, head: Head, *, empty: bool) -> bytes:
        """The head of a segment. Without a length, h11 chunks the body, or lets it end with the
        connection for HTTP/1.0.
        """
        length: Headers = (("content-length", "0"),) if empty else ()
        return self._response(head.status, (*head.headers, *length))

    def body(self, pieces: list[Buffer]) -> list[Buffer]:
        """Pieces of a segment, as one chunk. Past h11, whose state is none the wiser: a chunked
        body has no count that it would have to keep.
        """
        if not self._speaks_1_1():
            return pieces
        return [b"%x\r\n" % sum(map(len, pieces)), *pieces, b"\r\n"]

    def end(self) -> bytes:
        """The end of an answer. Another's may follow to what is no request at all: it has a body."""
        self._asked_without_body = False
        return self._http.send(h11.EndOfMessage())

    def go_on(self) -> list[Buffer]:
        """A ``100 Continue``, as often as wanted."""
        if not self._speaks_1_1():
            return []
        told = h11.InformationalResponse(status_code=100, headers=[], reason=REASONS[100])
        return [self._http.send(told)]

    def _response(self, status: int, headers: Headers) -> bytes:
        if self._is_last() and CLOSE[0] not in headers:
            headers = (*headers, *CLOSE)
        reason = REASONS.get(status, b"")
        return self._http.send(
            h11.Response(status_code=status, headers=list(headers), reason=reason)
        )

    def _speaks_1_1(self) -> bool:
        return (self._http.their_http_version or b"1.0") >= b"1.1"
