"""Coinbase Advanced Trade: what its documents tell, as data, and the talk on a socket.

Sources, read 2026-11: docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket, pages
websocket-overview, websocket-channels and websocket-rate-limits, and the AsyncAPI specification
(api-reference/advanced-trade-api), "verified against the production feed"; frames that public
repositories have captured in 2025 and 2026.

- Every frame but an error bears sequence_num, from 0 on, contiguous over all channels of a socket.
- One channel a message. The answer lists all subscriptions; a product that the venue does not know
  is not refused, it is left out. An unknown channel is called an "authentication failure".
- Channels close after 60 to 90 s without news, so heartbeats are subscribed on every socket first.
- market_trades bear the *maker's* side; snapshots list the newest first, updates the oldest. The
  ids of spot products are the Exchange's, contiguous for each product.
- A product in -USDC is delivered as the one in -USD, under that name (USDT-USDC and EURC-USDC
  excepted): subscribe to the one in -USD.
- candles are five minutes long and say nothing about being complete: no "bar" here.
- A key (a JWT for each message) is optional for all channels we use; we send none.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mdsys.feed.coinbase.advanced_reference import AdvancedReference
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
    "trade": "market_trades",
    "quote": "ticker",
    "ticker": "ticker",
    "book": "level2",
}
"""Channel -> the venue's, as it is subscribed and listed; level2 arrives as l2_data."""

HEARTBEATS: Final = "heartbeats"


class AdvancedTalk(CoinbaseTalk):
    """The conversation on one socket."""

    def __init__(self) -> None:
        super().__init__(CHANNEL_NAMES)

    def opening(self) -> Sequence[Message]:
        """Return the heartbeats' subscription: it also is the one that must come within 5 s."""
        self._ledger.note((), None)
        return (_request("subscribe", HEARTBEATS),)

    def subscribe(self, streams: Sequence[Stream], request_id: int) -> Sequence[Message]:
        """Return one message for each of the venue's channels."""
        return self._requests("subscribe", streams, request_id)

    def unsubscribe(self, streams: Sequence[Stream], request_id: int) -> Sequence[Message]:
        """Return one for each of the venue's channels: quote and ticker end together."""
        return self._requests("unsubscribe", streams, request_id)

    def _requests(self, kind: str, streams: Sequence[Stream], request_id: int) -> Sequence[Message]:
        by_name: dict[str, list[Stream]] = {}
        for stream in streams:
            by_name.setdefault(CHANNEL_NAMES[stream.channel], []).append(stream)
        messages = []
        for name, group in by_name.items():  # each is answered by itself
            asked = self._ledger.note(group, request_id, removes=kind == "unsubscribe")
            messages.append(_request(kind, name, asked[name]))
        return messages

    def _listed(self, fields: Any) -> set[Pair] | None:
        if fields.get("channel") != "subscriptions":
            return None
        return {
            (name, product)
            for event in fields["events"]
            for name, products in event["subscriptions"].items()
            for product in products or ()
        }


def _request(kind: str, channel: str, products: Sequence[str] = ()) -> str:
    fields: dict[str, Any] = {"type": kind}
    if products:
        fields["product_ids"] = list(products)
    return compact({**fields, "channel": channel})


@dataclass(frozen=True, slots=True)
class CoinbaseAdvanced(CoinbaseVenue):
    """The venue; see mdsys.feed.venue.Venue."""

    name: str = "coinbase_advanced"
    url: str = "wss://advanced-trade-ws.coinbase.com"
    decoder: str | None = "coinbase_advanced"
    channels: Collection[str] = tuple(CHANNEL_NAMES)
    groups_by_channel: bool = True
    limits: Limits = field(
        default_factory=lambda: Limits(
            streams_per_message=1000,  # ours: none is documented
            connects=(Window(8, 1.0),),
            address_messages=(Window(8, 1.0),),
        )
    )

    def talk(self, secret: Secret) -> Talk:  # noqa: ARG002 - public channels
        """Return the conversation of a fresh socket."""
        return AdvancedTalk()

    def python_decoder(
        self, symbols: Mapping[str, SymbolInfo], channels: Collection[str]
    ) -> Decoder:
        """Return the reference of the C decoder."""
        return AdvancedReference(symbols, channels)


COINBASE_ADVANCED: Final = CoinbaseAdvanced()
