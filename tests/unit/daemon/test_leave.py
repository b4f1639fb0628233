"""What feeds ask leave for, from the ask to the end of the socket."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from mdsys.daemon.connections import Connection
from mdsys.daemon.credentials import Credentials
from mdsys.daemon.feed_link import FeedLink
from mdsys.daemon.leave import Leave
from mdsys.daemon.limiter import Limiter
from mdsys.daemon.plan import Placed
from mdsys.feed.orders import Permit, Refuse, receive_order
from mdsys.feed.report import report_pair
from mdsys.feed.venue import Limits, Window

LIMITS = Limits(connections=2, address_messages=(Window(3, 60.0),))


class Feed:
    """A feed's end of the talk."""

    def __init__(self, leave: Leave, key: str | None, venue: str = "kite", number: int = 0) -> None:
        self.leave = leave
        self.number = number
        self.connection = Connection(Placed(1, venue, number, key), "wss://shown")
        ours, self.channel = report_pair()
        self._ours = ours
        self.link = FeedLink(ours, [0])

    def ask(self, number: int, what: str = "connect", **keys: Any) -> None:
        message = {"id": number, "what": what, "count": 1, "first": True, **keys}
        self.leave.ask(self.number, self.link, self.connection, message)

    def answers(self) -> list[Permit | Refuse]:
        found: list[Permit | Refuse] = []
        while True:
            try:
                order, _ = receive_order(self.channel)
            except BlockingIOError:
                return found
            assert isinstance(order, Permit | Refuse)
            found.append(order)

    def close(self) -> None:
        self.link.close()
        self._ours.close()
        self.channel.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "mdsys" / "credentials"
    made.mkdir(parents=True, mode=0o700)
    return made


@pytest.fixture
def feeds() -> Iterator[list[Feed]]:
    made: list[Feed] = []
    yield made
    for each in made:
        each.close()


def write(folder: Path, value: str) -> None:
    file = folder / "key_a"
    file.unlink(missing_ok=True)
    file.write_text(f'key = "{value}"\n')
    file.chmod(0o600)


def make(folder: Path, limits: Limits = LIMITS) -> tuple[Leave, Credentials, Limiter]:
    credentials = Credentials(
        {"key_a": ("key",)},
        environment={"XDG_CONFIG_HOME": str(folder.parent.parent)},
        system_folder=folder / "none",
    )
    credentials.read()
    limiter = Limiter()
    for venue in ("kite", "binance"):
        limiter.configure(venue, limits)
    return Leave(limiter, credentials, lambda venue: venue == "kite"), credentials, limiter


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await main()

    asyncio.run(bounded())


def test_leave_to_connect_brings_the_secret_as_it_is_then(folder: Path, feeds: list[Feed]) -> None:
    async def main() -> None:
        write(folder, "first-secret")
        leave, credentials, _ = make(folder)
        feed = Feed(leave, "key_a")
        feeds.append(feed)
        for number in (1, 2, 3):
            feed.ask(number)
        assert feed.answers() == [Permit(n, {"key": "first-secret"}) for n in (1, 2)]
        write(folder, "second-secret")
        credentials.read()
        leave.ended(0, 1)  # there was no socket: its place is free
        assert feed.answers() == [Permit(3, {"key": "second-secret"})]

    run(main)


def test_place_is_free_when_its_socket_has_ended_and_not_before(
    folder: Path, feeds: list[Feed]
) -> None:
    async def main() -> None:
        write(folder, "first-secret")
        leave, _, _ = make(folder)
        feed = Feed(leave, "key_a")
        feeds.append(feed)
        for number in (1, 2, 3):
            feed.ask(number, first=number == 1)  # 2 and 3 redial: the old socket may still be open
        leave.used(0, 1)
        leave.used(0, 2)
        assert [answer.id for answer in feed.answers()] == [1, 2]
        leave.ended(0, 2)
        leave.ended(0, 2)  # said twice: no second place
        assert [answer.id for answer in feed.answers()] == [3]
        feed.ask(4)
        assert feed.answers() == []

    run(main)


def test_dead_feed_gives_its_places_back_and_its_asks_are_forgotten(
    folder: Path, feeds: list[Feed]
) -> None:
    async def main() -> None:
        write(folder, "first-secret")
        leave, _, _ = make(folder)
        dead, other = Feed(leave, "key_a"), Feed(leave, "key_a", number=1)
        feeds.extend([dead, other])
        for number in (1, 2, 3):
            dead.ask(number)
        other.ask(1)
        assert other.answers() == []
        leave.used(0, 1)
        leave.feed_ended(0)
        assert [answer.id for answer in other.answers()] == [1]
        assert [answer.id for answer in dead.answers()] == [1, 2]
        assert all(feed == 1 for feed, _ in leave._permits)  # its successor counts from 1 again
        leave.used(0, 2)  # late words of the dead change nothing
        leave.ended(0, 1)

    run(main)


@pytest.mark.parametrize("key", ["key_a", None])
def test_venue_that_needs_a_secret_is_refused_without_one_and_told_where_it_is_looked_for(
    folder: Path, feeds: list[Feed], key: str | None
) -> None:
    async def main() -> None:
        leave, _, limiter = make(folder)
        feed = Feed(leave, key)
        feeds.append(feed)
        feed.ask(1)
        (answer,) = feed.answers()
        assert isinstance(answer, Refuse)
        assert (str(folder / "key_a") if key else "[[venue]] kite names none") in answer.words
        assert all(usage.used == 0 for usage in limiter.usage())

    run(main)


def test_secret_that_is_gone_when_the_turn_comes_is_a_refusal_and_takes_no_place(
    folder: Path, feeds: list[Feed]
) -> None:
    async def main() -> None:
        write(folder, "first-secret")
        leave, credentials, limiter = make(folder, Limits(connections=1))
        feed = Feed(leave, "key_a")
        feeds.append(feed)
        feed.ask(1)
        feed.ask(2)
        (folder / "key_a").unlink()
        credentials.read({"other": ()})
        leave.ended(0, 1)
        _, refusal = feed.answers()
        assert isinstance(refusal, Refuse)
        assert [usage.used for usage in limiter.usage() if usage.what == "connections"] == [0]

    run(main)


def test_venue_without_a_key_gets_leave_without_a_secret(folder: Path, feeds: list[Feed]) -> None:
    async def main() -> None:
        leave, _, _ = make(folder)
        feed = Feed(leave, None, venue="binance")
        feeds.append(feed)
        feed.ask(1)
        assert feed.answers() == [Permit(1, None)]

    run(main)


def test_messages_are_counted_over_all_sockets_and_bring_no_secret(
    folder: Path, feeds: list[Feed]
) -> None:
    async def main() -> None:
        write(folder, "first-secret")
        leave, _, limiter = make(folder)
        feed = Feed(leave, "key_a")
        feeds.append(feed)
        for number in range(1, 5):
            feed.ask(number, "message")
        assert feed.answers() == [Permit(number, None) for number in (1, 2, 3)]
        for number in (1, 2, 3):
            leave.used(0, number)
        assert list(leave._permits) == [(0, 4)]  # nothing more will be heard of the others
        (usage,) = limiter.usage()
        assert (usage.what, usage.used, usage.waiting) == ("address_messages", 3, 1)

    run(main)


def test_feed_that_is_gone_when_its_turn_comes_disturbs_nobody(
    folder: Path, feeds: list[Feed]
) -> None:
    async def main() -> None:
        write(folder, "first-secret")
        leave, _, _ = make(folder, Limits(connections=1))
        gone, other = Feed(leave, "key_a"), Feed(leave, "key_a", number=1)
        feeds.extend([gone, other])
        gone.ask(1)
        gone.channel.shutdown(socket.SHUT_RDWR)
        gone.ask(2)
        other.ask(1)
        leave.feed_ended(0)
        assert [answer.id for answer in other.answers()] == [1]

    run(main)


def test_no_secret_is_in_the_repr_of_what_is_kept(folder: Path, feeds: list[Feed]) -> None:
    async def main() -> None:
        write(folder, "first-secret")
        leave, _, limiter = make(folder)
        feed = Feed(leave, "key_a")
        feeds.append(feed)
        feed.ask(1)
        held = repr([vars(leave), vars(limiter), *leave._permits.values()])
        assert "first-secret" not in held
        assert os.fspath(folder) not in held

    run(main)


def test_connection_that_was_given_a_secret_which_is_replaced_since_is_outdated(
    folder: Path, feeds: list[Feed]
) -> None:
    async def main() -> None:
        leave, credentials, _ = make(folder)
        feed = Feed(leave, "key_a")
        feeds.append(feed)
        feed.ask(1)
        assert isinstance(feed.answers()[0], Refuse)
        assert not leave.is_outdated(feed.connection)
        write(folder, "first-secret")
        credentials.read()
        assert leave.is_outdated(feed.connection)
        feed.ask(2)
        credentials.read()  # the same
        assert not leave.is_outdated(feed.connection)
        write(folder, "second-secret")
        credentials.read()
        assert leave.is_outdated(feed.connection)

    run(main)


def test_ask_that_is_taken_back_waits_for_nothing_any_more(folder: Path, feeds: list[Feed]) -> None:
    async def main() -> None:
        leave, _, limiter = make(folder)
        feed = Feed(leave, None, "binance")
        feeds.append(feed)
        for number in (1, 2, 3, 4):
            feed.ask(number)
        assert [each.id for each in feed.answers()] == [1, 2]
        leave.ended(0, 3)
        assert [usage.waiting for usage in limiter.usage()] == [1]
        leave.used(0, 1)
        leave.ended(0, 1)
        assert [each.id for each in feed.answers()] == [4]

    run(main)
