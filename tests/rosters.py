"""A roster without feeds: a directory, venues without a network, and the orders that it gives."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mdsys.config import Config, VenueConfig
from mdsys.config_file import parse
from mdsys.daemon.rest import RestError
from mdsys.daemon.roster import Roster
from mdsys.errors import FeedError
from mdsys.feed.orders import Close, Connect, Order, Subscribe, Unsubscribe
from mdsys.feed.venue import Fetch, Resolution, Resolve, Secret, VenueDefaults
from mdsys.ring.segment import Instance


@dataclass(frozen=True, slots=True)
class PlainVenue(VenueDefaults):
    """Facts alone: nothing here dials."""

    name: str = "binance"
    url: str = "wss://plain.example/ws"
    channels: Collection[str] = ("trade", "quote", "book", "ticker")

    def spelled(self, symbol: str) -> str:
        """Return it in capitals."""
        return symbol.upper()

    def talk(self, secret: Secret) -> Any:
        """Never called."""
        raise NotImplementedError

    def python_decoder(self, symbols: object, channels: object) -> Any:
        """Never called."""
        raise NotImplementedError


class Instruments:
    """A venue's list of symbols, that may be out of reach."""

    def __init__(self, tokens: Mapping[str, int]) -> None:
        self.tokens = dict(tokens)
        self.reachable = True
        self.denies = False
        self.asked: list[list[str]] = []
        self.secrets: list[dict[str, str]] = []

    async def resolve(
        self, symbols: Collection[str], secret: Secret, fetch: Fetch
    ) -> Mapping[str, Resolution]:
        """Look symbols up."""
        self.asked.append(list(symbols))
        self.secrets.append(dict(secret))
        await fetch("/instruments")
        if not self.reachable:
            raise FeedError("kite: no answer")
        if self.denies:
            raise RestError("kite: HTTP 403: bad token", 403)
        return {
            symbol: Resolution(self.tokens[symbol].to_bytes(4, "big"), 2, 0)
            if symbol in self.tokens
            else Resolution(refusal="no such instrument")
            for symbol in symbols
        }


PLAIN = PlainVenue()


def with_list(resolve: Resolve, name: str = "kite") -> PlainVenue:
    """Return a venue that looks symbols up and answers no subscription."""
    return PlainVenue(name=name, resolve=resolve, acknowledges=False, credential_fields=("key",))


def config_of(*venues: dict[str, Any], facts: Mapping[str, Any], **keys: Any) -> Config:
    """Return a configuration of venues, each with its name and what differs."""
    tables = [{"channels": ["trade"], **venue} for venue in venues]
    return parse({"venue": tables, **keys}, venues=facts)


@dataclass
class Told:
    """What the feeds are told."""

    orders: list[tuple[int, Order]] = field(default_factory=list)

    def tell(self, feed: int, orders: Iterable[Order]) -> None:
        """Note orders to a feed."""
        self.orders += [(feed, order) for order in orders]

    def take(self) -> list[tuple[int, Order]]:
        """Return what has come since the last time."""
        orders, self.orders = self.orders, []
        return orders

    def summary(self) -> list[tuple[Any, ...]]:
        """Return the same in short: (word, connection, symbols)."""
        found: list[tuple[Any, ...]] = []
        for _, order in self.take():
            match order:
                case Connect():
                    found.append(("connect", order.plan.number, list(order.plan.symbols)))
                case Subscribe():
                    found.append(("add", order.connection, [name for name, _ in order.symbols]))
                case Unsubscribe():
                    found.append(("remove", order.connection, order.symbols))
                case Close():
                    found.append(("close", order.connection))
                case _:
                    found.append((type(order).__name__,))
        return found


async def _no_fetch(path: str, **_: Any) -> bytes:
    return path.encode()


def make_roster(
    instance: Instance,
    told: Told,
    configs: Sequence[VenueConfig],
    venues: Mapping[str, Any],
    secret: Mapping[str, str] | None = None,
) -> Roster:
    """Return a roster of two feeds, with what the configuration names placed."""
    roster = Roster(
        instance.name,
        instance.symbols,
        {0: [0], 1: [1]},
        told.tell,
        lambda _: secret or {},
        lambda _: _no_fetch,
        now_ns=lambda: 1_000,
    )
    roster.begin(configs, venues)
    return roster
