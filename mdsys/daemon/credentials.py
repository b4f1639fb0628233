"""Secrets by name, from systemd, a file of mode 0600 or the environment; docs/credentials.md.

A program that runs its own daemon (mdsys.MarketDataSystem) may give it some itself.

What is read here goes to venues and nowhere else: no secret is in a repr, an error, a log line or a
message to a reader. Errors name the credential and the file, never what stands in it.
"""

from __future__ import annotations

import errno
import os
import pwd
import re
import shlex
import stat
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol
from urllib.parse import quote

from mdsys.errors import ConfigError
from mdsys.feed.veil import hide
from mdsys.feed.venue import Secret
from mdsys.wording import plural

SYSTEM_FOLDER: Final = Path("/etc/mdsys/credentials")
ENVIRONMENT_PREFIX: Final = "MDSYS_CREDENTIAL_"
BARE_FIELD: Final = "key"
"""The field of a secret that is one bare line."""
PROGRAM: Final = "the program that runs the daemon"
"""Where a secret is from that was given to mdsys.MarketDataSystem."""
SIZE_BYTES_MAX: Final = 64 << 10

_BARE = re.compile(r"[^\s=\"']+=*")  # one word; of base64 it may have the padding
_FIELD = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


class CredentialUser(Protocol):
    """One [[venue]], as far as it is looked at here."""

    @property
    def name(self) -> str:
        """The venue."""

    @property
    def credentials(self) -> tuple[str, ...]:
        """Names."""


class FieldsOf(Protocol):
    """A venue, as far as it is looked at here."""

    @property
    def credential_fields(self) -> tuple[str, ...]:
        """What a credential of it must have."""


def wanted_fields(
    users: Iterable[CredentialUser], venues: Mapping[str, FieldsOf]
) -> dict[str, tuple[str, ...]]:
    """Return the credentials that a configuration names, each with the fields it must have."""
    wanted: dict[str, tuple[str, ...]] = {}
    for user in users:
        for name in user.credentials:
            fields = wanted.get(name, ()) + venues[user.name].credential_fields
            wanted[name] = tuple(dict.fromkeys(fields))
    return wanted


def without_credentials(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment for child processes, which get their secrets otherwise."""
    return {
        key: value
        for key, value in environment.items()
        if not key.startswith(ENVIRONMENT_PREFIX) and key != "CREDENTIALS_DIRECTORY"
    }


class HiddenSecret(Mapping[str, str]):
    """Fields of a credential. Printing shows none of them; it cannot be pickled."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = dict(fields)

    def __getitem__(self, field: str) -> str:
        return self._fields[field]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"<secret of {plural(len(self._fields), 'field')}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")


NO_SECRET: Final[Secret] = HiddenSecret({})


@dataclass(frozen=True, slots=True)
class _Folder:
    """Where files of secrets lie."""

    path: Path
    from_systemd: bool = False


@dataclass(frozen=True, slots=True)
class _Held:
    """A secret, and where it was found."""

    secret: HiddenSecret
    source: str
    from_systemd: bool = False
    from_environment: bool = False
    from_program: bool = False


@dataclass(frozen=True, slots=True)
class Reread:
    """What became of the secrets when they were read anew."""

    changed: tuple[str, ...]
    """Names of those that are others now."""
    problems: Mapping[str, str]
    """Name -> why it could not be read; what was held of it before is kept."""


class Credentials:
    """The secrets that a configuration names.

    Nothing is read before ``read``.

    Args:
        wanted: Name -> fields that it must have (``wanted_fields``).
        environment: Where CREDENTIALS_DIRECTORY, XDG_CONFIG_HOME and variables are looked up.
        system_folder: /etc/mdsys/credentials.
        given: Returns what the program that started the daemon gives: name -> fields. It is looked
            at first, at each ``read``.
    """

    def __init__(
        self,
        wanted: Mapping[str, Collection[str]],
        *,
        environment: Mapping[str, str] = os.environ,
        system_folder: Path = SYSTEM_FOLDER,
        given: Callable[[], Mapping[str, Mapping[str, Any]]] = dict,
    ) -> None:
        self._wanted = wanted
        self._environment = environment
        self._folders = list(_folders(environment, system_folder))
        self._give = given
        self._given: Mapping[str, Mapping[str, Any]] = {}
        self._held: dict[str, _Held] = {}
        self._versions: dict[str, int] = {}
        self._masked: dict[str, None] = {}
        """Every value ever held: one that was replaced may still be quoted at us."""

    def __repr__(self) -> str:
        return f"<Credentials: {', '.join(self._wanted)}>"

    def read(self, wanted: Mapping[str, Collection[str]] | None = None) -> Reread:
        """Read all of them, the first time or anew.

        Args:
            wanted: From now on, where the configuration has changed.
        """
        if wanted is not None:
            self._wanted = wanted
            self._held = {name: held for name, held in self._held.items() if name in wanted}
        changed: list[str] = []
        problems: dict[str, str] = {}
        self._given = self._give()
        for name, fields in self._wanted.items():
            try:
                held = self._find(name, fields)
            except ConfigError as error:
                problems[name] = str(error)
                continue
            before = self._held.get(name)
            if before is None or dict(before.secret) != dict(held.secret):
                changed.append(name)
                self._versions[name] = self.version(name) + 1
            self._held[name] = held
        values = {value for held in self._held.values() for value in held.secret.values()}
        known = {each for value in values for each in (value, quote(value, safe=""))}
        self._masked |= dict.fromkeys(known)
        return Reread(tuple(changed), problems)

    def secret(self, name: str | None) -> Secret:
        """Return the secret of a name; of None, that of a venue which needs none.

        Raises:
            ConfigError: It has not been had; as ``read`` said.
        """
        if name is None:
            return NO_SECRET
        if name not in self._held:
            self._find(name, self._wanted.get(name, ()))  # says why
            raise ConfigError(f"credential {name}: not read yet; run: mdsys ctl reload")
        return self._held[name].secret

    def version(self, name: str) -> int:
        """Return how many secrets of a name there have been; 0: none yet."""
        return self._versions.get(name, 0)

    def source(self, name: str) -> str | None:
        """Return where a secret was found; None: nowhere."""
        return self._held[name].source if name in self._held else None

    def is_anywhere(self, name: str) -> bool:
        """Return whether there is anything of this name, be it wrong."""
        if self._environment.get(environment_name(name)):
            return True
        return any(os.path.lexists(folder.path / name) for folder in self._folders)

    @property
    def folders(self) -> list[Path]:
        """Return where files are looked for."""
        return [folder.path for folder in self._folders]

    def where(self, name: str, instance: str = "default") -> str:
        """Return what to do when the venue no longer takes the secret."""
        reload = f"mdsys ctl reload --instance {instance}"
        held = self._held.get(name)
        if held is None:
            return f"credential {name}: put it into {self._file(name)} (mode 0600), then: {reload}"
        fields = ", ".join(self._wanted.get(name, ()))
        said = f"credential {name}{f' ({fields})' if fields else ''} from {held.source}"
        if held.from_program:
            return f"{said}: that gives another by MarketDataSystem.reload"
        if held.from_systemd:
            return (
                f"{said}: replace what the unit's LoadCredential= or SetCredential= names, then "
                "restart the unit, since systemd copies it at the start only"
            )
        if held.from_environment:
            return (
                f"{said}: the environment of a running daemon cannot change: put the new one into "
                f"{self._file(name)} (mode 0600), which is looked at first, then: {reload}"
            )
        return f"{said}: replace the file, then: {reload}"

    def mask(self, text: str) -> str:
        """Return ``text`` with every secret in it replaced, also as a URL writes it."""
        return hide(text, self._masked)

    # ---- looking ----

    def _file(self, name: str) -> Path:
        """Return where the operator should put a file."""
        own = [folder.path for folder in self._folders if not folder.from_systemd]
        return (own[0] if os.geteuid() == 0 else own[-1]) / name

    def _find(self, name: str, fields: Collection[str]) -> _Held:
        """Look in all places, in order; what is found and wrong is refused, not passed over."""
        if (own := self._given.get(name)) is not None:
            secret = _checked(f"credential {name}: {PROGRAM}", own, fields)
            return _Held(secret, PROGRAM, from_program=True)
        for folder in self._folders:
            raw = _read_file(folder, name)
            if raw is not None:
                source = str(folder.path / name)
                return _Held(
                    _parse(f"credential {name}: {source}", raw, fields),
                    source,
                    from_systemd=folder.from_systemd,
                )
        variable = environment_name(name)
        if text := self._environment.get(variable):
            secret = _parse(f"credential {name}: {variable}", text.encode(), fields)
            return _Held(secret, f"the environment ({variable})", from_environment=True)
        looked = ", ".join(str(folder.path / name) for folder in self._folders)
        raise ConfigError(f"credential {name}: not found: looked for {looked} and {variable}")


def environment_name(name: str) -> str:
    """Return the variable that may hold a credential."""
    return ENVIRONMENT_PREFIX + re.sub(r"[.-]", "_", name).upper()


def _folders(environment: Mapping[str, str], system_folder: Path) -> Iterator[_Folder]:
    if given := environment.get("CREDENTIALS_DIRECTORY"):
        yield _Folder(Path(given), from_systemd=True)
    yield _Folder(system_folder)
    home = environment.get("XDG_CONFIG_HOME") or environment.get("HOME")
    if home and Path(home).is_absolute():
        config = Path(home) if environment.get("XDG_CONFIG_HOME") else Path(home) / ".config"
        yield _Folder(config / "mdsys" / "credentials")


def _read_file(folder: _Folder, name: str) -> bytes | None:
    """Return a file's bytes; None: there is none.

    The directory is held open, the file opened beneath it without following a link, and what was
    opened is judged: nothing can be swapped in between.

    Raises:
        ConfigError: It is there, but others may read or replace it, or it cannot be read.
    """
    path = folder.path / name
    try:
        folder_fd = os.open(folder.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fd = os.open(
                name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder_fd
            )
            with os.fdopen(fd, "rb") as file:
                _check_folder(folder, os.fstat(folder_fd))
                _check_file(folder, path, os.fstat(fd))
                raw = file.read(SIZE_BYTES_MAX + 1)
        finally:
            os.close(folder_fd)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            why = "is a symbolic link: put the file itself there"
        elif error.errno in (errno.EACCES, errno.EPERM):
            why = f"cannot be read by {_user(os.geteuid())}: chown {_user(os.geteuid())} it"
        elif error.errno == errno.EISDIR:
            why = "is no regular file"
        else:
            why = str(error.strerror)
        raise ConfigError(f"credential {name}: {path}: {why}") from None
    if len(raw) > SIZE_BYTES_MAX:
        raise ConfigError(f"credential {name}: {path}: larger than {SIZE_BYTES_MAX} bytes")
    return raw


def _check_folder(folder: _Folder, status: os.stat_result) -> None:
    if status.st_uid not in (0, os.geteuid()):
        _refuse(folder.path, "belongs to another user", f"chown {_user(os.geteuid())}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        _refuse(folder.path, "can be written by others", "chmod 700")


def _check_file(folder: _Folder, path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"credential {path.name}: {path}: is no regular file")
    if status.st_uid not in (0, os.geteuid()):
        _refuse(path, "belongs to another user", f"chown {_user(os.geteuid())}")
    # systemd gives the service's user access by an ACL, whose mask shows as the group's bits.
    forbidden = stat.S_IRWXO if folder.from_systemd else stat.S_IRWXG | stat.S_IRWXO | stat.S_IXUSR
    if status.st_mode & forbidden:
        _refuse(path, f"has mode {stat.S_IMODE(status.st_mode):04o}, not 0600", "chmod 600")


def _refuse(path: Path, why: str, command: str) -> NoReturn:
    raise ConfigError(f"{path}: {why}: {command} {shlex.quote(str(path))}")


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


# ---- reading ----


def _parse(place: str, raw: bytes, fields: Collection[str]) -> HiddenSecret:
    """Read ``field = "value"`` lines, or one bare line; errors do not show what stands there."""
    try:
        text = raw.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise ConfigError(f"{place}: no text in UTF-8") from None
    if not text:
        raise ConfigError(f"{place}: empty")
    found: dict[str, Any]
    if _BARE.fullmatch(text):
        # A venue with but one field calls it as it likes.
        found = {next(iter(fields)) if len(fields) == 1 else BARE_FIELD: text}
    else:
        found = _parse_toml(place, text)
    return _checked(place, found, fields)


def _checked(place: str, found: Mapping[str, Any], fields: Collection[str]) -> HiddenSecret:
    """Take fields that are sound, and all there; errors do not show what stands in them."""
    for field, value in found.items():
        shown = field if field in fields else "a field"  # else it may be a secret, misplaced
        if not _FIELD.fullmatch(field) or not isinstance(value, str):
            raise ConfigError(f'{place}: {shown} is not field = "value"')
        if not value or not value.isprintable() or value != value.strip():
            raise ConfigError(f"{place}: {shown} is empty, or has blanks around or signs inside")
    if missing := [field for field in fields if field not in found]:
        has = ", ".join(field for field in fields if field in found)
        raise ConfigError(f"{place}: lacks {', '.join(missing)}{f'; it has {has}' if has else ''}")
    return HiddenSecret(found)


def _parse_toml(place: str, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text.replace("\r\n", "\n"))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        # The parser's words may quote what stands there: only the line is told.
        line = re.search(r"line ([0-9]+)", str(error))
        at = f"line {line[1]}" if line else "the end"
    raise ConfigError(f'{place}: {at} is not field = "value" (the value in quotes)')
