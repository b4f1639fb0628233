"""How Binance's servers speak: paths, requests, answers, pings, and REST order books.

Error texts as in binance/binance-spot-api-docs web-socket-streams.md ("Error messages") and
errors.md, and as seen from the live server ({"error":{..},"id":..}; code 4 "Too many
subscriptions"); read 2026-11. The frames are native (native/src/sim_binance.h).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from mdsys.feed.binance.venue import BINANCE, BINANCE_COINM, BINANCE_USDM, SHUTDOWN, BinanceVenue
from mdsys.sim.dialect import (
    Book,
    Breach,
    Client,
    CloseSocket,
    Dialect,
    Exchange,
    Form,
    Level,
    Message,
    Refusal,
    Reply,
    Request,
    Session,
)

METHODS: Final = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS")
# Names are at most this long here, so that a client cannot make the server hold megabytes.
STREAM_NAME_SIZE_MAX: Final = 128
ID_TEXT_SIZE_MAX: Final = 36
# After so many requests above the weight, the address is banned (HTTP 418).
BREACHES_BEFORE_BAN: Final = 10


def parse_path(request: Request) -> tuple[Form, list[str]] | None:
    """Return the form and the streams that a request asks for; None: there is no such path.

    /ws, /ws/a, /ws/a/b: raw. /stream, /stream?streams=a/b: combined. USD-M's routed paths are the
    same behind /public.
    """
    path = request.path.removeprefix("/public")
    head, _, tail = path.removeprefix("/").partition("/")
    microseconds = request.query.get("timeUnit", "").upper() == "MICROSECOND"
    if head == "ws":
        return Form(combined=False, microseconds=microseconds), _names(tail)
    if head == "stream" and not tail:
        names = _names(request.query.get("streams", ""))
        return Form(combined=True, microseconds=microseconds), names
    return None


def _names(text: str) -> list[str]:
    return [name for name in text.split("/") if name]


class BinanceSession(Session):
    """One client's streams, in the order of subscription."""

    def __init__(
        self, dialect: BinanceDialect, client: Client, form: Form, names: Sequence[str]
    ) -> None:
        super().__init__(dialect, client)
        self._form = form
        self._dialect = dialect
        self._names = names
        self.streams: dict[str, None] = {}

    @property
    def form(self) -> Form:
        """Raw or combined, as the path said."""
        return self._form

    def greet(self) -> Sequence[Message]:
        """Subscribe to what the path named.

        Raises:
            CloseSocket: That is more than a socket carries.
        """
        if self._add(self._names) is not None:
            raise CloseSocket(1008, "Too many subscriptions")
        self.client.show_streams(self.streams)
        return ()

    def leave(self) -> Sequence[Message]:
        """Announce the end; only spot does."""
        if self._dialect.venue.futures:
            return ()
        data = {"e": SHUTDOWN, "E": self.market.time_ns // 1_000_000}
        return [_dump({"stream": "", "data": data} if self._form.combined else data)]

    def hear(self, message: Message) -> Sequence[Message]:
        """Carry out one request and return the venue's answer."""
        answer = self._answer(message)
        self.client.show_streams(self.streams)
        return [_dump(answer)]

    def _answer(self, message: Message) -> dict[str, Any]:
        try:
            request = json.loads(message)
        except (ValueError, RecursionError) as error:
            line, column = getattr(error, "lineno", 1), getattr(error, "colno", 1)
            return _error(3, f"Invalid JSON: expected value at line {line} column {column}")
        if not isinstance(request, dict):
            return _error(2, "Invalid request: expected an object")
        request_id = request.get("id", _NO_ID)
        if not _is_id(request_id):
            return _error(2, "Invalid request: request ID must be an unsigned integer")
        method = request.get("method")
        if method is None:
            return _error(2, "Invalid request: missing field `method`", request_id)
        if method not in METHODS:
            expected = ", ".join(f"`{name}`" for name in METHODS)
            words = f"unknown variant `{str(method)[:40]}`, expected one of {expected}"
            return _error(2, f"Invalid request: {words}", request_id)
        if method == "LIST_SUBSCRIPTIONS":
            return {"result": list(self.streams), "id": request_id}
        names = request.get("params")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            words = "invalid type: `params`, expected strings"
            return _error(2, f"Invalid request: {words}", request_id)
        if method == "UNSUBSCRIBE":
            for name in names:
                self.streams.pop(name, None)
        elif (problem := self._add(names)) is not None:
            return _error(*problem, request_id)
        return {"result": None, "id": request_id}

    def _add(self, names: Sequence[str]) -> tuple[int, str] | None:
        """Subscribe to all of ``names``; or to none, and return why."""
        for name in names:
            if len(name) > STREAM_NAME_SIZE_MAX:
                return 2, "Invalid request: a stream's name is too long"
            symbol, _, channel = name.partition("@")
            words = self.exchange.refusal(symbol.upper(), channel)
            if words is not None:
                return 2, words
        together = {**self.streams, **dict.fromkeys(names)}
        streams_max = self._dialect.limits.streams_per_connection
        if streams_max is not None and len(together) > streams_max:
            self.client.breach("streams_per_connection", f"{len(together)} streams")
            return 4, "Too many subscriptions"
        self.streams = together
        return None


class BinanceDialect(Dialect):
    """What the three markets have in common."""

    venue: ClassVar[BinanceVenue]

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange)
        self._breaches = 0

    def accept(self, request: Request, client: Client) -> Session | Refusal:
        """Take a client in under a known path."""
        target = parse_path(request)
        if target is None:
            return Refusal(404, "paths: /ws, /ws/<stream>, /stream, /stream?streams=<a>/<b>\n")
        return BinanceSession(self, client, *target)

    def rest(self, request: Request) -> Reply | None:
        """Answer a request for an order book."""
        books = self.venue.book_snapshots
        assert books is not None
        if request.path != books.path:
            return None
        symbol = self.market.find(request.query.get("symbol", ""))
        if symbol is None:
            return Reply(400, _dump({"code": -1121, "msg": "Invalid symbol."}))
        limit = request.query.get("limit", "100" if not self.venue.futures else "500")
        allowed = (
            (5, 10, 20, *books.weights) if self.venue.futures else range(1, books.depth_max + 1)
        )
        if not (limit.isdecimal() and limit.isascii() and int(limit[:6]) in allowed):
            return Reply(
                400, _dump({"code": -1130, "msg": "Data sent for parameter 'limit' is not valid."})
            )
        depth = int(limit)
        weight = books.weights[min(most for most in books.weights if most >= depth)]
        return Reply(200, _dump(self._book(self.market.book(symbol), depth)), weight=weight)

    def _book(self, book: Book, depth: int) -> dict[str, Any]:
        def rows(levels: Sequence[Level]) -> list[list[str]]:
            return [
                [
                    self._text(book.symbol.price(level.price)),
                    self._text(book.symbol.size(level.size)),
                ]
                for level in levels[:depth]
            ]

        fields: dict[str, Any] = {"lastUpdateId": book.id}
        if self.venue.futures:
            fields["E"] = book.time_ns // 1_000_000
            fields["T"] = fields["E"] - 1
        if self.native == "coinm":
            fields["symbol"] = book.symbol.name
            fields["pair"] = book.symbol.name.partition("_")[0]
        return fields | {"bids": rows(book.bids), "asks": rows(book.asks)}

    def _text(self, number: str) -> str:
        """Return it as the venue writes it: spot always has eight decimals."""
        if self.venue.futures:
            return number
        whole, _, fraction = number.partition(".")
        return f"{whole}.{fraction:0<8}"

    def rest_headers(self, weight_used: int) -> Mapping[str, str]:
        """Return how much of the minute's weight is used."""
        return {"X-MBX-USED-WEIGHT-1M": str(weight_used)}

    def breach(self, what: str) -> Breach:
        """Close with 1008; or 429 and, for who does not heed it, 418."""
        if what == "lifetime":
            return Breach(code=1001, reason="24 hours")
        if what == "slow":
            return Breach(code=1008, reason="disconnected: slow consumer")
        if what not in ("rest_weight", "connects"):
            return Breach(code=1008, reason="Too many requests")
        self._breaches += 1
        banned = self._breaches > BREACHES_BEFORE_BAN
        words = "Way too much request weight used; IP banned." if banned else "Too many requests."
        return Breach(status=418 if banned else 429, body=_dump({"code": -1003, "msg": words}))


class BinanceSpot(BinanceDialect):
    """Spot."""

    venue = BINANCE
    native = "spot"
    limits = BINANCE.limits
    ping_interval_s = 20
    ping_timeout_s = 60


class BinanceUsdm(BinanceDialect):
    """USD-M futures."""

    venue = BINANCE_USDM
    native = "usdm"
    limits = BINANCE_USDM.limits
    ping_interval_s = 180
    ping_timeout_s = 600


class BinanceCoinm(BinanceDialect):
    """Coin-M futures."""

    venue = BINANCE_COINM
    native = "coinm"
    limits = BINANCE_COINM.limits
    ping_interval_s = 180
    ping_timeout_s = 600


_NO_ID: Final = object()  # null is an id too


def _is_id(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= ID_TEXT_SIZE_MAX and value.isalnum()
    if isinstance(value, int) and not isinstance(value, bool):
        return -(2**63) <= value < 2**63
    return value is None


def _error(code: int, text: str, request_id: object = _NO_ID) -> dict[str, Any]:
    answer: dict[str, Any] = {"error": {"code": code, "msg": text}}
    if request_id is not _NO_ID:
        answer["id"] = request_id
    return answer


def _dump(answer: Mapping[str, Any]) -> str:
    return json.dumps(answer, separators=(",", ":"))
