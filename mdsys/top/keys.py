"""The bar of keys below: as many as there is room for, and the most needed always."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from textual.events import Click

from mdsys.top.lines import Line, Lines, Piece


class Key(NamedTuple):
    """One of them."""

    shown: str
    does: str
    need: int = 0
    """Where there is not room for all, those with the greatest go first; 0: never."""
    press: str = ""
    """What a click on it presses; empty: what it shows."""


TABLE: Final = (
    Key("?", "help", press="question_mark"),
    Key("q", "end"),
    Key("Tab", "table", 1, "tab"),
    Key("/", "filter", 2, "slash"),
    Key("Enter", "explain", 3, "enter"),
    Key("←→", "sort by", 4, "right"),
    Key("z", "alone", 5),
    Key("Space", "hold", 6, "space"),
    Key("r", "reverse", 7),
)
"""Where a table has the keys."""
FILTER: Final = (
    Key("Enter", "keep the filter", press="enter"),
    Key("Esc", "take it away", press="escape"),
)
"""Where the filter has them: every other key is a letter there."""
GAP: Final = 2


def fitting(keys: Sequence[Key], width: int) -> list[Key]:
    """Return the keys that there is room for, in their order."""
    kept = list(keys)
    while sum(map(_size, kept)) - GAP > width:
        least = max(kept, key=lambda each: each.need)
        if least.need == 0:
            break
        kept.remove(least)
    return kept


def _size(key: Key) -> int:
    return len(key.shown) + 1 + len(key.does) + GAP


class KeyBar(Lines):
    """Shows the keys; a click presses one."""

    def __init__(self) -> None:
        super().__init__(id="keys")
        self._keys: Sequence[Key] = TABLE

    def show(self, keys: Sequence[Key]) -> None:
        """Show others."""
        self._keys = keys
        self.update()

    def lines(self, width: int, height: int) -> Sequence[tuple[Line, bool]]:  # noqa: ARG002
        """Return the bar."""
        pieces: list[Piece] = [(" ", "dim")]
        for key in fitting(self._keys, width - 2):
            pieces += [(key.shown, "accent"), (f" {key.does}{' ' * GAP}", "dim")]
        return [(tuple(pieces), False)]

    def on_click(self, event: Click) -> None:
        """Press what is clicked on."""
        end = 1
        for key in fitting(self._keys, self.size.width - 2):
            end += _size(key)
            if event.x < end:
                self.app.simulate_key(key.press or key.shown)
                return
