"""One table of a configuration file, its keys taken one by one.

What nobody took is unknown, and the keys that were taken are what a misspelt one is compared with.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from mdsys import config_checks as checks
from mdsys.errors import ConfigError

T = TypeVar("T")
D = TypeVar("D")


class Table:
    """A table; problems go to a common list.

    Args:
        problems: To which each thing that is wrong is appended, a line each.
        refused: To which the table is added in which a value is refused: ``venue[0]``.
        source: What the lines begin with.
        path: Where the table stands: "", ``rings`` or ``venue[0]``.
        values: Its keys, as tomllib returns them.
    """

    def __init__(
        self,
        problems: list[str],
        refused: set[str],
        source: str,
        path: str,
        values: Mapping[str, Any],
    ) -> None:
        self._problems = problems
        self._refused = refused
        self._source = source
        self._path = path
        self._values = values
        self._known: list[str] = []
        self._sound = True

    def refuse(self, key: str, why: str) -> None:
        """Note what is wrong with ``key``."""
        self._refuse(self.place(key), why)

    def _refuse(self, place: str, why: str) -> None:
        self._refused.add(place.partition(".")[0])
        self._complain(place, why)

    def _complain(self, place: str, why: str) -> None:
        self._sound = False
        self._problems.append(f"{self._source}: {place}: {why}")

    def place(self, key: str) -> str:
        """Return where ``key`` stands: ``venue[0].name``."""
        shown = key if re.fullmatch(r"[A-Za-z0-9_.-]+", key) else checks.shown(key)
        return f"{self._path}.{shown}" if self._path else shown

    def take(
        self,
        key: str,
        check: Callable[[Any], T],
        default: D,
        *,
        required: bool = False,
    ) -> T | D:
        """Return what ``check`` makes of a key; ``default`` where it is absent or refused."""
        self._known.append(key)
        if key not in self._values:
            if required:
                self.refuse(key, "missing")
            return default
        try:
            return check(self._values[key])
        except checks.WrongItems as error:
            for index, problem in error.found[: checks.BAD_VALUES_SHOWN_MAX]:
                self._refuse(f"{self.place(key)}[{index}]", problem)
            if (more_count := len(error.found) - checks.BAD_VALUES_SHOWN_MAX) > 0:
                self.refuse(key, f"and {more_count} more values are wrong")
        except ConfigError as error:
            for problem in error.problems:
                self.refuse(key, problem)
        return default

    def table(self, key: str) -> Table:
        """Return a table inside this one; an absent one is empty."""
        values = self.take(key, checks.table, dict[str, Any]())
        return Table(self._problems, self._refused, self._source, self.place(key), values)

    def tables(self, key: str) -> list[Table]:
        """Return an array of tables, of at least one."""
        values = self.take(key, checks.array_of_tables, list[dict[str, Any]]())
        if self._values.get(key, []) == []:
            self.refuse(key, f"none: give at least one [[{key}]]")
        return [
            Table(self._problems, self._refused, self._source, f"{key}[{index}]", each)
            for index, each in enumerate(values)
        ]

    def finish(self) -> bool:
        """Refuse the keys that nobody took; return whether all of the table is sound."""
        for key in self._values:
            if key not in self._known:
                hint = checks.did_you_mean(key, self._known)
                self._complain(self.place(key), f"unknown key{hint}")
        return self._sound
