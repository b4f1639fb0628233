"""Every venue's limits, held by a real daemon against a simulator that counts as the venue does.

Windows of minutes are narrowed to seconds, on both sides, so that a test can press them. The
counter-proof widens the daemon's alone: then the simulator throws it out, and it says so. One
daemon presses the limits of all venues, which count each for itself; a counter-proof shares one
with those of other venues.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from mdsys.feed.venue import Limits, Window
from mdsys.sim.dialects import find
from tests.daemons import Daemon, instance
from tests.simulated import (
    SOLITARY,
    Secrets,
    Street,
    all_tick,
    connections_of,
    daemon_on,
    full,
    status_when,
    street,
    symbol_when,
    venue_text,
)

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]


PATIENCE_S = 60.0
"""For ten venues at once."""


@dataclass(frozen=True, slots=True)
class Case:
    """How a venue's limits are pressed."""

    symbols: int
    """So many that there are several messages and, where there may be, several sockets."""
    narrowed: Mapping[str, Any]
    """Fields of ``Limits`` that are other than the venue's, here and there."""
    keys: int = 0
    batch_size: int = 1
    table: Mapping[str, Any] = field(default_factory=dict)
    """More of the [[venue]]."""


_BINANCE = {
    "streams_per_connection": 18,
    "streams_per_message": 3,
    "connects": (Window(3, 1.0),),
    "rest_weight": (Window(60, 1.0),),
}
_HALF = {"max_symbols_per_connection": 5}  # of no account where one socket is all there may be
_FUTURES = {**_BINANCE, "streams_per_connection": 36}
CASES: Mapping[str, Case] = {
    "binance": Case(48, _BINANCE),
    "binance_usdm": Case(48, _FUTURES),
    "binance_coinm": Case(48, _FUTURES),
    "kraken": Case(48, {"connects": (Window(3, 1.0),)}, 0, 2, {"max_symbols_per_connection": 8}),
    "coinbase_exchange": Case(
        48,
        {"address_messages": (Window(10, 1.0),), "connects": (Window(3, 1.0),)},
        table={"max_symbols_per_connection": 8},
    ),
    "coinbase_advanced": Case(20, {}, 0, 2, {"max_symbols_per_connection": 2}),
    "kite": Case(
        45,
        {"symbols_per_connection": 8, "key_connects": (Window(2, 1.0),)},
        keys=2,
        batch_size=2,
    ),
    "alpaca": Case(
        10, {"streams_per_connection": 30, "messages": (Window(5, 1.0),)}, keys=1, table=_HALF
    ),
    "massive": Case(10, {"messages": (Window(5, 1.0),)}, keys=1, table=_HALF),
    "openalgo": Case(
        18, {"symbols_per_connection": 6, "messages": (Window(3, 1.0),)}, keys=1, batch_size=2
    ),
}


def own_limits(venue: str, case: Case) -> Limits:
    """Return what the simulator holds the daemon to: the venue's, narrowed."""
    return replace(find(venue).limits, **case.narrowed)


def stretched(limits: Limits, what: str) -> Limits:
    """Have a limit's windows be ten times as long: a busy machine keeps no short one by being slow.

    The venue is right to be stricter than it says where it is to see that nobody holds back.
    """
    windows = getattr(limits, what)
    if not isinstance(windows, tuple):
        return limits
    longer: Any = tuple(Window(each.count, 10 * each.seconds) for each in windows)
    return replace(limits, **{what: longer})


def written(limits: Mapping[str, Any]) -> dict[str, Any]:
    """Return limits as the configuration has them."""
    return {
        key: " ".join(f"{each.count}/{each.seconds:g}s" for each in value)
        if isinstance(value, tuple)
        else value
        for key, value in limits.items()
    }


def table(venue: str, case: Case, sims: Street, secrets: Secrets, **widened: Any) -> str:
    """Return the [[venue]] of a case; ``widened``: keys of its limits that are let go."""
    keys = [secrets.write(venue, key=key) for key in range(case.keys)]
    return venue_text(
        venue,
        sims[venue],
        symbols=case.symbols,
        batch_size=case.batch_size,
        **({"credentials": keys} if keys else {}),
        **case.table,
        limits={**written(case.narrowed), **widened},
    )


# ---- what holds ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Endured:
    """What came of a daemon whose sockets were all cut, and whose feeds were killed."""

    breaches: Mapping[str, list[str]]
    told: Mapping[str, list[str]]
    sockets: Mapping[str, int]
    attempts: Mapping[str, int]
    lines: list[str]


def endure(tmp_path: Path) -> Endured:
    """Let a daemon meet the worst at every venue, and wait until all has come back."""
    secrets = Secrets(tmp_path)
    limits = {venue: own_limits(venue, case) for venue, case in CASES.items()}
    symbols = {venue: case.symbols for venue, case in CASES.items()}
    with instance() as name, street(CASES, symbols=symbols, rate=600, limits=limits) as sims:
        tables = [table(venue, case, sims, secrets) for venue, case in CASES.items()]
        with daemon_on(
            tmp_path, name, *tables, feeds=2, rings=2, max_symbols=512, secrets=secrets
        ) as running:
            hit_hard(sims, running)
            answer = status_when(name, all_tick)
            return Endured(
                sims.breaches,
                sims.told,
                {venue: len(connections_of(answer, venue)) for venue in CASES},
                sims.call(lambda: {venue: sims[venue].stats.attempts for venue in CASES}),
                running.lines,
            )


def hit_hard(sims: Street, running: Daemon) -> None:
    """Cut every socket, and kill each feed, once all is up; return when all has come back."""
    status_when(running.name, all_tick, PATIENCE_S)
    for venue in sims:
        sims.inject(venue, "reset")
    answer = status_when(
        running.name,
        lambda now: all_tick(now) and all(each["reconnects"] for each in now["connections"]),
        PATIENCE_S,
    )
    for feed in range(len(answer["feeds"])):
        kill(running.name, feed, answer["feeds"][feed]["pid"])


def kill(name: str, feed: int, pid: int) -> None:
    """Kill a feed; return when its successor has all that it had."""
    os.kill(pid, signal.SIGKILL)

    def is_back(now: dict[str, Any]) -> bool:
        own = now["feeds"][feed]
        return own["restarts"] > 0 and own["pid"] not in (pid, None) and all_tick(now)

    status_when(name, is_back, PATIENCE_S)


@pytest.mark.parametrize("venue", CASES)
def test_no_limit_is_broken_through_cut_sockets_and_killed_feeds(
    venue: str, presses: Presses
) -> None:
    endured = presses.endured.result()
    assert endured.breaches.get(venue, []) == [], endured.told[venue]
    sockets = endured.sockets[venue]
    assert sockets == 1 if venue in SOLITARY else sockets > 2
    assert endured.attempts[venue] > 2 * sockets  # they did come back, twice
    own = [line for line in endured.lines if re.search(rf"\b{venue}\b", line)]
    assert not [line for line in own if "1008" in line or "HTTP 429" in line]


# ---- what would not ------------------------------------------------------------------------------


def broken(sims: Street, venue: str, what: str) -> None:
    """Wait until a limit is broken."""
    sims.until(venue, lambda sim: any(breach.what == what for breach in sim.breaches))


@dataclass(frozen=True, slots=True)
class Proof:
    """A limit that the daemon is told not to hold."""

    venue: str
    what: str
    widened: Any
    words: str
    """A pattern of the daemon's log."""
    keys: int | None = None
    """So many instead of the case's."""


_MANY = "1000/s"
PROOFS = [
    Proof("binance", "messages", _MANY, "closed by the venue: 1008 Too many requests"),
    Proof("binance", "connects", _MANY, "HTTP 429 from .*Too many requests"),
    Proof("binance", "streams_per_connection", 1024, "refused: Too many subscriptions .code 4."),
    Proof("binance", "rest_weight", "100000/m", "HTTP 4(29|18)"),
    Proof("binance_usdm", "messages", _MANY, "closed by the venue: 1008 Too many requests"),
    Proof("binance_coinm", "messages", _MANY, "closed by the venue: 1008 Too many requests"),
    Proof("kraken", "messages", _MANY, "the venue says: Exceeded msg rate"),
    Proof("kraken", "connects", _MANY, "HTTP 429"),
    Proof("coinbase_exchange", "address_messages", _MANY, "closed by the venue: 1008"),
    Proof("coinbase_exchange", "connects", _MANY, "HTTP 429"),
    Proof("coinbase_advanced", "address_messages", _MANY, "closed by the venue: 1008"),
    Proof("coinbase_advanced", "connects", _MANY, "HTTP 429"),
    Proof("kite", "connections", 9, "HTTP 429", keys=1),
    Proof("kite", "key_connects", _MANY, "HTTP 429"),
    Proof("kite", "symbols_per_connection", 20, "more than 8 instruments on a connection"),
    Proof("alpaca", "messages", _MANY, "closed by the venue: 1008"),
    Proof("alpaca", "connections", 2, "connection limit exceeded .code 406."),
    Proof("massive", "messages", _MANY, "closed by the venue: 1008"),
    Proof("massive", "connections", 2, "Maximum number of websocket connections exceeded"),
    Proof("openalgo", "messages", _MANY, "closed by the venue: 1008"),
    Proof("openalgo", "symbols_per_connection", 20, "Maximum symbols per connection reached: 6"),
]


def rounds(proofs: Collection[Proof]) -> list[dict[str, Proof]]:
    """Return the proofs by venue, so many times that each venue has one of them at a time."""
    made: list[dict[str, Proof]] = []
    for proof in proofs:
        free = next((each for each in made if proof.venue not in each), None)
        if free is None:
            made.append(free := {})
        free[proof.venue] = proof
    return made


def break_limits(tmp_path: Path, proofs: Mapping[str, Proof]) -> dict[Proof, str]:
    """Let a daemon ignore one limit of each venue; return what did not come of it."""
    secrets = Secrets(tmp_path)
    cases = {
        venue: replace(CASES[venue], keys=CASES[venue].keys if proof.keys is None else proof.keys)
        for venue, proof in proofs.items()
    }
    limits = {
        venue: stretched(own_limits(venue, case), proofs[venue].what)
        for venue, case in cases.items()
    }
    symbols = {venue: case.symbols for venue, case in cases.items()}
    missing: dict[Proof, str] = {}
    with instance() as name, street(proofs, symbols=symbols, rate=300, limits=limits) as sims:
        tables = [
            table(venue, cases[venue], sims, secrets, **{proof.what: proof.widened})
            for venue, proof in proofs.items()
        ]
        with daemon_on(
            tmp_path, name, *tables, feeds=2, rings=2, max_symbols=512, secrets=secrets
        ) as running:
            for venue, proof in proofs.items():
                try:
                    broken(sims, venue, proof.what)
                    running.wait_for_line(rf"\b{venue}\b.*{proof.words}")
                except (TimeoutError, AssertionError) as error:
                    missing[proof] = f"{error!r}\n{sims.told[venue]}"
    return missing


@pytest.mark.parametrize("proof", PROOFS, ids=lambda proof: f"{proof.venue}-{proof.what}")
def test_the_same_breaks_a_limit_that_the_daemon_is_told_to_ignore(
    proof: Proof, presses: Presses
) -> None:
    missing = presses.rounds[proof].result().get(proof)
    assert missing is None, missing


class Presses:
    """All that is asked for of the above, two at a time: they mostly wait for windows."""

    def __init__(
        self, factory: pytest.TempPathFactory, *, endures: bool, proofs: Collection[Proof]
    ) -> None:
        self.pool = ThreadPoolExecutor(2)
        if endures:
            self.endured = self.pool.submit(endure, factory.mktemp("endured"))
        self.rounds: dict[Proof, Future[dict[Proof, str]]] = {}
        for each in rounds(proofs):
            future = self.pool.submit(break_limits, factory.mktemp("round"), each)
            self.rounds |= dict.fromkeys(each.values(), future)


@pytest.fixture(scope="module")
def presses(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Presses]:
    asked = [
        item.callspec.params
        for item in request.session.items
        if item.path == request.path
        and isinstance(item, pytest.Function)
        and "callspec" in dir(item)
    ]
    made = Presses(
        tmp_path_factory,
        endures=any("venue" in each for each in asked),
        proofs=[cast("Proof", each["proof"]) for each in asked if "proof" in each],
    )
    try:
        yield made
    finally:
        made.pool.shutdown()


# ---- fifty thousand symbols ----------------------------------------------------------------------

COUNT = 50_000


def test_fifty_thousand_symbols_of_binance_tick_on_fifty_sockets_without_a_breach(
    tmp_path: Path,
) -> None:
    with (
        instance() as name,
        street(["binance"], symbols=COUNT, rate=120_000, mix=(100, 0, 0)) as sims,
    ):
        text = venue_text(
            "binance",
            sims["binance"],
            symbols=COUNT,
            channels=["trade"],
            max_symbols_per_connection=1000,
            batch_size=200,
        )
        with daemon_on(
            tmp_path, name, text, feeds=2, rings=4, max_symbols=COUNT, buffer_size="1 MiB"
        ) as running:
            answer = status_when(name, all_tick, patience_s=120)
            assert len(answer["connections"]) == 50
            assert answer["subscriptions"]["ticking"] == COUNT
            assert sims.breaches == {}
            assert sims.call(lambda: sims["binance"].stats.streams) == COUNT
            assert running.end() == 0


def test_fifty_thousand_instruments_of_kite_tick_on_six_keys_without_a_breach(
    tmp_path: Path,
) -> None:
    secrets = Secrets(tmp_path)
    with instance() as name, street(["kite"], symbols=COUNT, rate=100) as sims:
        keys = [secrets.write("kite", key=key) for key in range(6)]
        text = venue_text(
            "kite",
            sims["kite"],
            symbols=COUNT,
            channels=["ticker"],
            credentials=keys,
            batch_size=200,
        )
        with daemon_on(
            tmp_path,
            name,
            text,
            feeds=2,
            rings=4,
            max_symbols=COUNT,
            buffer_size="1 MiB",
            secrets=secrets,
        ) as running:
            answer = status_when(name, all_tick, patience_s=120)
            assert len(answer["connections"]) == 17
            assert {each["key"] for each in answer["connections"]} == set(keys)
            assert sims.breaches == {}
            assert symbol_when(name, full("kite", COUNT - 1), lambda each: each["state"])["why"]
            assert running.end() == 0
