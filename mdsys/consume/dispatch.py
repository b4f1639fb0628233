"""Hands batches to Python's handlers, and does with failures of any as was asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from mdsys.consume.attachment import Attachment
from mdsys.consume.event import Event
from mdsys.consume.failure import FailureLog, failure
from mdsys.consume.route import Route
from mdsys.errors import UsageError
from mdsys.record.record import TICK, Ticks

TIME, BATCH, STOP, FAILED, NEWS = range(5)
"""Of enum md_consumer_result."""
ON_ERROR: Final = ("stop", "skip")


class Dispatch:
    """The handlers of a consumer.

    When something is raised out of it, be it Ctrl-C, it is called again with the same batch and
    goes on with the next handler, or behind the tick.
    """

    def __init__(self, on_error: str, tell: Callable[[Event], object]) -> None:
        if on_error not in ON_ERROR:
            raise UsageError(f"on_error {on_error!r}: one of {', '.join(ON_ERROR)}")
        self.routes: list[Route] = []
        self._stops = on_error == "stop"
        self._tell = tell
        self._failures = FailureLog()
        self.forget()

    def forget(self) -> None:
        """Another batch is at hand."""
        self._turn = 0
        """The handler whose turn it is."""
        self._at = 0
        """The next record of its batch, of one that gets them singly."""

    def hand_out(self, attachment: Attachment, *, iterating: bool) -> Iterator[Ticks]:
        """Call Python's handlers with the loop's batch, and yield it where iterating."""
        loop = attachment.loop
        for index in range(self._turn, len(self.routes)):
            route = self.routes[index]
            if route.native:
                continue
            records = route.records(loop, index, attachment.view)
            if route.per == "batch":
                self._turn = index + 1
                if len(records):
                    self._call(attachment, route, records, records)
                continue
            self._turn = index
            for at in range(self._at, len(records)):
                self._at = at + 1
                self._call(attachment, route, records[at], records[at : at + 1])
            self._turn, self._at = index + 1, 0
        try:
            if iterating:
                yield attachment.view[: loop.count]
        finally:
            self.forget()
            loop.done()

    def load(self, attachment: Attachment, count: int, *, iterating: bool) -> Iterator[Ticks]:
        """Give all handlers the first ``count`` records of the batch's room, put there by us."""
        attachment.loop.load(count)
        while (result := attachment.loop.dispatch()) == FAILED:
            self.native_failed(attachment)
        if result == BATCH:
            yield from self.hand_out(attachment, iterating=iterating)

    def _call(self, attachment: Attachment, route: Route, what: Any, records: Ticks) -> None:
        try:
            route.call(what)
        except Exception as error:  # noqa: BLE001 - a strategy's; on_error says what to do
            attachment.loop.count_handler_error()
            self._failed(attachment, route, records, error)

    def native_failed(self, attachment: Attachment) -> None:
        """The loop has come back with a failure."""
        index, record = attachment.loop.failure
        route = self.routes[index]
        if route.fails_whole:
            records = route.records(attachment.loop, index, attachment.view)
        else:
            records = np.frombuffer(record, TICK)
        self._failed(attachment, route, records, None)

    def _failed(
        self, attachment: Attachment, route: Route, records: Ticks, cause: Exception | None
    ) -> None:
        error = failure(attachment.market_data, route, records.copy(), cause)
        if self._stops:
            raise error from error.__cause__
        self._failures.report(route.name, error)
        self._tell(Event("handler_failed", None, 1, str(error), error))
