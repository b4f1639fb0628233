"""Where a feed process ends and the next begins, or a tape: nothing comes twice or is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from mdsys._capture import RING_SIZE_MIN, CaptureRing, stories_in
from mdsys.record.record import Kind, Status, Ticks
from tests.captures import kept, new_ring, replayed
from tests.feeds import FeedMemory

HEAD = 64
"""Where struct md_capture_header has it."""


def published(feed: FeedMemory) -> Ticks:
    """Return what was published since the last call, without the ring's sequences."""
    ticks = feed.records()
    ticks["seq"] = 0
    return ticks


def tell(feed: FeedMemory, *numbers: int) -> None:
    """Publish a status for each."""
    for number in numbers:
        feed.venue.symbol_refused("BTCUSDT", number)


def assert_replayed(recorder: CaptureRing, folder: Path, expected: Ticks) -> None:
    """The capture gives these records, and finds no fault with them."""
    ticks, reader = replayed(kept(recorder, folder), 0)
    assert ticks.tobytes() == expected.tobytes()
    assert (reader.lost, reader.mismatches) == (0, 0)


def test_what_a_feed_published_before_its_first_frame_is_told_once_though_its_file_rotates(
    tmp_path: Path,
) -> None:
    feed = FeedMemory(["BTCUSDT"])
    feed.take_over()
    tell(feed, 1)
    memory, recorder = new_ring(RING_SIZE_MIN)
    feed.feed.capture(memory)
    for number in (2, 3):
        feed.feed.capture_state()
        tell(feed, number)
    assert_replayed(recorder, tmp_path, published(feed))


def test_a_feed_that_was_killed_before_it_could_tell_its_recorder_is_in_the_capture_all_the_same(
    tmp_path: Path,
) -> None:
    feed = FeedMemory(["BTCUSDT"])
    memory, recorder = new_ring(RING_SIZE_MIN)
    feed.feed.capture(memory)
    tell(feed, 1, 2)
    for _ in range(3):
        feed.take_over()
    feed.feed.capture(memory)
    tell(feed, 3)
    feed.take_over()
    feed.feed.capture(memory)
    expected = published(feed)
    whats = [int(each["what"]) for each in expected if each["kind"] == Kind.STATUS]
    assert whats.count(Status.WRITER_RESTARTED) == 4
    assert_replayed(recorder, tmp_path, expected)


@pytest.mark.parametrize("silent", [0, 1, 2])
def test_what_was_copied_and_not_published_is_not_replayed_however_many_died_after(
    tmp_path: Path, silent: int
) -> None:
    feed = FeedMemory(["BTCUSDT"])
    memory, recorder = new_ring(RING_SIZE_MIN)
    feed.feed.capture(memory)
    tell(feed, 1)
    ring = feed.maps[0][:]
    tell(feed, 2)
    feed.maps[0][:] = ring  # killed before it released this one
    for _ in range(1 + silent):
        feed.take_over()
    feed.feed.capture(memory)
    tell(feed, 3)
    expected = published(feed)
    assert len(expected) == 3 + silent
    assert_replayed(recorder, tmp_path, expected)


def test_an_entry_that_its_feed_was_killed_over_is_not_told_as_lost(tmp_path: Path) -> None:
    feed = FeedMemory(["BTCUSDT"])
    memory, recorder = new_ring(RING_SIZE_MIN)
    feed.feed.capture(memory)
    tell(feed, 1)
    expected = published(feed)
    head = memory[HEAD : HEAD + 8]
    tell(feed, 2)
    memory[HEAD : HEAD + 8] = head  # as before the last store of md_capture_put
    published(feed)
    feed.take_over()
    feed.feed.capture(memory)
    first, _, missing, _ = recorder.drain(1 << 20)
    assert missing == 0
    assert stories_in(first)[0][0] == "begin"
    _, _, missing, begins = recorder.drain(1 << 20)
    assert (missing, begins) == (0, True)
    assert len(expected) == 1


def test_what_found_no_room_before_a_feed_was_killed_is_told_as_lost() -> None:
    feed = FeedMemory(["BTCUSDT"], depth=4096)
    memory, recorder = new_ring(RING_SIZE_MIN)
    feed.feed.capture(memory)
    tell(feed, *range(2_000))
    lost, _ = recorder.lost
    assert lost > 0
    recorder.drain(1 << 20)
    feed.take_over()
    feed.feed.capture(memory)
    _, _, missing, begins = recorder.drain(1 << 20)
    assert (missing, begins) == (lost, True)
