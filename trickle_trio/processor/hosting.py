"""The way up: a processor that is asked to ``run()`` needs the service, and the service stands above it.

Imports point down only. So it is asked for at the front door, ``trickle_trio.serve``, and only when something is to
run: the package is there before any of its modules, and it loads the service when that name is first asked for. Whoever
puts the processor layer into a service of their own sets ``service_hook.serve`` instead.
"""

from __future__ import annotations

import sys
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
    """Which ``serve`` a processor runs in: the package's own, unless another is set."""

    serve: Serve | None = None

    def runner(self, processor: object, **options: Any) -> Runner:
        """Make the service around a processor; raises what ``serve`` raises for options that it does not take."""
        serve = self.serve or _front_door()
        return serve(processor, **options)


def _front_door() -> Serve:
    package: Any = sys.modules[__name__.partition(".")[0]]
    serve: Serve = package.serve
    return serve


service_hook: Final = ServiceHook()
