"""A row in full, as pairs of words: what its table shows, and what only the daemon knows of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mdsys.top.columns import LAYOUTS
from mdsys.top.rows import NOTHING, ConnectionRow
from mdsys.top.source import Look
from mdsys.wording import NONE, duration, printable

MEANINGS: Final[Mapping[str, str]] = {"frame": "last frame", "lost": "sockets lost"}
"""Of a connection's columns, those whose title is shorter than what it means."""


def explained_row(key: str, row: Any, look: Look) -> tuple[str, list[tuple[str, str]]]:
    """Return the name of a row of a table that is not of symbols, and what is known of it."""
    first, *rest = LAYOUTS[key].columns
    name = f"{key.removesuffix('s')} {first.text(row)}"
    pairs = [(each.title, each.text(row)) for each in rest]
    if isinstance(row, ConnectionRow):
        pairs = [(MEANINGS.get(title, title), text) for title, text in pairs if title != "words"]
        pairs += _connection(row, look)
    return name, pairs


def _connection(row: ConnectionRow, look: Look) -> list[tuple[str, str]]:
    """Return what has no column, the venue's words among it, also those of a better time."""
    told = next(
        (
            each
            for each in (look.told.status or NOTHING).get("connections", ())
            if (each["connection"], each["feed"]) == (row.connection, row.feed)
        ),
        NOTHING,
    )
    pairs = [("feed", str(row.feed)), ("to", printable(told.get("url") or NONE))]
    if (retry_s := told.get("retry_s")) is not None:
        pairs.append(("dialled again", f"in {duration(retry_s * 1e9)}"))
    return [*pairs, ("words", row.words or NONE)]


def explained_symbol(answer: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what ``mdsys ctl status SYMBOL`` knows."""
    rows = [("state", _plain(answer["state"])), ("why", _plain(answer["why"]))]
    if answer.get("remedy"):
        rows.append(("remedy", _plain(answer["remedy"])))
    for stream in answer["streams"]:
        last = stream["last_tick_s"]
        ago = "no tick yet" if last is None else f"last tick {duration(last * 1e9)} ago"
        stale = ", stale" if stream["stale"] else ""
        rows.append((stream["channel"], f"{stream['state']}, {ago}{stale}"))
    if (connection := answer.get("connection")) is not None:
        words = f"{connection['connection']}, {connection['state']}, {connection['url']}"
        rows.append(("connection", _plain(words)))
    return rows


def _plain(value: object) -> str:
    return NONE if value is None else printable(str(value))
