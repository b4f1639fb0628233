"""What tests of a dialect share: a market that stands still, and a client that is only noted."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mdsys.sim.dialect import Book, Level, Symbol

SYMBOLS = [Symbol(i, f"SYM00000{i}", 2, 3) for i in range(3)]


class FakeExchange:
    """A market whose book is set by the test, and a venue that refuses what it is told to."""

    def __init__(self, time_ns: int) -> None:
        self.market = self
        self.symbols = SYMBOLS
        self.time_ns = time_ns
        self.refused: dict[str, str] = {}
        self.bids: Sequence[Level] = (Level(9999, 10), Level(9998, 20))
        self.asks: Sequence[Level] = (Level(10001, 30),)

    def find(self, name: str) -> Symbol | None:
        return next((symbol for symbol in SYMBOLS if symbol.name == name.upper()), None)

    def book(self, symbol: Symbol) -> Book:
        return Book(symbol, self.time_ns, 5, tuple(self.bids), tuple(self.asks))

    def is_valid(self, secret: str) -> bool:
        return bool(secret)

    def refusal(self, symbol: str, channel: str = "") -> str | None:
        return self.refused.get(f"{symbol} {channel}")


class FakeClient:
    """What a session has asked of its server."""

    address = "127.0.0.1"

    def __init__(self) -> None:
        self.shown: set[tuple[str, str]] = set()

    def show(self, symbol: Symbol, *kinds: str) -> None:
        self.shown |= {(symbol.name, kind) for kind in kinds}

    def hide(self, symbol: Symbol, *kinds: str) -> None:
        self.shown -= {(symbol.name, kind) for kind in kinds}

    def show_streams(self, names: Collection[str]) -> None:
        raise AssertionError(names)

    def breach(self, what: str, words: str = "") -> None:
        raise AssertionError(what, words)
