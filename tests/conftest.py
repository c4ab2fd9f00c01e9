"""What tests of several rooms share. It is read for the core's tests too, which have nothing but attrs beside them."""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    import trio

# A deadline an example is a timing assertion; machines are slow when they are. The gates try the
# same examples each time; to look for new ones: pytest --hypothesis-profile=explore.
settings.register_profile("gates", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile("gates")


@pytest.fixture
async def relay(nursery: trio.Nursery) -> str:
    """The address of a real relay, on a free port, for the length of the test."""
    from trickle_trio.relay import serve_relay  # noqa: PLC0415  see above

    bound = await nursery.start(partial(serve_relay, port=0))
    return str(bound.url)


@pytest.fixture
def unused_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
