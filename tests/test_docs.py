"""What the documents show runs, and what is drawn from the code is up to date."""

from __future__ import annotations

import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest

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
