"""A table that is sorted, filtered and scrolled by keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from textual.binding import Binding, BindingType
from textual.events import Click, MouseScrollDown, MouseScrollUp
from textual.message import Message

from mdsys.top.columns import Column, Layout, fit, ordered
from mdsys.top.lines import Line, Lines, Piece, joined, put
from mdsys.wording import printable

HEAD_LINES = 2


def hides_all(pattern: str) -> str:
    """Return what stands in a table of which the filter leaves nothing."""
    return f'the filter hides all: none has "{printable(pattern)}" in its name; Esc takes it away'


class Table(Lines):
    """One of them.

    Args:
        key: Its name among the tables.
        layout: Its columns.
    """

    can_focus = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)"),
        Binding("down,j", "move(1)"),
        Binding("pageup", "page(-1)"),
        Binding("pagedown", "page(1)"),
        Binding("home,g", "move(-1000000)"),
        Binding("end,G", "move(1000000)"),
        Binding("left,less_than_sign", "sort(-1)"),
        Binding("right,greater_than_sign", "sort(1)"),
        Binding("r", "reverse"),
        Binding("enter", "choose"),
    ]

    class Chosen(Message):
        """Enter was pressed on a row."""

        def __init__(self, key: str, row: Any) -> None:
            super().__init__()
            self.key = key
            self.row = row

    def __init__(self, key: str, layout: Layout[Any]) -> None:
        super().__init__(id=key)
        self._key = key
        self._layout = layout
        self._by = next(each for each in layout.columns if each.title == layout.sort)
        self._descending = self._by.descending
        self._all: Sequence[Any] = ()
        self._rows: list[Any] = []
        self._note = ""
        self._pattern = ""
        self._empty = ""
        self._at = 0
        self._first = 0

    @property
    def rows(self) -> Sequence[Any]:
        """What it shows, in order."""
        return self._rows

    @property
    def height_wanted(self) -> int:
        """How many lines it has to say, and one that sets it off from the next."""
        return HEAD_LINES + max(len(self._rows), 1) + 1

    @property
    def cursor(self) -> int:
        """The place of the row that the keys are at."""
        return self._at

    def show(self, rows: Iterable[Any], note: str = "", pattern: str = "", empty: str = "") -> None:
        """Take in new rows.

        Args:
            rows: All of them.
            note: Stands in the title.
            pattern: Only rows whose name holds it are shown, whatever its case.
            empty: Why there are no rows, where that is not plain.
        """
        self._all, self._note, self._pattern = list(rows), note, pattern
        self._empty = empty or (hides_all(pattern) if pattern and self._all else "")
        self._arrange()

    def _arrange(self) -> None:
        wanted = self._pattern.upper()
        picked = [row for row in self._all if wanted in self._layout.name(row).upper()]
        self._rows = ordered(picked, self._by, descending=self._descending)
        self._keep_in_sight()
        self.update()

    def _keep_in_sight(self) -> None:
        room = max(self.size.height - HEAD_LINES, 1)
        self._at = min(max(self._at, 0), max(len(self._rows) - 1, 0))
        self._first = min(self._first, self._at, max(len(self._rows) - room, 0))
        self._first = max(self._first, self._at - room + 1)

    def lines(self, width: int, height: int) -> list[tuple[Line, bool]]:
        """Return title, column heads and as many rows as there is room for."""
        columns = fit(self._layout.columns, width - 2)
        shown = self._rows[self._first : self._first + height - HEAD_LINES]
        out: list[tuple[Line, bool]] = [(self._title(width), False), (self._heads(columns), False)]
        for place, row in enumerate(shown, self._first):
            out.append((self._line(columns, row), self.has_focus and place == self._at))
        if self._empty and not shown:
            out.append((((f" {self._empty}", "warn"),), False))
        return out

    def _title(self, width: int) -> Line:
        count = f"{len(self._rows):,}" if self._rows or not self._note else ""
        if len(self._rows) != len(self._all):
            count += f" of {len(self._all):,}"
        tone = "accent" if self.has_focus else "bold"
        words = "  ".join(filter(None, (count, self._note)))
        name = self._layout.title
        rule = "─" * max(width - len(name) - len(words) - 6, 0)
        return (
            ("─ ", "dim"),
            (name, tone),
            (f"  {words} " if words else " ", "dim"),
            (rule, "dim"),
        )

    def _heads(self, columns: Sequence[tuple[Column[Any], int]]) -> Line:
        pieces: list[Piece] = [(" ", "dim")]
        for column, width in columns:
            here = column is self._by
            arrow = ("▾ " if self._descending else "▴ ") if here else "  "
            title = put(column.title, width, left=column.left)
            if here and column.left:
                title, arrow = put(f"{column.title}{arrow}", width + 2, left=True), ""
            pieces.append((f"{title}{arrow}", "bold" if here else "dim"))
        return joined(pieces)

    def _line(self, columns: Sequence[tuple[Column[Any], int]], row: Any) -> Line:
        pieces: list[Piece] = [(" ", "plain")]
        for column, width in columns:
            text = put(column.text(row), width, left=column.left)
            pieces += [(text, column.tone(row)), ("  ", "plain")]
        return joined(pieces)

    def on_focus(self) -> None:
        """Say so."""
        self.update()

    def on_blur(self) -> None:
        """Say so no more."""
        self.update()

    def on_resize(self) -> None:
        """Keep the cursor in sight."""
        self._keep_in_sight()
        self.update()

    def on_click(self, event: Click) -> None:
        """Go to the row, or sort by the column."""
        self.focus()
        if event.y >= HEAD_LINES:
            self._at = self._first + event.y - HEAD_LINES
            self._keep_in_sight()
        elif event.y == HEAD_LINES - 1:
            end = 1
            for column, width in fit(self._layout.columns, self.size.width - 2):
                end += width + 2
                if event.x < end:
                    self._sort_by(column)
                    return
        self.update()

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        """Go down."""
        event.stop()
        self.action_move(3)

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        """Go up."""
        event.stop()
        self.action_move(-3)

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        self._at += by
        self._keep_in_sight()
        self.update()

    def action_page(self, by: int) -> None:
        """Move it by what can be seen."""
        self.action_move(by * max(self.size.height - HEAD_LINES, 1))

    def action_sort(self, by: int) -> None:
        """Sort by the next column to the right or left, of those that can be seen."""
        columns = [column for column, _ in fit(self._layout.columns, self.size.width - 2)]
        place = columns.index(self._by) if self._by in columns else 0
        self._sort_by(columns[(place + by) % len(columns)])

    def _sort_by(self, column: Column[Any]) -> None:
        self._descending = column.descending if column is not self._by else not self._descending
        self._by = column
        self._arrange()

    def action_reverse(self) -> None:
        """Sort the other way round."""
        self._descending = not self._descending
        self._arrange()

    def action_choose(self) -> None:
        """Have the row explained."""
        if self._rows:
            self.post_message(self.Chosen(self._key, self._rows[self._at]))
