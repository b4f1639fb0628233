"""Who may read the instance, where the configuration says so and where it does not."""

from __future__ import annotations

import grp
import os

import pytest

from mdsys.daemon import segments
from mdsys.daemon.segments import _usable_group
from mdsys.errors import NoPermission
from mdsys.ring.rights import group_name, user_name


def test_group_that_the_configuration_names_is_never_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(segments, "DEFAULT_GROUP", "no-such-group")
    assert _usable_group("no-such-group") == "no-such-group"


def test_default_group_is_taken_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ours = grp.getgrgid(os.getegid()).gr_name
    monkeypatch.setattr(segments, "DEFAULT_GROUP", ours)
    assert _usable_group(None) == ours
    assert caplog.messages == []


def test_default_group_that_is_not_there_is_told_with_who_can_read_and_the_remedy(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(segments, "DEFAULT_GROUP", "no-such-group")
    assert _usable_group(None) is None
    (words,) = caplog.messages
    assert words == (
        f"only {user_name(os.geteuid())} and the group {group_name(os.getegid())} can read the "
        "instance: group 'no-such-group' does not exist on this host: "
        "groupadd --system no-such-group"
    )


def test_default_group_that_cannot_be_given_is_told_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(group: str) -> int:
        raise NoPermission(f"user alice is not in {group}")

    monkeypatch.setattr(segments, "group_id", refuse)
    assert _usable_group(None) is None
    assert caplog.messages[0].endswith(" can read the instance: user alice is not in mdsys")
