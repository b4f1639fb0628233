"""A decoder in Python with the usual cares taken: what a user's own venue is built on.

It takes decimal text exactly or refuses it, holds ids against each other, announces holes, drops
what has been here, takes books out of step and says of everything amiss in the ring. What is left
to the venue is to read its frames. docs/venues.md walks through one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from mdsys.feed.frame import NO_LEVEL, FrameResult, Record, SymbolInfo
from mdsys.feed.sequence import Ids, Order, Sequence
from mdsys.record.fixed import FixedError, to_fixed
from mdsys.record.record import ABSENT, Flag, Kind, Status

Number = str | int
"""Decimal text as the venue sends it. No float: it would be rounded already; where numbers are bare
in JSON, ``json.loads(frame, parse_float=str)``."""

SIDES: Final[Mapping[str | None, Flag]] = {None: Flag(0), "buy": Flag.BUY, "sell": Flag.SELL}


class Out:
    """What one frame makes.

    An event of a symbol that nobody subscribed, or with a value that would have to be rounded, is
    refused by itself; the frame's result is then the first such problem.
    """

    def __init__(
        self,
        symbols: Mapping[str, SymbolInfo],
        ids: dict[tuple[int, Kind], Sequence],
        ts_recv: int,
        connection: int,
    ) -> None:
        self.result = FrameResult.OK
        self.records: list[Record] = []
        self.duplicates = 0
        """Records that have been here, and are dropped."""
        self.reordered = 0
        """Records that come late."""
        self._symbols = symbols
        self._ids = ids
        self._ts_recv = ts_recv
        self._connection = connection
        self._before: dict[tuple[int, Kind], Sequence] = {}
        """The numberings that this frame has touched, as they were."""

    def undo(self) -> None:
        """Forget the ids of this frame: nothing of it is published."""
        self._ids.update(self._before)

    def control(self) -> None:
        """Say that the frame is no market data: ``Talk.hear`` reads it."""
        self.result = FrameResult.CONTROL

    def unknown(self) -> None:
        """Say that nobody knows what the frame is: it is counted and logged."""
        self._problem(FrameResult.UNKNOWN_EVENT)

    def trade(
        self,
        symbol: str,
        ts_event: int,
        price: Number,
        size: Number,
        *,
        side: str | None = None,
        trade_id: int | None = None,
        ids: Ids = Ids.CONTIGUOUS,
    ) -> None:
        """Make a trade.

        Args:
            symbol: Its name on the wire.
            ts_event: The venue's time, ns since the epoch, or ABSENT.
            price: Decimal text.
            size: Decimal text.
            side: The aggressor's, ``buy`` or ``sell``; None: the venue does not say.
            trade_id: The venue's, >= 0; None: it has none.
            ids: What the trade ids promise.
        """
        info = self._known(symbol)
        order = Order.AGAIN if info is None else self._order(info, Kind.TRADE, trade_id, ids)
        if info is None or order is Order.AGAIN:
            return
        number = ABSENT if trade_id is None else trade_id
        values = self._fixed(info, (price, info.price_scale), (size, info.size_scale))
        if values is not None:
            self._add(
                info,
                ts_event,
                Kind.TRADE,
                SIDES[side] | Flag.LAST,
                (values[0], values[1], number, ABSENT),
                late=order is Order.LATE,
            )
        self._note(info, Kind.TRADE, trade_id)

    def quote(
        self,
        symbol: str,
        ts_event: int,
        bid: tuple[Number, Number] | None,
        ask: tuple[Number, Number] | None,
        *,
        update_id: int | None = None,
        ids: Ids = Ids.ASCENDING,
    ) -> None:
        """Make a quote of price and size of the best bid and ask; None: the side is empty."""
        info = self._known(symbol)
        order = Order.AGAIN if info is None else self._order(info, Kind.QUOTE, update_id, ids)
        if info is None or order is Order.AGAIN:
            return
        sides = [self._level(info, each) if each else (ABSENT, ABSENT) for each in (bid, ask)]
        if sides[0] is not None and sides[1] is not None:
            (bid_price, bid_size), (ask_price, ask_size) = sides[0], sides[1]
            body = (bid_price, ask_price, bid_size, ask_size)
            late = order is Order.LATE
            self._add(info, ts_event, Kind.QUOTE, Flag.LAST, body, late=late)
        self._note(info, Kind.QUOTE, update_id)

    def ticker(
        self,
        symbol: str,
        ts_event: int,
        last_price: Number,
        last_size: Number | None = None,
        volume: Number | None = None,
        open_interest: Number | None = None,
    ) -> None:
        """Make a ticker; None: the venue sends none."""
        info = self._known(symbol)
        if info is None:
            return
        sizes = ((each, info.size_scale) for each in (last_size, volume, open_interest))
        values = self._fixed(info, (last_price, info.price_scale), *sizes)
        if values is not None:
            price, size, total, interest = values
            self._add(info, ts_event, Kind.TICKER, Flag.LAST, (price, size, total, interest))

    def book(
        self,
        symbol: str,
        ts_event: int,
        bids: Iterable[tuple[Number, Number]],
        asks: Iterable[tuple[Number, Number]],
        *,
        snapshot: bool,
        update_id: int | None = None,
        ids: Ids = Ids.CONTIGUOUS,
    ) -> None:
        """Make levels of a book: price and size, size 0 for one that is gone.

        Args:
            symbol: Its name on the wire.
            ts_event: The venue's time, ns since the epoch, or ABSENT.
            bids: The bids.
            asks: The asks.
            snapshot: Whether they are all there are, rather than those that have changed. A
                snapshot is taken whatever its id; after a hole nothing else will do. One
                without a level says that the book is empty.
            update_id: The venue's number of this change, >= 0; None: it has none.
            ids: What the numbers promise.
        """
        info = self._known(symbol)
        if info is None:
            return
        rows = [(side, row) for side, own in ((Flag.BUY, bids), (Flag.SELL, asks)) for row in own]
        told = len(self.records)
        if not snapshot or self._leaps(info, update_id):
            order = self._order(info, Kind.LEVEL, update_id, ids, len(rows))
            if order is not Order.NEXT:
                return  # sizes are absolute: what is older than the book tells nothing
        if len(self.records) > told and not snapshot:
            self._tell(info, Status.RESYNC)
        levels = [(side, self._level(info, row)) for side, row in rows]
        if any(level is None for _, level in levels):
            self._tell(info, Status.RESYNC)  # a book that lacks a level is no book
        else:
            self._levels(info, ts_event, levels, update_id, snapshot=snapshot)
        self._note(info, Kind.LEVEL, update_id)

    # ---- with care ----

    def _known(self, symbol: str) -> SymbolInfo | None:
        info = self._symbols.get(symbol)
        if info is None:
            self._problem(FrameResult.UNKNOWN_SYMBOL)
        return info

    def _problem(self, result: FrameResult) -> None:
        if self.result is FrameResult.OK:
            self.result = result

    def _order(
        self, info: SymbolInfo, kind: Kind, number: int | None, ids: Ids, count: int = 1
    ) -> Order:
        """Hold an id of ``count`` records against those before: announce a hole, count the rest."""
        if number is None:
            return Order.NEXT
        sequence = self._sequence(info, kind)

        def announce(first: int, last: int) -> None:
            self._tell(info, Status.GAP, first, last)

        order = sequence.order(number, number, announce, ids)
        self.reordered += count * (order is Order.LATE)
        self.duplicates += count * (order is Order.AGAIN)
        return order

    def _leaps(self, info: SymbolInfo, number: int | None) -> bool:
        """Whether a snapshot lies beyond changes that never came: readers are told which."""
        return number is not None and number > self._sequence(info, Kind.LEVEL).last

    def _note(self, info: SymbolInfo, kind: Kind, number: int | None) -> None:
        if number is not None:
            self._sequence(info, kind).note(number)

    def _sequence(self, info: SymbolInfo, kind: Kind) -> Sequence:
        key = info.symbol_id, kind
        before = {Kind.TRADE: info.last_trade_id, Kind.LEVEL: info.last_book_id}
        sequence = self._ids.setdefault(key, Sequence(before.get(kind, 0)))
        if key not in self._before:
            self._before[key] = sequence.copy()
        return sequence

    def _level(self, info: SymbolInfo, level: tuple[Number, Number]) -> tuple[int, int] | None:
        price, size = level
        values = self._fixed(info, (price, info.price_scale), (size, info.size_scale))
        return None if values is None else (values[0], values[1])

    def _levels(
        self,
        info: SymbolInfo,
        ts_event: int,
        levels: Iterable[tuple[Flag, tuple[int, int] | None]],
        update_id: int | None,
        *,
        snapshot: bool,
    ) -> None:
        own = [(side, *level) for side, level in levels if level is not None]
        if snapshot and not own:
            own = [(Flag(0), *NO_LEVEL)]
        number = ABSENT if update_id is None else update_id
        whole = Flag.SNAPSHOT if snapshot else Flag(0)
        for place, (side, price, size) in enumerate(own, 1):
            flags = side | whole | (Flag.LAST if place == len(own) else Flag(0))
            self._add(info, ts_event, Kind.LEVEL, flags, (price, size, ABSENT, number))

    def _fixed(self, info: SymbolInfo, *texts: tuple[Number | None, int]) -> list[int] | None:
        """Return what numbers stand for; None, and it is told: one would have to be rounded."""
        try:
            return [ABSENT if text is None else _value(text, scale) for text, scale in texts]
        except FixedError:
            self._problem(FrameResult.VALUE)
            self._tell(info, Status.VALUE_REFUSED)
            return None

    def _tell(
        self, info: SymbolInfo, what: Status, first: int = ABSENT, last: int = ABSENT
    ) -> None:
        body = (int(what), first, last, self._connection)
        self._add(info, self._ts_recv, Kind.STATUS, Flag.LAST, body)

    def _add(
        self,
        info: SymbolInfo,
        ts_event: int,
        kind: Kind,
        flags: Flag,
        body: tuple[int, int, int, int],
        *,
        late: bool = False,
    ) -> None:
        scales = (0, 0) if kind is Kind.STATUS else (info.price_scale, info.size_scale)
        head = (ts_event, self._ts_recv, info.symbol_id, int(kind), int(flags), *scales)
        self.records.append(Record(*head, body, late))


def _value(text: Number, scale: int) -> int:
    if isinstance(text, float):
        raise TypeError("a float is rounded already: json.loads(frame, parse_float=str)")
    return to_fixed(str(text), scale)


class SimpleDecoder:
    """Subclass it and write ``read``.

    Args:
        symbols: By the name on the wire; symbols may be added to it.
    """

    def __init__(self, symbols: Mapping[str, SymbolInfo]) -> None:
        self.duplicates = 0
        """Records that had been here and were dropped; the feed counts them."""
        self.reordered = 0
        """Records that came late; the same."""
        self._symbols = symbols
        self._ids: dict[tuple[int, Kind], Sequence] = {}

    def read(self, frame: bytes, out: Out) -> None:
        """Read one frame; whatever this raises refuses the frame as malformed."""
        raise NotImplementedError

    def decode(
        self, frame: bytes, ts_recv: int, connection: int = 0
    ) -> tuple[FrameResult, list[Record]]:
        """Turn one frame into what goes into the rings (mdsys.feed.venue.Decoder)."""
        out = Out(self._symbols, self._ids, ts_recv, connection)
        try:
            self.read(frame, out)
        except BaseException:
            out.undo()
            raise
        self.duplicates += out.duplicates
        self.reordered += out.reordered
        return out.result, out.records
