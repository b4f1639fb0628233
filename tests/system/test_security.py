"""Who may do what to a running daemon, tried.

An outsider is in no group of the daemon's, a reader is in the group that reads, and a neighbour is
another reader.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.guarded import DAEMON, MARK, NEIGHBOUR, OUTSIDER, PATIENCE_S, READER, Stage, guarded, put
from tests.intruder import DONE

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(180),
    pytest.mark.skipif(os.geteuid() != 0, reason="becomes several users, which root alone can"),
]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """Give one daemon to all tests of this file."""
    with guarded() as made:
        yield made


INTRUDER = Path(__file__).parents[1] / "intruder.py"
Attempts = list[tuple[str, str]]


def tried(stage: Stage, attempts: Attempts, *, user: int, groups: Sequence[int] = ()) -> set[str]:
    """Have a user try; return what should not have worked and did, or failed as nothing should."""
    process = stage.start("-I", str(INTRUDER), user=user, groups=groups, stdin=subprocess.PIPE)
    out, _ = process.communicate(json.dumps(attempts), timeout=PATIENCE_S)
    results = json.loads(out)
    assert len(results) == len(attempts)
    return {
        f"{verb} {argument}: {result}"
        for (verb, argument), result in zip(attempts, results, strict=True)
        if result not in ("EACCES", "EPERM", "EROFS")
    }


def files_of(stage: Stage) -> list[str]:
    """Return what an instance has on this host: segments, socket, lock, limits."""
    beside = [str(path) for path in stage.run_dir.iterdir()]
    segments = [str(path) for path in stage.segments]
    assert len(segments) == 4  # symbols, cache, counters, ring.0
    assert {Path(each).suffix for each in beside} >= {".sock", ".lock"}
    return segments + beside


def process_attempts(stage: Stage) -> Attempts:
    """Return how to get at what the daemon's processes hold: secrets, memfds, sockets."""
    attempts: Attempts = []
    for pid in map(str, stage.pids):
        folder = f"/proc/{pid}"
        attempts += [("list", f"{folder}/fd"), ("list", f"{folder}/map_files")]
        attempts += [("read", f"{folder}/{each}") for each in ("mem", "environ", "maps", "smaps")]
        attempts += [("write", f"{folder}/mem"), ("read", f"{folder}/stack")]
        attempts += [(verb, pid) for verb in ("trace", "peek", "take_fd", "alert", "move")]
        for link in Path(f"{folder}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if "memfd" in str(link.readlink()) or ".ring." in str(link.readlink()):
                    attempts += [("read", str(link)), ("write", str(link))]
    return attempts


TO_WRITE = (
    *("write", "append", "resize", "unlink", "rename", "open_up", "take_over", "touch"),
    *("map_to_write", "protect_to_write", "reopen_to_write", "resize_open"),
)


def test_nobody_outside_the_group_reads_or_writes_anything(stage: Stage) -> None:
    attempts = [(verb, file) for file in files_of(stage) for verb in ("read", *TO_WRITE)]
    # A socket cannot be opened, whoever asks; and its own directory is no secret.
    attempts = [each for each in attempts if not each[1].endswith(".sock") or each[0] == "unlink"]
    attempts += [("make", str(stage.run_dir / f"{stage.name}x.sock"))]
    assert tried(stage, attempts, user=OUTSIDER) == set()


def test_a_reader_reads_the_segments_and_cannot_write_them_by_any_way(stage: Stage) -> None:
    segments = [str(path) for path in stage.segments]
    groups = [stage.gid]
    readable = tried(stage, [("read", each) for each in segments], user=READER, groups=groups)
    assert readable == {f"read {each}: {DONE}" for each in segments}
    attempts = [(verb, file) for file in segments for verb in TO_WRITE]
    # resize_open: EINVAL is what ftruncate says of a descriptor that is open for reading only.
    assert tried(stage, attempts, user=READER, groups=groups) == {
        f"resize_open {each}: EINVAL" for each in segments
    }


def test_a_reader_gets_nothing_of_the_daemons_own_files(stage: Stage) -> None:
    own = [each for each in files_of(stage) if "/run/" in each]
    attempts = [(verb, each) for each in own for verb in ("unlink", "rename", "open_up")]
    attempts += [
        (verb, each) for each in own if not each.endswith(".sock") for verb in ("read", "write")
    ]
    attempts += [("make", str(stage.run_dir / f"{stage.name}x.sock"))]
    attempts += [("read", str(stage.folder / "config.toml"))]
    attempts += [("list", str(stage.folder / "config" / "mdsys" / "credentials"))]
    attempts += [("read", str(stage.folder / "config" / "mdsys" / "credentials" / "key_a"))]
    assert tried(stage, attempts, user=READER, groups=[stage.gid]) == set()


@pytest.mark.parametrize("user", [OUTSIDER, READER])
def test_nobody_gets_into_the_daemons_processes(stage: Stage, user: int) -> None:
    groups = [stage.gid] if user == READER else []
    attempts = process_attempts(stage)
    assert any("fd/" in argument for _, argument in attempts)  # the recorder's ring, for one
    assert tried(stage, attempts, user=user, groups=groups) == set()


def test_the_control_socket_lets_in_the_group_and_nobody_else(stage: Stage) -> None:
    path = str(stage.run_dir / f"{stage.name}.sock")
    assert tried(stage, [("connect", path)], user=OUTSIDER) == set()
    assert tried(stage, [("connect", path)], user=READER, groups=[stage.gid]) == {
        f"connect {path}: {DONE}"
    }
    status = ("ctl", "status", "--instance", stage.name)
    code, said = stage.ask(*status, user=OUTSIDER)
    assert (code, "permission" in said.lower()) == (77, True), said
    code, said = stage.ask(*status, user=READER, groups=[stage.gid])
    assert code == 0, said


def test_the_intruder_is_able_to_do_what_it_is_let_do(stage: Stage) -> None:
    """Else the refusals above would prove nothing."""
    owned = stage.folder / "owned"
    put(owned, "x" * 4096, 0o600)
    once = ("unlink", "rename")
    mapping = ("map_to_write", "protect_to_write")  # of what is open for reading: nobody can
    file_verbs = [
        verb for verb in ("read", *TO_WRITE) if verb not in (*once, "resize_open", *mapping)
    ]
    assert tried(stage, [(verb, str(owned)) for verb in file_verbs], user=DAEMON) == {
        f"{verb} {owned}: {DONE}" for verb in file_verbs
    }
    sleeper = stage.start("-c", "input()", user=OUTSIDER, stdin=subprocess.PIPE)
    try:
        pid = str(sleeper.pid)
        attempts = [("list", f"/proc/{pid}/fd"), ("read", f"/proc/{pid}/environ")]
        attempts += [(verb, pid) for verb in ("trace", "take_fd", "alert", "move")]
        if resource.getrlimit(resource.RLIMIT_CORE)[1]:
            attempts += [("allow_core", pid)]
        assert tried(stage, attempts, user=OUTSIDER) == {
            f"{verb} {argument}: {DONE}" for verb, argument in attempts
        }
    finally:
        sleeper.kill()
        sleeper.communicate()


REGISTERED = """
import os, sys
import mdsys
reader = mdsys.attach(sys.argv[1]).reader()
maps = [line.split() for line in open("/proc/self/maps")]
segments = {each[1] for each in maps if f"mdsys.{sys.argv[1]}." in each[-1]}
pages = {each[1] for each in maps if "memfd:mdsys-reader" in "".join(each[5:])}
print(os.getpid(), *segments, *pages, flush=True)
sys.stdin.readline()
"""
"""A reader as anybody writes it; it tells what it can do with its mappings."""


def test_readers_write_their_own_page_alone_and_do_not_get_at_each_others(stage: Stage) -> None:
    groups = [stage.gid]
    reader = stage.start(
        *("-c", REGISTERED, stage.name), user=READER, groups=groups, stdin=subprocess.PIPE
    )
    try:
        assert reader.stdout is not None
        pid, *rights = reader.stdout.readline().split()
        assert rights == ["r--s", "rw-s"]  # the segments, and its page
        attempts = [("list", f"/proc/{pid}/fd"), ("list", f"/proc/{pid}/map_files")]
        attempts += [("read", f"/proc/{pid}/mem"), ("write", f"/proc/{pid}/mem")]
        attempts += [(verb, pid) for verb in ("trace", "peek", "take_fd", "alert")]
        assert tried(stage, attempts, user=NEIGHBOUR, groups=groups) == set()
        pages = [
            str(link)
            for pid in stage.pids
            for link in Path(f"/proc/{pid}/fd").iterdir()
            if "memfd:mdsys-reader" in str(link.readlink())
        ]
        assert len(pages) >= 2  # the supervisor's, and the feed's
        attempts = [(verb, page) for page in pages for verb in ("read", "write")]
        assert tried(stage, attempts, user=READER, groups=groups) == set()
    finally:
        reader.communicate("\n", timeout=PATIENCE_S)


# ---- secrets ------------------------------------------------------------------------------------


def test_no_secret_is_in_what_the_processes_show_of_themselves(stage: Stage) -> None:
    for pid in stage.pids:
        for what in ("cmdline", "environ", "maps", "comm", "stat"):
            assert MARK not in Path(f"/proc/{pid}/{what}").read_bytes()


def test_no_secret_is_in_the_log_however_much_is_logged(stage: Stage) -> None:
    log = stage.running.log
    assert " DEBUG " in log
    assert "no ***" in log  # it was quoted at us, whole and cut in two
    assert "denied" in log
    assert [line for line in log.splitlines() if "q7Zx" in line or "s3cret" in line] == []


def test_no_secret_is_in_shared_memory_or_beside_it(stage: Stage) -> None:
    places = list(stage.segments)
    places += [path for path in stage.run_dir.iterdir() if path.is_file()]
    places += [
        link
        for pid in stage.pids
        for link in Path(f"/proc/{pid}/fd").iterdir()
        if "memfd:" in str(link.readlink())
    ]
    assert any("capture" in str(each.readlink()) for each in places if each.is_symlink())
    assert [place for place in places if MARK in place.read_bytes()] == []


def test_no_secret_is_in_a_capture_though_it_was_sent_while_recording(stage: Stage) -> None:
    while True:
        files = list((stage.folder / "captures").glob("*.zst"))
        frames = b"".join(unpacked(file) for file in files)
        if b'"type": "subscribe"' in frames:  # what came after it, flushed twice a second
            break
    assert MARK not in frames


def unpacked(path: Path) -> bytes:
    """Return as much of a capture as there is."""
    import zstandard

    data = b""
    with path.open("rb") as file, contextlib.suppress(zstandard.ZstdError):
        for piece in zstandard.ZstdDecompressor().read_to_iter(file):
            data += piece
    return data


def test_no_secret_is_in_any_answer_or_in_what_the_service_manager_hears(stage: Stage) -> None:
    name = ("--instance", stage.name)
    said = list(stage.said)
    for arguments in (
        ("ctl", "status", *name),
        ("ctl", "status", *name, "--json"),
        ("ctl", "status", "OPENALGO:NSE:INFY", *name, "--json"),
        ("stat", *name, "--json"),
        ("check", "--config", str(stage.folder / "config.toml")),
    ):
        code, text = stage.ask(*arguments, user=DAEMON)
        assert code == 0, text
        said.append(text)
    with urllib.request.urlopen(stage.metrics, timeout=PATIENCE_S) as answer:
        said.append(answer.read().decode())
    assert "mdsys_" in said[-1]
    assert "credentials changed: key_a" in stage.said[-1]
    everything = "\n".join(said).encode() + b"\n".join(stage.told)
    assert b"STATUS=" in everything
    assert MARK not in everything
    assert b"s3cret" not in everything


def test_no_process_of_the_daemons_leaves_its_memory_in_a_core_dump(stage: Stage) -> None:
    assert len(stage.pids) >= 2  # the supervisor, and its feed
    for pid in map(str, stage.pids):
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE), limits
        assert int(Path(f"/proc/{pid}/coredump_filter").read_text(), 16) == 0
        assert tried(stage, [("allow_core", pid)], user=DAEMON) == set()


def test_the_search_finds_a_secret_where_there_is_one(stage: Stage) -> None:
    """Else not finding it would prove nothing: the file has it, and the supervisor's own memory."""
    assert MARK in (stage.folder / "config" / "mdsys" / "credentials" / "key_a").read_bytes()
    pid = stage.running.process.pid
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            first, last = (int(each, 16) for each in line.split()[0].split("-"))
            if line.split()[1] == "rw-p":
                with contextlib.suppress(OSError):
                    memory.seek(first)
                    if MARK in memory.read(last - first):
                        return
    pytest.fail("the supervisor holds no secret at all")
