# ruff: noqa: INP001  a script beside the picture that it draws
"""Draws what ``trickle bench --json`` found: ``python docs/draw_bench.py bench.json > docs/bench.svg``."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

from attrs import define, field

WIDTH: Final = 960
LEFT: Final = 210
"""Where the bars begin; what they are stands before them."""
RIGHT: Final = 870
BAR: Final = 15
STEP: Final = 19
"""From one bar of a pair to the other."""
MARGIN: Final = 32

INK: Final = "#1f2933"
FAINT: Final = "#6b7785"
LINE: Final = "#e3e8ee"
FFMPEG: Final = "#b6bfca"

THREADS: Final = {
    "decode": ("decode", "#2f6fb3"),
    "encode": ("encode", "#e07b39"),
    "event loop": ("event loop", "#3a9d7a"),
    "others": ("handler's threads and others", "#8a63b8"),
}
"""Their colours, in the order of the bars' parts."""

TINTS: Final = {"p50": "#17456f", "p95": "#4f8dc6", "p99": "#bcd7ee"}
HANDLERS: Final = {"passthrough": "passthrough", "tint": "float32 tint"}

Report = Mapping[str, Any]


@define
class Page:
    """What has been drawn, and how far down."""

    y: float = MARGIN
    _parts: list[str] = field(factory=list)

    def text(
        self, x: float, y: float, text: str, *, size: int = 12, fill: str = INK, **more: str
    ) -> None:
        """Write a line; ``more``: other attributes, with _ for -."""
        rest = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in more.items())
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill}"{rest}>{escape(text)}</text>'
        )

    def bar(self, x: float, y: float, width: float, fill: str, height: float = BAR) -> None:
        """Draw a rectangle."""
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" fill="{fill}"/>'
        )

    def line(self, x: float, top: float, bottom: float) -> None:
        """Draw an upright line, behind what follows."""
        self._parts.append(
            f'<path d="M{x:.1f} {top:.1f}V{bottom:.1f}" stroke="{LINE}" stroke-width="1"/>'
        )

    def svg(self) -> str:
        """All of it."""
        height = self.y + MARGIN / 2
        family = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" '
            f'width="{WIDTH}" height="{height:.0f}" font-family="{family}">'
        )
        back = f'<rect width="{WIDTH}" height="{height:.0f}" rx="10" fill="#ffffff"/>'
        return "\n".join([head, back, *self._parts, "</svg>", ""])


def draw(report: Report) -> str:
    """Draw a report."""
    page = Page()
    page.text(
        MARGIN, page.y + 8, "What a picture costs, and how late it is", size=20, font_weight="600"
    )
    about = (
        f"{report['footage']}, {report['fps']} pictures a second, live through a relay; "
        f"{report['cpus']} CPUs ({report['machine']}), ffmpeg {report['ffmpeg']}"
    )
    page.text(MARGIN, page.y + 30, about, fill=FAINT)
    page.y += 64
    draw_costs(page, report)
    draw_delays(page, report)
    if report["capacity"]:
        draw_streams(page, report["capacity"])
    return page.svg()


def parts(report: Report) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Size, the handler's name, and its figures."""
    for figures in report["sizes"]:
        for key, name in HANDLERS.items():
            yield figures["size"], name, figures[key]


def draw_costs(page: Page, report: Report) -> None:
    """Draw a pair of bars for each: ours, by thread, and ffmpeg's."""
    named = [(name, colour) for name, colour in THREADS.values()]
    head(page, "CPU of a picture, milliseconds", [*named, ("ffmpeg, one thread", FFMPEG)])
    rows = list(parts(report))
    most = max(
        max(figures["cost"][who] or 0 for who in ("cpu_ms", "ffmpeg_cpu_ms"))
        for *_, figures in rows
    )
    scale = axis(page, most, len(rows) * (2 * STEP + 14))
    for size, name, figures in rows:
        cost = figures["cost"]
        label(page, size, name, 2 * STEP)
        x = float(LEFT)
        for thread, share in shares(figures):
            page.bar(x, page.y, share * scale, THREADS[thread][1])
            x += share * scale
        ratio = "" if cost["ratio"] is None else f"  ({cost['ratio']:.2f} times ffmpeg)"
        page.text(x + 6, page.y + 12, f"{cost['cpu_ms']:.1f}{ratio}")
        theirs = cost["ffmpeg_cpu_ms"]
        if theirs is not None:
            page.bar(LEFT, page.y + STEP, theirs * scale, FFMPEG)
            told = f"{theirs:.1f}"
            if cost["paced_ratio"] is not None:
                paced = f"{cost['ffmpeg_paced_cpu_ms']:.1f} at the pictures' pace"
                told += f";  {paced}  (ours {cost['paced_ratio']:.2f} times that)"
            page.text(LEFT + theirs * scale + 6, page.y + STEP + 12, told, fill=FAINT)
        page.y += 2 * STEP + 14
    page.y += 30


def shares(figures: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Milliseconds of each thread, which add up to the whole; all of it is others' where no system tells."""
    threads = figures["threads"] or {"others": 1.0}
    whole = figures["cost"]["cpu_ms"] / sum(threads.values())
    return [(name, threads[name] * whole) for name in THREADS if name in threads]


def draw_delays(page: Page, report: Report) -> None:
    """Draw a bar for each, of which the darker parts hold more of the pictures."""
    names = {"p50": "half of the pictures", "p95": "95 of 100", "p99": "99 of 100"}
    head(page, "Delay, milliseconds from a picture's last byte in to its last byte out",
         [(names[key], colour) for key, colour in TINTS.items()])  # fmt: skip
    rows = [row for row in parts(report) if row[2]["latency_ms"]["p99"] is not None]
    most = max((figures["latency_ms"]["p99"] for *_, figures in rows), default=1.0)
    scale = axis(page, most, len(rows) * (STEP + 8))
    for size, name, figures in rows:
        label(page, size, name, STEP)
        delays = figures["latency_ms"]
        for key in ("p99", "p95", "p50"):
            page.bar(LEFT, page.y, delays[key] * scale, TINTS[key])
        told = " / ".join(f"{delays[key]:.0f}" for key in TINTS)
        page.text(LEFT + delays["p99"] * scale + 6, page.y + 12, told)
        page.y += STEP + 8
    page.y += 30


def draw_streams(page: Page, capacity: Mapping[str, Any]) -> None:
    """Draw the slowest of a hundred pictures, by how many streams there are."""
    head(page, f"So many {capacity['size']} passthrough streams at once: delay of 99 of 100 pictures, "
         "milliseconds", [])  # fmt: skip
    steps = [step for step in capacity["steps"] if step["latency_ms"]["p99"] is not None]
    most = max((step["latency_ms"]["p99"] for step in steps), default=1.0)
    scale = axis(page, most, len(steps) * (STEP + 4))
    for step in steps:
        late = step["latency_ms"]["p99"]
        label(page, "", str(step["streams"]), STEP)
        page.bar(LEFT, page.y, late * scale, TINTS["p95"] if step["is_good"] else FFMPEG)
        lost = f", {step['lost']} of {step['pictures']} lost" if step["lost"] else ""
        page.text(LEFT + late * scale + 6, page.y + 12, f"{late:.0f}{lost}")
        page.y += STEP + 4
    page.y += 20


def head(page: Page, title: str, colours: list[tuple[str, str]]) -> None:
    """Write a part's title, and what its colours are."""
    page.text(MARGIN, page.y, title, size=14, font_weight="600")
    x = float(MARGIN)
    if colours:
        page.y += 22
    for name, colour in colours:
        page.bar(x, page.y - 9, 10, colour, 10)
        page.text(x + 15, page.y, name, fill=FAINT)
        x += 15 + 6.2 * len(name) + 22
    page.y += 14


def axis(page: Page, most: float, height: float) -> float:
    """Draw round numbers and their lines, with room beside the longest bar; returns pixels a unit."""
    scale = (RIGHT - LEFT - 130) / max(most, 1e-9)
    rough = max(most, 1e-9) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * times for times in (1, 2, 5, 10) if power * times >= rough)
    value = 0.0
    while LEFT + value * scale <= RIGHT:
        x = LEFT + value * scale
        page.line(x, page.y + 8, page.y + 12 + height)
        page.text(x, page.y + 4, f"{value:g}", size=11, fill=FAINT, text_anchor="middle")
        value += step
    page.y += 16
    return scale


def label(page: Page, size: str, name: str, height: float) -> None:
    """Write before the bars what they are."""
    middle = page.y + height / 2 + 2
    page.text(MARGIN, middle, size, font_weight="600")
    page.text(LEFT - 12, middle, name, text_anchor="end")


if __name__ == "__main__":
    sys.stdout.write(draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
