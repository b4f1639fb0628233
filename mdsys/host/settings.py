"""What tune can change: each kind of thing knows how to look, to set, to say so in shell.

A target is named by a key, under which its old value is remembered, and is found again by that key
alone, so that undo needs nothing but the list of keys and values. What it holds is text.
"""

from __future__ import annotations

import os
import re
import shlex
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Final

from mdsys.errors import HostError
from mdsys.host.host import NEW_SUFFIX, Host, StoredFile

MODE: Final = 0o644
"""Of the files that tune writes: configuration that anybody may read."""


class Target(ABC):
    """Something of the host that can be set."""

    kind: ClassVar[str]
    name: str
    survives: ClassVar[bool] = False
    """Whether what is set is still so after a reboot."""

    @property
    def key(self) -> str:
        """Under what its old value is remembered."""
        return f"{self.kind}:{self.name}"

    @abstractmethod
    def now(self, host: Host) -> str | None:
        """Return what ``put`` would bring back; None: there is nothing."""

    @abstractmethod
    def put(self, host: Host, value: str | None) -> None:
        """Set it.

        Raises:
            OSError: The kernel refuses.
            HostError: A program does.
        """

    @abstractmethod
    def shell(self, value: str) -> str:
        """Return the command that sets it."""

    def tidy(self, host: Host) -> None:  # noqa: B027 - most leave nothing
        """Remove what a killed ``put`` may have left beside it."""

    def shown(self, value: str | None) -> str:
        """Return a value for people, in a few words."""
        return "none" if value is None else " ".join(value.split())


@dataclass(frozen=True, slots=True)
class Value(Target):
    """A setting in /proc or /sys."""

    kind = "value"
    name: str

    def now(self, host: Host) -> str | None:
        """Return what the file says, to the byte."""
        return host.raw(self.name)

    def put(self, host: Host, value: str | None) -> None:
        """Write it. Of ``always [madvise] never`` what is chosen is written."""
        if value is not None:
            host.set_value(self.name, chosen(value) if "[" in value else value)

    def shell(self, value: str) -> str:
        """Return the command; sysctl's own where it has a name."""
        text = " ".join(chosen(value).split())
        if self.name.startswith("/proc/sys/"):
            return f"sysctl -w {shlex.quote(f'{sysctl_name(self.name)}={text}')}"
        return f"echo {shlex.quote(text)} > {shlex.quote(self.name)}"

    def shown(self, value: str | None) -> str:
        """Return the choice alone."""
        return "none" if value is None else " ".join(chosen(value).split())


@dataclass(frozen=True, slots=True)
class ConfigFile(Target):
    """A file that tune writes for the next boot or the next login."""

    kind = "file"
    name: str
    survives = True

    def now(self, host: Host) -> str | None:
        """Return its content, mode and owner in one text."""
        file = host.stored(self.name)
        return None if file is None else _packed(file)

    def put(self, host: Host, value: str | None) -> None:
        """Write it whole or not at all; None removes it."""
        if value is None:
            host.discard(self.name)
        else:
            host.store(self.name, _unpacked(value))

    def tidy(self, host: Host) -> None:
        """Remove the file that was to take its place."""
        host.discard(self.name + NEW_SUFFIX)

    def shell(self, value: str) -> str:
        """Return the command that writes it."""
        text = _unpacked(value).text
        quoted = shlex.quote(self.name)
        return f"install -D -m 644 /dev/stdin {quoted} <<'MDSYS'\n{text}MDSYS"

    def shown(self, value: str | None) -> str:
        """Return how long it is."""
        return "no file" if value is None else f"{len(_unpacked(value).text.splitlines())} lines"


@dataclass(frozen=True, slots=True)
class Folder(Target):
    """A folder in which such a file lies, where the host has none."""

    kind = "folder"
    name: str
    survives = True

    def now(self, host: Host) -> str | None:
        """Return whether it is there."""
        return "there" if host.path(self.name).is_dir() else None

    def put(self, host: Host, value: str | None) -> None:
        """Make it; None removes it once it is empty, and leaves it where others use it by now."""
        path = host.path(self.name)
        if value is not None:
            path.mkdir(mode=0o755, exist_ok=True)
            return
        try:
            path.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if not any(path.iterdir()):
                raise

    def shell(self, value: str) -> str:  # noqa: ARG002 - a folder has but one value
        """Return the command that makes it."""
        return f"mkdir -p {shlex.quote(self.name)}"


@dataclass(frozen=True, slots=True)
class HugeMount(Target):
    """Whether a tmpfs gives huge pages: its mount option ``huge``."""

    kind = "huge"
    name: str
    """Where it is mounted."""

    def now(self, host: Host) -> str | None:
        """Return the option's value; a tmpfs that shows none has ``never``."""
        found = host.mount_of(self.name)
        if found is None or found[0] != self.name or found[1] != "tmpfs":
            return None
        option = re.search(r"(?:^|,)huge=(\w+)", found[2])
        return option[1] if option else "never"

    def put(self, host: Host, value: str | None) -> None:
        """Remount it."""
        if value is not None:
            _run(host, "mount", "-o", f"remount,huge={value}", self.name)

    def shell(self, value: str) -> str:
        """Return the command that remounts it."""
        return f"mount -o remount,huge={value} {shlex.quote(self.name)}"


@dataclass(frozen=True, slots=True)
class NicRings(Target):
    """How many packets a network card may hold ready: ``ethtool -g``."""

    kind = "nic-rings"
    name: str

    def now(self, host: Host) -> str | None:
        """Return ``rx N``; None where the card does not tell."""
        text = host.program("ethtool", "-g", self.name) or ""
        found = re.search(r"Current hardware settings:(?:\n.*)*?\nRX:\s+(\d+)", text)
        return f"rx {found[1]}" if found else None

    def put(self, host: Host, value: str | None) -> None:
        """Set it; many cards drop the link for a moment."""
        if value is not None:
            _run(host, "ethtool", "-G", self.name, *value.split())

    def shell(self, value: str) -> str:
        """Return the command that sets it."""
        return f"ethtool -G {shlex.quote(self.name)} {value}"


@dataclass(frozen=True, slots=True)
class NicCoalescing(Target):
    """How long a network card waits for more before it interrupts: ``ethtool -c``."""

    kind = "nic-coalescing"
    name: str

    def now(self, host: Host) -> str | None:
        """Return ``adaptive-rx on|off rx-usecs N``, of these what the card has."""
        text = host.program("ethtool", "-c", self.name) or ""
        adaptive = re.search(r"^Adaptive RX: (on|off)\b", text, re.MULTILINE)
        waits = re.search(r"^rx-usecs:\s+(\d+)$", text, re.MULTILINE)
        parts = [f"adaptive-rx {adaptive[1]}"] if adaptive else []
        parts += [f"rx-usecs {waits[1]}"] if waits else []
        return " ".join(parts) or None

    def put(self, host: Host, value: str | None) -> None:
        """Set it."""
        if value is not None:
            _run(host, "ethtool", "-C", self.name, *value.split())

    def shell(self, value: str) -> str:
        """Return the command that sets it."""
        return f"ethtool -C {shlex.quote(self.name)} {value}"


KINDS: Final[tuple[type[Target], ...]] = (
    Value,
    ConfigFile,
    Folder,
    HugeMount,
    NicRings,
    NicCoalescing,
)


@dataclass(frozen=True, slots=True)
class Setting:
    """What a target should hold."""

    target: Target
    wanted: str
    or_more: bool = False
    """Numbers that are larger are as good."""
    or_less: bool = False
    lasting: bool = True
    """Whether it holds for every boot: a number of an interrupt is another one's next time."""
    may_refuse: bool = False
    """The kernel may say no, and nothing is wrong: some interrupts cannot be moved."""

    def is_so(self, host: Host) -> bool:
        """Return whether the host has it so, or better."""
        now = self.target.now(host)
        return now is not None and satisfies(
            chosen(now), self.wanted, or_more=self.or_more, or_less=self.or_less
        )


def satisfies(now: str, wanted: str, *, or_more: bool = False, or_less: bool = False) -> bool:
    """Return whether a value is the wanted one, or on its good side, number by number."""
    if now.split() == wanted.split():
        return True
    if not or_more and not or_less:
        return False
    try:
        pairs = list(zip(map(int, now.split()), map(int, wanted.split()), strict=True))
    except ValueError:
        return False
    return all(a >= b if or_more else a <= b for a, b in pairs)


def setting_file(name: str, text: str) -> Setting:
    """Return the setting that such a file has such content; root's, readable by all."""
    return Setting(ConfigFile(name), _packed(StoredFile(text, MODE, os.geteuid(), os.getegid())))


def chosen(text: str) -> str:
    """Return the choice of ``always [madvise] never``; of any other text all of it."""
    found = re.fullmatch(r"[^\[\]\n]*\[([^\[\]\s]+)\][^\[\]\n]*\n?", text)
    return found[1] if found else text


def target_of(key: str) -> Target:
    """Return what a key names.

    Raises:
        ValueError: It names nothing that tune changes.
    """
    kind, _, name = key.partition(":")
    for each in KINDS:
        if each.kind == kind and _allowed(each, name):
            return each(name)  # type: ignore[call-arg] # every kind is made of its name
    raise ValueError(f"{key!r} is nothing that tune changes")


def is_card_name(name: str) -> bool:
    """Return whether tune changes a network card of that name.

    The kernel allows any 15 bytes but / : and blanks (dev_valid_name of net/core/dev.c). Of these
    are left out what is no printable ASCII, and what ethtool would take for an option.
    """
    return name not in (".", "..") and re.fullmatch(r"(?!-)[!-.0-9;-~]{1,15}", name) is not None


def _allowed(kind: type[Target], name: str) -> bool:
    """Return whether tune would ever change it: a state file must not lead anywhere else."""
    if kind in (NicRings, NicCoalescing):
        return is_card_name(name)
    places = ("/proc/sys/", "/proc/irq/", "/sys/") if kind is Value else ("/etc/",)
    if kind is Folder and name == "/etc":
        return True
    if kind is HugeMount:  # [memory] dir may lie in any tmpfs
        places = ("/",)
    clean = os.path.normpath(name) == name
    return clean and name.startswith(places)


def sysctl_name(path: str) -> str:
    """Return a setting's name as sysctl writes it."""
    return path.removeprefix("/proc/sys/").replace("/", ".")


def sysctl_path(name: str) -> str:
    """Return where a setting lies; a dot in a part of it is written as / there."""
    swapped = name.translate(str.maketrans("./", "/."))
    return f"/proc/sys/{swapped}"


def _run(host: Host, *argv: str) -> None:
    if host.program(*argv) is None:
        raise HostError(f"{shlex.join(argv)} failed")


def _packed(file: StoredFile) -> str:
    return f"{file.mode:o} {file.uid} {file.gid}\n{file.text}"


def _unpacked(value: str) -> StoredFile:
    head, _, text = value.partition("\n")
    mode, uid, gid = head.split(" ")
    return StoredFile(text, int(mode, 8), int(uid), int(gid))
