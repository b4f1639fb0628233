"""Change a host as the table says, and take it back.

Apply remembers first and changes then; undo goes the same way backwards, and forgets last. So each
can be killed at any moment and be run again, and undo after a killed apply restores what was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from mdsys.errors import HostError
from mdsys.host import tune_state
from mdsys.host.check import Check, examine
from mdsys.host.host import Host
from mdsys.host.settings import ConfigFile, Folder, Setting, Target, chosen, satisfies
from mdsys.host.table import CHECKS
from mdsys.host.tune_state import Entry


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that the table wants otherwise."""

    check: Check
    setting: Setting
    was: str | None


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was done, or refused."""

    number: int
    count: int
    target: Target
    old: str | None
    new: str | None
    problem: str = ""
    """Why it is not so; empty: it is."""
    is_failure: bool = False
    """Whether that is to be told by the exit code."""


def changes(host: Host) -> list[Change]:
    """Return all that would be changed, each once, in the order of the table."""
    found: dict[str, Change] = {}
    for result in examine(host, CHECKS):
        for setting in result.finding.settings:
            for each in (*_folders(host, setting), setting):
                if each.target.key not in found and not each.is_so(host):
                    change = Change(result.check, each, each.target.now(host))
                    found[each.target.key] = change
    return list(found.values())


def _folders(host: Host, setting: Setting) -> Iterator[Setting]:
    """Give the folders that the host lacks on the way to a file, the outermost first."""
    if not isinstance(setting.target, ConfigFile) or setting.is_so(host):
        return
    for folder in reversed(PurePosixPath(setting.target.name).parents):
        if not host.exists(str(folder)):
            yield Setting(Folder(str(folder)), "there")


def apply(host: Host) -> Iterator[Step]:
    """Change what is not so; gives each step once it is done.

    Raises:
        HostError: Another tune is at work, or what is remembered is damaged.
        NoPermission: This user may not.
    """
    with tune_state.held(host):
        remembered = tune_state.load(host)
        todo = changes(host)
        if todo:
            tune_state.save(host, _remembering(host, remembered, todo))
        for number, change in enumerate(todo, 1):
            target, wanted = change.setting.target, change.setting.wanted
            problem = _put(host, target, wanted)
            if not problem and not change.setting.is_so(host):
                problem = f"it is {target.shown(target.now(host))} all the same"
            failed = bool(problem) and not change.setting.may_refuse
            yield Step(number, len(todo), target, change.was, wanted, problem, failed)


def _remembering(host: Host, remembered: list[Entry], todo: list[Change]) -> list[Entry]:
    """Return what to remember: of each thing what it was before the first change.

    What was noted in another boot, and a reboot has taken back since, is noted anew.
    """
    boot = tune_state.boot_id(host)
    entries = {entry.key: entry for entry in remembered}
    for change in todo:
        key = change.setting.target.key
        known = entries.get(key)
        if known and (known.target.survives or known.boot == boot):
            entries[key] = Entry(key, known.was, change.setting.wanted, known.boot)
        else:
            entries.pop(key, None)  # to the end: undo goes backwards
            entries[key] = Entry(key, change.was, change.setting.wanted, boot)
    return list(entries.values())


def undo(host: Host) -> Iterator[Step]:
    """Bring back all that is remembered, the last first; what can be forgotten then, is.

    Raises:
        HostError: Another tune is at work, or what is remembered is damaged.
        NoPermission: This user may not.
    """
    with tune_state.held(host):
        entries = tune_state.load(host)
        boot = tune_state.boot_id(host)
        left: list[Entry] = []
        for number, entry in enumerate(reversed(entries), 1):
            now, problem = _restore(host, entry, boot)
            if problem:
                left.append(entry)
            failed = bool(problem)
            yield Step(number, len(entries), entry.target, now, entry.was, problem, failed)
        if left:
            tune_state.save(host, left[::-1])
        else:
            tune_state.forget(host)


def _restore(host: Host, entry: Entry, boot: str) -> tuple[str | None, str]:
    """Bring one thing back; return what it was until now, and why it is not back, or nothing."""
    target = entry.target
    try:
        target.tidy(host)
        now = target.now(host)
    except (OSError, HostError) as error:
        return entry.set, str(error)
    if now == entry.was:
        return now, ""
    if (
        not target.survives
        and entry.boot != boot
        and (now is None or now.split() != entry.set.split())
    ):
        return now, ""  # the reboot has taken it back, and what is there now is not ours
    problem = _put(host, target, entry.was)
    if not problem and entry.was is not None:
        problem = _kept_another(host, target, entry.was)
    return now, problem


def _kept_another(host: Host, target: Target, was: str) -> str:
    """Return what the kernel has made of a value that it took, if that is another; or nothing."""
    try:
        now = target.now(host)
    except (OSError, HostError) as error:
        return str(error)
    if now is not None and satisfies(chosen(now), chosen(was)):
        return ""
    return f"it is {target.shown(now)} all the same"


def _put(host: Host, target: Target, value: str | None) -> str:
    """Set it; return why not, or nothing."""
    try:
        target.put(host, value)
    except OSError as error:
        return error.strerror or str(error)
    except HostError as error:
        return str(error)
    return ""
