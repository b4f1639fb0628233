"""``mdsys check``: every error of a configuration at once, else what it comes to."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mdsys import config_file
from mdsys.config import Config, Examined, VenueConfig
from mdsys.config_checks import masked_url, size_text, windows_text
from mdsys.daemon.credentials import (
    ENVIRONMENT_PREFIX,
    Credentials,
    environment_name,
    wanted_fields,
)
from mdsys.daemon.plan import Placement, terms_of
from mdsys.errors import ConfigError
from mdsys.feed.venue import venues
from mdsys.wording import plural

MASK = "***"
SECRET_SIZE_MIN = 16
"""Characters; the venues' keys are as long, or longer."""
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")  # another one, as a reader's name, is quoted
_LIST_WIDTH_MAX = 8  # a longer list gets a line for each of its values


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``mdsys check``."""
    parser.add_argument("--config", metavar="FILE", type=Path, required=True, help="the TOML file")


def main(args: argparse.Namespace) -> int:
    """Print the effective configuration as TOML, secrets masked.

    On stderr go what was capped, and where each credential was found.

    Raises:
        ConfigError: The file has errors, a credential cannot be read, or the symbols are too many
            for the connections that there may be; all of them.
    """
    examined = config_file.examine(args.config)
    checked = examined.config
    credentials = Credentials(
        wanted_fields([each for each in checked.venues if each.name], venues())
    )
    faults = credentials.read().problems
    found, missing = look_up_credentials(checked, str(args.config), credentials, faults)
    if not examined.problems:
        print(to_toml(checked, credentials), end="", flush=True)
        for line in [*checked.capped, *found]:
            print(line, file=sys.stderr)
    if problems := [*examined.problems, *missing, *misfits(examined, str(args.config))]:
        raise ConfigError(*problems)
    return 0


def look_up_credentials(
    checked: Config, source: str, credentials: Credentials, faults: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """Return a line for each credential that has been read, and for each that could not be.

    Args:
        checked: Which names them.
        source: What error messages begin with.
        credentials: They have been read.
        faults: What came of that.
    """
    found: list[str] = []
    wrong: list[str] = []
    for index, venue in enumerate(checked.venues):
        for number, name in enumerate(venue.credentials if venue.name else ()):
            place = f"venue[{index}].credentials[{number}]"
            if (at := credentials.source(name)) is not None:
                count = len(credentials.secret(name))
                found.append(f"{place}: {at} ({plural(count, 'field')})")
            elif credentials.is_anywhere(name):
                wrong.append(f"{source}: {place}: {faults[name]}")
            else:
                file, variable = f"file {name}", environment_name(name)
                if _shown_name(name, credentials) == MASK:
                    file, variable = "file of this name", f"{ENVIRONMENT_PREFIX}..."
                wrong.append(
                    f"{source}: {place}: not found: no {file} in "
                    f"{' or '.join(map(str, credentials.folders))}, and no variable {variable}: "
                    "see docs/credentials.md"
                )
    return found, wrong


def _shown_name(name: str, credentials: Credentials) -> str:
    """Return the name of a secret; a long one that names nothing may be the secret, misplaced."""
    if len(name) < SECRET_SIZE_MIN or credentials.is_anywhere(name):
        return name
    return name if credentials.source(name) else MASK


def misfits(examined: Examined, source: str) -> list[str]:
    """Return a line for each venue that lets us have too few connections for its symbols.

    A new instance is meant: what a symbol directory binds to its feeds, only the daemon knows. Not
    judged is what is refused already.
    """
    checked = examined.config
    if examined.refused & {"rings", "feeds"}:
        return []
    placement = Placement({feed: [feed] for feed in range(checked.feeds.num_processes)})
    found: list[str] = []
    for index, venue in enumerate(checked.venues):
        if f"venue[{index}]" not in examined.refused:
            try:
                for _ in placement.add(terms_of(venue, index), venue.symbols, lambda _: None):
                    pass
            except ConfigError as error:
                found += [f"{source}: {problem}" for problem in error.problems]
    return found


def to_toml(checked: Config, credentials: Credentials) -> str:
    """Return a configuration as TOML that means the same, except for what is masked.

    A symbols_file is named as the file names it, which lies beside: it may have 50,000 lines.
    """
    values = asdict(replace(checked, venues=()))
    del values["capped"], values["venues"]
    values["rings"]["buffer_size"] = size_text(checked.rings.buffer_size)
    lines = _assignments(
        {key: values.pop(key) for key in list(values) if not isinstance(values[key], dict)}
    )
    for name, table in values.items():
        if assignments := _assignments(table):
            lines += ["", f"[{name}]", *assignments]
    for venue in checked.venues:
        file = venue.symbols_file
        notes = {"symbols_file": f"{file.count:,} symbol{'s'[: file.count != 1]}"} if file else {}
        lines += ["", "[[venue]]", *_assignments(_venue(venue, credentials), notes)]
    return "\n".join(lines) + "\n"


def _venue(venue: VenueConfig, credentials: Credentials) -> dict[str, Any]:
    values = {each.name: getattr(venue, each.name) for each in fields(venue)}
    if (file := venue.symbols_file) is not None:
        values["symbols"] = venue.symbols[: file.listed_count]
        values["symbols_file"] = file.name
    values["credentials"] = tuple(_shown_name(name, credentials) for name in venue.credentials)
    for key in ("url", "rest_url"):
        values[key] = values[key] and masked_url(values[key])
    limits = {key: getattr(venue.limits, key) for key in config_file.LIMITS}
    values["limits"] = {
        key: windows_text(value) if isinstance(value, tuple) else value
        for key, value in limits.items()
        if value not in (None, ())
    }
    return values


def _assignments(
    values: Mapping[str, Any], notes: Mapping[str, str] = MappingProxyType({})
) -> list[str]:
    """Return ``key = value`` lines; what is None or empty is left out, being the default.

    Args:
        values: By key.
        notes: Key -> what stands behind its value, as a comment.
    """
    return [
        f"{key if _BARE_KEY.fullmatch(key) else json.dumps(key)} = {_literal(value)}"
        + (f"  # {notes[key]}" if key in notes else "")
        for key, value in values.items()
        if value is not None and value not in ((), {})
    ]


def _literal(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case dict():
            return "{" + ", ".join(_assignments(value)) + "}"
        case tuple() if len(value) > _LIST_WIDTH_MAX:
            return "[\n" + "".join(f"    {_literal(each)},\n" for each in value) + "]"
        case tuple():
            return "[" + ", ".join(map(_literal, value)) + "]"
        case _:
            # JSON's escapes are TOML's, except that TOML wants DEL escaped as well.
            return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
