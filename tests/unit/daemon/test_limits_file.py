"""What a daemon knows of what the one before it has used, also when that was killed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from mdsys.daemon import limits_file as module
from mdsys.daemon.limiter import Limiter
from mdsys.daemon.limits_file import Kept, LimitsFile
from mdsys.feed.venue import Limits, Window
from tests.unit.daemon.test_limiter import Client, World, held_s

TEN = Window(3, 10.0)
LIMITS = Limits(connects=(TEN,), rest_weight=(Window(5, 60.0),))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "i.limits"


def start(path: Path, world: World, limits: Limits = LIMITS) -> Limiter:
    """Start a daemon's limiter; the one before it is told nothing, as by kill -9."""
    limiter = Limiter(world, world.call_later, LimitsFile(path))
    limiter.configure("v", limits)
    return limiter


def test_daemons_that_are_killed_over_and_over_never_use_more_than_one_would(path: Path) -> None:
    world = World()
    used: list[float] = []
    for _ in range(20):
        limiter = start(path, world)
        client = Client(limiter, world)
        for _ in range(4):
            limiter.ask("v", "connect", client)
        world.run(3.0)
        used += client.times
        world._timers.clear()  # kill -9
    assert len(used) >= 12
    assert all(later - sooner >= 10.0 for sooner, later in zip(used, used[3:], strict=False))


def test_what_was_granted_and_not_told_of_counts_from_the_restart(path: Path) -> None:
    world = World()
    dead = Client(start(path, world), world, uses=False)
    for _ in range(3):
        dead.limiter.ask("v", "connect", dead)
    world.run(8.0)  # it may have been used at any moment of these
    world._timers.clear()
    client = Client(start(path, world), world)
    restarted = world.now
    client.limiter.ask("v", "connect", client)
    world.run()
    (granted,) = client.times
    assert granted - restarted >= held_s(TEN) - 0.01


def test_what_was_used_counts_from_its_use_when_the_daemon_has_had_time_to_write_it(
    path: Path,
) -> None:
    world = World()
    first = start(path, world)
    client = Client(first, world)
    for _ in range(3):
        first.ask("v", "connect", client)
    first.keep()
    world.run(8.0)
    second = start(path, world)
    client = Client(second, world)
    second.ask("v", "connect", client)
    restarted = world.now
    world.run()
    assert client.times[0] - restarted < 3.0


def test_what_nobody_asks_for_in_one_life_is_known_in_the_next_but_one(path: Path) -> None:
    world = World()
    client = Client(start(path, world), world)
    for _ in range(3):
        client.limiter.ask("v", "connect", client)
    client = Client(start(path, world), world)
    client.limiter.ask("v", "rest", client)  # so that the file is written anew
    client = Client(start(path, world), world)
    client.limiter.ask("v", "connect", client)
    assert client.grants == []
    client.limiter.ask("v", "rest", client, count=5)
    assert client.grants == []


def test_unlimited_venue_leaves_no_file_entry(path: Path) -> None:
    world = World()
    client = Client(start(path, world, Limits()), world)
    client.limiter.ask("v", "connect", client)
    assert LimitsFile(path).read() == []


# ---- the file -----------------------------------------------------------------------------------

SOME = Kept("v", "connects", None, 1, [(5.0, 2)])


def test_file_is_ours_alone_and_read_back(path: Path) -> None:
    LimitsFile(path).write([SOME])
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["i.limits"]
    assert LimitsFile(path).read() == [SOME]


def test_another_boots_clock_means_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LimitsFile(path).write([SOME])
    boot_id = path.with_name("boot_id")
    boot_id.write_text("another\n")
    monkeypatch.setattr(module, "BOOT_ID", boot_id)
    assert LimitsFile(path).read() == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"boot_id":1,"scopes":[]}', b"\xff" * 99])
def test_what_is_no_such_file_is_said_and_passed_over(
    path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(content)
    assert LimitsFile(path).read() == []
    assert "begin anew" in caplog.text


@pytest.mark.parametrize(
    "kept",
    [
        msgspec.structs.replace(SOME, held=-1),
        msgspec.structs.replace(SOME, past=[(1.0, 0)]),
        msgspec.structs.replace(SOME, past=[(1.0, 1 << 31)]),
    ],
)
def test_scope_that_no_limiter_wrote_is_passed_over(path: Path, kept: Kept) -> None:
    LimitsFile(path).write([kept, SOME])
    assert LimitsFile(path).read() == [SOME]


def test_times_yet_to_come_count_as_now(path: Path) -> None:
    world = World()
    LimitsFile(path).write([Kept("v", "connects", None, 0, [(world.now + 1e9, 3)])])
    client = Client(start(path, world), world)
    client.limiter.ask("v", "connect", client)
    world.run(held_s(TEN) + 0.1)
    assert len(client.grants) == 1


def test_link_is_not_followed(path: Path) -> None:
    other = path.with_name("other")
    LimitsFile(other).write([SOME])
    path.symlink_to(other)
    assert LimitsFile(path).read() == []
    LimitsFile(path).write([])
    assert LimitsFile(other).read() == [SOME]


def test_want_of_room_is_said_once_and_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    client = Client(start(tmp_path / "gone" / "i.limits", world), world)
    for _ in range(3):
        client.limiter.ask("v", "connect", client)
    assert len(client.grants) == 3
    assert caplog.text.count("a restart will not know of it") == 1
