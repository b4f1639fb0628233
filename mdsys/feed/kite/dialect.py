"""Kite's manners for the simulator: packets by mode, and the day's list of instruments.

Kite's prices are whole paise and its quantities whole: a tick of the market is a paisa here, a lot
one share. All symbols are stocks of NSE, NSE:SYM000000 with token 257 and so on, 256 apart. What is
shown first is the state as it is, at once. Unknown tokens are passed over in silence, as nothing is
ever acknowledged; a breach of the 3000 and a refusal by a fault are said in an error.
"""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Final

from mdsys.feed.kite.instruments import PATH
from mdsys.feed.kite.venue import KITE
from mdsys.feed.venue import Limits, Message
from mdsys.sim.dialect import (
    Book,
    Breach,
    Client,
    Dialect,
    Event,
    Level,
    Refusal,
    Reply,
    Request,
    Session,
    Symbol,
    Trade,
)

MODES: Final = ("ltp", "quote", "full")
EXPIRED: Final = "NFO:SYMOLDFUT"
"""In the list of instruments, for whoever asks for what trades no more."""

_HEADER: Final = (
    "instrument_token,exchange_token,tradingsymbol,name,last_price,expiry,strike,tick_size,"
    "lot_size,instrument_type,segment,exchange"
)
_NO_TOKEN: Final = {
    "status": "error",
    "message": "Incorrect `api_key` or `access_token`.",
    "error_type": "TokenException",
}
_SIDE_ROWS: Final = 5
_INT32_MAX: Final = (1 << 31) - 1


def token(symbol: Symbol) -> int:
    """Return a symbol's instrument token: segment NSE."""
    return (symbol.index + 1) << 8 | 1


def frame(packets: Iterable[bytes]) -> bytes:
    """Return the message of some packets, at most 65,535."""
    bodies = [struct.pack(">H", len(packet)) + packet for packet in packets]
    return struct.pack(">H", len(bodies)) + b"".join(bodies)


def packet(mode: str, book: Book, trade: Trade | None, time_ns: int) -> bytes:
    """Return what a mode shows of a symbol.

    Args:
        mode: Of `MODES`.
        book: As it is.
        trade: The last; None: there was none yet, and the best bid stands in.
        time_ns: Now.
    """
    symbol = book.symbol
    last_price = trade.price if trade else book.bids[0].price if book.bids else 0
    head = struct.pack(">Ii", token(symbol), min(last_price, _INT32_MAX))
    if mode == "ltp":
        return head
    last_size, volume = (trade.size, trade.id - 10**8) if trade else (0, 0)
    resting = [sum(level.size for level in side) for side in (book.bids, book.asks)]
    head += struct.pack(">IiIII4i", last_size, last_price, volume, *resting, *[last_price] * 4)
    if mode == "quote":
        return head
    seconds = time_ns // 10**9
    traded = trade.time_ns // 10**9 if trade else 0
    head += struct.pack(">5I", traded, 0, 0, 0, seconds)
    return head + _rows(book.bids) + _rows(book.asks)


def _rows(side: Sequence[Level]) -> bytes:
    rows = [struct.pack(">IiHxx", size, price, 1) for price, size in side[:_SIDE_ROWS]]
    return b"".join(rows).ljust(12 * _SIDE_ROWS, b"\0")


class Kite(Dialect):
    """Kite's ticker and its REST address."""

    limits: Limits = KITE.limits
    keyed: ClassVar[bool] = True
    heartbeat_s: ClassVar[float | None] = 2.0

    def accept(self, request: Request, client: Client) -> Session | Refusal:
        """Take in whoever has a token."""
        key, secret = request.query.get("api_key", ""), request.query.get("access_token", "")
        if request.path != "/":
            return Refusal(404)
        if not key or not self.exchange.is_valid(secret):
            return Refusal(403, json.dumps(_NO_TOKEN))
        return KiteSession(self, client, key, secret)

    def rest(self, request: Request) -> Reply | None:
        """Answer with the list of instruments."""
        if request.path != PATH:
            return None
        kind, _, credential = request.headers.get("authorization", "").partition(" ")
        if kind != "token" or not self.exchange.is_valid(credential.partition(":")[2]):
            return Reply(403, json.dumps(_NO_TOKEN))
        headers = {"Content-Type": "text/csv", "Content-Encoding": "gzip"}
        return Reply(200, gzip.compress(self._instruments().encode(), 1), headers)

    def _instruments(self) -> str:
        rows = [
            f"{token(symbol)},{symbol.index + 1},{symbol.name},,0,,0,0.05,1,EQ,NSE,NSE"
            for symbol in self.market.symbols
        ]
        exchange, _, name = EXPIRED.partition(":")
        old = f"16777218,65536,{name},,0,2020-01-30,0,0.05,75,FUT,NFO-FUT,{exchange}"
        return "\n".join([_HEADER, *rows, old, ""])

    def breach(self, what: str) -> Breach:
        """Say it as the venue does: by the status of an upgrade that is refused."""
        return Breach(status=403 if what == "expired" else 429, body=json.dumps(_NO_TOKEN))


class KiteSession(Session):
    """One client's socket."""

    def __init__(self, dialect: Dialect, client: Client, key: str, secret: str) -> None:
        super().__init__(dialect, client)
        self._key = key
        self._secret = secret
        self._symbols_max = dialect.limits.symbols_per_connection
        self._modes: dict[int, str] = {}  # by the symbol's index
        self._trades: dict[int, Trade] = {}

    @property
    def key(self) -> str:
        """What its sockets are counted by."""
        return self._key

    @property
    def secret(self) -> str:
        """The token, which expires."""
        return self._secret

    def hear(self, message: Message) -> Sequence[Message]:
        """Carry out a subscribe, unsubscribe or mode."""
        try:
            fields: Any = json.loads(message)
            action, value = fields["a"], fields["v"]
            mode, tokens = value if action == "mode" else ("quote", value)
            symbols = [symbol for each in tokens if (symbol := self._symbol(each))]
        except (ValueError, TypeError, KeyError):
            return [_error("Invalid message")]
        if action == "unsubscribe":
            for symbol in symbols:
                self._modes.pop(symbol.index, None)
                self.client.hide(symbol, "trade", "quote", "depth")
            return []
        if action not in ("subscribe", "mode") or mode not in MODES:
            return [_error("Invalid message")]
        if action == "mode":
            symbols = [symbol for symbol in symbols if symbol.index in self._modes]
        return self._show(symbols, mode)

    def _symbol(self, number: Any) -> Symbol | None:
        index = number >> 8
        known = number & 255 == 1 and 1 <= index <= len(self.market.symbols)
        return self.market.symbols[index - 1] if known else None

    def _show(self, symbols: Sequence[Symbol], mode: str) -> Sequence[Message]:
        answers: list[Message] = []
        shown = []
        most = self._symbols_max
        for symbol in symbols:
            if symbol.index not in self._modes:
                if len(self._modes) == most:
                    words = f"more than {most} instruments on a connection"
                    self.client.breach("symbols_per_connection", words)
                    answers.append(_error(words))
                    break
                if words_of_fault := self.exchange.refusal(f"NSE:{symbol.name}"):
                    answers.append(_error(words_of_fault))
                    continue
            self._modes[symbol.index] = mode
            if mode == "full":
                self.client.show(symbol, "trade", "quote", "depth")
            else:
                self.client.show(symbol, "trade")
                self.client.hide(symbol, "quote", "depth")
            shown.append(packet(mode, self.market.book(symbol), None, self.market.time_ns))
        return [*answers, frame(shown)] if shown else answers

    def render(self, event: Event) -> Message | None:
        """Return one packet, in the symbol's mode."""
        index = event.symbol.index
        if event.kind == "trade":
            self._trades[index] = event
        mode = self._modes.get(index)
        if mode is None:
            return None
        book = self.market.book(event.symbol)
        return frame([packet(mode, book, self._trades.get(index), event.time_ns)])

    def heartbeat(self) -> Sequence[Message]:
        """Return the one byte."""
        return [b"\0"]


def _error(words: str) -> str:
    return json.dumps({"type": "error", "data": words})
