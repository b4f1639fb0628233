"""The one table: what doctor looks at, and what tune sets, in the order people should mend it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mdsys.host import (
    checks_cores,
    checks_interrupts,
    checks_memory,
    checks_network,
    checks_system,
    sysctl,
)
from mdsys.host.check import APPLY, Check, Finding, examine, ok, warning
from mdsys.host.host import Host
from mdsys.host.settings import Setting, Value, setting_file

SYSFS_FILE: Final = "/etc/tmpfiles.d/60-mdsys-host.conf"
_HEAD: Final = (
    "# Settings of /sys for mdsys, made by mdsys tune apply and removed by mdsys tune undo.\n"
    "# systemd-tmpfiles writes them at boot. mdsys doctor tells of each why it matters.\n"
)


def now_settings(host: Host) -> tuple[Setting, ...]:
    """Return all that tune keeps so in the running kernel, each once."""
    found: dict[str, Setting] = {}
    for result in examine(host, NOW):
        for setting in result.finding.settings:
            found.setdefault(setting.target.key, setting)
    return tuple(found.values())


def read_sysctl_file(host: Host) -> Finding:
    """Look whether settings of /proc/sys come back at boot."""
    table = {each.setting(host).target.key for each in sysctl.table()}
    own = (each for each in _lasting(host, "/proc/sys/") if each.target.key not in table)
    return sysctl.read_file(host, own)


def read_sysfs_file(host: Host) -> Finding:
    """Look whether settings of /sys come back at boot."""
    lines = [_line(each) for each in _lasting(host, "/sys/")]
    there = host.raw(SYSFS_FILE)
    if not lines:
        return ok("nothing to keep")
    setting = setting_file(SYSFS_FILE, _HEAD + "".join(sorted(lines)))
    if there is None:
        return warning(f"no {SYSFS_FILE}: what is set now is gone after a reboot", APPLY, setting)
    missing = sorted(set(lines) - set(there.splitlines(keepends=True)))
    if missing:
        return warning(
            f"{SYSFS_FILE} lacks {len(missing)} of {len(lines)} settings", APPLY, setting
        )
    return ok(f"{SYSFS_FILE} has all {len(lines)}")


def _line(setting: Setting) -> str:
    return f"w {setting.target.name} - - - - {setting.wanted.strip()}\n"


def _lasting(host: Host, prefix: str) -> Iterable[Setting]:
    for setting in now_settings(host):
        inside = isinstance(setting.target, Value) and setting.target.name.startswith(prefix)
        if inside and setting.lasting:
            yield setting


NOW: Final[tuple[Check, ...]] = (
    *checks_cores.CHECKS,
    *checks_interrupts.CHECKS,
    *checks_memory.CHECKS,
    *checks_network.CHECKS,
    *checks_system.CHECKS,
    *(each.check() for each in sysctl.table()),
)
"""Of the kernel as it runs and the programs as they are."""

AT_BOOT: Final[tuple[Check, ...]] = (
    Check(
        "boot.sysctl",
        "Settings of /proc/sys at boot",
        "What is set in the running kernel only is forgotten at the next boot.",
        read_sysctl_file,
    ),
    Check(
        "boot.sysfs",
        "Settings of /sys at boot",
        "What is set in the running kernel only is forgotten at the next boot.",
        read_sysfs_file,
    ),
)
"""Of what the next boot will make of it."""

CHECKS: Final = NOW + AT_BOOT

_ID_WIDTH: Final = max(len(check.id) for check in CHECKS)


def line(check: Check, word: str, found: str) -> str:
    """Return what doctor and tune print of a check, in columns."""
    return f"{word:<8} {check.id:<{_ID_WIDTH}}  {found}\n"
