"""A stream without a service: no HTTP, no dashboard, just a function between two channels.

    python examples/direct_client.py http://127.0.0.1:3389/in http://127.0.0.1:3389/out

It ends with its input, or with Ctrl-C.
"""

from __future__ import annotations

import signal
import sys

import trio

from trickle_trio import TrickleClient, VideoFrame


async def mirror(frame: VideoFrame) -> VideoFrame:
    """Swap left and right."""
    return frame.replace_tensor(frame.tensor.flip(1))


async def main(subscribe_url: str, publish_url: str) -> None:
    """Run the stream, and say how it goes and why it ended."""
    client = TrickleClient(subscribe_url, publish_url, frame_processor=mirror)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop_when_told, client)
        nursery.start_soon(report, client)
        outcome = await client.start("direct")
        print(f"over: {outcome or 'stopped'}")
        nursery.cancel_scope.cancel()


async def stop_when_told(client: TrickleClient) -> None:
    """Stop on Ctrl-C and SIGTERM: the last segment is finished, and whoever reads the output sees an end."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            client.stop()


async def report(client: TrickleClient) -> None:
    """Say every few seconds how it goes."""
    while True:
        await trio.sleep(5)
        if numbers := client.statistics():
            print(f"{numbers.frames_in} frames in, {numbers.frames_out} out", flush=True)


if __name__ == "__main__":
    _, source, target = sys.argv
    trio.run(main, source, target)
