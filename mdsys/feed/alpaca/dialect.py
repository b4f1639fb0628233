"""Alpaca's manners for the simulator: stocks under /v2/..., crypto under /v1beta3/crypto/us.

What the documents leave open is decided so: a symbol that the market has not is left out of the
list that answers a subscription; a faulty one refuses the request that holds it, with the fault's
words; the fourth connect at once is refused (the documents name no number). There are no bars in
the market, so those streams are listed and stay silent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, ClassVar, Final, Literal

from mdsys.feed.event_dialect import EventSession, frame, frames
from mdsys.feed.venue import Limits, Message, Window
from mdsys.sim.dialect import (
    Book,
    Breach,
    Client,
    CloseSocket,
    Depth,
    Dialect,
    Event,
    Kind,
    Level,
    Quote,
    Refusal,
    Request,
    Session,
    Symbol,
    Trade,
)

MESSAGE_SIZE_MAX: Final = 16_384

_KINDS: Final[Mapping[str, Kind]] = {"trades": "trade", "quotes": "quote", "orderbooks": "depth"}
_STOCKS: Final = (
    *("trades", "quotes", "bars", "updatedBars", "dailyBars", "statuses", "lulds"),
    *("corrections", "cancelErrors"),
)
_CRYPTO: Final = ("trades", "quotes", "orderbooks", "bars", "updatedBars", "dailyBars")
_WITH_TRADES: Final = ("corrections", "cancelErrors")
"""Lists that a subscription of trades of stocks adds to by itself."""

_ERRORS: Final = {
    400: "invalid syntax",
    401: "not authenticated",
    402: "auth failed",
    403: "already authenticated",
    404: "auth timeout",
    405: "symbol limit exceeded",
    406: "connection limit exceeded",
    407: "slow client",
    410: "invalid subscribe action for this feed",
}


def error(code: int, words: str | None = None) -> str:
    """Return an error's frame."""
    return frame({"T": "error", "code": code, "msg": words or _ERRORS[code]})


def number(text: str) -> str:
    """Return a number as the venue writes it: no zeros at the end of a fraction."""
    return text.rstrip("0").rstrip(".") if "." in text else text


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def rfc3339(time_ns: int) -> str:
    """Return a time with its nanoseconds."""
    seconds, ns = divmod(time_ns, 10**9)
    return f"{_second(seconds)}.{ns:09d}Z"


class Alpaca(Dialect):
    """Alpaca's endpoints."""

    limits: Limits = Limits(connections=1, connects=(Window(3, 1.0),))
    keyed: ClassVar[bool] = True
    hello_s: ClassVar[float | None] = 10.0

    def accept(self, request: Request, client: Client) -> Session | Refusal:
        """Take in whoever names one of the streams."""
        path = request.path.strip("/")
        if path.startswith("v1beta3/crypto/"):
            return AlpacaSession(self, client, is_crypto=True)
        if path.startswith(("v2/", "v1beta1/")):
            return AlpacaSession(self, client, is_crypto=False)
        return Refusal(404, "not found")

    def breach(self, what: str) -> Breach:
        """Say it in the venue's error codes."""
        codes = {"connections": 406, "slow": 407, "hello": 404, "expired": 402}
        if what in codes:
            return Breach(messages=[error(codes[what])], reason=what)
        return super().breach(what)


class AlpacaSession(EventSession):
    """One client's socket."""

    def __init__(self, dialect: Dialect, client: Client, *, is_crypto: bool) -> None:
        super().__init__(dialect, client)
        self._streams_max = dialect.limits.streams_per_connection
        self._is_crypto = is_crypto
        self._lists: dict[str, dict[str, None]] = {
            name: {} for name in (_CRYPTO if is_crypto else _STOCKS)
        }

    def greet(self) -> Sequence[Message]:
        """Welcome it."""
        return [frame({"T": "success", "msg": "connected"})]

    def hear(self, message: Message) -> Sequence[Message]:
        """Carry out an auth, subscribe or unsubscribe."""
        if len(message) > MESSAGE_SIZE_MAX:
            self.client.breach("streams_per_message")
            raise CloseSocket(1009, "message too big")
        try:
            fields = json.loads(message)
            action = fields.pop("action")
        except (ValueError, AttributeError, KeyError, TypeError):
            return [error(400)]
        if action == "auth":
            return [self._authenticate(fields)]
        if not self._key:
            return [error(401)]
        if action not in ("subscribe", "unsubscribe"):
            return [error(400)]
        if not all(_is_list_of_names(names) for names in fields.values()):
            return [error(400)]
        if not fields.keys() <= self._lists.keys():
            return [error(410)]
        return self._add(fields) if action == "subscribe" else [self._remove(fields)]

    def _authenticate(self, fields: Mapping[str, Any]) -> str:
        if self._key:
            return error(403)
        key = fields.get("key")
        if not isinstance(key, str) or not fields.get("secret") or not self.exchange.is_valid(key):
            raise CloseSocket(1008, "auth failed", messages=[error(402)])
        self._key = key
        return frame({"T": "success", "msg": "authenticated"})

    def _add(self, asked: Mapping[str, list[str]]) -> Sequence[Message]:
        found: list[tuple[str, Symbol]] = []
        for name, symbols in asked.items():
            for each in self.market.symbols if "*" in symbols else map(self.market.find, symbols):
                if each is None:
                    continue
                if words := self.exchange.refusal(each.name, name):
                    return [error(400, words)]
                found.append((name, each))
        added = sum(
            name in {"trades", "quotes"} and each.name not in self._lists[name]
            for name, each in found
        )
        if self._streams_max is not None and self._count() + added > self._streams_max:
            return [error(405)]
        books = []
        for name, each in found:
            self._lists[name][each.name] = None
            if name in _KINDS:
                self.client.show(each, _KINDS[name])
            if name == "orderbooks":
                books.append(self._book(self.market.book(each), is_whole=True))
            if name == "trades" and not self._is_crypto:
                for other in _WITH_TRADES:
                    self._lists[other][each.name] = None
        return [self._listing(), *frames(books)]

    def _count(self) -> int:
        return len(self._lists["trades"]) + len(self._lists["quotes"])

    def _remove(self, asked: Mapping[str, list[str]]) -> str:
        for name, symbols in asked.items():
            for symbol in list(self._lists[name]) if "*" in symbols else symbols:
                self._lists[name].pop(symbol, None)
                if (found := self.market.find(symbol)) is not None and name in _KINDS:
                    self.client.hide(found, _KINDS[name])
                if name == "trades" and not self._is_crypto:
                    for other in _WITH_TRADES:
                        self._lists[other].pop(symbol, None)
        return self._listing()

    def _listing(self) -> str:
        return frame(
            {"T": "subscription", **{name: list(names) for name, names in self._lists.items()}}
        )

    def render(self, event: Event) -> Message | None:
        """Keep the event for the block's frame."""
        if event.kind == "trade":
            self._pending.append(self._trade(event))
        elif event.kind == "quote":
            self._pending.append(self._quote(event))
        else:
            self._pending.append(self._book(event, is_whole=False))
        return None

    def _trade(self, event: Trade) -> str:
        symbol = event.symbol
        head = f'{{"T":"t","S":"{symbol.name}"'
        traded = f'"p":{number(symbol.price(event.price))},"s":{number(symbol.size(event.size))}'
        time = f'"t":"{rfc3339(event.time_ns)}"'
        if self._is_crypto:
            side = "B" if event.side == "buy" else "S"
            return f'{head},{traded},{time},"i":{event.id},"tks":"{side}"}}'
        return f'{head},"i":{event.id},"x":"V",{traded},"c":["@","I"],"z":"A",{time}}}'

    def _quote(self, event: Quote) -> str:
        symbol = event.symbol
        exchanges = ("", "") if self._is_crypto else (',"bx":"V"', ',"ax":"V"')
        return (
            f'{{"T":"q","S":"{symbol.name}"{exchanges[0]}'
            f',"bp":{number(symbol.price(event.bid.price))}'
            f',"bs":{number(symbol.size(event.bid.size))}{exchanges[1]}'
            f',"ap":{number(symbol.price(event.ask.price))}'
            f',"as":{number(symbol.size(event.ask.size))},"t":"{rfc3339(event.time_ns)}"}}'
        )

    def _book(self, event: Book | Depth, *, is_whole: bool) -> str:
        symbol = event.symbol
        sides = (_rows(symbol, side) for side in (event.bids, event.asks))
        text = f'{{"T":"o","S":"{symbol.name}","t":"{rfc3339(event.time_ns)}","b":{next(sides)}'
        return f'{text},"a":{next(sides)}{_RESET[is_whole]}}}'


_RESET: Final[Mapping[bool, Literal[',"r":true', ""]]] = {True: ',"r":true', False: ""}


def _rows(symbol: Symbol, levels: Sequence[Level]) -> str:
    rows = (
        f'{{"p":{number(symbol.price(level.price))},"s":{number(symbol.size(level.size))}}}'
        for level in levels
    )
    return f"[{','.join(rows)}]"


def _is_list_of_names(names: object) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)
