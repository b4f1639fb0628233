"""A daemon on simulated venues: simulators in a thread of this process, ``mdsys run`` beside them.

Nothing waits by the clock: tests wait for what a simulator counts, for a record, for a line of the
log, or for what the daemon's control socket answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import uvloop

import mdsys
from mdsys.feed.venue import Limits
from mdsys.sim import RandomMarket, Simulator
from mdsys.sim.faults import Fault
from mdsys.sim.source import Spec
from tests.daemons import PATIENCE_S, Daemon

T = TypeVar("T")

ALL = (
    *("binance", "binance_usdm", "binance_coinm", "kraken", "coinbase_exchange"),
    *("coinbase_advanced", "kite", "alpaca", "massive", "openalgo"),
)
"""Every venue there is."""

CHANNELS: Mapping[str, tuple[str, ...]] = {
    "kite": ("quote", "book", "ticker"),
    "alpaca": ("trade", "quote"),
    "massive": ("trade", "quote"),
    "openalgo": ("quote", "book", "ticker"),
}
"""Those that the simulator's market feeds; of the others trade, quote and book."""

FIELDS: Mapping[str, tuple[str, ...]] = {
    "kite": ("api_key", "access_token"),
    "alpaca": ("key", "secret"),
    "massive": ("key",),
    "openalgo": ("api_key",),
}
"""Venue -> the fields of its credential."""

TOKEN: Mapping[str, str] = {venue: fields[-1] for venue, fields in FIELDS.items()} | {
    "alpaca": "key"
}
"""The field that a simulator knows as the secret, and lets expire."""

SOLITARY = frozenset({"alpaca", "massive"})
"""They allow one socket."""


def channels(venue: str) -> tuple[str, ...]:
    """Return what is subscribed at a venue."""
    return CHANNELS.get(venue, ("trade", "quote", "book"))


def native(venue: str, index: int) -> str:
    """Return the venue's own name of a symbol of the market."""
    prefix = "NSE:" if venue in ("kite", "openalgo") else ""
    return f"{prefix}SYM{index:06d}"


def full(venue: str, index: int) -> str:
    """Return VENUE:SYMBOL."""
    return f"{venue.upper()}:{native(venue, index)}"


# ---- the venues ---------------------------------------------------------------------------------


class Street:
    """Simulators by venue, on a loop of their own."""

    def __init__(self) -> None:
        self.sims: dict[str, Simulator] = {}
        self.told: dict[str, list[str]] = {}
        """What each has said of faults and broken limits."""
        self._loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run)

    def __getitem__(self, venue: str) -> Simulator:
        return self.sims[venue]

    def __iter__(self) -> Iterator[str]:
        return iter(self.sims)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def wait(self, work: Coroutine[Any, Any, T], patience_s: float = PATIENCE_S) -> T:
        """Return what a coroutine returns, run in the simulators' loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(patience_s)

    def call(self, function: Callable[[], T]) -> T:
        """Return what a function returns, called there."""

        async def work() -> T:
            return function()

        return self.wait(work())

    def inject(self, venue: str, fault: str, **options: Any) -> Fault:
        """Let something go wrong at a venue now."""
        return self.call(lambda: self.sims[venue].inject(fault, **options))

    def lift(self, venue: str, fault: Fault) -> None:
        """End that."""
        self.call(lambda: self.sims[venue].lift(fault))

    def until(self, venue: str, is_so: Callable[[Simulator], bool]) -> None:
        """Wait until something is so at a venue."""
        sim = self.sims[venue]
        self.wait(sim.until(lambda: is_so(sim)))

    @property
    def breaches(self) -> dict[str, list[str]]:
        """What was broken where: ``connection 3: messages: more than 5 within 1 s``."""
        return self.call(
            lambda: {
                venue: [f"connection {b.connection}: {b.what}: {b.words}" for b in sim.breaches]
                for venue, sim in self.sims.items()
                if sim.breaches
            }
        )

    async def _open(self, venue: str, market: Spec, keys: dict[str, Any]) -> None:
        told: list[str] = []
        sim = Simulator(market, venue=venue, tell=told.append, **keys)
        await sim.__aenter__()
        self.sims[venue], self.told[venue] = sim, told

    async def _close(self) -> None:
        for sim in self.sims.values():
            await sim.__aexit__(None, None, None)


@contextlib.contextmanager
def street(
    venues: Collection[str],
    *,
    symbols: int | Mapping[str, int] = 2,
    rate: int = 100,
    limits: Mapping[str, Limits] | None = None,
    secrets: Mapping[str, Collection[str]] | None = None,
    faults: Mapping[str, str] | None = None,
    mix: tuple[int, int, int] = (30, 50, 20),
    markets: Mapping[str, Spec] | None = None,
) -> Iterator[Street]:
    """Simulate venues until the block ends.

    Args:
        venues: Which.
        symbols: Of each market; or by venue.
        rate: Events a second of each.
        limits: Venue -> instead of its own.
        secrets: Venue -> the keys or tokens that it takes; the others take any.
        faults: Venue -> what goes wrong from the start on.
        mix: Percents of trades, quotes and depth frames.
        markets: Venue -> its market, instead of one of the above.
    """
    made = Street()
    made._thread.start()
    try:
        for venue in venues:
            count = symbols if isinstance(symbols, int) else symbols[venue]
            market = (markets or {}).get(venue) or RandomMarket(count, rate=rate, seed=11, mix=mix)
            keys: dict[str, Any] = {
                "limits": (limits or {}).get(venue),
                "secrets": (secrets or {}).get(venue),
                "faults": (faults or {}).get(venue, ""),
                "seed": 5,
            }
            made.wait(made._open(venue, market, keys))
        yield made
    finally:
        try:
            made.wait(made._close())
        finally:
            made._loop.call_soon_threadsafe(made._loop.stop)
            made._thread.join(PATIENCE_S)


# ---- secrets ------------------------------------------------------------------------------------


class Secrets:
    """Credential files under a folder, where a daemon with ``environment`` looks for them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "config" / "mdsys" / "credentials"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.environment = {"XDG_CONFIG_HOME": str(folder / "config")}
        self.values: set[str] = set()
        """Every value that was ever written."""

    def write(self, venue: str, word: str = "good", key: int = 0) -> str:
        """Write the credential of a venue, and return its name.

        Its values are ``word-VENUE-FIELD-KEY`` with a tail that is found nowhere by chance.
        """
        values = {field: secret(venue, word, key, field) for field in FIELDS[venue]}
        self.values |= set(values.values())
        name = f"{venue}_{key}"
        path = self._folder / name
        path.touch(mode=0o600)
        path.write_text("".join(f'{field} = "{value}"\n' for field, value in values.items()))
        return name


def secret(venue: str, word: str = "good", key: int = 0, field: str = "") -> str:
    """Return a value of a credential; without a field, the one that the simulator knows."""
    return f"{word}-{venue}-{field or TOKEN[venue]}-{key}-q7Zx"


# ---- the daemon ---------------------------------------------------------------------------------


def venue_text(venue: str, sim: Simulator | None = None, **keys: Any) -> str:
    """Return a [[venue]]; keys: symbols (a list, or how many), channels, credentials, others."""
    symbols = keys.pop("symbols", 2)
    if isinstance(symbols, int):
        symbols = [native(venue, index) for index in range(symbols)]
    given = {
        "symbols": symbols,
        "channels": list(channels(venue)),
        **({} if sim is None else _addresses(venue, sim)),
        **keys,
    }
    lines = "\n".join(f"{key} = {_toml(value)}" for key, value in given.items())
    return f'[[venue]]\nname = "{venue}"\n{lines}\n'


def _addresses(venue: str, sim: Simulator) -> dict[str, str]:
    asks = venue.startswith("binance") or venue == "kite"
    return {"url": sim.url, **({"rest_url": sim.rest_url} if asks else {})}


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {_toml(each)}' for key, each in value.items())}}}"
    return json.dumps(value)


@contextlib.contextmanager
def daemon_on(
    tmp_path: Path,
    name: str,
    *tables: str,
    feeds: int = 1,
    rings: int = 1,
    buffer_size: str = "4 MiB",
    max_symbols: int = 256,
    secrets: Secrets | None = None,
    within: Sequence[str] = (),
) -> Iterator[Daemon]:
    """Run a daemon on some [[venue]] tables; it is killed, if it still lives, in the end.

    ``within`` is a command that runs it elsewhere: ``nsenter ..``.
    """
    file = tmp_path / f"{name}.toml"
    file.write_text(
        f'instance = "{name}"\n[rings]\nnum_buffers = {rings}\nbuffer_size = "{buffer_size}"\n'
        f"max_symbols = {max_symbols}\n[feeds]\nnum_processes = {feeds}\n" + "".join(tables)
    )
    process = subprocess.Popen(
        [*within, sys.executable, "-m", "mdsys", "run", "--config", str(file)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(secrets.environment if secrets else {})},
    )
    running = Daemon(name, process)
    try:
        running.wait_for_line("control socket")
        yield running
    finally:
        process.kill()
        running.wait()
        assert process.stderr is not None
        process.stderr.close()


def status_when(
    name: str, enough: Callable[[dict[str, Any]], bool], patience_s: float = PATIENCE_S
) -> dict[str, Any]:
    """Return the daemon's first state that is enough."""
    control = mdsys.control(name)
    deadline = time.monotonic() + patience_s
    while not enough(answer := control.status()):
        assert time.monotonic() < deadline, json.dumps(answer, indent=1)
        _breathe()
    return answer


def symbol_when(name: str, symbol: str, enough: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Return the first state of one symbol that is enough."""
    control = mdsys.control(name)
    deadline = time.monotonic() + PATIENCE_S
    while not enough(answer := control.status(symbol)):
        assert time.monotonic() < deadline, json.dumps(answer, indent=1)
        _breathe()
    return answer


def _breathe() -> None:
    """Leave the core to those who are asked; no test's outcome hangs on it."""
    time.sleep(0.02)


def all_tick(answer: Mapping[str, Any]) -> bool:
    """Whether everything that is wanted ticks."""
    funnel = answer["subscriptions"]
    return bool(funnel["desired"] == funnel["ticking"] > 0)


def connections_of(answer: Mapping[str, Any], venue: str) -> list[dict[str, Any]]:
    """Return a venue's connections in the daemon's state."""
    return [each for each in answer["connections"] if each["venue"] == venue]
