"""What a venue must tell the feed, and the registry of venues.

A venue is facts and small pure functions: no sockets, no state. The connection asks it what to
dial and what to say; its decoder (C, see native/src/feed.h) turns frames into records. Other
packages add venues under the entry point group ``mdsys.venues``: name -> an object as below.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Protocol

from mdsys.errors import ConfigError

ENTRY_POINT_GROUP = "mdsys.venues"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a control frame tells: the venue's answer to one of our requests, or news of its own."""

    request_id: int | None
    """The request it answers; None: it answers none."""
    refusal: str | None = None
    """The venue's words when it said no."""
    notice: str | None = None
    """The venue's words when it speaks by itself: a shutdown, a warning."""


class Venue(Protocol):
    """The face of one venue."""

    @property
    def name(self) -> str:
        """As the config names it, lower case: ``binance``. Symbols are ``BINANCE:…``."""

    @property
    def url(self) -> str:
        """Public address; the config's ``url`` replaces it."""

    @property
    def decoder(self) -> str:
        """The C decoder's name in native/src/decoders.h."""

    @property
    def channels(self) -> Collection[str]:
        """Channels it has: of ``trade``, ``quote``, ``book``, ``ticker``, ``bar``."""

    @property
    def streams_per_connection_max(self) -> int:
        """Most streams on one socket, in [1, 2^31)."""

    @property
    def streams_per_message_max(self) -> int:
        """Most streams in one subscribe message, in [1, streams_per_connection_max]."""

    @property
    def message_interval_s(self) -> float:
        """Least seconds between two messages of ours on one socket, in (0, 60]."""

    def spelled(self, symbol: str) -> str:
        """Return how the venue itself writes ``symbol``: what it is so already, unchanged."""

    def endpoint(self, base: str) -> str:
        """Return the URL to dial: ``base`` (ours or the config's) with the venue's path."""

    def streams(self, symbol: str, channels: Sequence[str]) -> list[str]:
        """Return the stream names of one symbol, one a channel."""

    def subscribe(self, streams: Sequence[str], request_id: int) -> str:
        """Return the message that subscribes to ``streams``."""

    def answer(self, frame: bytes) -> Answer:
        """Read a frame that the decoder called a control frame.

        Raises:
            ProtocolError: It is none.
        """


@cache
def venues() -> Mapping[str, Venue]:
    """Return every known venue by name: the built-in ones and those of installed packages.

    Raises:
        ConfigError: A package's venue cannot be loaded, or its name is taken.
    """
    from mdsys.feed.binance.venue import BINANCE, BINANCE_USDM

    found: dict[str, Venue] = {venue.name: venue for venue in (BINANCE, BINANCE_USDM)}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        source = f"entry point {point.name} = {point.value}"
        if point.name in found:
            raise ConfigError(f"{source}: a venue of this name exists already")
        try:
            found[point.name] = point.load()
        except Exception as error:
            raise ConfigError(f"{source}: {type(error).__name__}: {error}") from error
    return found
