"""The upper part: who it is, how it fares, how much comes, and how long that takes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final

from mdsys.top.columns import latency, per_second
from mdsys.top.history import SECONDS, History, Latency
from mdsys.top.lines import Line, Lines, Piece, put
from mdsys.top.source import Look
from mdsys.wording import byte_count, plural, span, spark

HOPS: Final[Mapping[str, str]] = {
    "event_to_recv": "venue → socket",
    "recv_to_decode": "socket → decoder",
    "decode_to_ring": "decoder → ring",
    "ring_to_flush": "ring → readers rung",
    "recv_to_ring": "socket → ring",
    "recv_to_read": "socket → reader",
    "recv_to_handler": "socket → handler",
    "event_to_handler": "venue → handler",
    "handler": "in the handler",
    "wake_up": "bell → awake",
}
"""In the order of a tick's way, and so they are shown; one that is not named here goes last, by its
own name. Of the readers, all together."""
ALWAYS: Final = ("event_to_recv", "recv_to_ring")
"""Of the other hops those that anything has ever gone over."""
NEEDED: Final = ("recv_to_ring", "recv_to_handler", "recv_to_read", "event_to_recv")
"""In a low terminal, where there is not room for all hops, these stay longest, in this order."""
STREAM_STATES: Final = ("desired", "requested", "confirmed", "ticking", "refused")
_HOP_WIDTH: Final = 20
_VALUE_WIDTH: Final = 9
_VALUES: Final = (("p50", 0), ("p99", 1), ("p99.9", 3), ("most", 2))
"""Titles; where there is not room for all, those with the greatest numbers go first."""
_BARS_MIN: Final = 10
_PEAK_SHARE: Final = 0.6
"""Of a bar's height, a second as full as the fullest: a steady rate is a band, and no block."""
DEAD: Final = "daemon gone, segments as it left them"


class Head(Lines):
    """Draws the newest of a history."""

    def __init__(self) -> None:
        super().__init__(id="head")
        self._history: History | None = None
        self._latencies: Mapping[str, Latency] = {}
        self._troubles: Sequence[str] = ()
        self._waiting_for = ""
        self.paused = False

    def show(self, history: History, troubles: Sequence[str], waiting_for: str) -> None:
        """Take in what there is now, and draw it."""
        self._history, self._troubles, self._waiting_for = history, troubles, waiting_for
        found = {
            hop: each
            for hop, each in history.latencies().items()
            if hop in ALWAYS or history.look.hops[hop].count
        }
        order = [*(hop for hop in HOPS if hop in found), *(hop for hop in found if hop not in HOPS)]
        self._latencies = {hop: found[hop] for hop in order}
        self.update()

    @property
    def height_wanted(self) -> int:
        """How many lines it has to say."""
        return 5 + max(len(self._latencies), 2)

    def height(self, room: int) -> int:
        """Return how many of so many lines it makes use of: a hop, with its titles, or none."""
        return min(room, self.height_wanted) if room >= 6 else max(min(room, 3), 0)

    def lines(self, width: int, height: int) -> Sequence[tuple[Line, bool]]:
        """Return them."""
        if self._history is None:
            return []
        look = self._history.look
        columns = self._columns(width)
        out = [
            self._who(look, width),
            self._verdict(look, width),
            self._rates(self._history, width),
            (),
            self._latency_title(columns, width),
            *(self._latency(hop, columns, width) for hop in self._hops(height - 5)),
        ]
        return [(line, False) for line in out[:height]]

    def _who(self, look: Look, width: int) -> Line:
        clock = time.strftime("%H:%M:%S", time.localtime(look.time_ns // 1_000_000_000))
        right = f"paused {clock} " if self.paused else f"{clock} "
        age = f" for {span(look.age_s)}" if look.age_s is not None else ""
        feeds = plural(len(look.feeds), "feed")
        words = [
            f"{look.state}{age}, pid {look.pid}" if look.running else self._sad_state(look),
            feeds,
            plural(len(look.rings), "ring"),
            f"{look.symbols:,} {'symbol' if look.symbols == 1 else 'symbols'}",
            self._streams(look),
        ]
        left: list[Piece] = [(f" mdsys top  {look.instance}", "accent"), ("  ", "plain")]
        room = width - sum(len(text) for text, _ in left) - len(right)
        shown = "  ·  ".join(words)
        while len(shown) > room and len(words) > 1:
            words = words[:-1]
            shown = "  ·  ".join(words)
        left.append((put(shown, max(room, 0), left=True), "plain" if look.running else "bad"))
        return (*left, (right, "warn" if self.paused else "dim"))

    def _streams(self, look: Look) -> str:
        """Return how many of the streams tick; each is in one state."""
        counts = [look.subscriptions.get(state) or 0 for state in STREAM_STATES]
        return f"{sum(counts):,.0f} streams, {look.subscriptions.get('ticking') or 0:,.0f} ticking"

    def _sad_state(self, look: Look) -> str:
        if self._waiting_for:
            return f"replaced; waiting for its next start ({self._waiting_for})"
        return f"{look.state}: {DEAD}"

    def _verdict(self, look: Look, width: int) -> Line:
        if self._troubles:
            return (
                (" ", "plain"),
                (put("  ·  ".join(self._troubles), width - 2, left=True), "warn"),
            )
        return ((" ", "plain"), ("nothing amiss" if look.running else "", "dim"))

    def _rates(self, history: History, width: int) -> Line:
        rate = history.published[-1] if history.published else None
        first: list[Piece] = [
            (f" {put('-' if rate is None else per_second(rate), 11, left=False)}", "bold"),
            (" records/s ", "dim"),
        ]
        frames = put(per_second(history.counter_rate("frames")), 9, left=False)
        size = put(byte_count(history.counter_rate("bytes")), 7, left=False)
        rest: dict[str, list[Piece]] = {
            "peak": [(f"  peak {per_second(history.peak)}", "dim")],
            "frames": [(f"  {frames}", "plain"), (" frames/s", "dim")],
            "bytes": [(f"  {size}", "plain"), ("/s", "dim")],
        }
        room = width - 1 - _length(first)
        for each in ("bytes", "frames", "peak"):
            if sum(map(_length, rest.values())) + _BARS_MIN > room:
                del rest[each]
        bars = min(room - sum(map(_length, rest.values())), SECONDS)
        bars = min(bars, max(len(history.published), _BARS_MIN))  # so that no blanks part them
        line = spark(history.published, bars, history.peak / _PEAK_SHARE)
        return (*first, (line, "spark"), *(piece for pieces in rest.values() for piece in pieces))

    def _columns(self, width: int) -> list[int]:
        """Return the places of the values that there is room for."""
        count = max((width - 1 - _HOP_WIDTH) // _VALUE_WIDTH, 1)
        return [place for place, (_, need) in enumerate(_VALUES) if need < count]

    def _hops(self, count: int) -> list[str]:
        """Return so many hops, in the order of a tick's way."""
        needed = [hop for hop in NEEDED if hop in self._latencies]
        rest = [hop for hop in self._latencies if hop not in NEEDED]
        kept = [*needed, *rest][: max(count, 0)]
        return [hop for hop in self._latencies if hop in kept]

    def _latency_title(self, columns: Sequence[int], width: int) -> Line:
        of = "whole life" if self._history and self._history.whole_life else "last minute"
        titles = "".join(put(_VALUES[each][0], _VALUE_WIDTH, left=False) for each in columns)
        note = "  p99 of each second"
        room = width - 1 - _HOP_WIDTH - len(titles)
        return (
            (f" {put(of, _HOP_WIDTH, left=True)}{titles}", "dim"),
            (note if room > len(note) else "", "dim"),
        )

    def _latency(self, hop: str, columns: Sequence[int], width: int) -> Line:
        found = self._latencies[hop]
        name = HOPS.get(hop, hop.replace("_", " "))
        values = (found.p50, found.p99, found.p999, found.worst)
        texts = "".join(put(latency(values[each]), _VALUE_WIDTH, left=False) for each in columns)
        room = width - 1 - _HOP_WIDTH - len(texts) - 3
        line = spark(found.seconds, min(room, SECONDS)) if room >= _BARS_MIN else ""
        return (
            (f" {put(name, _HOP_WIDTH, left=True)}", "dim"),
            (texts, "plain" if found.count else "dim"),
            (f"  {line}", "spark"),
        )


def _length(pieces: Sequence[Piece]) -> int:
    return sum(len(text) for text, _ in pieces)
