"""`make install`: what lies where, and that the daemon runs in its unit's sandbox from there.

There is no systemd to start it, so root makes the sandbox from the unit file (tests/sandbox.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import mdsys
from mdsys.ring.segment import ROOT_DIR, remove_segments, segment_path
from tests import daemons, sandbox

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

UNIT = "usr/lib/systemd/system/mdsys@.service"
Sandboxed = tuple[sandbox.Unit, Mapping[str, str], Path]
"""The unit, the environment for its sandbox, and what stands for /run/mdsys."""


def environment(stage: Path, prefix: str) -> dict[str, str]:
    """Return that of tools/install, without what leads back to this source tree."""
    ours = ("PYTHON", "MAKE", "MDSYS")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    return {**kept, "DESTDIR": str(stage), "PREFIX": prefix, "EXTRAS": "daemon"}


def install(
    repository: Path, stage: Path, *arguments: str | Path, prefix: str = "/opt/mdsys"
) -> subprocess.CompletedProcess[str]:
    """Run tools/install as the Makefile does."""
    return subprocess.run(
        [repository / "tools/install", *arguments],
        capture_output=True,
        text=True,
        env=environment(stage, prefix),
        cwd="/",
        check=False,
    )


@pytest.fixture(scope="module")
def stage(
    repository: Path, wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Install below a folder."""
    folder = tmp_path_factory.mktemp("stage")
    made = install(repository, folder, wheel)
    if "No matching distribution" in made.stderr:
        pytest.skip("the requirements cannot be had here")
    assert made.returncode == 0, made.stderr
    yield folder
    shutil.rmtree(folder)  # 150 MB


def listed(stage: Path) -> list[str]:
    """Return what lies outside of the program's folder, as the installation says."""
    return (stage / "opt/mdsys/share/mdsys/installed").read_text().split()


def outside(stage: Path) -> set[str]:
    """Return the files that lie outside of the program's folder."""
    files = (path for path in stage.rglob("*") if path.is_symlink() or not path.is_dir())
    program = stage / "opt"
    return {f"/{path.relative_to(stage)}" for path in files if not path.is_relative_to(program)}


def test_everything_lies_where_its_reader_looks_for_it(stage: Path, repository: Path) -> None:
    units = {path.name for path in (repository / "systemd").iterdir() if path.is_file()}
    expected = {f"/usr/lib/systemd/system/{name}" for name in units}
    for folder in ("sysusers.d", "tmpfiles.d"):
        files = (repository / "deploy" / folder).iterdir()
        expected |= {f"/usr/lib/{folder}/{path.name}" for path in files}
    expected |= {
        f"/usr/lib/systemd/system/{path.name}"
        for path in (repository / "deploy/systemd").glob("*.mount")
    }
    expected |= {
        f"/usr/lib/tuned/mdsys/{path.name}"
        for path in (repository / "deploy/tuned/mdsys").glob("*")
    }
    expected |= {
        f"/etc/mdsys/{path.name}.example" for path in (repository / "examples/config").iterdir()
    }
    expected |= {"/usr/local/bin/mdsys"}
    assert outside(stage) == expected == set(listed(stage))
    assert str((stage / "usr/local/bin/mdsys").readlink()) == "/opt/mdsys/bin/mdsys"


def test_nothing_names_the_folder_that_it_was_staged_in(stage: Path) -> None:
    found = subprocess.run(
        ["grep", "-rlF", stage.name, stage], capture_output=True, text=True, check=False
    )
    assert found.stdout == ""
    first = (stage / "opt/mdsys/bin/mdsys").read_text().splitlines()[0]
    assert first == "#!/opt/mdsys/bin/python"


def test_documents_of_the_installation_have_no_broken_links(stage: Path) -> None:
    place = stage / "opt/mdsys"
    pages = sorted((place / "share/doc/mdsys").rglob("*.md"))
    assert {"README.md", "ARCHITECTURE.md", "install.md"} <= {page.name for page in pages}
    links = {
        (page, link)
        for page in pages
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
        if "://" not in link
    }
    assert len(links) > 50
    ends = [(page, link, (page.parent / link).resolve()) for page, link in links]
    broken = [(page.name, link) for page, link, end in ends if not end.exists()]
    assert broken == []
    assert [link for _, link, end in ends if not end.is_relative_to(place / "share")] == []


def test_every_alert_names_a_page_that_is_installed(stage: Path) -> None:
    rules = (stage / "opt/mdsys/share/mdsys/prometheus/mdsys.rules.yml").read_text()
    runbooks = re.findall(r"runbook_url: file://(/\S+)#(\S+)$", rules, re.MULTILINE)
    assert len(runbooks) == rules.count("- alert:")
    (page,) = {path for path, _ in runbooks}
    headings = re.findall(r"^### (\w+)$", (stage / page[1:]).read_text(), re.MULTILINE)
    assert [anchor for _, anchor in runbooks] == [heading.lower() for heading in headings]


def test_units_name_a_page_that_is_installed(stage: Path) -> None:
    units = [path for path in (stage / "usr/lib/systemd/system").iterdir() if path.is_file()]
    pages = re.findall(r"Documentation=file:/(\S+)", "\n".join(unit.read_text() for unit in units))
    assert len(pages) >= 3
    for page in pages:
        assert (stage / page).is_file()


def test_units_that_say_where_they_lie_are_right(stage: Path) -> None:
    units = [path for path in (stage / "usr/lib/systemd/system").iterdir() if path.is_file()]
    said = re.findall(r"/\S+/systemd/system/[\w@.-]*\w", "\n".join(map(Path.read_text, units)))
    assert "/usr/lib/systemd/system/mnt-mdsys.mount" in said
    assert set(said) <= set(listed(stage))


def test_all_can_read_and_only_root_can_write(stage: Path) -> None:
    for path in stage.rglob("*"):
        if not path.is_symlink():
            mode = path.stat().st_mode
            assert mode & 0o044 == 0o044, path
            assert not mode & 0o022, path


def test_the_program_is_compiled_and_whole(stage: Path) -> None:
    python = stage / "opt/mdsys/bin/python"
    code = "import mdsys, mdsys.daemon.supervisor as s; print(mdsys.__version__, s.__cached__)"
    ran = subprocess.run(
        [python, "-I", "-c", code], capture_output=True, text=True, check=True, cwd="/"
    )
    version, cached = ran.stdout.split()
    assert version == mdsys.__version__
    assert Path(cached).is_file()


def test_another_prefix_reaches_units_and_links(
    stage: Path, repository: Path, wheel: Path, tmp_path: Path
) -> None:
    """A stand-in for pip's part, which is the same: only what is written outside is looked at.

    /usr/local is not the program's own, so it means a folder of its own there.
    """
    moved = tmp_path / "stage"
    theirs = moved / "usr/local/bin/theirs"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("precious")
    place = "/usr/local/lib/mdsys"
    with (tmp_path / "pip.conf").open("w") as file:
        file.write("[install]\nno-deps = true\n")
    made = subprocess.run(
        [repository / "tools/install", wheel],
        capture_output=True,
        text=True,
        env={
            **environment(moved, "/usr/local"),
            "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
        },
        check=False,
    )
    assert made.returncode == 0, made.stderr
    unit = (moved / UNIT).read_text()
    assert f"Environment=PATH={place}/bin:" in unit
    assert re.findall(r"^Assert\w+=(.*)$", unit, re.MULTILINE) == [f"{place}/bin/mdsys"]
    assert os.access(f"{moved}{place}/bin/mdsys", os.X_OK)
    assert "/opt/mdsys" not in unit
    assert str((moved / "usr/local/bin/mdsys").readlink()) == f"{place}/bin/mdsys"
    rules = Path(f"{moved}{place}/share/mdsys/prometheus/mdsys.rules.yml").read_text()
    assert f"runbook_url: file://{place}/share/doc/mdsys/docs/alerts.md#mdsysdown" in rules
    assert "/opt/mdsys" not in rules

    (moved / "etc/mdsys/default.toml").write_text("# the operator's\n")
    gone = install(repository, moved, "--uninstall", prefix="/usr/local")
    assert gone.returncode == 0, gone.stderr
    assert {path for path in moved.rglob("*") if not path.is_dir()} == {
        moved / "etc/mdsys/default.toml",
        theirs,
    }


@pytest.mark.parametrize(
    "prefix",
    [
        *("/", "/usr", "relative", "/opt/../etc", "/opt/a b", "/opt/m/"),
        *("/usr/lib", "/usr/local/bin", "/usr/local/bin/mdsys", "/usr/local/"),
    ],
)
def test_a_prefix_that_is_no_folder_of_its_own_is_refused(
    prefix: str, repository: Path, tmp_path: Path
) -> None:
    ended = install(repository, tmp_path, "--uninstall", prefix=prefix)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"install: PREFIX={prefix}: ")


def test_a_folder_of_others_is_left_alone(repository: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "opt/mdsys/theirs"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("precious")
    for arguments in (["--uninstall"], ["some.whl"]):
        ended = install(repository, tmp_path, *arguments)
        assert ended.returncode == 1
        assert "is none of ours" in ended.stderr
    assert theirs.read_text() == "precious"


def test_a_failed_installation_leaves_the_older_one(repository: Path, tmp_path: Path) -> None:
    older = tmp_path / "opt/mdsys/share/mdsys/installed"
    older.parent.mkdir(parents=True)
    older.write_text("")
    broken = tmp_path / "mdsys-9-py3-none-any.whl"
    broken.write_text("no wheel")
    ended = install(repository, tmp_path, broken)
    assert ended.returncode != 0
    assert older.exists()
    assert [path.name for path in (tmp_path / "opt").iterdir()] == ["mdsys"]


# ---- in the sandbox ----


@pytest.fixture
def sandboxed(stage: Path, tmp_path: Path) -> Sandboxed:
    """Give the unit, the environment for its sandbox, and the folder of its /run/mdsys."""
    if why := sandbox.why_not():
        pytest.skip(why)
    if os.path.realpath(stage / "opt/mdsys/bin/python").startswith(("/root/", "/home/")):
        pytest.skip("the interpreter is in a home, which the sandbox hides")
    root = tmp_path / "root"
    root.mkdir()
    (root / "etc/mdsys").mkdir(parents=True)
    (root / "opt").symlink_to(stage / "opt")
    subprocess.run(
        ["systemd-sysusers", f"--root={root}", stage / "usr/lib/sysusers.d/mdsys.conf"],
        capture_output=True,
        check=True,
    )
    names = (line.split(":") for line in (root / "etc/passwd").read_text().splitlines())
    uid = next(int(fields[2]) for fields in names if fields[0] == "mdsys")
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    os.chown(run_dir, uid, uid)
    (tmp_path / "scratch").mkdir()
    unit = sandbox.Unit.read(stage / UNIT)
    return unit, sandbox.environment(unit, root, run_dir, tmp_path / "scratch"), run_dir


@contextlib.contextmanager
def service(
    name: str, unit: sandbox.Unit, environment: Mapping[str, str]
) -> Iterator[daemons.Daemon]:
    """Run what the unit's ExecStart says; it is killed, if it still lives, at the end."""
    process = subprocess.Popen(
        sandbox.command(unit, name, unit.exec_start(name)),
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    running = daemons.Daemon(name, process)
    try:
        yield running
    finally:
        process.kill()
        running.wait()
        assert process.stderr is not None
        process.stderr.close()


PROBE = """
import json, mmap, os, socket
said = {}
def attempt(name, do):
    try:
        do()
        said[name] = "can"
    except OSError as error:
        said[name] = "cannot"
for place in ("/usr/x", "/etc/mdsys/x", "/opt/mdsys/x", "/var/x", "/run/x", "/dev/x"):
    attempt(place, lambda: open(place, "w"))
for place in ("/run/mdsys/x", "/tmp/x", "/dev/shm/mdsys.probe"):
    attempt(place, lambda: (open(place, "w"), os.unlink(place)))
for place in ("/root", "/home"):
    attempt(place, lambda: os.listdir(place))
for name in ("AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET"):
    attempt(name, lambda: socket.socket(getattr(socket, name), socket.SOCK_DGRAM).close())
attempt("write and execute", lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC))
attempt("chroot", lambda: os.chroot("/"))
attempt("setuid", lambda: os.setuid(0))
attempt("own core", lambda: os.sched_setaffinity(0, os.sched_getaffinity(0)))
print(json.dumps(said))
"""


def test_the_sandbox_is_one(
    sandboxed: Sandboxed,
) -> None:
    unit, environment, _ = sandboxed
    program = ["/opt/mdsys/bin/python", "-I", "-c", PROBE]
    ran = subprocess.run(
        sandbox.command(unit, "probe", program),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    open_to = {name for name, word in said.items() if word == "can"}
    assert open_to == {
        *("/run/mdsys/x", "/tmp/x", "/dev/shm/mdsys.probe"),
        *("AF_UNIX", "AF_INET", "AF_INET6", "own core"),
    }


def test_the_daemon_runs_in_the_sandbox_of_its_unit(sandboxed: Sandboxed, tmp_path: Path) -> None:
    unit, environment, run_dir = sandboxed
    with contextlib.ExitStack() as stack:
        name = stack.enter_context(daemons.instance())
        stack.callback(remove_segments, name, foreign=True)
        venue = stack.enter_context(daemons.Venue().listening())
        config = tmp_path / f"root/etc/mdsys/{name}.toml"
        config.write_text(daemons.config_text(name, venue.url))
        for trade_id, life in ((7, "created"), (8, "adopted")):
            with service(name, unit, environment) as running:
                running.wait_ready()
                assert f"instance {name}: {life}" in running.log
                assert "WARNING" not in running.log
                for pid in (running.process.pid, running.feed_pid()):
                    status = Path(f"/proc/{pid}/status").read_text()
                    for line in ("CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Umask:\t0077"):
                        assert line in status
                    assert re.search(r"^Seccomp:\t2$", status, re.MULTILINE)
                    assert "Uid:\t0" not in status
                with mdsys.attach(name) as md, md.reader(["BINANCE:BTCUSDT"]) as reader:
                    venue.next_socket().send(daemons.trade("BTCUSDT", trade_id))
                    ticks = reader.poll(timeout=daemons.PATIENCE_S)
                    while trade_id not in daemons.trade_ids(ticks):
                        ticks = reader.poll(timeout=daemons.PATIENCE_S)
                        assert len(ticks), running.log
                owner = run_dir.stat().st_uid
                for part, mode in (("symbols", 0o640), ("ring.0", 0o640), ("cache", 0o640)):
                    file = segment_path(ROOT_DIR, name, part).stat()
                    assert (file.st_uid, file.st_gid, file.st_mode & 0o777) == (owner, owner, mode)
                assert (run_dir / f"{name}.sock").stat().st_mode & 0o777 == 0o660
                assert (run_dir / f"{name}.lock").stat().st_mode & 0o777 == 0o600
                assert running.end() == 0


def test_a_configuration_of_another_instance_is_refused_by_the_unit(
    sandboxed: Sandboxed, tmp_path: Path
) -> None:
    unit, environment, run_dir = sandboxed
    config = tmp_path / "root/etc/mdsys/one.toml"
    config.write_text(daemons.config_text("other", "ws://127.0.0.1:1"))
    with service("one", unit, environment) as running:
        assert running.wait() == 78
    assert running.log.endswith('write instance = "one"')
    assert list(run_dir.iterdir()) == []
