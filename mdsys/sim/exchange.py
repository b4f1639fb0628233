"""The server's side of the whole venue, as dialects see it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase

from mdsys.sim.dialect import Market
from mdsys.sim.faults import Fault


class SimExchange:
    """See mdsys.sim.dialect.Exchange. Holds the faults that are not one socket's."""

    def __init__(self, market: Market, secrets: Collection[str] | None) -> None:
        self.market = market
        self._secrets = secrets
        self._expired: set[str] = set()
        self._standing: list[Fault] = []

    def is_valid(self, secret: str) -> bool:
        """Whether a key or token is taken."""
        known = self._secrets is None or secret in self._secrets
        return bool(secret) and known and secret not in self._expired

    def refusal(self, symbol: str, channel: str = "") -> str | None:
        """Return the words with which a fault refuses a subscription."""
        for fault in self.standing("refuse"):
            if fnmatchcase(symbol, fault.option("symbol")) and fnmatchcase(
                channel, fault.option("channel")
            ):
                self.use_up(fault)
                return fault.option("words")
        return None

    def expire(self, secret: str) -> None:
        """Take a secret no more."""
        self._expired.add(secret)

    def stand(self, fault: Fault) -> None:
        """Let a fault last."""
        self._standing.append(fault)

    def standing(self, name: str) -> Sequence[Fault]:
        """Return the faults of that name that last."""
        return [fault for fault in self._standing if fault.name == name and not fault.lifted]

    def use_up(self, fault: Fault) -> None:
        """Count one strike of a fault that has a number of them."""
        if fault.count is not None:
            fault.count -= 1
            fault.lifted = fault.count == 0
