"""What a venue is given before anything of it is placed."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import Any

import pytest

from mdsys.config import VenueConfig
from mdsys.daemon.limiter import Limiter
from mdsys.daemon.sessions import Sessions
from mdsys.daemon.snapshots import Snapshots
from mdsys.daemon.venue_needs import VenueNeeds
from mdsys.errors import FeedError
from mdsys.feed.venue import BookSnapshots
from tests.rosters import PLAIN, PlainVenue, config_of


class Rest:
    """Tells what it would have asked."""

    def fetcher(self, venue: str, url: str) -> Any:
        async def fetch(path: str) -> bytes:
            return f"{venue} {url}{path}".encode()

        return fetch


ALWAYS_OPEN = Sessions()
DIFFERENCES = replace(PLAIN, book_snapshots=BookSnapshots("/depth", 100, {100: 1}))
"""Streams differences only."""


class World:
    """The needs of a venue, and where they are met."""

    def __init__(self, venue: PlainVenue = PLAIN, **keys: Any) -> None:
        self.limiter = Limiter()
        self.snapshots = Snapshots(lambda *_: None)
        rest: Any = Rest()
        self.needs = VenueNeeds({"binance": venue}, self.limiter, rest, self.snapshots)
        table = {"name": "binance", "symbols": ["A"], **keys}
        self.config: VenueConfig = config_of(table, facts={"binance": venue}).venues[0]

    def open(self) -> None:
        self.needs.open(self.config)

    def fetch(self) -> bytes:
        async def fetch() -> bytes:
            return await self.needs.fetch_of("binance")("/x")

        return asyncio.run(fetch())


def test_venue_without_a_rest_address_says_what_gives_one() -> None:
    world = World()
    world.open()
    with pytest.raises(FeedError, match="binance: it has no REST address: give rest_url"):
        world.fetch()


def test_rest_address_of_the_configuration_goes_before_the_venues() -> None:
    world = World(replace(DIFFERENCES, rest_url="http://venue"))
    world.open()
    assert world.fetch() == b"binance http://venue/x"
    world.config = replace(world.config, rest_url="http://ours")
    world.open()
    assert world.fetch() == b"binance http://ours/x"


def test_books_are_fetched_for_a_venue_that_streams_differences_alone() -> None:
    for venue, known in ((PLAIN, []), (DIFFERENCES, ["binance"])):
        world = World(venue, rest_url="http://ours")
        world.open()
        assert list(world.snapshots.waiting()) == known


def test_limits_are_in_force_from_then_on() -> None:
    world = World(limits={"connections": 1})
    world.open()
    granted: list[object] = []
    for _ in range(2):
        world.limiter.ask("binance", "connect", granted.append)
    assert len(granted) == 1


def test_calendar_is_read_beside_the_loop_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[threading.Thread] = []

    def named(calendar: str) -> Sessions:
        assert calendar == "XBOM"
        threads.append(threading.current_thread())
        return ALWAYS_OPEN

    monkeypatch.setattr(Sessions, "named", named)
    world = World()
    asyncio.run(world.needs.open_later(world.config))
    assert (world.needs.sessions, threads) == ({}, [])
    world.config = replace(world.config, calendar="XBOM")
    asyncio.run(world.needs.open_later(world.config))
    assert world.needs.sessions == {"binance": ALWAYS_OPEN}
    assert threads[0] is not threading.current_thread()
    world.open()
    assert threads[1] is threading.current_thread()
