"""New apps: what ``trickle init`` writes into a folder.

A template is a folder with an ``app.py`` and its ``test_app.py``, which are copied as they are: programs that run,
checked like everything else here. ``shared/`` holds what every app has, with its name and what it does to be filled in.
"""

from __future__ import annotations

import ast
import os
import re
from importlib.resources import files
from pathlib import Path
from string import Template as Text
from typing import Final

from attrs import frozen

COPIED: Final = ("app.py", "test_app.py")
FILLED: Final = {
    "pyproject.toml": "pyproject.toml.in",
    "README.md": "README.md.in",
    ".gitignore": "gitignore.in",  # under its own name it would be this repository's
}

_ROOM: Final = files(__name__)


@frozen
class Template:
    """``target``: the name of the processor in its ``app.py``."""

    name: str
    target: str

    @property
    def about(self) -> str:
        """What it is, in one line: what its ``app.py`` begins with."""
        about = ast.get_docstring(ast.parse(_text(self.name, "app.py"))) or ""
        return about.partition("\n")[0]

    def write(self, folder: Path) -> list[str]:
        """Make an app in a folder, which is made if need be; its name is the app's.

        Returns which files were there already and were left as they were: those that any project has.
        ``FileExistsError``: the app itself is there already, and nothing was written. ``OSError``: it cannot be
        written.
        """
        contents = self._contents(folder.resolve().name)
        there = [name for name in contents if os.path.lexists(folder / name)]
        for name in there:
            if name in COPIED:
                raise FileExistsError(f"{folder / name} is there already")
        folder.mkdir(parents=True, exist_ok=True)
        for name in contents.keys() - there:
            with (folder / name).open("x", encoding="utf-8") as file:
                file.write(contents[name])
        return there

    def _contents(self, name: str) -> dict[str, str]:
        values = {
            "title": name,
            "name": project_name(name),
            "about": self.about,
            "target": self.target,
        }
        copied = {file: _text(self.name, file) for file in COPIED}
        return copied | {
            file: Text(_text("shared", source)).substitute(values)
            for file, source in FILLED.items()
        }


def _text(*path: str) -> str:
    return _ROOM.joinpath(*path).read_text(encoding="utf-8")


TEMPLATES: Final = {
    template.name: template
    for template in (
        Template("passthrough", "Passthrough"),
        Template("function", "invert"),
        Template("model", "Model"),
        Template("sound", "Volume"),
        Template("text", "Motion"),
    )
}
"""By their names, in the order in which they are shown; the first is taken where none is named."""


def project_name(folder: str) -> str:
    """Turn a folder's name into one that a Python project may have: letters, digits and dashes (PEP 508)."""
    return re.sub(r"[^a-z0-9]+", "-", folder.lower()).strip("-") or "app"
