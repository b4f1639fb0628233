"""The recorder: takes what the feeds copy, and writes it into files that rotate.

It looks into the rings every few milliseconds and never holds a feed up: what it does not fetch in
time the feed drops and counts, and the file says how much is missing where.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import os
import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mdsys import __version__
from mdsys._capture import CaptureRing
from mdsys.capture.format import FileWriter, Kind, file_name, json_entry, newest_ns
from mdsys.errors import HostError, NotRunning
from mdsys.ring.control_socket import NoDaemon, Question, ask, connect
from mdsys.ring.door import open_door
from mdsys.wording import plural

LOOK_S: Final = 0.005
"""Between two looks at rings that were empty: 64 MiB last longer at any rate."""
DRAIN_SIZE: Final = 4 << 20
FLUSH_S: Final = 0.5
LAST_WORDS_S: Final = 2.0
"""How long the last feed of a daemon that ended may go on after the first."""
FIND_S: Final = 0.25
"""Between two attempts to find the next daemon."""
FILE_SIZE: Final = 1 << 30
"""Bytes on the disk after which the next file begins."""
_DAY_NS: Final = 86_400 * 10**9
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


@dataclass(slots=True)
class Counts:
    """What one recorder has done."""

    frames: int = 0
    raw_size: int = 0
    lost: int = 0
    """Entries that are missing, frames nearly all of them."""
    files: list[Path] = field(default_factory=list)
    written: int = 0
    """Bytes in files that are closed."""
    newest_ns: int = 0
    """When the newest file began."""

    def next_ns(self, now_ns: int) -> int:
        """Return when the next file begins: later than those before, though the clock was set back.

        By this files are read in the order in which they were written.
        """
        self.newest_ns = max(now_ns, self.newest_ns + 1)
        return self.newest_ns


class _FeedTape:
    """One feed being recorded: its ring, and the file that it goes into.

    Raises:
        NoDaemon: It has ended.
        HostError: It refuses: somebody records the feed already.
    """

    def __init__(
        self, connection: socket.socket, feed: int, out: Path, counts: Counts, file_size: int
    ) -> None:
        self.connection = connection
        self.feed = feed
        self.feed_count = 0
        self.gone = False
        self._out = out
        self._counts = counts
        self._file_size = file_size
        self._file: FileWriter | None = None
        self._begun = False
        """Whether the file has its BEGIN."""
        self._day = 0
        self._question: Question | None = None
        self._asked = False
        """Whether the feed has been asked to begin anew, and has not yet."""
        self._lost_told = 0
        try:
            answer, fds = ask(connection, {"op": "record", "feed": feed}, fd_count=1)
            try:
                if len(fds) != 1 or fcntl.fcntl(fds[0], fcntl.F_GET_SEALS) & _SEALS != _SEALS:
                    raise HostError(f"the daemon gave no ring for feed {feed}")
                self.ring = CaptureRing(mmap.mmap(fds[0], os.fstat(fds[0]).st_size))
            finally:
                for fd in fds:
                    os.close(fd)
            self._note(answer)
            self.feed_count = answer["feeds"]
        except BaseException:
            connection.close()
            raise

    def _note(self, answer: dict[str, Any]) -> None:
        self._head = {
            "mdsys": __version__,
            "instance": answer.get("instance", ""),
            "feed": self.feed,
            "connections": answer["connections"],
        }

    @property
    def size(self) -> int:
        """Bytes of the file in hand."""
        return 0 if self._file is None else self._file.size

    def take(self) -> bool:
        """Write what has come; return whether there was anything."""
        data, frames, missing, begins = self.ring.drain(DRAIN_SIZE)
        if begins and (self._file is None or self._begun):
            self._next_file()
        if missing:
            self._tell_loss(missing)
        if not data:
            return False
        if self._file is None:  # its BEGIN found no room; the feed tells it again
            self._next_file()
        assert self._file is not None
        self._begun |= begins
        self._file.write(data)
        self._counts.frames += frames
        self._counts.raw_size += len(data)
        self._rotate_when_due()
        return True

    def _tell_loss(self, missing: int) -> None:
        self._counts.lost += missing
        self._lost_told += missing
        if self._file is None:
            self._next_file()
        assert self._file is not None
        self._file.write(json_entry(Kind.LOSS, {"entries": missing}, time.time_ns()))

    def _next_file(self) -> None:
        self.close("goes on in the next file")
        now_ns = time.time_ns()
        began_ns = self._counts.next_ns(now_ns)
        path = self._out / file_name(self._head["instance"], self.feed, began_ns)
        self._file = FileWriter(path, {**self._head, "began_ns": began_ns})
        self._counts.files.append(self._file.path)
        self._begun = self._asked = False
        self._day = now_ns // _DAY_NS

    def _rotate_when_due(self) -> None:
        """Have the feed begin anew where the file is full or the day over.

        It goes on in the next file once it has, since each begins with all a decoder must know.
        """
        if self._asked or not self._begun or self._file is None:
            return
        if self._file.size >= self._file_size or time.time_ns() // _DAY_NS != self._day:
            self._asked = True
            with suppress(NoDaemon):  # told by `watch`
                self._question = Question(
                    self.connection, {"op": "record_again", "feed": self.feed}
                )

    def watch(self) -> None:
        """Read what the daemon says; note when it is gone."""
        try:
            if self._question is not None:
                answer = self._question.answer(0)
                if answer is not None:
                    self._question = None
                    self._head["connections"] = answer[0]["connections"]
            else:
                self.connection.settimeout(0)
                self.gone |= not self.connection.recv(1)
        except BlockingIOError:
            pass
        except (NoDaemon, OSError):
            self.gone = True

    def flush(self) -> None:
        """Make what was written readable."""
        self._rotate_when_due()
        if self._file is not None:
            self._file.flush()

    def close(self, why: str) -> None:
        """End the file in hand."""
        if self._file is not None:
            file, self._file = self._file, None
            file.close(why)
            self._counts.written += file.size

    def finish(self, why: str) -> None:
        """Write what is still in the ring, and end."""
        self._asked = True  # there is no next file, however full this one gets
        while self.take():
            pass
        if (missing := self.ring.lost[0] - self._lost_told) > 0:
            self._tell_loss(missing)
        self.close(why)

    def hang_up(self) -> None:
        """Have the feed copy no more; a file in hand stays as it stands."""
        self.connection.close()
        if self._file is not None:
            self._file.abandon()


class Recorder:
    """Records one instance until it is told to stop, through restarts of feeds and daemon.

    Args:
        instance: Which.
        out: The directory; made if need be.
        file_size: Bytes of a file after which the next begins.
        say: Called with a line for people.

    Raises:
        OSError: The directory cannot be made.
    """

    def __init__(
        self,
        instance: str,
        out: Path,
        *,
        file_size: int = FILE_SIZE,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.counts = Counts(newest_ns=newest_ns(out, instance))
        self._instance = instance
        self._out = out
        self._file_size = file_size
        self._say = say
        self._tapes: list[_FeedTape] = []
        self._end_s = math.inf
        """When those that are left are taken for gone too."""
        self._stop = False
        self._lost_said = 0

    def stop(self) -> None:
        """Have ``run`` return soon; from a signal's handler or another thread."""
        self._stop = True

    def run(self) -> None:
        """Record.

        Raises:
            NotRunning: No daemon can be reached, at first.
            HostError: It refuses.
            OSError: The disk is full, say; what is written is readable.
        """
        self._begin()
        flush_s = find_s = 0.0
        try:
            while not self._stop:
                if not self._tapes:
                    if time.monotonic() >= find_s:
                        find_s = time.monotonic() + FIND_S
                        with suppress(NotRunning, HostError):
                            self._begin()
                    time.sleep(0 if self._tapes else LOOK_S)
                    continue
                busy = [tape.take() for tape in self._tapes]
                self._watch(0 if any(busy) else LOOK_S)
                if time.monotonic() >= flush_s:
                    flush_s = time.monotonic() + FLUSH_S
                    for tape in self._tapes:
                        tape.flush()
                    self._say_losses()
            self._end("the recorder was stopped")
        finally:
            for tape in self._tapes:
                tape.hang_up()

    def _begin(self) -> None:
        writer_pid = open_door(self._instance).writer_pid
        tapes: list[_FeedTape] = []
        feed_count = 1
        try:
            while len(tapes) < feed_count:
                tapes.append(
                    _FeedTape(
                        connect(self._instance, writer_pid),
                        len(tapes),
                        self._out,
                        self.counts,
                        self._file_size,
                    )
                )
                feed_count = tapes[0].feed_count
        except NoDaemon as error:
            for tape in tapes:
                tape.hang_up()
            raise NotRunning(f"{error}; start it with mdsys run --config FILE") from None
        except BaseException:
            for tape in tapes:
                tape.hang_up()
            raise
        self._tapes = tapes
        feeds = plural(feed_count, "feed")
        self._say(f"recording {feeds} of instance {self._instance}, into {self._out}")

    def _watch(self, timeout_s: float) -> None:
        """Wait a moment; see whether the daemon is gone."""
        lasting = [tape for tape in self._tapes if not tape.gone]
        ready, _, _ = select.select([tape.connection for tape in lasting], [], [], timeout_s)
        for tape in lasting:
            if tape.connection in ready:
                tape.watch()
        gone = [tape.gone for tape in self._tapes]
        if any(gone) and self._end_s == math.inf:
            self._end_s = time.monotonic() + LAST_WORDS_S
        if all(gone) or time.monotonic() > self._end_s:
            self._end("the daemon ended")
            self._say(f"instance {self._instance} has ended; waiting for its next start")

    def _end(self, why: str) -> None:
        """Write what there is, and let go of the rings."""
        for tape in self._tapes:
            tape.connection.close()  # the feed copies no more
        for tape in self._tapes:
            tape.finish(why)
        self._tapes = []
        self._end_s = math.inf

    def _say_losses(self) -> None:
        if self.counts.lost > self._lost_said:
            self._say(
                f"{self.counts.lost - self._lost_said:,} frames lost: they came faster than they "
                "could be written"
            )
            self._lost_said = self.counts.lost

    def progress(self) -> str:
        """Return what was done so far, in words."""
        size = self.counts.written + sum(tape.size for tape in self._tapes)
        return (
            f"{self.counts.frames:,} frames, {self.counts.raw_size / 1e6:,.1f} MB, "
            f"{size / 1e6:,.1f} MB on disk in {plural(len(self.counts.files), 'file')}, "
            f"{self.counts.lost:,} lost"
        )
