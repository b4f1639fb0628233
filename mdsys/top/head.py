"""The upper part: who it is, how it fares, how much comes, and how long that takes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final

from mdsys.top.columns import per_second
from mdsys.top.history import SECONDS, History, Latency
from mdsys.top.lines import Line, Lines, Piece, put
from mdsys.top.source import Look
from mdsys.wording import byte_count, duration, plural, span, spark

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
STREAM_STATES: Final = ("desired", "requested", "confirmed", "ticking", "refused")
_HOP_WIDTH: Final = 20
_VALUE_WIDTH: Final = 9
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

    def lines(self, width: int, height: int) -> Sequence[tuple[Line, bool]]:
        """Return them."""
        if self._history is None:
            return []
        look = self._history.look
        out = [
            self._who(look, width),
            self._verdict(look),
            self._rates(self._history, width),
            (),
            self._latency_title("whole life" if self._history.whole_life else "last minute", width),
            *(self._latency(hop, each, width) for hop, each in self._latencies.items()),
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

    def _verdict(self, look: Look) -> Line:
        if self._troubles:
            return ((" ", "plain"), ("  ·  ".join(self._troubles), "warn"))
        return ((" ", "plain"), ("nothing amiss" if look.running else "", "dim"))

    def _rates(self, history: History, width: int) -> Line:
        rate = history.published[-1] if history.published else None
        pieces: list[Piece] = [
            (f" {put('-' if rate is None else per_second(rate), 11, left=False)}", "bold"),
            (" records/s ", "dim"),
        ]
        rest: list[Piece] = [
            (f"  peak {per_second(history.peak)}", "dim"),
            (f"  {put(per_second(history.counter_rate('frames')), 9, left=False)}", "plain"),
            (" frames/s", "dim"),
            (f"  {put(byte_count(history.counter_rate('bytes')), 7, left=False)}", "plain"),
            ("/s", "dim"),
        ]
        taken = sum(len(text) for text, _ in (*pieces, *rest))
        line = spark(history.published, min(max(width - taken - 1, 10), SECONDS))
        return (*pieces, (line, "spark"), *rest)

    def _latency_title(self, of: str, width: int) -> Line:
        titles = "".join(put(each, _VALUE_WIDTH, left=False) for each in ("p50", "p99", "p99.9"))
        titles += put("most", _VALUE_WIDTH, left=False)
        note = "  p99 of each second"
        room = width - 1 - _HOP_WIDTH - len(titles)
        return (
            (f" {put(of, _HOP_WIDTH, left=True)}{titles}", "dim"),
            (note if room > len(note) else "", "dim"),
        )

    def _latency(self, hop: str, latency: Latency, width: int) -> Line:
        name = HOPS.get(hop, hop.replace("_", " "))
        values = (latency.p50, latency.p99, latency.p999, latency.worst)
        texts = "".join(put(duration(each), _VALUE_WIDTH, left=False) for each in values)
        room = width - 1 - _HOP_WIDTH - len(texts) - 3
        line = spark(latency.seconds, min(room, SECONDS)) if room >= 10 else ""
        tone = "plain" if latency.count else "dim"
        return (
            (f" {put(name, _HOP_WIDTH, left=True)}", "dim"),
            (texts, tone),
            (f"  {line}", "spark"),
        )
