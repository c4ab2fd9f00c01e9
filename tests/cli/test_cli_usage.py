"""What the command line says to bad input: one clear line, and the right exit code."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from trickle_trio.cli.coding import coding, coding_options
from trickle_trio.cli.main import COMMANDS, root
from trickle_trio.cli.stream import _param
from trickle_trio.cli.targets import load_target
from trickle_trio.media.encode import AudioEncoderSettings, VideoEncoderSettings
from trickle_trio.media.fit import Fit
from trickle_trio.service import create_app
from trickle_trio.stream.settings import Pace, StreamPolicy

CHANNEL = "http://127.0.0.1:1/a"
HERE = f"{__file__}:passthrough"


def trickle(*arguments: str) -> Result:
    return CliRunner().invoke(root, arguments)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command: str) -> None:
    result = trickle(command, "--help")
    assert result.exit_code == 0
    assert f"Usage: root {command}" in result.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing"], "No such command"),
        (["subscribe", "hello"], "'hello' is no channel address"),
        (["publish", "testsrc", "http://"], "'http://' is no channel address"),
        (["subscribe", CHANNEL, "--from", "later"], "neither live, next nor a sequence number"),
        (["subscribe", CHANNEL, "--from", "-3"], "neither live, next nor a sequence number"),
        (["serve", "app.py"], "path/app.py:name is expected"),
        (["serve", ":name"], "path/app.py:name is expected"),
        (["serve", "no_file.py:name"], "no_file.py: no such file"),
        (["serve", "no.module:name"], "there is no module 'no.module'"),
        (["serve", "math:nothing"], "math has no 'nothing'"),
        (["serve", "math:pi"], "got 3.14"),
        (["serve", HERE, "--encoder", "mpeg9"], "'mpeg9' is no encoder that is here"),
        (["serve", HERE, "--audio-encoder", "mp3"], "is no encoder"),
        (["serve", HERE, "--encoder-option", "preset"], "expected KEY=VALUE, got 'preset'"),
        (["serve", HERE, "--encoder-option", "presett=1"], "libx264 has no option presett"),
        (["serve", HERE, "--pace", "slow"], "'slow' is not one of"),
        (["serve", HERE, "--segment-seconds", "0"], "is not in the range"),
        (["relay", "--port", "70000"], "70000 is not in the range"),
        (["relay", "--window", "0"], "0 is not in the range"),
        (["relay", "--token", "a b"], "token: expected"),
        (["subscribe", CHANNEL, "--token", "a b"], "token: expected"),
        (["serve", HERE, "--relay-token", "http://r"], "RELAY=TOKEN is expected"),
        (["serve", HERE, "--relay-token", "r=t"], "'r' is no relay"),
        (["serve", HERE, "--relay-token", "http://r=a b"], "token: expected"),
        (["relay", "--idle-timeout", "nan"], "--idle-timeout"),
        (["publish", "testsrc", CHANNEL, "--segment-seconds", "nan"], "'nan' is no number"),
        (["demo", "--seconds", "nan"], "'nan' is no number"),
        (["bench", "--seconds", "nan"], "'nan' is no number"),
        (["stream", "start", "--param", "x"], "key=value is expected"),
        (["stream", "start", "--param", "x=\udcff"], "--param"),
        (["stream", "start", "--request-id", "\udcff"], "--request-id"),
        (["stream", "status", "--api", "here"], "here"),
        (["stream", "status", "--api", "http://xn--/"], "--api"),
        (["stream", "status", "--token", "é"], "--token"),
        (["serve", HERE, "--token", "a b"], "token: expected"),
        (["serve", HERE, "--allow-origin", "example.org"], "allow_origins"),
        (["bench", "--size", "720"], "expected a size as 720p"),
        (["bench", "--size", "360p,"], "'': expected a size as 720p"),
        (["bench", "--seconds", "0"], "is not in the range"),
        (["bench", "--input", "no_file.mp4"], "no_file.mp4: no such file"),
        (["demo", "--seconds", "0"], "0.0 is not in the range"),
    ],
)
def test_bad_usage_is_said_and_is_code_2(arguments: list[str], says: str) -> None:
    result = trickle(*arguments)
    assert result.exit_code == 2
    assert says in result.output
    assert "Traceback" not in result.output


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def test_how_streams_are_coded_reaches_the_service() -> None:
    arguments = (
        "--encoder libx265 --bit-rate 900000 --encoder-option preset=fast --audio-encoder libopus "
        "--audio-bit-rate 64000 --pace every-frame --segment-seconds 1 --fit contain --audio-track 1"
    )
    given = click.command()(coding_options(lambda **chosen: chosen)).main(
        arguments.split(), standalone_mode=False
    )
    assert coding(given) == {
        "policy": StreamPolicy(
            pace=Pace.EVERY_FRAME, segment_seconds=1, fit=Fit.CONTAIN, audio_track=1
        ),
        "video": VideoEncoderSettings(
            codec="libx265", bit_rate=900_000, options={"preset": "fast"}
        ),
        "audio": AudioEncoderSettings(codec="libopus", bit_rate=64_000),
    }
    nothing = click.command()(coding_options(lambda **chosen: chosen)).main(
        [], standalone_mode=False
    )
    assert coding(nothing) == {
        "policy": StreamPolicy(),
        "video": VideoEncoderSettings(),
        "audio": AudioEncoderSettings(),
    }


def test_a_port_in_use(busy_port: int) -> None:
    for arguments in (
        ["relay", "--port", str(busy_port)],
        ["serve", HERE, "--port", str(busy_port)],
        ["demo", "--relay-port", str(busy_port), "--port", "0"],
        ["demo", "--relay-port", "0", "--port", str(busy_port)],
    ):
        result = trickle(*arguments)
        assert result.exit_code == 1
        assert f"cannot listen on 127.0.0.1:{busy_port}" in result.output
        assert "Traceback" not in result.output


def passthrough(frame: object) -> object:
    return frame


app = create_app(passthrough)


@pytest.mark.parametrize(
    ("options", "token", "says"),
    [
        (["--token", "t"], None, "--token is for a processor; an app says it by itself"),
        ([], "t", "TRICKLE_TOKEN is for a processor; an app says it by itself"),
        (["--allow-origin", "*"], None, "--allow-origin is for a processor"),
        (["--relay-token", "http://r=t"], None, "--relay-token is for a processor"),
    ],
)
def test_an_app_is_not_told_what_it_has_been_told(
    options: list[str], token: str | None, says: str
) -> None:
    """Least of all silently: whoever sets TRICKLE_TOKEN takes the service for guarded."""
    result = CliRunner().invoke(
        root, ["serve", f"{__file__}:app", *options], env={"TRICKLE_TOKEN": token}
    )
    assert result.exit_code == 2
    assert says in result.output


@pytest.mark.parametrize(
    ("source", "says"),
    [("nothing.mp4", "no such file"), ("text.txt", "no video or sound"), (".", "is a directory")],
)
def test_a_source_that_is_none(
    source: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("hello")
    for arguments in (
        ["publish", source, CHANNEL],
        ["demo", "--input", source, "--port", "0", "--relay-port", "0"],
    ):
        result = trickle(*arguments)
        assert result.exit_code == 1
        assert f"{source}: " in result.output
        assert says in result.output


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.8", 0.8),
        ('{"a": [1, null]}', {"a": [1, None]}),
        ("warm", "warm"),
        ("a=b", "a=b"),
        ("", ""),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("[1, 1e999]", "[1, 1e999]"),
        ('"\\ud800"', '"\\ud800"'),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_a_parameter_that_is_no_json_is_text(text: str, value: object) -> None:
    given = click.command()(_param(lambda params: params)).main(
        ["--param", f"x={text}"], standalone_mode=False
    )
    assert given == {"x": value}


def test_nobody_listens(unused_port: int) -> None:
    result = trickle("stream", "list", "--api", f"http://127.0.0.1:{unused_port}")
    assert result.exit_code == 1
    assert "refused" in result.output


class TestTargets:
    """Finding the user's code."""

    def test_by_file_and_by_module(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "found_app.py").write_text("import found_neighbour\nname = 'it'\n")
        (tmp_path / "found_neighbour.py").write_text("class Box:\n    inner = 'inside'\n")
        monkeypatch.setattr(sys, "path", sys.path.copy())
        assert load_target(f"{tmp_path}/found_app.py:name") == "it"
        assert load_target("found_neighbour:Box.inner") == "inside"

    def test_the_users_own_traceback_is_shown_and_ours_is_not(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "path", sys.path.copy())
        broken = tmp_path / "broken_app.py"
        broken.write_text("def f():\n    return 1 / 0\nf()\n")
        with pytest.raises(click.ClickException, match="cannot be imported"):
            load_target(f"{broken}:f")
        shown = capsys.readouterr().err
        assert "ZeroDivisionError" in shown
        assert f'File "{broken}", line 2' in shown
        assert "targets.py" not in shown
        assert "importlib" not in shown

    @pytest.mark.parametrize("command", [["serve"], ["demo", "--processor"]], ids=["serve", "demo"])
    @pytest.mark.parametrize("error", ["ValueError", "RuntimeError"])
    def test_a_processor_that_cannot_be_made_is_the_users_fault_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], error: str
    ) -> None:
        monkeypatch.setattr(sys, "path", sys.path.copy())
        broken = tmp_path / "unmade_app.py"
        broken.write_text(
            f"class App:\n    def __init__(self):\n        raise {error}('no weights')\n"
        )
        result = trickle(*command, f"{broken}:App")
        assert result.exit_code == 1
        assert f'File "{broken}", line 3' in result.stderr
        assert f"{error}: no weights" in result.stderr
        assert "targets.py" not in result.stderr
        assert result.stderr.endswith("Error: the processor cannot be made\n")

    def test_a_module_that_the_user_lacks_is_the_users_fault_and_named(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "path", sys.path.copy())
        (tmp_path / "lacking_app.py").write_text("import not_there_at_all\n")
        with pytest.raises(click.ClickException):
            load_target(f"{tmp_path}/lacking_app.py:f")
        assert "No module named 'not_there_at_all'" in capsys.readouterr().err


def test_the_command_can_be_run_as_a_module() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "trickle_trio.cli", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.startswith("trickle, version ")
