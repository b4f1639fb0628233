"""Frames of Alpaca and Massive for tests, and a venue's two decoders as one."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mdsys._decode import Decoder
from mdsys.feed.frame import FrameResult, Record, SymbolInfo, to_ticks
from mdsys.feed.venue import CHANNELS, Venue
from mdsys.record.record import RECORD_SIZE

Event = dict[str, Any]


def frame(*events: Event) -> bytes:
    """Return events as one frame, as a venue writes it."""
    return json.dumps(events, separators=(",", ":"), ensure_ascii=False).encode()


def edited(event: Event, **changes: Any) -> Event:
    """Return an event with values changed, or left out where the change is ``...``."""
    return {key: value for key, value in {**event, **changes}.items() if value is not ...}


class BothDecoders:
    """The C decoder and the reference, fed alike and held to the same answer."""

    def __init__(
        self,
        venue: Venue,
        symbols: Mapping[str, SymbolInfo],
        *,
        channels: Collection[str] = CHANNELS,
        depth: int = 1024,
    ) -> None:
        assert venue.decoder is not None
        self.c = Decoder(venue.decoder, symbols, depth, channels=channels)
        self.python = venue.python_decoder(symbols, channels)
        self._next = 1

    def decode(
        self, raw: bytes, ts_recv: int = 7, connection: int = 3
    ) -> tuple[FrameResult, list[Record]]:
        """Decode a frame with both; fail where they differ in result or in any byte."""
        expected, records = self.python.decode(raw, ts_recv, connection)
        result, ticks = self.c.decode(raw, ts_recv, connection)
        assert result == expected, raw
        wanted = to_ticks(records, self._next).tobytes()
        assert ticks.tobytes() == wanted, f"{raw!r}\n{ticks}\n{records}"
        assert len(wanted) == RECORD_SIZE * len(records)
        self._next += len(records)
        return result, records

    def decode_all(self, events: Sequence[Event]) -> None:
        """Decode events together, and one by one, since a malformed one hides the others."""
        self.decode(frame(*events))
        for event in events:
            self.decode(frame(event))
            self.decode(frame(dict(reversed(event.items()))))
