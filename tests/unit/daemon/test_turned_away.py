"""A connect that is answered with 429 holds up those of its venue, for as long as was said."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from mdsys.daemon.connections import Connection
from mdsys.daemon.feed_news import FeedNews
from mdsys.daemon.limiter import Limiter
from mdsys.daemon.plan import Placed
from mdsys.feed.venue import Limits


class World:
    """A clock, its timers, and an ear that has nothing but connections and a limiter."""

    def __init__(self, key: str | None = None) -> None:
        self.now = 100.0
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self.limiter = Limiter(lambda: self.now, self._call_later)
        for venue in ("v", "w"):
            self.limiter.configure(venue, Limits())
        self.connection = Connection(Placed(1, "v", 0, key), "wss://shown")
        self.grants: list[tuple[str, str, float]] = []

    def _call_later(self, delay_s: float, callback: Callable[[], None]) -> SimpleNamespace:
        self._timers.append((self.now + delay_s, callback))
        return SimpleNamespace(cancel=lambda: None)

    def tell(self, **message: Any) -> None:
        """Have it hear what a feed tells of the connection."""

        def report(_feed: int, told: dict[str, Any], _now_ns: int) -> Connection:
            self.connection.state = told["state"]
            return self.connection

        news: Any = SimpleNamespace(
            _roster=SimpleNamespace(connections=SimpleNamespace(report=report)),
            _limiter=self.limiter,
            _lose=lambda *_: None,
            _on_change=lambda: None,
        )
        FeedNews._note_connection(news, 0, {"connection": 1, **message})

    def ask(self, venue: str, what: Any) -> None:
        """Ask for leave; the grant is noted with its time."""
        self.limiter.ask(
            venue, what, lambda _: self.grants.append((venue, what, self.now)), holder=0
        )

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while due := sorted(each for each in self._timers if each[0] <= end):
            self._timers.remove(due[0])
            self.now = max(self.now, due[0][0])
            due[0][1]()
        self.now = end


@pytest.mark.parametrize("http", [418, 429])
def test_connects_of_the_venue_wait_as_long_as_the_one_that_was_turned_away(http: int) -> None:
    world = World()
    world.tell(state="waiting", http=http, delay_s=15.0)
    world.tell(state="waiting", http=http, delay_s=2.0)  # never shorter
    for venue, what in (("v", "connect"), ("v", "reconnect"), ("v", "rest"), ("w", "connect")):
        world.ask(venue, what)
    assert [(venue, what) for venue, what, _ in world.grants] == [("v", "rest"), ("w", "connect")]
    world.wait(14.0)
    assert len(world.grants) == 2
    world.wait(2.0)
    assert [at for venue, what, at in world.grants if venue == "v" and what != "rest"] == [
        pytest.approx(115.0, abs=0.2)
    ] * 2


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("kite.one", {"state": "waiting", "http": 429, "delay_s": 15.0}),  # that key's alone
        (None, {"state": "waiting", "http": 503, "delay_s": 15.0}),
        (None, {"state": "waiting", "delay_s": 15.0}),
        (None, {"state": "connecting", "http": 429}),
    ],
)
def test_what_says_nothing_of_the_others_holds_up_nobody(
    key: str | None, message: dict[str, Any]
) -> None:
    world = World(key)
    world.tell(**message)
    world.ask("v", "connect")
    assert len(world.grants) == 1
