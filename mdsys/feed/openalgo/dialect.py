"""OpenAlgo's manners for the simulator.

It answers as websocket_proxy/server.py does, and fills its ticks as Zerodha's adapter, key by key
and blank by blank: what the quick scanner knows (native/src/openalgo_quick.h). All symbols are of
NSE.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final

from mdsys.feed.openalgo.venue import OPENALGO
from mdsys.feed.venue import Limits, Message
from mdsys.sim.dialect import (
    Book,
    Breach,
    Client,
    Dialect,
    Event,
    Level,
    Refusal,
    Request,
    Session,
    Symbol,
    Trade,
)

MODES: Final = {"LTP": 1, "QUOTE": 2, "DEPTH": 3}
LABELS: Final = {1: "LTP", 2: "Quote", 3: "Depth"}
ADAPTER_MODES: Final = {1: "ltp", 2: "quote", 3: "full"}
LEVELS: Final = 5
EXCHANGE: Final = "NSE"
BROKER: Final = "simulator"

_Request = Mapping[str, Any]


class OpenAlgo(Dialect):
    """The proxy."""

    limits: Limits = OPENALGO.limits
    ping_interval_s: ClassVar[float | None] = 20.0
    ping_timeout_s: ClassVar[float | None] = 20.0
    hello_s: ClassVar[float | None] = 15.0
    keyed: ClassVar[bool] = True

    def accept(self, request: Request, client: Client) -> Session | Refusal:  # noqa: ARG002 - any path will do
        """Take in anybody: the key comes in the first message."""
        return OpenAlgoSession(self, client)

    def breach(self, what: str) -> Breach:
        """Say it as the server does, where it does."""
        if what == "hello":
            return Breach(code=4401, reason="auth timeout")
        return super().breach(what)


class OpenAlgoSession(Session):
    """One client's socket."""

    def __init__(self, dialect: Dialect, client: Client) -> None:
        super().__init__(dialect, client)
        self._key = ""
        self._symbols_max = dialect.limits.symbols_per_connection
        self._modes: dict[int, set[int]] = {}  # by the symbol's index
        self._trades: dict[int, Trade] = {}

    @property
    def key(self) -> str:
        """The API key, once it has been shown."""
        return self._key

    @property
    def secret(self) -> str:
        """The same."""
        return self._key

    def hear(self, message: Message) -> Sequence[Message]:
        """Carry out one request."""
        try:
            request = json.loads(message)
            action = request.get("action") or request.get("type")
        except (ValueError, AttributeError):
            return [_error("INVALID_JSON", "Invalid JSON message")]
        if action in ("authenticate", "auth"):
            return [self._authenticate(request)]
        if action == "ping":
            now_ms = self.market.time_ns // 10**6
            return [_answer({"type": "pong", "status": "success", "server_timestamp": now_ms})]
        actions: Mapping[Any, Callable[[_Request], str]] = {
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
        }
        if action not in actions:
            return [_error("INVALID_ACTION", f"Invalid action: {action}")]
        if not self._key:
            return [_error("NOT_AUTHENTICATED", "You must authenticate first")]
        if not request.get("symbols"):
            return [_error("INVALID_PARAMETERS", "At least one symbol must be specified")]
        return [actions[action](request)]

    def _authenticate(self, request: _Request) -> str:
        key = request.get("api_key") or request.get("apikey")
        if not key:
            return _error("AUTHENTICATION_ERROR", "API key is required")
        if not self.exchange.is_valid(key):
            return _error("AUTHENTICATION_ERROR", "Invalid API key")
        self._key = key
        words = "Authentication successful"
        return _answer({"type": "auth", "status": "success", "message": words, "broker": BROKER})

    def _subscribe(self, request: _Request) -> str:
        mode = _mode(request.get("mode", "Quote"))
        if mode is None:
            return _error("INVALID_MODE", f"Invalid mode {request.get('mode')!r}")
        entries = []
        for each in request["symbols"]:
            name = {"symbol": each.get("symbol"), "exchange": each.get("exchange")}
            words = self._show(name, mode)
            if words is None:
                done = {"status": "success", "mode": LABELS[mode], "depth": LEVELS}
                entries.append({**name, **done, "broker": BROKER})
            else:
                entries.append({**name, "status": "error", "message": words, "broker": BROKER})
        good = all(entry["status"] == "success" for entry in entries)
        answer = {"type": "subscribe", "status": "success" if good else "partial"}
        return _answer({**answer, "subscriptions": entries}, request)

    def _show(self, name: Mapping[str, Any], mode: int) -> str | None:
        """Subscribe to one symbol; returns why it is refused."""
        symbol = self._symbol(name)
        if symbol is None:
            return f"Symbol {name['symbol']} not found for exchange {name['exchange']}"
        if words := self.exchange.refusal(f"{EXCHANGE}:{symbol.name}", LABELS[mode]):
            return words
        most = self._symbols_max
        if symbol.index not in self._modes and len(self._modes) == most:
            words = f"Maximum symbols per connection reached: {most}"
            self.client.breach("symbols_per_connection", words)
            return words
        self._modes.setdefault(symbol.index, set()).add(mode)
        self.client.show(symbol, *(("trade", "quote", "depth") if mode == 3 else ("trade",)))
        return None

    def _unsubscribe(self, request: _Request) -> str:
        done = []
        for each in request["symbols"]:
            name = {"symbol": each.get("symbol"), "exchange": each.get("exchange")}
            symbol, mode = self._symbol(name), _mode(each.get("mode", 2))
            if symbol is not None and mode is not None:
                modes = self._modes.get(symbol.index, set())
                modes.discard(mode)
                if 3 not in modes:
                    self.client.hide(symbol, "quote", "depth")
                if not modes:
                    self._modes.pop(symbol.index, None)
                    self.client.hide(symbol, "trade")
            done.append({**name, "status": "success", "broker": BROKER})
        answer = {"type": "unsubscribe", "status": "success", "successful": done, "failed": []}
        return _answer(answer, request)

    def _symbol(self, name: Mapping[str, Any]) -> Symbol | None:
        found = isinstance(name["symbol"], str) and name["exchange"] == EXCHANGE
        return self.market.find(name["symbol"]) if found else None

    def render(self, event: Event) -> Message | None:
        """Return the tick, as the highest of the symbol's modes shows it."""
        index = event.symbol.index
        if event.kind == "trade":
            self._trades[index] = event
        mode = max(self._modes.get(index, ()), default=0)
        trade = self._trades.get(index)
        if mode == 0 or (mode < 3 and trade is None):
            return None
        return tick(mode, self.market.book(event.symbol), trade, event.time_ns)


def tick(mode: int, book: Book, trade: Trade | None, time_ns: int) -> str:
    """Return a market_data message; before the first trade the best bid stands in for its price."""
    symbol = book.symbol
    ticks = trade.price if trade else book.bids[0].price if book.bids else 0
    name = f'"symbol": "{symbol.name}", "exchange": "{EXCHANGE}", "mode": '
    data = f'{name}"{ADAPTER_MODES[mode]}", "ltp": {symbol.price(ticks)}'
    if trade is not None:
        data += f', "ltt": {trade.time_ns // 10**6}'
    data += f', "timestamp": {time_ns // 10**6}'
    if mode > 1 and trade is not None:
        data += f', "volume": {trade.id % 10**8}, "last_quantity": {symbol.size(trade.size)}'
    if mode > 1:
        data += _day(book, symbol.price(ticks))
    if mode == 3:
        buy, sell = (_rows(symbol, side) for side in (book.bids, book.asks))
        data += f', "oi": 0, "open_interest": 0, "depth": {{"buy": [{buy}], "sell": [{sell}]}}'
    return f'{{"type": "market_data", {name}{mode}, "data": {{{data}}}, "broker": "{BROKER}"}}'


def _day(book: Book, price: str) -> str:
    """Return what is told of the day, which is read past: its prices are all the last one."""
    buy, sell = (
        book.symbol.size(sum(level.size for level in side)) for side in (book.bids, book.asks)
    )
    return (
        f', "average_price": {price}, "total_buy_quantity": {buy}, "total_sell_quantity": {sell}, '
        f'"open": {price}, "high": {price}, "low": {price}, "close": {price}'
    )


def _rows(symbol: Symbol, side: Sequence[Level]) -> str:
    return ", ".join(
        f'{{"price": {symbol.price(price)}, "quantity": {symbol.size(size)}, "orders": 1}}'
        for price, size in side[:LEVELS]
    )


def _mode(written: Any) -> int | None:
    if isinstance(written, str):
        return MODES.get(written.strip().upper())
    return written if written in LABELS and not isinstance(written, bool) else None


def _answer(answer: dict[str, Any], request: _Request | None = None) -> str:
    if request is not None and request.get("request_id") is not None:
        answer["request_id"] = request["request_id"]
    return json.dumps(answer)


def _error(code: str, message: str) -> str:
    return json.dumps({"status": "error", "code": code, "message": message})
