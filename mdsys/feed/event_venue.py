"""What the venues share that stream arrays of events: Alpaca and Massive.

Both want a key on the socket before anything else, let an account have one session, and choose the
stream by the path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import msgspec

from mdsys.errors import ProtocolError
from mdsys.feed.venue import Dial, Event, Limits, Message, Opened, Secret, VenueDefaults, Window


@contextmanager
def no_events(frame: bytes) -> Iterator[None]:
    """Say of what msgspec cannot read in here that it is no frame of events.

    Raises:
        ProtocolError: It could not.
    """
    try:
        yield
    except msgspec.DecodeError as error:
        raise ProtocolError(f"no array of events: {frame[:120]!r}: {error}") from error


class EventTalk:
    """The beginning of a socket's conversation."""

    def __init__(self, auth: Mapping[str, str]) -> None:
        self._auth = msgspec.json.encode(auth).decode()
        self._is_open = False

    def opening(self) -> Sequence[Message]:
        """Return the authentication."""
        return [self._auth]

    def keepalive(self) -> Message | None:
        """Return None: a WebSocket PING will do."""
        return None

    def _authenticated(self) -> Iterator[Event]:
        if not self._is_open:
            self._is_open = True
            yield Opened()


@dataclass(frozen=True, slots=True)
class EventVenue(VenueDefaults):
    """The same of both; see mdsys.feed.venue.Venue."""

    path: str = ""
    """Of the stream, where the configured URL names none."""
    limits: Limits = field(
        default=Limits(
            connections=1,
            streams_per_message=400,  # some 4 KB, 8 at Alpaca
            messages=(Window(10, 1.0),),  # ours: none is published
            connects=(Window(1, 1.0),),
        )
    )
    opens: bool = True
    silence_s: float | None = 30.0
    keepalive_s: float | None = 10.0

    def dial(self, base: str, secret: Secret) -> Dial:  # noqa: ARG002 - it is said on the socket
        """Return ``base``, of which the path chooses the stream; without one `path`."""
        url = base if urlsplit(base).path.strip("/") else base.rstrip("/") + self.path
        return Dial(url, url)
