"""A consumer's hold on one life of an instance's segments: reader, native loop, buffers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar

from mdsys import _consume
from mdsys.consume.arguments import (
    boolean,
    choice,
    names,
    reader_name,
    ring_numbers,
    share,
    text,
    whole,
)
from mdsys.consume.attach import MarketData
from mdsys.consume.event import Watch
from mdsys.consume.place import memory_notice
from mdsys.consume.reader import POLICIES, WAITS, Reader
from mdsys.consume.route import Route, aligned_ticks
from mdsys.errors import UsageError
from mdsys.host.cores import CORE_COUNT_MAX

T = TypeVar("T")

DEFAULTS: Final[Mapping[str, Any]] = {
    "batch_size": 200,
    "adaptive": True,
    "threshold": 0.8,
    "max_queue_size": 10_000,
    "core": None,
}
"""Of [consumer] in a daemon's configuration, where there is no daemon."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a consumer was made with, see `Consumer`."""

    instance: str
    symbols: Sequence[str] | None
    rings: Sequence[int] | None
    name: str
    policy: str
    wait: str
    core: int | None
    batch_size: int | None
    adaptive_batching: bool | None
    backpressure_threshold: float | None
    max_queue_size: int | None

    @classmethod
    def checked(cls, **given: Any) -> Self:
        """Return them as they are kept; the rest needs the instance.

        Raises:
            UsageError: One of them is not what it should be.
        """
        core = _unless_none(whole, "core", given["core"], 0, CORE_COUNT_MAX - 1)
        symbols = _unless_none(names, "symbols", given["symbols"])
        if symbols == []:
            raise UsageError("symbols: none is named; leave it out for all")
        wait = "adaptive" if core is None else "spin"
        queue_size = _unless_none(whole, "max_queue_size", given["max_queue_size"], 1)
        threshold = given["backpressure_threshold"]
        return cls(
            text("instance", given["instance"], "the name of one, a string"),
            symbols,
            _unless_none(ring_numbers, "rings", given["rings"]),
            reader_name(given["name"]),
            choice("policy", given["policy"], POLICIES),
            choice("wait", wait if given["wait"] is None else given["wait"], WAITS),
            core,
            _unless_none(whole, "batch_size", given["batch_size"], 1, _consume.BATCH_MAX),
            _unless_none(boolean, "adaptive_batching", given["adaptive_batching"]),
            _unless_none(share, "backpressure_threshold", threshold),
            queue_size,
        )


def _unless_none(check: Callable[..., T], what: str, given: object, *bounds: int) -> T | None:
    return None if given is None else check(what, given, *bounds)


class Attachment:
    """One reader and all that belongs to it, at the head of its rings.

    Raises:
        NotRunning: There is no such instance, or not yet; or ``lossless``, and no daemon that could
            wait.
        UsageError: A symbol or a ring is not in it.
        HostError: ``lossless``, and the daemon refuses.
        LayoutError: It belongs to another version of mdsys.
    """

    def __init__(self, settings: Settings) -> None:
        market_data = MarketData(settings.instance)
        try:
            symbols = None if settings.symbols is None else market_data.match(settings.symbols)
            # Before the reader is there, so that a lossless one keeps nobody waiting.
            self.memory_notice = memory_notice(market_data, symbols, settings.rings)
            self.reader = reader = Reader(
                market_data,
                symbols,
                rings=settings.rings,
                policy=settings.policy,
                wait=settings.wait,
                name=settings.name,
                max_queue_size=settings.max_queue_size,
                backpressure_threshold=settings.backpressure_threshold,
                core=settings.core,
                defaults=DEFAULTS,
            )
        except BaseException:
            market_data.close()
            raise
        defaults = reader.defaults or DEFAULTS
        adaptive = settings.adaptive_batching
        self.market_data = market_data
        self.loop = reader.loop
        self.batch_max: int = settings.batch_size or defaults["batch_size"]
        self.adaptive: bool = defaults["adaptive"] if adaptive is None else adaptive
        self.core: int | None = defaults["core"] if settings.core is None else settings.core
        """To be pinned to."""
        room = self.batch_max * _consume.PRESSED_FACTOR
        if settings.policy == "conflate":  # a batch holds all that a backlog can be merged into
            symbol_count = len(market_data.symbols if symbols is None else symbols)
            merged_count = min(2 * symbol_count + 64, max(r.depth for r in market_data.rings))
            room = max(room, merged_count)
        room = min(room, _consume.BATCH_MAX)
        self.batch = aligned_ticks(max(room, 2))  # a refresh asks for two
        self.view = self.batch.view()
        """Of the batch, for handlers: not to be written."""
        self.view.flags.writeable = False
        self.loop.begin(self.batch, [], self.batch_max, self.adaptive)  # seen from now on
        self.begun = reader.cursors
        self.watch = Watch(reader)

    def begin(self, routes: Sequence[Route], *, iterating: bool) -> None:
        """Set the native loop up; a batch that is being handed out stays as it is.

        Raises:
            UsageError: A handler's name or glob matches no symbol.
        """
        rows = [route.row(self.market_data, len(self.batch)) for route in routes]
        if iterating:
            rows.append((0, None, 0, None, None))  # all goes to the iterator
        self.loop.begin(self.batch, rows, self.batch_max, self.adaptive)

    def has_read(self, heads: Mapping[int, int]) -> bool:
        """Return whether all up to these sequences is read and handled."""
        cursors = self.reader.cursors
        return self.loop.count == 0 and all(cursors[ring] > head for ring, head in heads.items())

    def is_over(self) -> bool:
        """Return whether the segments were replaced, and all in them is read."""
        return self.reader.superseded and self.has_read(self.reader.heads)

    def close(self) -> None:
        """Leave the registry and drop the mappings."""
        self.reader.close()
        self.market_data.close()
