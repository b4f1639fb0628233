"""What Alpaca tells in its documents, as data; and the talk on one of its sockets.

Sources, read 2026-11: docs.alpaca.markets, "WebSocket Stream", "Real-time Stock Data", "Real-time
Crypto Data"; alpacahq/alpaca-trade-api-csharp issues 724 and 763 (a subscription of some 16 KB is
not taken whole); QuantConnect/Lean.Brokerages.Alpaca pull request 39 (four connects at once: 429).

- One session for each endpoint and account on most plans. A second one gets error 406, and one that
  is half dead is kept for some 90 s: dialling sooner than that is in vain.
- The free plan holds 30 trades and quotes (error 405, and nothing has changed): say
  ``limits = {streams_per_connection = 30}`` in the configuration.
- Prices and sizes of crypto have up to 9 decimals, of stocks up to 4; hence the scales of `scales`.
- The server promises no heartbeat, so we ping, as the venue's own clients do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from mdsys.feed.alpaca.reference import ReferenceDecoder
from mdsys.feed.event_venue import EventTalk, EventVenue, no_events
from mdsys.feed.frame import SymbolInfo
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

LISTS: Final[Mapping[str, tuple[str, ...]]] = {
    "trade": ("trades",),
    "quote": ("quotes",),
    "bar": ("bars", "updatedBars"),
    "book": ("orderbooks",),
}
"""Channel -> the venue's lists that a stream of it stands in."""

PATH: Final = "/v2/iex"
"""The stream that every account may read."""

NOT_LISTED: Final = "not in the venue's list of subscriptions"
NOT_LISTED_ANY_MORE: Final = "no longer in the venue's list of subscriptions"
BUSY_S: Final = 100.0
"""A session that has broken off is kept for 90 s."""

_DENIED = frozenset({402, 409})  # auth failed; the plan lacks this feed
_BUSY = frozenset({406})
_OF_A_REQUEST = frozenset({400, 405, 409, 410})  # syntax, symbol limit, plan, no such channel
_OF_ITS_CHANNEL = frozenset({409, 410})


_Fields = dict[str, msgspec.Raw]
_EVENTS = msgspec.json.Decoder(list[_Fields])  # lists of 50,000 names are read where they are asked
_LIST = msgspec.json.Decoder(list[str] | None)


def _value(event: _Fields, key: str) -> Any:
    return msgspec.json.decode(event[key]) if key in event else None


class _Request(NamedTuple):
    request_id: int
    streams: tuple[Stream, ...]
    adds: bool


class AlpacaTalk(EventTalk):
    """One socket's conversation.

    Requests are answered in their order, each by the whole list of what is subscribed, or by an
    error; neither bears a request's id.
    """

    def __init__(self, secret: Secret) -> None:
        super().__init__(
            {"action": "auth", "key": secret.get("key", ""), "secret": secret.get("secret", "")}
        )
        self._asked: deque[_Request] = deque()
        self._held: Mapping[str, dict[str, Stream]] = {channel: {} for channel in LISTS}

    def subscribe(self, streams: Sequence[Stream], request_id: int) -> Sequence[Message]:
        """Return the message that adds ``streams`` to the list."""
        return self._ask(_Request(request_id, tuple(streams), adds=True))

    def unsubscribe(self, streams: Sequence[Stream], request_id: int) -> Sequence[Message]:
        """Return the message that takes ``streams`` off the list."""
        return self._ask(_Request(request_id, tuple(streams), adds=False))

    def hear(self, frame: bytes) -> Iterable[Event]:
        """Read the control events of a frame; market data among them is the decoder's.

        Raises:
            ProtocolError: It is no array of events.
        """
        with no_events(frame):
            return [heard for event in _EVENTS.decode(frame) for heard in self._hear(event)]

    def _ask(self, request: _Request) -> Sequence[Message]:
        self._asked.append(request)
        lists: dict[str, list[str]] = {}
        for stream in request.streams:
            for name in LISTS[stream.channel]:
                lists.setdefault(name, []).append(stream.symbol)
        action = "subscribe" if request.adds else "unsubscribe"
        return [msgspec.json.encode({"action": action, **lists}).decode()]

    def _hear(self, event: _Fields) -> Iterator[Event]:
        kind = _value(event, "T")
        words = str(_value(event, "msg"))[:200]
        if kind == "success":
            if words == "authenticated":
                yield from self._authenticated()
        elif kind == "error":
            yield self._error(_value(event, "code"), words)
        elif kind == "subscription":
            yield from self._reconcile(event)
        elif kind in _WORDS:
            told = _Missing((key, _value(event, key)) for key in event)
            yield Notice(_WORDS[kind].format_map(told)[:200])

    def _error(self, code: Any, words: str) -> Event:
        words = f"{words} (code {code})"
        if code in _OF_A_REQUEST and self._asked:
            request = self._asked.popleft()
            if not request.adds:
                return Notice(words)
            if code in _OF_ITS_CHANNEL:  # of every stream alike
                return Refused(words, request.streams)
            return Refused(words, request_id=request.request_id)
        if code in _DENIED:
            return Denied(words)
        return Busy(words, BUSY_S) if code in _BUSY else Notice(words)

    def _reconcile(self, lists: _Fields) -> Iterator[Event]:
        """Hold the venue's whole list against what we asked for and what we had."""
        listed = {
            channel: set(_LIST.decode(lists[name]) or ()) if name in lists else set()
            for channel, (name, *_) in LISTS.items()
        }
        if self._asked:
            request = self._asked.popleft()
            here = [each for each in request.streams if each.symbol in listed[each.channel]]
            gone = [each for each in request.streams if each.symbol not in listed[each.channel]]
            for stream in gone:
                self._held[stream.channel].pop(stream.symbol, None)
            if request.adds:
                for stream in here:
                    self._held[stream.channel][stream.symbol] = stream
                if gone:
                    yield Refused(NOT_LISTED, gone)
                if here:
                    yield Confirmed(here)
            else:
                if gone:
                    yield Removed(gone)
                if here:
                    yield Notice(f"{len(here)} streams are still subscribed after an unsubscribe")
        lost = [
            held.pop(symbol)
            for channel, held in self._held.items()
            for symbol in sorted(held.keys() - listed[channel])
        ]
        if lost:
            yield Refused(NOT_LISTED_ANY_MORE, lost)


class _Missing(dict[str, Any]):
    """Fields of an event; one that it lacks is a question mark."""

    def __missing__(self, key: str) -> str:
        return "?"


_WORDS: Final = {
    "c": "{S}: trade {oi} on {x} ({os} at {op}) is corrected: trade {ci}, {cs} at {cp}",
    "x": "{S}: trade {i} on {x} ({s} at {p}) is cancelled (action {a})",
    "s": "{S}: {sm} ({sc}), {rm} ({rc})",
}
"""What has no record, in words."""


async def scales(
    symbols: Collection[str],
    secret: Secret,  # noqa: ARG001 - it asks nobody
    fetch: Fetch,  # noqa: ARG001
) -> Mapping[str, Resolution]:
    """Give crypto pairs (``BTC/USD``) the decimals they need, and refuse what is no symbol."""
    return {symbol: _resolution(symbol) for symbol in symbols}


def _resolution(symbol: str) -> Resolution:
    if not symbol or not symbol.isascii() or not symbol.isprintable() or "*" in symbol:
        return Resolution(refusal=f"{symbol!r} is not the name of one symbol")
    if "/" in symbol:
        return Resolution(symbol.encode(), price_scale=10, size_scale=9)
    return Resolution(symbol.encode())


@dataclass(frozen=True, slots=True)
class AlpacaVenue(EventVenue):
    """Alpaca; see mdsys.feed.venue.Venue."""

    name: str = "alpaca"
    url: str = f"wss://stream.data.alpaca.markets{PATH}"
    path: str = PATH
    decoder: str | None = "alpaca"
    channels: Collection[str] = tuple(LISTS)
    channels_default: Collection[str] = ("trade", "quote")  # books are of crypto alone
    groups_by_channel: bool = True  # not that it must: but its errors are about a channel
    credential_fields: tuple[str, ...] = ("key", "secret")
    resolve: Resolve | None = scales

    def spelled(self, symbol: str) -> str:
        """Return it in capitals and without blanks: ``BRK.B``, ``BTC/USD``."""
        return "".join(symbol.split()).upper()

    def talk(self, secret: Secret) -> AlpacaTalk:
        """Return the conversation of a fresh socket."""
        return AlpacaTalk(secret)

    def python_decoder(
        self, symbols: Mapping[str, SymbolInfo], channels: Collection[str]
    ) -> Decoder:
        """Return the C decoder's reference."""
        return ReferenceDecoder(symbols, channels)


ALPACA: Final = AlpacaVenue()
