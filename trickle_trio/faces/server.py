"""``StreamServer``: a processor as a service, under the name and with the arguments that users know."""

from __future__ import annotations

from typing import Any

import trio

from trickle_trio.service import Address, TrickleApp


class StreamServer:
    """Serves a processor, in any form that ``serve`` takes.

    ``app`` is an ordinary Quart app: routes, middleware, start and stop functions are added to it in Quart's own ways.
    ``capability_name`` is what ``/version`` calls the model; ``options`` are those of ``TrickleApp``. Nothing runs and
    nothing is bound before it is run. Raises TypeError and ValueError for what cannot be served.
    """

    def __init__(
        self,
        frame_processor: Any,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        capability_name: str | None = None,
        **options: Any,
    ) -> None:
        named: dict[str, Any] = {} if capability_name is None else {"model_id": capability_name}
        self.app = TrickleApp(frame_processor, host=host, port=port, **named, **options)

    def run(self) -> None:
        """Serve in a Trio loop of its own, until Ctrl-C or SIGTERM. Blocks."""
        trio.run(self.app.service)

    async def run_forever(
        self, *, task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled. ``nursery.start`` gets the address once it accepts connections."""
        await self.app.run_forever(task_status=task_status)
