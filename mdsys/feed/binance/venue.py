"""What Binance spot and USD-M futures tell in their documents, as data.

Sources, read 2026-11: developers.binance.com, "WebSocket Streams" (spot) and "Websocket Market
Streams" (USD-M). Pace: the documents allow 5 (spot) and 10 (USD-M) messages a second on a socket,
PONGs included, and a breach closes the socket, repeated ones ban the address; a token bucket with
burst was seen to trip it, so we keep a steady distance well below. A socket carries 1024 streams.

USD-M routes by path since 2026 ("Important WebSocket Change Notice", the unrouted addresses retired
2026-04-23): /public has trade, bookTicker and depth; a stream asked for on the wrong path is
acknowledged and stays silent. depth@0ms, every change at once, is not in the documents, which name
100ms, 250ms and 500ms; captured streams show it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mdsys.errors import ProtocolError
from mdsys.feed.venue import Answer

SHUTDOWN = "serverShutdown"


@dataclass(frozen=True, slots=True)
class BinanceVenue:
    """One of Binance's markets; see mdsys.feed.venue.Venue."""

    name: str
    url: str
    decoder: str
    message_interval_s: float
    stream_suffixes: Mapping[str, str]
    """Channel -> what follows the symbol in a stream's name."""
    streams_per_connection_max: int = 1024
    streams_per_message_max: int = 200

    @property
    def channels(self) -> Sequence[str]:
        """The channels there are streams for."""
        return tuple(self.stream_suffixes)

    def spelled(self, symbol: str) -> str:
        """Return it in capitals and without blanks."""
        return "".join(symbol.split()).upper()

    def endpoint(self, base: str) -> str:
        """Return the address of raw frames, which are shorter than combined ones."""
        return f"{base.rstrip('/')}/ws"

    def streams(self, symbol: str, channels: Sequence[str]) -> list[str]:
        """Return ``btcusdt@trade`` and the like; stream names are lower case, symbols are not."""
        return [f"{symbol.lower()}@{self.stream_suffixes[channel]}" for channel in channels]

    def subscribe(self, streams: Sequence[str], request_id: int) -> str:
        """Return the SUBSCRIBE message."""
        return json.dumps({"method": "SUBSCRIBE", "params": list(streams), "id": request_id})

    def answer(self, frame: bytes) -> Answer:
        """Read ``{"result":null,"id":1}``, an error, or the announcement of a shutdown.

        Raises:
            ProtocolError: It is none of these.
        """
        try:
            fields: Any = json.loads(frame)
        except ValueError as error:
            raise ProtocolError(f"not an answer: {frame[:120]!r}: {error}") from error
        if isinstance(fields, dict) and isinstance(fields.get("data"), dict):
            fields = fields["data"]
        if not isinstance(fields, dict):
            raise ProtocolError(f"not an answer: {frame[:120]!r}")
        request_id = fields.get("id")
        if not isinstance(request_id, int) or isinstance(request_id, bool):
            request_id = None
        problem = fields.get("error", fields if "code" in fields else None)
        if problem is not None:
            return Answer(request_id, refusal=_words(problem))
        if fields.get("e") == SHUTDOWN:
            return Answer(None, notice="the server shuts down soon")
        if "result" in fields:
            return Answer(request_id)
        raise ProtocolError(f"not an answer: {frame[:120]!r}")


def _words(problem: Any) -> str:
    if isinstance(problem, dict):
        return f"{problem.get('msg', '')} (code {problem.get('code', '?')})"[:200]
    return str(problem)[:200]


BINANCE = BinanceVenue(
    name="binance",
    url="wss://stream.binance.com:9443",
    decoder="binance_spot",
    message_interval_s=0.3,
    stream_suffixes={"trade": "trade", "quote": "bookTicker", "book": "depth@100ms"},
)
BINANCE_USDM = BinanceVenue(
    name="binance_usdm",
    url="wss://fstream.binance.com/public",
    decoder="binance_usdm",
    message_interval_s=0.15,
    stream_suffixes={"trade": "trade", "quote": "bookTicker", "book": "depth@0ms"},
)
