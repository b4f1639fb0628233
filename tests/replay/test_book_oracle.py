"""The feed's book against the venue's own best bid and ask, on every captured depth frame.

A bookTicker with the update id of a depth frame tells what the top of the book was then. The feed's
book is made of the captured REST snapshot and the depth frames alone.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import msgspec
import pytest

from mdsys import Kind
from mdsys._decode import Decoder
from mdsys.feed.frame import FrameResult, SymbolInfo

Top = tuple[tuple[int, int], tuple[int, int]]


class _Depth(msgspec.Struct):
    u: int


class _Combined(msgspec.Struct):
    stream: str
    data: _Depth | None = None


@pytest.mark.parametrize(
    ("name", "decoder", "symbol", "matches"),
    [
        ("spot__btcusdt_20240808", "binance_spot", "BTCUSDT", 564),
        ("spot__ethusdt_20240808", "binance_spot", "ETHUSDT", 577),
        ("usdm__btcusdt_20240808", "binance_usdm", "BTCUSDT", 629),
        ("cm__btcusd_perp_20240808", "binance_coinm", "BTCUSD_PERP", 1124),
    ],
)
def test_the_top_of_the_book_is_the_venues_wherever_it_tells(
    data_dir: Path, name: str, decoder: str, symbol: str, matches: int
) -> None:
    path = data_dir / "hftbacktest" / f"{name}.gz"
    if not path.exists():
        pytest.skip(f"no captured data: {path} does not exist (set MDSYS_DATA)")
    c = Decoder(decoder, {symbol: SymbolInfo(1)}, books_by_rest=True)
    c.expect_book(symbol)
    ours: dict[int, Top] = {}
    theirs: dict[int, Top] = {}
    depth_id = msgspec.json.Decoder(_Combined).decode
    with gzip.open(path) as file:
        for line in file:
            ts_recv, _, frame = line.rstrip().partition(b" ")
            if frame.startswith(b'{"lastUpdateId"'):
                assert c.snapshot(symbol, frame, 1000, int(ts_recv))[0] is FrameResult.OK
                continue
            _, ticks = c.decode(frame, int(ts_recv))
            if b"@depth" in frame[:60]:
                usable, bids, asks = c.book(symbol)
                data = depth_id(frame).data
                assert data is not None
                if usable:
                    ours[data.u] = bids[0], asks[0]
            elif len(ticks) and ticks[0]["kind"] == Kind.QUOTE:
                quote = ticks[0]
                theirs[_quote_id(frame)] = (
                    (int(quote["bid_price"]), int(quote["bid_size"])),
                    (int(quote["ask_price"]), int(quote["ask_size"])),
                )
    both = ours.keys() & theirs.keys()
    assert [u for u in both if ours[u] != theirs[u]] == []
    assert len(both) == matches
    assert c.counts["book_resyncs"] == 0
    assert c.counts["gaps"] == 0


def _quote_id(frame: bytes) -> int:
    return int(frame.partition(b'"u":')[2].partition(b",")[0])
