"""Handing items from station to station."""

from __future__ import annotations

from typing import TypeVar

import trio

T = TypeVar("T")


async def hand_on(item: T, channel: trio.MemorySendChannel[T]) -> None:
    """Send an item on; blocks while the channel is full.

    No checkpoint where there is room: every station waits for its input anyway, and each turn that
    it takes for nothing is one more round of the event loop, of a dozen a picture.
    """
    try:
        channel.send_nowait(item)
    except trio.WouldBlock:
        await channel.send(item)


def push(
    item: T, channel: trio.MemorySendChannel[T], out: trio.MemoryReceiveChannel[T]
) -> T | None:
    """Send an item on where the newest wins: returns the oldest, which had to go where there was no
    room. Does not block. ``out`` is the channel's other end.
    """
    try:
        channel.send_nowait(item)
    except trio.WouldBlock:
        oldest = out.receive_nowait()
        channel.send_nowait(item)
        return oldest
    return None
