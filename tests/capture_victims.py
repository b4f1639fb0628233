"""Feeds that are killed after every one of their stores while they are recorded.

``python -P -m tests.capture_victims FOLDER``, on the host of a chaos run (tests/chaos/host.py):
each life is a fork that dies after a chosen store. Prints one line of JSON: how often was killed
whom, and where the capture is not what the ring has.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import signal
import ssl
import struct
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

import mdsys
from mdsys import TICK, Kind, Status, _consume
from mdsys._listener import FrameListener
from mdsys.feed.transport import open_socket
from mdsys.record.record import Ticks
from tests.captures import kept, new_ring, replayed
from tests.chaos.host import COUNTDOWN, VICTIM
from tests.feeds import FeedMemory, Peer, frame, run, serving, trade

NAMES = ["BTCUSDT", "ETHUSDT"]
SIZE = 1 << 20
ALONE = (30, 100, 250, 0)
"""Where its successor is killed after each store, a feed dies after one of these alone: while it
takes over, tells, and publishes; 0: it ends by itself."""


class Stage:
    """What the lives share, and an eye on each ring from its first record on."""

    def __init__(self) -> None:
        self.feed = FeedMemory(NAMES, ring_count=len(NAMES))
        self.memory, self.recorder = new_ring(SIZE)
        self._pollers = [_consume.Poller([ring]) for ring in self.feed.rings]

    def published(self, ring: int, since: int) -> Ticks:
        """Return what was published in a ring, from a sequence on, without these."""
        out = np.zeros(1024, TICK)
        ticks = out[: self._pollers[ring].poll_into(out)]
        ticks = ticks[ticks["seq"] >= since]
        ticks["seq"] = 0
        return ticks


Life = Callable[[Stage], None]


def feed_life(stage: Stage) -> None:
    """Take over, tell the recorder, connect, read frames, lose the socket."""
    feed = stage.feed
    feed.take_over()
    feed.feed.capture(stage.memory)
    first = max(feed.cache.venue_ids(1)[0], 1)  # sent again, as a venue's snapshot would

    async def main() -> None:
        async def silent(peer: Peer) -> None:
            await peer.reader.read()

        async with serving(silent) as address:
            listener = FrameListener(feed.venue, 7, lambda _: None)
            tls = ssl.create_default_context()
            transport = await open_socket(f"ws://{address}", listener, tls=tls)
            protocol: Any = transport.underlying_transport.get_protocol()
            for number in range(2):
                for symbol in NAMES:
                    data = frame(trade(first + number, symbol=symbol))
                    protocol.get_buffer(-1)[: len(data)] = data
                    protocol.buffer_updated(len(data))
            feed.venue.symbol_refused(NAMES[0], 7)
            transport.disconnect(False)
            await transport.wait_disconnected()

    run(main())


def begun_life(stage: Stage) -> None:
    """Take over, and tell the recorder."""
    stage.feed.take_over()
    stage.feed.feed.capture(stage.memory)


class Host:
    """Kills forks of this process."""

    def __init__(self) -> None:
        with Path(os.environ["CHAOS_PAGE"]).open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), 0)

    def live(self, life: Life, stage: Stage, stores: int) -> bool:
        """Live a life; return whether it was killed after so many stores. 0: it shall not be."""
        pid = os.fork()
        if pid == 0:
            try:
                self._put(COUNTDOWN, stores)
                self._put(VICTIM, os.getppid() if stores else 0)  # whose number the library knows
                life(stage)
                self._put(VICTIM, 0)
                os._exit(0)
            except BaseException:  # noqa: BLE001 - a fork must not go on as its parent
                sys.excepthook(*sys.exc_info())
                os._exit(1)
        _, status = os.waitpid(pid, 0)
        self._put(VICTIM, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        assert killed or status == 0, f"a life ended with {status}"
        return killed

    def _put(self, at: int, value: int) -> None:
        self._page[at : at + 8] = struct.pack("<Q", value)


def faults(stage: Stage, folder: Path) -> Iterator[str]:
    """Give where the capture differs from what was published since it began."""
    kept(stage.recorder, folder)
    story = next(mdsys.open_capture(folder).source.stories())
    for ring, begun in enumerate(story[1]["rings"]):
        published = stage.published(ring, begun["next"])
        ticks, reader = replayed(folder, ring)
        if ticks.tobytes() != published.tobytes():
            yield f"ring {ring}: published {words(published)}, replayed {words(ticks)}"
        if reader.lost or reader.mismatches:
            yield f"ring {ring}: {reader.lost} lost, {reader.mismatches} mismatches"
    shutil.rmtree(folder)


def words(ticks: Ticks) -> str:
    """Return records in short: what of statuses, ids of trades."""
    return " ".join(
        Status(int(each["what"])).name if each["kind"] == Kind.STATUS else str(each["trade_id"])
        for each in ticks
    )


def play(host: Host, folder: Path, first: int, second: int) -> tuple[list[bool], list[str]]:
    """Have a feed die after a store, and its successor after one; the third one lives.

    Args:
        host: Kills.
        folder: For the capture.
        first: Store of the first feed; 0: it ends by itself, as killed in between two frames.
        second: Store of the second one; 0: there is none.

    Returns:
        Who was killed, and what is wrong.
    """
    stage = Stage()
    killed = [host.live(feed_life, stage, first)]
    if second:
        killed.append(host.live(begun_life, stage, second))
    host.live(feed_life, stage, 0)
    return killed, [f"{first}, {second}: {each}" for each in faults(stage, folder)]


def main() -> None:
    """Kill after every store, or one of so many."""
    folder, step = Path(sys.argv[1]) / "capture", int(sys.argv[2])
    host = Host()
    found: list[str] = []
    counts = [0, 0]
    for first in count(1, step):
        killed, wrong = play(host, folder, first, 0)
        found += wrong
        if not killed[0]:
            break
        counts[0] += 1
    for first in ALONE:
        for second in count(1, step):
            killed, wrong = play(host, folder, first, second)
            found += wrong
            if not killed[1]:
                break
            counts[1] += 1
    print(json.dumps({"killed": counts, "wrong": found}))


if __name__ == "__main__":
    main()
