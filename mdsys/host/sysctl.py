"""The kernel's settings: one table, deploy/sysctl/60-mdsys.conf, read here and by sysctl itself.

Each setting is a line of sysctl.d(5) below comments that begin ``why:``, ``default:``, ``undo:``,
and where larger or smaller values are as good ``or more`` or ``or less``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from mdsys.host.check import APPLY, Check, Finding, by_settings, ok, skipped, warning
from mdsys.host.host import Host
from mdsys.host.settings import Setting, Value, satisfies, setting_file, sysctl_path

FILE: Final = Path(__file__).parent / "sysctl" / "60-mdsys.conf"
"""In the source tree mdsys/host/sysctl is a link to deploy/sysctl; a wheel has a copy."""
PLACE: Final = "/etc/sysctl.d/60-mdsys.conf"
FOLDERS: Final = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d")
"""Where a file of that name is sought at boot; the first that has it hides the others."""
_LINE: Final = re.compile(r"(-?)([A-Za-z0-9_./-]+?)\s*=\s*(.*?)\s*")


@dataclass(frozen=True, slots=True)
class Sysctl:
    """One setting of the table."""

    name: str
    wanted: str
    why: str
    default: str
    undo: str
    or_more: bool
    or_less: bool
    optional: bool
    """Whether kernels without it are fine."""

    def setting(self, host: Host) -> Setting:
        """Return what the host should have: ours, or its own where that is as good."""
        target = Value(sysctl_path(self.name))
        return Setting(target, self.kept(host), or_more=self.or_more, or_less=self.or_less)

    def kept(self, host: Host) -> str:
        """Return the value to write into the file: never a worse one than the host has."""
        now = " ".join((host.raw(sysctl_path(self.name)) or "").split())
        good = satisfies(now, self.wanted, or_more=self.or_more, or_less=self.or_less)
        return now if good else self.wanted

    def read(self, host: Host) -> Finding:
        """Compare it with the host."""
        path = sysctl_path(self.name)
        now = host.raw(path)
        if now is None:
            there = "cannot be read by this user" if host.exists(path) else "this kernel has none"
            return skipped(there)
        bound = ", or more" if self.or_more else ", or less" if self.or_less else ""
        setting = self.setting(host)
        value = " ".join(now.split())
        return by_settings(
            host, value if setting.is_so(host) else f"{value}, not {self.wanted}{bound}", setting
        )

    def check(self) -> Check:
        """Return its row."""
        return Check(f"sysctl.{self.name}", self.name, self.why, self.read)


def parse(text: str) -> tuple[Sysctl, ...]:
    """Read the table.

    Raises:
        ValueError: A setting lacks its why, default or undo, or is no setting; with its line.
    """
    found: list[Sysctl] = []
    notes: dict[str, list[str]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("#"):
            key, colon, rest = line.lstrip("# ").partition(":")
            if colon and key in ("why", "default", "undo"):
                notes.setdefault(key, []).append(rest.strip())
            elif key in ("or more", "or less"):
                notes[key] = []
            continue
        if not line.strip():
            notes = {}
            continue
        match = _LINE.fullmatch(line)
        missing = [key for key in ("why", "default", "undo") if key not in notes]
        if match is None or missing:
            raise ValueError(f"line {number}: {f'no {missing[0]}' if match else 'no setting'}")
        found.append(
            Sysctl(
                match[2],
                " ".join(match[3].split()),
                why=" ".join(notes["why"]),
                default=" ".join(notes["default"]),
                undo=" ".join(notes["undo"]),
                or_more="or more" in notes,
                or_less="or less" in notes,
                optional=match[1] == "-",
            )
        )
        notes = {}
    return tuple(found)


@cache
def table() -> tuple[Sysctl, ...]:
    """Return every setting of the file that came with this mdsys."""
    return parse(FILE.read_text())


def values_in(text: str) -> dict[str, str]:
    """Return what a file of sysctl.d sets; the last line of a name wins."""
    matches = (_LINE.fullmatch(line) for line in text.splitlines() if line[:1] not in ("#", ";"))
    return {match[2]: match[3] for match in matches if match}


def file_text(host: Host, own: Iterable[Setting]) -> str:
    """Return the file for this host: the table, better values of its own kept, and ``own``."""
    better = {each.name: each.kept(host) for each in table()}
    lines = []
    for line in FILE.read_text().splitlines():
        match = None if line.startswith("#") else _LINE.fullmatch(line)
        lines.append(f"{match[1]}{match[2]} = {better[match[2]]}" if match else line)
    extra = _by_name(own)
    if extra:
        lines += ["", "# ---- this host's, for its configuration ----", ""]
        lines += [f"{name} = {setting.wanted}" for name, setting in extra.items()]
    return "\n".join(lines) + "\n"


def read_file(host: Host, own: Iterable[Setting]) -> Finding:
    """Look whether the settings come back at the next boot."""
    own = tuple(own)
    setting = setting_file(PLACE, file_text(host, own))
    folder = next((each for each in FOLDERS if host.exists(f"{each}/60-mdsys.conf")), None)
    if folder is None:
        return warning(f"no {PLACE}: what is set now is gone after a reboot", APPLY, setting)
    path = f"{folder}/60-mdsys.conf"
    there = values_in(host.raw(path) or "")
    wanted = {
        each.name: Setting(Value(""), each.wanted, each.or_more, each.or_less) for each in table()
    } | _by_name(own)
    wrong = [
        name
        for name, each in wanted.items()
        if not satisfies(
            there.get(name, ""), each.wanted, or_more=each.or_more, or_less=each.or_less
        )
    ]
    if wrong:
        return warning(f"{path} has other values of {', '.join(wrong)}", APPLY, setting)
    return ok(f"{path} has them all")


def _by_name(own: Iterable[Setting]) -> dict[str, Setting]:
    prefix = "/proc/sys/"
    return {
        each.target.name.removeprefix(prefix).replace("/", "."): each
        for each in own
        if each.target.name.startswith(prefix)
    }
