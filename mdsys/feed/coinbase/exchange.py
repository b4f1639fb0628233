"""Coinbase Exchange: what its documents tell, as data, and the talk on a socket.

Sources, read 2026-11: docs.cdp.coinbase.com/exchange/websocket-feed, pages overview, channels,
rate-limits and errors. They name limits by address only, none by socket.

- level2 wants a key since 2023-08-01 (changelog); level2_batch does not: the same messages, changes
  of 50 ms in one. Its acknowledgements call it level2_50.
- A match bears the *maker's* side, a ticker the taker's: so the documents, and so all 93 trades of
  the captured frames, which have both. Books and tickers bear no id of a book.
- A message of which one product is unknown is refused whole ("FOO-BAR is not a valid product").
- Nothing is said on a quiet socket, so each has the heartbeat of one product: one a second.
- The first book is one frame, of several MiB for BTC-USD.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mdsys.feed.coinbase.exchange_reference import ExchangeReference
from mdsys.feed.coinbase.ledger import Pair
from mdsys.feed.coinbase.venue import CoinbaseTalk, CoinbaseVenue, compact
from mdsys.feed.frame import SymbolInfo
from mdsys.feed.venue import (
    Decoder,
    Limits,
    Message,
    Secret,
    Stream,
    Talk,
    Window,
)

CHANNEL_NAMES: Final = {
    "trade": "matches",
    "quote": "ticker",
    "ticker": "ticker",
    "book": "level2_batch",
}
"""Channel -> the venue's."""

BOOK_NAMES: Final = frozenset({"level2", "level2_batch", "level2_50"})
"""What the venue calls a book channel when it lists subscriptions."""

HEARTBEAT: Final = "heartbeat"


class ExchangeTalk(CoinbaseTalk):
    """The conversation on one socket."""

    def __init__(self) -> None:
        super().__init__(CHANNEL_NAMES)
        self._beats = False  # whether the heartbeat of some product is subscribed

    def opening(self) -> Sequence[Message]:
        """Return nothing: subscriptions may follow at once, and must within 5 s."""
        return ()

    def subscribe(self, streams: Sequence[Stream], request_id: int) -> Sequence[Message]:
        """Return one message, any channels together."""
        asked = self._ledger.note(streams, request_id)
        if not self._beats and streams:
            asked[HEARTBEAT] = [streams[0].symbol]
        return (_request("subscribe", asked),)

    def unsubscribe(self, streams: Sequence[Stream], request_id: int) -> Sequence[Message]:
        """Return one message. Quote and ticker come by one channel and end together."""
        return (_request("unsubscribe", self._ledger.note(streams, request_id, removes=True)),)

    def _listed(self, fields: Any) -> set[Pair] | None:
        if fields["type"] != "subscriptions":
            return None
        pairs = _pairs(fields["channels"])
        self._beats = any(name == HEARTBEAT for name, _ in pairs)
        return pairs


def _request(kind: str, asked: Mapping[str, Sequence[str]]) -> str:
    channels = [{"name": name, "product_ids": list(ids)} for name, ids in asked.items()]
    return compact({"type": kind, "channels": channels})


def _pairs(channels: Any) -> set[Pair]:
    pairs = set()
    for channel in channels:
        name = channel["name"]
        own = CHANNEL_NAMES["book"] if name in BOOK_NAMES else name
        pairs |= {(own, product) for product in channel.get("product_ids") or ()}
    return pairs


@dataclass(frozen=True, slots=True)
class CoinbaseExchange(CoinbaseVenue):
    """The venue; see mdsys.feed.venue.Venue."""

    name: str = "coinbase_exchange"
    url: str = "wss://ws-feed.exchange.coinbase.com"
    decoder: str | None = "coinbase_exchange"
    channels: Collection[str] = tuple(CHANNEL_NAMES)
    limits: Limits = field(
        default_factory=lambda: Limits(
            streams_per_message=1000,  # ours: a message is refused whole, and halved
            connects=(Window(8, 1.0),),
            address_messages=(Window(100, 1.0),),
        )
    )

    def talk(self, secret: Secret) -> Talk:  # noqa: ARG002 - public channels
        """Return the conversation of a fresh socket."""
        return ExchangeTalk()

    def python_decoder(
        self, symbols: Mapping[str, SymbolInfo], channels: Collection[str]
    ) -> Decoder:
        """Return the reference of the C decoder."""
        return ExchangeReference(symbols, channels)


COINBASE_EXCHANGE: Final = CoinbaseExchange()
