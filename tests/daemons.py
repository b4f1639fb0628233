"""The real programs, for system tests: `mdsys run` on an instance of its own, and its venue.

Nothing waits by the clock: tests wait for a line of the daemon's log, for a record, or for an end.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

import mdsys
from mdsys.record.record import TICK, Ticks
from tests.instances import cleaned, new_name

PATIENCE_S = 30.0
"""A bound on every wait, far beyond what any of them takes: a test fails rather than hangs."""


def trade(symbol: str, trade_id: int, price: str = "61540.01") -> str:
    """Return a spot trade."""
    return (
        f'{{"e":"trade","E":1700000000001,"s":"{symbol}","t":{trade_id},"p":"{price}",'
        f'"q":"0.00212000","T":1700000000000,"m":true,"M":true}}'
    )


class VenueSocket:
    """One client's socket at the venue."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self.streams: list[str] = []
        self.news: queue.Queue[tuple[str, list[str]]] = queue.Queue()
        """(Method, streams) of each request that was granted."""
        self.subscribed = threading.Event()
        self.done = threading.Event()

    def send(self, *frames: str | bytes) -> None:
        """Send frames."""
        for frame in frames:
            self.socket.send(frame)

    def send_raw(self, data: bytes) -> None:
        """Send bytes that need be no frame."""
        self.socket.socket.sendall(data)

    def hang_up(self) -> None:
        """Reset the connection."""
        self.done.set()
        self.socket.socket.shutdown(2)


class Venue:
    """A venue that confirms what it is asked and sends what the test tells it to."""

    def __init__(self, refuse: Callable[[str], str | None] = lambda stream: None) -> None:
        self.sockets: queue.Queue[VenueSocket] = queue.Queue()
        self.url = ""
        self._refuse = refuse

    def next_socket(self) -> VenueSocket:
        """Return the next client that has subscribed."""
        socket = self.sockets.get(timeout=PATIENCE_S)
        assert socket.subscribed.wait(PATIENCE_S)
        return socket

    @contextlib.contextmanager
    def listening(self, port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[Venue]:
        """Serve on a port until the block ends."""
        with serve(
            self._talk, "127.0.0.1", port, ssl=tls, compression=None, ping_interval=None
        ) as server:
            number = server.socket.getsockname()[1]
            self.url = f"{'wss' if tls else 'ws'}://localhost:{number}"
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()

    def _talk(self, connection: ServerConnection) -> None:
        socket = VenueSocket(connection)
        self.sockets.put(socket)
        with contextlib.suppress(ConnectionClosed, OSError):
            for message in connection:
                request = json.loads(message)
                answer: dict[str, Any] = {"result": None, "id": request["id"]}
                for stream in request["params"]:
                    if words := self._refuse(stream):
                        answer = {"error": {"code": 2, "msg": words}, "id": request["id"]}
                connection.send(json.dumps(answer))
                if "error" in answer:
                    continue
                if request["method"] == "SUBSCRIBE":
                    socket.streams += request["params"]
                else:
                    socket.streams = [
                        each for each in socket.streams if each not in request["params"]
                    ]
                socket.news.put((request["method"], request["params"]))
                socket.subscribed.set()
        socket.done.set()


class Daemon:
    """A running `mdsys run`."""

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self.name = name
        self.process = process
        self.lines: list[str] = []
        self._ended = False
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def wait_for_line(self, pattern: str, nth: int = 1) -> re.Match[str]:
        """Return the ``nth`` match among the lines of the whole log, waiting for it."""
        deadline = time.monotonic() + PATIENCE_S
        with self._news:
            while True:
                found = [match for line in self.lines if (match := re.search(pattern, line))]
                if len(found) >= nth:
                    return found[nth - 1]
                if self._ended or not self._news.wait(deadline - time.monotonic()):
                    raise AssertionError(f"no line matches {pattern!r} in:\n{self.log}")

    def wait_ready(self) -> str:
        """Wait until all subscriptions are answered; return that line."""
        return self.wait_for_line(r"ready: .*").group()

    def feed_pid(self, feed: int = 0, life: int = 1) -> int:
        """Return the process id of a feed in one of its lives."""
        return int(self.wait_for_line(rf"feed {feed}: process (\d+)", life).group(1))

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; return the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Return the exit code once the program has ended and its log is read."""
        code = self.process.wait(PATIENCE_S)
        self._reader.join()
        return code

    @property
    def log(self) -> str:
        """All lines so far."""
        return "\n".join(self.lines)


def config_text(name: str, url: str, **keys: Any) -> str:
    """Return a small configuration; keys: symbols, feeds, rings, venue, channels, ..., extra.

    A lossless reader is waited for as long as can be, since here it may wait for its own core.
    """
    symbols = keys.get("symbols", ["BTCUSDT"])
    return f"""
instance = "{name}"
[rings]
num_buffers = {keys.get("rings", 1)}
buffer_size = "{keys.get("buffer_size", "64 KiB")}"
max_symbols = 64
[feeds]
num_processes = {keys.get("feeds", 1)}
[consumer]
lossless_wait_us = {keys.get("lossless_wait_us", 1_000_000)}
[[venue]]
name = "{keys.get("venue", "binance")}"
symbols = {json.dumps(symbols)}
channels = {json.dumps(keys.get("channels", ["trade"]))}
max_symbols_per_connection = {keys.get("per_connection", 100)}
url = "{url}"
{keys.get("extra", "")}
"""


@contextlib.contextmanager
def daemon(
    tmp_path: Path,
    url: str,
    *,
    name: str,
    environment: Mapping[str, str] | None = None,
    **keys: Any,
) -> Iterator[Daemon]:
    """Start a daemon; it is killed, if it still lives, when the block ends."""
    file = tmp_path / f"{name}.toml"
    file.write_text(config_text(name, url, **keys))
    process = subprocess.Popen(
        [sys.executable, "-m", "mdsys", "run", "--config", str(file)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    running = Daemon(name, process)
    try:
        yield running
    finally:
        process.kill()
        running.wait()
        assert process.stderr is not None
        process.stderr.close()


@contextlib.contextmanager
def instance() -> Iterator[str]:
    """Give a name, and remove its segments when the block ends."""
    with cleaned(new_name()) as name:
        yield name


def read_until(reader: mdsys.Reader, enough: Callable[[Ticks], bool]) -> Ticks:
    """Return all records a reader gives until they are enough."""
    ticks = reader.poll(timeout=PATIENCE_S)
    while not enough(ticks):
        more = reader.poll(timeout=PATIENCE_S)
        assert len(more), f"nothing more came after {ticks}"
        ticks = np.concatenate([ticks, more], dtype=TICK)
    return ticks


def trade_ids(ticks: Ticks) -> list[int]:
    """Return the ids of the trades, in order."""
    return [int(each) for each in ticks[ticks["kind"] == mdsys.Kind.TRADE]["trade_id"]]


def statuses(ticks: Ticks) -> list[mdsys.Status]:
    """Return what the status records tell, in order."""
    return [mdsys.Status(int(each["what"])) for each in ticks[ticks["kind"] == mdsys.Kind.STATUS]]
