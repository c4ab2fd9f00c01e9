"""``trickle doctor``: what this machine can do."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

import click

from trickle_trio.cli.running import run

if TYPE_CHECKING:
    from trickle_trio.doctor import EncoderFound, Findings

WIDTH: Final = 100
LABEL: Final = 12

_GLUE: Final = "\N{NO-BREAK SPACE}"
"""Between words that belong on one line, until the lines are there."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(as_json: bool) -> None:
    """Find out what this machine can do: versions, codecs, GPUs, and encoders by having them encode.

    Takes some three seconds. Exits 1 where something does not work that streams need, and says what.
    """
    try:
        from trickle_trio.doctor import examine
    except (ImportError, OSError) as error:
        raise click.ClickException(f"this installation is broken: {error}") from error

    found: list[Findings] = []

    async def program() -> None:
        found.append(await examine())

    run(program)
    if not found:
        raise click.ClickException("stopped before it was found out")
    findings = found[0]
    click.echo(json.dumps(findings.as_object()) if as_json else told(findings))
    if findings.faults:
        raise click.ClickException("; ".join(findings.faults))


def told(findings: Findings) -> str:
    """Lay it out: lines of at most 100 characters, without a newline at the end."""
    memory = f", {findings.memory_mb:,} MB of memory" if findings.memory_mb else ""
    head = (
        f"trickle-trio {findings.version} on Python {findings.python}",
        f"{findings.cpus} CPUs of {findings.machine}{memory}",
    )
    lines = [", ".join(head), ""]
    for label, text in _rows(findings):
        lines += _paragraph(label, text)
    if not findings.faults:
        lines += ["", "Picture and sound come through encoder, transport stream and decoder."]
    lines += [f"Note: {remark}." for remark in findings.remarks]
    return "\n".join(lines)


def _rows(findings: Findings) -> Iterator[tuple[str, str]]:
    yield "packages", _versions(findings.libraries, of_libav=False)
    yield "libav", _versions(findings.libraries, of_libav=True)
    torch = findings.torch
    devices = f"{torch.version}, tensors on {', '.join(torch.devices)}"
    yield "torch", "does not import" if torch.reason else devices
    gpus = [f"{gpu['name']}, {_memory(gpu['memory_total'])}" for gpu in findings.gpus.values()]
    yield "GPUs", "; ".join(gpus) or "none of NVIDIA's"
    yield "decodes", ", ".join(name for name, has in findings.decoders.items() if has)
    if missing := [name for name, has in findings.decoders.items() if not has]:
        yield "does not", ", ".join(missing)
    yield "encodes", ", ".join(_working(findings, in_hardware=False))
    yield "in hardware", ", ".join(_working(findings, in_hardware=True)) or "nothing opens"
    for encoder in findings.encoders:
        if encoder.reason is not None:
            yield "", f"{encoder.name}: {encoder.reason}"
    yield "ffmpeg", f"{findings.ffmpeg} (the program, which only trickle bench wants)"


def _versions(libraries: Mapping[str, str], *, of_libav: bool) -> str:
    return ", ".join(
        f"{name}{_GLUE}{version}"
        for name, version in libraries.items()
        if name.startswith("lib") is of_libav
    )


def _memory(size: int | None) -> str:
    return "of unknown size" if size is None else f"{size // 1_000_000:,} MB"


def _working(findings: Findings, *, in_hardware: bool) -> list[str]:
    def works(encoder: EncoderFound) -> bool:
        return encoder.reason is None and encoder.is_hardware is in_hardware

    return [encoder.name for encoder in findings.encoders if works(encoder)]


def _paragraph(label: str, text: str) -> list[str]:
    lines = textwrap.wrap(
        text,
        WIDTH,
        initial_indent=label.ljust(LABEL),
        subsequent_indent=" " * LABEL,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_GLUE, " ") for line in lines]
