"""What a simulator has sent."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Stats:
    """What was sent to all clients together, those that left included."""

    clients: int = 0
    """Connected now."""
    clients_total: int = 0
    attempts: int = 0
    """Requests to upgrade, refused ones too."""
    streams: int = 0
    """Subscribed now."""
    size: int = 0
    """Bytes of frames."""
    frames: Counter[str] = field(default_factory=Counter)
    """By kind: trade, quote, depth, other."""
    records: Counter[str] = field(default_factory=Counter)
    """Records in those frames, by kind: a depth frame holds one per level."""
