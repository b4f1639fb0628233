"""Venue, daemon and consumer: started in order, watched, ended in order, and cleaned up after.

    venue ──ws──▶ daemon ──rings──▶ consumer
      └────────────── this process ──────┘   words by pipes, numbers by shared memory

The end goes the way of the ticks: the venue stops and closes, the daemon has then read all of it
and stops, and the consumer reads to the heads of rings that nobody writes any more. So the sums
must balance to the last record.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from mdsys import _native
from mdsys.consume.attach import MarketData, attach
from mdsys.counters.counters import PERCENTILES, read_counters, total
from mdsys.demo.child import Child, ChildDied
from mdsys.demo.consumer import summary
from mdsys.errors import InstanceInUse, MdsysError, NoPermission
from mdsys.ring.lock import Lock
from mdsys.ring.segment import ROOT_DIR, instances, map_file, remove_segments, segment_path

SYMBOLS: Final = (
    *("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT", "DOGEUSDT", "ADAUSDT", "TRXUSDT"),
    *("AVAXUSDT", "LINKUSDT", "DOTUSDT", "LTCUSDT", "BCHUSDT", "NEARUSDT", "UNIUSDT", "ATOMUSDT"),
    *("XLMUSDT", "ETCUSDT", "FILUSDT", "AAVEUSDT"),
)
RATE: Final = 20_000
"""Messages a second; a message holds one record or, of a book, several."""
SEED: Final = 243_963
"""With it the simulator's bitcoin and ether happen to start near real prices."""
SPARE_CORES_MIN: Final = 4
"""With fewer, a spinning process would take a core that the others need."""
START_SECONDS_MAX: Final = 60.0
END_SECONDS_MAX: Final = 15.0

HOPS: Final = ("recv_to_ring", "recv_to_reader")
NO_LATENCY: Final[Mapping[str, int | None]] = dict.fromkeys((*PERCENTILES, "max"))
_DECODE_ERRORS: Final = (
    "frames_malformed",
    "frames_unknown_event",
    "frames_unknown_symbol",
    "frames_value_refused",
    "frames_too_long",
    "frames_binary",
    "frames_protocol",
)


@dataclass(frozen=True, slots=True)
class RingFigures:
    """One ring."""

    ring: int
    symbols: int
    published: int
    depth: int
    behind: int
    """Records that the consumer had still to read when it last spoke."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What there is to show, since the market began."""

    seconds: float
    symbols: int
    sent: int
    """Records that the venue has sent; 0 until it has ended."""
    published: int
    received: int
    lost: int
    duplicates: int
    """Records of the venue that a book's snapshot had brought already."""
    snapshot_levels: int
    """Level records of whole books; the other records are the venue's, or statuses."""
    statuses: int
    gaps: int
    decode_errors: int
    latency_ns: Mapping[str, Mapping[str, int | None]]
    """By hop: p50, p99, p999, max."""
    rings: Sequence[RingFigures]
    movers: Sequence[Mapping[str, Any]]
    spins: bool

    @property
    def ticks_per_second(self) -> float:
        """Records published a second, on average."""
        return self.published / self.seconds if self.seconds else 0.0

    @property
    def balanced(self) -> bool:
        """Whether every record is accounted for; meant for the end."""
        return self.received + self.lost == self.published


class Stage:
    """The demo's three processes. An asynchronous context manager: the market runs inside."""

    def __init__(self) -> None:
        self.instance = f"demo-{os.getpid()}"
        cores = sorted(os.sched_getaffinity(0))
        self._spins = len(cores) >= SPARE_CORES_MIN
        self._consumer_core, self._feed_core = cores[-2:] if self._spins else (0, 0)
        self._children: list[Child] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._seen: dict[str, Any] = {}
        self._sent = 0
        self._deaths: asyncio.Future[ChildDied] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> Self:
        """Start everything, the market last.

        Raises:
            ChildDied: A process did not come up.
        """
        remove_leftovers()
        try:
            async with asyncio.timeout(START_SECONDS_MAX):
                await self._start()
        except BaseException as error:
            await self.__aexit__(None, None, None)
            if isinstance(error, TimeoutError):
                seconds = f"{START_SECONDS_MAX:.0f} s"
                raise MdsysError(f"the demo did not start within {seconds}") from None
            raise
        return self

    async def _start(self) -> None:
        self._venue = await self._child(
            "venue",
            *("mdsys.demo.venue", "--rate", str(RATE), "--seed", str(SEED), *SYMBOLS),
        )
        url = (await self._venue.hear())["url"]
        await self._start_daemon(url)
        self._market_data: MarketData = attach(self.instance)
        self._counters = _native.Counters(
            map_file(segment_path(ROOT_DIR, self.instance, "counters"))
        )
        spin = ["--core", str(self._consumer_core)] if self._spins else []
        self._consumer = await self._child(
            "consumer", "mdsys.demo.consumer", "--instance", self.instance, *spin
        )
        cursors = (await self._consumer.hear())["cursors"]
        self._heads_before = {int(ring): cursor - 1 for ring, cursor in cursors.items()}
        self._listening = asyncio.create_task(self._listen())
        self._tasks = [asyncio.create_task(self._watch(child)) for child in self._children]
        self._venue.tell("start")
        self._began = time.monotonic()
        self._ended: float | None = None

    async def _child(self, name: str, *arguments: str, **options: Any) -> Child:
        child = await Child.start(name, *arguments, **options)
        self._children.append(child)
        return child

    async def _start_daemon(self, url: str) -> None:
        """Start the daemon, its config in a memory file: nothing to remove, whatever happens."""
        ready = asyncio.Event()

        def on_log(line: str) -> None:
            if ": ready: " in line:
                ready.set()

        with os.fdopen(os.memfd_create("mdsys-demo-config"), "wb") as config:
            config.write(self._config(url).encode())
            config.flush()
            self._daemon = await self._child(
                "daemon",
                *("mdsys", "run", "--config", f"/proc/self/fd/{config.fileno()}"),
                pass_fds=(config.fileno(),),
                on_log=on_log,
            )
            waits = [
                asyncio.create_task(ready.wait()),
                asyncio.create_task(self._daemon.ended()),
            ]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
        if not ready.is_set():
            raise await self._daemon.death()

    def _config(self, url: str) -> str:
        cores = f"cores = [{self._feed_core}]" if self._spins else ""
        return f"""
            instance = "{self.instance}"
            [rings]
            num_buffers = 4
            buffer_size = "4 MiB"
            max_symbols = 64
            [feeds]
            num_processes = 1
            {cores}
            [[venue]]
            name = "binance"
            symbols = {json.dumps(SYMBOLS)}
            channels = ["trade", "quote", "book"]
            url = "{url}"
        """

    async def _listen(self) -> None:
        with contextlib.suppress(ChildDied):  # `_watch` tells of it
            while True:
                self._seen = await self._consumer.hear()

    async def _watch(self, child: Child) -> None:
        error = await child.death()
        if not self._deaths.done():
            self._deaths.set_result(error)

    async def died(self) -> ChildDied:
        """Wait until one of the processes ends that should not."""
        return await asyncio.shield(self._deaths)

    async def end(self) -> Figures:
        """End in order and return the final figures.

        Raises:
            MdsysError: A process did not end in time, or not well.
        """
        self._ended = time.monotonic()
        for task in self._tasks:
            task.cancel()  # from here on they are meant to end
        try:
            async with asyncio.timeout(END_SECONDS_MAX):
                self._venue.finish()
                self._sent = (await self._venue.hear())["sent"]
                self._daemon.terminate()
                if await self._daemon.ended() != 0:
                    raise await self._daemon.death()
                self._consumer.finish()
                await self._listening
                if await self._consumer.ended() != 0:
                    raise await self._consumer.death()
        except TimeoutError:
            raise MdsysError(f"the demo did not end within {END_SECONDS_MAX:.0f} s") from None
        return self.figures()

    def figures(self) -> Figures:
        """Return the figures as they are now; exact after the end."""
        now = time.monotonic() if self._ended is None else self._ended
        counters = total(read_counters(self._counters))
        seen = self._seen
        behind = {int(ring): count for ring, count in seen.get("behind", {}).items()}
        symbols = self._market_data.symbols.values()
        rings = [
            RingFigures(
                ring=ring.index,
                symbols=sum(symbol.ring == ring.index for symbol in symbols),
                published=ring.head - self._heads_before[ring.index],
                depth=ring.depth,
                behind=behind.get(ring.index, 0),
            )
            for ring in self._market_data.rings
        ]
        return Figures(
            seconds=now - self._began,
            symbols=len(symbols),
            sent=self._sent,
            published=sum(ring.published for ring in rings),
            received=seen.get("received", 0),
            lost=seen.get("lost", 0),
            duplicates=counters.counters["duplicates"],
            snapshot_levels=seen.get("snapshot_levels", 0),
            statuses=seen.get("statuses", 0),
            gaps=counters.counters["gaps"],
            decode_errors=sum(counters.counters[name] for name in _DECODE_ERRORS),
            latency_ns={
                HOPS[0]: summary(counters.histograms[HOPS[0]]),
                HOPS[1]: seen.get("latency_ns", NO_LATENCY),
            },
            rings=rings,
            movers=seen.get("movers", []),
            spins=self._spins,
        )

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Kill what still runs and remove every segment, however impatient the user is."""
        cleaning = asyncio.create_task(self._clean_up())
        while not cleaning.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(cleaning)
        cleaning.result()

    async def _clean_up(self) -> None:
        for task in self._tasks:
            task.cancel()
        for child in self._children:
            await child.kill()
        remove_instance(self.instance)


def remove_instance(name: str, *, orphan_wait: float = 5.0) -> None:
    """Remove an instance's segments and its lock file.

    Raises:
        InstanceInUse: A daemon holds it.
    """
    lock = Lock.take(name, orphan_wait=orphan_wait)
    try:
        remove_segments(name)
    finally:
        lock.remove()


def remove_leftovers() -> None:
    """Remove the segments of demos that were killed and could not do so themselves."""
    for name in instances():
        pid = re.fullmatch(r"demo-(\d+)", name)
        if pid and not Path("/proc", pid[1]).exists():
            with contextlib.suppress(InstanceInUse, NoPermission):
                remove_instance(name, orphan_wait=0.0)
