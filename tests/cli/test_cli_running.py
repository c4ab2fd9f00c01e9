"""The commands at work, each in a process of its own as users run them."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import av
import httpx
import pytest
from click.testing import CliRunner

from trickle_core import wire
from trickle_trio.cli.main import root

TINT = Path(__file__).parents[2] / "examples" / "tint.py"

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts ``trickle ...``; whatever still runs at the end of the test is ended."""
    with ExitStack() as stack:

        def start(*arguments: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-m", "trickle_trio.cli", *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


def address(process: subprocess.Popen[str]) -> str:
    """The address at the end of the first line that a server prints."""
    assert process.stdout is not None
    return process.stdout.readline().split()[-1]


def stop(process: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str]:
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    return process.returncode, errors


def start_reading(url: str) -> subprocess.Popen[bytes]:
    """``trickle subscribe``, once the channel is there."""
    while httpx.get(f"{url}/next").status_code == 404:
        pass
    return subprocess.Popen(
        [sys.executable, "-m", "trickle_trio.cli", "subscribe", url], stdout=subprocess.PIPE
    )


def stream(*arguments: str) -> dict[str, object]:
    result = CliRunner().invoke(root, ["stream", *arguments])
    assert result.exit_code == 0, result.output
    answer = json.loads(result.output)
    assert isinstance(answer, dict)
    return answer


def test_the_demo_shows_frames_and_ends_by_itself(start: Start) -> None:
    demo = start("demo", "--seconds", "4", "--json", "--port", "0", "--relay-port", "0")
    output, errors = demo.communicate(timeout=60)
    assert demo.returncode == 0, errors
    summary = json.loads(output)
    assert summary["frames_out"] > 30
    assert summary["frames_in"] >= summary["frames_out"]
    assert summary["latency_ms_p50"] <= summary["latency_ms_p99"]
    assert isinstance(summary["dropped"], int)
    assert "the dashboard is at http://127.0.0.1:" in errors


def test_the_demo_counts_what_went_wrong(start: Start, tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text("def fail(frame):\n    return 1 / 0\n")
    shown = ("--processor", f"{app}:fail", "--seconds", "3")
    demo = start("demo", *shown, "--port", "0", "--relay-port", "0")
    output, errors = demo.communicate(timeout=60)
    assert demo.returncode == 0, errors
    assert re.search(r" dropped, [1-9][0-9]* errors$", output.strip())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_ends_on_a_signal_without_a_word(start: Start, number: signal.Signals) -> None:
    demo = start("demo", "--port", "0", "--relay-port", "0")
    assert address(demo) == "it)"
    assert stop(demo, number) == (0, "")


def test_the_demo_sums_up_at_ctrl_c_also_at_one_more(start: Start) -> None:
    demo = start("demo", "--port", "0", "--relay-port", "0", "--json")
    assert demo.stderr is not None
    assert demo.stderr.readline().endswith("it)\n")
    while not demo.stderr.readline().split()[0].isdigit():
        pass  # no frames yet
    demo.send_signal(signal.SIGINT)
    demo.send_signal(signal.SIGINT)
    output, errors = demo.communicate(timeout=30)
    assert demo.returncode == 0
    assert json.loads(output)["frames_out"] > 0
    assert "Aborted" not in errors


def test_a_stream_through_four_commands(start: Start, tmp_path: Path) -> None:
    """Relay, publish, serve, subscribe: what the README tells, and what comes out plays."""
    relay = start("relay", "--port", "0")
    base = address(relay)
    service = start("serve", f"{TINT}:tint", "--port", "0")
    api = address(service)
    publisher = start("publish", "testsrc", f"{base}/in", "--segment-seconds", "0.5")
    output = tmp_path / "out.ts"
    urls = ["--subscribe-url", f"{base}/in", "--publish-url", f"{base}/out"]
    started = stream(
        "start", "--api", api, *urls, "--request-id", "mine", "--param", "max_framerate=30"
    )
    assert started["request_id"] == "mine"
    watched = start_reading(f"{base}/out")
    with watched:
        assert watched.stdout is not None
        data = watched.stdout.read(300_000)
        watched.terminate()
        watched.stdout.read()
    assert watched.returncode == 0
    output.write_bytes(data)
    assert stream("status", "--api", api)["client_running"] is True
    another = ["--api", api, "--request-id", "another"]
    for arguments in (
        ["stop", *another],
        ["params", *another, "--param", "a=1"],
        ["status", *another],
    ):
        refused = CliRunner().invoke(root, ["stream", *arguments])
        assert refused.exit_code == 1
        assert "No active stream 'another'" in refused.output
    named = ["--api", api, "--request-id", "mine"]
    assert stream("params", *named, "--param", "a=1")["request_id"] == "mine"
    assert stream("status", *named)["request_id"] == "mine"
    assert stream("stop", *named)["status"] == "success"
    for process in (publisher, service, relay):
        assert stop(process, signal.SIGINT)[0] == 0
    with av.open(io.BytesIO(data), "r", format="mpegts") as container:
        times = [frame.pts or 0 for frame in container.decode(video=0)]
    assert len(times) > 10
    assert times == sorted(set(times))


def test_who_reads_ends_with_who_publishes(start: Start) -> None:
    base = address(start("relay", "--port", "0"))
    publisher = start("publish", "testsrc", f"{base}/in", "--segment-seconds", "0.5")
    reader = start_reading(f"{base}/in")
    with reader:
        assert reader.stdout is not None
        assert reader.stdout.read(10_000)
        assert stop(publisher, signal.SIGINT)[0] == 0
        reader.stdout.read()
        assert reader.wait(timeout=20) == 0


def test_a_relay_that_asks_for_a_token_is_shown_it(start: Start) -> None:
    base = address(start("relay", "--port", "0", "--token", "ours"))
    start("publish", "testsrc", f"{base}/in", "--segment-seconds", "0.5", "--token", "ours")
    stranger = start("subscribe", f"{base}/in")
    assert stranger.wait(timeout=20) == 1
    assert stranger.stderr is not None
    said = stranger.stderr.read()
    assert "the server refuses (status 401): it asks for a bearer token" in said
    while httpx.get(f"{base}/in/next", headers={"Authorization": "Bearer ours"}).is_error:
        pass
    command = [sys.executable, "-m", "trickle_trio.cli", "subscribe", f"{base}/in"]
    known = {**os.environ, "TRICKLE_RELAY_TOKEN": "ours"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=known) as reader:
        assert reader.stdout is not None
        assert len(reader.stdout.read(10_000)) == 10_000
        reader.terminate()
        reader.stdout.read()


def test_a_service_shows_a_relay_its_token(start: Start) -> None:
    base = address(start("relay", "--port", "0", "--token", "ours"))
    start("publish", "testsrc", f"{base}/in", "--segment-seconds", "0.5", "--token", "ours")
    ours = ("--relay-token", f"{base}=ours", "--relay-token", "http://another:1=theirs")
    api = address(start("serve", f"{TINT}:tint", "--port", "0", *ours))
    channels = ("--subscribe-url", f"{base}/in", "--publish-url", f"{base}/out")
    assert stream("start", "--api", api, *channels)["status"] == "success"
    command = [sys.executable, "-m", "trickle_trio.cli", "subscribe", f"{base}/out"]
    with subprocess.Popen([*command, "--token", "ours"], stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        assert len(reader.stdout.read(10_000)) == 10_000
        reader.terminate()
        reader.stdout.read()


def test_a_channel_can_be_kept_for_another_publisher(start: Start) -> None:
    base = address(start("relay", "--port", "0"))
    publisher = start("publish", "testsrc", f"{base}/in", "--segment-seconds", "0.5", "--keep")
    reader = start_reading(f"{base}/in")
    with reader:
        assert reader.stdout is not None
        assert reader.stdout.read(10_000)
        assert stop(publisher, signal.SIGINT)[0] == 0
        answer = httpx.get(f"{base}/in/next")
        assert answer.status_code == 200
        assert wire.CLOSED not in answer.headers
        reader.terminate()
        reader.stdout.read()
    assert reader.returncode == 0


def test_an_unknown_channel_is_said_and_costs_no_file(start: Start, tmp_path: Path) -> None:
    relay, kept = start("relay", "--port", "0"), tmp_path / "kept.ts"
    kept.write_text("precious")
    command = ["subscribe", f"{address(relay)}/nothing", "--output", str(kept)]
    result = CliRunner().invoke(root, command)
    assert result.exit_code == 1
    assert "there is no such channel" in result.output
    assert kept.read_text() == "precious"


def test_what_the_service_refuses_is_said(start: Start) -> None:
    api = address(start("serve", f"{TINT}:tint", "--port", "0"))
    for arguments, says in (
        (["stop"], "No active stream"),
        (["params", "--param", "a=1"], "No active stream"),
        (["start", "--subscribe-url", "ftp://x"], "subscribe_url"),
        (["start", "--param", "width=12"], "height"),
    ):
        result = CliRunner().invoke(root, ["stream", *arguments, "--api", api])
        assert result.exit_code == 1
        assert says in result.output


def test_a_service_with_a_token_is_asked_with_it(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = start("serve", f"{TINT}:tint", "--port", "0", "--token", "a/b", "--max-streams", "2")
    page = address(service)
    api, _, fragment = page.partition("/#")
    assert fragment == "token=a%2Fb"
    for options, reason in (([], "missing"), (["--token", "x"], "wrong")):
        result = CliRunner().invoke(root, ["stream", "list", "--api", api, *options])
        assert result.exit_code == 1
        assert result.output.strip() == f"Error: the bearer token is {reason}"
    assert stream("list", "--api", f"{api}/", "--token", "a/b")["max_streams"] == 2
    monkeypatch.setenv("TRICKLE_TOKEN", "a/b")
    assert stream("list", "--api", api)["streams"] == []


def test_an_app_is_served_with_its_routes(start: Start, tmp_path: Path) -> None:
    program = tmp_path / "mine.py"
    program.write_text(
        "from trickle_trio import create_app\n"
        "app = create_app(lambda frame: frame, token='t')\n"
        "@app.get('/mine')\n"
        "async def mine():\n"
        "    return {'mine': True}\n"
    )
    page = address(start("serve", f"{program}:app", "--port", "0"))
    api, _, fragment = page.partition("/#")
    assert fragment == "token=t"
    answer = httpx.get(f"{api}/mine", headers={"Authorization": "Bearer t"})
    assert answer.json() == {"mine": True}
    result = CliRunner().invoke(root, ["serve", f"{program}:app", "--max-streams", "2"])
    assert (result.exit_code, "--max-streams is for a processor" in result.output) == (2, True)
