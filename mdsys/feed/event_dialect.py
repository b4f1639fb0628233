"""What the dialects of Alpaca and Massive share: frames that are arrays of events."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mdsys.feed.venue import Message
from mdsys.sim.dialect import Client, Dialect, Session

EVENTS_MAX: Final = 1_000
"""Of one frame."""


def frame(*events: Mapping[str, Any]) -> str:
    """Return events as one frame."""
    return json.dumps(events, separators=(",", ":"))


def frames(events: Sequence[str]) -> list[Message]:
    """Return events that are written already as few frames."""
    return [f"[{','.join(events[i : i + EVENTS_MAX])}]" for i in range(0, len(events), EVENTS_MAX)]


class EventSession(Session):
    """One client's socket, with the key it has shown and the events that wait to be sent."""

    def __init__(self, dialect: Dialect, client: Client) -> None:
        super().__init__(dialect, client)
        self._key = ""
        self._pending: list[str] = []

    @property
    def key(self) -> str:
        """What its connections are counted by, once it has authenticated."""
        return self._key

    @property
    def secret(self) -> str:
        """What a fault may expire."""
        return self._key

    def flush(self) -> Sequence[Message]:
        """Return what has come since, in as few frames as may be."""
        pending, self._pending = self._pending, []
        return frames(pending)
