"""What one socket asks of its venue, and what the venue has answered. No I/O, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from mdsys.feed.plan import ConnectionPlan
from mdsys.feed.venue import Confirmed, Message, Refused, Removed, Stream, Talk, Venue

Told = Callable[[str, Sequence[Stream], str | None], object]
"""Hears of streams that have come into a state together, with the venue's words where it has any:
the states of the event ``streams`` (mdsys.feed.report)."""

_Key = tuple[str, str]
"""Symbol and channel: a venue's answer need not repeat what names it on the wire."""


class State(Enum):
    """What a stream is on this socket."""

    WANTED = "wanted"
    REQUESTED = "requested"
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    REMOVING = "removing"
    """It is unsubscribed; the venue has not said so yet."""


@dataclass(slots=True, eq=False)
class Request:
    """One message to the venue, or the few that belong together."""

    id: int
    ends: bool
    """Whether it unsubscribes."""
    messages: Sequence[Message]
    streams: dict[_Key, Stream]
    """Those that are not answered yet, and still wanted."""
    named: int
    """How many it named: a refusal may be meant for one that is wanted no more."""
    sent: bool = False


@dataclass(slots=True)
class _Batch:
    ends: bool
    streams: list[Stream] = field(default_factory=list)


def batch_streams(venue: Venue, plan: ConnectionPlan) -> int:
    """Return the most streams of one subscribe message."""
    channels = 1 if venue.groups_by_channel else max(1, len(plan.channels))
    most = plan.batch_size * channels
    return max(1, min(most, plan.limits.streams_per_message or most))


class Subscriptions:
    """The subscriptions of one socket, from its first message to its end.

    A stream is wanted, then requested, then confirmed or refused; only the venue's answer moves it
    there. A refused request that names no stream is cut in halves and asked again until a refusal
    leaves one. What is asked for a second time is unsubscribed first, and waits for that.

    Args:
        talk: Writes the messages.
        size_max: Most streams of a message.
        told: Hears of each change.
        acknowledges: Whether the venue answers.
        groups_by_channel: Whether a message may name one channel only.
    """

    def __init__(
        self,
        talk: Talk,
        size_max: int,
        told: Told,
        *,
        acknowledges: bool = True,
        groups_by_channel: bool = False,
    ) -> None:
        self._talk = talk
        self._size_max = size_max
        self._told = told
        self._acknowledges = acknowledges
        self._groups = groups_by_channel
        self._batches: deque[_Batch] = deque()
        self._requests: dict[int, Request] = {}
        self._request_of: dict[_Key, Request] = {}
        self._last_id = 0
        self._streams: dict[_Key, Stream] = {}
        self._states: dict[_Key, State] = {}
        self._again: dict[_Key, Stream] = {}
        """To be asked for once they are removed."""
        self.refused: dict[_Key, str] = {}
        """Stream -> the venue's words."""
        self.answered_once = False
        """Whether the venue has answered anything on this socket."""

    @property
    def complete(self) -> bool:
        """Whether everything asked is answered; where the venue does not answer, sent."""
        return not self._batches and not self._requests

    @property
    def awaits_answer(self) -> bool:
        """Whether something that has been sent is not answered."""
        return any(request.sent for request in self._requests.values())

    def picture(self) -> Iterator[tuple[str, Sequence[Stream], str | None]]:
        """Give what all streams are now, as ``Told`` hears it."""
        for state in (State.REQUESTED, State.CONFIRMED):
            own = [self._streams[key] for key, each in self._states.items() if each is state]
            if own:
                yield state.value, own, None
        for key, words in self.refused.items():
            yield "refused", [self._streams[key]], words

    # ---- what we want ----

    def subscribe(self, streams: Iterable[Stream]) -> None:
        """Want streams; those that are wanted already are passed over."""
        fresh = []
        for stream in streams:
            key = stream[:2]
            state = self._states.get(key)
            if state is State.REMOVING:
                self._again[key] = stream
            elif state is None or state is State.REFUSED:
                self._states[key] = State.WANTED
                self._streams[key] = stream
                self.refused.pop(key, None)
                fresh.append(stream)
        self._add(fresh, ends=False)

    def unsubscribe(self, streams: Iterable[Stream]) -> None:
        """Want streams no more."""
        asked, unasked = [], []
        for stream in streams:
            key = stream[:2]
            self._again.pop(key, None)
            state = self._states.get(key)
            if state is None or state is State.REMOVING:
                continue
            if self._settled(key) or key in self._request_of:
                asked.append(self._remove(key))
            else:
                unasked.append(self._streams[key])
        self._drop(unasked)
        self._add(asked, ends=True)

    def resubscribe(self, streams: Iterable[Stream]) -> Sequence[Stream]:
        """Ask again for streams that are subscribed.

        Returns:
            Those that have been asked for and not been answered: it is too early.
        """
        again, early = [], []
        for stream in streams:
            key = stream[:2]
            if self._settled(key):
                self._again[key] = self._streams[key]
                again.append(self._remove(key))
            elif self._states.get(key) in (State.WANTED, State.REQUESTED):
                early.append(stream)
        self._add(again, ends=True)
        return early

    def _settled(self, key: _Key) -> bool:
        """Whether the venue sends a stream, as far as it tells."""
        state = self._states.get(key)
        return state is State.CONFIRMED or (state is State.REQUESTED and not self._acknowledges)

    def _remove(self, key: _Key) -> Stream:
        """Note that a stream is on its way out; an answer to its subscription is late now."""
        self._states[key] = State.REMOVING
        request = self._request_of.pop(key, None)
        if request is not None:
            self._take_out(request, key)
        return self._streams[key]

    def _drop(self, streams: Collection[Stream]) -> None:
        """Forget streams that the venue does not send."""
        if not streams:
            return
        keys = {stream[:2] for stream in streams}
        for batch in self._batches:
            if not batch.ends:
                batch.streams = [each for each in batch.streams if each[:2] not in keys]
        self._batches = deque(batch for batch in self._batches if batch.streams)
        self._forget(keys)
        self._told("removed", list(streams), None)

    def _forget(self, keys: Iterable[_Key]) -> None:
        for key in keys:
            del self._states[key]
            del self._streams[key]
            self.refused.pop(key, None)

    def _add(self, streams: Sequence[Stream], *, ends: bool) -> None:
        lists: Mapping[str, list[Stream]] = {"": list(streams)}
        if self._groups:
            lists = {}
            for stream in streams:
                lists.setdefault(stream.channel, []).append(stream)
        for own in lists.values():
            for at in range(0, len(own), self._size_max):
                self._batches.append(_Batch(ends, own[at : at + self._size_max]))

    # ---- what we say ----

    def next_request(self) -> Request | None:
        """Return the next thing to say; None: nothing before an answer comes, or an order."""
        if not self._batches:
            return None
        batch = self._batches.popleft()
        self._last_id += 1
        say = self._talk.unsubscribe if batch.ends else self._talk.subscribe
        messages = say(batch.streams, self._last_id)
        own = {stream[:2]: stream for stream in batch.streams}
        request = Request(self._last_id, batch.ends, messages, own, len(own))
        self._requests[request.id] = request
        self._request_of.update(dict.fromkeys(own, request))
        return request

    def sent(self, request: Request) -> None:
        """Note that all its messages have been sent."""
        request.sent = True
        own = request.streams
        if not request.ends:
            asked = [key for key in own if self._states.get(key) is State.WANTED]
            self._states.update(dict.fromkeys(asked, State.REQUESTED))
            if asked:
                self._told("requested", [own[key] for key in asked], None)
        if not self._acknowledges:
            self._close(request)
            if request.ends:
                self._removed(own)

    # ---- what the venue says ----

    def confirmed(self, event: Confirmed) -> bool:
        """Take a confirmation. Returns whether it tells of anything we asked."""
        found = []
        for key in self._named(event.streams, event.request_id, ends=False):
            self._answer(key, ends=False)
            if self._states.get(key) in (State.WANTED, State.REQUESTED, State.REFUSED):
                self._states[key] = State.CONFIRMED
                self.refused.pop(key, None)
                found.append(self._streams[key])
        if found:
            self._told("confirmed", found, None)
        return self._note(found)

    def removed(self, event: Removed) -> bool:
        """Take the end of streams, as asked. Returns whether we asked for it."""
        keys = list(self._named(event.streams, event.request_id, ends=True))
        for key in keys:
            self._answer(key, ends=True)
        return self._note(self._removed(keys))

    def refuse(self, event: Refused) -> bool:
        """Take a refusal. Returns whether it tells of anything we asked."""
        if event.streams:
            keys = [key for each in event.streams if (key := each[:2]) in self._states]
            for key in keys:
                self._answer(key, ends=False)
            return self._note(self._refused(keys, event.words))
        request = self._requests.get(event.request_id or 0)
        if request is None:
            return False
        self._refuse_request(request, event.words)
        return self._note(request)

    def no_answer(self, words: str) -> None:
        """Take the venue's silence for a refusal of all that it has not answered."""
        for request in list(self._requests.values()):
            if request.sent:
                self._refuse_request(request, words)

    def _refuse_request(self, request: Request, words: str) -> None:
        self._close(request)
        own = list(request.streams.values())
        if request.ends:  # most often since it had ended already
            self._removed(request.streams)
        elif request.named == 1:
            self._refused(request.streams, words)
        else:
            middle = (len(own) + 1) // 2
            for half in (own[:middle], own[middle:]):
                if half:
                    self._batches.append(_Batch(ends=False, streams=half))

    def _named(
        self, streams: Collection[Stream], request_id: int | None, *, ends: bool
    ) -> Collection[_Key]:
        """Return what an answer is about."""
        if streams:
            return [stream[:2] for stream in streams]
        request = self._requests.get(request_id or 0)
        return list(request.streams) if request is not None and request.ends is ends else []

    def _answer(self, key: _Key, *, ends: bool) -> None:
        """Take an answered stream out of its request."""
        request = self._request_of.get(key)
        if request is not None and request.ends is ends:
            del self._request_of[key]
            self._take_out(request, key)

    def _take_out(self, request: Request, key: _Key) -> None:
        del request.streams[key]
        if not request.streams:
            self._requests.pop(request.id, None)

    def _close(self, request: Request) -> None:
        self._requests.pop(request.id, None)
        for key in request.streams:
            if self._request_of.get(key) is request:
                del self._request_of[key]

    def _refused(self, keys: Iterable[_Key], words: str) -> bool:
        found = []
        for key in keys:
            if self._states.get(key) not in (None, State.REMOVING, State.REFUSED):
                self._states[key] = State.REFUSED
                self.refused[key] = words
                found.append(self._streams[key])
        if found:
            self._told("refused", found, words)
        return bool(found)

    def _removed(self, keys: Iterable[_Key]) -> bool:
        gone, again = [], []
        for key in list(keys):
            if self._states.get(key) is State.REMOVING:
                gone.append(self._streams[key])
                if key in self._again:
                    again.append(self._again.pop(key))
        self._forget(stream[:2] for stream in gone)
        asked_again = {stream[:2] for stream in again}
        ended = [stream for stream in gone if stream[:2] not in asked_again]
        if ended:
            self._told("removed", ended, None)
        self.subscribe(again)
        return bool(gone)

    def _note(self, found: object) -> bool:
        self.answered_once |= bool(found)
        return bool(found)
