"""The one thing that every form of a processor is turned into, and all that the pipeline sees of user code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum, auto
from functools import partial
from typing import Any, Final

import attrs
import numpy as np
import trio
from attrs import define, field

from trickle_trio.media.frames import AudioFrame, VideoFrame
from trickle_trio.processor.decorators import HandlerKind
from trickle_trio.processor.foresight import import_tensors
from trickle_trio.processor.gate import FrameGate
from trickle_trio.processor.handler import Handler, HandlerStatistics
from trickle_trio.processor.loading import LoadState, ModelLoad
from trickle_trio.processor.options import FrameSkipConfig, OverlayConfig
from trickle_trio.processor.outlet import Outlet, StreamLink
from trickle_trio.processor.params import JsonSchema, ParamsClass, means
from trickle_trio.processor.results import VideoProcessingResult, audio_result, video_result
from trickle_trio.processor.threads import ThreadRunner

_NO_DEFAULTS: Final[Mapping[str, Any]] = {}


class _Phase(Enum):
    IDLE = auto()
    STREAMING = auto()


@define(eq=False)
class Handlers:
    """A processor as the pipeline calls it: one stream at a time, one model, any number of streams one after another.

    ``name``: how messages call the processor. ``loaders`` run in their order, with ``load_defaults`` under whatever
    keywords ``load`` is given. ``overlay_config``: the loading overlay that its streams have, which comes by itself.
    ``frame_skip_config``: which frames it does not get when it is slow.
    All methods may be cancelled at any point. A handler that hangs is the caller's to time: give the call a deadline.
    """

    name: str
    _handlers: Mapping[HandlerKind, Handler]
    _loaders: tuple[Handler, ...] = ()
    _outlet: Outlet = field(factory=Outlet, kw_only=True)
    _load_defaults: Mapping[str, Any] = field(default=_NO_DEFAULTS, kw_only=True)
    params: ParamsClass | None = field(default=None, kw_only=True)
    """The parameters that the processor declares, if it does."""
    overlay_config: OverlayConfig | None = field(default=None, kw_only=True)
    frame_skip_config: FrameSkipConfig | None = field(default=None, kw_only=True)
    prewarm: tuple[int, int] | None = field(default=None, kw_only=True)
    """Width and height of a black picture that the video handler gets when the model is loaded, as part of that; what
    comes of it is thrown away."""
    _model: ModelLoad = field(init=False)
    _made: list[dict[str, Any]] | None = field(default=None, init=False)
    """Where others use the model: what each loader has set on its object."""
    _before: list[dict[str, Any]] = field(factory=list, init=False)
    """Until the model is loaded: what each loader's object had before its first call, which may have failed."""
    _gate: FrameGate = field(factory=FrameGate, init=False)
    _phase: _Phase = field(default=_Phase.IDLE, init=False)
    is_prepared: bool = field(default=False, init=False)
    """Whether what the first frame needs has been imported, see ``prepare``."""

    def __attrs_post_init__(self) -> None:
        self._model = ModelLoad(self._run_loaders)

    @property
    def handles_video(self) -> bool:
        """Whether pictures must be decoded for it; where not, they can be copied."""
        return HandlerKind.VIDEO in self._handlers

    @property
    def handles_audio(self) -> bool:
        """Whether sound must be decoded for it; where not, it can be copied."""
        return HandlerKind.AUDIO in self._handlers

    @property
    def concurrency(self) -> int:
        """How many ``video`` calls the handler says it can take at once."""
        handler = self._handlers.get(HandlerKind.VIDEO)
        return handler.mark.concurrency if handler else 1

    @property
    def video_waits(self) -> bool:
        """Whether a ``video`` call may last without holding the event loop; where not, none can be cut short."""
        return self._waits(HandlerKind.VIDEO)

    @property
    def audio_waits(self) -> bool:
        """Likewise of ``audio``."""
        return self._waits(HandlerKind.AUDIO)

    def _waits(self, kind: HandlerKind) -> bool:
        handler = self._handlers.get(kind)
        return handler is not None and handler.waits

    @property
    def load_state(self) -> LoadState:
        """Where the model stands."""
        return self._model.state

    def statistics(self) -> HandlerStatistics:
        """Return the counters of all handlers, added up."""
        everyone = (*self._handlers.values(), *self._loaders)
        return sum((handler.statistics() for handler in everyone), HandlerStatistics())

    async def load(self, **params: Any) -> None:
        """Load the model, once: later calls return at once, a second one meanwhile waits for the first.

        Raises HandlerError when it fails; then it may be called again.
        """
        await self._model.ensure(params)

    def use_model_of(self, other: Handlers) -> None:
        """Load no model, but wait for that of another processor of the same kind, which loads once for both.

        What its loaders set on their object (``self.model = ...``) is set on this one's too: the same things, not
        copies. A loader that keeps its model elsewhere, in its module for one, needs no more than to run once.
        Raises ValueError where the other is of another kind, or has loaded unheeded.
        """
        if len(self._loaders) != len(other._loaders):
            raise ValueError(
                f"{self.name} has not the same loaders as {other.name}, whose model it is to share"
            )
        if other._made is None and other.load_state is not LoadState.NOT_LOADED:
            raise ValueError(f"{other.name} has its model already: it is loaded when it is shared")
        other._made = other._made or []
        self._model = ModelLoad(partial(self._adopt, other))

    async def _adopt(self, other: Handlers, params: Mapping[str, Any]) -> None:
        await other.load(**params)
        for loader, made in zip(self._loaders, other._made or [], strict=True):
            loader.belongings.update(made)

    async def prepare(self) -> None:
        """Import what the video handler will need for its first frame, in a thread; see ``foresight``.

        No part of ``load``, which may fail. Quick the second time, and where tensors are not spoken of. Cancelling is
        safe.
        """
        handler = self._handlers.get(HandlerKind.VIDEO)
        if handler is not None and handler.asks_for_tensors:
            await ThreadRunner(1).run(import_tensors)
        self.is_prepared = True

    async def video(self, frame: VideoFrame) -> VideoFrame | VideoProcessingResult:
        """Have a picture processed: what came of it, or ``Withheld`` for nothing.

        Raises HandlerError when the handler raises, WrongReturnError when it gives back what is no picture.
        """
        handler = self._handlers.get(HandlerKind.VIDEO)
        if handler is None:
            return frame
        return video_result(await self._handle(handler, frame), frame, handler.label)

    async def audio(self, frame: AudioFrame) -> list[AudioFrame]:
        """Have a stretch of sound processed: any number of frames in its place, none for nothing.

        Raises HandlerError when the handler raises, WrongReturnError when it gives back what is no sound.
        """
        handler = self._handlers.get(HandlerKind.AUDIO)
        if handler is None:
            return [frame]
        return audio_result(await self._handle(handler, frame), frame, handler.label)

    def first_params(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters with which a stream begins: what is given, and the defaults that are declared.

        Raises ParamsError, naming the field, for what cannot be.
        """
        return self.params.first(given) if self.params else dict(given)

    def changed_params(
        self, current: Mapping[str, Any], given: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return a change in its proper form, beside what holds by now. Raises ParamsError, naming the field."""
        return self.params.change(current, given) if self.params else dict(given)

    def params_schema(self) -> JsonSchema:
        """Describe the processor's parameters as JSON schema: any, where it declares none."""
        return self.params.schema() if self.params else {"type": "object", "properties": {}}

    async def update_params(
        self, params: Mapping[str, Any], current: Mapping[str, Any] = _NO_DEFAULTS
    ) -> None:
        """Hand changed parameters on, while no frame is being handled in a thread. ``current``: all before the change.

        Updates are applied in the order of the calls, unless the updater is marked ``concurrent``. Raises HandlerError.
        """
        handler = self._handlers.get(HandlerKind.PARAMS)
        if handler is None:
            return
        payload = self._params_for(handler, params, {**current, **params})
        if handler.mark.concurrent:
            await handler.call(payload)
            return
        async with self._gate.update():
            await handler.call(payload)

    def _params_for(
        self, handler: Handler, changes: Mapping[str, Any], whole: Mapping[str, Any]
    ) -> Any:
        """Give a handler what it asks for by its annotation: an object of all, or a dict of what has changed."""
        if self.params is not None and means(handler.annotation, self.params.kind):
            return self.params.make(whole)
        return dict(changes)

    def attach(self, link: StreamLink) -> None:
        """Let the user's ``send_data`` and its like reach a stream. Raises RuntimeError when they reach another."""
        self._outlet.attach(link)

    def detach(self, link: StreamLink) -> None:
        """Cut that stream off again."""
        self._outlet.detach(link)

    async def stream_started(self, params: Mapping[str, Any]) -> None:
        """Tell the user's code that a stream starts, and with which parameters.

        They go to what is called at the start; where that takes none, or is not there, they go to the updater instead,
        once: so they have taken effect before the first frame either way. Raises HandlerError when it fails,
        RuntimeError while another stream runs. From here on a ``stream_stopped`` is due, also when this fails or is
        cancelled: what was half set up must be taken down.
        """
        if self._phase is _Phase.STREAMING:
            raise RuntimeError(f"{self.name} already runs in a stream")
        self._phase = _Phase.STREAMING
        handler = self._handlers.get(HandlerKind.START)
        if handler is not None:
            await handler.call(self._params_for(handler, params, params))
        if params and (handler is None or not handler.takes_payload):
            await self.update_params(params)

    async def stream_stopped(self) -> None:
        """Tell the user's code that the stream has ended; only the first call after a start does. Raises HandlerError.

        In a cancelled scope it ends at its first await: call it shielded, with a deadline.
        """
        if self._phase is _Phase.STREAMING:
            self._phase = _Phase.IDLE
            handler = self._handlers.get(HandlerKind.STOP)
            if handler is not None:
                await handler.call()

    async def _handle(self, handler: Handler, frame: Any) -> Any:
        if not handler.in_thread:
            return await handler.call(frame)
        async with self._gate.frame():
            return await handler.call(frame)

    async def _run_loaders(self, params: Mapping[str, Any]) -> None:
        made: list[dict[str, Any]] = []
        for number, loader in enumerate(self._loaders):
            if number == len(self._before):
                self._before.append(dict(loader.belongings))
            await loader.call({**self._load_defaults, **params})
            made.append(_changes(self._before[number], loader.belongings))
        if self._made is not None:
            self._made = made
        if self.prewarm is not None:
            await self.video(_black(*self.prewarm))
        self._before.clear()
        await trio.lowlevel.checkpoint()


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in after.items() if before.get(key, before) is not value}


def _black(width: int, height: int) -> VideoFrame:
    return VideoFrame.from_ndarray(np.zeros((height, width, 3), np.uint8), 0)


def make_handlers(
    name: str,
    functions: Mapping[HandlerKind, Callable[..., Any]],
    loaders: Sequence[Callable[..., Any]] = (),
    *,
    outlet: Outlet | None = None,
    load_defaults: Mapping[str, Any] = _NO_DEFAULTS,
    params: type[Any] | None = None,
    overlay_config: OverlayConfig | None = None,
    frame_skip_config: FrameSkipConfig | None = None,
) -> Handlers:
    """Put a processor together from functions: one a kind, and loaders in their order before the one among them.

    ``params``: the class of its parameters, where no function says it. Raises TypeError for a function that cannot be
    called as what it is for, where none handles media, and where two say different things of the parameters.
    """
    if not functions.keys() & {HandlerKind.VIDEO, HandlerKind.AUDIO}:
        raise TypeError(
            f"{name} handles neither video nor audio; expected a handler for one of them"
        )
    made = {kind: Handler.make(function, kind) for kind, function in functions.items()}
    first = [Handler.make(loader, HandlerKind.LOAD) for loader in loaders]
    last = made.pop(HandlerKind.LOAD, None)
    return Handlers(
        name,
        made,
        (*first, last) if last else tuple(first),
        outlet=outlet or Outlet(),
        load_defaults=load_defaults,
        params=_declared(name, made.values(), params),
        overlay_config=overlay_config,
        frame_skip_config=frame_skip_config,
    )


def _declared(
    name: str, handlers: Iterable[Handler], given: type[Any] | None
) -> ParamsClass | None:
    """Find the one class of parameters that is declared."""
    kinds = [given] if given is not None else []
    for handler in handlers:
        if handler.mark.kind not in (HandlerKind.PARAMS, HandlerKind.START):
            continue
        if handler.mark.params is not None:
            kinds.append(handler.mark.params)
        if isinstance(handler.annotation, type) and attrs.has(handler.annotation):
            kinds.append(handler.annotation)
    if len(set(kinds)) > 1:
        said = ", ".join(sorted(kind.__name__ for kind in set(kinds)))
        raise TypeError(
            f"{name} declares its parameters more than once: {said}; expected one class"
        )
    return ParamsClass(kinds[0]) if kinds else None
