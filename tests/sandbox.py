"""The sandbox of a unit without systemd: the nearest that root can have from the kernel itself.

It follows the unit file: user, capabilities, umask, read-only file system, private /dev and /tmp,
hidden homes, system calls, address families, environment and ExecStart. Left to a host that systemd
has booted are cgroups, notification and the watchdog, credentials, and making the directories.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LAUNCHER = Path(__file__).with_name("seccomp_exec.py")
NEEDED = ("unshare", "setpriv", "systemd-analyze", "systemd-sysusers")

SCRIPT = r"""
set -eu
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$STAGE/etc:/etc" /etc
mount -t tmpfs tmpfs /opt && mkdir /opt/mdsys && mount --bind "$STAGE/opt/mdsys" /opt/mdsys
mount -t tmpfs tmpfs "$SCRATCH" && mkdir "$SCRATCH/dev" "$SCRATCH/dev/shm"
for node in null zero full random urandom tty; do
    touch "$SCRATCH/dev/$node" && mount --bind "/dev/$node" "$SCRATCH/dev/$node"
done
mount --bind /dev/shm "$SCRATCH/dev/shm"
mount --rbind "$SCRATCH/dev" /dev
mount -t tmpfs tmpfs /run && mkdir /run/mdsys && cp "$LAUNCHER" /run/launcher.py
mount --bind "$RUNDIR" /run/mdsys
for home in /root /home; do mount -t tmpfs -o mode=000 tmpfs "$home"; done
mount -t tmpfs tmpfs /tmp
for place in / /etc /opt /opt/mdsys /run /usr /var /dev; do
    ! mountpoint -q "$place" || mount -o remount,bind,ro "$place"
done
ulimit -l unlimited 2>/dev/null || true # where root may not, the daemon says what is not locked
ulimit -c 0
umask "$UMASK"
cd /
exec setpriv --reuid "$OWNER" --regid "$OWNER" --init-groups --no-new-privs --bounding-set=-all \
    --inh-caps=-all --ambient-caps=-all --reset-env \
    env -i "$@"
"""


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit file, its keys in order."""

    keys: Sequence[tuple[str, str]]

    @classmethod
    def read(cls, path: Path) -> Unit:
        """Read it."""
        lines = path.read_text().splitlines()
        pairs = (line.partition("=") for line in lines if re.match(r"[A-Za-z]+=", line))
        return cls([(key, value) for key, _, value in pairs])

    def all(self, key: str) -> list[str]:
        """Return every value of a key."""
        return [value for name, value in self.keys if name == key]

    def one(self, key: str) -> str:
        """Return the value of a key that is there once."""
        (value,) = self.all(key)
        return value

    def environment(self, instance: str) -> Mapping[str, str]:
        """Return what Environment= sets."""
        return dict(
            value.replace("%i", instance).split("=", 1) for value in self.all("Environment")
        )

    def exec_start(self, instance: str) -> list[str]:
        """Return the command line."""
        return shlex.split(self.one("ExecStart").replace("%i", instance))

    def system_calls(self) -> set[str]:
        """Return what SystemCallFilter= comes to: of several lines, one after the other."""
        allowed = _members("@default")
        for line in self.all("SystemCallFilter"):
            names = {each for name in line.lstrip("~").split() for each in _members(name)}
            allowed = allowed - names if line.startswith("~") else allowed | names
        return allowed


def why_not() -> str | None:
    """Return why there can be no sandbox here; None: there can."""
    if os.geteuid() != 0:
        return "needs root, to make a mount namespace"
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        return f"there is no {', '.join(missing)} here"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        return "no mount namespace can be had here"
    return None


def command(unit: Unit, instance: str, program: Sequence[str]) -> list[str]:
    """Return the command line of a program in the sandbox of a unit; see ``environment``."""
    filters = {
        "allowed": sorted(unit.system_calls()),
        "families": [
            int(getattr(socket, name)) for name in unit.one("RestrictAddressFamilies").split()
        ],
        "deny_write_execute": unit.all("MemoryDenyWriteExecute") == ["yes"],
    }
    set_variables = [f"{key}={value}" for key, value in unit.environment(instance).items()]
    launcher = ["/opt/mdsys/bin/python", "-I", "/run/launcher.py", json.dumps(filters)]
    return [
        *("unshare", "--mount", "sh", "-c", SCRIPT, "sh"),
        *(*set_variables, *launcher, *program),
    ]


def environment(unit: Unit, stage: Path, run_dir: Path, scratch: Path) -> dict[str, str]:
    """Return the environment for ``command``.

    Args:
        unit: The same.
        stage: What was installed, with an etc/passwd and an etc/group.
        run_dir: Stands for /run/mdsys.
        scratch: An empty folder.
    """
    return {
        "PATH": os.environ["PATH"],
        "STAGE": str(stage),
        "RUNDIR": str(run_dir),
        "SCRATCH": str(scratch),
        "LAUNCHER": str(LAUNCHER),
        "UMASK": unit.one("UMask"),
        "OWNER": unit.one("User"),
    }


def _members(name: str) -> set[str]:
    """Return the system calls of a set of systemd's, those of the sets in it too."""
    if not name.startswith("@"):
        return {name}
    text = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager", name],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    lines = (line.strip() for line in text.splitlines()[1:])
    names = [line for line in lines if line and not line.startswith("#")]
    return {each for member in names for each in _members(member)}
