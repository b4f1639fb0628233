"""What the feed measures the way from the venue by: no snapshot's time, whichever decoder made it.

A snapshot tells of before; counted, each subscription would seem a delay of minutes.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from mdsys._listener import FrameListener, VenueFeed
from mdsys.counters.counters import Histogram
from mdsys.feed.frame import FrameResult, Record
from mdsys.feed.transport import open_socket
from mdsys.feed.venue import CHANNELS
from mdsys.record.record import ABSENT, Flag, Kind
from tests import coinbase_frames, feeds, kite_frames, kraken_frames, openalgo_frames
from tests.event_frames import frame as events

TLS = ssl.create_default_context()
NAME = "BTCUSDT"
KRAKEN_TRADES = kraken_frames.TRADE.replace(b"BTC/USD", b"BTCUSDT")
ALPACA_BOOK = {
    "T": "o", "S": NAME, "t": "2024-03-12T10:38:50.796Z", "b": [{"p": 71859.53, "s": 0.27994}],
    "a": [{"p": 71939.7, "s": 0.83953}],
}  # fmt: skip
KITE = kite_frames.packet(
    "full", kite_frames.INFY, [(5, 100, 1)] * 10, last_price=100, exchange_timestamp=1_700_000_000
)
DIFF = (
    b'{"e":"depthUpdate","E":1700000000346,"T":1700000000345,"s":"BTCUSDT","U":3,"u":5,"pu":2,'
    b'"b":[["1.00","1.000"]],"a":[]}'
)
OPENALGO = openalgo_frames.DEPTH.replace(b"SBIN", NAME.encode())


def renamed(frame: bytes) -> bytes:
    """Return a frame of Coinbase as one of the symbol that is known here."""
    return frame.replace(b"BTC-USD", NAME.encode())


class Python:
    """A decoder of a user's own, whose frames are the flags of a trade."""

    def decode(
        self, frame: bytes, ts_recv: int, connection: int
    ) -> tuple[FrameResult, list[Record]]:
        """See mdsys.feed.venue.Decoder."""
        body = (1, 2, ABSENT, ABSENT)
        return FrameResult.OK, [Record(5, ts_recv, 1, Kind.TRADE, int(frame), 8, 8, body)]


@dataclass(frozen=True, slots=True)
class Family:
    """Frames of one decoder: a snapshot alone, and what brings a live record."""

    decoder: Any
    snapshot: bytes
    live: bytes
    channels: Sequence[str] = CHANNELS
    """Of ``snapshot``, where others make something live of the same frame."""
    name: str = NAME
    wire: bytes | None = None


FAMILIES = {
    "kraken trades": Family(
        "kraken",
        KRAKEN_TRADES.replace(b'"update"', b'"snapshot"'),
        KRAKEN_TRADES.replace(b"88217346", b"88217347"),
    ),
    "kraken v1 book": Family(
        "kraken_v1",
        kraken_frames.BOOK_V1,
        kraken_frames.TRADE_V1,
        name="XBT/USD",
    ),
    "exchange trade": Family(
        "coinbase_exchange",
        renamed(coinbase_frames.MATCH.replace(b'"match"', b'"last_match"')),
        renamed(coinbase_frames.MATCH.replace(b"280232", b"280233")),
    ),
    "exchange book": Family(
        "coinbase_exchange",
        renamed(coinbase_frames.SNAPSHOT),
        renamed(coinbase_frames.L2UPDATE),
    ),
    "advanced trades": Family(
        "coinbase_advanced",
        coinbase_frames.market_trades(0, [1], "snapshot", NAME),
        coinbase_frames.market_trades(1, [2], "update", NAME),
    ),
    "advanced book": Family(
        "coinbase_advanced",
        coinbase_frames.l2_data(0, "snapshot", NAME),
        coinbase_frames.l2_data(1, "update", NAME),
    ),
    "alpaca book": Family(
        "alpaca", events({**ALPACA_BOOK, "r": True}), events({**ALPACA_BOOK, "b": []})
    ),
    "kite book": Family(
        "kite",
        kite_frames.frame(KITE),
        kite_frames.frame(KITE),
        ["book"],
        wire=kite_frames.wire(kite_frames.INFY),
    ),
    "openalgo book": Family("openalgo", OPENALGO, OPENALGO, ["book"], name=f"NSE:{NAME}"),
    "python": Family(
        Python(), b"%d" % (Flag.SNAPSHOT | Flag.BUY | Flag.LAST), b"%d" % (Flag.BUY | Flag.LAST)
    ),
}


class Stage:
    """A feed whose one socket reads what it is given.

    Args:
        family: What it speaks.
        channels: What is wanted.
        by_rest: Whether books come by REST.
    """

    def __init__(
        self, family: Family, channels: Sequence[str] = CHANNELS, *, by_rest: bool = False
    ) -> None:
        self.memory = feeds.FeedMemory([family.name])
        self.memory.venue = VenueFeed(
            self.memory.feed,
            family.decoder,
            "BINANCE",
            [family.name],
            self.memory.symbols,
            self.memory.cache,
            wires=None if family.wire is None else {family.name: family.wire},
            channels=[CHANNELS.index(channel) for channel in channels],
            binary=family.wire is not None,
            books_by_rest=by_rest,
        )
        self.listener = FrameListener(self.memory.venue, 7, lambda _: None)
        self.memory.feed.connection_state(7, 3)
        self._opcode = feeds.TEXT if family.wire is None else feeds.BINARY

    def read(self, *reads: Sequence[bytes] | Callable[[], None]) -> None:
        """Have frames come, a socket read for each sequence of them; call what is between."""

        async def script(peer: feeds.Peer) -> None:
            await peer.reader.read()

        async def main() -> None:
            async with feeds.serving(script) as address:
                transport = await open_socket(f"ws://{address}", self.listener, tls=TLS)
                protocol: Any = transport.underlying_transport.get_protocol()
                for frames in reads:
                    if callable(frames):
                        frames()
                        continue
                    data = b"".join(feeds.frame(each, self._opcode) for each in frames)
                    protocol.get_buffer(-1)[: len(data)] = data
                    protocol.buffer_updated(len(data))
                transport.disconnect(False)
                await transport.wait_disconnected()

        feeds.run(main())

    @property
    def way(self) -> Histogram:
        """What was measured."""
        return self.memory.histogram("event_to_recv")

    def live_offset_ns(self) -> int:
        """Return the last live record's event time less its read."""
        records = self.memory.records()
        live = records[(records["kind"] != Kind.STATUS) & (records["flags"] & Flag.SNAPSHOT == 0)]
        return int(live["ts_event"][-1] - live["ts_recv"][-1])

    @property
    def offset_ns(self) -> int:
        """The connection's."""
        (connection,) = self.memory.counter_segment.connections(0)
        return int(connection["offset_ns"])


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


def test_snapshot_is_no_measure_of_the_way_nor_of_the_venues_clock(family: Family) -> None:
    stage = Stage(family, family.channels)
    stage.read([family.snapshot])
    records = stage.memory.records()
    told = records[records["kind"] != Kind.STATUS]
    assert (told["flags"] & Flag.SNAPSHOT).all()
    assert (told["ts_event"] != ABSENT).all()
    assert len(told)
    assert stage.memory.histogram("recv_to_ring").count == len(told)
    assert stage.way.count == 0
    assert stage.offset_ns == ABSENT


def test_live_record_behind_a_snapshot_is_measured(family: Family) -> None:
    stage = Stage(family)
    stage.read([family.snapshot, family.live])
    assert stage.way.count == 1
    assert stage.offset_ns == stage.live_offset_ns()


def test_snapshot_behind_a_live_record_of_its_read_leaves_that_one_to_be_measured() -> None:
    stage = Stage(FAMILIES["alpaca book"])
    live = events({**ALPACA_BOOK, "b": [], "t": "2024-03-12T10:38:50.9Z"})
    stage.read([live, FAMILIES["alpaca book"].snapshot])
    assert stage.way.count == 1
    assert stage.offset_ns == stage.live_offset_ns()


def test_book_of_rest_between_two_reads_is_not_measured_with_the_second() -> None:
    stage = Stage(Family("binance_usdm", b"", b""), by_rest=True)
    body = b'{"lastUpdateId":5,"E":1,"T":1,"bids":[["1","1"]],"asks":[["2","1"]]}'
    found: list[tuple[int, int]] = []

    def answer() -> None:
        found.append((stage.way.count, stage.offset_ns))
        assert stage.memory.venue.snapshot(NAME, body)
        assert stage.memory.counter("book_snapshots") == 1

    stage.read([DIFF], answer, [b"{"])  # of which nothing but a status comes
    assert stage.memory.counter("frames_malformed") == 1
    assert found == [(1, stage.offset_ns)]
    assert stage.way.count == 1
