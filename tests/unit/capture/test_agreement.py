"""What a feed publishes and what its capture gives are the same, also where frames go wrong."""

from __future__ import annotations

import mmap
import ssl
from pathlib import Path
from typing import Any

import pytest

import mdsys
from mdsys._capture import CaptureRing
from mdsys._listener import FrameListener, VenueFeed
from mdsys.capture.format import SUFFIX, FileWriter
from mdsys.feed.transport import open_socket
from mdsys.record.record import Kind, Status, Ticks
from tests.coinbase_frames import heartbeats, l2_data, market_trades
from tests.feeds import FeedMemory, Peer, frame, run, serving

PRODUCT = "BTC-USD"
SIZE = 1 << 20
WHOLE = b'{"type":"snapshot","product_id":"BTC-USD","bids":[["100","1"]],"asks":[["200","1"]]}'
EMPTY = b'{"type":"snapshot","product_id":"BTC-USD","bids":[],"asks":[]}'
CHANGE = (
    b'{"type":"l2update","product_id":"BTC-USD","changes":[["buy","101","1"]],'
    b'"time":"2021-04-17T16:43:37.089723Z"}'
)


def recorded(
    decoder: str, before: list[bytes], after: list[bytes], folder: Path
) -> tuple[Ticks, Ticks]:
    """Have a feed read frames, some of them before its recorder comes.

    Returns:
        What it has published with the recorder there, and what the capture gives.
    """
    memory = FeedMemory([PRODUCT])
    names = [PRODUCT]
    venue = VenueFeed(memory.feed, decoder, "BINANCE", names, memory.symbols, memory.cache)
    listener = FrameListener(venue, 7, lambda _: None)
    ring = mmap.mmap(-1, 4096 + SIZE)
    CaptureRing.create(ring, SIZE)
    recorder = CaptureRing(ring)
    published = []

    async def main() -> None:
        async def silent(peer: Peer) -> None:
            await peer.reader.read()

        async with serving(silent) as address:
            tls = ssl.create_default_context()
            transport = await open_socket(f"ws://{address}", listener, tls=tls)
            protocol: Any = transport.underlying_transport.get_protocol()
            for each in before:
                read(protocol, each)
            memory.records()
            memory.feed.capture(ring)
            for each in after:
                read(protocol, each)
            published.append(memory.records())
            memory.feed.capture_end()
            transport.disconnect(False)
            await transport.wait_disconnected()

    run(main())
    head = {"instance": "i", "feed": 0, "began_ns": 1, "connections": []}
    file = FileWriter(folder / f"a{SUFFIX}", head)
    file.write(recorder.drain(SIZE)[0])
    file.close("the test is over")
    published[0]["seq"] = 0
    return published[0], mdsys.open_capture(folder).reader().poll()


def read(protocol: Any, payload: bytes) -> None:
    """Have the socket's protocol read a frame."""
    data = frame(payload)
    protocol.get_buffer(-1)[: len(data)] = data
    protocol.buffer_updated(len(data))


def whats(ticks: Ticks) -> list[int]:
    return [int(each["what"]) for each in ticks if each["kind"] == Kind.STATUS]


@pytest.mark.parametrize("torn", [WHOLE[:40], CHANGE.replace(b"101", b"x"), b"{"])
@pytest.mark.parametrize("before", [[], [WHOLE, CHANGE]], ids=["with the book", "after the book"])
def test_a_capture_whose_last_frame_is_torn_ends_without_a_book_as_the_feed_did(
    tmp_path: Path, before: list[bytes], torn: bytes
) -> None:
    after = [CHANGE, torn] if before else [WHOLE, CHANGE, torn]
    published, replayed = recorded("coinbase_exchange", before, after, tmp_path)
    assert whats(replayed) == [Status.RESYNC, Status.FRAME_REFUSED]
    assert replayed.tobytes() == published.tobytes()


def test_an_empty_book_is_in_the_capture_as_it_was_published(tmp_path: Path) -> None:
    frames = [WHOLE, EMPTY, CHANGE]
    published, replayed = recorded("coinbase_exchange", [], frames, tmp_path)
    assert len(replayed) == 4
    assert replayed.tobytes() == published.tobytes()


def test_a_frame_that_is_late_by_a_hole_of_before_the_capture_is_late_in_it(tmp_path: Path) -> None:
    before = [l2_data(0, "snapshot"), market_trades(1, [10]), heartbeats(3)]
    after = [market_trades(2, [11]), market_trades(2, [11]), l2_data(4, "snapshot"), heartbeats(6)]
    after += [l2_data(5)]
    published, replayed = recorded("coinbase_advanced", before, after, tmp_path)
    assert [int(each["trade_id"]) for each in replayed if each["kind"] == Kind.TRADE] == [11]
    assert replayed.tobytes() == published.tobytes()
