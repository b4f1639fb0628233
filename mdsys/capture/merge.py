"""Several feeds' entries in one order: receive time, connection, frame."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from mdsys._capture import Engine, Sink
from mdsys.capture.format import CaptureError
from mdsys.capture.source import FeedStream, Source, Stream
from mdsys.errors import LayoutError

NEVER: Final = (1 << 63) - 1
LAST: Final = (1 << 32) - 1
OnSymbol = Callable[[str, int, int, int, int], tuple[int, int] | None]
Target = tuple[int, int, int, list[int]]
"""Of ``Engine``'s ``feed``."""


class _Track:
    """One stream and its engine; ``next`` is the place of its next entry in the order of all."""

    def __init__(
        self,
        index: int,
        stream: Stream,
        start_ns: int,
        on_symbol: OnSymbol,
        sink: Sink | None,
        rings: Collection[int] | None,
        target: Target | None,
    ) -> None:
        self.index = index
        self._stream = stream
        self.engine = Engine(self._begin, on_symbol, sink, rings, target)
        self._blocks = stream.blocks(start_ns)
        self._block = b""
        self._offset = 0
        self.next: tuple[int, int, int] = (0, 0, index)
        self._load()

    def _begin(self, told: dict[str, Any]) -> tuple[Mapping[int, int], bool]:
        if isinstance(self._stream, FeedStream) and not self._stream.is_joined:
            self.engine.broken = True  # nothing tells what was missed
        life = self._stream.begin(told)
        return life.left, life.same

    def _load(self) -> None:
        if self._offset == len(self._block):
            self._block = next(self._blocks, b"")
            self._offset = 0
            if not self._block:
                self.next = (NEVER, LAST, self.index)
                return
            self.engine.peek(self._block, 0)
        self.next = (self.engine.next_ns, self.engine.next_connection, self.index)

    def run(self, until_ns: int, until_connection: int) -> None:
        try:
            self._offset = self.engine.run(self._block, self._offset, until_ns, until_connection)
        except (
            LayoutError,
            ArithmeticError,
            AttributeError,
            LookupError,
            TypeError,
            ValueError,
        ) as error:
            raise CaptureError(f"{self._stream}: damaged: {error!r}") from error
        self._load()


class Merge:
    """All streams of a source, decoded in order.

    Args:
        source: What.
        on_symbol: As of ``Engine``.
        start_ns: From when on records are wanted; what is before is decoded without them.
        sink: As of ``Engine``.
        rings: As of ``Engine``.
        targets: Of each stream, as ``Engine``'s ``feed``; None: into the sink.
    """

    def __init__(
        self,
        source: Source,
        on_symbol: OnSymbol,
        *,
        start_ns: int = 0,
        sink: Sink | None = None,
        rings: Collection[int] | None = None,
        targets: list[Target] | None = None,
    ) -> None:
        self._start_ns = start_ns
        self._sink = sink
        self._tracks = [
            _Track(i, stream, start_ns, on_symbol, sink, rings, targets[i] if targets else None)
            for i, stream in enumerate(source.streams)
        ]

    @property
    def next_ns(self) -> int:
        """When the next entry was received; NEVER: there is no other."""
        return min((track.next[0] for track in self._tracks), default=NEVER)

    @property
    def engines(self) -> list[Engine]:
        """Of the streams, for what they have counted."""
        return [track.engine for track in self._tracks]

    def run(self, until_ns: int) -> bool:
        """Decode some entries that were received up to ``until_ns``; return whether there was one.

        Raises:
            CaptureError: The next file is none, or damaged.
            MdsysError: An entry is.
        """
        if len(self._tracks) == 1:
            (track,) = self._tracks
            bound: tuple[int, int, int] = (NEVER, LAST, 0)
        else:
            track, other = sorted(self._tracks, key=lambda each: each.next)[:2]
            bound = other.next
        if track.next[0] > until_ns or track.next[0] == NEVER:
            return False
        last, connection, _ = bound
        if bound[2] < track.index:  # of two at the same place the first stream's comes first
            last, connection = (last, connection - 1) if connection else (last - 1, LAST)
        if last > until_ns:
            last, connection = until_ns, LAST
        if self._sink is not None:
            self._sink.open = track.next[0] >= self._start_ns
            if not self._sink.open and last >= self._start_ns:
                last, connection = self._start_ns - 1, LAST
        track.run(last, connection)
        return True
