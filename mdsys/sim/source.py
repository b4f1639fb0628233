"""What the server asks of whatever it sends: a recording or an invented market.

A source moves in blocks of events; each client has a view that renders the current block.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from mdsys.sim.dialect import Dialect, Kind, Market, Session, Symbol
from mdsys.sim.frames import Frame


class View(Protocol):
    """One client's share of a source. What it shows changes from the next block on."""

    def show(self, symbol: Symbol, kinds: Collection[Kind]) -> None:
        """Show these events too."""

    def hide(self, symbol: Symbol, kinds: Collection[Kind]) -> None:
        """Show these events no more."""

    def show_streams(self, names: Collection[str]) -> None:
        """Show these streams, by the venue's names, and no others."""

    def close(self) -> None:
        """Show nothing ever again."""

    def render(self) -> list[bytes]:
        """Return the current block's frames for this client: whole WebSocket frames, joined."""

    def render_frames(self) -> list[Frame]:
        """Return the same, one by one."""

    @property
    def streams(self) -> int:
        """How many streams it shows."""

    @property
    def frames(self) -> Mapping[str, int]:
        """Frames rendered so far, by kind."""

    @property
    def records(self) -> Mapping[str, int]:
        """Records that a decoder makes of them, by kind."""


class Source(Protocol):
    """A sequence of events, each due at some time after the start."""

    @property
    def market(self) -> Market:
        """What is traded; a recording knows no symbols."""

    @property
    def paced(self) -> bool:
        """Whether events wait until they are due; else the clients' speed is the pace."""

    def view(self, session: Session) -> View:
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

    def shift_time(self, by_ns: int) -> None:
        """Let the venue's clock run so much ahead of what it would show, from now on."""

    def progress(self) -> str:
        """Return how far it is, in words."""

    def close(self) -> None:
        """Let go of files."""


class Spec(Protocol):
    """What a user names: it becomes a source when a server opens it."""

    def open(self, dialect: type[Dialect]) -> Source:
        """Return the source, for a server of this venue.

        Raises:
            ReplayError: A file is not what it should be.
            UsageError: The venue cannot show such a source.
            ValueError: A number is outside its interval.
        """
