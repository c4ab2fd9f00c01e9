"""Options of commands that serve: how streams are carried and encoded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from trickle_trio.cli.running import Seconds

Command = TypeVar("Command", bound=Callable[..., Any])

_POLICY: Final = ("pace", "segment_seconds", "fit", "video_track", "audio_track")

_OPTIONS: Final = (
    click.option(
        "--encoder", metavar="NAME", help="Any of PyAV's for H.264 or H.265: libx264, h264_nvenc."
    ),
    click.option("--bit-rate", type=click.IntRange(1), help="Of the picture, bits a second."),
    click.option(
        "--encoder-option",
        "encoder_options",
        multiple=True,
        metavar="KEY=VALUE",
        help="The encoder's own, as preset=fast.",
    ),
    click.option(
        "--audio-encoder", metavar="NAME", help="aac or libopus, for sound that is handled."
    ),
    click.option("--audio-bit-rate", type=click.IntRange(1), help="Of the sound, bits a second."),
    click.option(
        "--pace",
        type=click.Choice(["live", "every-frame"]),
        help="What a slow handler means: frames are dropped, or the input is held back.",
    ),
    click.option("--segment-seconds", type=Seconds(0, min_open=True), help="Length of a segment."),
    click.option(
        "--fit",
        type=click.Choice(["cover", "contain", "stretch"]),
        help="How a picture comes to another shape.",
    ),
    click.option("--video-track", type=click.IntRange(0), help="Which of the input, from 0."),
    click.option("--audio-track", type=click.IntRange(0), help="Which of the input, from 0."),
)


def coding_options(command: Command) -> Command:
    """Give a command these options; ``coding`` makes of them what ``serve`` takes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def coding(given: dict[str, Any]) -> dict[str, Any]:
    """Turn the options into keyword arguments of ``serve``; ``click.UsageError`` where one is wrong."""
    from trickle_trio.media.encode import AudioEncoderSettings, VideoEncoderSettings
    from trickle_trio.stream.settings import StreamPolicy

    policy = {name: given[name] for name in _POLICY if given[name] is not None}
    if "pace" in policy:
        policy["pace"] = policy["pace"].replace("-", " ")
    picture = _some(codec=given["encoder"], bit_rate=given["bit_rate"])
    sound = _some(codec=given["audio_encoder"], bit_rate=given["audio_bit_rate"])
    try:
        return {
            "policy": StreamPolicy(**policy),
            "video": VideoEncoderSettings(**picture, options=_pairs(given["encoder_options"])),
            "audio": AudioEncoderSettings(**sound),
        }
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _some(**given: Any) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for key, _, value in pairs:
        if not key or not value:
            raise click.UsageError(f"--encoder-option: expected KEY=VALUE, got {key!r}")
    return {key: value for key, _, value in pairs}
