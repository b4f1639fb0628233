"""What the supervisor tells a feed to do: one JSON line, what a feed starts from.

What changes later comes as orders (mdsys.feed.report).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from mdsys.feed.venue import Limits

PLAN_SIZE_MAX = 64 << 20
"""Bytes of the line; 50,000 symbols are about 1 MB."""


@dataclass(frozen=True, slots=True)
class ConnectionPlan:
    """One connection and what it carries. No secrets: they come with the leave to connect."""

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
    wires: Mapping[str, bytes] = field(default_factory=dict)
    """Symbol -> what names it in the venue's frames, where that is not the name itself."""
    credential: str | None = None
    """The name of its secret, for people to read; the supervisor knows where it is."""
    limits: Limits = field(default_factory=Limits)
    """The venue's, with the configuration's put in."""
    first: bool = True
    """Whether nothing has been connected under this number before."""


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
        return msgspec.json.encode(self) + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> FeedPlan:
        """Read what ``to_line`` wrote.

        Raises:
            ValueError: The line is not a plan.
        """
        try:
            return msgspec.json.decode(line, type=cls)
        except msgspec.MsgspecError as error:
            raise ValueError(f"not a feed's plan: {error}") from error
