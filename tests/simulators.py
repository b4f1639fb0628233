"""What tests of the simulator share: sessions and clients without a server."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import cast

from mdsys.feed.venue import Limits, Window
from mdsys.sim.dialect import (
    Breach,
    Client,
    Dialect,
    Event,
    Form,
    Kind,
    Message,
    Refusal,
    Reply,
    Request,
    Session,
    Symbol,
)
from mdsys.sim.dialects import find
from mdsys.sim.exchange import SimExchange
from mdsys.sim.market import MarketSource, RandomMarket


class FormOnly(Session):
    """A session of which only the form matters."""

    def __init__(self, *, combined: bool = True, microseconds: bool = False) -> None:
        self._form = Form(combined=combined, microseconds=microseconds)

    @property
    def form(self) -> Form:
        return self._form


class Venue:
    """A dialect and its market, without a server."""

    def __init__(self, venue: str, symbols: int = 3, seed: int = 1) -> None:
        dialect = find(venue)
        self.source: MarketSource = RandomMarket(symbols, seed=seed).open(dialect)
        self.exchange = SimExchange(self.source.market, None)
        self.dialect = dialect(self.exchange)

    def session(self, path: str, **query: str) -> tuple[Session, RecordingClient]:
        """Return an open session under a path, greeted."""
        client = RecordingClient()
        session = self.dialect.accept(request(path, **query), client)
        assert isinstance(session, Session), session
        session.greet()
        return session, client


def request(path: str, **query: str) -> Request:
    """Return a request without headers."""
    return Request(path, query, {}, "192.0.2.1")


class RecordingClient(Client):
    """A client that writes down what a dialect does to it."""

    def __init__(self) -> None:
        self.shown: set[tuple[str, Kind]] = set()
        self.streams: list[str] = []
        self.breaches: list[str] = []

    @property
    def address(self) -> str:
        return "192.0.2.1"

    def show(self, symbol: Symbol, *kinds: Kind) -> None:
        self.shown |= {(symbol.name, kind) for kind in kinds}

    def hide(self, symbol: Symbol, *kinds: Kind) -> None:
        self.shown -= {(symbol.name, kind) for kind in kinds}

    def show_streams(self, names: Collection[str]) -> None:
        self.streams = list(names)

    def breach(self, what: str, words: str = "") -> None:
        self.breaches.append(what)


class Toy(Dialect):
    """A venue of words: ``show SYM000001 trade`` and the like, keys in the query."""

    limits = Limits(
        connections=2,
        messages=(Window(5, 60),),
        control_frames_count=True,
        connects=(Window(8, 60),),
        rest_weight=(Window(10, 60),),
    )
    keyed = True
    notice_s = 0.01

    def accept(self, request: Request, client: Client) -> Session | Refusal:
        key = request.query.get("key", "")
        return ToySession(self, client, key) if self.exchange.is_valid(key) else Refusal(403, "bad")

    def rest(self, request: Request) -> Reply | None:
        return Reply(200, "weighed", weight=4) if request.path == "/rest" else None

    def breach(self, what: str) -> Breach:
        return Breach(status=406, code=1008, messages=(f"out: {what}",), reason=what)


class ToySession(Session):
    def __init__(self, dialect: Dialect, client: Client, key: str) -> None:
        super().__init__(dialect, client)
        self._key = key

    @property
    def key(self) -> str:
        return self._key

    @property
    def secret(self) -> str:
        return self._key

    def greet(self) -> Sequence[Message]:
        return ["hello"]

    def hear(self, message: Message) -> Sequence[Message]:
        what, *rest = str(message).split()
        if what == "fail":
            raise RuntimeError("a dialect's mistake")
        if what == "key":
            self._key = rest[0]
            return ["keyed"]
        symbol = self.market.find(rest[0])
        assert symbol is not None
        if what == "book":
            book = self.market.book(symbol)
            return [f"book {book.id} {len(book.bids)}"]
        words = self.exchange.refusal(symbol.name, rest[1])
        if words is not None:
            return [f"refused {symbol.name} {words}"]
        kind = cast("Kind", rest[1])
        (self.client.show if what == "show" else self.client.hide)(symbol, kind)
        return ["done"]

    def render(self, event: Event) -> Message | None:
        return f"{event.kind} {event.symbol.name} {event.id} {event.time_ns}"

    def heartbeat(self) -> Sequence[Message]:
        return ["beat"]

    def leave(self) -> Sequence[Message]:
        return ["leaving"]
