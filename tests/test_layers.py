"""Imports point down only: the house's one structural rule, read off the import statements."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import trickle_trio

ROOT = Path(__file__).parent.parent

# Lowest first. A module may import its own layer and those below it.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("trickle_core",),
    (
        "trickle_trio.transport",
        "trickle_trio.driver",
        "trickle_trio.subscription",
        "trickle_trio.publication",
        "trickle_trio.relay",
    ),
    ("trickle_trio.media",),
    (
        "trickle_trio.processor",
        "trickle_trio.frames",
        "trickle_trio.decorators",
        "trickle_trio.frame_overlay",
        "trickle_trio.frame_skipper",
    ),
    ("trickle_trio.stream",),
    ("trickle_trio.service",),
    ("trickle_trio.faces",),
    ("trickle_trio.bench", "trickle_trio.doctor"),
    ("trickle_trio.testing", "trickle_trio.templates", "trickle_trio.cli", "trickle_trio"),
)

# What each layer may import from outside this project and the standard library.
OUTSIDE: tuple[set[str], ...] = (
    {"attrs"},
    {"attrs", "trio", "httpx", "h11"},
    {"PIL", "attrs", "av", "numpy", "torch"},
    {"attrs", "trio", "numpy", "torch", "msgspec"},
    {"attrs", "trio", "httpx", "outcome"},
    {"attrs", "trio", "quart", "quart_trio", "hypercorn", "werkzeug"}
    | {"msgspec", "prometheus_client", "pynvml"},
    {"attrs", "trio"},
    {"attrs", "trio", "httpx", "av", "numpy", "torch"},
    {"attrs", "trio", "httpx", "click", "torch", "watchfiles"},
)

# Network and media are neighbours, not floors: neither may know the other.
FORBIDDEN_BELOW: dict[str, tuple[str, ...]] = {
    "trickle_trio.media": LAYERS[1],
    "trickle_trio.processor": LAYERS[1],
}

IMPURE = {"time", "random", "socket", "threading", "logging", "asyncio", "select", "ssl", "os"}


TEMPLATES = ROOT / "trickle_trio" / "templates"


def modules() -> Iterator[tuple[str, Path]]:
    for package in ("trickle_core", "trickle_trio"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if path.parent.parent == TEMPLATES:
                continue  # a program of a user's, see below
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def layer_of(module: str) -> int:
    matches = [
        (len(prefix), level)
        for level, prefixes in enumerate(LAYERS)
        for prefix in prefixes
        if module == prefix or module.startswith(prefix + ".")
    ]
    assert matches, f"{module} belongs to no layer: add it to LAYERS"
    return max(matches)[1]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the layer"
            yield node.module or ""
            if node.module in ("trickle_trio", "trickle_core"):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def faults(module: str, path: Path) -> Iterator[str]:
    level = layer_of(module)
    for name in imports(path):
        top = name.split(".")[0]
        if top in ("trickle_core", "trickle_trio"):
            if name == "trickle_trio" and level == len(LAYERS) - 1:
                continue
            if name != "trickle_trio" and layer_of(name) > level:
                yield f"{module} imports {name}, which stands above it"
            for room, neighbours in FORBIDDEN_BELOW.items():
                if module.startswith(room) and name.startswith(neighbours):
                    yield f"{module} imports {name}: media and user code know no network"
        elif top in sys.stdlib_module_names:
            if level == 0 and top in IMPURE:
                yield f"{module} imports {name}: the core has no I/O, clock, dice or log"
        elif top not in OUTSIDE[level]:
            yield f"{module} imports {name}, which its layer may not"


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=str)
def test_imports_point_down(module: str, path: Path) -> None:
    assert list(faults(module, path)) == []


@pytest.mark.parametrize(
    "path", sorted(TEMPLATES.glob("*/*.py")), ids=lambda path: path.parent.name
)
def test_templates_use_what_users_use(path: Path) -> None:
    ours = {name for name in imports(path) if name.startswith(("trickle_core", "trickle_trio"))}
    front = {f"trickle_trio.{name}" for name in trickle_trio.__all__}
    beside = (
        {"trickle_trio", "trickle_trio.testing"} if path.stem == "test_app" else {"trickle_trio"}
    )
    assert ours <= front | beside


def test_the_rule_bites(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("import time\nimport httpx\nfrom trickle_trio.driver import Driver\n")
    assert len(list(faults("trickle_core.bad", bad))) == 3
    assert len(list(faults("trickle_trio.media.bad", bad))) == 2
