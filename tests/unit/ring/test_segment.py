"""An instance's life: made, owned, stopped, adopted, superseded, removed."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import grp
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mdsys import LayoutError, MdsysError, NotRunning, Status, WriterGone, _native, attach, cli
from mdsys.errors import ConfigError, HostError, InstanceInUse, NoPermission
from mdsys.ring import lock, segment
from mdsys.ring.lock import Lock, run_dir, start_ticks
from mdsys.ring.segment import (
    ROOT_DIR,
    Geometry,
    Instance,
    find_segments,
    instances,
    map_file,
    parts,
    remove_segments,
    segment_path,
)
from tests.instances import NOW, cleaned, geometry, new_name, running, start, trades, writer
from tests.native import POSIX, PROGRAMS, compile_program, run_program, sanitizer_flags

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may do this")
STOPPED, SUPERSEDED = 2, 3


@pytest.fixture
def name() -> Iterator[str]:
    with cleaned(new_name()) as name:
        yield name


def paths_of(instance: Instance) -> list[Path]:
    return [
        segment_path(ROOT_DIR, instance.name, "symbols"),
        *(
            segment_path(instance.geometry.dir, instance.name, part)
            for part in parts(instance.geometry.ring_count)
        ),
    ]


@dataclass(frozen=True)
class User:
    """Another user without rights, with a run directory of its own."""

    uid: int
    run: Callable[..., str]
    """Run code with the instance's name and more arguments; return its one line of output."""
    hold: Callable[..., subprocess.Popen[str]]
    """Start it and wait until it has printed ``holding``."""
    locks: Callable[[], list[Path]]


@pytest.fixture
def nobody(name: str) -> Iterator[User]:
    uid = pwd.getpwnam("nobody").pw_uid
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to others
        os.chown(folder, uid, -1)

        def run(*arguments: str) -> str:
            instance, code, *more = arguments
            result = run_child(code, instance, *more, uid=uid, runtime=folder)
            assert result.stderr == ""
            return result.stdout.rstrip("\n")

        def hold(instance: str, *more: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-c", child_code(HOLD, uid), instance, *more],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "XDG_RUNTIME_DIR": folder},
            )
            assert process.stdout is not None
            assert process.stdout.readline() == "holding\n"
            return process

        yield User(uid, run, hold, lambda: list(Path(folder).glob("mdsys/*.lock")))
        remove_segments(name, foreign=True)


def child_code(code: str, uid: int | None) -> str:
    prologue = f"os.setgroups([]); os.setgid({uid}); os.setuid({uid})\n" if uid else ""
    # All of it before the child is somebody else, who may not read where Python lies.
    imports = "import os, shutil, sys\nimport mdsys, numpy\nfrom mdsys import *\n"
    imports += "import mdsys.cli, mdsys.commands, mdsys.ring.clean_command\n"
    return imports + "from mdsys.ring import lock, segment\n" + prologue + textwrap.dedent(code)


def run_child(
    code: str, *args: str, uid: int | None = None, runtime: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Python code as another process, perhaps as another user without groups."""
    return subprocess.run(
        [sys.executable, "-c", child_code(code, uid), *args],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **({"XDG_RUNTIME_DIR": runtime} if runtime else {})},
    )


# ---- files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_modes_are_0640_whatever_the_umask(name: str, umask: int) -> None:
    before = os.umask(umask)
    try:
        instance = start(name, geometry(rings=2))
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in paths_of(instance)}
    lock_mode = stat.S_IMODE(instance.lock.path.stat().st_mode)
    instance.lock.release()
    assert modes == dict.fromkeys(modes, 0o640)
    assert len(modes) == 5
    assert lock_mode & ~0o600 == 0, "a reader must not be able to take the lock"


@as_root
def test_segments_belong_to_the_configured_group(name: str) -> None:
    group = grp.getgrall()[-1]
    instance = start(name, geometry(), group=group.gr_name)
    instance.lock.release()
    assert {path.stat().st_gid for path in paths_of(instance)} == {group.gr_gid}


def test_unknown_group_is_refused_with_the_command_that_makes_it(name: str) -> None:
    with pytest.raises(ConfigError, match="groupadd --system no-such-group"):
        start(name, geometry(), group="no-such-group")
    assert find_segments(name) == []


@as_root
def test_group_that_the_daemon_is_not_in_is_refused_with_the_command_that_adds_it(
    name: str, nobody: User
) -> None:
    result = nobody.run(name, OPEN, "root")
    assert result == (
        "NoPermission 77 group 'root': user nobody is not in it and so may not give it the "
        "segments: usermod -aG root nobody, then log in again"
    )
    assert find_segments(name) == []
    assert nobody.locks() == []


@as_root
def test_next_start_gives_the_segments_to_the_group_of_its_own_configuration(name: str) -> None:
    start(name, geometry()).stop()
    group = grp.getgrall()[-1]
    instance = start(name, geometry(), group=group.gr_name)
    instance.lock.release()
    assert instance.adopted
    assert {path.stat().st_gid for path in paths_of(instance)} == {group.gr_gid}


def test_instances_are_found_by_name(name: str) -> None:
    assert name not in instances()
    start(name, geometry()).lock.release()
    assert name in instances()


def test_segments_may_lie_in_a_directory_of_their_own(name: str, tmp_path: Path) -> None:
    directory = tmp_path / "with a blank and \udcff bytes"
    directory.mkdir()
    instance = start(name, geometry(rings=2, directory=directory))
    instance.lock.release()
    with attach(name) as md:
        assert len(md.rings) == 2
    assert {path.name.removeprefix(f"mdsys.{name}.") for path in directory.iterdir()} == {
        "cache",
        "counters",
        "ring.0",
        "ring.1",
    }
    assert len(remove_segments(name)) == 5, "the root knows where the others are"
    assert list(directory.iterdir()) == []


def test_missing_directory_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"nowhere.*mount or make it"):
        start(name, geometry(directory=tmp_path / "nowhere"))
    assert find_segments(name) == []


def test_directory_with_too_long_a_name_is_refused_and_leaves_nothing(
    name: str, tmp_path: Path
) -> None:
    directory = tmp_path / ("d" * 120) / ("e" * 120)
    directory.mkdir(parents=True)
    with pytest.raises(ValueError, match="too long"):
        start(name, geometry(directory=directory))
    assert find_segments(name, directory) == []


# ---- readers may not write ---------------------------------------------------------------------


@pytest.mark.parametrize("part", ["symbols", "cache", "ring.0"])
def test_write_through_a_readers_mapping_dies(part: str) -> None:
    code = """
        import ctypes
        memory = segment.map_file(segment.segment_path(segment.ROOT_DIR, *sys.argv[1:3]))
        address = numpy.frombuffer(memory, numpy.uint8).ctypes.data
        print("mapped", flush=True)
        ctypes.memset(address + int(sys.argv[3]), 0, 1)
        print("written")
    """
    with running() as instance:
        for offset in (0, 4096):
            result = run_child(code, instance.name, part, str(offset))
            assert (result.returncode, result.stdout) == (-signal.SIGSEGV, "mapped\n")


def test_everything_that_attach_maps_is_read_only() -> None:
    with running(geometry(rings=2)) as instance, attach(instance.name) as md:
        me = Path("/proc/self/maps").read_text().splitlines()
        ours = [line.split() for line in me if f"mdsys.{instance.name}." in line]
        ino = {str(path.stat().st_ino): path for path in paths_of(instance)}
        modes = {mode for _, mode, _, _, number, *_ in ours if number in ino}
        assert modes == {"rw-s", "r--s"}, "the instance writes, the attached reader does not"
        assert sum(mode == "r--s" for _, mode, *_ in ours) == 4
        assert not md.rings[0].writable
        with pytest.raises(HostError, match="read-only"):
            md.rings[0].take_over(1, 1, NOW)
        with pytest.raises(HostError, match="read-only"):
            md.rings[0].stop()


def test_writer_refuses_a_read_only_mapping() -> None:
    with running() as instance:
        memory = map_file(segment_path(ROOT_DIR, instance.name, "ring.0"))
        with pytest.raises((BufferError, TypeError, ValueError)):
            _native.RingWriter(memory, 1, 1, NOW)
        assert instance.rings[0].epoch == 0


# ---- ownership ---------------------------------------------------------------------------------

HOLD = """
    instance = segment.open_instance(
        sys.argv[1],
        segment.Geometry(1, 64, 64, 1, segment.ROOT_DIR),
        group=None, pid=os.getpid(), now_ns=1)
    instance.symbols.add(b"BINANCE:S1", 0, 8, 8)
    if "stop" in sys.argv:
        instance.stop()
    print("holding", flush=True)
    sys.stdin.read()
"""
OPEN = """
    try:
        group = sys.argv[2] if len(sys.argv) > 2 else None
        instance = segment.open_instance(
            sys.argv[1], segment.Geometry(1, 64, 64, 1, segment.ROOT_DIR),
            group=group, pid=os.getpid(), now_ns=1)
        print("adopted" if instance.adopted else "created")
    except mdsys.MdsysError as error:
        print(type(error).__name__, int(error.exit_code), error)
"""
CLEAN = """
    sys.stderr = sys.stdout
    print(mdsys.cli.main(["clean", "--instance", sys.argv[1]]))
"""


def spawn(code: str, *args: str, **environment: str) -> subprocess.Popen[str]:
    """Start a process and wait until it has printed its first line."""
    text = "import os, sys\nfrom mdsys.ring import segment\n" + textwrap.dedent(code)
    process = subprocess.Popen(
        [sys.executable, "-c", text, *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "holding\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_second_process_is_refused_and_told_who_is_first(name: str) -> None:
    first = spawn(HOLD, name)
    try:
        with pytest.raises(InstanceInUse, match=rf"{name}.*process {first.pid};") as caught:
            start(name, geometry())
        assert int(caught.value.exit_code) == 75
        with attach(name) as md:
            assert list(md.symbols) == ["BINANCE:S1"], "the refused one has harmed nothing"
    finally:
        end(first)


def test_second_daemon_with_another_run_directory_is_refused_too(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The same user, once with and once without XDG_RUNTIME_DIR: two locks, one set of segments.
    first = spawn(HOLD, name)
    try:
        monkeypatch.setattr(lock, "run_dir", lambda: tmp_path)
        for shape in (geometry(), geometry(depth=128)):
            with pytest.raises(
                InstanceInUse, match=rf"process {first.pid} of user \w+, whose lock is not in"
            ):
                start(name, shape)
    finally:
        end(first)
    instance = start(name, geometry())
    assert instance.adopted, "once it is dead there is nobody to refuse"
    instance.lock.release()


def test_writer_of_another_layout_is_refused_all_the_same(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = spawn(HOLD, name)
    door = segment_path(ROOT_DIR, name, "symbols")
    try:
        monkeypatch.setattr(lock, "run_dir", lambda: tmp_path)
        before = overwrite(door, 0, bytes(8) + b"\x07\x00\x00\x00" + b"\xff" * 20)
        for act in (lambda: start(name, geometry()), lambda: remove_segments(name)):
            with pytest.raises(InstanceInUse, match=f"process {first.pid} "):
                act()
        overwrite(door, 0, before)
        door.unlink()  # the others are still being written
        with pytest.raises(InstanceInUse, match=f"process {first.pid} "):
            start(name, geometry(depth=128))
        assert len(find_segments(name)) == 3
    finally:
        end(first)


WRITE = """
    path = segment.segment_path(segment.ROOT_DIR, sys.argv[1], "ring.0")
    pid = os.getpid()
    memory = segment.map_file(path, writable=True)
    ring = segment._native.RingWriter(memory, pid, segment.start_ticks(pid), 1)
    print("holding", flush=True)
    sys.stdin.read()
"""


def test_feed_that_outlives_its_supervisor_and_the_lock_is_refused(name: str) -> None:
    start(name, geometry()).lock.release()
    feed = spawn(WRITE, name)
    try:
        for shape in (geometry(), geometry(depth=128)):
            with pytest.raises(InstanceInUse, match=f"process {feed.pid} "):
                start(name, shape)
    finally:
        end(feed)
    instance = start(name, geometry())
    instance.lock.release()
    assert instance.adopted


def test_stopped_instance_can_be_taken_over_while_its_last_process_lives_on(name: str) -> None:
    first = spawn(HOLD, name, "stop")
    try:
        instance = start(name, geometry())
        instance.lock.release()
        assert instance.adopted
    finally:
        end(first)


# ---- other users --------------------------------------------------------------------------------


@as_root
def test_living_daemon_of_another_user_is_neither_replaced_nor_removed(
    name: str, nobody: User, capsys: pytest.CaptureFixture[str]
) -> None:
    first = nobody.hold(name)
    try:
        before = {path: path.stat().st_ino for path in find_segments(name)}
        for shape in (geometry(), geometry(depth=128)):
            with pytest.raises(
                InstanceInUse, match=f"process {first.pid} of user nobody"
            ) as caught:
                start(name, shape)
            assert int(caught.value.exit_code) == 75
        assert cli.main(["clean", "--instance", name]) == 75
        assert f"process {first.pid} of user nobody" in capsys.readouterr().err
        assert {path: path.stat().st_ino for path in find_segments(name)} == before
        with attach(name) as md:
            assert [ring.state for ring in md.rings] == [0]
            assert list(md.symbols) == ["BINANCE:S1"]
        assert not (run_dir() / f"{name}.lock").exists(), "a refusal leaves nothing behind"
    finally:
        end(first)


@as_root
def test_dead_daemon_of_another_user_is_replaced_by_no_start_and_removed_by_roots_clean(
    name: str, nobody: User
) -> None:
    end(nobody.hold(name))
    before = {path: path.stat().st_ino for path in find_segments(name)}
    assert len(before) == 4
    for shape in (geometry(), geometry(depth=128)):
        with pytest.raises(
            NoPermission, match=r"belongs to user nobody: choose another instance name, .*clean as"
        ):
            start(name, shape)
    with pytest.raises(NoPermission, match="user nobody"):
        remove_segments(name)
    assert {path: path.stat().st_ino for path in find_segments(name)} == before
    with attach(name) as md:
        assert cli.main(["clean", "--instance", name]) == 0
        assert [ring.state for ring in md.rings] == [SUPERSEDED], "readers are told"
    assert find_segments(name) == []


@as_root
def test_user_cannot_touch_roots_instance_and_is_told_whose_it_is(name: str, nobody: User) -> None:
    first = start(name, geometry())
    words = f"NoPermission 77 /dev/shm/mdsys.{name}.symbols belongs to user root: choose another"
    assert nobody.run(name, OPEN).startswith(words), "it cannot even see whether it runs"
    assert nobody.run(name, CLEAN).startswith(f"mdsys: {words.partition('77 ')[2]}")
    for path in paths_of(first):
        os.chown(path, -1, nobody.uid)  # as a reader, it can
    in_use = f"instance '{name}' is in use by process {os.getpid()} of user root"
    assert nobody.run(name, OPEN).startswith(f"InstanceInUse 75 {in_use}")
    assert nobody.run(name, CLEAN).splitlines()[-1] == "75"
    first.stop()
    assert nobody.run(name, OPEN).startswith(words)
    assert nobody.run(name, CLEAN).splitlines()[-1] == "77"
    assert nobody.locks() == []
    assert start(name, geometry()).adopted, "and none of it did any harm"


@as_root
def test_another_users_segment_is_never_mapped_to_be_written(name: str, nobody: User) -> None:
    # It could be truncated under our feet, and hold whatever its maker likes.
    start(name, geometry()).stop()
    path = segment_path(ROOT_DIR, name, "ring.0")
    os.chown(path, nobody.uid, -1)
    with pytest.raises(NoPermission, match=r"ring\.0 belongs to user nobody"):
        map_file(path, writable=True)
    map_file(path).close()


@as_root
def test_file_that_another_user_plants_does_not_keep_an_instance_from_going_on(
    name: str, nobody: User
) -> None:
    start(name, geometry()).stop()
    planted = segment_path(ROOT_DIR, name, "ring.77")
    planted.touch()
    os.chown(planted, nobody.uid, -1)
    instance = start(name, geometry())
    instance.lock.release()
    assert instance.adopted


# ---- the lock -----------------------------------------------------------------------------------


def test_lock_that_was_removed_while_we_were_taking_it_is_taken_anew(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Lock.take(name)
    real, calls = fcntl.flock, 0

    def flock(fd: int, operation: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:  # the file is open; now its holder cleans up and goes
            first.remove()
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    second = Lock.take(name)
    monkeypatch.undo()
    assert calls == 2
    assert second.path.stat().st_ino == os.fstat(second.fd).st_ino
    with pytest.raises(InstanceInUse):
        Lock.take(name, orphan_wait=0)
    second.remove()
    assert not second.path.exists()


def test_lock_is_released_when_opening_fails(name: str, tmp_path: Path) -> None:
    with pytest.raises(HostError):
        start(name, geometry(directory=tmp_path / "nowhere"))
    start(name, geometry()).lock.release()


ORPHAN = """
    lock = segment.Lock.take(sys.argv[1])
    if os.fork() == 0:
        os.write(1, b"holding\\n")
    os.read(0, 1)
"""


def test_start_waits_for_the_feeds_of_a_killed_supervisor(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = spawn(ORPHAN, name)
    supervisor.kill()
    supervisor.wait()
    children = _holders_of(run_dir() / f"{name}.lock")
    assert len(children) == 1
    waits = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            os.kill(children[0], signal.SIGKILL)
            _await_end(children[0])

    monkeypatch.setattr(time, "sleep", sleep)
    instance = start(name, geometry())
    instance.lock.release()
    supervisor.communicate()
    assert len(waits) >= 3


def test_start_does_not_wait_for_ever_for_orphans(name: str) -> None:
    supervisor = spawn(ORPHAN, name)
    supervisor.kill()
    supervisor.wait()
    (child,) = _holders_of(run_dir() / f"{name}.lock")
    try:
        with pytest.raises(InstanceInUse, match=f"process {supervisor.pid}"):
            Lock.take(name, orphan_wait=0)
    finally:
        os.kill(child, signal.SIGKILL)
        supervisor.communicate()


def test_supervisor_that_is_dead_and_not_reaped_counts_as_dead(name: str) -> None:
    zombie = subprocess.Popen(["true"])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    assert start_ticks(zombie.pid) == 0
    zombie.wait()
    assert start_ticks(zombie.pid) == 0
    assert start_ticks(os.getpid()) > 0


def test_process_that_is_dying_counts_as_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    before, _, after = Path("/proc/self/stat").read_text().rpartition(")")
    fields = after.split()
    fields[6] = str(int(fields[6]) | 4)  # as after its files were closed, before it is a zombie
    monkeypatch.setattr(Path, "read_text", lambda _: f"{before}) {' '.join(fields)}")
    assert start_ticks(os.getpid()) == 0


def _holders_of(path: Path) -> list[int]:
    """Return the processes that have a file open."""
    target = path.stat()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        for descriptor in process.glob("fd/*"):
            try:
                status = descriptor.stat()
            except OSError:
                continue
            if (status.st_dev, status.st_ino) == (target.st_dev, target.st_ino):
                found.append(int(process.name))
    return found


def _await_end(pid: int) -> None:
    descriptor = None
    try:
        descriptor = os.pidfd_open(pid)
        import select

        select.select([descriptor], [], [])
    except ProcessLookupError:
        pass
    finally:
        if descriptor is not None:
            os.close(descriptor)


# ---- stop, adopt, supersede --------------------------------------------------------------------


def test_stopped_instance_can_still_be_read(name: str) -> None:
    instance = start(name, geometry())
    instance.symbols.add(b"BINANCE:S1", 0, 8, 8)
    writer(instance).publish_records(trades(3))
    instance.stop()
    with attach(name) as md:
        assert [ring.state for ring in md.rings] == [STOPPED]
        assert list(md.symbols) == ["BINANCE:S1"]
        assert md.rings[0].head == 3


def inodes(instance: Instance) -> list[int]:
    return [path.stat().st_ino for path in paths_of(instance)]


@pytest.mark.parametrize("stopped", [True, False], ids=["after a stop", "after kill -9"])
def test_next_start_with_the_same_geometry_adopts(name: str, *, stopped: bool) -> None:
    shape = geometry(rings=2)
    first = start(name, shape)
    assert not first.adopted
    ids = [first.symbols.add(f"V:S{i}".encode(), i % 2, 8, 8) for i in range(5)]
    first_writer = writer(first)
    with attach(name) as md:
        reader = md.reader()
        first_writer.publish_records(trades(5))
        before = inodes(first)
        epochs = [s.epoch for s in (first.symbols, first.cache, first.counters)]
        first.stop() if stopped else first.lock.release()

        second = start(name, shape)
        assert second.adopted
        assert inodes(second) == before
        assert [s.epoch for s in (second.symbols, second.cache, second.counters)] == [
            epoch + 1 for epoch in epochs
        ]
        assert [second.symbols.find(f"V:S{i}".encode()) for i in range(5)] == ids
        assert second.symbols.add(b"V:NEW", 0, 8, 8) == 6
        second_writer = writer(second)
        assert (second_writer.epoch, second_writer.next) == (2, 7)
        second_writer.publish_records(trades(1))
        got = reader.poll()
        assert got["seq"].tolist() == [1, 2, 3, 4, 5, 6, 7]
        assert got["what"][5] == Status.WRITER_RESTARTED
        assert reader.epochs == {0: 2, 1: 0}
        second.lock.release()


def test_adoption_survives_a_real_kill_minus_nine(name: str) -> None:
    end(spawn(HOLD, name))
    instance = start(name, geometry())
    assert instance.adopted
    assert instance.symbols.find(b"BINANCE:S1") == 1
    instance.lock.release()


@pytest.mark.parametrize(
    "other",
    [
        geometry(depth=128),
        geometry(rings=2),
        geometry(max_symbols=65),
        geometry(rings=1, feeds=2),
    ],
    ids=["depth", "rings", "max_symbols", "feeds"],
)
def test_start_with_another_geometry_supersedes(name: str, other: Geometry) -> None:
    first = start(name, geometry())
    writer(first).publish_records(trades(3))
    with attach(name) as md:
        reader = md.reader()
        first.lock.release()
        second = start(name, other)
        assert not second.adopted
        assert md.rings[0].state == SUPERSEDED
        with pytest.raises(WriterGone, match="attach again"):
            reader.poll()
        with attach(name) as anew:
            assert len(anew.rings) == other.ring_count
            assert anew.rings[0].depth == other.depth
            assert anew.rings[0].head == 0
        second.lock.release()


def test_what_was_published_can_be_read_before_writer_gone_is_raised(name: str) -> None:
    first = start(name, geometry())
    ring = writer(first)
    with attach(name) as md:
        reader = md.reader()
        ring.publish_records(trades(3))
        first.lock.release()
        start(name, geometry(depth=128)).lock.release()
        assert len(reader.poll()) == 3
        with pytest.raises(WriterGone):
            reader.poll()


def test_another_directory_supersedes_and_the_old_one_is_emptied(name: str, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    start(name, geometry(directory=old)).lock.release()
    start(name, geometry(directory=new)).lock.release()
    assert list(old.iterdir()) == []
    assert len(list(new.iterdir())) == 3
    remove_segments(name)


def test_rings_of_a_larger_geometry_do_not_stay_behind(name: str) -> None:
    start(name, geometry(rings=4)).lock.release()
    start(name, geometry(rings=2)).lock.release()
    assert len(find_segments(name)) == 5


def test_removing_supersedes_for_who_is_attached(name: str) -> None:
    start(name, geometry()).stop()
    with attach(name) as md:
        reader = md.reader()
        assert len(remove_segments(name)) == 4
        with pytest.raises(WriterGone):
            reader.poll()
    with pytest.raises(NotRunning):
        attach(name)
    assert remove_segments(name) == []


def test_removing_one_instance_leaves_its_namesakes(name: str) -> None:
    other = f"{name}-2"
    with cleaned(other):
        start(name, geometry()).stop()
        start(other, geometry()).stop()
        bystander = ROOT_DIR / f"mdsys.{name}.notes"
        bystander.touch()
        try:
            remove_segments(name)
            assert bystander.exists()
        finally:
            bystander.unlink()
        attach(other).close()


@pytest.mark.parametrize("part", ["symbols", "cache", "counters", "ring.0"])
@pytest.mark.parametrize("damage", ["truncated", "short", "empty", "no magic", "missing"])
def test_start_over_a_damaged_segment_makes_the_instance_anew(
    name: str, part: str, damage: str
) -> None:
    start(name, geometry()).lock.release()
    path = segment_path(ROOT_DIR, name, part)
    if damage == "missing":
        path.unlink()
    elif damage == "no magic":  # as when the creation was cut short
        with path.open("r+b") as file:
            file.write(bytes(8))
    else:
        os.truncate(path, {"truncated": 4096, "short": 100, "empty": 0}[damage])
    instance = start(name, geometry())
    assert not instance.adopted
    assert writer(instance).next == 1
    instance.lock.release()


# ---- files that are not ours -------------------------------------------------------------------


def foreign_fifo(path: Path) -> None:
    os.mkfifo(path)


def foreign_directory(path: Path) -> None:
    path.mkdir()


def foreign_link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def foreign_text(path: Path) -> None:
    path.write_text("hello\n" * 2000)


def foreign_socket(path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


FOREIGN = [foreign_fifo, foreign_directory, foreign_link, foreign_text, foreign_socket]


@pytest.mark.parametrize("part", ["symbols", "cache", "ring.0"])
@pytest.mark.parametrize("make", FOREIGN)
def test_attach_refuses_what_is_no_segment(
    name: str, part: str, make: Callable[[Path], None]
) -> None:
    start(name, geometry()).lock.release()
    path = segment_path(ROOT_DIR, name, part)
    path.unlink()
    make(path)
    try:
        with pytest.raises(LayoutError, match=name):
            attach(name)
        result = run_program(compile_program(PROGRAMS / "read_instance.c"), name, seconds=10)
        assert result.returncode == 1
    finally:
        path.rmdir() if path.is_dir() else path.unlink()


def test_start_never_writes_through_a_planted_link(name: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"x" * 8192)
    segment_path(ROOT_DIR, name, "cache").symlink_to(victim)
    instance = start(name, geometry())
    instance.lock.release()
    assert victim.read_bytes() == b"x" * 8192
    assert not segment_path(ROOT_DIR, name, "cache").is_symlink()


# ---- rights ------------------------------------------------------------------------------------


@as_root
def test_user_outside_the_group_is_told_how_to_get_in(name: str) -> None:
    with running() as instance:
        code = """
            try:
                mdsys.attach(sys.argv[1])
            except mdsys.MdsysError as error:
                print(type(error).__name__, int(error.exit_code), error)
        """
        nobody = pwd.getpwnam("nobody").pw_uid
        result = run_child(code, instance.name, uid=nobody)
        assert result.stderr == ""
        assert result.stdout.startswith("NoPermission 77 /dev/shm/mdsys.")
        assert "user root shares it with no group of readers" in result.stdout
        assert "usermod" not in result.stdout, "root's group is no group of readers"
        for path in paths_of(instance):
            os.chown(path, -1, grp.getgrnam("mail").gr_gid)
        result = run_child(code, instance.name, uid=nobody)
        assert "must be in the group mail: usermod -aG mail $USER" in result.stdout


@as_root
def test_read_only_directory_is_no_permission_and_leaves_nothing() -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    code = """
        from pathlib import Path
        os.environ.pop("XDG_RUNTIME_DIR", None)
        shape = segment.Geometry(1, 64, 64, 1, Path(sys.argv[2]))
        try:
            segment.open_instance(sys.argv[1], shape, group=None, pid=os.getpid(), now_ns=1)
        except mdsys.MdsysError as error:
            print(type(error).__name__, int(error.exit_code), error)
        print(segment.find_segments(sys.argv[1], Path(sys.argv[2])))
        print(os.listdir(lock.run_dir()))
    """
    name = new_name()
    with tempfile.TemporaryDirectory() as directory:  # pytest's own are closed to others
        Path(directory).chmod(0o755)
        result = run_child(code, name, directory, uid=nobody)
    shutil.rmtree(f"/tmp/mdsys-{nobody}", ignore_errors=True)
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"NoPermission 77 {directory}/mdsys.{name}.cache: Permission denied")
    assert lines[1:] == ["[]", "[]"]


# ---- memory ------------------------------------------------------------------------------------


@pytest.fixture
def small_tmpfs(tmp_path: Path) -> Iterator[Path]:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "mdsys-test", str(tmp_path)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs: {mounted.stderr.decode().strip()}")
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_full_tmpfs_is_refused_with_room_and_remedy_and_leaves_nothing(
    name: str, small_tmpfs: Path
) -> None:
    shape = geometry(depth=2048, directory=small_tmpfs)  # a ring of 132 KiB, after cache, counters
    room = os.statvfs(small_tmpfs).f_bavail * os.statvfs(small_tmpfs).f_bsize
    assert room == 256 << 10
    for rings in (2, 3):  # the ring that does not fit comes first, or after others
        with pytest.raises(HostError) as caught:
            start(name, Geometry(rings, shape.depth, 64, 1, small_tmpfs))
        text = str(caught.value)
        del caught  # its traceback holds on to what was mapped before
        gc.collect()
        assert "no room for 132 KiB" in text
        assert f"{small_tmpfs} has " in text
        free = int(text.partition(" has ")[2].partition(" KiB free")[0])
        assert 0 < free < 132, "the room it tells is what there was"
        assert "make rings.buffer_size or rings.max_symbols smaller" in text
        assert find_segments(name, small_tmpfs) == []
        assert os.statvfs(small_tmpfs).f_bavail * os.statvfs(small_tmpfs).f_bsize == room
    instance = start(name, geometry(directory=small_tmpfs))
    instance.lock.release()
    del instance
    remove_segments(name)


def test_memory_is_taken_at_the_start_and_not_at_the_first_write(
    name: str, small_tmpfs: Path
) -> None:
    instance = start(name, geometry(directory=small_tmpfs))
    sizes = sum(path.stat().st_size for path in small_tmpfs.iterdir())
    blocks = sum(path.stat().st_blocks * 512 for path in small_tmpfs.iterdir())
    instance.lock.release()
    del instance
    remove_segments(name)
    assert blocks == sizes


@pytest.fixture
def huge_pages(tmp_path: Path) -> Iterator[Path]:
    knob = Path("/proc/sys/vm/nr_hugepages")
    before = knob.read_text()
    wanted = int(before) + 4
    mounted = False
    try:
        try:
            knob.write_text(str(wanted))
        except OSError as error:
            pytest.skip(f"no huge pages to be had: {error}")
        if int(knob.read_text()) < wanted:
            pytest.skip("no huge pages to be had: memory is too scattered")
        result = subprocess.run(
            ["mount", "-t", "hugetlbfs", "-o", "pagesize=2M,size=8M", "mdsys-test", str(tmp_path)],
            capture_output=True,
            check=False,
        )
        if result.returncode != 0:
            pytest.skip(f"cannot mount a hugetlbfs: {result.stderr.decode().strip()}")
        mounted = True
        yield tmp_path
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(tmp_path)], check=True)
        if knob.read_text() != before:
            knob.write_text(before)


def test_instance_lies_in_huge_pages_when_they_can_be_had(name: str, huge_pages: Path) -> None:
    instance = start(name, geometry(depth=1024, directory=huge_pages))
    try:
        for part in parts(1):
            path = segment_path(huge_pages, name, part)
            assert path.stat().st_size == 2 << 20
            assert segment.huge_bytes(path) == 2 << 20
        instance.symbols.add(b"V:S", 0, 8, 8)
        with attach(name) as md:
            reader = md.reader()
            writer(instance).publish_records(trades(5))
            assert len(reader.poll()) == 5
        del md, reader
        with cleaned(new_name(), huge_pages) as second:  # only one page is left
            with pytest.raises(HostError, match=r"vm\.nr_hugepages"):
                start(second, geometry(directory=huge_pages))
            assert find_segments(second, huge_pages) == []
    finally:
        instance.lock.release()
        del instance
        remove_segments(name)


# ---- headers that lie --------------------------------------------------------------------------

HEADER_FIELDS = [
    line.split()
    for line in (Path(__file__).parents[2] / "layout" / "offsets.txt").read_text().splitlines()
    if "_header." in line
]
CHECKED = [
    f"md_segment_header.{field}"
    for field in ("magic", "abi_version", "kind", "size_bytes", "schema_hash")
]
PART_OF = {
    "md_symbols_header": "symbols",
    "md_cache_header": "cache",
    "md_ring_header": "ring.0",
}
GARBAGE = [b"\xff", b"\x00", b"\x7f", b"\x01", b"\xa5"]


def overwrite(path: Path, offset: int, data: bytes) -> bytes:
    with path.open("r+b") as file:
        file.seek(offset)
        before = file.read(len(data))
        file.seek(offset)
        file.write(data)
    return before


def use(name: str) -> None:
    """Attach and touch everything that a header leads to."""
    with attach(name) as md:
        for symbol in list(md.symbols):
            md.last_trade(symbol)
            md.last_quote(symbol)
        reader = md.reader()
        reader.poll()
        reader.refresh()
        assert reader.lag >= 0
        assert len(md.rings) > 0


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[Instance]:
    with running(symbols=3) as instance:
        writer(instance).publish_records(trades(16))
        yield instance


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda data: data.hex())
@pytest.mark.parametrize("part", ["symbols", "cache", "ring.0"])
@pytest.mark.parametrize("field", CHECKED)
def test_garbage_in_a_checked_field_is_a_layout_error(
    field: str, part: str, garbage: bytes
) -> None:
    offset, size = next((int(o), int(s)) for n, o, s in HEADER_FIELDS if n == field)
    with running(symbols=2) as instance:
        path = segment_path(ROOT_DIR, instance.name, part)
        before = overwrite(path, offset, garbage * size)
        no_magic = part == "symbols" and field.endswith(".magic") and garbage == b"\x00"
        with pytest.raises(NotRunning if no_magic else LayoutError, match=instance.name):
            attach(instance.name)  # without a magic the door is one that is being made
        overwrite(path, offset, before)
        use(instance.name)


def test_message_of_another_abi_names_both_versions() -> None:
    with running() as instance:
        overwrite(segment_path(ROOT_DIR, instance.name, "symbols"), 8, b"\x07\x00\x00\x00")
        with pytest.raises(LayoutError, match="has ABI 7, this is 4"):
            attach(instance.name)


@pytest.mark.parametrize(("field", "offset", "size"), HEADER_FIELDS, ids=lambda value: value)
def test_garbage_in_any_field_is_an_error_of_ours_or_harmless(
    fuzzed: Instance, field: str, offset: str, size: str
) -> None:
    struct = field.partition(".")[0]
    for part in [PART_OF[struct]] if struct in PART_OF else list(PART_OF.values()):
        path = segment_path(ROOT_DIR, fuzzed.name, part)
        for garbage in GARBAGE:
            before = overwrite(path, int(offset), garbage * int(size))
            with contextlib.suppress(MdsysError):
                use(fuzzed.name)
            overwrite(path, int(offset), before)
    use(fuzzed.name)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("md_symbols_header.capacity", 0),
        ("md_symbols_header.capacity", 1 << 31),
        ("md_symbols_header.count", 65),
        ("md_symbols_header.index_size", 127),
        ("md_symbols_header.index_size", 64),
        ("md_symbols_header.entry_stride", 64),
        ("md_symbols_header.entries_offset", 1 << 62),
        ("md_symbols_header.entries_offset", 128),
        ("md_symbols_header.index_offset", (1 << 64) - 64),
        ("md_symbols_header.ring_count", 0),
        ("md_symbols_header.ring_count", 257),
        ("md_cache_header.cells_offset", 0),
        ("md_cache_header.cells_offset", 4097),
        ("md_cache_header.cell_stride", 0),
        ("md_cache_header.cell_stride", 1024),
        ("md_cache_header.capacity", 1 << 31),
        ("md_cache_header.capacity", 63),
        ("md_ring_header.depth", 0),
        ("md_ring_header.depth", 32),
        ("md_ring_header.depth", 96),
        ("md_ring_header.depth", 128),
        ("md_ring_header.depth", 1 << 63),
        ("md_ring_header.slots_offset", 0),
        ("md_ring_header.slots_offset", 8192),
        ("md_ring_header.slot_stride", 128),
        ("md_ring_header.record_size", 32),
        ("md_segment_header.index", 1),
    ],
)
def test_geometry_that_does_not_fit_the_file_is_a_layout_error(field: str, value: int) -> None:
    offset, size = next((int(o), int(s)) for n, o, s in HEADER_FIELDS if n == field)
    part = PART_OF.get(field.partition(".")[0], "ring.0")
    with running(symbols=2) as instance:
        path = segment_path(ROOT_DIR, instance.name, part)
        overwrite(path, offset, value.to_bytes(size, "little"))
        with pytest.raises(LayoutError):
            attach(instance.name)
        result = run_program(compile_program(PROGRAMS / "read_instance.c"), instance.name)
        assert result.stderr.startswith(("8 ", "4 ")), result


edits = st.lists(
    st.tuples(
        st.integers(0, 511),
        st.binary(min_size=1, max_size=16)
        | st.sampled_from([n.to_bytes(8, "little") for n in (0, 1, 63, 64, 4096, 1 << 63)]),
    ),
    min_size=1,
    max_size=4,
)


@given(part=st.sampled_from(["symbols", "cache", "ring.0"]), changes=edits)
@settings(
    deadline=None,
    max_examples=400,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_fuzzed_headers_never_crash_a_reader(
    fuzzed: Instance, part: str, changes: list[tuple[int, bytes]]
) -> None:
    path = segment_path(ROOT_DIR, fuzzed.name, part)
    before = overwrite(path, 0, path.read_bytes()[:544])
    try:
        for offset, data in changes:
            overwrite(path, offset, data)
        with contextlib.suppress(MdsysError):
            use(fuzzed.name)
    finally:
        overwrite(path, 0, before)
    use(fuzzed.name)


@pytest.mark.parametrize("cc", ["gcc", "clang"])
def test_fuzzed_headers_never_crash_a_c_reader(fuzzed: Instance, cc: str) -> None:
    flags = (POSIX, *sanitizer_flags(cc, "address,undefined"))
    program = compile_program(PROGRAMS / "fuzz_attach.c", cc=cc, flags=flags)
    result = run_program(program, fuzzed.name, 1, 20_000)
    assert result.returncode == 0, result.stdout + result.stderr
    counts = dict(line.split() for line in result.stdout.splitlines())
    assert int(counts["attached"]) > 100, "some must be harmless"
    assert int(counts["refused"]) > 1000


@pytest.mark.parametrize("size", [0, 1, 64, 4095, 4096, 4160])
@pytest.mark.parametrize("part", ["symbols", "cache", "ring.0"])
def test_truncated_segment_is_a_layout_error(part: str, size: int) -> None:
    with running(symbols=1) as instance:
        os.truncate(segment_path(ROOT_DIR, instance.name, part), size)
        being_made = part == "symbols" and size == 0
        with pytest.raises(NotRunning if being_made else LayoutError):
            attach(instance.name)
        result = run_program(compile_program(PROGRAMS / "read_instance.c"), instance.name)
        assert result.stderr.startswith("4 file shorter than its header says")


def test_damaged_directory_entry_is_a_layout_error() -> None:
    with running(symbols=2) as instance:
        path = segment_path(ROOT_DIR, instance.name, "symbols")
        ring_offset, name_size_offset = 4096 + 128 + 12, 4096 + 128 + 14
        for offset, data in ((ring_offset, b"\x07\x00"), (name_size_offset, b"\xff")):
            before = overwrite(path, offset, data)
            with pytest.raises(LayoutError, match="symbol 1"), attach(instance.name) as md:
                md.symbols  # noqa: B018  reading it learns the symbols
            overwrite(path, offset, before)


def test_attach_to_nothing_lists_what_there_is(name: str) -> None:
    with running() as instance:
        with pytest.raises(NotRunning, match=rf"found: .*{instance.name}") as caught:
            attach(name)
        assert caught.value.exit_code == 69
    missing = compile_program(PROGRAMS / "read_instance.c")
    assert run_program(missing, name).stderr.startswith("1 No such file")
