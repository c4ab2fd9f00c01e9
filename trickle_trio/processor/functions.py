"""A processor made of functions: ``StreamProcessor``, from single functions or from an object with marked methods."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, Final

import trio

from trickle_trio.processor.decorators import HandlerKind, find_marked
from trickle_trio.processor.handlers import Handlers, make_handlers
from trickle_trio.processor.hosting import Runner, service_hook
from trickle_trio.processor.options import FrameSkipConfig, OverlayConfig
from trickle_trio.processor.outlet import Outlet, SendsToStream
from trickle_trio.processor.params import declared_by
from trickle_trio.processor.signatures import long_name

Function = Callable[..., Any]
"""A handler: ``async def`` (runs in the Trio loop) or ``def`` (runs in a worker thread)."""

_ARGUMENTS: Final = {
    HandlerKind.VIDEO: "video_processor",
    HandlerKind.AUDIO: "audio_processor",
    HandlerKind.LOAD: "model_loader",
    HandlerKind.PARAMS: "param_updater",
    HandlerKind.START: "on_stream_start",
    HandlerKind.STOP: "on_stream_stop",
}


class StreamProcessor(SendsToStream):
    """Functions put together to a processor that can run its own service.

    ``params``: an attrs class that says which parameters there are; see ``processor.params``.
    ``overlay_config``: its streams have a loading overlay, which comes by itself. ``frame_skip_config``: which
    frames it does not get when it is slow.
    ``options`` beyond those named here go to the service as they are. Raises TypeError at once for a function that
    cannot be called as what it is given for, and where neither video nor audio is handled.
    """

    def __init__(
        self,
        video_processor: Function | None = None,
        *,
        audio_processor: Function | None = None,
        model_loader: Function | None = None,
        param_updater: Function | None = None,
        on_stream_start: Function | None = None,
        on_stream_stop: Function | None = None,
        params: type[Any] | None = None,
        name: str | None = None,
        port: int = 8000,
        overlay_config: OverlayConfig | None = None,
        frame_skip_config: FrameSkipConfig | None = None,
        **options: Any,
    ) -> None:
        _refuse_misspelt(options)
        given = {
            HandlerKind.VIDEO: video_processor,
            HandlerKind.AUDIO: audio_processor,
            HandlerKind.LOAD: model_loader,
            HandlerKind.PARAMS: param_updater,
            HandlerKind.START: on_stream_start,
            HandlerKind.STOP: on_stream_stop,
        }
        functions = {kind: function for kind, function in given.items() if function is not None}
        self.name = name or _name_after(functions)
        self.port = port
        self.options: Mapping[str, Any] = options
        self._outlet_here = Outlet()
        self._handlers = make_handlers(
            self.name,
            functions,
            outlet=self._outlet_here,
            params=params,
            overlay_config=overlay_config,
            frame_skip_config=frame_skip_config,
        )

    @classmethod
    def from_handlers(
        cls, handlers: object, *, name: str | None = None, port: int = 8000, **options: Any
    ) -> StreamProcessor:
        """Make a processor of an object whose methods are marked by the decorators, or of a module of such functions.

        Raises TypeError where none is marked, or two are for the same thing.
        """
        functions = find_marked(handlers)
        if not functions:
            raise TypeError(
                f"{handlers!r} has no handlers; expected methods marked by @video_handler or @audio_handler"
            )
        arguments: dict[str, Any] = {
            _ARGUMENTS[kind]: function for kind, function in functions.items()
        }
        named: dict[str, Any] = {"name": name or type(handlers).__name__, "port": port}
        return cls(**{"params": declared_by(handlers)} | arguments | named | options)

    def run(self) -> None:
        """Run the service in a Trio loop of its own, until Ctrl-C or SIGTERM. Blocks."""
        # As it is, not through run_forever: only so does the service know that the process' signals are its own.
        trio.run(self._service())

    async def run_forever(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Run the service until cancelled. ``nursery.start`` gets the address once it accepts connections."""
        await self._service()(task_status=task_status)

    def _service(self) -> Runner:
        return service_hook.runner(self, port=self.port, **self.options)

    @property
    def _outlet(self) -> Outlet:
        return self._outlet_here

    def __trickle_processor__(self) -> Handlers:
        return self._handlers


def _name_after(functions: Mapping[HandlerKind, Function]) -> str:
    main = functions.get(HandlerKind.VIDEO) or functions.get(HandlerKind.AUDIO)
    return long_name(main) if main is not None else StreamProcessor.__name__


def _refuse_misspelt(options: Mapping[str, Any]) -> None:
    """Catch a misspelt handler here: the service would name it as an option that it does not know, and much later."""
    for option in options:
        for meant in difflib.get_close_matches(option, _ARGUMENTS.values(), n=1, cutoff=0.8):
            raise TypeError(f"StreamProcessor has no argument {option!r}; did you mean {meant!r}?")
