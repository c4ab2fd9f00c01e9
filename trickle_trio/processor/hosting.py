"""The way up: a processor that is asked to ``run()`` needs the service, and the service stands above it.

Imports point down only, so the service is handed in: ``trickle_trio`` sets ``service_hook.serve`` when it is imported
(to a function that may import the service when it is first called). Whoever embeds the processor layer in a service
of their own sets it likewise.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Final, Protocol

from attrs import define


class Runner(Protocol):
    """What ``serve`` returns: runs until cancelled, reports its address once it accepts connections."""

    def __call__(self, *, task_status: Any = ...) -> Awaitable[Any]:
        """Run it."""
        ...


class Serve(Protocol):
    """The part of ``serve`` that a processor relies on: itself first, its options as keywords."""

    def __call__(self, processor: Any, /, **options: Any) -> Runner:
        """Make a service around a processor."""
        ...


@define(eq=False)
class ServiceHook:
    """Holds the service's ``serve`` once there is one."""

    serve: Serve | None = None

    def runner(self, processor: object, **options: Any) -> Runner:
        """Make the service around a processor. Raises RuntimeError where no service was handed in."""
        if self.serve is None:
            raise RuntimeError(
                "there is no service to run the processor in: import trickle_trio, or set "
                "trickle_trio.processor.service_hook.serve"
            )
        return self.serve(processor, **options)


service_hook: Final = ServiceHook()
