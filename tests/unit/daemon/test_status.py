"""What the supervisor sees, what it orders, and how it explains a silent symbol."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from mdsys.counters.schema import fields
from mdsys.daemon.credentials import Credentials
from mdsys.daemon.health import SECOND
from mdsys.daemon.limiter import Limiter
from mdsys.daemon.sessions import SLACK_NS, Sessions
from mdsys.daemon.status import Status
from mdsys.daemon.subscriptions import State
from mdsys.daemon.watch import Watch
from mdsys.errors import ConfigError, UsageError
from mdsys.feed.orders import Order, Reconnect, Resubscribe, Stale
from mdsys.ring.segment import Instance
from tests.instances import geometry, running
from tests.rosters import Instruments, PlainVenue, Told, config_of, make_roster, with_list

T0 = 1_700_000_000 * SECOND
FACTS = {
    "binance": PlainVenue(silence_s=30.0),
    "kite": with_list(Instruments({"X": 1}).resolve),
}


class Cache:
    """Tells when symbols ticked."""

    def __init__(self) -> None:
        self.times: dict[int, int] = {}

    def heard(self, ids: npt.NDArray[np.uint32], out: npt.NDArray[np.int64]) -> None:
        for row, each in enumerate(ids.tolist()):
            out[row] = [self.times.get(each, 0), 0, 0, self.times.get(each, 0), 0]


class Counters:
    """Tells what the sockets' blocks hold."""

    def __init__(self) -> None:
        self.last_frame_ns = 0
        self.duplicates = 0

    def block(self, feed: int) -> bytes:
        numbers = dict.fromkeys(fields("feeds"), 0)
        numbers["duplicates"] = self.duplicates if feed == 0 else 0
        return np.array([*numbers.values(), 7], "<u8").tobytes()  # histograms stand behind them

    def connections(self, feed: int) -> list[dict[str, int]]:
        mark = {
            "connection": 1,
            "last_frame_ns": self.last_frame_ns,
            "frames": 7,
            "bytes": 70,
            "records": 9,
            "offset_ns": -(1 << 63),
        }
        return [mark] if feed == 0 else [{**mark, "frames": 99}]  # of an earlier life elsewhere


class World:
    """A supervisor without processes: time passes by ``second``."""

    def __init__(self, instance: Instance, folder: Path, *venues: dict[str, Any]) -> None:
        self.told = Told()
        config = config_of(*venues, facts=FACTS)
        self.roster = make_roster(instance, self.told, config.venues, FACTS)
        self.told.take()
        self.cache, self.counters = Cache(), Counters()
        self.sessions: dict[str, Sessions] = {}
        self.watch = Watch(
            self.roster,
            self.cache,  # type: ignore[arg-type]
            self.counters,  # type: ignore[arg-type]
            2,
            self.told.tell,
            self.sessions,
        )
        self.feeds = SimpleNamespace(
            all=[SimpleNamespace(number=n, state="running") for n in (0, 1)],
            picture=lambda now_ns: [{"feed": 0, "beat_age_s": now_ns and 0.0}],
        )
        limiter = Limiter()
        for each in config.venues:
            limiter.configure(each.name, each.limits)
        credentials = Credentials(
            {"a": ("key",)},
            environment={"XDG_CONFIG_HOME": str(folder)},
            system_folder=folder / "none",
        )
        self.status = Status(
            "test",
            self.roster,
            self.watch,
            self.cache,  # type: ignore[arg-type]
            self.feeds,  # type: ignore[arg-type]
            limiter,
            credentials,
            lambda venue, symbol: self.book_refusals.get(f"{venue}:{symbol}"),
        )
        self.book_refusals: dict[str, str] = {}
        self.now_ns = T0

    def connection(self, state: str, number: int = 1, **keys: Any) -> None:
        message = {"connection": number, "state": state, **keys}
        feed = self.roster.connections.all[number].placed.feed
        assert self.roster.connections.report(feed, message, self.now_ns) is not None

    def streams(self, state: State, *symbols: str, venue: str = "binance", **keys: Any) -> None:
        self.roster.subscriptions.report(venue, symbols, None, state, self.now_ns, **keys)

    def tick(self, *ids: int) -> None:
        self.cache.times.update(dict.fromkeys(ids, self.now_ns))

    def second(self, *ids: int, seconds: int = 1, frame: bool = True) -> list[Order]:
        """Let time pass in which these ids tick; return what is ordered."""
        for _ in range(seconds):
            self.now_ns += SECOND
            self.tick(*ids)
            if frame:
                self.counters.last_frame_ns = self.now_ns
            self.watch.look(self.now_ns)
        return [order for _, order in self.told.take()]

    def why(self, name: str = "BINANCE:A") -> tuple[str, str, str | None]:
        answer = self.status.symbol(name, self.now_ns)
        return answer["state"], answer["why"], answer["remedy"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with running(geometry(rings=2, feeds=2)) as instance:
        yield World(
            instance,
            tmp_path,
            {"name": "binance", "symbols": ["A", "B", "C"]},
            {
                "name": "kite",
                "symbols": ["X"],
                "channels": ["ticker"],
                "credentials": ["a"],
                "calendar": "XBOM",
            },
        )


def up(world: World) -> None:
    """Have everything of Binance open and ticking for a minute."""
    world.connection("connecting")
    world.connection("open")
    world.streams(State.REQUESTED, "A", "B", "C")
    world.streams(State.CONFIRMED, "A", "B", "C")
    world.connection("ready")
    assert world.second(1, 2, 3, seconds=60) == []


# ---- what is ordered ----------------------------------------------------------------------------


def test_one_silent_symbol_is_told_to_its_readers_and_subscribed_anew(world: World) -> None:
    up(world)
    assert world.second(1, 2, seconds=10) == []
    assert world.second(1, 2) == [
        Stale("binance", ["C"], "trade", [T0 + 60 * SECOND]),
        Resubscribe(1, ["C"], "trade"),
    ]
    assert world.status.all(world.now_ns)["stale"] == 1
    assert world.second(1, 2, 3) == []
    assert world.status.all(world.now_ns)["stale"] == 0


def test_connection_that_sends_nothing_at_all_is_dialled_anew(world: World) -> None:
    up(world)
    (order,) = world.second(seconds=6)
    assert isinstance(order, Reconnect)
    assert order.connection == 1


def test_socket_without_any_frame_is_dialled_anew_though_nothing_ever_ticked(world: World) -> None:
    world.connection("open")
    world.streams(State.REQUESTED, "A", "B", "C")
    assert world.second(seconds=30, frame=False) == []
    assert world.second(frame=False) == [Reconnect(1, "mute: no frame for 31 s")]
    assert world.second(seconds=30, frame=False) == []  # said once


def test_socket_of_which_everything_is_refused_is_not_dialled_anew_again_and_again(
    world: World,
) -> None:
    world.connection("open")
    world.streams(State.REQUESTED, "A", "B", "C")
    world.streams(State.REFUSED, "A", "B", "C", words="no such product")
    assert world.second(seconds=600, frame=False) == []
    world.streams(State.REQUESTED, "B")  # asked for again: silence counts from here
    assert world.second(seconds=30, frame=False) == []
    assert world.second(frame=False) == [Reconnect(1, "mute: no frame for 31 s")]


def test_limits_of_silence_are_told_of_the_sockets_that_are_judged_by_one(world: World) -> None:
    world.second()
    assert world.watch.silence_limits_ns() == {}  # none is up
    world.connection("open")
    world.streams(State.REQUESTED, "A", "B", "C")
    world.second()
    assert world.watch.silence_limits_ns() == {1: 30 * SECOND}
    world.roster.desks["binance"].venue = PlainVenue(silence_s=None)
    world.second()
    assert world.watch.silence_limits_ns() == {}  # it promises nothing
    world.roster.desks["binance"].venue = FACTS["binance"]
    world.streams(State.REFUSED, "A", "B", "C", words="no such product")
    world.second()
    assert world.watch.silence_limits_ns() == {}  # nothing need come


def test_nobody_is_blamed_for_the_time_in_which_the_host_stood_still(world: World) -> None:
    up(world)
    world.now_ns += 3_600 * SECOND
    assert world.second(frame=False) == []
    assert world.second(1, 2, 3, seconds=60) == []
    (order,) = world.second(seconds=6)  # and it is judged as before
    assert isinstance(order, Reconnect)


def test_silence_is_found_as_soon_as_ever_after_the_clock_was_set_back(world: World) -> None:
    up(world)
    assert world.second(1, 2, 3, seconds=60) == []
    world.now_ns -= 3_600 * SECOND  # all stamps there are lie an hour ahead
    (order,) = world.second(seconds=8)
    assert isinstance(order, Reconnect)


def test_nobody_is_blamed_because_the_clock_was_set_back(world: World) -> None:
    up(world)
    assert world.second(1, 2, 3, seconds=60) == []
    world.now_ns -= 3_600 * SECOND
    assert world.second(1, 2, 3, seconds=600) == []


def test_stream_that_was_asked_for_before_the_clock_was_set_back_ticks(world: World) -> None:
    world.connection("open")
    world.streams(State.REQUESTED, "A", "B", "C")
    world.second()
    world.now_ns -= 3_600 * SECOND
    world.second(1, 2, 3, seconds=2)
    assert world.why()[0] == "ticking"


def test_nothing_is_judged_on_a_connection_that_is_down(world: World) -> None:
    up(world)
    world.connection("waiting", words="reset", delay_s=2.0)
    world.roster.subscriptions.lose(1, world.now_ns)
    assert world.second(seconds=600, frame=False) == []
    world.connection("open")
    world.streams(State.REQUESTED, "A", "B", "C")
    assert world.second(1, 2, 3, seconds=60) == []


def test_nothing_is_judged_outside_the_sessions_nor_just_after_the_opening(world: World) -> None:
    up(world)
    sessions = Sessions()
    sessions._always = False
    opens, closes = world.now_ns + 200 * SECOND, world.now_ns + SECOND
    sessions._edges = np.array([T0 - SECOND, closes, opens, opens + 3_600 * SECOND])
    world.sessions["binance"] = sessions
    assert world.second(seconds=200 + SLACK_NS // SECOND) == []
    assert world.why()[1] == "it ticks: the last trade 260 s ago"
    orders = world.second(seconds=6)
    assert [type(order) for order in orders] == [Reconnect]


# ---- how it is explained ------------------------------------------------------------------------


NUMBERED_ANEW = (
    "feed 0 has met 200 records meanwhile whose ids were published already: "
    "the venue seems to have begun its numbering anew"
)


def repeat(world: World, *ids: int, seconds: int, count: int = 10) -> list[Order]:
    """Let time pass in which frames come, of ids that were published already."""
    orders: list[Order] = []
    for _ in range(seconds):
        world.counters.duplicates += count
        orders += world.second(*ids)
    return orders


def test_venue_whose_ids_begin_again_is_not_called_silent(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    up(world)
    world.connection("waiting")
    world.roster.subscriptions.lose(1, world.now_ns)
    world.second()
    world.connection("open")
    world.streams(State.REQUESTED, "A", "B", "C")
    world.streams(State.CONFIRMED, "A", "B", "C")
    world.connection("ready")
    repeat(world, seconds=9)
    assert world.why()[1].startswith("trade has been silent for 10 s; feed 0 has met 90 records")
    repeat(world, seconds=11)
    state, why, remedy = world.why()
    assert (state, why) == ("confirmed", f"trade has been silent for 21 s; {NUMBERED_ANEW}")
    assert remedy == (
        "it is heard again by itself once its ids have caught up; to have that at once, stop the "
        "daemon, run mdsys clean --instance test, and start it"
    )
    (told,) = [words for words in caplog.messages if "mute" in words]
    assert "none of its channels has brought anything new for far too long; feed 0 has met" in told


def test_remedy_for_a_certificate_that_cannot_be_verified_is_not_to_dial_again(
    world: World,
) -> None:
    words = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired"
    world.connection("waiting", words=words)
    _, why, remedy = world.why()
    assert why == f"connection 1 is waiting: {words}"
    assert remedy is not None
    assert "clock" in remedy
    assert "SSL_CERT_FILE" in remedy
    world.connection("waiting", words="refused")
    assert world.why()[2] == "it is dialled again by itself"


def test_silence_of_one_symbol_is_put_down_to_old_ids_while_they_come(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    up(world)
    repeat(world, 1, 2, seconds=20)
    (told,) = caplog.messages
    assert "is silent beyond its habit: C; feed 0 has met 110 records meanwhile" in told
    assert world.why("BINANCE:C")[1] == f"trade has been silent for 20 s; {NUMBERED_ANEW}"
    assert world.why("BINANCE:A")[1].startswith("it ticks")
    world.second(1, 2, seconds=10)  # they come no more
    assert "beyond its habit" in world.why("BINANCE:C")[1]


def test_few_old_ids_or_those_of_before_explain_no_silence(world: World) -> None:
    up(world)
    world.counters.duplicates = 500
    world.second(1, 2, 3)
    repeat(world, 1, 2, seconds=9, count=1)
    world.second(1, 2, seconds=2)
    assert "beyond its habit" in world.why("BINANCE:C")[1]


def test_old_ids_are_counted_anew_when_the_clock_is_set_back(world: World) -> None:
    up(world)
    repeat(world, 1, 2, seconds=20)
    world.now_ns -= 3_600 * SECOND
    world.second(1, 2)
    assert world.watch.repeats.words(0, 20.0) is None
    repeat(world, 1, 2, seconds=3)
    assert "has met 30 records" in (world.watch.repeats.words(0, 20.0) or "")


def test_each_stage_of_a_silent_symbol_has_its_reason(world: World) -> None:
    assert world.why("BINANCE:NOPE") == (
        "not wanted",
        "nobody has asked for it",
        "mdsys ctl subscribe BINANCE:NOPE --instance test",
    )
    assert world.why()[:2] == ("desired", "connection 1 is planned")
    world.connection("waiting", words="the server hung up", delay_s=1.5)
    assert world.why()[1] == "connection 1 is waiting: the server hung up"
    world.connection("open")
    assert "its turn to be asked for has not come" in world.why()[1]
    world.streams(State.REQUESTED, "A")
    assert world.why()[:2] == ("requested", "binance has been asked and has not answered yet")
    world.streams(State.CONFIRMED, "A")
    assert world.why()[:2] == (
        "confirmed",
        "binance has confirmed it and has sent no trade yet",
    )
    world.tick(1)
    assert world.why() == (
        "ticking",
        "it ticks: the last trade 0 s ago, after too few for its habit to be known",
        None,
    )
    world.streams(State.REFUSED, "A", words="Invalid symbol")
    assert world.why()[:2] == ("refused", "binance refused it: Invalid symbol")
    world.feeds.all[0].state = "hung"
    assert world.why("BINANCE:B")[1] == "feed 0, which carries it, is hung"


def test_venue_whose_list_denies_us_is_told_of_with_its_words_and_the_remedy(world: World) -> None:
    assert world.status.all(world.now_ns)["lists"] == {}
    desk = world.roster.desks["kite"]
    desk.trouble, desk.denied = "kite: HTTP 403: Incorrect `api_key` or `access_token`.", True
    told = world.status.all(world.now_ns)["lists"]
    assert told.keys() == {"kite"}
    assert told["kite"]["denied"] is True
    assert "Incorrect `api_key` or `access_token`." in told["kite"]["why"]
    assert told["kite"]["remedy"]


def test_stale_stream_is_explained_with_its_habit(world: World) -> None:
    up(world)
    world.second(1, 2, seconds=11)
    answer = world.status.symbol("BINANCE:C", world.now_ns)
    assert answer["why"] == "trade has been silent for 11 s, far beyond its habit (10 s)"
    (stream,) = answer["streams"]
    assert stream["stale"] is True
    assert stream["last_tick_s"] == 11.0
    assert stream["silence_max_s"] == 10.0


def test_symbol_whose_book_is_refused_by_rest_is_explained_with_the_venues_words(
    tmp_path: Path,
) -> None:
    with running(geometry(rings=2, feeds=2)) as instance:
        symbols = {"symbols": ["NOSUCH"], "channels": ["trade", "book"]}
        world = World(instance, tmp_path, {"name": "binance", **symbols})
        world.connection("open")
        world.streams(State.REQUESTED, "NOSUCH")
        world.streams(State.CONFIRMED, "NOSUCH")
        assert world.why("BINANCE:NOSUCH")[1].endswith("has sent no trade and no book yet")
        words = 'binance: GET https://a/depth: HTTP 400: {"code":-1121,"msg":"Invalid symbol."}'
        world.book_refusals["binance:NOSUCH"] = words
        assert world.why("BINANCE:NOSUCH") == (
            "confirmed",
            f"its book cannot be had: {words}",
            "mdsys ctl unsubscribe BINANCE:NOSUCH, or mend the cause and subscribe it again",
        )
        answer = world.status.symbol("BINANCE:NOSUCH", world.now_ns)
        assert answer["words"] == words
        assert [each["words"] for each in answer["streams"]] == [None, words]


def test_symbol_of_a_venue_that_confirms_nothing_waits_for_its_first_tick(world: World) -> None:
    assert world.why("KITE:X")[1] == "kite's list of symbols is being asked for it"
    asyncio.run(world.roster.subscribe(["KITE:X"]))
    world.connection("open", number=2)
    world.streams(State.REQUESTED, "X", venue="kite")
    assert "so the first tick is the proof" in world.why("KITE:X")[1]
    sessions = Sessions()
    sessions._always = False
    sessions._edges = np.array([T0 - 9, T0 - 5, T0 + 9 * SECOND, T0 + 10 * SECOND])
    world.sessions["kite"] = sessions
    answer = world.status.symbol("KITE:X", world.now_ns)
    assert answer["session"] == "closed"
    assert answer["why"] == "the market is closed (calendar XBOM)"
    assert world.status.all(world.now_ns)["sessions"]["kite"]["open"] is False


def test_denied_connection_names_the_secret_and_the_file_to_replace(world: World) -> None:
    asyncio.run(world.roster.subscribe(["KITE:X"]))
    world.connection("denied", number=2, words="Invalid token", http=403)
    _, why, remedy = world.why("KITE:X")
    assert why == "the venue does not let connection 2 in: Invalid token"
    assert remedy is not None
    assert remedy.startswith("credential a: put it into /")
    assert "mdsys ctl reload --instance test" in remedy


def test_name_that_is_none_is_an_error_that_says_so(world: World) -> None:
    with pytest.raises(UsageError, match="names no venue"):
        world.status.symbol("A", T0)
    with pytest.raises(ConfigError, match="did you mean A"):
        world.status.symbol("BINANCE:a", T0)


def test_picture_has_every_connection_with_the_marks_of_its_own_feed(world: World) -> None:
    up(world)
    world.connection("waiting", words="reset by peer", delay_s=2.5)
    world.connection("open")
    answer = world.status.all(world.now_ns)
    (connection,) = answer["connections"]
    assert connection == {
        "connection": 1,
        "venue": "binance",
        "feed": 0,
        "state": "open",
        "since_s": 0.0,
        "url": "wss://plain.example/ws",
        "key": None,
        "symbols": 3,
        "streams": 3,
        "requested": 3,
        "confirmed": 3,
        "ticking": 3,
        "refused": 0,
        "last_frame_s": 0.0,
        "frames": 7,
        "bytes": 70,
        "records": 9,
        "clock_offset_ns": None,
        "reconnects": 1,
        "retry_s": None,
        "http": None,
        "words": None,
    }
    assert answer["subscriptions"]["desired"] == 4
    assert {usage["scope"] for usage in answer["limits"]} <= {"binance address"}
