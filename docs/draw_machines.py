# ruff: noqa: INP001  a script beside the page that it draws
"""Draws docs/machines.md: ``python docs/draw_machines.py``.

What has a table of transitions is drawn from it. The reader of a subscriber and the writer of a
publisher have none, they follow their line: these are drawn from what they do, by giving the
machine every input in every state and watching it. The words are the code's own.
"""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from enum import Enum
from itertools import pairwise
from operator import methodcaller
from pathlib import Path
from typing import Any, Final, TypeVar

from attrs import frozen

from trickle_core import commands, events, publisher, subscriber
from trickle_core.commands import Command, Deliver, Grant, Lose, Truncate
from trickle_core.errors import LocalProtocolError
from trickle_core.events import Cause, Event, RequestFailed, RequestFinished, ResponseStarted
from trickle_core.publisher import Publisher, PublisherSettings
from trickle_core.subscriber import Subscriber, SubscriberSettings
from trickle_core.window import states

PAGE: Final = Path(__file__).with_name("machines.md")

HEAD: Final = """# The machines

Drawn from the code by `python docs/draw_machines.py`; a test fails where this page and the code
differ. What is odd about a machine, and why its table looks as it does, stands at the head of its
module. What is not drawn is illegal there (`LocalProtocolError`, if this side did it) or changes
nothing (if it comes from the network, too late). [embedding.md](embedding.md) says how to drive
them.
"""

E = TypeVar("E", bound=Enum)
Edge = tuple[str, str, str]
"""From, to, and what leads there."""


@frozen
class Diagram:
    """One machine, or one party of it."""

    title: str
    kind: type[Enum]
    edges: tuple[Edge, ...]
    triggers: Mapping[str, str]
    """What each of them means."""


# -- from a table


def from_table(title: str, table: Mapping[E, Mapping[Any, E]]) -> Diagram:
    """Draw what stands there."""
    kind = type(next(iter(table)))
    edges = [
        (state.name, following.name, trigger.name)
        for state, row in table.items()
        for trigger, following in row.items()
    ]
    inputs = type(next(trigger for row in table.values() for trigger in row))
    return Diagram(title, kind, tuple(edges), texts(inputs))


def texts(kind: type[Enum]) -> dict[str, str]:
    """The string behind each member, where there is one."""
    module = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    body = next(node for node in ast.walk(module) if isinstance(node, ast.ClassDef)).body
    found = dict.fromkeys(kind.__members__, "")
    for node, following in pairwise(body):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = string(following)
    return found


def string(node: ast.stmt) -> str:
    """The text of a statement that is nothing but a string."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return inspect.cleandoc(str(node.value.value))
    return ""


# -- from what a machine does


class WatchedSubscriber(Subscriber):
    """Notes what becomes of its reader, and what its line does meanwhile."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps: list[tuple[Enum, Enum]] = []
        self.fired: list[str] = []
        super().__init__(SubscriberSettings(start=0))

    def __setattr__(self, name: str, value: object) -> None:
        if name == "reader" and isinstance(value, Enum) and "reader" in vars(self):
            self.steps.append((self.reader, value))
        super().__setattr__(name, value)

    def _fire(self, trigger: subscriber.Trigger) -> None:
        self.fired.append(trigger.name)
        super()._fire(trigger)

    def where(self) -> tuple[object, ...]:
        """What counts as its state."""
        return self.line, self.reader


class WatchedPublisher(Publisher):
    """Notes what becomes of its writer, and what its line does meanwhile."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps: list[tuple[Enum, Enum]] = []
        self.fired: list[str] = []
        super().__init__(PublisherSettings(first=0))

    def __setattr__(self, name: str, value: object) -> None:
        if name == "writer" and isinstance(value, Enum) and "writer" in vars(self):
            self.steps.append((self.writer, value))
        super().__setattr__(name, value)

    def _fire(self, trigger: publisher.Trigger) -> None:
        self.fired.append(trigger.name)
        super()._fire(trigger)

    def where(self) -> tuple[object, ...]:
        """What counts as its state."""
        return self.line, self.writer, bool(self.settling)


Watched = WatchedSubscriber | WatchedPublisher
Input = Callable[[Watched], list[Command]]

DEMANDS: Final = ("want_segment", "begin_segment", "end_segment", "drop_segment", "close")
"""What the user does to the party; ``start`` is for the line alone."""

TOLD: Final = (Deliver, Truncate, Grant, Lose)
"""The orders that tell the party something."""

MOST_REQUESTS: Final = 8


def inputs(machine: Watched) -> Iterator[tuple[str, Input]]:
    """All that can be done to a machine: what its user does, what the network says, the time."""
    for name in ("start", *DEMANDS):
        if hasattr(machine, name):
            yield name, demand(name)
    yield "handle_timeout", time_out
    for request in range(1, MOST_REQUESTS):
        for event in (
            ResponseStarted(request, 200, {}),
            ResponseStarted(request, 500, {}),
            ResponseStarted(request, 404, {}),
            RequestFinished(request),
            RequestFailed(request, Cause.BROKEN),
            RequestFailed(request, Cause.BROKEN, bytes_sent=1),
        ):
            yield type(event).__name__, report(event)


def demand(name: str) -> Input:
    """Call the machine as its user does."""
    return lambda machine: methodcaller(name, machine.now)(machine)


def report(event: Event) -> Input:
    """Tell the machine of an event."""
    return lambda machine: machine.receive(event, machine.now)


def time_out(machine: Watched) -> list[Command]:
    """Let the machine's time come."""
    if math.isinf(machine.deadline()):
        return []
    machine.now = max(machine.now, machine.deadline())
    return machine.handle_timeout(machine.now)


def explore(machine: Watched) -> list[Edge]:
    """Every input in every state that any inputs lead to, breadth first."""
    edges: dict[Edge, None] = {}
    known = {machine.where()}
    unexplored = [machine]
    while unexplored:
        state = unexplored.pop(0)
        for name, give in inputs(state):
            tried = deepcopy(state)
            try:
                orders = give(tried)
            except LocalProtocolError:
                continue
            edges |= dict.fromkeys(explained(tried, name, orders))
            tried.steps.clear()
            tried.fired.clear()
            if tried.where() not in known:
                known.add(tried.where())
                unexplored.append(tried)
    return list(edges)


def explained(machine: Watched, name: str, orders: list[Command]) -> Iterator[Edge]:
    """A demand leads to the first step, the orders that answer it to others; else what the line did
    explains a step, else the event.
    """
    told = [type(order).__name__ for order in orders if isinstance(order, TOLD)]
    causes = [name, *told] if name in DEMANDS else told or machine.fired or [name]
    for (before, after), cause in zip(machine.steps, causes, strict=False):
        if before is not after:
            yield before.name, after.name, cause


def from_deeds(title: str, machine: Watched, kind: type[Enum], line: type[Enum]) -> Diagram:
    """Draw what the party of a machine does."""
    edges = explore(machine)
    order = [*kind.__members__]
    edges.sort(key=lambda edge: (order.index(edge[0]), order.index(edge[1])))
    meanings = {cause: meaning(cause, machine, line) for _, _, cause in edges}
    return Diagram(title, kind, tuple(edges), meanings)


def meaning(cause: str, machine: Watched, line: type[Enum]) -> str:
    """The text of an input, an order, an event or a trigger of the line."""
    if cause in line.__members__:
        return texts(line)[cause]
    if cause in DEMANDS:
        return inspect.getdoc(getattr(machine, cause)) or ""
    found = vars(commands).get(cause) or vars(events)[cause]
    return inspect.getdoc(found) or ""


# -- on paper


def drawn(diagram: Diagram) -> str:
    """A section: the picture, the words."""
    module = diagram.kind.__module__
    about = (inspect.getdoc(diagram.kind) or "").splitlines()[0]
    occurring = {trigger for _, _, trigger in diagram.edges}
    triggers = {name: text for name, text in diagram.triggers.items() if name in occurring}
    parts = [
        f"## {diagram.title}",
        f"`{module}.{diagram.kind.__name__}`: {about}",
        f"```mermaid\n{picture(diagram)}\n```",
        table("state", texts(diagram.kind)),
        table("what leads on", triggers),
    ]
    return "\n\n".join(parts) + "\n"


def picture(diagram: Diagram) -> str:
    """Mermaid's text."""
    causes: dict[tuple[str, str], list[str]] = {}
    for before, after, cause in diagram.edges:
        causes.setdefault((before, after), []).append(cause)
    ends = [name for name in diagram.kind.__members__ if is_end(name, causes)]
    lines = [f"[*] --> {next(iter(diagram.kind)).name}"]
    lines += [f"{before} --> {after}: {', '.join(why)}" for (before, after), why in causes.items()]
    lines += [f"{end} --> [*]" for end in ends]
    return "\n    ".join(["stateDiagram-v2", *lines])


def is_end(name: str, steps: Iterable[tuple[str, str]]) -> bool:
    """Whether nothing leads on from a state."""
    return all(before != name or after == name for before, after in steps)


def table(what: str, rows: Mapping[str, str]) -> str:
    """Names and their meanings."""
    lines = [f"| {what} | |", "| --- | --- |"]
    lines += [f"| {name} | {in_a_cell(text)} |" for name, text in rows.items()]
    return "\n".join(lines)


def in_a_cell(text: str) -> str:
    """On one line, its first paragraph, in Markdown."""
    first, _, _ = text.partition("\n\n")
    return " ".join(first.replace("``", "`").replace("|", "\\|").split())


def page() -> str:
    """The whole page."""
    diagrams = [
        from_table("The subscriber's line", subscriber.TRANSITIONS),
        from_deeds(
            "The subscriber's reader", WatchedSubscriber(), subscriber.Reader, subscriber.Trigger
        ),
        from_table("The publisher's line", publisher.TRANSITIONS),
        from_deeds(
            "The publisher's writer", WatchedPublisher(), publisher.Writer, publisher.Trigger
        ),
        from_table("A segment in the relay", states.SEGMENT_TRANSITIONS),
        from_table("A GET in the relay", states.READER_TRANSITIONS),
        from_table("A POST in the relay", states.WRITER_TRANSITIONS),
    ]
    return "\n".join([HEAD, *map(drawn, diagrams)])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
