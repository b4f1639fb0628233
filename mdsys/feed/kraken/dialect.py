"""Kraken's WebSocket v2 as the simulator speaks it.

Pairs have the market's own names. Answers are worded as in frames that others have recorded of the
live server (see venue.py); "Already subscribed", "Subscription Not Found" and "Malformed request"
are v1's documented words. Checksums are computed here from the texts that are sent, by themselves:
the decoder that checks them shares no code with this.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Final, NamedTuple
from zlib import crc32

from mdsys.feed.kraken.venue import KRAKEN
from mdsys.record.rfc3339 import rfc3339_text
from mdsys.sim.dialect import (
    Breach,
    Client,
    Depth,
    Dialect,
    Event,
    Exchange,
    Kind,
    Level,
    Message,
    Quote,
    Refusal,
    Request,
    Session,
    Symbol,
    Trade,
)

KINDS: Final[Mapping[str, Sequence[Kind]]] = {
    "trade": ("trade",),
    "ticker": ("quote", "trade"),
    "book": ("depth",),
    "ohlc": ("trade",),
}
"""Kraken's channel -> the events that make its frames."""
DEPTHS: Final = (10, 25, 100, 500, 1000)
RECENT_COUNT: Final = 50
"""Trades of a snapshot."""
_MINUTE_NS: Final = 60_000_000_000


def _dump(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, separators=(",", ":"))


def _data(channel: str, kind: str, items: Sequence[str]) -> str:
    """Return a frame; items are JSON already, for numbers keep the zeros at their end."""
    return f'{{"channel":"{channel}","type":"{kind}","data":[{",".join(items)}]}}'


class _Candle(NamedTuple):
    begin_ns: int
    open: int
    high: int
    low: int
    close: int
    trades: int
    volume: int
    turnover: int
    """Ticks times lots."""

    def add(self, trade: Trade) -> _Candle:
        """Return the candle with one more trade, or the next one."""
        begin = trade.time_ns - trade.time_ns % _MINUTE_NS
        price, size = trade.price, trade.size
        if begin != self.begin_ns:
            return _Candle(begin, price, price, price, price, 1, size, price * size)
        high, low = max(self.high, price), min(self.low, price)
        volume, turnover = self.volume + size, self.turnover + price * size
        return _Candle(begin, self.open, high, low, price, self.trades + 1, volume, turnover)

    def text(self, symbol: Symbol) -> str:
        """Return the item of an ohlc frame."""
        prices = ",".join(
            f'"{name}":{symbol.price(value)}'
            for name, value in zip(("open", "high", "low", "close"), self[1:5], strict=True)
        )
        vwap = symbol.price(self.turnover // max(self.volume, 1))
        return (
            f'{{"symbol":"{symbol.name}",{prices},"trades":{self.trades},'
            f'"volume":{symbol.size(self.volume)},"vwap":{vwap},'
            f'"interval_begin":"{rfc3339_text(self.begin_ns, 9)}","interval":1,'
            f'"timestamp":"{rfc3339_text(self.begin_ns + _MINUTE_NS, 6)}"}}'
        )


class Tape:
    """What the venue remembers of one symbol's trades, of those that any client was shown."""

    def __init__(self) -> None:
        self.recent: deque[Trade] = deque(maxlen=RECENT_COUNT)
        self.candle = _Candle(-1, 0, 0, 0, 0, 0, 0, 0)
        self.volume = 0
        self.watchers = 0
        """Clients that are shown the trades."""

    def add(self, trade: Trade) -> None:
        """Note a trade; the other clients' copies of it are the same."""
        if self.recent and trade.id <= self.recent[-1].id:
            return
        if self.recent and trade.id != self.recent[-1].id + 1:
            self.recent.clear()  # nobody watched: a snapshot has no holes
        self.recent.append(trade)
        self.volume += trade.size
        self.candle = self.candle.add(trade)


class Kraken(Dialect):
    """The public v2 server."""

    limits = KRAKEN.limits
    heartbeat_s = 1.0

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange)
        self.connection_ids = count(1)
        self._tapes: dict[int, Tape] = {}

    def accept(self, request: Request, client: Client) -> Session | Refusal:
        """Take everybody in: it is public."""
        return KrakenSession(self, client) if request.path == "/v2" else Refusal(404)

    def tape(self, symbol: Symbol) -> Tape:
        """Return the tape of a symbol."""
        return self._tapes.setdefault(symbol.index, Tape())

    def breach(self, what: str) -> Breach:
        """Say what the venue says to who sends too much; the simulator then hangs up."""
        if what == "messages":
            return Breach(messages=[_dump({"error": "Exceeded msg rate", "success": False})])
        return super().breach(what)


class KrakenSession(Session):
    """One client's socket."""

    def __init__(self, dialect: Kraken, client: Client) -> None:
        super().__init__(dialect, client)
        self._dialect = dialect
        self._on: dict[str, dict[str, Symbol]] = {channel: {} for channel in KINDS}
        self._triggers: dict[str, str] = {}
        """Symbol -> event_trigger of its ticker."""
        self._books: dict[str, _Sent] = {}
        self._kept: list[Message] = []
        self._quiet = True

    # ---- requests ----

    def greet(self) -> Sequence[Message]:
        """Tell of the exchange's status."""
        status = {
            "version": "2.0.10",
            "system": "online",
            "api_version": "v2",
            "connection_id": next(self._dialect.connection_ids),
        }
        return [_dump({"channel": "status", "type": "update", "data": [status]})]

    def hear(self, message: Message) -> Sequence[Message]:
        """Carry out one request; each symbol is answered by itself, its snapshot behind."""
        try:
            fields: Any = json.loads(message)
            method = fields["method"]
            own = {"req_id": fields["req_id"]} if "req_id" in fields else {}
            if method == "ping":
                return [_dump({"method": "pong", **own, **self._times()})]
            params = fields["params"]
            channel, symbols = params["channel"], list(params["symbol"])
            carry_out = {"subscribe": self._subscribe, "unsubscribe": self._unsubscribe}[method]
        except (ValueError, RecursionError, TypeError, KeyError):
            return [_dump({"error": "Malformed request", "success": False, **self._times()})]
        answers: list[Message] = []
        for name in symbols:
            words, first = carry_out(channel, str(name), params)
            head: dict[str, Any] = {"method": method}
            if words is not None:
                head |= {"error": words, "success": False, "symbol": name}
            else:
                result = {key: value for key, value in params.items() if key != "symbol"}
                head |= {"result": {**result, "symbol": name}, "success": True}
            answers.append(_dump({**head, **self._times(), **own}))
            if first is not None:
                answers.append(first)
        return answers

    def _times(self) -> Mapping[str, str]:
        now = rfc3339_text(self.market.time_ns, 6)
        return {"time_in": now, "time_out": now}

    def _subscribe(
        self, channel: str, name: str, params: Mapping[str, Any]
    ) -> tuple[str | None, Message | None]:
        """Return the words of a refusal, and the snapshot."""
        symbol = self.market.find(name)
        if channel not in KINDS:
            return "Unsupported channel", None
        if symbol is None or symbol.name != name:
            return f"Currency pair not supported {name}", None
        if name in self._on[channel]:
            return "Already subscribed", None
        if channel == "book" and params.get("depth", 10) not in DEPTHS:
            return "Subscription depth not supported", None
        words = self.exchange.refusal(name, channel)
        if words is not None:
            return words, None
        watched = "trade" in self._shown(symbol)
        self._on[channel][name] = symbol
        self.client.show(symbol, *KINDS[channel])
        if not watched and "trade" in KINDS[channel]:
            self._dialect.tape(symbol).watchers += 1
        first = self._first(channel, symbol, params)
        return None, first if params.get("snapshot", channel != "trade") else None

    def _unsubscribe(
        self, channel: str, name: str, params: Mapping[str, Any]
    ) -> tuple[str | None, Message | None]:
        del params
        symbol = self._on.get(channel, {}).pop(name, None)
        if symbol is None:
            return "Subscription Not Found", None
        gone = set(KINDS[channel]) - self._shown(symbol)
        self.client.hide(symbol, *gone)
        if "trade" in gone:
            self._dialect.tape(symbol).watchers -= 1
        return None, None

    def _shown(self, symbol: Symbol) -> set[Kind]:
        """Return the kinds of events that some channel of a symbol needs."""
        return {
            kind
            for channel, symbols in self._on.items()
            if symbol.name in symbols
            for kind in KINDS[channel]
        }

    def _first(self, channel: str, symbol: Symbol, params: Mapping[str, Any]) -> Message:
        tape = self._dialect.tape(symbol)
        if channel == "trade":
            recent = tape.recent if tape.watchers > 1 else ()  # else it may have holes before now
            return _data("trade", "snapshot", [_trade(trade) for trade in recent])
        if channel == "ohlc":
            candles = [tape.candle.text(symbol)] if tape.candle.trades else []
            return _data("ohlc", "snapshot", candles)
        book = self.market.book(symbol)
        if channel == "book":
            sent = self._books[symbol.name] = _Sent(int(params.get("depth", 10)))
            return _data("book", "snapshot", [sent.snapshot(symbol, book.bids, book.asks)])
        self._triggers[symbol.name] = params.get("event_trigger", "trades")
        ticker = self._ticker(symbol, book.time_ns, book.bids[0], book.asks[0])
        return _data("ticker", "snapshot", [ticker])

    # ---- events ----

    def render(self, event: Event) -> Message | None:
        """Return the frame of an event; what else it makes is kept for `flush`."""
        if isinstance(event, Trade):
            frame = self._on_trade(event)
        elif isinstance(event, Quote):
            frame = self._on_quote(event)
        else:
            frame = self._on_depth(event)
        self._quiet = self._quiet and frame is None and not self._kept
        return frame

    def _on_trade(self, trade: Trade) -> Message | None:
        symbol = trade.symbol
        tape = self._dialect.tape(symbol)
        tape.add(trade)
        if symbol.name in self._on["ohlc"]:
            self._kept.append(_data("ohlc", "update", [tape.candle.text(symbol)]))
        if symbol.name in self._on["ticker"] and self._triggers[symbol.name] == "trades":
            book = self.market.book(symbol)
            ticker = self._ticker(symbol, trade.time_ns, book.bids[0], book.asks[0])
            self._kept.append(_data("ticker", "update", [ticker]))
        if symbol.name in self._on["trade"]:
            return _data("trade", "update", [_trade(trade)])
        return None

    def _on_quote(self, quote: Quote) -> Message | None:
        symbol = quote.symbol
        if self._triggers[symbol.name] != "bbo":
            return None
        ticker = self._ticker(symbol, quote.time_ns, quote.bid, quote.ask)
        return _data("ticker", "update", [ticker])

    def _on_depth(self, event: Depth) -> Message | None:
        book = self.market.book(event.symbol)
        sent = self._books[event.symbol.name]
        item = sent.update(event.symbol, book.bids, book.asks, event.time_ns)
        return None if item is None else _data("book", "update", [item])

    def _ticker(self, symbol: Symbol, time_ns: int, bid: Level, ask: Level) -> str:
        tape = self._dialect.tape(symbol)
        last = tape.recent[-1].price if tape.recent else bid.price
        price = symbol.price(last)
        return (
            f'{{"symbol":"{symbol.name}","bid":{symbol.price(bid.price)},'
            f'"bid_qty":{symbol.size(bid.size)},"ask":{symbol.price(ask.price)},'
            f'"ask_qty":{symbol.size(ask.size)},"last":{price},'
            f'"volume":{symbol.size(tape.volume)},"vwap":{price},"low":{price},"high":{price},'
            f'"change":0.0,"change_pct":0.00,"timestamp":"{rfc3339_text(time_ns, 6)}"}}'
        )

    def flush(self) -> Sequence[Message]:
        """Return what trades have made besides their own frames."""
        kept, self._kept = self._kept, []
        return kept

    def heartbeat(self) -> Sequence[Message]:
        """Say that the socket lives, to a subscriber who has heard nothing else."""
        quiet, self._quiet = self._quiet, True
        return ['{"channel":"heartbeat"}'] if quiet and any(self._on.values()) else []


def _trade(trade: Trade) -> str:
    symbol = trade.symbol
    return (
        f'{{"symbol":"{symbol.name}","side":"{trade.side}","price":{symbol.price(trade.price)},'
        f'"qty":{symbol.size(trade.size)},"ord_type":"{("limit", "market")[trade.id % 2]}",'
        f'"trade_id":{trade.id},"timestamp":"{rfc3339_text(trade.time_ns, 6)}"}}'
    )


class _Sent:
    """The book of one subscription, as it was last sent: the best levels of its depth."""

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._sides: tuple[Sequence[Level], Sequence[Level]] = ((), ())

    def snapshot(self, symbol: Symbol, bids: Sequence[Level], asks: Sequence[Level]) -> str:
        """Return the item of a snapshot."""
        self._sides = (bids[: self._depth], asks[: self._depth])
        return self._item(symbol, self._sides, None)

    def update(
        self, symbol: Symbol, bids: Sequence[Level], asks: Sequence[Level], time_ns: int
    ) -> str | None:
        """Return the item of an update; None when nothing has changed within the depth."""
        new = (bids[: self._depth], asks[: self._depth])
        changes = [
            self._changes(old, now, asks=asks)
            for old, now, asks in zip(self._sides, new, (False, True), strict=True)
        ]
        self._sides = new
        return self._item(symbol, changes, time_ns) if any(changes) else None

    def _changes(
        self, old: Sequence[Level], new: Sequence[Level], *, asks: bool
    ) -> Sequence[Level]:
        """Return what a client must hear: not of levels that better ones have pushed out."""
        before, now = dict(old), dict(new)
        gone = [Level(price, 0) for price in before if price not in now]
        if len(new) == self._depth:  # then what is worse than all of it goes by the client's cut
            worst = new[-1].price
            gone = [each for each in gone if (each.price < worst) == asks]
        return gone + [level for level in new if before.get(level.price) != level.size]

    def _item(
        self,
        symbol: Symbol,
        changes: Sequence[Sequence[Level]],
        time_ns: int | None,
    ) -> str:
        rows = [
            ",".join(
                f'{{"price":{symbol.price(level.price)},"qty":{symbol.size(level.size)}}}'
                for level in side
            )
            for side in changes
        ]
        stamp = "" if time_ns is None else f',"timestamp":"{rfc3339_text(time_ns, 6)}"'
        return (
            f'{{"symbol":"{symbol.name}","bids":[{rows[0]}],"asks":[{rows[1]}],'
            f'"checksum":{self._checksum(symbol)}{stamp}}}'
        )

    def _checksum(self, symbol: Symbol) -> int:
        texts = []
        for side in reversed(self._sides):
            for level in side[:10]:
                texts += [symbol.price(level.price), symbol.size(level.size)]
        return crc32("".join(text.replace(".", "").lstrip("0") for text in texts).encode())
