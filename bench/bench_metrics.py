"""How long does a scrape take, and how long does it hold up everybody else?

    scraper  --HTTP-->  MetricsServer, Exporter: the supervisor's own, in a process like it
    another  --pings->  the same loop

64 rings, 4 feeds, 50 connections, 8 readers of all rings; every histogram has values all over.

* ``metrics.scrape``: from the request to the last byte, as Prometheus asks (gzip), the text made
  anew each time; the yardstick is the 20 ms that it may take.
* ``metrics.scrape_cpu``: what one costs its process, in CPU time: tells on a busy machine, too.
* ``metrics.scrape_64``, ``metrics.scrape_64_cpu``: the same two with 64 readers of all 64 rings,
  the most that there may be: 15,000 samples. The yardstick is 100 ms: no goal, but absurd beyond.
* ``metrics.loop``: a ping's way there and back while scrapes follow one another without pause, the
  99th percentile; the yardstick is the same without scrapes. A scrape every 15 s holds the loop up
  for a thousandth of the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import http.client
import itertools
import mmap
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.lib import ROOT, Context, Pair, Result, fail, summarise
from mdsys import _native
from mdsys.config import Consumer
from mdsys.daemon.limiter import Limiter
from mdsys.daemon.readers import READER_COUNT_MAX, Peer, Readers
from mdsys.metrics.exporter import Exporter
from mdsys.metrics.server import MetricsServer, listen
from mdsys.ring.lock import start_ticks
from mdsys.ring.segment import ROOT_DIR, Geometry, Instance, open_instance, remove_segments

SCRAPE, CPU, LOOP = "metrics.scrape", "metrics.scrape_cpu", "metrics.loop"
SCRAPE_64, CPU_64 = "metrics.scrape_64", "metrics.scrape_64_cpu"
NAMES = (SCRAPE, CPU, LOOP, SCRAPE_64, CPU_64)
RINGS, FEEDS, CONNECTIONS, READERS = 64, 4, 50, 8
SCRAPE_MAX_MS, SCRAPE_64_MAX_MS = 20.0, 100.0
CONNECTION_STRIDE = 128
PAGE_HISTOGRAMS_OFFSET = 4256


def run(context: Context) -> list[Result]:
    """Scrape, ping, and both at once."""
    with _served(READERS) as (pid, port, echo):
        size = len(_scrape(port)[1])
        if size < 10_000:
            fail(f"metrics: a scrape of {size} bytes")
        quiet_ms = _pings(echo, context.seconds / 4)
        scrapes: list[float] = []
        done = threading.Event()
        thread = threading.Thread(target=_scrape_until, args=(port, done, scrapes))
        thread.start()
        busy_ms = _pings(echo, context.seconds / 4)
        done.set()
        thread.join()
        alone, cpu_ms = _alone(pid, port, context.seconds / 4)
    context.notice(f"metrics: {size} bytes gzipped; {len(scrapes)} scrapes beside the pings")
    with _served(READER_COUNT_MAX) as (pid, port, _):
        context.notice(f"metrics: {len(_scrape(port)[1])} bytes gzipped of {READER_COUNT_MAX}")
        many, many_cpu_ms = _alone(pid, port, context.seconds / 4)
    return [
        summarise(SCRAPE, "ms", "what it may take", [Pair(ms, SCRAPE_MAX_MS) for ms in alone]),
        summarise(CPU, "ms", "what it may take", [Pair(cpu_ms, SCRAPE_MAX_MS)]),
        summarise(SCRAPE_64, "ms", "what it may take", [Pair(ms, SCRAPE_64_MAX_MS) for ms in many]),
        summarise(CPU_64, "ms", "what it may take", [Pair(many_cpu_ms, SCRAPE_64_MAX_MS)]),
        summarise(LOOP, "ms", "p99 without scrapes", [Pair(_p99(busy_ms), _p99(quiet_ms))]),
    ]


def _alone(pid: int, port: int, seconds: float) -> tuple[list[float], float]:
    """Return what each scrape took, and one its process on average, in ms."""
    end = time.monotonic() + seconds
    cpu_ms = _cpu_ms(pid)
    times = [_scrape(port)[0]]
    while time.monotonic() < end:
        times.append(_scrape(port)[0])
    return times, (_cpu_ms(pid) - cpu_ms) / len(times)


def _cpu_ms(pid: int) -> float:
    """Return the CPU time of all threads of a process so far."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6


def _p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


def _scrape(port: int) -> tuple[float, bytes]:
    """Return how long it took, in ms, and what came."""
    began = time.perf_counter()
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as client:
        client.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
        answer = client.getresponse()
        body = answer.read()
    if answer.status != http.client.OK:
        fail(f"metrics: HTTP {answer.status}")
    return (time.perf_counter() - began) * 1e3, body


def _scrape_until(port: int, done: threading.Event, times: list[float]) -> None:
    while not done.is_set():
        times.append(_scrape(port)[0])


def _pings(port: int, seconds: float) -> list[float]:
    """Return the ways there and back, in ms."""
    times: list[float] = []
    end = time.monotonic() + seconds
    with socket.create_connection(("127.0.0.1", port)) as client:
        while time.monotonic() < end:
            began = time.perf_counter()
            client.sendall(b"x")
            client.recv(1)
            times.append((time.perf_counter() - began) * 1e3)
            time.sleep(0.001)
    return times


# ---- the process that is scraped -----------------------------------------------------------------


@contextlib.contextmanager
def _served(readers: int) -> Iterator[tuple[int, int, int]]:
    """Give the process, and the ports of the numbers and of the echo."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.bench_metrics", str(readers)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            port, echo = map(int, process.stdout.readline().split())
            yield process.pid, port, echo
        finally:
            assert process.stdin is not None
            process.stdin.close()  # it removes what it has made, and ends


def serve(reader_count: int) -> None:
    """Be the scraped process until stdin ends."""
    name = f"bench-metrics-{os.getpid()}"
    shape = Geometry(RINGS, 64, 64, FEEDS, ROOT_DIR)
    instance = open_instance(name, shape, group=None, pid=os.getpid(), now_ns=time.time_ns())
    try:
        _fill(instance)
        consumer = Consumer(10, True, 0.5, 1_000, {}, 1_000)  # noqa: FBT003 - as configured
        readers = Readers(instance.rings, consumer, epoch=1)
        for number in range(reader_count):
            request = {"op": "register", "name": f"reader-{number}", "policy": "drop_oldest"}
            wish = {"wait": "park", "rings": list(range(RINGS))}
            peer = Peer(os.getpid(), os.getuid(), start_ticks(os.getpid()))
            _, fd = readers.register(request | wish, peer)
            _fill_page(fd, number)
        asyncio.run(_serve(Exporter(name, readers, Limiter(), dict)))
    finally:
        remove_segments(name)
        instance.lock.remove()


async def _serve(exporter: Exporter) -> None:
    never_fresh = itertools.count(step=10)
    server = MetricsServer(listen("127.0.0.1:0"), exporter.gather, lambda: float(next(never_fresh)))
    await server.start()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(64):
            writer.write(data)
        writer.close()

    other = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.url.rsplit(":", 1)[1].partition("/")[0]
    print(port, other.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    other.close()
    await server.close()


def _fill(instance: Instance) -> None:
    """Write what feeds would write: counters, histograms, connections."""
    random = np.random.default_rng(1)
    counters = instance.counters
    for feed in range(FEEDS):
        words = len(counters.block(feed)) // 8
        block = np.ctypeslib.as_array(
            (ctypes.c_uint64 * words).from_address(counters.block_address(feed))
        )
        block[:] = random.integers(1, 1_000, words)
        address = counters.connection_address(feed)
        for place in range(feed, CONNECTIONS, FEEDS):
            at = address + place // FEEDS * CONNECTION_STRIDE
            (ctypes.c_uint32 * 2).from_address(at)[:] = (place + 1, 3)  # number, state ready
            (ctypes.c_int64 * 8).from_address(at + 8)[:] = [time.time_ns()] * 3 + [99] * 5


def _fill_page(fd: int, seed: int) -> None:
    """Write what a reader would into the histograms of its page, and close it."""
    with mmap.mmap(fd, os.fstat(fd).st_size) as memory:
        os.close(fd)
        whole = b"".join(_native.ReaderPage(memory).histograms().values())
        values = np.random.default_rng(seed).integers(1, 1_000, len(whole) // 8, np.uint64)
        memory[PAGE_HISTOGRAMS_OFFSET : PAGE_HISTOGRAMS_OFFSET + len(whole)] = values.tobytes()
        if b"".join(_native.ReaderPage(memory).histograms().values()) != values.tobytes():
            fail("metrics: a reader's page has its histograms elsewhere")


if __name__ == "__main__":
    serve(int(sys.argv[1]))
