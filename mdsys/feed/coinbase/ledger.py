"""What one socket has asked of Coinbase, held against the lists that it answers with.

Neither of Coinbase's feeds numbers requests. Each request has one answer, in order: an error, or
the list of all that the socket is subscribed to by then, whatever was asked. So what is listed is
subscribed, what the answered request asked for and is not listed is refused, and what was listed
before and is no more was dropped by the venue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mdsys.feed.venue import Confirmed, Event, Notice, Refused, Removed, Stream

NOT_LISTED = "the venue's list of subscriptions leaves it out, without a word"
NO_MORE_LISTED = "the venue's list of subscriptions has it no more"

WORDS_SIZE_MAX = 200

Pair = tuple[str, str]
"""The venue's channel, and a product. Several streams may come by one."""


@dataclass(slots=True)
class _Request:
    request_id: int | None
    """None: of our own making, as for heartbeats."""
    removes: bool
    streams: dict[Pair, list[Stream]] = field(default_factory=dict)
    """Still unanswered."""


class Ledger:
    """One socket's requests and subscriptions.

    Args:
        channel_names: Channel -> what the venue calls it; two may share one.
    """

    def __init__(self, channel_names: Mapping[str, str]) -> None:
        self._names = channel_names
        self._open: deque[_Request] = deque()
        self._held: dict[Pair, set[Stream]] = {}

    def note(
        self, streams: Sequence[Stream], request_id: int | None, *, removes: bool = False
    ) -> dict[str, list[str]]:
        """Note a request that is about to be sent, one message.

        Returns:
            What it must ask for: the venue's channel -> products, each once.
        """
        request = _Request(request_id, removes)
        asked: dict[str, list[str]] = {}
        for stream in streams:
            pair = (self._names[stream.channel], stream.symbol)
            if pair not in request.streams:
                asked.setdefault(pair[0], []).append(pair[1])
            request.streams.setdefault(pair, []).append(stream)
        self._open.append(request)
        return asked

    def listed(self, pairs: Collection[Pair]) -> list[Event]:
        """Take the venue's list: the answer to the oldest request."""
        events: list[Event] = []
        if confirmed := self._confirm(pairs):
            events.append(Confirmed(confirmed))
        if self._open:
            request = self._open.popleft()
            if request.removes:
                events += self._remove(request, pairs)
            elif request.streams:
                events.append(Refused(NOT_LISTED, _flat(request.streams.values())))
        if dropped := self._drop(pairs):
            events.append(Refused(NO_MORE_LISTED, dropped))
        return events

    def failed(self, words: str) -> list[Event]:
        """Take an error: the answer to the oldest request, or said unasked."""
        words = words[:WORDS_SIZE_MAX]
        request = self._open.popleft() if self._open else None
        if request is None or request.removes or request.request_id is None:
            return [Notice(words)]
        return [Refused(words, request_id=request.request_id)]

    def _confirm(self, pairs: Collection[Pair]) -> list[Stream]:
        """Note what is listed, up to the first request that takes something away.

        What stands in the list until that one is answered may be what it takes.
        """
        confirmed: list[Stream] = []
        for request in self._open:
            if request.removes:
                break
            for pair in [pair for pair in request.streams if pair in pairs]:
                streams = request.streams.pop(pair)
                self._held.setdefault(pair, set()).update(streams)
                confirmed += streams
        return confirmed

    def _remove(self, request: _Request, pairs: Collection[Pair]) -> Iterable[Event]:
        kept = [product for channel, product in request.streams if (channel, product) in pairs]
        gone = {pair: s for pair, s in request.streams.items() if pair not in pairs}
        for pair in gone:
            self._held.pop(pair, None)
        if gone:
            yield Removed(_flat(gone.values()))
        if kept:
            yield Notice(f"still subscribed: {', '.join(kept)}"[:WORDS_SIZE_MAX])

    def _drop(self, pairs: Collection[Pair]) -> list[Stream]:
        leaving = {pair for request in self._open if request.removes for pair in request.streams}
        gone = [pair for pair in self._held if pair not in pairs and pair not in leaving]
        return _flat(self._held.pop(pair) for pair in gone)


def _flat(lists: Iterable[Iterable[Stream]]) -> list[Stream]:
    return [stream for streams in lists for stream in streams]
