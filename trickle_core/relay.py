"""All channels of a trickle server: a request's head in, its answer out.

No I/O and no clock: the adapter says what time it is, sends what is answered, and keeps the two
sides of a long request apart. ``Relay.handle`` gives back one of

- an ``Answer``: send it, whole; where it ``closes``, at once and whatever the client still sends,
- a ``Reader``: pull the answer out of it,
- a ``Writer``: feed it the request's body, then send what ``end`` gives back.

``deadline`` says when ``handle_timeout`` is next wanted. The protocol's source is the server that
is deployed inside a Livepeer node; where ours does more or otherwise, the place says so.
"""

from __future__ import annotations

import hmac
import json
import math
from collections.abc import Callable, Mapping
from enum import Enum, auto
from functools import partial
from types import MappingProxyType
from typing import ClassVar, Final
from urllib.parse import unquote

from attrs import define, field, frozen

from trickle_core import wire
from trickle_core.answer import TERMINATED, Answer, latest_header, text
from trickle_core.channel import Channel
from trickle_core.relay_settings import Guard, Policy, RelayRequest, RelaySettings
from trickle_core.window.books import Account, Agenda
from trickle_core.window.reader import Reader
from trickle_core.window.writer import Writer

Handled = Answer | Reader | Writer

Action = Callable[["Relay", RelayRequest, "Target", float], Handled]

OCTETS: Final = "application/octet-stream"
"""The type of a channel whose publisher named none."""

MAX_MIME_LENGTH: Final = 255
"""RFC 6838, 4.2: type and subtype have at most 127 characters each."""

METHODS: Final = ("GET", "POST", "DELETE")
NO_METHOD: Final = text(405, "No such method here", (("allow", ", ".join(METHODS)),))
NO_CHANNEL: Final = text(404, "Stream not found")
NO_SEGMENT: Final = text(400, "No such segment")
NO_NUMBER: Final = text(400, "The segment is no sequence number")
NO_TOKEN: Final = text(401, "A bearer token is needed", (("www-authenticate", "Bearer"),))
RESERVED: Final = text(403, "The relay itself writes this channel")
ENDED: Final = text(503, "The relay has ended").closing()


class Place(Enum):
    """What a path leads to."""

    CHANNEL = auto()
    SEGMENT = auto()
    NEXT = auto()


@frozen
class Target:
    """A path, taken apart. ``part`` is what follows the channel's name."""

    place: Place
    name: str
    part: str = ""


@frozen
class RelayStatistics:
    """What a relay holds. Sizes in bytes."""

    channels: int
    segments: int
    size: int
    readers: int
    writers: int


@define(eq=False)
class Relay:
    """A trickle server without its sockets. ``now``: seconds of any clock that does not go back,
    the same for every call.
    """

    settings: RelaySettings = field(factory=RelaySettings)
    _channels: dict[str, Channel] = field(factory=dict, init=False)
    _agenda: Agenda = field(factory=Agenda, init=False)
    _memory: Account = field(init=False)
    _ended: bool = field(default=False, init=False)
    _next_sweep: float = field(default=-math.inf, init=False)

    def __attrs_post_init__(self) -> None:
        self._memory = Account(self.settings.max_total_bytes)
        if self.settings.changefeed:
            self._new_channel(wire.CHANGES, wire.JSON, now=-math.inf)

    def handle(self, request: RelayRequest, now: float) -> Handled:
        """Answer a request's head. Does not block, and raises nothing, whatever the request."""
        handled = self._handle(request, now)
        if request.method == "POST" and isinstance(handled, Answer) and handled.status >= 400:
            # A refused POST is answered at once: its body may come as slowly as a live stream.
            return handled.closing()
        return handled

    def _handle(self, request: RelayRequest, now: float) -> Handled:
        if self._ended:
            return ENDED
        if request.method not in METHODS:
            return NO_METHOD
        if not self._may(request):
            return NO_TOKEN
        target = self._target(request)
        if isinstance(target, Answer):
            return target
        action = self._ACTIONS.get((request.method, target.place))
        if action is None:
            return self._not_allowed(target)
        return action(self, request, target, now)

    def _not_allowed(self, target: Target) -> Answer:
        allowed = ", ".join(method for method, place in self._ACTIONS if place is target.place)
        return text(405, f"Only {allowed} is possible here", (("allow", allowed),))

    def _may(self, request: RelayRequest) -> bool:
        guarded = Guard.READING if request.method == "GET" else Guard.WRITING
        if self.settings.token is None or guarded not in self.settings.guard:
            return True
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        given, wanted = token.strip().encode(errors="replace"), self.settings.token.encode()
        return hmac.compare_digest(given, wanted) and scheme.lower() == "bearer"

    def _target(self, request: RelayRequest) -> Target | Answer:
        base = self.settings.base_path
        path = _only_path(request.path)
        parts = path.removeprefix(base).split("/")
        if not path.startswith(base) or len(parts) > 2 or not parts[0]:
            return text(404, "Nothing is here")
        name = unquote(parts[0])
        if not name.isprintable() or "\ufffd" in name:
            return text(400, "The channel's name is no printable UTF-8")
        if len(name) > self.settings.max_name_length:
            return text(414, "The channel's name is too long")
        if len(parts) == 1:
            return Target(Place.CHANNEL, name)
        asks_next = parts[1] == wire.NEXT and request.method == "GET"
        return Target(Place.NEXT if asks_next else Place.SEGMENT, name, parts[1])

    # Channels

    def _create(self, request: RelayRequest, target: Target, now: float) -> Handled:
        mime_type = request.headers.get(wire.EXPECT_CONTENT, "")
        found = self._found_or_made(request, target.name, mime_type, now)
        return found if isinstance(found, Answer) else Answer(200)

    def _found_or_made(
        self, request: RelayRequest, name: str, mime_type: str, now: float
    ) -> Channel | Answer:
        if self._reserved(name):
            return RESERVED
        channel = self._channels.get(name)
        if channel is not None and not channel.closed:
            return channel
        if not self.settings.autocreate:
            return NO_CHANNEL
        if len(mime_type) > MAX_MIME_LENGTH or not mime_type.isascii():
            return text(400, "That is no media type")
        refusal = _consult(self.settings.before_create, request, name)
        return refusal or self.create(name, mime_type, now)

    def _reserved(self, name: str) -> bool:
        return self.settings.changefeed and name == wire.CHANGES

    def create(self, name: str, mime_type: str, now: float) -> Channel | Answer:
        """Make a channel, whatever ``autocreate`` says: for programs that embed the relay. Gives
        the one that is there already; an answer where there are too many.
        """
        channel = self._channels.get(name)
        if channel is not None and not channel.closed:
            return channel
        if channel is None and len(self._channels) >= self.settings.max_channels:
            return text(503, "Too many channels")
        if channel is not None:
            channel.clear(now)
        channel = self._new_channel(name, mime_type or OCTETS, now)
        self._expect_idle(now)
        self._tell("added", name, now)
        return channel

    def _new_channel(self, name: str, mime_type: str, now: float) -> Channel:
        account = Account(self.settings.max_channel_bytes, self._memory)
        channel = Channel(name, mime_type, self.settings, now, account, self._agenda)
        self._channels[name] = channel
        return channel

    def _tell(self, change: str, name: str, now: float) -> None:
        if self.settings.changefeed:
            feed = self._channels[wire.CHANGES]
            feed.publish(json.dumps({change: [name]}).encode(), now)

    def _expect_idle(self, now: float) -> None:
        # One entry for all channels: one for each would let a client that makes and deletes
        # channels fill the agenda.
        if self._next_sweep > now:
            return
        quiet_since = min((channel.written_at for channel in self._swept()), default=None)
        if quiet_since is not None:
            self._next_sweep = quiet_since + self.settings.idle_timeout
            self._agenda.add(self._next_sweep, self._sweep)

    def _swept(self) -> list[Channel]:
        known = self._channels.items()
        return [channel for name, channel in known if not (channel.closed or self._reserved(name))]

    def _sweep(self, now: float) -> None:
        for channel in self._swept():
            if channel.written_at + self.settings.idle_timeout <= now:
                self.delete(channel.name, now)
        self._expect_idle(now)

    def _delete(self, request: RelayRequest, target: Target, now: float) -> Handled:
        if self._reserved(target.name):
            return RESERVED
        refusal = _consult(self.settings.before_delete, request, target.name)
        if refusal is not None:
            return refusal
        deleted = self.delete(target.name, now)
        return Answer(200) if deleted else text(400, "No such channel")

    def delete(self, name: str, now: float) -> bool:
        """Close a channel and forget its name: at once, or after ``linger``, or ``catch_up`` for
        readers that are behind. False: there is none.
        """
        channel = self._channels.get(name)
        if channel is None or channel.closed:
            return False
        kept = self.settings.linger
        if channel.somebody_is_behind(now):
            kept = max(kept, self.settings.catch_up)
        channel.close(now)
        if kept:
            self._agenda.add(now + kept, partial(self._forget, channel))
        else:
            self._forget(channel, now)
        self._tell("removed", name, now)
        return True

    def _forget(self, channel: Channel, now: float) -> None:
        channel.clear(now)
        if self._channels.get(channel.name) is channel:
            del self._channels[channel.name]

    # Segments

    def _read(self, _request: RelayRequest, target: Target, now: float) -> Handled:
        channel = self._channels.get(target.name)
        if channel is None:
            return NO_CHANNEL
        asked = wire.parse_seq(target.part)
        return NO_NUMBER if asked is None else channel.open_reader(asked, now)

    def _next(self, _request: RelayRequest, target: Target, _now: float) -> Handled:
        channel = self._channels.get(target.name)
        if channel is None:
            return NO_CHANNEL
        ended = TERMINATED if channel.closed else ()
        headers = (*latest_header(channel.next_write), *ended)
        return text(200, str(channel.next_write), headers)

    def _write(self, request: RelayRequest, target: Target, now: float) -> Handled:
        asked = wire.parse_seq(target.part)
        if asked is None or asked < wire.NEXT_WRITE:
            return NO_NUMBER
        mime_type = request.headers.get("content-type", "")
        channel = self._found_or_made(request, target.name, mime_type, now)
        if isinstance(channel, Answer):
            return channel
        reset = bool(request.headers.get(wire.RESET))
        return channel.open_writer(asked, now, reset=reset)

    def _close_segment(self, _request: RelayRequest, target: Target, now: float) -> Handled:
        channel = self._channels.get(target.name)
        if channel is None or channel.closed:
            return NO_CHANNEL
        if self._reserved(target.name):
            return RESERVED
        asked = wire.parse_seq(target.part)
        if asked is None:
            return NO_NUMBER
        return Answer(200) if channel.close_segment(asked, now) else NO_SEGMENT

    _ACTIONS: ClassVar[dict[tuple[str, Place], Action]] = {
        ("POST", Place.CHANNEL): _create,
        ("DELETE", Place.CHANNEL): _delete,
        ("GET", Place.SEGMENT): _read,
        ("POST", Place.SEGMENT): _write,
        ("DELETE", Place.SEGMENT): _close_segment,
        ("GET", Place.NEXT): _next,
    }

    # Time, end, and what there is

    def deadline(self) -> float:
        """When ``handle_timeout`` is wanted next; ``math.inf``: not at all as things stand. Ask
        again after every other call.
        """
        return self._agenda.deadline()

    def handle_timeout(self, now: float) -> None:
        """Do what is due: sweep idle channels, close abandoned segments, let publishers go on."""
        self._agenda.run(now)

    def close(self, now: float) -> None:
        """End it all: readers get what is there, those who wait are told that their channel has
        ended, every later request is refused. Twice is legal.
        """
        self._ended = True
        for channel in list(self._channels.values()):
            channel.close(now)
            self._forget(channel, now)

    @property
    def channels(self) -> Mapping[str, Channel]:
        """The channels by name, as they are now."""
        return MappingProxyType(self._channels)

    def statistics(self) -> RelayStatistics:
        """What it holds."""
        channels = self._channels.values()
        return RelayStatistics(
            channels=len(channels),
            segments=sum(channel.segments for channel in channels),
            size=self._memory.used,
            readers=sum(channel.readers for channel in channels),
            writers=sum(channel.writers for channel in channels),
        )


def _only_path(target: str) -> str:
    path = target.partition("?")[0]
    if path.startswith("/"):
        return path
    # A request meant for a proxy names the whole address (RFC 9112, 3.2.2).
    return "/" + path.partition("://")[2].partition("/")[2]


def _consult(policy: Policy | None, request: RelayRequest, name: str) -> Answer | None:
    refusal = None if policy is None else policy(request, name)
    return None if refusal is None else text(refusal.status, refusal.reason)
