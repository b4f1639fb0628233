"""What a dialect stands on in tests: a market of two symbols, a client that notes, an exchange."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from mdsys.sim.dialect import Book, Depth, Kind, Level, Quote, Symbol, Trade

SYMBOLS = (Symbol(0, "SYM000000", 2, 0), Symbol(1, "SYM000001", 4, 3))
TIME_NS = 1_700_000_000_123_456_789
TRADE = Trade("trade", SYMBOLS[0], TIME_NS, 100_000_001, 12_340, 7, "sell")
QUOTE = Quote("quote", SYMBOLS[1], TIME_NS, 555, Level(1_000_100, 1_500), Level(1_000_200, 20))
DEPTH = Depth(
    "depth", SYMBOLS[1], TIME_NS, 12, 11, 10, (Level(1_000_100, 0), Level(1_000_000, 5)), ()
)
BOOK = Book(
    SYMBOLS[1], TIME_NS, 9, (Level(1_000_100, 1_500),), (Level(1_000_200, 20), Level(1_000_300, 1))
)


class FakeMarket:
    """Two symbols."""

    symbols: Sequence[Symbol] = SYMBOLS
    time_ns = TIME_NS

    def find(self, name: str) -> Symbol | None:
        return next((each for each in self.symbols if each.name == name.upper()), None)

    def book(self, symbol: Symbol) -> Book:
        return BOOK._replace(symbol=symbol)


class FakeExchange:
    """Takes the keys it is given, and refuses the symbols it is told to."""

    def __init__(
        self, keys: Collection[str] = ("good",), refused: Mapping[str, str] | None = None
    ) -> None:
        self.market = FakeMarket()
        self._keys = keys
        self._refused = refused or {}

    def is_valid(self, secret: str) -> bool:
        return secret in self._keys

    def refusal(self, symbol: str, channel: str = "") -> str | None:
        return self._refused.get(symbol)


class FakeClient:
    """Notes what it is shown."""

    address = "127.0.0.1"

    def __init__(self) -> None:
        self.shown: set[tuple[str, Kind]] = set()
        self.breaches: list[str] = []

    def show(self, symbol: Symbol, *kinds: Kind) -> None:
        self.shown |= {(symbol.name, kind) for kind in kinds}

    def hide(self, symbol: Symbol, *kinds: Kind) -> None:
        self.shown -= {(symbol.name, kind) for kind in kinds}

    def show_streams(self, names: Collection[str]) -> None:
        raise NotImplementedError

    def breach(self, what: str, words: str = "") -> None:
        self.breaches.append(what)
