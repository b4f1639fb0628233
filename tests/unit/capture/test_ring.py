"""The ring between a feed and its recorder, the feed's end as shipped."""

from __future__ import annotations

import mmap

import pytest

from mdsys._capture import ENTRY_SIZE, RING_SIZE_MIN, CaptureRing, entry_at, stories_in
from mdsys.capture.format import Kind
from mdsys.errors import LayoutError
from tests.feeds import FeedMemory

SIZE = RING_SIZE_MIN


def ring() -> tuple[mmap.mmap, CaptureRing]:
    """Return an empty ring, and the recorder's end."""
    memory = mmap.mmap(-1, 4096 + SIZE)
    CaptureRing.create(memory, SIZE)
    return memory, CaptureRing(memory)


def entries(data: bytes) -> list[tuple[int, int, bytes]]:
    """Return (kind, number, payload) of each."""
    found, at = [], 0
    while at < len(data):
        kind, number, _, _, _, size = entry_at(data, at)
        found.append((kind, number, data[at + ENTRY_SIZE : at + ENTRY_SIZE + size]))
        at += ENTRY_SIZE + (size + 7 & ~7)
    assert at == len(data)
    return found


def test_a_recording_begins_with_all_that_a_decoder_must_know() -> None:
    feed = FeedMemory(["BTCUSDT", "ETHUSDT"], ring_count=2)
    memory, recorder = ring()
    feed.feed.capture(memory)
    data, frames, missing, begins = recorder.drain(1 << 20)
    assert (frames, missing, begins) == (0, 0, True)
    told = stories_in(data)
    assert [story[0] for story in told] == ["begin", "venue", "symbol", "symbol"]
    assert [each["ring"] for each in told[0][1]["rings"]] == [0, 1]
    assert told[1][2]["decoder"] == "binance_spot"
    assert {(story[2], story[3], story[4]) for story in told[2:]} == {
        ("BTCUSDT", 1, 0),
        ("ETHUSDT", 2, 1),
    }


def test_statuses_that_no_frame_tells_of_are_copied_with_their_ring() -> None:
    feed = FeedMemory(["BTCUSDT", "ETHUSDT"], ring_count=2)
    memory, recorder = ring()
    feed.feed.capture(memory)
    recorder.drain(1 << 20)
    feed.records()
    feed.venue.symbol_refused("ETHUSDT", 3)
    (kind, _, payload), *others = entries(recorder.drain(1 << 20)[0])
    published = feed.records()
    published["seq"] = 0
    assert (kind, payload, others) == (Kind.RECORD, published.tobytes(), [])


def test_what_finds_no_room_is_counted_and_the_state_told_anew_when_there_is() -> None:
    feed = FeedMemory(["BTCUSDT"], depth=4096)
    memory, recorder = ring()
    feed.feed.capture(memory)
    for _ in range(2000):
        feed.venue.symbol_refused("BTCUSDT", 1)
    lost, size = recorder.lost
    assert lost > 0
    assert size == 64 * lost
    first, _, missing, begins = recorder.drain(1 << 20)
    assert (missing, begins) == (0, True)
    assert len(entries(first)) + lost == 2000 + len(stories_in(first)) + 2  # OVERLAP and BOOK
    feed.venue.symbol_refused("BTCUSDT", 1)
    data, _, missing, begins = recorder.drain(1 << 20)
    assert missing == lost
    assert not begins
    assert len(entries(data)) == 1


def test_drained_in_small_pieces_it_gives_the_same() -> None:
    feed = FeedMemory(["BTCUSDT"], depth=4096)
    memory, recorder = ring()
    feed.feed.capture(memory)
    recorder.drain(1 << 20)
    numbers = []
    for turn in range(3_000):  # around the ring more than once
        feed.venue.symbol_refused("BTCUSDT", turn)
        if turn % 7 == 0:
            while (found := recorder.drain(200))[0]:
                numbers += [number for _, number, _ in entries(found[0])]
    numbers += [number for _, number, _ in entries(recorder.drain(1 << 20)[0])]
    assert numbers == list(range(numbers[0], numbers[0] + 3_000))
    assert recorder.used == 0


def test_after_the_end_nothing_is_copied() -> None:
    feed = FeedMemory(["BTCUSDT"])
    memory, recorder = ring()
    feed.feed.capture(memory)
    recorder.drain(1 << 20)
    feed.feed.capture_end()
    feed.venue.symbol_refused("BTCUSDT", 1)
    feed.feed.heartbeat()
    assert recorder.drain(1 << 20)[0] == b""


def test_a_recorder_that_writes_nonsense_costs_frames_and_nothing_else() -> None:
    feed = FeedMemory(["BTCUSDT"])
    memory, _ = ring()
    feed.feed.capture(memory)
    for tail in (0, 1 << 63, (1 << 64) - 1, 12_345):
        memory[128:136] = tail.to_bytes(8, "little")
        feed.venue.symbol_refused("BTCUSDT", 1)
        feed.feed.heartbeat()


@pytest.mark.parametrize("at", [0, 8, 16])
def test_what_is_no_ring_is_refused(at: int) -> None:
    memory, _ = ring()
    memory[at : at + 8] = b"nonsense"
    with pytest.raises(LayoutError):
        CaptureRing(memory)
    with pytest.raises(ValueError, match="not a ring"):
        FeedMemory(["BTCUSDT"]).feed.capture(memory)


def test_a_ring_that_no_feed_has_written_is_not_followed() -> None:
    memory, recorder = ring()
    memory[64:72] = (4096).to_bytes(8, "little")  # the head: entries of zeros, then a huge one
    memory[4096:4100] = (1 << 31).to_bytes(4, "little")
    with pytest.raises(LayoutError, match="damaged"):
        recorder.drain(1 << 20)
