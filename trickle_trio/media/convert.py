"""From one pixel format, size and colour to another: the only place that calls swscale.

Measured on one thread at 720p: yuv420p to rgb24 0.25 ms, rgb24 to yuv420p 0.77 ms. A context of its own for every frame
costs more than the conversion, and each keeps megabytes (FFmpeg 8), so a few are kept and lent. swscale runs on the
calling thread alone: its own threads cost more CPU than they save time at these sizes, and streams share the cores.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Final

import av
from attrs import Factory, define, evolve, field, frozen
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from trickle_trio.media.colour import Colour
from trickle_trio.media.fit import Placement

RGB: Final = "rgb24"
RGBA: Final = "rgba"
PLANAR_RGB: Final = "gbrp"
RGB_FORMATS: Final = (RGB, RGBA, PLANAR_RGB)
"""What numpy and torch draw into, and read from."""


_FROM_YUV: Final = int(Interpolation.BILINEAR)
_FROM_RGB: Final = int(Interpolation.BILINEAR) | int(Interpolation.FULL_CHR_H_INP)
"""Without the second flag swscale averages the chroma of neighbours in plain C before anything else: 1.3 ms instead of
0.77 at 720p, for the same picture."""


@frozen
class Look:
    """How a picture is wanted: size in pixels, libav's name of the pixel format, and what YUV numbers mean in it."""

    width: int
    height: int
    format: str
    colour: Colour


@define(eq=False)
class Bench:
    """The tools of one kind of conversion, used by one thread at a time."""

    _reformatter: VideoReformatter = field(factory=VideoReformatter)
    _graphs: dict[tuple[object, ...], av.filter.Graph] = field(factory=dict)
    _scratch: av.VideoFrame | None = None

    def scratch(self, width: int, height: int, pixel_format: str) -> av.VideoFrame:
        """Lend a picture to draw into; what it shows is undefined, and it is overwritten by the next one to ask."""
        known = self._scratch
        if known is None or (known.width, known.height, known.format.name) != (
            width,
            height,
            pixel_format,
        ):
            self._scratch = known = av.VideoFrame(width, height, pixel_format)
        return known

    def draw(
        self, picture: av.VideoFrame, source: Colour, placement: Placement, look: Look
    ) -> av.VideoFrame:
        """Bring a picture to the wanted look; one swscale pass at most. Blocks for about a millisecond.

        ``source`` says what the numbers of ``picture`` mean. Where the look is smaller than the placement, the upper
        left part is kept. The picture itself comes back where nothing is to be done.
        """
        crop, inner = placement.crop, placement.inner
        if (crop.width, crop.height) != (picture.width, picture.height):
            picture = self._filter(
                picture, source, "crop", f"{crop.width}:{crop.height}:{crop.x}:{crop.y}:exact=1"
            )
        fills = (inner.width, inner.height) == (look.width, look.height)
        scaled = look if fills else evolve(look, width=inner.width, height=inner.height)
        picture = self._convert(picture, source, scaled)
        if placement.has_bars:
            box = f"{placement.width}:{placement.height}:{inner.x}:{inner.y}"
            picture = self._filter(picture, look.colour, "pad", f"{box}:color=black")
        if (look.width, look.height) != (picture.width, picture.height):
            picture = self._filter(
                picture, look.colour, "crop", f"{look.width}:{look.height}:0:0:exact=1"
            )
        return picture

    def _convert(self, picture: av.VideoFrame, source: Colour, look: Look) -> av.VideoFrame:
        if _is_there(picture, source, look):
            return picture
        converted = self._reformatter.reformat(
            picture,
            width=look.width,
            height=look.height,
            format=look.format,
            src_colorspace=source.swscale_matrix,
            dst_colorspace=look.colour.swscale_matrix,
            src_color_range=_range(picture.format.name, source),
            dst_color_range=_range(look.format, look.colour),
            interpolation=_FROM_RGB if _is_rgb(picture.format.name) else _FROM_YUV,
            threads=1,
        )
        if not _is_rgb(look.format):
            look.colour.tag(converted)
        return converted

    def _filter(
        self, picture: av.VideoFrame, colour: Colour, name: str, args: str
    ) -> av.VideoFrame:
        # libavfilter's crop moves pointers (2 us), its pad copies once; both know every pixel format.
        graph = self._graph(picture.width, picture.height, picture.format.name, colour, name, args)
        graph.vpush(picture)
        return graph.vpull()

    def _graph(
        self, width: int, height: int, pixel_format: str, colour: Colour, name: str, args: str
    ) -> av.filter.Graph:
        key = (width, height, pixel_format, colour, name, args)
        if key not in self._graphs:
            self._graphs[key] = _make_graph(width, height, pixel_format, colour, name, args)
        return self._graphs[key]


def _make_graph(
    width: int, height: int, pixel_format: str, colour: Colour, name: str, args: str
) -> av.filter.Graph:
    graph = av.filter.Graph()
    graph.threads = 1
    nodes = (
        graph.add(
            "buffer",
            video_size=f"{width}x{height}",
            pix_fmt=pixel_format,
            time_base="1/90000",
            range=str(int(_range(pixel_format, colour))),
        ),
        graph.add(name, args),
        graph.add("buffersink"),
    )
    graph.link_nodes(*nodes).configure()
    return graph


def _is_there(picture: av.VideoFrame, source: Colour, look: Look) -> bool:
    """Whether a picture has a look already, so that nothing is to be done."""
    return (
        (_is_rgb(look.format) or source == look.colour)
        and (picture.width, picture.height) == (look.width, look.height)
        and picture.format.name == look.format
    )


@cache
def _is_rgb(pixel_format: str) -> bool:
    return pixel_format in RGB_FORMATS or av.VideoFormat(pixel_format).is_rgb


def _range(pixel_format: str, colour: Colour) -> ColorRange:
    return ColorRange.JPEG if _is_rgb(pixel_format) else colour.range


@define(eq=False)
class BenchPool:
    """Benches at rest, the one used last in front; at most ``idle`` of them are kept."""

    idle: int = 6
    _benches: deque[tuple[Hashable, Bench]] = Factory(deque)
    _lock: Lock = Factory(Lock)

    @contextmanager
    def lend(self, kind: Hashable) -> Iterator[Bench]:
        """Lend a bench to the calling thread, one that did this kind of conversion before where there is one."""
        bench = self._take(kind)
        try:
            yield bench
        finally:
            self._put_back(kind, bench)

    def __len__(self) -> int:
        return len(self._benches)

    def _take(self, kind: Hashable) -> Bench:
        with self._lock:
            for index, (known, bench) in enumerate(self._benches):
                if known == kind:
                    del self._benches[index]
                    return bench
        return Bench()

    def _put_back(self, kind: Hashable, bench: Bench) -> None:
        with self._lock:
            self._benches.appendleft((kind, bench))
            while len(self._benches) > self.idle:
                self._benches.pop()


benches: Final = BenchPool()
"""The process's benches. They hold no state of any stream, only memory that is expensive to get."""


def draw(picture: av.VideoFrame, source: Colour, placement: Placement, look: Look) -> av.VideoFrame:
    """Bring a picture to the wanted look with a lent bench; see ``Bench.draw``."""
    if placement == Placement.whole(look.width, look.height) and _is_there(picture, source, look):
        return picture
    with benches.lend((picture.format.name, source, placement, look)) as bench:
        return bench.draw(picture, source, placement, look)
