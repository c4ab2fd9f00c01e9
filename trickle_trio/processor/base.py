"""A processor made of a class: override what you need of ``FrameProcessor``."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Final

from attrs import Factory, define, field, frozen

from trickle_trio.media.frames import AudioFrame, VideoFrame
from trickle_trio.processor.decorators import HandlerKind, find_marked
from trickle_trio.processor.handler import Handler
from trickle_trio.processor.handlers import Handlers, make_handlers
from trickle_trio.processor.options import FrameSkipConfig, OverlayConfig
from trickle_trio.processor.outlet import Outlet, SendsToStream
from trickle_trio.processor.params import declared_by

_METHODS: Final = {
    HandlerKind.VIDEO: "process_video_async",
    HandlerKind.AUDIO: "process_audio_async",
    HandlerKind.PARAMS: "update_params",
    HandlerKind.START: "on_stream_start",
    HandlerKind.STOP: "on_stream_stop",
}

_LOADERS: Final = ("initialize", "load_model")
"""In this order: the one prepares, the other may use what it made."""


@frozen
class _Ready:
    """A result that can be awaited and need not be.

    An override may be async and await ``super()``'s method, or plain and just call it.
    """

    value: Any = None

    def __await__(self) -> Generator[Any, Any, Any]:
        yield from ()
        return self.value


@define(eq=False)
class _State:
    """What the base class keeps on an instance, behind one name so as not to get in the way of the user's."""

    outlet: Outlet = field(factory=Outlet)
    load_defaults: dict[str, Any] = Factory(dict)
    handlers: Handlers | None = None


class FrameProcessor(SendsToStream):
    """Base of processors with state.

    Every method may be overridden as ``async def`` (runs in the Trio loop) or ``def`` (runs in a worker thread). What
    is not overridden costs nothing: without ``process_audio_async``, sound is copied and never decoded. Methods marked
    by the decorators count too. An attrs class called ``Params`` inside the subclass declares its parameters; see
    ``processor.params``. ``kwargs`` go to ``load_model``, under those that come with the call.
    """

    overlay_config: OverlayConfig | None = None
    """Set it on the class or the instance, and streams have a loading overlay, which comes by itself."""
    frame_skip_config: FrameSkipConfig | None = None
    """Set it likewise, and frames are left out evenly when the handler is slower than the input."""

    def __init__(self, **kwargs: Any) -> None:
        self._trickle.load_defaults.update(kwargs)
        # Only for its complaints: a wrong signature is told where the object is made.
        for kind, function in self._functions().items():
            Handler.make(function, kind)
        for loader in self._loaders():
            Handler.make(loader, HandlerKind.LOAD)

    # The methods return Any and take what they like, for overrides of both colours and any signature to type-check.

    def initialize(self) -> Any:
        """Prepare what needs no parameters; called once, before ``load_model``."""
        return _Ready()

    def load_model(self, *args: Any, **kwargs: Any) -> Any:
        """Load the model; called once, with those keywords that the override takes."""
        return _Ready()

    def process_video_async(self, frame: VideoFrame) -> Any:
        """Process a picture: a ``VideoFrame``, ``None`` (pass the input on) or ``Withheld``."""
        return _Ready(frame)

    def process_audio_async(self, frame: AudioFrame) -> Any:
        """Process sound: a list of ``AudioFrame``, one frame, or ``None`` (pass the input on)."""
        return _Ready([frame])

    def update_params(self, params: dict[str, Any]) -> Any:
        """Take changed parameters."""
        return _Ready()

    def on_stream_start(self, *args: Any, **kwargs: Any) -> Any:
        """Set up for a stream; the override takes its parameters as a dict, or nothing."""
        return _Ready()

    def on_stream_stop(self) -> Any:
        """Clean up after a stream."""
        return _Ready()

    async def start(self) -> None:
        """Load the model now, instead of when the service asks for it. Raises HandlerError; may be called again."""
        await self.__trickle_processor__().load()

    @property
    def _trickle(self) -> _State:
        # Not made in __init__: a subclass may forget to call it, or have its own from attrs.
        state: _State = self.__dict__.setdefault("_trickle_state", _State())
        return state

    @property
    def _outlet(self) -> Outlet:
        return self._trickle.outlet

    def __trickle_processor__(self) -> Handlers:
        state = self._trickle
        if state.handlers is None:
            state.handlers = make_handlers(
                type(self).__name__,
                self._functions(),
                self._loaders(),
                outlet=state.outlet,
                load_defaults=state.load_defaults,
                params=declared_by(type(self)),
                overlay_config=self.overlay_config,
                frame_skip_config=self.frame_skip_config,
            )
        return state.handlers

    def _functions(self) -> dict[HandlerKind, Callable[..., Any]]:
        """Collect what the subclass overrides, and what it marks. Raises TypeError where both say different things."""
        functions = find_marked(self)
        for kind, name in _METHODS.items():
            if not self._overrides(name):
                continue
            method = getattr(self, name)
            if functions.setdefault(kind, method) != method:
                raise TypeError(
                    f"{type(self).__name__} overrides {name} and marks another method "
                    f"@{kind.value}; expected one of them"
                )
        return functions

    def _loaders(self) -> list[Callable[..., Any]]:
        loaders = [getattr(self, name) for name in _LOADERS if self._overrides(name)]
        marked = find_marked(self).get(HandlerKind.LOAD)
        return [loader for loader in loaders if loader != marked]

    def _overrides(self, name: str) -> bool:
        return name in vars(self) or getattr(type(self), name) is not getattr(FrameProcessor, name)
