"""What Massive tells in its documents, as data; and the talk on one of its sockets.

Sources, read 2026-11: massive.com/docs/websocket, "Quickstart" and "Stocks"; massive.com/knowledge-
base, "WebSockets"; and what jerbersoft/massivedotnet (docs, 2026-09) found on the live service:

- One connection for each cluster (the path: stocks, options) and account. One more is let in, and
  may even subscribe, before one of the two is told ``max_connections`` and cut off.
- ``auth_failed`` means a bad key, or a plan without this cluster; the words tell which.
- Each parameter of a subscription is acknowledged by itself. An unknown ticker is too, and never
  ticks; an unknown channel gets no answer at all.
- There is no limit to the count of symbols, but a client that is too slow is cut off.
- Names are written in both cases (``BACpB``), so they are taken as they are.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from mdsys.feed.event_venue import EventTalk, EventVenue, no_events
from mdsys.feed.frame import SymbolInfo
from mdsys.feed.massive.reference import ReferenceDecoder
from mdsys.feed.venue import (
    Busy,
    Confirmed,
    Decoder,
    Denied,
    Event,
    Fetch,
    Message,
    Notice,
    Refused,
    Removed,
    Resolution,
    Resolve,
    Secret,
    Stream,
)

PREFIXES: Final[Mapping[str, str]] = {"trade": "T", "quote": "Q", "bar": "AM"}
"""Channel -> what stands before the symbol in a subscription."""

PATH: Final = "/stocks"
BUSY_S: Final = 60.0

_SUBSCRIBED = re.compile(r"subscribed (?:to|from): *(.*)")
_UNSUBSCRIBED = re.compile(r"unsubscribed (?:to|from): *(.*)")
_SEPARATORS = re.compile(r"[\s,]+")


def parameter(stream: Stream) -> str:
    """Return ``T.AAPL``."""
    return f"{PREFIXES[stream.channel]}.{stream.symbol}"


class MassiveTalk(EventTalk):
    """One socket's conversation."""

    def __init__(self, secret: Secret) -> None:
        super().__init__({"action": "auth", "params": secret.get("key", "")})
        self._streams: dict[str, Stream] = {}  # by parameter, all that were ever asked for

    def subscribe(self, streams: Sequence[Stream], request_id: int) -> Sequence[Message]:  # noqa: ARG002 - answers name streams
        """Return the message that asks for ``streams``."""
        asked = {parameter(stream): stream for stream in streams}
        self._streams.update(asked)
        return [_message("subscribe", ",".join(asked))]

    def unsubscribe(self, streams: Sequence[Stream], request_id: int) -> Sequence[Message]:  # noqa: ARG002
        """Return the message that ends ``streams``."""
        return [_message("unsubscribe", ",".join(map(parameter, streams)))]

    def hear(self, frame: bytes) -> Iterable[Event]:
        """Read the statuses of a frame; market data among them is the decoder's.

        Raises:
            ProtocolError: It is no array of events.
        """
        with no_events(frame):
            events = msgspec.json.decode(frame, type=list[dict[str, Any]])
        confirmed: list[Stream] = []
        heard: list[Event] = []
        for event in events:
            if event.get("ev") == "status":
                heard += self._hear(
                    str(event.get("status", "")), str(event.get("message", "")), confirmed
                )
        return [Confirmed(confirmed), *heard] if confirmed else heard

    def _hear(self, status: str, words: str, confirmed: list[Stream]) -> Iterator[Event]:
        if status == "auth_success":
            yield from self._authenticated()
        elif status == "auth_failed":
            yield Denied(words[:200])
        elif status == "max_connections":
            yield Busy(words[:200], BUSY_S)
        elif status == "success" and (match := _UNSUBSCRIBED.fullmatch(words)):
            yield Removed(self._named(match[1]))
        elif status == "success" and (match := _SUBSCRIBED.fullmatch(words)):
            confirmed += self._named(match[1])
        elif named := self._named(words):
            yield Refused(words[:200], named)
        elif status != "connected":
            yield Notice(f"{words[:200]} ({status})")

    def _named(self, words: str) -> list[Stream]:
        """Return the streams that words name by their parameters."""
        found = (word.strip("\"'.:;()[]") for word in _SEPARATORS.split(words))
        return [self._streams[word] for word in found if word in self._streams]


def _message(action: str, params: str) -> str:
    return msgspec.json.encode({"action": action, "params": params}).decode()


async def names(
    symbols: Collection[str],
    secret: Secret,  # noqa: ARG001 - it asks nobody
    fetch: Fetch,  # noqa: ARG001
) -> Mapping[str, Resolution]:
    """Refuse what would ask for more than one symbol: ``*``, or a list."""
    return {
        symbol: Resolution(symbol.encode())
        if re.fullmatch(r"[!-~]+", symbol) and not set("*,") & set(symbol)
        else Resolution(refusal=f"{symbol!r} is not the name of one symbol")
        for symbol in symbols
    }


@dataclass(frozen=True, slots=True)
class MassiveVenue(EventVenue):
    """Massive; see mdsys.feed.venue.Venue."""

    name: str = "massive"
    url: str = f"wss://socket.massive.com{PATH}"
    path: str = PATH
    decoder: str | None = "massive"
    channels: Collection[str] = tuple(PREFIXES)
    credential_fields: tuple[str, ...] = ("key",)
    resolve: Resolve | None = names

    def talk(self, secret: Secret) -> MassiveTalk:
        """Return the conversation of a fresh socket."""
        return MassiveTalk(secret)

    def python_decoder(
        self, symbols: Mapping[str, SymbolInfo], channels: Collection[str]
    ) -> Decoder:
        """Return the C decoder's reference."""
        return ReferenceDecoder(symbols, channels)


MASSIVE: Final = MassiveVenue()
