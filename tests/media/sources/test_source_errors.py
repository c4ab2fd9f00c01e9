"""What cannot be read is told in one line, by the name that the user gave."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from trickle_core.mpegts import Codec
from trickle_trio.media.sources import FileSource, SourceError, TestSource, source_named
from trickle_trio.media.sources.address import Address
from trickle_trio.media.sources.pipe import PipeSource


def fault(address: str | Path, **options: Any) -> str:
    with pytest.raises(SourceError) as caught, FileSource(str(address), **options):
        pass
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_no_such_file(tmp_path: Path) -> None:
    assert fault(tmp_path / "a.mp4") == f"{tmp_path}/a.mp4: no such file"


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    assert fault(tmp_path / "a.mp4").endswith("a.mp4: the file is empty")


def test_a_directory(tmp_path: Path) -> None:
    assert fault(tmp_path).endswith("is a directory, not a video")


@pytest.mark.parametrize("name", ["notes.txt", "notes.md", "video.mp4"])
def test_a_text(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("There is no picture in here.\n" * 50)
    text = fault(tmp_path / name)
    assert text.endswith(("not a video", "is no video or sound that can be read"))


def test_a_single_picture(clips: Any) -> None:
    path = clips.make("a.jpg", video="mjpeg", audio=None, pictures=1, form="image2")
    assert fault(path).endswith("is a text or a single picture, not a video")


def test_subtitles(tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nHello\n\n")
    assert fault(tmp_path / "a.srt").endswith("holds neither picture nor sound")


def test_a_clip_whose_tables_are_missing(clips: Any) -> None:
    path = clips.make("a.mp4")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])  # they stand at the end
    assert fault(path).endswith("is no video or sound that can be read")


def test_a_name_that_looks_like_a_protocol(clips: Any, publish: Any) -> None:
    path = clips.make("take 1: water.mp4", pictures=5)
    assert len(publish(FileSource(str(path))).pictures) == 5
    assert fault("water: take 2.mp4") == "water: take 2.mp4: no such file"


def test_an_unknown_protocol() -> None:
    assert fault("gopher7://host/a") == "gopher7://host/a: gopher7:// is not supported"


@pytest.mark.parametrize("scheme", ["http", "rtsp", "rtmp"])
def test_nobody_listens(scheme: str, unused_port: int) -> None:
    address = f"{scheme}://127.0.0.1:{unused_port}/live/a"
    assert fault(address) == f"{address}: cannot be reached: the connection was refused"


def test_an_unknown_host() -> None:
    assert fault("http://no-such-host.invalid/a.mp4").endswith("a.mp4: cannot be reached")


def test_a_password_is_not_shown(unused_port: int) -> None:
    text = fault(f"rtsp://me:secret@127.0.0.1:{unused_port}/cam")
    assert text.startswith(f"rtsp://me:***@127.0.0.1:{unused_port}/cam: ")
    assert Address("notes/me:secret@home.mp4").shown == "notes/me:secret@home.mp4"


def test_a_server_that_is_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        text = fault(f"http://127.0.0.1:{port}/a.mp4", timeout=0.1)
    assert text.endswith("/a.mp4: no answer within 0.1 s")


class Site(BaseHTTPRequestHandler):
    """Serves ``body``; of an address that ends with "stalls" half of it, and then nothing."""

    body = b""
    hold = threading.Event()

    def do_GET(self) -> None:
        if self.path.endswith("missing.mp4"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        if not self.path.endswith("stalls"):
            self.wfile.write(self.body)
            return
        self.wfile.write(self.body[: len(self.body) // 2])
        self.hold.wait(10)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
        pass


@contextmanager
def website(body: bytes) -> Iterator[str]:
    hold = threading.Event()
    handler = type("Handler", (Site,), {"body": body, "hold": hold})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            hold.set()
            server.shutdown()
            thread.join()


def test_by_http(clips: Any, publish: Any) -> None:
    with website(clips.make("a.ts", bframes=2).read_bytes()) as site:
        published = publish(FileSource(f"{site}/a.ts"))
        assert published.codecs == [Codec.H264, Codec.AAC]
        assert len(published.played().pictures) == 60
        assert "404" in fault(f"{site}/missing.mp4")


def test_an_address_that_goes_silent(clips: Any) -> None:
    body = clips.make("a.ts", pictures=300, audio=None, gop=1).read_bytes()
    with (
        website(body) as site,
        FileSource(f"{site}/stalls", timeout=0.1) as source,
        pytest.raises(SourceError, match=r"stalls: reading broke off: nothing came for 0\.1 s"),
    ):
        while source.read():
            pass


def test_who_pushes_keeps_the_time() -> None:
    assert FileSource("rtsp://camera/1").keeps_time
    assert FileSource("rtmp://host/live/1").keeps_time
    assert not FileSource("https://host/live.m3u8").keeps_time
    assert not FileSource("clip.mp4").keeps_time
    assert not TestSource().keeps_time


def test_names_of_the_command_line(capsysbinary: Any) -> None:
    assert isinstance(source_named("testsrc"), TestSource)
    assert isinstance(source_named("-"), PipeSource)
    assert isinstance(source_named("clip.mp4", loop=True), FileSource)
    with pytest.raises(SourceError, match="standard input cannot be looped"):
        source_named("-", loop=True)
