"""``mdsys check``: every error of a configuration at once, else what it comes to."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mdsys import config
from mdsys.config_checks import masked_url, size_text

MASK = "***"
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")  # another one, as a reader's name, is quoted
_LIST_WIDTH_MAX = 8  # a longer list gets a line for each of its values


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``mdsys check``."""
    parser.add_argument("--config", metavar="FILE", type=Path, required=True, help="the TOML file")


def main(args: argparse.Namespace) -> int:
    """Print the effective configuration as TOML, secrets masked; what is not used, on stderr.

    Raises:
        ConfigError: The file has errors; all of them.
    """
    checked = config.load(args.config)
    print(to_toml(checked), end="")
    if checked.not_used:
        print(f"not used by this version: {', '.join(checked.not_used)}", file=sys.stderr)
    return 0


def to_toml(checked: config.Config) -> str:
    """Return a configuration as TOML that means the same, except for what is masked."""
    values = asdict(checked)
    del values["not_used"]
    venues = values.pop("venues")
    values["rings"]["buffer_size"] = size_text(checked.rings.buffer_size)
    lines = _assignments(
        {key: values.pop(key) for key in list(values) if not isinstance(values[key], dict)}
    )
    for name, table in values.items():
        if assignments := _assignments(table):
            lines += ["", f"[{name}]", *assignments]
    for venue in venues:
        # Names of secrets, but it is here that somebody pastes the secret itself.
        venue["credentials"] = tuple(MASK for _ in venue["credentials"])
        for key in ("url", "rest_url"):
            venue[key] = venue[key] and masked_url(venue[key])
        lines += ["", "[[venue]]", *_assignments(venue)]
    return "\n".join(lines) + "\n"


def _assignments(values: Mapping[str, Any]) -> list[str]:
    """Return ``key = value`` lines; what is None or empty is left out, being the default."""
    return [
        f"{key if _BARE_KEY.fullmatch(key) else json.dumps(key)} = {_literal(value)}"
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
