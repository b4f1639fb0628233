"""What OpenAlgo's WebSocket proxy does, as data, and the talk on its sockets.

Source, read 2026-11: github.com/marketcalls/openalgo, websocket_proxy/server.py; where the
project's documents differ, the server counts: it reads ``symbols``, not ``instruments``.

The first message must bring the API key, within 15 s. Each request is answered, one after the
other; the answer to a subscription says of each symbol what became of it, and repeats our
request_id. Errors have neither type nor request_id: one belongs to the oldest open request.

One symbol has one mode here, for all its channels: Quote brings what a ticker needs, Depth brings
that and the depth. With both modes subscribed each tick would come twice. When what is wanted of a
symbol changes its mode, the old one is left before the new one is entered: some of the brokers'
adapters keep one stream an instrument, and the reverse would end it.

The server pings each 20 s. It takes 1000 symbols on each of 3 sockets to the broker, unless its
MAX_SYMBOLS_PER_WEBSOCKET and MAX_WEBSOCKET_CONNECTIONS say otherwise; those limits are behind the
proxy, so all its clients share them. Between us and it there is none on messages.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from mdsys.errors import ProtocolError
from mdsys.feed.frame import SymbolInfo
from mdsys.feed.openalgo.reference import ReferenceDecoder
from mdsys.feed.veil import beginning
from mdsys.feed.venue import (
    Busy,
    Confirmed,
    Decoder,
    Denied,
    Event,
    Limits,
    Message,
    Notice,
    Opened,
    Refused,
    Removed,
    Secret,
    Stream,
    VenueDefaults,
)

LIMITS: Final = Limits(symbols_per_connection=1000, connections=3, streams_per_message=300)
DEPTH: Final = 5
"""Levels asked for; brokers that have no such depth answer with theirs."""

BROKER_WAIT_S: Final = 30.0
"""Until the next attempt when the broker does not let OpenAlgo in; mostly somebody must log in."""

_WRONG_KEY: Final = "AUTHENTICATION_ERROR"
_SESSION_ERRORS: Final = frozenset({"NOT_AUTHENTICATED", "BROKER_ERROR", "INVALID_MODE"})
"""Errors that no other choice of symbols would mend."""
_WORDS_SIZE_MAX: Final = 200


class _Asked(NamedTuple):
    """A request that is not answered yet."""

    action: str
    streams: tuple[Stream, ...] = ()
    """What it is about; none when only a mode is left for another."""
    request_id: int | None = None
    """The feed's."""


class OpenAlgoTalk:
    """One socket's conversation."""

    def __init__(self, api_key: str) -> None:
        self._api_key = api_key
        self._asked: dict[int, _Asked] = {}  # in the order of asking
        self._next = 1
        self._channels: dict[str, set[str]] = {}

    def opening(self) -> Sequence[Message]:
        """Return the authentication."""
        self._asked[0] = _Asked("authenticate")
        return [_text({"action": "authenticate", "api_key": self._api_key})]

    def subscribe(self, streams: Sequence[Stream], request_id: int) -> Sequence[Message]:
        """Return a request for each mode that the symbols have now, after leaving others."""
        before = {stream.symbol: self._mode(stream.symbol) for stream in streams}
        for stream in streams:
            self._channels.setdefault(stream.symbol, set()).add(stream.channel)
        return [*self._leave(before), *self._enter(streams, request_id)]

    def unsubscribe(self, streams: Sequence[Stream], request_id: int) -> Sequence[Message]:
        """Return the request to leave modes that are not needed now, and others for what stays."""
        before = {stream.symbol: self._mode(stream.symbol) for stream in streams}
        for stream in streams:
            self._forget(stream)
        still = [
            Stream(symbol, channel)
            for symbol in self._changed(before)
            for channel in sorted(self._channels.get(symbol, ()))
        ]
        return [*self._leave(before, streams, request_id), *self._enter(still, None)]

    def _mode(self, symbol: str) -> str:
        channels = self._channels.get(symbol, set())
        if {"quote", "book"} & channels:
            return "Depth"
        return "Quote" if channels else ""

    def _changed(self, before: Mapping[str, str]) -> list[str]:
        """Return the symbols that had a mode and have another, or none, now."""
        return [symbol for symbol, mode in before.items() if mode not in ("", self._mode(symbol))]

    def _forget(self, stream: Stream) -> None:
        channels = self._channels.get(stream.symbol, set())
        channels.discard(stream.channel)
        if not channels:
            self._channels.pop(stream.symbol, None)

    def _enter(self, streams: Sequence[Stream], request_id: int | None) -> list[Message]:
        messages: list[Message] = []
        for mode in ("Quote", "Depth"):
            there = tuple(stream for stream in streams if self._mode(stream.symbol) == mode)
            if there:
                symbols = [_named(symbol) for symbol in _symbols(there)]
                request = {"action": "subscribe", "symbols": symbols, "mode": mode, "depth": DEPTH}
                messages.append(self._ask(request, there, request_id))
        return messages

    def _leave(
        self,
        before: Mapping[str, str],
        streams: Sequence[Stream] = (),
        request_id: int | None = None,
    ) -> list[Message]:
        """Return the request that leaves modes and, being answered, removes ``streams``."""
        symbols = [{**_named(each), "mode": before[each]} for each in self._changed(before)]
        if streams and not symbols:
            # Other channels of these symbols keep the mode. LTP, which is never subscribed, is left
            # without effect, for the sake of the answer.
            symbols = [{**_named(symbol), "mode": "LTP"} for symbol in _symbols(streams)]
        request = {"action": "unsubscribe", "symbols": symbols}
        return [self._ask(request, tuple(streams), request_id)] if symbols else []

    def _ask(
        self, request: dict[str, Any], streams: tuple[Stream, ...], request_id: int | None
    ) -> Message:
        number, self._next = self._next, self._next + 1
        self._asked[number] = _Asked(request["action"], streams, request_id)
        return _text({**request, "request_id": number})

    def hear(self, frame: bytes) -> Iterable[Event]:
        """Read an answer or an error. News of orders, the account's affair, goes nowhere.

        Raises:
            ProtocolError: It is nothing that the server sends.
        """
        try:
            message: Any = json.loads(frame)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise _unknown(frame)
        kind = message.get("type")
        if kind is None and message.get("status") == "error":
            return self._error(message)
        if kind == "auth" and message.get("status") == "success":
            self._asked.pop(0, None)
            return [Opened()]
        if kind in ("subscribe", "unsubscribe"):
            number = message.get("request_id")
            asked = self._asked.pop(number, None) if type(number) is int else None
            if asked is None or asked.action != kind:
                raise _unknown(frame)
            if kind == "unsubscribe":
                return [Removed(asked.streams)] if asked.streams else []
            return self._answered(message.get("subscriptions"), asked.streams)
        if not isinstance(kind, str):
            raise _unknown(frame)
        return []

    def _answered(self, entries: Any, streams: Sequence[Stream]) -> Iterable[Event]:
        """Read what became of each symbol; one that is not named is not subscribed."""
        found: dict[str, Mapping[str, Any]] = {}
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict):
                found[f"{entry.get('exchange')}:{entry.get('symbol')}"] = entry
        confirmed: list[Stream] = []
        refused: dict[str, list[Stream]] = {}
        for stream in streams:
            entry = found.get(stream.symbol, {})
            if entry.get("status") == "success":
                confirmed.append(stream)
            else:
                words = _words(entry) if entry else "not in OpenAlgo's answer"
                refused.setdefault(words, []).append(stream)
                self._forget(stream)
        events: list[Event] = [Refused(words, each) for words, each in refused.items()]
        return [Confirmed(confirmed), *events] if confirmed else events

    def _error(self, message: Mapping[str, Any]) -> Iterable[Event]:
        code = message.get("code")
        words = f"{_words(message)} (code {code})"
        if code == _WRONG_KEY:
            return [Denied(words)]
        if 0 in self._asked:  # the key is right, its broker's session is not
            return [Busy(words, BROKER_WAIT_S)]
        oldest = next(iter(self._asked), None)
        asked = _Asked("") if oldest is None else self._asked.pop(oldest)
        if asked.action == "unsubscribe" and asked.streams:
            return [Notice(words), Removed(asked.streams)]
        if asked.action != "subscribe":
            return [Notice(words)]
        for stream in asked.streams:
            self._forget(stream)
        if code in _SESSION_ERRORS or asked.request_id is None:
            return [Refused(words, asked.streams)]
        return [Refused(words, request_id=asked.request_id)]

    def keepalive(self) -> Message | None:
        """Return the proxy's own ping, whose answer proves more than a PONG."""
        return _text({"action": "ping"})


def _text(request: Mapping[str, Any]) -> str:
    return json.dumps(request, separators=(",", ":"), ensure_ascii=False)


def _symbols(streams: Iterable[Stream]) -> list[str]:
    return list(dict.fromkeys(stream.symbol for stream in streams))


def _named(symbol: str) -> dict[str, str]:
    exchange, _, name = symbol.partition(":")
    return {"symbol": name, "exchange": exchange}


def _words(message: Mapping[str, Any]) -> str:
    return beginning(str(message.get("message", "no words")), _WORDS_SIZE_MAX)


def _unknown(frame: bytes) -> ProtocolError:
    return ProtocolError(f"not a message of OpenAlgo: {beginning(frame, 80)!r}")


@dataclass(frozen=True, slots=True)
class OpenAlgoVenue(VenueDefaults):
    """The proxy; see mdsys.feed.venue.Venue."""

    name: str = "openalgo"
    url: str = "ws://127.0.0.1:8765"
    decoder: str | None = "openalgo"
    channels: tuple[str, ...] = ("quote", "book", "ticker")
    limits: Limits = LIMITS
    opens: bool = True
    credential_fields: tuple[str, ...] = ("api_key",)
    silence_s: float | None = 30.0
    keepalive_s: float | None = 10.0

    def spelled(self, symbol: str) -> str:
        """Return ``NSE:SBIN``: capitals, as all of OpenAlgo's symbols are.

        A name alone is taken for one of the NSE's; there is no symbol without an exchange.
        """
        exchange, colon, name = symbol.strip().partition(":")
        return f"{exchange.strip()}:{name.strip()}".upper() if colon else f"NSE:{exchange.upper()}"

    def talk(self, secret: Secret) -> OpenAlgoTalk:
        """Return the conversation of a fresh socket."""
        return OpenAlgoTalk(secret["api_key"])

    def python_decoder(
        self, symbols: Mapping[str, SymbolInfo], channels: Collection[str]
    ) -> Decoder:
        """Return the C decoder's reference."""
        return ReferenceDecoder(symbols, channels)


OPENALGO = OpenAlgoVenue()
