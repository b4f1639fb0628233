"""The supervisor's choice of the group that may read, its heart; the rest is in tests/system."""

from __future__ import annotations

import asyncio
import grp
import os
import signal
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from mdsys.daemon import supervisor
from mdsys.daemon.supervisor import Supervisor, _usable_group
from mdsys.errors import NoPermission
from mdsys.ring.rights import group_name, user_name


def test_group_that_the_configuration_names_is_never_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor, "DEFAULT_GROUP", "no-such-group")
    assert _usable_group("no-such-group") == "no-such-group"


def test_default_group_is_taken_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ours = grp.getgrgid(os.getegid()).gr_name
    monkeypatch.setattr(supervisor, "DEFAULT_GROUP", ours)
    assert _usable_group(None) == ours
    assert caplog.messages == []


def test_default_group_that_is_not_there_is_told_with_who_can_read_and_the_remedy(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "DEFAULT_GROUP", "no-such-group")
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

    monkeypatch.setattr(supervisor, "group_id", refuse)
    assert _usable_group(None) is None
    assert caplog.messages[0].endswith(" can read the instance: user alice is not in mdsys")


@pytest.mark.parametrize("faulty", ["watch.look", "note_ready", "service.look", "tally.write"])
def test_fault_in_what_is_looked_at_each_second_does_not_stop_the_heart(
    faulty: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "HEARTBEAT_S", 0)
    done: list[str] = []

    def part(name: str) -> Any:
        def do(*_: object) -> None:
            done.append(name)
            if name == faulty:
                raise OverflowError("can't convert negative value to uint64_t")
            if done.count("beat") == 3 * 3:
                raise asyncio.CancelledError

        return do

    segment = SimpleNamespace(beat=part("beat"))
    stand_in: Any = SimpleNamespace(
        instance=SimpleNamespace(symbols=segment, cache=segment, counters=segment),
        readers=SimpleNamespace(beat=part("readers")),
        _limiter=SimpleNamespace(keep=part("keep")),
        _links={},
        _watch=SimpleNamespace(look=part("watch.look")),
        _note_ready=part("note_ready"),
        _service=SimpleNamespace(look=part("service.look")),
        _tally=SimpleNamespace(write=part("tally.write")),
    )
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(Supervisor._beat(stand_in))
    assert done.count(faulty) == 2
    assert done.count("tally.write") >= 2, "the others are looked at all the same"
    assert caplog.messages == ["the instance cannot be looked at"] * 2


def test_daemon_that_is_stopped_before_its_feeds_are_started_starts_none() -> None:
    done: list[str] = []

    def note(word: str) -> Any:
        return lambda *_: done.append(word)

    class Metrics:
        url = "http://there"

        async def start(self) -> None:
            stand_in.stop()  # as the loop's first turn does when a signal has come

        async def close(self) -> None:
            pass

    async def nothing() -> None:
        pass

    async def run() -> int:
        stand_in._done = asyncio.Event()
        loop = asyncio.get_running_loop()
        try:
            return await Supervisor.run(stand_in)
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)

    closing = SimpleNamespace(close=nothing)
    stand_in: Any = SimpleNamespace(
        _stopping=False,
        _credentials=SimpleNamespace(mask=str),
        _log_start=note("log"),
        _log_core_notices=note("log"),
        _control=SimpleNamespace(start=note("listen"), close=note("close")),
        _metrics=Metrics(),
        _feeds=SimpleNamespace(start=note("feeds"), stop=lambda: stand_in._done.set()),  # noqa: PLW0108 - later
        _roster=SimpleNamespace(look_up=note("look up"), stop=note("no look up")),
        _service=SimpleNamespace(start=note("tell"), stop=note("tell the end")),
        _tally=SimpleNamespace(start=note("count")),
        _snapshots=closing,
        _rest=closing,
        _beat=nothing,
        instance=SimpleNamespace(stop=note("mark")),
        on_started=note("started"),
        reload_soon=note("reload"),
    )
    stand_in.stop = lambda: Supervisor.stop(stand_in)
    with patch.object(supervisor, "mask_log"):
        assert asyncio.run(run()) == 0
    assert [word for word in done if word != "log"] == [
        *("listen", "tell the end", "no look up", "close", "mark"),
    ]
