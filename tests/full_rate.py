"""An instance whose ring is written at full rate, and whose registry is in this process.

native/tests/full_rate.c ─▶ ring 0 ─▶ readers
          ▲  └ reports              │ control socket
          └────── orders ── registry ◀┘
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from mdsys.daemon.feed_link import FeedLink
from mdsys.feed.report import MESSAGE_SIZE_MAX, read_message, report_pair
from mdsys.ring.segment import Instance
from tests.control import Server, serving
from tests.daemons import PATIENCE_S
from tests.instances import geometry, running
from tests.native import PROGRAMS, compile_program


@dataclass
class Published:
    """What the feed had published at some moment, by its own count."""

    answered: int
    """Commands."""
    published: int
    """The last sequence."""
    trades: list[int]
    """By symbol id."""
    statuses: list[int]
    """By symbol id; 0: of the whole ring."""
    ejected: int
    """Readers that it gave up."""
    waits: int
    """How often it waited for a reader."""
    ms: int
    """When that was, by its monotonic clock."""

    def concerning(self, symbol_id: int) -> int:
        """Return how many statuses concern one symbol or the ring."""
        return self.statuses[0] + self.statuses[symbol_id]


class FullRate:
    """The feed's process; it pauses at first."""

    def __init__(self, instance: Instance, server: Server, patience_ms: int) -> None:
        self.instance = instance
        self.server = server
        program = compile_program(PROGRAMS / "full_rate.c", flags=())
        self._commands = 0
        self._channel, theirs = report_pair()
        with theirs:
            self.process = subprocess.Popen(
                [program, instance.name, str(theirs.fileno()), str(patience_ms)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                pass_fds=(theirs.fileno(),),
            )
        server.call(self._start)

    def _start(self) -> None:
        self._link = FeedLink(self._channel, [0])
        self.server.readers.feed_started(0, self._link)
        self.server.loop.add_reader(self._channel, self._hear, self._channel)

    def _hear(self, channel: socket.socket) -> None:
        """Take what it reports, as the supervisor does."""
        data = channel.recv(MESSAGE_SIZE_MAX)
        if not data:
            self.server.loop.remove_reader(channel)
            return
        message = read_message(data)
        self.server.readers.note_ejected(message["reader"], message["ring"], message["sequence"])

    def _end(self) -> None:
        self.server.loop.remove_reader(self._channel)
        self.server.readers.feed_ended(0)
        self._link.close()
        self._channel.close()

    def _line(self) -> Published:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the feed ended"
        return Published(**json.loads(line))

    def _command(self, command: str) -> Published:
        assert self.process.stdin is not None
        self.process.stdin.write(command)
        self.process.stdin.flush()
        self._commands += 1
        while (last := self._line()).answered != self._commands:
            pass
        return last

    def go(self) -> Published:
        """Publish from now on."""
        return self._command("g")

    def pause(self) -> Published:
        """Publish no more; return what was published in all.

        By then it has obeyed all that the registry had told it before.
        """
        return self._command("p")

    def wait_for(self, count: int, seconds: float = 0) -> Published:
        """Wait until so much more is published, and so many seconds of its clock have passed."""
        first = last = self._line()
        while last.published - first.published < count or last.ms - first.ms < seconds * 1e3:
            last = self._line()
        return last

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        self.server.call(self._end)
        self.process.kill()
        self.process.communicate(timeout=PATIENCE_S)


@contextlib.contextmanager
def publishing(depth: int, patience_ms: int) -> Iterator[FullRate]:
    """Give an instance with such a feed, the symbols BINANCE:S1 to S3, and its registry."""
    with running(geometry(depth=depth), symbols=3) as instance, serving(instance) as server:
        feed = FullRate(instance, server, patience_ms)
        try:
            yield feed
        finally:
            feed.close()
