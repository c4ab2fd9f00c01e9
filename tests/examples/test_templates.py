"""New apps run as they are: their own tests pass, and on a live stream they do what they say."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio
from click.testing import CliRunner, Result

from tests.stage import RATE, Picture, like, open_stage
from trickle_trio.cli.main import root
from trickle_trio.cli.targets import load_target
from trickle_trio.templates import TEMPLATES, project_name


def trickle(*arguments: str | Path) -> Result:
    return CliRunner().invoke(root, list(map(str, arguments)))


@pytest.fixture
def made(tmp_path: Path) -> Any:
    """``made("model")``: the processor of a new app, found as ``trickle serve`` finds it."""

    def make(template: str) -> Any:
        folder = tmp_path / template
        assert trickle("init", folder, "--template", template).exit_code == 0
        return load_target(f"{folder / 'app.py'}:{TEMPLATES[template].target}")

    return make


@pytest.mark.parametrize("template", TEMPLATES)
async def test_its_own_tests_pass(template: str, tmp_path: Path) -> None:
    folder = tmp_path / "My app"
    result = trickle("init", folder, "--template", template)
    assert result.exit_code == 0, result.output
    assert f"cd '{folder}'" in result.output
    assert f"trickle demo --processor app.py:{TEMPLATES[template].target}" in result.output
    with trio.fail_after(60):
        done = await trio.run_process(
            [sys.executable, "-m", "pytest", "-q", "-W", "error"],
            cwd=folder,
            capture_stdout=True,
            check=False,
            stderr=subprocess.STDOUT,
        )
    assert done.returncode == 0, done.stdout.decode()
    assert b"passed" in done.stdout
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["name"] == "my-app"
    assert project["tool"]["setuptools"]["py-modules"] == ["app"]
    about = (folder / "README.md").read_text(encoding="utf-8")
    assert about.startswith(f"# My app\n\n{TEMPLATES[template].about}\n")
    assert "$" not in about


async def test_passthrough(relay: str, made: Any) -> None:
    async with open_stage(relay) as stage:
        await stage.serve(made("passthrough"))
        await stage.shows(like)
        await stage.went_out.until(lambda: len(stage.went_out.sounds) > 5)


async def test_function(relay: str, made: Any) -> None:
    def inverted(before: Picture, after: Picture) -> bool:
        return like(after, 255.0 - before, 6) and not like(before, after)

    async with open_stage(relay) as stage:
        await stage.serve(made("function"))
        await stage.shows(inverted)


async def test_model(relay: str, made: Any) -> None:
    def edges(before: Picture, after: Picture) -> bool:
        """Grey, and dark but for a few places."""
        return bool(
            np.ptp(after, axis=2).mean() < 3
            and after.mean() < before.mean() / 2
            and after.max() > 60
        )

    async with open_stage(relay) as stage:
        await stage.serve(made("model"))
        await stage.shows(edges)
        await stage.change(strength=0)
        await stage.shows(like)


async def test_sound(relay: str, made: Any) -> None:
    async with open_stage(relay) as stage:
        await stage.serve(made("sound")(), gain=0)
        await stage.went_out.until(lambda: len(stage.went_out.heard()) > RATE // 2)
        assert np.abs(stage.went_out.heard()).max() < 0.01
        await stage.change(gain=3)
        await stage.went_out.until(
            lambda: np.abs(stage.went_out.heard()[-RATE // 10 :]).max() > 0.05
        )


async def test_text(relay: str, made: Any) -> None:
    async with open_stage(relay) as stage:
        await stage.serve(made("text")(), threshold=0)
        [line] = await stage.lines(1)
        assert json.loads(line)["moves"] is True


def test_what_a_repository_has_already_is_left_as_it_is(tmp_path: Path) -> None:
    for name in ("README.md", ".gitignore", "LICENSE"):
        (tmp_path / name).write_text("mine")
    result = trickle("init", tmp_path)
    assert result.exit_code == 0
    assert result.stderr == "Left as they were: README.md, .gitignore.\n"
    for name in ("README.md", ".gitignore", "LICENSE"):
        assert (tmp_path / name).read_text() == "mine"
    assert {"app.py", "test_app.py", "pyproject.toml"} < {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("name", ["app.py", "test_app.py"])
def test_an_app_that_is_there_is_not_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to(tmp_path / "nowhere")
    result = trickle("init", tmp_path)
    assert result.exit_code == 2
    assert f"{tmp_path / name} is there already" in result.output
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_that_looks_like_an_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = trickle("init", "--", "-dash")
    assert result.exit_code == 0
    assert "    cd ./-dash\n" in result.output
    nothing = trickle("init", "")
    assert nothing.exit_code == 2
    assert "a folder's name is expected" in nothing.output
    assert [path.name for path in tmp_path.iterdir()] == ["-dash"]


def test_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = trickle("init", ".", "--template", "function")
    assert result.exit_code == 0
    assert "    cd " not in result.output
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["name"] == project_name(tmp_path.name)


def test_where_it_cannot_be_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    inside = trickle("init", tmp_path / "file" / "app")
    assert inside.exit_code == 1
    assert inside.output.splitlines() == [f"Error: {tmp_path / 'file' / 'app'}: Not a directory"]
    itself = trickle("init", tmp_path / "file")
    assert itself.exit_code == 2
    assert "is a file" in itself.output
    unknown = trickle("init", tmp_path / "app", "--template", "nothing")
    assert unknown.exit_code == 2
    assert "'passthrough', 'function'" in unknown.output


def test_templates_are_shown_a_line_each() -> None:
    lines = trickle("templates").output.splitlines()
    assert [line.split()[0] for line in lines] == list(TEMPLATES)
    assert all(len(line) < 100 and line.endswith(".") for line in lines)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("My app", "my-app"),
        ("a_b.c", "a-b-c"),
        ("--x--", "x"),
        ("é", "app"),
        ("", "app"),
        ("7", "7"),
    ],
)
def test_a_folder_names_a_project(folder: str, name: str) -> None:
    assert project_name(folder) == name
