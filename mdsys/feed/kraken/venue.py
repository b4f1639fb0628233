"""What Kraken tells in its documents, as data: spot, WebSocket v2.

Sources, read 2026-11: docs.kraken.com, "Spot WebSocket Introduction" and "Spot WebSocket v2"
(trade, ticker, book, ohlc, status, heartbeat, ping), and answers of the live server as others have
recorded them: a refusal names the symbol and not the channel, ``{"error":"Currency pair not
supported XBT/USD","method":"subscribe","success":false,"symbol":"XBT/USD",..}``.

Pace: no number is published, "Exceeded msg rate" is the answer to more than the server will bear
just then; so few messages of many symbols. Cloudflare in front allows some 150 attempts to connect
in ten minutes, and bans an address for ten more. The server says a heartbeat each second when it
has nothing else to say to a subscriber, and closes a socket that is idle for a minute; so we ping.

The ticker channel is asked for once for both quotes and tickers, on changes of the best bid and
offer. Books are of ten levels, what readers see of a book. Symbols are spelled as the instrument
list has them, small letters too: BTC/USD, not XBT/USD; TSLAx/USD.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mdsys.errors import ProtocolError
from mdsys.feed.frame import SymbolInfo
from mdsys.feed.venue import (
    CHANNELS,
    Confirmed,
    Decoder,
    Dial,
    Event,
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

WIRE_CHANNELS: Final[Mapping[str, Mapping[str, Any]]] = {
    "trade": {"channel": "trade"},
    "quote": {"channel": "ticker", "event_trigger": "bbo"},
    "book": {"channel": "book", "depth": 10},
    "ticker": {"channel": "ticker", "event_trigger": "bbo"},
    "bar": {"channel": "ohlc", "interval": 1},
}
"""Our channel -> what a request for it says."""

_SHARED: Final = ("quote", "ticker")
"""Our channels that one subscription of Kraken's brings."""


@dataclass(slots=True)
class _Shared:
    """What has become of one symbol's ticker subscription."""

    channels: set[str] = field(default_factory=set)
    """Those of _SHARED that want it."""
    words: str | None = None
    """The venue's, when it has refused."""


class KrakenTalk:
    """One socket's requests and answers; see mdsys.feed.venue.Talk.

    Each symbol is answered by itself. A stream that a subscription of the same symbol brings along
    has no request of its own: a ping is sent instead, whose answer comes after that subscription's.
    """

    def __init__(self) -> None:
        self._channels: dict[int, str] = {}
        """Request -> its channel: refusals do not name it."""
        self._along: dict[int, tuple[Sequence[Stream], bool]] = {}
        """Ping -> streams that are asked for or ended without a request, and which of the two."""
        self._tickers: dict[str, _Shared] = {}
        self._warnings: set[str] = set()

    def opening(self) -> Sequence[Message]:
        """Return nothing: public channels know no login."""
        return ()

    def subscribe(self, streams: Sequence[Stream], request_id: int) -> Sequence[Message]:
        """Return a request for all streams that need one, a ping for the rest."""
        own: list[Stream] = []
        along: list[Stream] = []
        for stream in streams:
            (own if self._needs_request(stream) else along).append(stream)
        return self._messages("subscribe", own, along, request_id)

    def unsubscribe(self, streams: Sequence[Stream], request_id: int) -> Sequence[Message]:
        """Return a request to end all streams that nobody else needs, a ping for the rest."""
        own: list[Stream] = []
        along: list[Stream] = []
        for stream in streams:
            (own if self._is_last(stream) else along).append(stream)
        return self._messages("unsubscribe", own, along, request_id)

    def _needs_request(self, stream: Stream) -> bool:
        if stream.channel not in _SHARED:
            return True
        shared = self._tickers.setdefault(stream.symbol, _Shared())
        needs = not shared.channels or shared.words is not None
        shared.channels.add(stream.channel)
        shared.words = None
        return needs

    def _is_last(self, stream: Stream) -> bool:
        if stream.channel not in _SHARED:
            return True
        shared = self._tickers.get(stream.symbol, _Shared())
        shared.channels.discard(stream.channel)
        return not shared.channels

    def _messages(
        self, method: str, own: Sequence[Stream], along: Sequence[Stream], request_id: int
    ) -> Sequence[Message]:
        messages = []
        if own:
            channel = own[0].channel
            self._channels[request_id] = channel
            params: dict[str, Any] = dict(WIRE_CHANNELS[channel])
            params["symbol"] = [stream.symbol for stream in own]
            if method == "subscribe":
                params["snapshot"] = True
            messages.append(_dump({"method": method, "params": params, "req_id": request_id}))
        if along:
            self._along[request_id] = (along, method == "subscribe")
            messages.append(_dump({"method": "ping", "req_id": request_id}))
        return messages

    def hear(self, frame: bytes) -> Iterable[Event]:
        """Read an acknowledgement, a refusal, a pong, or the exchange's status.

        Raises:
            ProtocolError: It is none of these.
        """
        try:
            fields: Any = json.loads(frame)
        except (ValueError, RecursionError) as error:
            raise ProtocolError(f"not an answer: {frame[:120]!r}: {error}") from error
        if isinstance(fields, dict):
            method = fields.get("method")
            if method in ("subscribe", "unsubscribe") and isinstance(fields.get("success"), bool):
                return self._answer(fields, subscribes=method == "subscribe")
            if method == "pong":
                return self._pong(_request_id(fields))
            if fields.get("channel") == "status" and isinstance(fields.get("data"), list):
                return _status(fields["data"])
            if "error" in fields:
                return [Notice(_words(fields))]
        raise ProtocolError(f"not an answer: {frame[:120]!r}")

    def _answer(self, fields: Mapping[str, Any], *, subscribes: bool) -> Iterable[Event]:
        result = fields.get("result")
        result = result if isinstance(result, dict) else {}
        request_id = _request_id(fields)
        symbol = fields.get("symbol", result.get("symbol"))
        channel = self._channels.get(request_id or 0) or _channel_of(result)
        streams = [Stream(symbol, channel)] if isinstance(symbol, str) and channel else []
        if not fields["success"]:
            words = _words(fields)
            if not subscribes:  # there is nothing to end
                return [Removed(streams), Notice(words)] if streams else [Notice(words)]
            if "msg rate" in words.lower():
                return [Notice(words)]
            return self._refuse(streams, request_id, words)
        events: list[Event] = []
        if streams:
            events.append(Confirmed(streams) if subscribes else Removed(streams))
        warnings = result.get("warnings")
        for warning in warnings if isinstance(warnings, list) else ():
            if str(warning) not in self._warnings:
                self._warnings.add(str(warning))
                events.append(Notice(str(warning)[:200]))
        return events

    def _refuse(
        self, streams: Sequence[Stream], request_id: int | None, words: str
    ) -> Iterable[Event]:
        if not streams:
            known = request_id in self._channels
            return [Refused(words, request_id=request_id) if known else Notice(words)]
        for stream in streams:
            if stream.channel in _SHARED and stream.symbol in self._tickers:
                self._tickers[stream.symbol].words = words
        return [Refused(words, streams)]

    def _pong(self, request_id: int | None) -> Iterable[Event]:
        streams, subscribes = self._along.pop(request_id or 0, ((), False))
        if streams and not subscribes:
            return [Removed(streams)]
        events: list[Event] = []
        for stream in streams:
            words = self._tickers[stream.symbol].words
            events.append(Confirmed([stream]) if words is None else Refused(words, [stream]))
        return events

    def keepalive(self) -> Message | None:
        """Return the application's ping: a pong is a frame, and so a sign of life."""
        return '{"method":"ping"}'


def _status(data: Sequence[Any]) -> Iterable[Event]:
    """Tell of anything but markets that are online with nothing ahead."""
    for each in data:
        if not isinstance(each, dict):
            continue
        system = each.get("system", "online")
        if system != "online":
            yield Notice(f"the exchange is in {system}"[:200])
        for key in ("upcoming_maintenance", "emergency"):
            if each.get(key):
                yield Notice(f"{key}: {_dump(each[key])}"[:200])


def _channel_of(result: Mapping[str, Any]) -> str | None:
    """Return our channel of an answer that names no request of ours; a ticker brings quotes."""
    wire = result.get("channel")
    return next((own for own in CHANNELS if WIRE_CHANNELS[own]["channel"] == wire), None)


def _request_id(fields: Mapping[str, Any]) -> int | None:
    value = fields.get("req_id")
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _words(fields: Mapping[str, Any]) -> str:
    return str(fields.get("error", "no reason given"))[:200]


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class KrakenVenue(VenueDefaults):
    """Kraken; see mdsys.feed.venue.Venue."""

    name: str = "kraken"
    url: str = "wss://ws.kraken.com/v2"
    decoder: str | None = "kraken"
    channels: Collection[str] = tuple(WIRE_CHANNELS)
    limits: Limits = Limits(  # noqa: RUF009 - immutable
        streams_per_message=100,
        messages=(Window(5, 1),),
        connects=(Window(150, 600),),
    )
    groups_by_channel: bool = True
    keepalive_s: float | None = 6
    silence_s: float | None = 15

    def dial(self, base: str, secret: Secret) -> Dial:  # noqa: ARG002 - public channels
        """Return ``base``, with v2's path where it has none."""
        url = base.rstrip("/")
        if url.count("/") == 2:
            url += "/v2"
        return Dial(url, url)

    def talk(self, secret: Secret) -> KrakenTalk:  # noqa: ARG002 - public channels
        """Return the conversation of a fresh socket."""
        return KrakenTalk()

    def python_decoder(
        self, symbols: Mapping[str, SymbolInfo], channels: Collection[str]
    ) -> Decoder:
        """Return the C decoder's reference."""
        from mdsys.feed.kraken.reference import KrakenDecoder

        return KrakenDecoder(symbols, channels)


KRAKEN = KrakenVenue()
