"""What Coinbase's two feeds have in common: public channels, an answer that lists what is had."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mdsys.errors import ProtocolError
from mdsys.feed.coinbase.ledger import Ledger, Pair
from mdsys.feed.venue import Event, Message, VenueDefaults


class CoinbaseTalk(ABC):
    """The conversation on one socket, what is heard of it; see mdsys.feed.venue.Talk.

    Args:
        channel_names: Channel -> the venue's.
    """

    def __init__(self, channel_names: Mapping[str, str]) -> None:
        self._ledger = Ledger(channel_names)

    @abstractmethod
    def _listed(self, fields: Any) -> set[Pair] | None:
        """Return what is subscribed now, if this says it."""

    def hear(self, frame: bytes) -> Iterable[Event]:
        """Read a list of subscriptions, or an error.

        Raises:
            ProtocolError: It is neither.
        """
        try:
            fields: Any = json.loads(frame)
            pairs = self._listed(fields)
            if pairs is not None:
                return self._ledger.listed(pairs)
            if fields["type"] == "error":
                words = [str(fields[key]) for key in ("message", "reason") if fields.get(key)]
                return self._ledger.failed(": ".join(words) or "error")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ProtocolError(f"not an answer: {frame[:120]!r}") from error
        raise ProtocolError(f"not an answer: {frame[:120]!r}")

    def keepalive(self) -> Message | None:
        """Return None: a PING will do."""
        return None


@dataclass(frozen=True, slots=True)
class CoinbaseVenue(VenueDefaults):
    """A venue that needs no key; see mdsys.feed.venue.Venue."""

    silence_s: float | None = 10.0
    """Heartbeats come each second."""

    def spelled(self, symbol: str) -> str:
        """Return it in capitals and without blanks."""
        return "".join(symbol.split()).upper()


def compact(fields: Mapping[str, Any]) -> str:
    """Return JSON without blanks."""
    return json.dumps(fields, separators=(",", ":"))
