"""The core alone: how many events a second its machines take, and how fast simulated time runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Final

from tests.benchmarks.report import Demand, Figure
from tests.core.simulation.simulation import Simulation
from trickle_core import wire
from trickle_core.commands import Deliver, Discard, EndBody, Grant, OpenGet
from trickle_core.events import RequestFinished, ResponseStarted
from trickle_core.publisher import Publisher, PublisherSettings
from trickle_core.relay import Relay
from trickle_core.relay_settings import RelayRequest
from trickle_core.subscriber import Subscriber
from trickle_core.window.reader import Reader
from trickle_core.window.states import NEED_DATA
from trickle_core.window.writer import Writer

AIM: Final = Demand(">=", 300_000)


def run(*, events: int = 60_000, rounds: int = 5, minutes: float = 60.0) -> list[Figure]:
    """All of it. ``events``: a machine and round; ``minutes``: of virtual time a round."""
    machines: dict[str, Callable[[int], int]] = {
        "Subscriber": subscribe,
        "Publisher": publish,
        "Channel, one reader": lambda count: relay(count, readers=1),
        "Channel, ten readers": lambda count: relay(count, readers=10),
    }
    figures = [
        Figure(
            "core", name, median(rate(work, events) for _ in range(rounds)), "events a second", AIM
        )
        for name, work in machines.items()
    ]
    simulated = median(simulate(seed, minutes) for seed in range(rounds))
    return [
        *figures,
        Figure("core", "the simulated network", simulated, "virtual minutes a second"),
    ]


def rate(work: Callable[[int], int], events: int) -> float:
    """Events a second of CPU."""
    began = time.process_time()
    done = work(events)
    return done / (time.process_time() - began)


def subscribe(events: int) -> int:
    """A reader of whole segments: it wants one, its head is there, its body has ended."""
    machine = Subscriber()
    [asked] = machine.start(0.0)
    for seq in range(events // 3):
        assert isinstance(asked, OpenGet)
        now = seq * 1.0
        machine.want_segment(now)
        head = ResponseStarted(asked.request, 200, {wire.SEQ: str(seq)})
        deliver, asked = machine.receive(head, now + 0.1)
        assert isinstance(deliver, Deliver)
        machine.receive(RequestFinished(deliver.request), now + 0.2)
    return events // 3 * 3


def publish(events: int) -> int:
    """A writer of whole segments: it begins one, ends it, and hears that it has arrived."""
    machine = Publisher(PublisherSettings(first=0))
    machine.start(0.0)
    for seq in range(events // 3):
        now = seq * 1.0
        grant, _ = machine.begin_segment(now)
        assert isinstance(grant, Grant)
        assert machine.end_segment(now + 0.1) == [EndBody(grant.request)]
        answer = ResponseStarted(grant.request, 200, {wire.SEQ: str(seq)}, bytes_sent=1000)
        assert machine.receive(answer, now + 0.2) == [Discard(grant.request)]
    return events // 3 * 3


PIECES: Final = 8
PIECE: Final = bytes(32_768)


def relay(events: int, readers: int) -> int:
    """A channel: per segment a POST and so many GETs, pieces in, and each of them out to each."""
    server = Relay()
    done = seq = 0
    while done < events:
        now = seq * 2.0
        writer = server.handle(RelayRequest("POST", f"/a/{seq}"), now)
        gets = [server.handle(RelayRequest("GET", f"/a/{seq}"), now) for _ in range(readers)]
        assert isinstance(writer, Writer)
        done += 1 + readers
        for _ in range(PIECES):
            writer.write(PIECE, now)
            done += 1 + sum(drain(get, now) for get in gets)
        writer.end(now)
        writer.abort(now)
        done += 2 + sum(drain(get, now) + leave(get, now) for get in gets)
        seq += 1
    return done


def drain(reader: object, now: float) -> int:
    """Pull all that is there; gives back in how many pulls."""
    assert isinstance(reader, Reader)
    pulls = 1
    while reader.pull(262_144, now) is not NEED_DATA and not reader.segment.closed:
        pulls += 1
    return pulls


def leave(reader: object, now: float) -> int:
    """Close it."""
    assert isinstance(reader, Reader)
    reader.close(now)
    return 1


def simulate(seed: int, minutes: float) -> float:
    """Virtual minutes a second of CPU."""
    began = time.process_time()
    counters = Simulation(seed).run(minutes)
    return counters["virtual seconds"] / 60 / (time.process_time() - began)
