"""Coinbase as the simulator speaks it: the Exchange feed and Advanced Trade.

Products have the market's own names. What is said when, and in which words, is as in captured
frames and in issues of public repositories: see exchange.py and advanced.py for the sources.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from mdsys.feed.coinbase.advanced import COINBASE_ADVANCED
from mdsys.feed.coinbase.exchange import COINBASE_EXCHANGE
from mdsys.feed.coinbase.venue import compact
from mdsys.record.rfc3339 import rfc3339_text
from mdsys.sim.dialect import (
    Client,
    Depth,
    Dialect,
    Event,
    Exchange,
    Kind,
    Message,
    Quote,
    Refusal,
    Request,
    Session,
    Symbol,
    Trade,
)

AUTHENTICATE: Final = (
    "level2, level3, and full channels now require authentication. "
    "https://docs.cloud.coinbase.com/exchange/docs/websocket-auth"
)
RECENT_COUNT_MAX: Final = 10
"""Trades of a product that a snapshot holds; the venue's hold a hundred."""

_MAKER: Final = {"buy": "sell", "sell": "buy"}
"""Aggressor's side -> the other."""


class _Coinbase(Dialect):
    """What both have in common: the trades of before, of every product that anybody is shown."""

    hello_s = 5.0
    heartbeat_s = 1.0

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange)
        self.recent: dict[int, deque[Trade]] = {}
        """Symbol index -> newest last."""

    def remember(self, trade: Trade) -> None:
        """Note a trade; each client's copy of it is the same."""
        recent = self.recent.setdefault(trade.symbol.index, deque(maxlen=RECENT_COUNT_MAX))
        if not recent or trade.id > recent[-1].id:
            recent.append(trade)

    def last(self, symbol: Symbol) -> Trade | None:
        """Return the last trade that was shown."""
        recent = self.recent.get(symbol.index)
        return recent[-1] if recent else None


class _CoinbaseSession(Session):
    """One socket: what it is subscribed to.

    Args:
        dialect: Its venue.
        client: Its server's side.
        kinds: The venue's channel -> events that make its frames.
    """

    def __init__(
        self, dialect: _Coinbase, client: Client, kinds: Mapping[str, Sequence[Kind]]
    ) -> None:
        super().__init__(dialect, client)
        self.dialect = dialect
        self.kinds = kinds
        self.products: dict[str, dict[str, Symbol]] = {}
        """Channel -> product -> symbol."""

    def find(self, product: object) -> Symbol | None:
        """Return a product's symbol."""
        symbol = self.market.find(product) if isinstance(product, str) else None
        return symbol if symbol is not None and symbol.name == product else None

    def has(self, channel: str, symbol: Symbol) -> bool:
        """Whether ``channel`` of ``symbol`` is subscribed."""
        return symbol.name in self.products.get(channel, ())

    def add(self, channel: str, symbols: Iterable[Symbol]) -> None:
        """Subscribe."""
        for symbol in symbols:
            self.products.setdefault(channel, {})[symbol.name] = symbol
            self.client.show(symbol, *self.kinds[channel])

    def drop(self, channel: str, symbols: Iterable[Symbol]) -> None:
        """Unsubscribe; events of other channels go on."""
        for symbol in symbols:
            self.products.get(channel, {}).pop(symbol.name, None)
            wanted = {
                k for name in self.products if self.has(name, symbol) for k in self.kinds[name]
            }
            self.client.hide(symbol, *(k for k in self.kinds[channel] if k not in wanted))
        if not self.products.get(channel):
            self.products.pop(channel, None)


# ---- Exchange -----------------------------------------------------------------------------------


class CoinbaseExchange(_Coinbase):
    """The Exchange feed."""

    limits = COINBASE_EXCHANGE.limits

    def accept(self, request: Request, client: Client) -> Session | Refusal:
        """Take everybody in: it is public."""
        return _ExchangeSession(self, client) if request.path in ("", "/") else Refusal(404)


_EXCHANGE_KINDS: Final[Mapping[str, Sequence[Kind]]] = {
    "matches": ("trade",),
    "ticker": ("trade", "quote"),
    "level2_batch": ("depth",),
    "heartbeat": (),
}


class _ExchangeSession(_CoinbaseSession):
    def __init__(self, dialect: _Coinbase, client: Client) -> None:
        super().__init__(dialect, client, _EXCHANGE_KINDS)

    def hear(self, message: Message) -> Sequence[Message]:
        try:
            fields = json.loads(message)
            asked = [
                (channel, product)
                for each in fields["channels"]
                for channel, products in [_channel(each, fields)]
                for product in products
            ]
            kind = fields["type"]
        except (ValueError, TypeError, KeyError, AttributeError):
            return [_error("Failed to subscribe", "Malformed JSON")]
        if kind == "unsubscribe":
            for channel, product in asked:
                symbol = self.find(product)
                if symbol is not None and channel in self.kinds:
                    self.drop(channel, [symbol])
            return [self._list()]
        if kind != "subscribe":
            return [_error("Unsupported message", f"{kind} is not a valid type")]
        for channel, product in asked:
            if reason := self._reason(channel, product):
                return [_error("Failed to subscribe", reason)]
        if not asked:
            return [_error("Failed to subscribe", "No channels provided")]
        return self._subscribe(asked)

    def _reason(self, channel: str, product: str) -> str | None:
        if channel in ("level2", "level3", "full"):
            return AUTHENTICATE
        if channel not in self.kinds:
            return f"{channel} is not a valid channel"
        if self.find(product) is None:
            return f"{product} is not a valid product"
        return self.exchange.refusal(product, channel)

    def _subscribe(self, asked: Sequence[tuple[str, str]]) -> list[Message]:
        firsts: list[Message] = []
        for channel, product in asked:
            symbol = self.find(product)
            if symbol is None:
                continue
            self.add(channel, [symbol])
            first = self._first(channel, symbol)
            if first is not None:
                firsts.append(first)
        return [self._list(), *firsts]

    def _first(self, channel: str, symbol: Symbol) -> str | None:
        """Return what the venue says of a product once it is subscribed."""
        if channel == "level2_batch":
            book = self.market.book(symbol)
            rows = {
                side: [[symbol.price(level.price), symbol.size(level.size)] for level in levels]
                for side, levels in (("asks", book.asks), ("bids", book.bids))
            }
            fields = {"type": "snapshot", "product_id": symbol.name, **rows}
            return compact({**fields, "time": rfc3339_text(book.time_ns, 6)})
        trade = self.dialect.last(symbol)
        if channel == "matches" and trade is not None:
            return _match("last_match", trade)
        return None

    def _list(self) -> str:
        names = {"level2_batch": "level2_50"}
        channels = [
            {"name": names.get(name, name), "product_ids": list(products), "account_ids": None}
            for name, products in self.products.items()
        ]
        return compact({"type": "subscriptions", "channels": channels})

    def render(self, event: Event) -> Message | None:
        if isinstance(event, Trade):
            self.dialect.remember(event)
            return _match("match", event) if self.has("matches", event.symbol) else None
        if isinstance(event, Quote):
            return _ticker(event, self.dialect.last(event.symbol))
        return _l2update(event)

    def heartbeat(self) -> Sequence[Message]:
        now = rfc3339_text(self.market.time_ns, 6)
        return [
            f'{{"type":"heartbeat","last_trade_id":0,"product_id":"{product}",'
            f'"sequence":1,"time":"{now}"}}'
            for product in self.products.get("heartbeat", ())
        ]


def _channel(each: Any, fields: Mapping[str, Any]) -> tuple[str, Sequence[str]]:
    """Return a channel of a request and its products: its own, or those of all channels."""
    if isinstance(each, str):
        return each, fields.get("product_ids", ())
    return each["name"], each.get("product_ids") or fields.get("product_ids", ())


def _error(message: str, reason: str) -> str:
    return compact({"type": "error", "message": message, "reason": reason})


def _match(kind: str, trade: Trade) -> str:
    symbol = trade.symbol
    return (
        f'{{"type":"{kind}","trade_id":{trade.id},'
        f'"maker_order_id":"e1bfaebe-748f-41b9-ae48-0040e77b76db",'
        f'"taker_order_id":"b7bad429-a599-4ace-942a-3b7d5674f4d4",'
        f'"side":"{_MAKER[trade.side]}","size":"{symbol.size(trade.size)}",'
        f'"price":"{symbol.price(trade.price)}","product_id":"{symbol.name}",'
        f'"sequence":{trade.id},"time":"{rfc3339_text(trade.time_ns, 6)}"}}'
    )


def _ticker(quote: Quote, last: Trade | None) -> str:
    symbol = quote.symbol
    price = symbol.price(quote.bid.price if last is None else last.price)
    traded = ""
    if last is not None:
        traded = (
            f',"side":"{last.side}","time":"{rfc3339_text(quote.time_ns, 6)}","trade_id":{last.id},'
            f'"last_size":"{symbol.size(last.size)}"'
        )
    return (
        f'{{"type":"ticker","sequence":{quote.id},"product_id":"{symbol.name}","price":"{price}",'
        f'"open_24h":"{price}","volume_24h":"{symbol.size(quote.id)}","low_24h":"{price}",'
        f'"high_24h":"{price}","volume_30d":"{symbol.size(quote.id)}",'
        f'"best_bid":"{symbol.price(quote.bid.price)}",'
        f'"best_bid_size":"{symbol.size(quote.bid.size)}",'
        f'"best_ask":"{symbol.price(quote.ask.price)}",'
        f'"best_ask_size":"{symbol.size(quote.ask.size)}"{traded}}}'
    )


def _l2update(depth: Depth) -> str:
    symbol = depth.symbol
    changes = ",".join(
        f'["{side}","{symbol.price(level.price)}","{symbol.size(level.size)}"]'
        for side, levels in (("buy", depth.bids), ("sell", depth.asks))
        for level in levels
    )
    return (
        f'{{"type":"l2update","product_id":"{symbol.name}","changes":[{changes}],'
        f'"time":"{rfc3339_text(depth.time_ns, 6)}"}}'
    )


# ---- Advanced Trade -----------------------------------------------------------------------------


class CoinbaseAdvanced(_Coinbase):
    """Advanced Trade."""

    limits = COINBASE_ADVANCED.limits

    def accept(self, request: Request, client: Client) -> Session | Refusal:
        """Take everybody in: its market data is public."""
        return _AdvancedSession(self, client) if request.path in ("", "/") else Refusal(404)


_ADVANCED_KINDS: Final[Mapping[str, Sequence[Kind]]] = {
    "market_trades": ("trade",),
    "ticker": ("trade", "quote"),
    "level2": ("depth",),
}


class _AdvancedSession(_CoinbaseSession):
    def __init__(self, dialect: _Coinbase, client: Client) -> None:
        super().__init__(dialect, client, _ADVANCED_KINDS)
        self._number = 0
        self._beats = False
        self._beat_count = 0
        self._trades: list[Trade] = []

    def hear(self, message: Message) -> Sequence[Message]:
        try:
            fields = json.loads(message)
            kind, channel = fields["type"], fields["channel"]
            products = list(fields.get("product_ids") or ())
        except (ValueError, TypeError, KeyError, AttributeError):
            return [compact({"type": "error", "message": "failed to parse message"})]
        if kind not in ("subscribe", "unsubscribe") or (
            channel != "heartbeats" and channel not in self.kinds
        ):
            return [compact({"type": "error", "message": "authentication failure"})]
        firsts: list[Message] = []
        if channel == "heartbeats":
            self._beats = kind == "subscribe"
        elif kind == "unsubscribe":
            held = self.products.get(channel, {})
            self.drop(channel, [held[p] for p in products or list(held) if p in held])
        else:
            firsts = self._subscribe(channel, products)
        return [*firsts, self._list()]

    def _subscribe(self, channel: str, products: Sequence[object]) -> list[Message]:
        """Subscribe to the products that there are: of the others nothing is said."""
        found = [self.find(product) for product in products]
        symbols = [
            symbol
            for symbol in found
            if symbol is not None and self.exchange.refusal(symbol.name, channel) is None
        ]
        self.add(channel, symbols)
        return [first for symbol in symbols if (first := self._first(channel, symbol)) is not None]

    def _first(self, channel: str, symbol: Symbol) -> str | None:
        if channel == "level2":
            book = self.market.book(symbol)
            updates = _updates(symbol, book.time_ns, book.bids, book.asks)
            return self._frame("l2_data", _levels("snapshot", symbol, updates))
        recent = self.dialect.recent.get(symbol.index)
        if channel == "market_trades" and recent:
            return self._frame("market_trades", _trades("snapshot", reversed(recent)))
        return None

    def _frame(self, channel: str, event: str) -> str:
        number = self._number
        self._number += 1
        return (
            f'{{"channel":"{channel}","timestamp":"{rfc3339_text(self.market.time_ns, 9)}",'
            f'"sequence_num":{number},"events":[{event}]}}'
        )

    def _list(self) -> str:
        listed = {name: list(products) for name, products in self.products.items()}
        if self._beats:
            listed["heartbeats"] = ["heartbeats"]
        return self._frame("subscriptions", compact({"subscriptions": listed}))

    def render(self, event: Event) -> Message | None:
        if isinstance(event, Trade):
            self.dialect.remember(event)
            if self.has("market_trades", event.symbol):
                self._trades.append(event)
            return None
        symbol = event.symbol
        if isinstance(event, Quote):
            ticker = _advanced_ticker(event, self.dialect.last(symbol))
            return self._frame("ticker", f'{{"type":"update","tickers":[{ticker}]}}')
        updates = _updates(symbol, event.time_ns, event.bids, event.asks)
        return self._frame("l2_data", _levels("update", symbol, updates))

    def flush(self) -> Sequence[Message]:
        trades, self._trades = self._trades, []
        return [self._frame("market_trades", _trades("update", trades))] if trades else ()

    def heartbeat(self) -> Sequence[Message]:
        if not self._beats:
            return ()
        self._beat_count += 1
        now = rfc3339_text(self.market.time_ns, 9).replace("T", " ").removesuffix("Z")
        event = {"current_time": f"{now} +0000 UTC", "heartbeat_counter": self._beat_count}
        return [self._frame("heartbeats", compact(event))]


def _updates(symbol: Symbol, time_ns: int, bids: Iterable[Any], asks: Iterable[Any]) -> str:
    now = rfc3339_text(time_ns, 6)
    return ",".join(
        f'{{"side":"{side}","event_time":"{now}","price_level":"{symbol.price(level.price)}",'
        f'"new_quantity":"{symbol.size(level.size)}"}}'
        for side, levels in (("bid", bids), ("offer", asks))
        for level in levels
    )


def _levels(kind: str, symbol: Symbol, updates: str) -> str:
    return f'{{"type":"{kind}","product_id":"{symbol.name}","updates":[{updates}]}}'


def _trades(kind: str, trades: Iterable[Trade]) -> str:
    written: Callable[[Trade], str] = lambda trade: (  # noqa: E731 - one line of a frame
        f'{{"product_id":"{trade.symbol.name}","trade_id":"{trade.id}",'
        f'"price":"{trade.symbol.price(trade.price)}","size":"{trade.symbol.size(trade.size)}",'
        f'"time":"{rfc3339_text(trade.time_ns, 6)}","side":"{_MAKER[trade.side].upper()}"}}'
    )
    return f'{{"type":"{kind}","trades":[{",".join(map(written, trades))}]}}'


def _advanced_ticker(quote: Quote, last: Trade | None) -> str:
    symbol = quote.symbol
    price = symbol.price(quote.bid.price if last is None else last.price)
    return (
        f'{{"type":"ticker","product_id":"{symbol.name}","price":"{price}",'
        f'"volume_24_h":"{symbol.size(quote.id)}","low_24_h":"{price}","high_24_h":"{price}",'
        f'"low_52_w":"{price}","high_52_w":"{price}","price_percent_chg_24_h":"0.27303411671707",'
        f'"best_bid":"{symbol.price(quote.bid.price)}",'
        f'"best_ask":"{symbol.price(quote.ask.price)}",'
        f'"best_bid_quantity":"{symbol.size(quote.bid.size)}",'
        f'"best_ask_quantity":"{symbol.size(quote.ask.size)}"}}'
    )
