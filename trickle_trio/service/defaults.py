"""What a service's user chose for all of its streams, checked once: before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from trickle_trio.media.encode import (
    AudioEncoderSettings,
    VideoEncoderSettings,
    working_audio,
    working_video,
)
from trickle_trio.stream.relay_tokens import RelayTokens
from trickle_trio.stream.settings import StreamDefaults, StreamPolicy

Settings = TypeVar("Settings", StreamPolicy, VideoEncoderSettings, AudioEncoderSettings)


def stream_defaults(
    policy: StreamPolicy | None,
    video: VideoEncoderSettings | None,
    audio: AudioEncoderSettings | None,
    relay_tokens: Mapping[str, str] | None = None,
) -> StreamDefaults:
    """Settle what streams are told; None: as usual.

    A hardware encoder that does not open gives way to libx264, with one warning. ``TypeError`` and ``ValueError`` say
    in one line what is wrong. Blocks for as long as an encoder takes to open; not at all where none is chosen.
    """
    return StreamDefaults(
        policy=_checked("policy", policy, StreamPolicy),
        video=working_video(_checked("video", video, VideoEncoderSettings)),
        audio=working_audio(_checked("audio", audio, AudioEncoderSettings)),
        relay_tokens=RelayTokens.of(relay_tokens or {}),
    )


def _checked(name: str, given: Settings | None, kind: type[Settings]) -> Settings:
    if given is None:
        return kind()
    if not isinstance(given, kind):
        raise TypeError(f"{name}: expected {kind.__name__}, got {given!r}")
    return given
