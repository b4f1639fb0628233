"""What a consumer tells of itself, and how it comes to know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mdsys.consume.reader import Reader
from mdsys.errors import HandlerError

EVENT_KINDS: Final = (
    "lost",
    "dropped",
    "pressed",
    "released",
    "conflating",
    "ejected",
    "restarted",
    "daemon_gone",
    "daemon_back",
    "reattached",
    "handler_failed",
)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a strategy may want to act on."""

    kind: str
    """One of EVENT_KINDS."""
    ring: int | None = None
    """Which one, where it is about one."""
    count: int = 0
    """Of records: of all events of a kind together exactly what `Consumer.stats` counts; of
    ``pressed`` how many rings, of ``restarted`` the ring's epoch."""
    text: str = ""
    """For people."""
    error: HandlerError | None = None
    """Of ``handler_failed``."""

    def __str__(self) -> str:
        return self.text


class Watch:
    """Finds out what has happened to a reader since the last look."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.registered = reader.registered
        """What was told last."""
        self._epochs = reader.epochs
        self._gone = dict.fromkeys(self._epochs, (0, 0))
        self._conflated = 0
        self._ejected: set[int] = set()
        self._pressed_count = 0
        self._pressed_times = 0

    def look(self) -> Iterator[Event]:
        """Give what is new, each once; registers again where a daemon has come back."""
        self._reader.keep_registered()
        yield from self._daemon()
        yield from self._writers()
        yield from self._pressed()
        yield from self._records()
        yield from self._released()

    def _daemon(self) -> Iterator[Event]:
        registered = self._reader.registered
        if registered == self.registered:
            return
        self.registered = registered
        if registered:
            self._ejected.clear()  # it is another reader now, with grants of its own
            yield Event("daemon_back", text="the daemon is back and knows this consumer")
        else:
            yield Event(
                "daemon_gone",
                text=f"the daemon is gone: {self._reader.not_registered or 'it has hung up'}",
            )

    def _writers(self) -> Iterator[Event]:
        for ring, epoch in self._reader.epochs.items():
            if epoch != self._epochs[ring]:
                first = self._epochs[ring] == 0  # of a new ring: nothing has gone on anew
                self._epochs[ring] = epoch
                if not first:
                    yield Event("restarted", ring, epoch, f"ring {ring} has a new writer")
        for ring, sequence in self._reader.ejected.items():
            if ring not in self._ejected:
                self._ejected.add(ring)
                text = (
                    f"ring {ring}: too slow, so its writer no longer waits for this consumer, "
                    f"from sequence {sequence} on"
                )
                yield Event("ejected", ring, text=text)

    def _pressed(self) -> Iterator[Event]:
        times = self._reader.page.counters()["pressed"]
        if times != self._pressed_times:
            self._pressed_times = times
            self._pressed_count = max(self._reader.loop.pressed_count, 1)
            yield Event("pressed", None, self._pressed_count, "the lag is past the threshold")

    def _released(self) -> Iterator[Event]:
        count = self._reader.loop.pressed_count
        if self._pressed_count and not count:
            yield Event("released", text="the lag is below the threshold again")
        self._pressed_count = count

    def _records(self) -> Iterator[Event]:
        conflated = self._reader.conflated
        if conflated != self._conflated:
            count, self._conflated = conflated - self._conflated, conflated
            yield Event("conflating", None, count, f"{count} records were merged into others")
        page = self._reader.page
        for ring, (lost, dropped) in self._gone.items():
            _, lost_now, dropped_now, _ = page.place(ring)
            self._gone[ring] = lost_now, dropped_now
            if count := dropped_now - dropped:
                yield Event(
                    "dropped", ring, count, f"ring {ring}: too slow, {count} records were skipped"
                )
            if count := lost_now - lost:
                yield Event(
                    "lost", ring, count, f"ring {ring}: {count} records were overwritten unread"
                )
