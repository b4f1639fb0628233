"""What lies over the tables for a while: the keys, and one row explained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

KEYS: Final = (
    ("Tab, Shift+Tab, click", "the next table, the one before"),
    ("↑ ↓ PgUp PgDn Home End", "move in it"),
    ("← →", "sort by the next column; the arrow beside its title tells which way"),
    ("r", "the other way round"),
    ("z", "this table alone, and all again"),
    ("/", "filter every table: symbols, readers, venues; Enter keeps it, Esc takes it away"),
    ("Space, p", "hold the screen still; the numbers are gathered on"),
    ("Enter", "explain the row: why a symbol is silent, what a venue said"),
    ("q, Ctrl-C", "end"),
)
NOTES: Final = (
    "Rates are of the last two seconds, latencies of the last minute.",
    "whole life: where no daemon runs, latencies are all that the segments hold.",
    "changes/s: how often a symbol's trade, quote or top of the book changed, over five seconds.",
    "fill: what the slowest registered reader of a ring has still to read.",
    "holds: how long the ring takes to be written full.",
    "watermark: when the ring's feed last said that it was up to date.",
    "Colour is for what is wrong now: a loss is coloured for a minute, its count stays.",
)


class Sheet(ModalScreen[None]):
    """A sheet of text; any of the keys that people try takes it away.

    Args:
        title: Its first line.
        body: The rest.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter,space,question_mark", "dismiss_sheet", "back")
    ]

    def __init__(self, title: str, body: Text) -> None:
        super().__init__()
        self._title = title
        self._body = body

    def compose(self) -> ComposeResult:
        """Lay it out."""
        with VerticalScroll(id="sheet") as box:
            box.border_title = self._title
            box.border_subtitle = "Esc"
            yield Static(self._body, id="sheet-body")

    def show(self, body: Text) -> None:
        """Replace what it says."""
        self._body = body
        self.query_one("#sheet-body", Static).update(body)

    def action_dismiss_sheet(self) -> None:
        """Take it away."""
        self.dismiss()


def help_sheet() -> Sheet:
    """Return the keys."""
    body = pairs(KEYS)
    for note in NOTES:
        body.append(f"\n{note}\n", "#747c8c")
    return Sheet("mdsys top", body)


def pairs(rows: Sequence[tuple[str, str]]) -> Text:
    """Return two columns: what, and how it is."""
    width = max((len(name) for name, _ in rows), default=0)
    body = Text()
    for name, words in rows:
        body.append(f"{name:<{width}}  ", "#747c8c")
        body.append(f"{words}\n", "#c8ccd4")
    return body
