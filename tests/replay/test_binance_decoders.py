"""Every captured Binance frame through both decoders: the same records, and no refusal."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from mdsys._decode import Decoder
from mdsys.feed.binance.venue import BINANCE, BINANCE_COINM, BINANCE_USDM, BinanceVenue
from mdsys.feed.frame import FrameResult, SymbolInfo, to_ticks

# cryptofeed's captures: This product includes software developed by Bryant Moscon
# (http://www.bryantmoscon.com/).
_CRYPTOFEED = re.compile(rb"([0-9.]+): (\{.*\})\s*")


def captured(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield receive time and frame of each line."""
    if not path.exists():
        pytest.skip(f"no captured data: {path} does not exist (set MDSYS_DATA)")
    with gzip.open(path) as lines:
        for line in lines:
            if path.parent.name == "hftbacktest":
                ts_recv, _, frame = line.rstrip(b"\n").partition(b" ")
                yield int(ts_recv), frame
            elif match := _CRYPTOFEED.fullmatch(line):
                yield int(float(match[1]) * 1e9), match[2]


@pytest.mark.parametrize(
    ("name", "venue", "symbols", "expected"),
    [
        (
            "hftbacktest/spot__btcusdt_20240808.gz",
            BINANCE,
            ["BTCUSDT"],
            {FrameResult.OK: 41248, FrameResult.UNKNOWN_EVENT: 1},  # the REST snapshot
        ),
        (
            "hftbacktest/spot__ethusdt_20240808.gz",
            BINANCE,
            ["ETHUSDT"],
            {FrameResult.OK: 33617, FrameResult.UNKNOWN_EVENT: 1},
        ),
        (
            "hftbacktest/usdm__btcusdt_20240808.gz",
            BINANCE_USDM,
            ["BTCUSDT"],
            {FrameResult.OK: 93953, FrameResult.UNKNOWN_EVENT: 1},
        ),
        (
            "hftbacktest/cm__btcusd_perp_20240808.gz",
            BINANCE_COINM,
            ["BTCUSD_PERP"],
            {FrameResult.OK: 48269, FrameResult.UNKNOWN_EVENT: 1},
        ),
        (
            "cryptofeed/BINANCE.ws.1.0.gz",
            BINANCE,
            ["NKNUSDT", "BLZETH", "LRCBTC", "RUNEEUR"],
            {FrameResult.OK: 261, FrameResult.UNKNOWN_EVENT: 4},  # aggTrade, kline
        ),
        (
            "cryptofeed/BINANCE_FUTURES.ws.1.0.gz",
            BINANCE_USDM,
            ["SUSHIUSDT", "AKROUSDT", "KEEPUSDT", "CTKUSDT"],
            {FrameResult.OK: 1377, FrameResult.UNKNOWN_EVENT: 158},
        ),
    ],
    ids=lambda value: value.partition("/")[2] if isinstance(value, str) else "",
)
def test_both_decoders_give_the_same_records_of_every_captured_frame(
    data_dir: Path,
    name: str,
    venue: BinanceVenue,
    symbols: list[str],
    expected: dict[FrameResult, int],
) -> None:
    infos = {symbol: SymbolInfo(i + 1) for i, symbol in enumerate(symbols)}
    assert venue.decoder is not None
    c = Decoder(venue.decoder, infos)
    reference = venue.python_decoder(infos, venue.channels)
    results: Counter[FrameResult] = Counter()
    seq = 1
    for ts_recv, frame in captured(data_dir / name):
        result, ticks = c.decode(frame, ts_recv)
        wanted, records = reference.decode(frame, ts_recv)
        assert result == wanted, frame
        assert ticks.tobytes() == to_ticks(records, seq).tobytes(), frame
        seq += len(records)
        results[result] += 1
    assert results == expected
    assert c.counts["records"] == seq - 1
    assert c.counts["gaps"] == 0
    assert c.counts["reordered"] == 0
    assert c.counts["duplicates"] == 0
