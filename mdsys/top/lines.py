"""What is drawn: lines of toned words, and a widget that draws only those that have changed.

A terminal view costs what it repaints. Rich's tables and Textual's DataTable lay out and style
every cell anew; here a line is a few pieces of finished text, compared with what stands there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.filter import ANSIToTruecolor
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

COLOURS: Final[Mapping[str, str]] = {
    "plain": "#c8ccd4",
    "dim": "#747c8c",
    "bold": "bold #eceff4",
    "accent": "bold #7fb4d8",
    "spark": "#6f9fbf",
    "warn": "#e0b45c",
    "bad": "bold #e8686e",
}
"""Colour is for what is wrong; the one accent says where the keys go."""
STYLES: Final = {tone: Style.parse(f"{colour} on #14171d") for tone, colour in COLOURS.items()}
CURSOR_STYLES: Final = {
    tone: Style.parse(f"{colour} on #252b36") for tone, colour in COLOURS.items()
}

Piece = tuple[str, str]
"""A text and its tone."""
Line = tuple[Piece, ...]


def joined(pieces: Iterable[Piece]) -> Line:
    """Return the pieces, neighbours of one tone made one: each piece costs at every repaint."""
    texts: list[str] = []
    tones: list[str] = []
    for text, tone in pieces:
        if texts and (tone == tones[-1] or text.isspace()):
            texts[-1] += text
        else:
            texts.append(text)
            tones.append(tone)
    return tuple(zip(texts, tones, strict=True))


def strip(line: Line, width: int, *, cursor: bool = False) -> Strip:
    """Return a line of exactly ``width`` cells."""
    styles = CURSOR_STYLES if cursor else STYLES
    segments = []
    left = width
    for text, tone in line:
        size = _size(text)
        if size > left:
            text, size = set_cell_size(text, left), left  # noqa: PLW2901  what has room of it
        if size:
            segments.append(Segment(text, styles[tone]))
        left -= size
    if left:
        segments.append(Segment(" " * left, styles["plain"]))
    return Strip(segments, width)


def _size(text: str) -> int:
    return len(text) if text.isascii() else cell_len(text)


def put(text: str, width: int, *, left: bool) -> str:
    """Return text in a column, cut where it is too long."""
    size = _size(text)
    if size > width:
        return set_cell_size(text, width - 1) + "…" if width > 0 else ""
    blanks = " " * (width - size)
    return text + blanks if left else blanks + text


def _runs(places: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield first and count of each run of neighbours among ascending numbers."""
    for _, run in groupby(enumerate(places), lambda each: each[1] - each[0]):
        numbers = [place for _, place in run]
        yield numbers[0], len(numbers)


class Lines(Widget):
    """A stack of lines, as many as it is high."""

    def __init__(self, id: str) -> None:  # noqa: A002  Textual's own word
        super().__init__(id=id)
        self._shown: list[tuple[Line, bool]] = []
        self._strips: list[Strip] = []

    def lines(self, width: int, height: int) -> Sequence[tuple[Line, bool]]:
        """Return what is to be seen now, and of each line whether the cursor is there."""
        raise NotImplementedError

    def update(self) -> None:
        """Draw what has changed."""
        width, height = self.size
        if width == 0 or height == 0:
            return
        new = list(self.lines(width, height))[:height]
        new += [((), False)] * (height - len(new))
        whole = len(self._strips) != height or (
            bool(self._strips) and self._strips[0].cell_length != width
        )
        changed = [y for y in range(height) if whole or self._shown[y] != new[y]]
        strips = [Strip([])] * height if whole else self._strips
        for y in changed:
            line, cursor = new[y]
            strips[y] = strip(line, width, cursor=cursor)
        self._shown, self._strips = new, strips
        if whole:
            self.refresh()
        elif changed:
            self.refresh(*(Region(0, y, width, count) for y, count in _runs(changed)))

    def render_lines(self, crop: Region) -> list[Strip]:
        """Return finished lines as they are: nothing of a style sheet is to be put around them."""
        width = self.size.width  # asked once: it costs more than a line
        blank = strip((), width)
        made = self._strips if self._strips and self._strips[0].cell_length == width else []
        strips = [
            (made[y] if y < len(made) else blank).crop(crop.x, crop.right) for y in crop.line_range
        ]
        for each in self.get_line_filters():
            if not isinstance(each, ANSIToTruecolor):  # of which there is nothing here; NO_COLOR is
                strips = [strip.apply_filter(each, self.background_colors[1]) for strip in strips]
        return strips

    def on_resize(self) -> None:
        """Draw everything anew."""
        self.update()

    def get_content_width(self, container: Size, viewport: Size) -> int:  # noqa: ARG002
        """Return all there is."""
        return container.width
