"""What one scrape is made of: the daemon's own part in its loop, all the rest in a thread."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import asdict
from typing import Final

from mdsys.clock import SYSTEM_CLOCK, Clock
from mdsys.counters.counters import Histogram
from mdsys.counters.picture import Observer, Picture, Row, Told
from mdsys.counters.windows import Windows
from mdsys.daemon.limiter import Limiter
from mdsys.daemon.readers import Readers
from mdsys.metrics.collector import PictureCollector
from mdsys.metrics.text import to_text

STEP_NS: Final = 15_000_000_000
"""Between two readings that are kept for the last minute: of 64 readers one is 3 MB."""


class Exporter:
    """Makes the text of an instance, for ``MetricsServer``.

    What is the last minute for the quantiles is read at scrapes: it reaches back to the last one
    that is a minute old, or to the daemon's start.

    Args:
        instance: Its name; its segments are there.
        readers: The registry.
        limiter: The venues' limits.
        silence_limits_ns: Returns how long each connection that is up may be silent, by number.
        clock: Tells when.
    """

    def __init__(
        self,
        instance: str,
        readers: Readers,
        limiter: Limiter,
        silence_limits_ns: Callable[[], Mapping[int, int]],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._observer = Observer(instance, clock)
        self._readers = readers
        self._limiter = limiter
        self._silence_limits_ns = silence_limits_ns
        self._windows = Windows(step_ns=STEP_NS)
        self._note(self._observer.take(Told()))

    def gather(self) -> Callable[[], Iterator[bytes]]:
        """Take what only the loop may look at; what is returned makes the text, in any thread."""
        told = Told(
            self._readers.rows(),
            [asdict(usage) for usage in self._limiter.usage()],
            silence_limits_ns=self._silence_limits_ns(),
        )
        return lambda: self._render(told)

    def _render(self, told: Told) -> Iterator[bytes]:
        picture = self._observer.take(told)
        self._note(picture)
        return to_text(PictureCollector(picture, self._last_minute).collect())

    def _note(self, picture: Picture) -> None:
        self._windows.note(
            picture.taken_ns,
            {
                _key(row, field): histogram
                for rows in picture.rows.values()
                for row in rows
                for field, histogram in row.histograms.items()
            },
        )

    def _last_minute(self, row: Row, field: str) -> Histogram:
        return self._windows.over(_key(row, field), row.histograms[field])


def _key(row: Row, field: str) -> Hashable:
    return (*row.labels.items(), field)
