"""What the venues sent, for whoever reads: every trade by its id, every quote by its mark.

The conductor writes it into files before a frame leaves, the readers map them: a record whose words
are not of one and the same event is found out, whatever process it came through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mdsys import Flag, Kind, Status
from mdsys.record.record import ABSENT, SIDE_MASK, Ticks

TRADES_MAX: Final = 1 << 20
"""Of one symbol in one run."""
QUOTE_BITS: Final = 27
"""A wrong quote has one chance in a hundred to be taken, with a million marks in 2^27 places."""
_MIX: Final = 0x9E3779B97F4A7C15
_MASK: Final = (1 << 64) - 1

Words = npt.NDArray[np.uint64]


def _packed(price: Any, lots: Any, buy: Any) -> Any:
    """Return a trade as one word, never 0: prices are below 2^27, lots below 2^21."""
    return (price << 24) | (lots << 2) | (buy << 1) | 1


class Truth:
    """One venue's.

    Args:
        folder: Of the run.
        venue: Its name.
        decimals: By symbol, of price and size; None: those of the files, which are only read.
    """

    def __init__(
        self, folder: Path, venue: str, decimals: Sequence[tuple[int, int]] | None = None
    ) -> None:
        self.venue = venue
        path = folder / f"{venue}.decimals.npy"
        if decimals is not None:
            np.save(path, np.array(decimals, np.int64))
        self.decimals = np.load(path)
        count = len(self.decimals)
        mode: Any = "r" if decimals is None else "w+"

        def mapped(name: str, kind: Any, shape: tuple[int, ...]) -> Any:
            return np.memmap(folder / f"{venue}.{name}", kind, mode, shape=shape)

        self._trades: Words = mapped("trades", np.uint64, (count, TRADES_MAX))
        self._marks: npt.NDArray[np.uint8] = mapped("quotes", np.uint8, (1 << (QUOTE_BITS - 3),))
        self.ends: npt.NDArray[np.int64] = mapped("ends", np.int64, (count, 2))
        """By symbol, the first and the last id that was sent; 0: none."""

    # ---- the venue's side ----

    def add_trade(self, symbol: int, number: int, price: int, lots: int, *, buy: bool) -> None:
        """Note a trade that is about to be sent."""
        first = int(self.ends[symbol, 0])
        if not first:
            first = self.ends[symbol, 0] = number
        self._trades[symbol, number - first] = _packed(price, lots, int(buy))
        self.ends[symbol, 1] = number

    def add_quote(self, symbol: int, bid: tuple[int, int], ask: tuple[int, int]) -> None:
        """Note a quote that is about to be sent."""
        mark = symbol
        for value in (*bid, *ask):
            mark = ((mark ^ value) * _MIX) & _MASK
            mark ^= mark >> 29
        place = mark >> (64 - QUOTE_BITS)
        self._marks[place >> 3] |= 1 << (place & 7)

    # ---- the readers' side ----

    def wrong_trades(self, symbol: npt.NDArray[np.int64], ticks: Ticks) -> npt.NDArray[np.bool_]:
        """Tell which trade records are not what was sent."""
        place = ticks["trade_id"] - self.ends[symbol, 0]
        known = (place >= 0) & (place < TRADES_MAX)
        sent = self._trades[symbol, np.where(known, place, 0)]
        side = ticks["flags"] & SIDE_MASK
        price, size = self._units(symbol, ticks, "price", 0), self._units(symbol, ticks, "size", 1)
        seen = _packed(price, size, (side == Flag.BUY).astype(np.int64)).astype(np.uint64)
        sided: npt.NDArray[np.bool_] = (side == Flag.BUY) | (side == Flag.SELL)
        return np.asarray(~(known & (sent == seen) & sided))

    def wrong_quotes(self, symbol: npt.NDArray[np.int64], ticks: Ticks) -> npt.NDArray[np.bool_]:
        """Tell which quote records are not what was sent."""
        mark = symbol.astype(np.uint64)
        for name, which in (("bid_price", 0), ("bid_size", 1), ("ask_price", 0), ("ask_size", 1)):
            value = self._units(symbol, ticks, name, which).astype(np.uint64)
            mark = (mark ^ value) * np.uint64(_MIX)
            mark ^= mark >> np.uint64(29)
        place = mark >> np.uint64(64 - QUOTE_BITS)
        bit = (self._marks[place >> np.uint64(3)] >> (place & np.uint64(7)).astype(np.uint8)) & 1
        return np.asarray(bit == 0)

    def _units(
        self, symbol: npt.NDArray[np.int64], ticks: Ticks, name: str, which: int
    ) -> npt.NDArray[np.int64]:
        """Return a value in the venue's ticks or lots; -1 where it is no whole number of them."""
        scale = ticks["size_scale" if which else "price_scale"].astype(np.int64)
        unit = 10 ** (scale - self.decimals[symbol, which])
        units, rest = np.divmod(ticks[name], unit)
        return np.where(rest == 0, units, -1)


class Account:
    """Every trade id of every symbol: received once, or announced as lost, or a fault of ours.

    Args:
        truths: By venue.
        symbols: Symbol id -> venue and number of the symbol there.
    """

    def __init__(self, truths: Mapping[str, Truth]) -> None:
        self.truths = truths
        self._seen = {
            venue: np.zeros((len(truth.decimals), TRADES_MAX), np.uint8)
            for venue, truth in truths.items()
        }
        """Bits 0 to 4: how often it was received; 5: by an earlier attachment; 6: announced; 7: we
        were not attached."""
        self._venue = np.zeros(0, np.int64)
        self._symbol = np.zeros(0, np.int64)
        self._away: set[tuple[str, int]] = set()
        self._last: dict[tuple[str, int], int] = {}
        self._twice = 0
        """By attachments that are over."""
        self.torn = 0
        self.checked = 0
        self.examples: list[str] = []

    def learn(self, names: Mapping[int, str]) -> None:
        """Take in the directory: symbol id -> VENUE:SYM000003."""
        size = max(names, default=0) + 1
        self._venue, self._symbol = np.full(size, -1), np.zeros(size, np.int64)
        venues = list(self.truths)
        for number, name in names.items():
            venue, _, symbol = name.partition(":")
            self._venue[number] = venues.index(venue.lower())
            self._symbol[number] = int(symbol[-6:])

    def attach_anew(self) -> None:
        """What was sent from here to the next trade of each symbol nobody could have told us."""
        for venue, seen in self._seen.items():
            self._away |= {(venue, symbol) for symbol in range(len(seen))}
            self._twice += int((seen & 31 > 1).sum())
            # New segments remember nothing: a venue's snapshot of its last trades comes again.
            seen[:] = (seen & 224) | np.where(seen & 31 > 0, 32, 0).astype(np.uint8)

    def take(self, ticks: Ticks, *, count: bool = True) -> None:
        """Hold records against what was sent; enter their ids, in the order of reading."""
        ids = ticks["symbol_id"]
        if len(ids) and int(ids.max()) >= len(self._venue):
            ticks = ticks[ids < len(self._venue)]
            ids = ticks["symbol_id"]
        venue_of = np.where(ids > 0, self._venue[ids], -1)
        for number, (venue, truth) in enumerate(self.truths.items()):
            own = ticks[venue_of == number]
            if len(own):
                self._take(venue, truth, own, count=count)

    def _take(self, venue: str, truth: Truth, ticks: Ticks, *, count: bool) -> None:
        symbol = self._symbol[ticks["symbol_id"]]
        whole = ticks["flags"] & Flag.CONFLATED == 0
        kind = ticks["kind"]
        trade = (kind == Kind.TRADE) & whole
        quote = (kind == Kind.QUOTE) & whole
        self.checked += int(trade.sum() + quote.sum())
        self._note_wrong(ticks[trade], truth.wrong_trades(symbol[trade], ticks[trade]))
        self._note_wrong(ticks[quote], truth.wrong_quotes(symbol[quote], ticks[quote]))
        if not count:
            return
        seen = self._seen[venue]
        gap = (
            (kind == Kind.STATUS)
            & (ticks["what"] == Status.GAP)
            & (ticks["first_lost"] >= truth.ends[symbol, 0])
            & (ticks["first_lost"] != ABSENT)
        )
        for each, at in zip(ticks[gap], symbol[gap], strict=True):
            first = int(each["first_lost"]) - int(truth.ends[at, 0])
            last = int(each["last_lost"]) - int(truth.ends[at, 0])
            self._return(venue, int(at), first)
            seen[at, max(first, 0) : last + 1] |= 64
        place = ticks["trade_id"][trade] - truth.ends[symbol[trade], 0]
        here = (place >= 0) & (place < TRADES_MAX)
        at, place = symbol[trade][here], place[here]
        for lost in {(v, s) for v, s in self._away if v == venue} & {(venue, int(s)) for s in at}:
            self._return(venue, lost[1], int(place[at == lost[1]][0]))
        np.add.at(seen, (at, place), 1)
        for again in np.flatnonzero(seen[at, place] & 31 > 1)[: max(0, 5 - len(self.examples))]:
            self.examples.append(
                f"twice: {venue} {at[again]} trade {place[again]}: {ticks[trade][again]}"
            )
        for each in np.unique(at):
            newest = int(place[at == each].max())
            self._last[venue, int(each)] = max(newest, self._last.get((venue, int(each)), -1))

    def _return(self, venue: str, symbol: int, first: int) -> None:
        """Excuse what lies between the last we had and the first of the new attachment."""
        if (venue, symbol) in self._away:
            self._away.discard((venue, symbol))
            last = self._last.get((venue, symbol), first)
            self._seen[venue][symbol, last + 1 : max(first, 0)] |= 128

    def _note_wrong(self, ticks: Ticks, wrong: npt.NDArray[np.bool_]) -> None:
        self.torn += int(wrong.sum())
        for each in ticks[wrong][: max(0, 5 - len(self.examples))]:
            self.examples.append(str(each))

    def is_complete(self) -> bool:
        """Whether the last trade that was sent of every symbol is received."""
        return all(
            self._last.get((venue, symbol)) == int(last - first)
            for venue, truth in self.truths.items()
            for symbol, (first, last) in enumerate(truth.ends)
            if last
        )

    def balance(self, *, to_the_end: bool = True) -> dict[str, int]:
        """Return what became of the trades from the first of each symbol that we know on.

        Args:
            to_the_end: Up to the last that was sent; else up to the last that we know.
        """
        total = dict.fromkeys(
            ("sent", "received", "announced", "unattached", "twice", "unaccounted"), 0
        )
        for venue, truth in self.truths.items():
            for symbol, seen in enumerate(self._seen[venue]):
                known = np.flatnonzero(seen)
                if not len(known):
                    continue
                first, last = truth.ends[symbol]
                end = int(last - first) + 1 if to_the_end else int(known[-1]) + 1
                span = seen[known[0] : end]
                received = span & 63
                announced = (received == 0) & (span & 64 > 0)
                away = (received == 0) & (span & 192 == 128)
                total["sent"] += len(span)
                total["received"] += int((received > 0).sum())
                total["announced"] += int(announced.sum())
                total["unattached"] += int(away.sum())
                total["twice"] += int((span & 31 > 1).sum())
                missing = np.flatnonzero(span == 0)
                total["unaccounted"] += len(missing)
                for each in missing[: max(0, 5 - len(self.examples))]:
                    near = list(span[max(0, each - 3) : each + 4])
                    self.examples.append(
                        f"missing: {venue} {symbol} trade {each + known[0]}, of {known[0]} to "
                        f"{end - 1}; about it {near}"
                    )
        total["twice"] += self._twice
        return total
