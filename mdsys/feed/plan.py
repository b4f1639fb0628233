"""What the supervisor tells a feed to do: one JSON line, the only thing a feed is configured by."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

PLAN_SIZE_MAX = 64 << 20
"""Bytes of the line; 50,000 symbols are about 1 MB."""


@dataclass(frozen=True, slots=True)
class ConnectionPlan:
    """One socket and what it carries."""

    number: int
    """From 1, one number a connection over the whole instance; status records bear it."""
    venue: str
    url: str | None
    """Replaces the venue's public address."""
    symbols: tuple[str, ...]
    """The venue's own names; the symbol directory knows them as VENUE:NAME."""
    channels: tuple[str, ...]
    batch_size: int
    """Most symbols in one subscribe message, in [1, 2^31)."""


@dataclass(frozen=True, slots=True)
class FeedPlan:
    """One feed process."""

    instance: str
    feed: int
    """Index, from 0."""
    rings: tuple[int, ...]
    """The rings it alone writes."""
    core: int | None
    """Pin to this core, and spin there; None: neither."""
    spin: bool
    lossless_wait_us: int
    """Most that a lossless reader is waited for between two flushes."""
    supervisor_pid: int
    connections: tuple[ConnectionPlan, ...]

    def to_line(self) -> bytes:
        """Return the plan as one line of JSON."""
        return json.dumps(asdict(self), separators=(",", ":")).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> FeedPlan:
        """Read what ``to_line`` wrote.

        Raises:
            ValueError: The line is not a plan.
        """
        try:
            fields = json.loads(line)
            connections = tuple(
                ConnectionPlan(
                    **{
                        **connection,
                        "symbols": tuple(connection["symbols"]),
                        "channels": tuple(connection["channels"]),
                    }
                )
                for connection in fields.pop("connections")
            )
            rings = tuple(fields.pop("rings"))
            return cls(rings=rings, connections=connections, **fields)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"not a feed's plan: {error}") from error
