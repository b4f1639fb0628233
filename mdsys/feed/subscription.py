"""What one socket asks of its venue, and what the venue has answered. No I/O, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from mdsys.feed.venue import Answer, Venue


class Subscriptions:
    """The subscriptions of one socket, from its first message to the last answer.

    A symbol is wanted, then requested, then confirmed or refused; only the venue's answer moves it
    there. A refused message says nothing about which of its symbols was at fault, so it is cut in
    halves and asked again until the refusal names one symbol.

    Args:
        venue: Writes and reads the messages.
        symbols: The venue's own names.
        channels: Channels of each symbol.
        batch_size: Most symbols a message; the venue's own limit may be lower.
    """

    def __init__(
        self, venue: Venue, symbols: Sequence[str], channels: Sequence[str], batch_size: int
    ) -> None:
        self._venue = venue
        self._channels = channels
        size = max(1, min(batch_size, venue.streams_per_message_max // max(1, len(channels))))
        self._wanted = deque(symbols[at : at + size] for at in range(0, len(symbols), size))
        self._requested: dict[int, Sequence[str]] = {}
        self._request_id = 0
        self.confirmed_count = 0
        self.refused: dict[str, str] = {}
        """Symbol -> the venue's words."""

    @property
    def complete(self) -> bool:
        """Whether each symbol is confirmed or refused."""
        return not self._wanted and not self._requested

    def next_message(self) -> str | None:
        """Return the next message to send; None: nothing to say before an answer comes."""
        if not self._wanted:
            return None
        batch = self._wanted.popleft()
        self._request_id += 1
        self._requested[self._request_id] = batch
        streams = [s for symbol in batch for s in self._venue.streams(symbol, self._channels)]
        return self._venue.subscribe(streams, self._request_id)

    def take(self, answer: Answer) -> bool:
        """Note the venue's answer.

        Returns:
            Whether it answered a request of ours that was open.
        """
        batch = self._requested.pop(answer.request_id, None) if answer.request_id else None
        if batch is None:
            return False
        if answer.refusal is None:
            self.confirmed_count += len(batch)
        elif len(batch) == 1:
            self.refused[batch[0]] = answer.refusal
        else:
            middle = len(batch) // 2
            self._wanted.extend((batch[:middle], batch[middle:]))
        return True
