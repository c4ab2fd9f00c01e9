"""What tests of several rooms share."""

from __future__ import annotations

import socket
from functools import partial

import pytest
import trio

from trickle_trio.relay import serve_relay


@pytest.fixture
async def relay(nursery: trio.Nursery) -> str:
    """The address of a real relay, on a free port, for the length of the test."""
    bound = await nursery.start(partial(serve_relay, port=0))
    return str(bound.url)


@pytest.fixture
def unused_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
