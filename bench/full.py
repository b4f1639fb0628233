"""Venue and daemon as programs, at full size: what `bench_subscribe` measures.

mdsys sim (holds to Binance's limits) <--TCP, 50 sockets--> mdsys run: supervisor, 4 feeds
                                                               ^ control socket: this process
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mdsys
from bench.lib import ROOT, fail

SYMBOLS = 50_000
CONNECTIONS = 50
FEEDS = 4
BATCH = 50
"""Symbols of a subscribe message."""
MESSAGES_A_SECOND = 5
"""Binance's limit for what is sent on one socket."""
RECONNECTS_A_SECOND = 10
"""mdsys' own, of one venue: no storm when all is lost at once."""
RATE = 20_000
PATIENCE_S = 120.0


def least_s(symbols: int, connections: int, *, reconnects: bool) -> float:
    """Return the least time that the limits allow, if nothing else took any.

    So many messages are a burst, and the next burst goes when its window is over: the last message
    of n goes after (n - 1) // 5 seconds. All connections at once, but those that were lost come
    back ten a second, and the last then has all its messages to send.
    """
    messages = -(-symbols // connections // BATCH)
    waits_s = (messages - 1) // MESSAGES_A_SECOND
    if reconnects:
        waits_s += (connections - 1) // RECONNECTS_A_SECOND
    return float(waits_s)


def symbol_names() -> list[str]:
    """Return the simulated venue's symbols."""
    return [f"SYM{number:06d}" for number in range(SYMBOLS)]


class Full:
    """The two programs. What is written into ``logs`` is theirs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.instance = f"bench-full-{os.getpid()}"
        self._sim_log = folder / "sim.log"
        with self._sim_log.open("wb") as log:
            self._sim = subprocess.Popen(
                [
                    *(sys.executable, "-m", "mdsys", "sim", "--venue", "binance"),
                    *("--listen", "127.0.0.1:0", "--symbols", str(SYMBOLS), "--rate", str(RATE)),
                ],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._sim.stdout is not None
        found = re.search(r"ws://\S+", self._sim.stdout.readline())
        assert found, "the simulator does not listen"
        self._url = found.group()
        self._daemon: subprocess.Popen[bytes] | None = None

    @property
    def control(self) -> mdsys.Control:
        """The daemon's."""
        return mdsys.control(self.instance)

    def start(self, symbols: list[str]) -> None:
        """Start the daemon with these symbols."""
        (self._folder / "symbols").write_text("\n".join(symbols))
        config = self._folder / "config.toml"
        config.write_text(
            f"""
            instance = "{self.instance}"
            rings = {{num_buffers = 8, buffer_size = "2 MiB", max_symbols = 65536}}
            feeds = {{num_processes = {FEEDS}}}
            [[venue]]
            name = "binance"
            symbols_file = "{self._folder / "symbols"}"
            channels = ["trade"]
            max_symbols_per_connection = {SYMBOLS // CONNECTIONS}
            batch_size = {BATCH}
            url = "{self._url}"
            """
        )
        with (self._folder / "run.log").open("ab") as log:
            self._daemon = subprocess.Popen(
                [sys.executable, "-m", "mdsys", "run", "--config", str(config)],
                cwd=ROOT,
                stderr=log,
            )

    def until(
        self, enough: Callable[[dict[str, Any]], bool], *, every_s: float = 0.02
    ) -> dict[str, Any]:
        """Ask for the daemon's state until it is enough; return it."""
        deadline = time.monotonic() + PATIENCE_S
        state: dict[str, Any] = {}
        while True:
            with contextlib.suppress(mdsys.NotRunning, mdsys.LayoutError):  # it is starting
                state = self.control.status()
                if enough(state):
                    return state
            if time.monotonic() > deadline:
                counts = state.get("subscriptions", "it never answered")
                fail(f"not there after {PATIENCE_S:.0f} s: {counts}; {self._log_end()}")
            time.sleep(every_s)

    def until_confirmed(self, count: int) -> dict[str, Any]:
        """Wait until so many symbols are confirmed, and none is refused."""
        return self.until(
            lambda state: (
                state["subscriptions"]["confirmed"] == count
                or state["subscriptions"]["refused"] > 0
            )
        )

    def subscribing_s(self) -> float:
        """Return how long it took from the first socket that opened for many to the last answer."""
        times: dict[str, list[datetime]] = {"up": [], "confirmed": []}
        for line in self._log().splitlines():
            found = re.search(r"^(\S+)Z .* connection (\d+): (up|\d+ streams confirmed)", line)
            if found and found[2] != "1":  # which was there before
                times[found[3].split()[-1]].append(datetime.fromisoformat(found[1]))
        if not len(times["up"]) == len(times["confirmed"]) == CONNECTIONS - 1:
            fail(
                f"of {CONNECTIONS - 1} connections {len(times['up'])} came up, "
                f"{len(times['confirmed'])} were confirmed, by the log; {self._log_end()}"
            )
        return (max(times["confirmed"]) - min(times["up"])).total_seconds()

    def _log(self) -> str:
        return (self._folder / "run.log").read_text()

    def _log_end(self) -> str:
        return f"the daemon's log ends with {self._log()[-2000:]}"

    def stop(self) -> None:
        """End the daemon and remove its segments."""
        if self._daemon is None:
            return
        self._daemon.send_signal(signal.SIGTERM)
        self._daemon.wait(PATIENCE_S)
        self._daemon = None
        subprocess.run(
            [sys.executable, "-m", "mdsys", "clean", "--instance", self.instance],
            cwd=ROOT,
            check=False,
            capture_output=True,
        )

    def close(self) -> None:
        """End both; fail when a limit was broken."""
        self.stop()
        self._sim.send_signal(signal.SIGINT)
        self._sim.wait(PATIENCE_S)
        assert self._sim.stdout is not None
        self._sim.stdout.close()
        if " 0 limits broken" not in self._sim_log.read_text().splitlines()[-1]:
            fail(f"limits were broken: {self._sim_log.read_text()[-2000:]}")


@contextlib.contextmanager
def full() -> Iterator[Full]:
    """Give the programs; they are gone when the block ends."""
    with TemporaryDirectory(prefix="mdsys-bench-") as name:
        programs = Full(Path(name))
        try:
            yield programs
        finally:
            programs.close()
