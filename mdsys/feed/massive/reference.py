"""Massive frames to records in plain Python: native/src/decode_massive.c, event by event.

Sources, read 2026-11: massive.com/docs/websocket/stocks (trades, quotes, aggregates), the model
classes of polygon-io/client-python, and frames of 2026 that public projects hold in their tests.

- ``ds`` and ``dv`` are the exact size and volume, as text; ``s`` and ``v`` beside them are whole
  numbers, which cannot hold fractions of shares. The exact ones count where they are there.
- Quotes' sizes are published as they are sent: shares in streams of 2026, round lots in older ones.
  A side without ``bp`` or ``bs`` is ABSENT there.
- ``q`` ascends for each symbol, with holes, and begins anew each day; so the day goes in front of
  it, and only order and repetition are checked. ``i``, a text, is the record's trade id where it is
  an integer; trades carry no side.
- ``AM`` and ``A`` are bars of a minute and a second; ``ts_event`` is when they begin (``s``), and
  ``vw`` the vwap, an average computed in floating point: where it cannot be held exactly the bar
  goes out without it, after a VALUE_REFUSED status.
- LULD bands, auction imbalances (``NOI``) and fair values (``FMV``) are passed over.
- The venue corrects no trades by stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from mdsys.feed.event_reference import EventDecoder, EventReader
from mdsys.feed.frame import malformed
from mdsys.feed.json_events import array, integer, integer_of, number, number_text, text, value
from mdsys.feed.massive import conditions
from mdsys.record.record import ABSENT

BAR_NS: Final = {"A": 10**9, "AM": 60 * 10**9}
SEQUENCE_BITS: Final = 40
MS_MAX: Final = ((1 << 63) - 1) // 10**6
DAY_MS: Final = 86_400_000
NIGHT_MS: Final = 21_600_000
"""06:00 UTC: between two trading days all the year."""


class MassiveEvent(EventReader):
    """One event of Massive's."""

    type_key = "ev"
    symbol_key = "sym"
    channels: ClassVar[Mapping[str, str]] = {"T": "trade", "Q": "quote", "AM": "bar", "A": "bar"}
    control = frozenset({"status"})
    passed_over = frozenset({"LULD", "NOI", "FMV"})

    def _exact(self, exact: str, whole: str) -> str:
        raw = value(self.fields, exact)
        return number(value(self.fields, whole)) if raw is None else number_text(raw)

    def read_time(self) -> int:
        """Return the time in ``t``; a bar's begin."""
        ms = integer(value(self.fields, "s" if self.kind in BAR_NS else "t"))
        if not 0 <= ms <= MS_MAX:
            malformed()
        return ms * 10**6

    def _read_sequence(self) -> None:
        q, ms = integer(value(self.fields, "q")), self.ts_event // 10**6
        if 0 < q < 1 << SEQUENCE_BITS and ms >= NIGHT_MS:
            self.sequence = (ms - NIGHT_MS) // DAY_MS << SEQUENCE_BITS | q

    def read_trade(self) -> None:
        """Read a trade."""
        self._read_sequence()
        self.prices, self.sizes = self.numbers("p"), (self._exact("ds", "s"),)
        raw = value(self.fields, "i")
        self.trade_id = ABSENT
        if raw is not None:
            self.trade_id = integer_of(text(raw) if raw.startswith(b'"') else number(raw))
        codes = array(value(self.fields, "c"))
        self.conditions = conditions.pack(
            None if codes is None else [integer(code) for code in codes]
        )

    def read_quote(self) -> None:
        """Read a quote, which may lack a side."""
        self._read_sequence()
        self.prices = (self.number_if_any("bp"), self.number_if_any("ap"))
        self.sizes = (self.number_if_any("bs"), self.number_if_any("as"))

    def read_bar(self) -> None:
        """Read a bar."""
        super().read_bar()
        self.sizes, self.interval_ns = (self._exact("dv", "v"),), BAR_NS[self.kind]


class ReferenceDecoder(EventDecoder):
    """Massive's decoder."""

    reader = MassiveEvent
