"""``mdsys doctor``: what of this host is wrong for mdsys, why it matters, what mends it."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, TextIO

from mdsys.errors import ExitCode
from mdsys.host.arguments import add_host_arguments, host_of
from mdsys.host.check import Result, Status, examine
from mdsys.host.table import CHECKS, line
from mdsys.wording import plural

WIDTH: Final = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add_host_arguments(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object")


def main(arguments: argparse.Namespace) -> int:
    """Look at everything, and print it.

    Returns:
        0 when all is well, 2 with warnings, 1 with failures.

    Raises:
        ConfigError: The configuration is wrong.
    """
    results = examine(host_of(arguments), CHECKS)
    if arguments.json:
        print(json.dumps({"checks": [as_json(each) for each in results]}))
    else:
        print_results(results, sys.stdout)
    return exit_code(results)


def exit_code(results: Sequence[Result]) -> ExitCode:
    """Return the code that the worst finding asks for."""
    found = {each.finding.status for each in results}
    if Status.FAILURE in found:
        return ExitCode.FAILURE
    return ExitCode.WARNINGS if Status.WARNING in found else ExitCode.OK


def as_json(result: Result) -> dict[str, Any]:
    """Return one check as ``--json`` prints it; fix is null where there is nothing to mend."""
    return {
        "id": result.check.id,
        "status": str(result.finding.status),
        "found": result.finding.found,
        "why": result.check.why,
        "fix": result.fix or None,
    }


def print_results(results: Sequence[Result], out: TextIO) -> None:
    """Print for people: every check a line, and below what is wrong its why and its remedy."""
    for result in results:
        finding = result.finding
        out.write(line(result.check, finding.status, finding.found))
        if finding.status in (Status.WARNING, Status.FAILURE):
            out.write(textwrap.indent(textwrap.fill(result.check.why, WIDTH - 9), " " * 9) + "\n")
            out.write(textwrap.indent(result.fix, " " * 11) + "\n" if result.fix else "")
    counts = Counter(each.finding.status for each in results)
    out.write(
        f"\n{plural(len(results), 'check')}: {counts[Status.OK]} ok, "
        f"{plural(counts[Status.WARNING], 'warning')}, "
        f"{plural(counts[Status.FAILURE], 'failure')}, {counts[Status.SKIPPED]} skipped\n"
    )
    if any(result.finding.settings and result.fix for result in results):
        out.write("mdsys tune plan shows what of it mdsys tune apply would mend\n")
