"""The shapes of the answers: the type checker holds the views to them, and the OpenAPI document is drawn from them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

from msgspec import Meta

from trickle_trio.service.hardware import GpuInfo, GpuStats
from trickle_trio.service.streams import Health, Phase

HealthName = Annotated[str, Meta(extra_json_schema={"enum": [each.value for each in Health]})]
PhaseName = Annotated[str, Meta(extra_json_schema={"enum": [each.value for each in Phase]})]


class CurrentState(TypedDict):
    """How the service is."""

    status: HealthName
    state: HealthName
    error_message: str | None
    pipeline_ready: bool
    active_streams: int
    startup_complete: bool
    pipeline_state: str
    additional_info: dict[str, Any]


class Refused(TypedDict):
    """What was wrong, in one line; nothing was started or changed."""

    status: Literal["error"]
    message: str
    current_state: CurrentState


class Denied(TypedDict):
    """Why the service does not listen to whoever asks."""

    status: Literal["error"]
    message: str


class Done(TypedDict):
    """What was asked for is done."""

    status: Literal["success"]
    message: str
    request_id: str


class Started(Done):
    """A stream runs."""

    current_state: CurrentState


class HealthAnswer(TypedDict):
    """The state in one word."""

    status: HealthName


class AppVersion(TypedDict):
    """The version alone."""

    version: str


class Model(TypedDict):
    """What gateways know the service by."""

    pipeline: str
    model_id: str


class Version(Model, AppVersion):
    """What runs here."""


class HardwareInfo(Model):
    """The GPUs, keyed "0", "1", ...; empty where there are none."""

    gpu_info: dict[str, GpuInfo]


class HardwareStats(Model):
    """The GPUs' load, keyed "0", "1", ...; empty where there are none."""

    gpu_stats: dict[str, GpuStats]


class CurrentParams(TypedDict):
    """What the stream was started with."""

    subscribe_url: str | None
    publish_url: str | None
    gateway_request_id: str


class Fps(TypedDict):
    """Frames a second over the last two seconds."""

    ingress_video_fps: float
    egress_video_fps: float
    ingress_audio_fps: float
    egress_audio_fps: float


class Delays(TypedDict):
    """Milliseconds that these shares of the last pictures took at most; null before the first."""

    p50: float | None
    p95: float | None
    p99: float | None


class Clocked(TypedDict):
    """Those of a stream's figures that are not told as the stream counts them."""

    fps: Fps
    latency_ms: Delays
    input_seconds_ago: float | None
    output_seconds_ago: float | None


class Status(CurrentState):
    """The state of the service."""

    client_active: bool
    max_streams: int
    streams: list[str]
    memory_bytes: int | None


class StreamStatus(Status):
    """The state of the service and of one stream; the stream's figures stand beside (``Figures``)."""

    client_running: bool
    current_params: CurrentParams


class Stream(TypedDict):
    """A stream that runs; its figures stand beside (``Figures``)."""

    request_id: str
    phase: PhaseName
    urls: dict[str, str]
    params: dict[str, Any]


class Ended(TypedDict):
    """A stream that is over: when, in seconds since the epoch, and why."""

    request_id: str
    at: float
    reason: str
    normal: bool


class ServiceState(TypedDict):
    """The service as the dashboard shows it."""

    health: HealthName
    error_message: str | None
    memory_bytes: int | None


class NamedService(Version, ServiceState):
    """The service by its name."""


class Overview(TypedDict):
    """Every stream that runs, and the last that ended."""

    service: NamedService
    max_streams: int
    streams: list[Stream]
    ended: list[Ended]
