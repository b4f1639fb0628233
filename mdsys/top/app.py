"""The view: looks twice a second, draws what has changed, and obeys keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Protocol

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Input, Static

from mdsys.errors import MdsysError
from mdsys.top.columns import LAYOUTS
from mdsys.top.explained import explained_row, explained_symbol
from mdsys.top.head import Head
from mdsys.top.history import History
from mdsys.top.keys import FILTER, TABLE, KeyBar
from mdsys.top.rows import connection_rows, reader_rows, ring_rows, troubles
from mdsys.top.screens import Sheet, help_sheet, pairs
from mdsys.top.source import Look
from mdsys.top.symbols import Ranking
from mdsys.top.table import Table, hides_all

LOOK_S: Final = 0.5
WIDE: Final = 156
"""Columns from which on tables stand side by side."""
TABLE_LINES_MIN: Final = 5
"""Of a table that has more to say: fewer tell nothing."""
SIDES: Final = (("connections", "readers", "rings"), ("hottest", "stalest"))
"""What stands below one another in a wide terminal."""
SIDE_WIDTHS: Final = ("10fr", "9fr")


class Feeding(Protocol):
    """What gives the numbers: `mdsys.top.watching.Watching`, or a test."""

    @property
    def waiting_for(self) -> str:
        """Why the next life of the segments cannot be attached yet."""

    @property
    def serial(self) -> object:
        """Another one when the numbers begin anew."""

    def look(self) -> Look:
        """Return the numbers as they are now."""

    def ranking(self, look: Look, pattern: str) -> Ranking:
        """Return the symbols that move most, and the silent ones."""

    def explain(self, symbol: str) -> Mapping[str, Any]:
        """Return what the daemon knows of a symbol; may take a while."""


class Top(App[None]):
    """``mdsys top``.

    Args:
        feeding: Where the numbers come from.
        every_s: How often they are looked at; None: only when `tick` is called.
    """

    CSS_PATH = None
    ENABLE_COMMAND_PALETTE = False
    TITLE = "mdsys top"
    CSS = """
    Screen { background: #14171d; overflow: hidden; }
    #body { height: 1fr; }
    .hidden { display: none; }
    #keys { height: 1; }
    #filter { height: 1; background: #252b36; display: none; }
    #filter.open { display: block; }
    #filter Static { width: auto; padding: 0 1; color: #e0b45c; background: #252b36; }
    #filter Input { width: 1fr; height: 1; border: none; background: #252b36; }
    Sheet { align: center middle; background: #14171d 60%; }
    #sheet {
        width: 92; max-width: 100%; height: auto; max-height: 90%;
        border: round #3b4252; background: #1b1f27; padding: 1 2;
    }
    #sheet-body { height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "table(1)", priority=True),
        Binding("shift+tab", "table(-1)", priority=True),
        Binding("slash", "filter", priority=True),
        Binding("space,p", "pause"),
        Binding("z", "zoom"),
        Binding("question_mark,h,f1", "help"),
        Binding("escape", "clear"),
        Binding("q", "quit"),
        Binding("ctrl+c", "quit", priority=True),
    ]

    def __init__(self, feeding: Feeding, every_s: float | None = LOOK_S) -> None:
        super().__init__()
        self._feeding = feeding
        self._every_s = every_s
        self._history = History()
        self._head = Head()
        self._keys = KeyBar()
        self._tables = {key: Table(key, layout) for key, layout in LAYOUTS.items()}
        self._current = next(iter(self._tables))
        """The table that the keys are at, or come back to."""
        self._arrangement: object = None
        self._pattern = ""
        self._zoomed = False
        self._held = False

    def compose(self) -> ComposeResult:
        """Lay it out: the head, and the tables in two columns or one."""
        yield self._head
        with Horizontal(id="body"):
            for place, side in enumerate(SIDES):
                with Vertical(id=f"side{place}"):
                    for key in side:
                        yield self._tables[key]
        with Horizontal(id="filter"):
            yield Static("filter")
            yield Input(placeholder="part of a name", compact=True)
        yield self._keys

    def on_mount(self) -> None:
        """Begin."""
        self._tables[self._current].focus()
        self.tick()
        if self._every_s is not None:
            self.set_interval(self._every_s, self.tick)

    def on_resize(self) -> None:
        """Lay it out for the terminal's new size, once that has got about."""
        self.call_after_refresh(self._arrange)

    def on_descendant_focus(self) -> None:
        """Note where a click has brought the keys."""
        if isinstance(self.focused, Table) and self.focused.id is not None:
            self._current = self.focused.id
        self._keys.show(FILTER if isinstance(self.focused, Input) else TABLE)

    @property
    def history(self) -> History:
        """What has been seen."""
        return self._history

    def tick(self) -> None:
        """Look, and draw what has changed."""
        look = self._feeding.look()
        self._history.add(look, self._feeding.serial)
        if not self._held:
            self._draw()

    def _draw(self) -> None:
        look, history, pattern = self._history.look, self._history, self._pattern
        readers, connections = reader_rows(history), connection_rows(history)
        ranking = self._feeding.ranking(look, pattern)
        found = troubles(history, readers, connections)
        self._head.paused = self._held
        self._head.show(history, found, self._feeding.waiting_for)
        tables = self._tables
        tables["rings"].show(ring_rows(history), pattern=pattern)
        why = look.told.why or "" if readers is None else ""
        tables["readers"].show(readers or (), f"not known: {why}" if why else "", pattern)
        tables["connections"].show(connections, pattern=pattern)
        empty = hides_all(pattern) if pattern and not ranking.picked else ""
        moving = f"of {ranking.moving:,} that move"
        tables["hottest"].show(ranking.hottest, moving, pattern, empty)
        never = f", {ranking.never:,} never heard" if ranking.never else ""
        silent = f"of {ranking.picked:,}" if ranking.stalest else "none is silent"
        tables["stalest"].show(ranking.stalest, f"{silent}{never}", pattern, empty)
        self._arrange()

    def _arrange(self) -> None:
        """Decide which tables are to be seen, and how many lines each gets, and the head."""
        wide = self.size.width >= WIDE
        bars = 2 if self.query_one("#filter").has_class("open") else 1
        lines = max(self.size.height - bars, 1)
        # Half of them are the tables', where these have so much to say; of the head hops give way.
        least = max(lines - max(lines // 2, TABLE_LINES_MIN), min(lines - TABLE_LINES_MIN + 2, 3))
        least = self._head.height(least)
        room = lines - least + 1  # below the last table stands no other: it needs no line for that
        stacks = SIDES if wide else (tuple(self._tables),)
        first = ""
        if self._zoomed or any(sum(map(self._least, stack)) > room for stack in stacks):
            wide, stacks, first = False, (self._chosen(room),), self._current
        wanted = max(sum(self._tables[key].height_wanted for key in stack) for stack in stacks)
        head = self._head.height(max(lines - wanted + 1, least))
        heights: dict[str, int] = {}
        for stack in stacks:
            heights |= self._heights(stack, lines - head, first)
        arrangement = wide, head, tuple(heights.items())
        if arrangement == self._arrangement:
            return
        self._arrangement = arrangement
        self._head.styles.height = head
        for key, table in self._tables.items():
            table.set_class(key not in heights, "hidden")
            table.styles.height = heights.get(key, 0)
        for place, side in enumerate(SIDES):
            box = self.query_one(f"#side{place}")
            box.set_class(not any(key in heights for key in side), "hidden")
            box.styles.height = "1fr" if wide else "auto"
            box.styles.width = SIDE_WIDTHS[place] if wide else "1fr"
        self.query_one("#side0").styles.padding = (0, 2 if wide else 0, 0, 0)
        self.query_one("#body").styles.layout = "horizontal" if wide else "vertical"

    def _heights(self, stack: Sequence[str], lines: int, first: str) -> dict[str, int]:
        """Return how many lines each of a stack gets; ``first``: which one all that it wants."""
        wanted = {key: self._tables[key].height_wanted for key in stack}
        heights = dict.fromkeys(stack, 0)
        room = lines + 1
        if first and len(stack) > 1:
            heights[first] = min(wanted.pop(first), room)
            room -= heights[first]
        heights |= zip(wanted, shares(list(wanted.values()), room), strict=True)
        heights[stack[-1]] -= 1
        return heights

    def _least(self, key: str) -> int:
        """Return how many lines a table must have to tell anything."""
        return min(self._tables[key].height_wanted, TABLE_LINES_MIN)

    def _chosen(self, room: int) -> tuple[str, ...]:
        """Return the table with the keys, and those that have room beside all that it says."""
        left = room - self._tables[self._current].height_wanted
        chosen = {self._current}
        for key in self._tables:
            if key not in chosen and not self._zoomed and self._least(key) <= left:
                chosen.add(key)
                left -= self._least(key)
        return tuple(key for key in self._tables if key in chosen)

    def action_table(self, by: int) -> None:
        """Go to the next table, which may have to be shown first."""
        if isinstance(self.screen, Sheet):
            return
        names = list(self._tables)
        self._current = names[(names.index(self._current) + by) % len(names)]
        self._arrange()
        self._tables[self._current].focus()

    def action_pause(self) -> None:
        """Hold the screen still, or let it go on."""
        self._held = not self._held
        self._draw()

    def action_zoom(self) -> None:
        """Show one table, or all."""
        self._zoomed = not self._zoomed
        self._arrange()

    def action_help(self) -> None:
        """Show the keys."""
        self.push_screen(help_sheet())

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Return whether an action is to be had: not the filter where / is a letter, or a sheet."""
        return action != "filter" or not (
            isinstance(self.screen, Sheet) or isinstance(self.focused, Input)
        )

    def action_filter(self) -> None:
        """Ask for a filter, and give it the keys before the next one is looked at.

        So it is an action of priority: others are found only once the key has been through a
        table and all that holds it, and what is typed behind it would be there already.
        """
        self._open_filter(is_open=True)
        self.screen.set_focus(self.query_one(Input))  # Input.focus() would do so later

    def action_clear(self) -> None:
        """Take the filter away."""
        self._pattern = ""  # the box tells that it is empty only later
        self.query_one(Input).value = ""
        self._leave_filter()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while it is typed."""
        self._pattern = event.value.strip()
        self._draw()

    def on_input_submitted(self) -> None:
        """Leave it as it is."""
        self._leave_filter()

    def _leave_filter(self) -> None:
        """Give the keys back; what is filtered by stays in sight."""
        if self.query_one(Input).has_focus:
            self._tables[self._current].focus()
        self._open_filter(is_open=bool(self._pattern))

    def _open_filter(self, *, is_open: bool) -> None:
        self.query_one("#filter").set_class(is_open, "open")
        self._arrange()

    def on_table_chosen(self, event: Table.Chosen) -> None:
        """Explain a row."""
        if event.key in ("hottest", "stalest"):
            symbol = event.row.symbol
            sheet = Sheet(symbol, Text("asking the daemon ..."))
            self.push_screen(sheet)
            self.run_worker(lambda: self._ask(sheet, symbol), thread=True)
            return
        name, words = explained_row(event.key, event.row, self._history.look)
        self.push_screen(Sheet(name, pairs(words)))

    def _ask(self, sheet: Sheet, symbol: str) -> None:
        """Ask the daemon about a symbol, in a thread: it may have much to do."""
        try:
            body = pairs(explained_symbol(self._feeding.explain(symbol)))
        except MdsysError as error:
            body = Text(str(error))
        self.call_from_thread(self._show, sheet, body)

    def _show(self, sheet: Sheet, body: Text) -> None:
        if sheet.is_attached:
            sheet.show(body)


def shares(wanted: Sequence[int], room: int) -> list[int]:
    """Share lines out: nobody gets more than it wants while another wants more.

    What nobody wants is the last one's.
    """
    given = [0] * len(wanted)
    left = room
    for place in sorted(range(len(wanted)), key=wanted.__getitem__):
        waiting = len(wanted) - sum(each > 0 for each in given)
        given[place] = min(wanted[place], left // waiting)
        left -= given[place]
    given[-1] += left
    return given
