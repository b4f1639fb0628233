"""What Binance's three markets tell in their documents, as data: spot, USD-M and coin-M futures.

Sources, read 2026-11: developers.binance.com, "WebSocket Streams", "Order book", "Limits" (spot),
"Websocket Market Streams", "Connect" and "Order Book" (USD-M and coin-M).

Pace: 5 messages a second on a spot socket, 10 on one of futures, and PINGs, PONGs and JSON count
alike; who sends more is closed, who does so again is banned by address. 300 attempts to connect in
five minutes. A socket carries 1024 streams and lives 24 hours; spot says serverShutdown before the
end. Spot's server pings every 20 s. Futures' do every 3 minutes, too seldom to find a dead socket
by, so there we ping too.

USD-M routes by path since 2026 ("Important WebSocket Change Notice", the unrouted addresses retired
2026-04-23): /public has trade, bookTicker and depth; a stream asked for on the wrong path is
acknowledged and stays silent. depth@0ms, every change at once, is not in the documents, which name
100ms, 250ms and 500ms; captured streams of both futures markets show it. Coin-M counts sizes in
contracts, and its frames name the pair ("ps") beside the symbol.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mdsys.errors import ProtocolError
from mdsys.feed.frame import SymbolInfo
from mdsys.feed.venue import (
    BookSnapshots,
    Confirmed,
    Decoder,
    Dial,
    Event,
    Leaving,
    Limits,
    Message,
    Notice,
    Refused,
    Removed,
    Secret,
    Stream,
    VenueDefaults,
    Window,
)

SHUTDOWN = "serverShutdown"


class BinanceTalk:
    """One socket's requests and answers; see mdsys.feed.venue.Talk."""

    def __init__(self, stream_suffixes: Mapping[str, str]) -> None:
        self._suffixes = stream_suffixes
        self._removing: set[int] = set()

    def opening(self) -> Sequence[Message]:
        """Return nothing: the public streams know no login."""
        return ()

    def subscribe(self, streams: Sequence[Stream], request_id: int) -> Sequence[Message]:
        """Return the SUBSCRIBE message."""
        return [self._request("SUBSCRIBE", streams, request_id)]

    def unsubscribe(self, streams: Sequence[Stream], request_id: int) -> Sequence[Message]:
        """Return the UNSUBSCRIBE message."""
        self._removing.add(request_id)
        return [self._request("UNSUBSCRIBE", streams, request_id)]

    def hear(self, frame: bytes) -> Iterable[Event]:
        """Read ``{"result":null,"id":1}``, an error, or the announcement of a shutdown.

        Raises:
            ProtocolError: It is none of these.
        """
        try:
            fields: Any = json.loads(frame)
        except (ValueError, RecursionError) as error:
            raise ProtocolError(f"not an answer: {frame[:120]!r}: {error}") from error
        if isinstance(fields, dict) and isinstance(fields.get("data"), dict):
            fields = fields["data"]
        if not isinstance(fields, dict):
            raise ProtocolError(f"not an answer: {frame[:120]!r}")
        if fields.get("e") == SHUTDOWN:
            return [Leaving("the server shuts down soon (serverShutdown)")]
        problem = fields.get("error", fields if "code" in fields else None)
        if problem is None and "result" not in fields:
            raise ProtocolError(f"not an answer: {frame[:120]!r}")
        request_id = fields.get("id")
        if not isinstance(request_id, int) or isinstance(request_id, bool):
            return [] if problem is None else [Notice(_words(problem))]
        removing = request_id in self._removing
        self._removing.discard(request_id)
        if problem is not None:
            words = _words(problem)
            return [Notice(words) if removing else Refused(words, request_id=request_id)]
        return [Removed(request_id=request_id) if removing else Confirmed(request_id=request_id)]

    def keepalive(self) -> Message | None:
        """Return None: a WebSocket PING."""
        return None

    def _request(self, method: str, streams: Sequence[Stream], request_id: int) -> str:
        # Stream names are lower case, symbols are not.
        names = [f"{each.symbol.lower()}@{self._suffixes[each.channel]}" for each in streams]
        return json.dumps({"method": method, "params": names, "id": request_id})


def _words(problem: Any) -> str:
    if isinstance(problem, dict):
        return f"{problem.get('msg', '')} (code {problem.get('code', '?')})"[:200]
    return str(problem)[:200]


@dataclass(frozen=True, slots=True, kw_only=True)
class BinanceVenue(VenueDefaults):
    """One of Binance's markets; see mdsys.feed.venue.Venue."""

    name: str
    url: str
    futures: bool
    stream_suffixes: Mapping[str, str]
    """Channel -> what follows the symbol in a stream's name."""
    lifetime_s: float | None = 24 * 3600
    silence_s: float | None = 45  # two pings missed, ours or theirs

    @property
    def channels(self) -> Collection[str]:
        """The channels there are streams for."""
        return tuple(self.stream_suffixes)

    def spelled(self, symbol: str) -> str:
        """Return it in capitals and without blanks."""
        return "".join(symbol.split()).upper()

    def dial(self, base: str, secret: Secret) -> Dial:  # noqa: ARG002 - public streams
        """Return the address of raw frames, which are shorter than combined ones."""
        url = f"{base.rstrip('/')}/ws"
        return Dial(url, url)

    def talk(self, secret: Secret) -> BinanceTalk:  # noqa: ARG002 - public streams
        """Return the conversation of a fresh socket."""
        return BinanceTalk(self.stream_suffixes)

    def python_decoder(
        self,
        symbols: Mapping[str, SymbolInfo],
        channels: Collection[str],  # noqa: ARG002 - each has a stream of its own
    ) -> Decoder:
        """Return the C decoder's reference."""
        from mdsys.feed.binance.reference import ReferenceDecoder

        return ReferenceDecoder(symbols, futures=self.futures)


def _limits(messages: int, rest_weight: int) -> Limits:
    return Limits(
        streams_per_connection=1024,
        streams_per_message=200,
        messages=(Window(messages, 1),),
        control_frames_count=True,
        connects=(Window(300, 300),),
        rest_weight=(Window(rest_weight, 60),),
    )


def _futures_books(path: str) -> BookSnapshots:
    return BookSnapshots(path, depth_max=1000, weights={50: 2, 100: 5, 500: 10, 1000: 20})


BINANCE = BinanceVenue(
    name="binance",
    url="wss://stream.binance.com:9443",
    rest_url="https://api.binance.com",
    decoder="binance_spot",
    futures=False,
    stream_suffixes={"trade": "trade", "quote": "bookTicker", "book": "depth@100ms"},
    limits=_limits(messages=5, rest_weight=6000),
    book_snapshots=BookSnapshots(
        "/api/v3/depth", depth_max=5000, weights={100: 5, 500: 25, 1000: 50, 5000: 250}
    ),
)
BINANCE_USDM = BinanceVenue(
    name="binance_usdm",
    url="wss://fstream.binance.com/public",
    rest_url="https://fapi.binance.com",
    decoder="binance_usdm",
    futures=True,
    stream_suffixes={"trade": "trade", "quote": "bookTicker", "book": "depth@0ms"},
    limits=_limits(messages=10, rest_weight=2400),
    keepalive_s=20,
    book_snapshots=_futures_books("/fapi/v1/depth"),
)
BINANCE_COINM = BinanceVenue(
    name="binance_coinm",
    url="wss://dstream.binance.com",
    rest_url="https://dapi.binance.com",
    decoder="binance_coinm",
    futures=True,
    stream_suffixes={"trade": "trade", "quote": "bookTicker", "book": "depth@0ms"},
    limits=_limits(messages=10, rest_weight=2400),
    keepalive_s=20,
    book_snapshots=_futures_books("/dapi/v1/depth"),
)
