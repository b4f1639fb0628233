"""What Zerodha Kite tells in its documents, as data, and the talk on its sockets.

Sources, read 2026-11: kite.trade/docs/connect/v3 (websocket, market-quotes, exceptions) and
Zerodha's clients pykiteconnect (kiteconnect/ticker.py) and gokiteconnect (ticker/ticker.go).

A socket carries 3000 instruments, a key has 3 sockets: the fourth is refused with 429, and a token
that is wrong or has died, as all do at about 06:00 IST, with 403. Nothing is acknowledged: the
first tick is the only proof. A healthy socket on which nothing else flows brings a heartbeat of one
byte every couple of seconds.

One token has one mode for all its channels: quote brings what a ticker needs but for the open
interest, full brings that too, the depth, and the exchange's time. So tokens of which only the
ticker is wanted, and which have no open interest (those of stocks and indices), are in quote, 44
bytes, and all others in full, 184. Indices have neither trades nor depth: their quotes and books
never tick.

The documents name no limit on messages, and Zerodha's clients put all tokens of a socket into one;
we put 200 there, as OpenAlgo does, a proxy that serves Kite to many (broker/zerodha/streaming).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

from mdsys.errors import ProtocolError
from mdsys.feed.frame import SymbolInfo
from mdsys.feed.kite.instruments import Instruments
from mdsys.feed.kite.reference import ReferenceDecoder
from mdsys.feed.veil import beginning
from mdsys.feed.venue import (
    Decoder,
    Dial,
    Event,
    Limits,
    Message,
    Notice,
    Resolve,
    Secret,
    Stream,
    VenueDefaults,
    Window,
)

SEGMENTS_WITHOUT_OPEN_INTEREST: Final = frozenset({1, 4, 9})
"""NSE, BSE, indices. Of the token's last byte."""

LIMITS: Final = Limits(
    symbols_per_connection=3000,
    connections=3,
    streams_per_message=600,  # 200 tokens with all their channels
    rest_weight=(Window(10, 1.0),),  # all requests of a key that have no limit of their own
)

_WORDS_SIZE_MAX = 200


class KiteTalk:
    """One socket's subscriptions: which channels are asked for of which token."""

    def __init__(self) -> None:
        self._channels: dict[bytes, set[str]] = {}
        self._wires: dict[str, bytes] = {}

    def opening(self) -> Sequence[Message]:
        """Return nothing: the address has said who we are."""
        return ()

    def subscribe(self, streams: Sequence[Stream], request_id: int) -> Sequence[Message]:  # noqa: ARG002 - there are none here
        """Return ``subscribe`` of the tokens, and ``mode`` for those whose mode is not its default.

        Tokens that are there already are asked for again: that resets their mode, which follows.
        """
        wires = []
        for stream in streams:
            self._wires[stream.symbol] = stream.wire
            self._channels.setdefault(stream.wire, set()).add(stream.channel)
            wires.append(stream.wire)
        full = [wire for wire in wires if self._mode(wire) == "full"]
        return [_message("subscribe", _tokens(wires)), *_mode_messages("full", full)]

    def unsubscribe(self, streams: Sequence[Stream], request_id: int) -> Sequence[Message]:  # noqa: ARG002 - there are none here
        """Return ``unsubscribe`` of tokens nothing is wanted of now, and ``mode`` for the rest."""
        gone: list[bytes] = []
        less: list[bytes] = []
        for stream in streams:
            wire = stream.wire or self._wires.get(stream.symbol, b"")
            if wire not in self._channels:
                continue
            before = self._mode(wire)
            self._channels[wire].discard(stream.channel)
            if not self._channels[wire]:
                del self._channels[wire]
                self._wires.pop(stream.symbol, None)
                gone.append(wire)
            elif self._mode(wire) != before:
                less.append(wire)
        less = [wire for wire in less if wire in self._channels]
        messages = [_message("unsubscribe", _tokens(gone))] if gone else []
        return messages + _mode_messages("quote", less)

    def _mode(self, wire: bytes) -> str:
        channels = self._channels.get(wire, set())
        if {"quote", "book"} & channels:
            return "full"
        with_open_interest = "ticker" in channels and wire[3] not in SEGMENTS_WITHOUT_OPEN_INTEREST
        return "full" if with_open_interest else "quote"

    def hear(self, frame: bytes) -> Iterable[Event]:
        """Read a text message: a broker's words, an error, or an order's fate.

        Orders are the account's affair and go nowhere, not into a log either.

        Raises:
            ProtocolError: It is no object with a type.
        """
        try:
            message: Any = json.loads(frame)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            raise ProtocolError(f"not a message of Kite: {beginning(frame, 80)!r}")
        if message["type"] in ("error", "message"):
            return [Notice(f"{message['type']}: {_words(message.get('data'))}")]
        return []

    def keepalive(self) -> Message | None:
        """Return None."""
        return None


def _message(action: str, value: Sequence[Any]) -> str:
    return json.dumps({"a": action, "v": value}, separators=(",", ":"))


def _mode_messages(mode: str, wires: Sequence[bytes]) -> list[str]:
    return [_message("mode", [mode, _tokens(wires)])] if wires else []


def _tokens(wires: Iterable[bytes]) -> list[int]:
    """Return the tokens as numbers, each once, in order."""
    return [int.from_bytes(wire, "big") for wire in dict.fromkeys(wires)]


def _words(data: Any) -> str:
    words = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return beginning(words, _WORDS_SIZE_MAX)


def _resolve() -> Resolve:
    return Instruments().resolve  # keeps the day's list


@dataclass(frozen=True, slots=True)
class KiteVenue(VenueDefaults):
    """Zerodha's ticker; see mdsys.feed.venue.Venue."""

    name: str = "kite"
    url: str = "wss://ws.kite.trade"
    rest_url: str | None = "https://api.kite.trade"
    decoder: str | None = "kite"
    binary: bool = True
    channels: tuple[str, ...] = ("quote", "book", "ticker")
    limits: Limits = LIMITS
    acknowledges: bool = False
    credential_fields: tuple[str, ...] = ("api_key", "access_token")
    silence_s: float | None = 10.0
    resolve: Resolve | None = field(default_factory=_resolve)

    def spelled(self, symbol: str) -> str:
        """Return ``NSE:INFY``: the exchange in capitals, the rest as it is: ``NSE:NIFTY 50``.

        A name alone is taken for one of the NSE's; there is no symbol without an exchange.
        """
        exchange, colon, name = symbol.strip().partition(":")
        return f"{exchange.strip().upper()}:{name.strip()}" if colon else f"NSE:{exchange}"

    def dial(self, base: str, secret: Secret) -> Dial:
        """Return the address with key and token, which is how Kite wants them."""
        root = base.rstrip("/")
        query = urlencode({field: secret[field] for field in self.credential_fields})
        return Dial(f"{root}/?{query}", root, {"X-Kite-Version": "3"})

    def talk(self, secret: Secret) -> KiteTalk:  # noqa: ARG002 - it is in the address
        """Return the conversation of a fresh socket."""
        return KiteTalk()

    def python_decoder(
        self, symbols: Mapping[Any, SymbolInfo], channels: Collection[str]
    ) -> Decoder:
        """Return the C decoder's reference; the names on the wire are bytes."""
        return ReferenceDecoder(symbols, channels)


KITE = KiteVenue()
