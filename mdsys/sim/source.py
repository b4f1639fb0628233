"""What the server asks of whatever it sends: a recording or an invented market.

A source moves in blocks of events; each client has a view that renders the current block.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from mdsys.sim.binance import Dialect, Form


class View(Protocol):
    """One client's share of a source."""

    def show(self, streams: Collection[str]) -> None:
        """Show these streams from the next block on, and no others."""

    def render(self) -> list[bytes]:
        """Return the current block's frames for this client: whole WebSocket frames, joined."""

    @property
    def frames(self) -> Mapping[str, int]:
        """Frames rendered so far, by kind."""

    @property
    def records(self) -> Mapping[str, int]:
        """Records that a decoder makes of them, by kind."""


class Source(Protocol):
    """A sequence of events, each due at some time after the start."""

    @property
    def paced(self) -> bool:
        """Whether events wait until they are due; else the clients' speed is the pace."""

    def view(self, form: Form) -> View:
        """Return a view for a new client, of no streams yet."""

    def start(self) -> None:
        """Take the time: the first event is due now. Called once."""

    def due_ns(self) -> int | None:
        """Return when the next event is due, in ns since the start; None: there is no other."""

    def advance(self, until_ns: int | None) -> None:
        """Replace the block by the next events due by ``until_ns``; None: due or not.

        Raises:
            ReplayError: The recording is damaged there.
        """

    def progress(self) -> str:
        """Return how far it is, in words."""

    def close(self) -> None:
        """Let go of files."""


class Spec(Protocol):
    """What a user names: it becomes a source when a server opens it."""

    def open(self, dialect: Dialect) -> Source:
        """Return the source, for a server of this venue.

        Raises:
            ReplayError: A file is not what it should be.
            ValueError: A number is outside its interval.
        """
