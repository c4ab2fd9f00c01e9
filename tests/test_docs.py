"""What the documents show runs, and what is drawn from the code is up to date."""

from __future__ import annotations

import inspect
import json
import re
import runpy
import shlex
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click
import pytest

from trickle_trio import AudioEncoderSettings, Fit, Pace, StreamPolicy, VideoEncoderSettings, serve
from trickle_trio.cli.main import root
from trickle_trio.cli.targets import load_target

if TYPE_CHECKING:
    # So that mypy reads it, which is given the tests; the program itself is no module of a package.
    from docs import draw_machines  # noqa: F401  see above

ROOT = Path(__file__).parent.parent
ALONE = [ROOT / "README.md"]
"""Each block is to be copied by itself."""
STORIES = sorted((ROOT / "docs").rglob("*.md"))
"""The blocks run one after another, as one program."""

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> Iterator[Any]:
    """The compiled blocks of a page; their line numbers are the page's."""
    text = page.read_text(encoding="utf-8")
    for block in BLOCK.finditer(text):
        above = text.count("\n", 0, block.start(1))
        yield compile("\n" * above + block[1], str(page), "exec")


def test_blocks_are_found() -> None:
    pages = [*ALONE, ROOT / "docs" / "embedding.md", ROOT / "docs" / "migrating.md"]
    assert all([*blocks(page)] for page in pages)


@pytest.mark.parametrize("page", ALONE, ids=lambda page: page.name)
def test_each_block_runs(page: Path) -> None:
    for block in blocks(page):
        exec(block, {"__name__": page.stem})  # noqa: S102  our own words


@pytest.mark.parametrize("page", STORIES, ids=lambda page: page.name)
def test_the_blocks_run_as_one(page: Path) -> None:
    program = {"__name__": page.stem}
    for block in blocks(page):
        exec(block, program)  # noqa: S102  our own words


def command_lines() -> Iterator[tuple[Path, list[str]]]:
    """Every ``trickle ...`` that documents and examples say to type."""
    for path in [*ALONE, *STORIES, *sorted((ROOT / "examples").glob("*.py"))]:
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"^ *(?:\S*/)?trickle +(.*)", text, re.MULTILINE):
            yield path, shlex.split(line.partition("|")[0], comments=True)


def test_command_lines_are_ones_that_there_are() -> None:
    lines = list(command_lines())
    assert {path.suffix for path, _ in lines} == {".md", ".py"}
    for path, arguments in lines:
        understand(root, arguments)
        if arguments[0] == "serve" and path.suffix == ".py":
            load_target(str(ROOT / arguments[1]))


def understand(command: click.Command, arguments: list[str]) -> None:
    """Read a command line as it would be when it runs; raises what click raises for a wrong one."""
    context = command.make_context("trickle", list(arguments))
    if isinstance(command, click.Group):
        _, found, rest = command.resolve_command(context, arguments)
        assert found is not None
        understand(found, rest)


@pytest.fixture(scope="module")
def drawing() -> dict[str, Any]:
    """The program that draws."""
    return runpy.run_path(str(ROOT / "docs" / "draw_machines.py"))


def test_the_machines_are_drawn_as_they_are(drawing: dict[str, Any]) -> None:
    drawn = (ROOT / "docs" / "machines.md").read_text(encoding="utf-8")
    assert drawn == drawing["page"](), "python docs/draw_machines.py draws them anew"


def test_every_state_is_reached(drawing: dict[str, Any]) -> None:
    """A state that nothing leads to would be a hole in the exploring, or in a table."""
    for section in drawing["page"]().split("\n## ")[1:]:
        states = re.findall(r"^\| (\w+) \|", section.partition("| what leads on")[0], re.MULTILINE)
        reached = re.findall(r"--> (\w+)", section)
        assert set(states) - {"state"} == set(reached)


OPTIONS = ROOT / "docs" / "serving.md"
ROW = re.compile(r"^\| `(\w+)` \| `(.+?)` \| (.*?) \|", re.MULTILINE)


def documented(about: str) -> dict[str, tuple[str, str]]:
    """What a section of the page says: defaults and command line, by keyword."""
    text = OPTIONS.read_text(encoding="utf-8").partition(about)[2].partition("\n## ")[0]
    return {name: (default, command) for name, default, command in ROW.findall(text)}


def test_the_page_of_options_has_those_of_serve() -> None:
    parameters = [*inspect.signature(serve).parameters.values()][1:]
    assert {name: default for name, (default, _) in documented("## The service").items()} == {
        each.name: repr(each.default).replace("'", '"') for each in parameters
    }


@pytest.mark.parametrize("kind", [StreamPolicy, VideoEncoderSettings, AudioEncoderSettings])
def test_and_those_of_streams(kind: type[Any]) -> None:
    plain = {Pace.LIVE: "live", Fit.COVER: "cover", Fraction(30): 30}
    made = kind()
    defaults = {each.name: getattr(made, each.name) for each in attrs.fields(kind)}
    assert {name: default for name, (default, _) in documented(f"`{kind.__name__}`\n").items()} == {
        name: json.dumps(plain.get(value, value) if not isinstance(value, dict) else value).replace(
            "null", "None"
        )
        for name, value in defaults.items()
    }


def test_and_every_option_of_the_command_line() -> None:
    text = OPTIONS.read_text(encoding="utf-8")
    serve_command = root.get_command(click.Context(root), "serve")
    assert serve_command is not None
    said = {
        name
        for parameter in serve_command.params
        if isinstance(parameter, click.Option)
        for name in (parameter.opts[0], parameter.envvar)
        if isinstance(name, str)
    }
    assert {name for name in said if f"`{name}`" not in text} == {"--reload"}
