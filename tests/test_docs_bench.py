"""The picture of ``docs/performance.md`` shows the figures that lie beside it."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

if TYPE_CHECKING:
    # So that mypy reads it, which is given the tests; the program itself is no module of a package.
    from docs import draw_bench  # noqa: F401  see above

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture(scope="module")
def drawing() -> dict[str, Any]:
    """The program that draws."""
    return runpy.run_path(str(DOCS / "draw_bench.py"))


@pytest.fixture
def report() -> dict[str, Any]:
    """The figures that are drawn."""
    report = json.loads((DOCS / "bench.json").read_text(encoding="utf-8"))
    assert isinstance(report, dict)
    return report


def words(svg: str) -> str:
    return " ".join(ET.fromstring(svg).itertext())  # noqa: S314  drawn here


def test_the_picture_is_of_these_figures(drawing: dict[str, Any], report: dict[str, Any]) -> None:
    drawn = (DOCS / "bench.svg").read_text(encoding="utf-8")
    assert drawn == drawing["draw"](report), "python docs/draw_bench.py draws it anew"


def test_each_size_is_in_the_picture(drawing: dict[str, Any], report: dict[str, Any]) -> None:
    told = words(drawing["draw"](report))
    for figures in report["sizes"]:
        assert figures["size"] in told
        cost = figures["passthrough"]["cost"]
        assert f"({cost['ratio']:.2f} times ffmpeg)" in told
        assert f"(ours {cost['paced_ratio']:.2f} times that)" in told


def test_what_was_not_measured_is_not_drawn(
    drawing: dict[str, Any], report: dict[str, Any]
) -> None:
    """No ffmpeg, a system that does not tell of threads, no streams counted, nothing that came out."""
    report["capacity"] = None
    for figures in report["sizes"]:
        for handler in ("passthrough", "tint"):
            figures[handler]["threads"] = {}
            figures[handler]["cost"].update(ffmpeg_cpu_ms=None, ratio=None, paced_ratio=None)
            figures[handler]["latency_ms"] = {"p50": None, "p95": None, "p99": None}
    told = words(drawing["draw"](report))
    assert "times ffmpeg" not in told
    assert "at once" not in told
    assert report["sizes"][0]["size"] in told
