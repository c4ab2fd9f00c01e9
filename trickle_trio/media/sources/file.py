"""A file, or an address that libav can open."""

from __future__ import annotations

from functools import partial

from attrs import field, frozen, validators

from trickle_core.mpegts import AccessUnit, ElementaryStream
from trickle_trio.media.sources.address import SELF_PACED, Address
from trickle_trio.media.sources.base import BlockingSource
from trickle_trio.media.sources.container import ContainerReading, ReadingSettings
from trickle_trio.media.sources.tracks import TrackSettings


@frozen(kw_only=True)
class FileSettings:
    """See ``FileSource``."""

    loop: bool = False
    transcode: bool = False
    copy_h265: bool = False
    gop_seconds: float = field(default=2.0, validator=validators.gt(0))
    timeout: float = field(default=10.0, validator=validators.gt(0))


class FileSource(BlockingSource):
    """A file, or an RTSP, RTMP or HTTP address.

    H.264 goes out as it is, as do AAC, Opus and MP2. What is coded otherwise, and all of it with ``transcode``, becomes
    H.264 with a key picture every ``gop_seconds``, and AAC. H.265 is copied with ``copy_h265``, otherwise it is encoded
    anew: readers of a channel expect H.264. ``loop``: at its end it begins again, for ever. ``timeout``: how many
    seconds a network may be silent; a thread that waits for one comes back that late, whatever happens.
    """

    def __init__(
        self,
        address: str,
        *,
        loop: bool = False,
        transcode: bool = False,
        copy_h265: bool = False,
        gop_seconds: float = 2.0,
        timeout: float = 10.0,
    ) -> None:
        super().__init__()
        self._address = Address(address)
        self._settings = FileSettings(
            loop=loop,
            transcode=transcode,
            copy_h265=copy_h265,
            gop_seconds=gop_seconds,
            timeout=timeout,
        )
        self._reading: ContainerReading | None = None

    @property
    def streams(self) -> tuple[ElementaryStream, ...]:
        """What it carries."""
        return self._reading.streams if self._reading else ()

    @property
    def keeps_time(self) -> bool:
        """Whether it is a live source that pushes."""
        return self._address.scheme in SELF_PACED

    def _open(self) -> None:
        address, settings = self._address, self._settings
        self._reading = ContainerReading(
            partial(address.connect, settings.timeout),
            ReadingSettings(
                address.shown,
                partial(address.explain_end, timeout=settings.timeout),
                TrackSettings(
                    settings.transcode, settings.copy_h265, settings.gop_seconds, self.keeps_time
                ),
                settings.loop,
            ),
        )

    def _read(self) -> list[AccessUnit]:
        return self._reading.read() if self._reading and not self._is_leaving else []

    def _release(self) -> None:
        if self._reading:
            self._reading.close()
