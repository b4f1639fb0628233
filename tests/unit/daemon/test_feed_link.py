"""The supervisor's end of the feed's socket, when it is full, and when it is gone."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from mdsys.daemon.feed_link import FeedLink, FeedLinks
from mdsys.feed.orders import (
    Close,
    Order,
    ReaderAdd,
    ReaderRemove,
    Snapshot,
    Stale,
    receive_order,
)
from mdsys.feed.report import report_pair
from tests.control import open_descriptors


@dataclass
class Reader:
    """What a link is told of."""

    number: int
    fd: int
    policy: str = "drop_oldest"
    rings: tuple[int, ...] = (0,)


@pytest.fixture
def fd() -> Iterator[int]:
    made = os.memfd_create("mdsys-reader-test")
    yield made
    os.close(made)


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await main()

    asyncio.run(bounded())


def drain(channel: socket.socket) -> list[int]:
    """Return the readers of all orders that have come; one that has left is negative."""
    found: list[int] = []
    while True:
        try:
            order, fd = receive_order(channel)
        except BlockingIOError:
            return found
        if isinstance(order, ReaderAdd):
            os.close(fd)
            found.append(order.reader)
        else:
            assert isinstance(order, ReaderRemove)
            found.append(-order.reader)


async def told(done: Callable[[], bool]) -> None:
    """Let the loop turn until the link has done something."""
    while not done():  # noqa: ASYNC110 - it is the loop's turns that it takes
        await asyncio.sleep(0)


async def drain_all(link: FeedLink, channel: socket.socket) -> list[int]:
    """Return all orders, those included that did not fit at first."""
    found = drain(channel)

    def empty() -> bool:
        found.extend(drain(channel))
        return not link._pending

    await told(empty)
    return found


def fill(link: FeedLink, fd: int, first: int = 1) -> int:
    """Add readers until the socket is full; return the number of the first that waits."""
    number = first
    while not link._pending:
        link.add(Reader(number, fd))
        number += 1
    return number - 1


def test_orders_that_do_not_fit_are_sent_in_order_when_there_is_room(fd: int) -> None:
    async def main() -> None:
        ours, theirs = report_pair()
        with ours, theirs:
            link = FeedLink(ours, [0])
            waits = fill(link, fd)
            for number in range(waits + 1, waits + 30):
                link.add(Reader(number, fd))
            assert await drain_all(link, theirs) == list(range(1, waits + 30))
            link.remove(Reader(5, fd))
            assert drain(theirs) == [-5]
            link.close()

    run(main)


def test_who_comes_and_goes_while_the_socket_is_full_is_never_told_and_takes_no_room(
    fd: int,
) -> None:
    async def main() -> None:
        ours, theirs = report_pair()
        with ours, theirs:
            link = FeedLink(ours, [0])
            waits = fill(link, fd)
            for number in range(waits + 1, waits + 5_000):
                link.add(Reader(number, fd))
                link.remove(Reader(number, fd))
            assert list(link._pending) == [waits]
            link.remove(Reader(1, fd))
            link.remove(Reader(waits, fd))
            assert list(link._pending) == [1]
            assert await drain_all(link, theirs) == [*range(1, waits), -1]
            link.close()

    run(main)


def test_loop_is_not_woken_by_a_socket_that_has_room_when_nothing_waits(fd: int) -> None:
    async def main() -> None:
        ours, theirs = report_pair()
        with ours, theirs:
            link = FeedLink(ours, [0])
            fill(link, fd)
            await drain_all(link, theirs)
            assert not asyncio.get_running_loop().remove_writer(ours)
            link.close()

    run(main)


def test_link_that_is_closed_while_it_waits_leaves_nothing_in_the_loop(fd: int) -> None:
    async def main() -> None:
        ours, theirs = report_pair()
        with ours, theirs:
            link = FeedLink(ours, [0])
            fill(link, fd)
            link.close()
            assert not asyncio.get_running_loop().remove_writer(ours)

    run(main)


def test_feed_that_dies_while_orders_wait_is_told_nothing_more(fd: int) -> None:
    async def main() -> None:
        ours, theirs = report_pair()
        with ours:
            link = FeedLink(ours, [0])
            fill(link, fd)
            theirs.close()
            await told(lambda: not link._waiting)
            assert not link._pending
            link.close()

    run(main)


@pytest.mark.parametrize("number", [errno.ETOOMANYREFS, errno.ENOMEM, errno.ENOBUFS])
def test_passing_want_of_the_kernels_is_tried_again_at_the_next_beat(
    fd: int, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_: Any) -> int:
        raise OSError(number, os.strerror(number))

    ours, theirs = report_pair()
    with ours, theirs:
        link = FeedLink(ours, [0])
        with monkeypatch.context() as patch:
            patch.setattr(socket, "send_fds", fail)
            link.add(Reader(1, fd))
            link.add(Reader(2, fd))
        assert drain(theirs) == []
        link.flush()
        assert drain(theirs) == [1, 2]
        link.close()


def test_reader_of_other_rings_alone_is_none_of_its_business(fd: int) -> None:
    ours, theirs = report_pair()
    with ours, theirs:
        link = FeedLink(ours, [1, 3])
        link.add(Reader(1, fd, rings=(0, 2)))
        link.remove(Reader(1, fd, rings=(0, 2)))
        assert drain(theirs) == []
        link.add(Reader(2, fd, rings=(3, 2), policy="lossless"))
        order, page = receive_order(theirs)
        assert order == ReaderAdd(2, "lossless", [3])
        os.close(page)
        link.remove(Reader(2, fd))
        assert receive_order(theirs) == (ReaderRemove(2), -1)
        link.close()


# Orders


def take(channel: socket.socket) -> Iterator[Order]:
    """Give the orders that have come, without what came with them."""
    while True:
        try:
            order, fd = receive_order(channel)
        except BlockingIOError:
            return
        if fd >= 0:
            os.close(fd)
        yield order


def memory_file() -> int:
    return os.memfd_create("mdsys-snapshot-test")


def stale(number: int) -> Order:
    return Stale("binance", [f"S{number:0>2000}"], "trade")


def test_orders_come_in_their_order_each_once_also_those_that_had_to_wait() -> None:
    async def main() -> None:
        ours, theirs = report_pair()
        with ours, theirs:
            link = FeedLink(ours, [0])
            orders = [stale(number) for number in range(2_000)]
            for order in orders:
                link.tell(order)
            assert link._orders
            found: list[Order] = []

            def all_there() -> bool:
                found.extend(take(theirs))
                return len(found) == len(orders)

            await told(all_there)
            assert found == orders
            assert not link._orders
            link.close()

    run(main)


def test_several_orders_are_sent_at_once_and_a_descriptor_goes_with_one_alone() -> None:
    ours, theirs = report_pair()
    with ours, theirs:
        link = FeedLink(ours, [0])
        link.tell(Close(1), Close(2))
        assert list(take(theirs)) == [Close(1), Close(2)]
        count = open_descriptors()
        with pytest.raises(ValueError, match="one order"):
            link.tell(Close(1), Close(2), fd=memory_file())
        assert open_descriptors() == count
        link.close()


def test_descriptor_is_closed_here_when_it_is_sent() -> None:
    ours, theirs = report_pair()
    with ours, theirs:
        link = FeedLink(ours, [0])
        count = open_descriptors()
        file = memory_file()
        os.write(file, b"the book")
        link.tell(Snapshot("binance", "BTCUSDT"), fd=file)
        order, received = receive_order(theirs)
        assert order == Snapshot("binance", "BTCUSDT")
        assert os.pread(received, 100, 0) == b"the book"
        os.close(received)
        assert open_descriptors() == count
        link.close()


@pytest.mark.parametrize("how", ["closed", "dead"])
def test_descriptors_that_wait_are_closed_with_the_link_and_with_the_feed(how: str) -> None:
    async def main() -> None:
        ours, theirs = report_pair()
        with ours:
            link = FeedLink(ours, [0])
            number = 0
            while not link._orders:
                link.tell(stale(number))
                number += 1
            count = open_descriptors()
            for _ in range(5):
                link.tell(Snapshot("binance", "BTCUSDT"), fd=memory_file())
            assert open_descriptors() == count + 5
            if how == "dead":
                theirs.close()
                await told(lambda: not link._waiting)
                assert open_descriptors() == count - 1
            else:
                link.close()
                assert open_descriptors() == count
                theirs.close()
            assert not link._orders
            link.close()

    run(main)


def test_what_is_too_large_for_an_order_goes_with_it_from_its_first_byte_on() -> None:
    async def main() -> None:
        ours, theirs = report_pair()
        with ours, theirs:
            link = FeedLink(ours, [0])
            before = open_descriptors()
            body = b"a book" * 100_000
            link.hand(Snapshot("binance", "A", 5000), body)
            order, fd = receive_order(theirs)
            assert order == Snapshot("binance", "A", 5000)
            with os.fdopen(fd, "rb") as file:
                assert file.read() == body
            assert open_descriptors() == before
            link.close()

    run(main)


def test_orders_to_feeds_that_do_not_live_go_nowhere() -> None:
    async def main() -> None:
        ours, theirs = report_pair()
        with ours, theirs:
            links = FeedLinks()
            link = links[1] = FeedLink(ours, [0])
            links.tell(0, [Close(1)])
            links.tell(1, [Close(2), Close(3)])
            assert [receive_order(theirs)[0] for _ in range(2)] == [Close(2), Close(3)]
            with pytest.raises(BlockingIOError):
                receive_order(theirs)
            link.close()

    run(main)
