"""``serve``: from a processor to a service that is ready to run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from trickle_trio.media.encode import AudioEncoderSettings, VideoEncoderSettings
from trickle_trio.service.app import TrickleApp
from trickle_trio.service.running import Service
from trickle_trio.stream.settings import StreamPolicy


def serve(
    processor: Any,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    max_streams: int = 1,
    share_model: bool = False,
    prewarm: tuple[int, int] | None = None,
    pipeline: str | None = None,
    model_id: str | None = None,
    version: str | None = None,
    policy: StreamPolicy | None = None,
    video: VideoEncoderSettings | None = None,
    audio: AudioEncoderSettings | None = None,
    allow_origins: Iterable[str] = (),
    token: str | None = None,
    relay_tokens: Mapping[str, str] | None = None,
) -> Service:
    """Make a service around a processor: a plain function, a StreamProcessor, a FrameProcessor, or a handlers object.

    ``port=0`` takes a free port. ``max_streams``: how many streams may run at once; more than one asks for a plain
    function, a class, or a function that makes processors. The others are as in ``TrickleApp``. Raises TypeError and
    ValueError for what cannot be served; nothing runs and nothing is bound before the result is run.
    """
    app = TrickleApp(
        processor,
        host=host,
        port=port,
        max_streams=max_streams,
        share_model=share_model,
        prewarm=prewarm,
        pipeline=pipeline,
        model_id=model_id,
        version=version,
        policy=policy,
        video=video,
        audio=audio,
        allow_origins=allow_origins,
        token=token,
        relay_tokens=relay_tokens,
    )
    return app.service
