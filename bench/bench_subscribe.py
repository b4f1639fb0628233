"""How long until 50,000 symbols are subscribed, and until they are back when a feed is killed?

    mdsys sim: Binance's limits, enforced  <--50 sockets--  mdsys run, 4 feeds;  both cores

At most five messages a second on a socket, 50 symbols each, 1,000 symbols a socket: 20 messages,
which cannot take less than three seconds (`least_s` in full.py). The bench fails if the venue saw a
limit broken.

* ``subscribe.50000``: from the first socket that is open until the venue has confirmed all: what
  the limits are about.
* ``subscribe.50000_from_asking``: the same from asking the running daemon for 50,000 symbols by
  the control socket, so with their placement.
* ``subscribe.50000_from_start``: from the start of the program, interpreters and all.
* ``kill.first_tick``: from kill -9 of a feed to the first fresh tick in one of its rings; the
  yardstick is the second that it may take.
* ``kill.all_confirmed``: until all of its symbols are confirmed again. Its connections come back
  at ten a second, mdsys' own limit against storms.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import numpy as np

import mdsys
from bench.full import PATIENCE_S, SYMBOLS, Full, full, least_s, symbol_names
from bench.lib import Context, Pair, Result, fail, summarise
from mdsys import Kind, Status

ALL = "subscribe.50000"
FROM_ASKING = "subscribe.50000_from_asking"
FROM_START = "subscribe.50000_from_start"
FIRST_TICK = "kill.first_tick"
ALL_CONFIRMED = "kill.all_confirmed"
NAMES = (ALL, FROM_ASKING, FROM_START, FIRST_TICK, ALL_CONFIRMED)
LEAST = "the least that the limits allow"
KILLS = 3
FIRST_TICK_MAX_MS = 1000.0
STABLE_S = 6.0
"""A feed that lives for five is started anew at once."""


def run(context: Context) -> list[Result]:
    """Subscribe at run time, then kill feeds; then start with everything."""
    results: list[Result] = []
    with full() as programs:
        if any(context.wants(name) for name in NAMES if name != FROM_START):
            results += at_run_time(programs)
            if context.wants(FIRST_TICK) or context.wants(ALL_CONFIRMED):
                results += killed(programs)
            programs.stop()
        if context.wants(FROM_START):
            began = time.monotonic()
            programs.start(symbol_names())
            seconds, least = confirmed(began, programs)
            results.insert(2, summarise(FROM_START, "s", LEAST, [Pair(seconds, least)]))
    return results


def at_run_time(programs: Full) -> list[Result]:
    """Ask a running daemon for all but the one symbol that it has."""
    first, *others = symbol_names()
    programs.start([first])
    programs.until_confirmed(1)
    began = time.monotonic()
    answer = programs.control.subscribe(f"BINANCE:{name}" for name in others)
    if answer["accepted"] != len(others):
        fail(f"subscribe: {answer}")
    seconds, least = confirmed(began, programs)
    return [
        summarise(ALL, "s", LEAST, [Pair(programs.subscribing_s(), least)]),
        summarise(FROM_ASKING, "s", LEAST, [Pair(seconds, least)]),
    ]


def confirmed(began: float, programs: Full) -> tuple[float, float]:
    """Wait until everything is confirmed; return how long it took, and the least."""
    state = programs.until_confirmed(SYMBOLS)
    seconds = time.monotonic() - began
    if state["subscriptions"]["confirmed"] != SYMBOLS:
        fail(f"subscribe: {state['subscriptions']}")
    return seconds, least_s(SYMBOLS, len(state["connections"]), reconnects=False)


def killed(programs: Full) -> list[Result]:
    """Kill feeds, one after the other."""
    first: list[Pair] = []
    back: list[Pair] = []
    for number in range(KILLS):
        time.sleep(STABLE_S)
        state = programs.control.status()
        feed = state["feeds"][number % len(state["feeds"])]
        own = [each for each in state["connections"] if each["feed"] == feed["feed"]]
        least = least_s(sum(each["symbols"] for each in own), len(own), reconnects=True)
        began = time.monotonic()
        first_ms = 1e3 * (kill(programs, feed) - began)
        programs.until_confirmed(SYMBOLS)
        first.append(Pair(first_ms, FIRST_TICK_MAX_MS))
        back.append(Pair(time.monotonic() - began, least))
    return [
        summarise(FIRST_TICK, "ms", "what it may take", first),
        summarise(ALL_CONFIRMED, "s", LEAST, back),
    ]


def kill(programs: Full, feed: dict[str, Any]) -> float:
    """Kill a feed; return when the first fresh tick of its successor had been read."""
    with mdsys.attach(programs.instance) as md:
        rings = [ring.index for ring in md.rings if ring.feed == feed["feed"]]
        reader = md.reader(rings=rings, wait="spin")
        os.kill(feed["pid"], signal.SIGKILL)
        restarted = False
        ticks = reader.poll()
        deadline = time.monotonic() + PATIENCE_S
        while not restarted or not np.any(ticks["kind"] == Kind.TRADE):
            if time.monotonic() > deadline:
                fail("kill: no fresh tick came")
            ticks = reader.poll(timeout=1.0)
            seen = time.monotonic()
            told = ticks["what"] == Status.WRITER_RESTARTED
            told = np.flatnonzero((ticks["kind"] == Kind.STATUS) & told)
            if len(told) and not restarted:
                restarted = True
                ticks = ticks[told[0] :]
        reader.close()
        return seen
