"""``mdsys tune``: look at what could be set, print it as shell, set it, take it back."""

from __future__ import annotations

import argparse
import platform
import sys
import textwrap
from collections.abc import Iterable
from typing import Final, TextIO

from mdsys.errors import ExitCode
from mdsys.host import tune_state
from mdsys.host.arguments import add_host_arguments, host_of
from mdsys.host.check import Status, examine_one
from mdsys.host.checks_cores import (
    NO_CORES,
    NO_REST,
    kernel_arguments,
    read_isolated,
    read_rcu,
    read_tickless,
    wanted,
)
from mdsys.host.host import Host
from mdsys.host.settings import ConfigFile, Folder
from mdsys.host.table import CHECKS, line
from mdsys.host.tuning import Change, Step, apply, changes, undo
from mdsys.wording import plural

GRUB_FILE: Final = "/etc/default/grub.d/60-mdsys.cfg"
WIDTH: Final = 98
ACTIONS: Final = ("check", "plan", "apply", "undo")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "action",
        choices=ACTIONS,
        help="check: what is not as it should be; plan: the same as shell, to read and to run; "
        "apply: set it, and remember what was; undo: bring that back",
    )
    add_host_arguments(parser)


def main(arguments: argparse.Namespace) -> int:
    """Do what is asked.

    Returns:
        0, or 1: check found something to change, apply or undo could not do all of it.

    Raises:
        ConfigError: The configuration is wrong.
        HostError: What is remembered is damaged, or another tune is at work.
        NoPermission: apply and undo are root's.
    """
    host = host_of(arguments)
    if arguments.action == "check":
        return check(host, sys.stdout)
    if arguments.action == "plan":
        print_plan(host, changes(host), sys.stdout)
        return ExitCode.OK
    steps = apply(host) if arguments.action == "apply" else undo(host)
    return report(steps, arguments.action, host, sys.stdout)


def check(host: Host, out: TextIO) -> int:
    """Print each check that tune has a hand in, then what apply would change."""
    todo = changes(host)
    for each in CHECKS:
        finding = examine_one(host, each).finding
        if finding.settings:
            wrong = any(not setting.is_so(host) for setting in finding.settings)
            out.write(line(each, "change" if wrong else finding.status, finding.found))
    if not todo:
        out.write("\nnothing to change\n")
        return ExitCode.OK
    out.write(f"\n{plural(len(todo), 'change')}: mdsys tune plan shows them\n")
    return ExitCode.FAILURE


def print_plan(host: Host, todo: Iterable[Change], out: TextIO) -> None:
    """Print a shell script that does what apply would do, but for remembering."""
    out.write(
        "#!/bin/sh\n"
        f"# What mdsys tune apply would change on {platform.node()}, to be run as root. Apply\n"
        "# does the same and remembers what was, for mdsys tune undo.\n"
        "set -eu\n"
    )
    last = None
    for change in todo:
        target = change.setting.target
        if isinstance(target, Folder):
            continue  # install -D makes it
        if change.check is not last:
            out.write(f"\n# {change.check.id}: {change.check.title}\n")
            out.write(textwrap.indent(textwrap.fill(change.check.why, WIDTH), "# ") + "\n")
            last = change.check
        back = f"rm {target.name}" if change.was is None else target.shell(change.was)
        if isinstance(target, ConfigFile) and change.was is not None:
            back = f"mdsys tune undo (there are {target.shown(change.was)} now)"
        ignored = " || true  # the kernel may keep it" if change.setting.may_refuse else ""
        out.write(f"{target.shell(change.setting.wanted)}{ignored}\n# undo: {back}\n")
    if last is None:
        out.write("\n# nothing to change\n")
    _print_boot(host, out)


def _print_boot(host: Host, out: TextIO) -> None:
    """Print the kernel's command line, which takes a reboot: nothing here does that unasked."""
    words = kernel_arguments(host)
    out.write(
        "\n# The kernel's command line: only a reboot changes it, so apply leaves it alone.\n"
    )
    if not words:
        why = f"It follows from the cores, and {NO_REST if wanted(host) else NO_CORES}."
        out.write(textwrap.indent(textwrap.fill(why, WIDTH), "# ") + "\n")
        return
    found = (read(host).status for read in (read_isolated, read_tickless, read_rcu))
    if Status.WARNING not in found:
        out.write("# This one has booted with what the cores need.\n")
        return
    out.write(
        f"# cat > {GRUB_FILE} <<'END'\n"
        f'# GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {words}"\n'
        "# END\n"
        "# update-grub && reboot\n"
        f"# undo: rm {GRUB_FILE} && update-grub && reboot\n"
        "# Boot loaders other than grub: add to their command line\n"
        f"#   {words}\n"
    )


def report(steps: Iterable[Step], action: str, host: Host, out: TextIO) -> int:
    """Print each step as it is done; then what is left to say."""
    done = refused = failed = 0
    for step in steps:
        width = len(str(step.count))
        old, new = (step.target.shown(value) for value in (step.old, step.new))
        change = f"{old} -> {new}" if old != new else f"{old}, as it was"
        problem = f": NOT done: {step.problem}" if step.problem else ""
        out.write(f"[{step.number:{width}}/{step.count}] {step.target.name}: {change}{problem}\n")
        out.flush()
        done += not step.problem
        refused += bool(step.problem) and not step.is_failure
        failed += step.is_failure
    if not done + refused + failed:
        out.write("nothing to change\n" if action == "apply" else "nothing to undo\n")
        return ExitCode.OK
    out.write(f"{plural(done, 'change')} {'made' if action == 'apply' else 'taken back'}")
    out.write(f", {refused} refused by the kernel, which may" if refused else "")
    out.write(f", {failed} failed" if failed else "")
    state = host.path(tune_state.FILE)
    if action == "apply":
        out.write(f"; mdsys tune undo takes them back ({state})")
    elif failed:
        out.write(f"; what is left stands in {state}: run mdsys tune undo again")
    out.write("\n")
    return ExitCode.FAILURE if failed else ExitCode.OK
