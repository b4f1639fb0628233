"""Whose an instance's files are: users and groups by name, and what to tell whom they refuse."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path

from mdsys.errors import ConfigError, NoPermission


def group_id(group: str) -> int:
    """Return the id of a group to which this process may give its files.

    Raises:
        ConfigError: There is none of this name.
        NoPermission: This process is not in it.
    """
    try:
        gid = grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigError(
            f"group {group!r} does not exist on this host: groupadd --system {group}"
        ) from None
    fd = os.memfd_create("mdsys-group")  # the kernel's own answer, whatever the rights come from
    try:
        os.fchown(fd, -1, gid)
    except OSError as error:
        user = user_name(os.geteuid())
        raise NoPermission(
            f"group {group!r}: {user} is not in it and so may not give it the segments: "
            f"usermod -aG {group} {user.split()[1]}, then log in again"
        ) from error
    finally:
        os.close(fd)
    return gid


def no_permission(path: Path, error: PermissionError, *, writable: bool) -> NoPermission:
    """Return what to say of a segment that could not be opened."""
    try:
        file = path.stat(follow_symlinks=False)
    except OSError:  # a directory on the way to it
        return NoPermission(f"{path}: {error.strerror}")
    if writable:
        ours = file.st_uid == os.geteuid()
        return (
            NoPermission(f"{path}: {error.strerror}") if ours else foreign_owner(path, file.st_uid)
        )
    owner, group = user_name(file.st_uid), group_name(file.st_gid)
    if file.st_gid in (0, _primary_group(file.st_uid)) or not file.st_mode & stat.S_IRGRP:
        return NoPermission(
            f"{path}: {error.strerror}: {owner} shares it with no group of readers; "
            f'have its daemon started with group = "NAME" in the configuration'
        )
    return NoPermission(
        f"{path}: {error.strerror}; its readers must be in the group {group}: "
        f"usermod -aG {group} $USER, then log in again"
    )


def foreign_owner(path: Path, uid: int) -> NoPermission:
    """Return what to say to who would write another user's segment."""
    owner = user_name(uid)
    return NoPermission(
        f"{path} belongs to {owner}: choose another instance name, or, once nobody uses it, "
        f"run mdsys clean as {'that user' if uid == 0 else 'that user or as root'}"
    )


def user_name(uid: int) -> str:
    """Return ``user NAME``, or ``uid N`` of one that has no name here."""
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"uid {uid}"


def group_name(gid: int) -> str:
    """Return a group's name, or its number where it has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _primary_group(uid: int) -> int:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return -1
