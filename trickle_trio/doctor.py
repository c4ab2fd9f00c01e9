"""What ``trickle doctor`` finds out: whether streams can run on this machine, and on what.

What is listed says little (libav lists encoders of GPUs where there is no GPU), so things are tried: each encoder
encodes, and what the defaults made of a picture and of sound goes through a transport stream and is decoded again.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any, Final

import av
import numpy as np
import trio
from attrs import asdict, frozen

from trickle_core.mpegts import AccessUnit, Codec, Demuxer, Muxer
from trickle_trio.bench.batch import find_ffmpeg
from trickle_trio.bench.machine import machine_name, usable_cpus
from trickle_trio.media.decode import AudioDecoder, VideoDecoder
from trickle_trio.media.encode import (
    AudioEncoder,
    AudioEncoderSettings,
    VideoEncoder,
    VideoEncoderSettings,
    encoders_of,
    is_hardware,
    sound_trial,
    trial,
)
from trickle_trio.media.frames import AudioFrame, VideoFrame
from trickle_trio.service.hardware import GpuInfo, gpu_info

DISTRIBUTION: Final = "trickle-trio"

IN_CONTAINERS: Final = ("vp8", "vp9", "av1", "mpeg2video", "mp3", "vorbis", "flac", "ac3")
"""Codings that come in files and from cameras, beside those that a channel carries."""

GREY: Final = 170
"""Of the picture that is sent through; coding may change it by a few."""

SOUND_RATE: Final = 48_000

LOUDNESS: Final = 0.25
"""Of the tone that is sent through, where 1 is full scale, at which a pure tone is distorted."""


@frozen
class EncoderFound:
    """An encoder, tried. ``reason``: why it does not encode here; None: it does."""

    name: str
    codec: str
    is_hardware: bool
    reason: str | None


@frozen
class Torch:
    """``devices``: where tensors can be, as torch calls it. ``reason``: why it cannot be imported; None: it can."""

    version: str | None
    devices: tuple[str, ...] = ()
    reason: str | None = None


@frozen(kw_only=True)
class Findings:
    """All of it. ``faults``: what streams need and does not work; ``remarks``: what somebody may want to know."""

    version: str
    python: str
    machine: str
    cpus: int
    memory_mb: int | None
    libraries: Mapping[str, str]
    """Versions of what it stands on, and of what PyAV brings."""
    torch: Torch
    gpus: Mapping[str, GpuInfo]
    decoders: Mapping[str, bool]
    """By libavcodec's names: whether there is one."""
    encoders: tuple[EncoderFound, ...]
    ffmpeg: str
    """The program's version, or why there is none; nothing but ``trickle bench`` wants it."""
    faults: tuple[str, ...]
    remarks: tuple[str, ...]

    def as_object(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


async def examine() -> Findings:
    """Find it out. Takes some three seconds; cancelled, it ends when what is being tried has ended."""
    ffmpeg = await find_ffmpeg()
    return await trio.to_thread.run_sync(_examine, ffmpeg.version)


def _examine(ffmpeg: str) -> Findings:
    torch, gpus = _torch(), gpu_info()
    encoders = tuple(_encoders())
    return Findings(
        version=metadata.version(DISTRIBUTION),
        python=platform.python_version(),
        machine=machine_name(),
        cpus=usable_cpus(),
        memory_mb=_memory_mb(),
        libraries=dict(sorted({**_dependencies(), **_libav()}.items())),
        torch=torch,
        gpus=gpus,
        decoders={name: _decodes(name) for name in (*_carried(), *IN_CONTAINERS)},
        encoders=encoders,
        ffmpeg=ffmpeg,
        faults=tuple(_faults(torch)),
        remarks=tuple(remarks(torch, gpus, encoders)),
    )


# -- what is there


def _dependencies() -> dict[str, str]:
    """The installed version of each; of extras only what is there."""
    versions = {}
    for requirement in metadata.requires(DISTRIBUTION) or ():
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _libav() -> dict[str, str]:
    return {name: ".".join(map(str, parts)) for name, parts in av.library_versions.items()}


def _memory_mb() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1_000_000
    except (AttributeError, ValueError, OSError):  # as the system has it
        return None


def _torch() -> Torch:
    try:
        import torch  # noqa: PLC0415  it may be broken, as for want of a library of CUDA's
    except (ImportError, OSError) as error:
        return Torch(None, reason=str(error))
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    metal = ["mps"] if torch.backends.mps.is_available() else []
    return Torch(torch.__version__, ("cpu", *(f"cuda:{number}" for number in range(cuda)), *metal))


# -- what works


def _carried() -> list[str]:
    return [codec.value for codec in Codec]


def _decodes(name: str) -> bool:
    try:
        av.codec.Codec(name, "r")
    except av.codec.codec.UnknownCodecError:
        return False
    return True


def _encoders() -> Iterator[EncoderFound]:
    for codec in Codec:
        for name in encoders_of(codec):
            yield EncoderFound(name, codec.value, is_hardware(name), _tried(name, codec))


def _tried(name: str, codec: Codec) -> str | None:
    if codec.is_video:
        return trial(VideoEncoderSettings(codec=name))
    return sound_trial(AudioEncoderSettings(codec=name))


# -- what that means


def _faults(torch: Torch) -> Iterator[str]:
    if torch.reason is not None:
        yield f"torch cannot be imported ({torch.reason})"
    for what, passes in (("a picture", _picture_passes), ("sound", _sound_passes)):
        if not _succeeds(passes):
            yield f"{what} does not come through encoder, transport stream and decoder"


def _succeeds(passes: Callable[[], bool]) -> bool:
    try:
        return passes()
    except ValueError:  # this libav has not even the codec of the defaults
        return False


def remarks(
    torch: Torch, gpus: Mapping[str, GpuInfo], encoders: Sequence[EncoderFound]
) -> Iterator[str]:
    """What may be had, and is not."""
    on_gpu = any(device.startswith("cuda") for device in torch.devices)
    if torch.version and gpus and not on_gpu:
        yield f"there is a GPU, and torch {torch.version} cannot use it: models run on the CPU"
    opened = [found.name for found in encoders if found.is_hardware and found.reason is None]
    if opened:
        yield f"pictures can be encoded in hardware: trickle serve --encoder {opened[0]}"


def _picture_passes() -> bool:
    encoder = VideoEncoder()
    grey = np.full((360, 640, 3), GREY, np.uint8)
    units = encoder.encode(VideoFrame.from_ndarray(grey), key=True) + encoder.flush()
    decoder = VideoDecoder(encoder.stream.codec)
    frames = [frame for unit in _carry(units) for frame in decoder.decode(unit)] + decoder.flush()
    return len(frames) == 1 and abs(float(frames[0].to_ndarray().mean()) - GREY) < 4


def _sound_passes() -> bool:
    encoder = AudioEncoder()
    tone = LOUDNESS * np.sin(
        np.arange(SOUND_RATE) * (2 * np.pi * 440 / SOUND_RATE), dtype=np.float32
    )
    # Not at 0: an encoder puts something before the first sample, and the stream's clock would wrap there.
    frame = AudioFrame.from_ndarray(np.stack([tone, tone]), SOUND_RATE, rate=SOUND_RATE)
    units = encoder.encode(frame) + encoder.flush()
    decoder = AudioDecoder(encoder.stream)
    heard = [frame for unit in _carry(units) for frame in decoder.decode(unit)]
    means = [np.abs(frame.samples).mean() for frame in heard]
    return bool(means) and abs(float(np.median(means)) / LOUDNESS - 2 / np.pi) < 0.05


def _carry(units: Sequence[AccessUnit]) -> list[AccessUnit]:
    """Through a transport stream and out of it."""
    if not units:
        return []
    muxer, demuxer = Muxer([units[0].stream]), Demuxer()
    data = muxer.tables() + b"".join(muxer.write(unit) for unit in units)
    events = demuxer.feed(data) + demuxer.flush()
    return [event for event in events if isinstance(event, AccessUnit)]
