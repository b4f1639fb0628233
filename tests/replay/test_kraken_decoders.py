"""Every captured Kraken v1 frame through both decoders: the same records, and every checksum."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from mdsys._decode import Decoder
from mdsys.feed.frame import FrameResult, SymbolInfo, to_ticks
from mdsys.feed.kraken.reference_v1 import KrakenV1Decoder

# cryptofeed's captures: This product includes software developed by Bryant Moscon
# (http://www.bryantmoscon.com/).
_RECEIVED = re.compile(rb"([0-9.]+): ([\[{].*[\]}])\s*")

PAIRS = (
    *("WAVES/EUR", "XMR/USD", "KSM/XBT", "GRT/ETH", "SC/EUR"),
    *("ETH/CHF", "OCEAN/XBT", "OMG/USD", "XBT/CHF", "ADA/XBT"),
)
SYMBOLS = {pair: SymbolInfo(i + 1) for i, pair in enumerate(PAIRS)}


def captured(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield receive time and frame of each line that was received."""
    if not path.exists():
        pytest.skip(f"no captured data: {path} does not exist (set MDSYS_DATA)")
    with gzip.open(path) as lines:
        for line in lines:
            if match := _RECEIVED.fullmatch(line):
                yield int(float(match[1]) * 1e9), match[2]


@pytest.mark.parametrize(
    ("name", "ok", "counts"),
    [
        ("KRAKEN.ws.48.0.gz", 33, {"trades": 4, "records": 4}),
        ("KRAKEN.ws.49.0.gz", 40, {"quotes": 9, "tickers": 9, "records": 18}),
        (
            "KRAKEN.ws.50.0.gz",
            2260,
            {"levels": 6733, "records": 6733, "book_snapshots": 6, "book_checksums": 2223},
        ),
    ],
)
def test_both_decoders_give_the_same_records_of_every_captured_frame(
    data_dir: Path, name: str, ok: int, counts: dict[str, int]
) -> None:
    c = Decoder("kraken_v1", SYMBOLS)
    reference = KrakenV1Decoder(SYMBOLS)
    results: Counter[FrameResult] = Counter()
    seq = 1
    for ts_recv, frame in captured(data_dir / "cryptofeed" / name):
        result, ticks = c.decode(frame, ts_recv)
        wanted, records = reference.decode(frame, ts_recv)
        assert result == wanted, frame
        assert ticks.tobytes() == to_ticks(records, seq).tobytes(), frame
        seq += len(records)
        results[result] += 1
    assert results == {FrameResult.OK: ok, FrameResult.CONTROL: 7}
    assert {key: value for key, value in c.counts.items() if value} == counts


def test_every_captured_checksum_is_that_of_the_book_we_keep(data_dir: Path) -> None:
    """Counted off the frames themselves, so that a check that is left out shows."""
    c = Decoder("kraken_v1", SYMBOLS)
    sent = 0
    for ts_recv, frame in captured(data_dir / "cryptofeed" / "KRAKEN.ws.50.0.gz"):
        c.decode(frame, ts_recv)
        sent += frame.count(b'"c":"')
    assert sent == 2223
    assert (c.counts["book_checksums"], c.counts["book_mismatches"]) == (2223, 0)
    assert [c.book(pair)[0] for pair in PAIRS].count(True) == 6
