"""The model loads once, whoever asks and how often.

```
NOT_LOADED --ensure--> LOADING --loaded--> LOADED
     ^                   |  |
     '---- cancelled ----'  '--failed--> FAILED --ensure--> LOADING
```
Who asks while another's attempt runs waits for it and shares its end, good or bad; who asks after a failure tries
again. An attempt that was cancelled says nothing of the model: one of those who wait takes over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from typing import Any

import trio
from attrs import define, field

from trickle_trio.processor.errors import HandlerError


class LoadState(Enum):
    """Where the model stands."""

    NOT_LOADED = "not loaded"
    LOADING = "loading"
    LOADED = "loaded"
    FAILED = "failed"


@define(eq=False)
class ModelLoad:
    """Guards a loader. ``error``: why the last attempt failed, while the state is FAILED."""

    _load: Callable[[Mapping[str, Any]], Awaitable[None]]
    state: LoadState = field(default=LoadState.NOT_LOADED, init=False)
    error: HandlerError | None = field(default=None, init=False)
    _ended: trio.Event = field(factory=trio.Event, init=False)

    async def ensure(self, params: Mapping[str, Any]) -> None:
        """Return once the model is loaded. Cancelling is safe: it cancels an attempt only for the one who began it.

        Raises HandlerError when the attempt that it made or waited for failed.
        """
        while self.state is LoadState.LOADING:
            await self._ended.wait()
            if self.error is not None:
                # Its own instance: one exception raised in two tasks would mix their tracebacks.
                raise HandlerError(*self.error.args) from self.error.__cause__
        if self.state is not LoadState.LOADED:
            await self._attempt(params)

    async def _attempt(self, params: Mapping[str, Any]) -> None:
        self.state, self.error, self._ended = LoadState.LOADING, None, trio.Event()
        after = LoadState.NOT_LOADED
        try:
            await self._load(params)
            after = LoadState.LOADED
        except HandlerError as error:
            after, self.error = LoadState.FAILED, error
            raise
        finally:
            self.state = after
            self._ended.set()
