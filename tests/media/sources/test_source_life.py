"""The life of a source: who may do what when, and who cleans up."""

from __future__ import annotations

import threading

import pytest

from trickle_core.mpegts import AccessUnit, Codec, ElementaryStream
from trickle_trio.media.sources import SourceError
from trickle_trio.media.sources.base import BlockingSource, SourceState

STREAM = ElementaryStream(256, Codec.H264)
UNIT = AccessUnit(STREAM, b"", 0, 0)


class Recorder(BlockingSource):
    """A source that waits where it is told to, and writes down what is asked of it."""

    def __init__(self, *, fails: bool = False) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.fails = fails
        self.waits = False
        self.waiting = threading.Event()
        self.go_on = threading.Event()

    @property
    def streams(self) -> tuple[ElementaryStream, ...]:
        return (STREAM,)

    def _open(self) -> None:
        self._act("open")

    def _read(self) -> list[AccessUnit]:
        self._act("read")
        return [UNIT]

    def _interrupt(self) -> None:
        self.calls.append("interrupt")
        self.go_on.set()

    def _release(self) -> None:
        self.calls.append("release")

    def _act(self, name: str) -> None:
        self.calls.append(name)
        if self.fails:
            raise SourceError("as told")
        if self.waits:
            self.waiting.set()
            self.go_on.wait()
            self.calls.append("leaves" if self._is_leaving else "stays")


def test_an_ordinary_life() -> None:
    source = Recorder()
    with source as opened:
        assert opened.read() == [UNIT]
    assert source.calls == ["open", "read", "release"]
    assert source.read() == []
    source.close()
    assert source.calls == ["open", "read", "release"]


def test_it_is_opened_once_and_before_it_is_read() -> None:
    source = Recorder()
    with pytest.raises(RuntimeError, match="NEW"):
        source.read()
    with source, pytest.raises(RuntimeError, match="READY"):
        source.open()


def test_closed_before_it_was_opened() -> None:
    source = Recorder()
    source.close()
    with pytest.raises(SourceError, match="closed"):
        source.open()
    assert source.calls == []


def test_a_failure_cleans_up() -> None:
    source = Recorder(fails=True)
    with pytest.raises(SourceError):
        source.open()
    assert source.calls == ["open", "release"]
    opened = Recorder()
    opened.open()
    opened.fails = True
    with pytest.raises(SourceError):
        opened.read()
    assert opened.calls == ["open", "read", "release"]
    assert opened.read() == []


@pytest.mark.parametrize("busy", ["open", "read"])
def test_closed_while_it_is_busy(busy: str) -> None:
    source = Recorder()
    if busy == "read":
        source.open()
    source.waits = True
    thread = threading.Thread(target=getattr(source, busy))
    thread.start()
    source.waiting.wait()
    with pytest.raises(RuntimeError, match="BUSY"):
        source.read()
    source.close()
    source.close()
    thread.join()
    assert source.calls[-4:] == [busy, "interrupt", "leaves", "release"]
    assert source._state is SourceState.CLOSED
