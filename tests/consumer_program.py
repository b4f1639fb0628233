"""A consumer as a program of its own, for tests that pull its daemon away from under it.

    python -m tests.consumer_program INSTANCE POLICY WAIT python|numba|c [LIBRARY] [SYMBOL]

Prints a JSON object a line: that it is attached, each event, and when SIGTERM has ended it, its
stats, how many records of each kind its handler got, and the statuses, where the handler is
Python's. Of little patience (QUEUE), so that its policy acts. LIBRARY: native/tests/count_kinds.c.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

import numpy as np

import mdsys
from mdsys import Consumer, Event, Kind
from mdsys.record.record import Ticks

QUEUE: dict[str, Any] = {"max_queue_size": 64, "backpressure_threshold": 0.5}
KIND_COUNT = 32


def say(**fields: Any) -> None:
    """Print a line."""
    print(json.dumps(fields), flush=True)


def on_event(event: Event) -> None:
    """Tell of an event."""
    say(event=event.kind, ring=event.ring, count=event.count)


def count_native(tick: Any, state: Any) -> None:
    """Count a record by its kind: for Numba."""
    state[tick.kind] += 1


def told_of(ticks: Ticks) -> list[tuple[int, ...]]:
    """Return the statuses among some ticks, their time first and then what they tell."""
    told = ticks[ticks["kind"] == Kind.STATUS]
    fields = ("ts_recv", "what", "symbol_id", "first_lost", "last_lost")
    return list(zip(*(told[name].tolist() for name in fields), strict=True))


def main(instance: str, policy: str, wait: str, handler: str, *rest: str) -> None:
    """Consume until SIGTERM."""
    counts = np.zeros(KIND_COUNT, np.int64)
    statuses: list[tuple[int, ...]] = []

    def count(ticks: Ticks) -> None:
        np.add.at(counts, ticks["kind"], 1)
        statuses.extend(told_of(ticks))

    symbols = list(rest)
    handlers: dict[str, Any] = {"python": count, "numba": mdsys.handler(count_native)}
    if handler == "c":
        function = ctypes.CDLL(symbols.pop(0)).count_kinds
        handlers["c"] = mdsys.native_handler(function, counts)
    consumer = Consumer(
        instance,
        symbols=symbols or None,
        name=f"{policy}-{handler}",
        policy=policy,
        wait=wait,
        on_event=on_event,
        **({} if policy == "lossless" else QUEUE),
    )
    consumer.on(handlers[handler], state=counts if handler == "numba" else None)
    with consumer:
        say(event="attached", cursors=consumer.stats()["cursors"])
        consumer.run()
        say(event="ended", stats=consumer.stats(), counts=counts.tolist(), statuses=statuses)


if __name__ == "__main__":
    main(*sys.argv[1:])
