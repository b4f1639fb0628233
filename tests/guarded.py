"""A daemon that runs as a user of its own, as under its unit, and users who have no business there.

The users are numbers that no account has. It has met a wrong secret and then the right one, which
was sent while a recorder ran; it logs all that can be logged, and a service manager listens.
"""

from __future__ import annotations

import contextlib
import grp
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from tests.daemons import Daemon, Venue, trade
from tests.instances import new_name

GROUP = "games"  # there on every Debian, and nobody's who reads market data
DAEMON, OUTSIDER, READER, NEIGHBOUR = 64_001, 64_002, 64_003, 64_004
SECRET, STALE = "s3cret-Good-q7Zx0123456789", "s3cret-Stale-q7Zx0123456789"
MARK = b"q7Zx01"
"""In every secret, and nowhere else."""
PATIENCE_S = 60.0

LOUD = """
import logging
logging.root.setLevel(1)
logging.root.setLevel = lambda level: None
logging.Logger.isEnabledFor = lambda self, level: not self.disabled
"""
"""A sitecustomize.py that has all programs log everything."""


HERE = ":".join([str(Path(__file__).parents[1]), sysconfig.get_path("platlib")])


def interpreter() -> str | None:
    """Return a Python that other users can run mdsys with; None: there is none.

    That of a virtual environment may be a link into a home that is closed to them.
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{version}"):
        with contextlib.suppress(OSError):
            ran = subprocess.run(
                [python, "-c", "import mdsys.daemon.supervisor"],
                user=OUTSIDER,
                group=OUTSIDER,
                extra_groups=[],
                env={"PYTHONPATH": HERE},
                capture_output=True,
                check=False,
                cwd="/",
            )
            if ran.returncode == 0:
                return python
    return None


@dataclass(slots=True)
class Stage:
    """A daemon with readers, a recorder and a service manager that listens."""

    name: str
    python: str
    folder: Path
    running: Daemon
    venue: Venue
    environment: Mapping[str, str]
    gid: int
    told: list[bytes]
    """What the service manager heard."""
    metrics: str
    """Where Prometheus asks."""
    said: list[str] = field(default_factory=list)
    """What was answered to people."""

    @property
    def pids(self) -> list[int]:
        """Return the supervisor and its feeds."""
        found = [self.running.process.pid]
        for each in found:
            for task in Path(f"/proc/{each}/task").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    found += map(int, (task / "children").read_text().split())
        return found

    @property
    def segments(self) -> list[Path]:
        """Return the files in shared memory."""
        return sorted(Path("/dev/shm").glob(f"mdsys.{self.name}.*"))

    @property
    def run_dir(self) -> Path:
        """Return where the socket lies."""
        return self.folder / "run" / "mdsys"

    def start(
        self, *arguments: str, user: int, groups: Sequence[int] = (), **options: Any
    ) -> subprocess.Popen[str]:
        """Start a Python program as a user."""
        return subprocess.Popen(
            [self.python, *arguments],
            user=user,
            group=user,
            extra_groups=list(groups),
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            **options,
        )

    def ask(self, *arguments: str, user: int, groups: Sequence[int] = ()) -> tuple[int, str]:
        """Run `mdsys` as a user; return its code and what it said."""
        process = self.start(
            *("-m", "mdsys", *arguments), user=user, groups=groups, stderr=subprocess.STDOUT
        )
        said, _ = process.communicate(timeout=PATIENCE_S)
        return process.returncode, said


class KeyedVenue:
    """An OpenAlgo that knows one key, and repeats a wrong one wherever it can."""

    def __init__(self) -> None:
        self.entered = threading.Event()

    def talk(self, connection: ServerConnection) -> None:
        """Serve one client."""
        with contextlib.suppress(ConnectionClosed):
            key = json.loads(connection.recv())["api_key"]
            if key != SECRET:
                connection.send(json.dumps({"x": "y" * 60, "key": key}))
                error = {"status": "error", "code": "AUTHENTICATION_ERROR", "message": f"no {key}"}
                connection.send(json.dumps(error))
                connection.close(1008, f"no such key: {key}")
                return
            connection.send(json.dumps({"type": "auth", "status": "success"}))
            self.entered.set()
            for message in connection:
                request = json.loads(message)
                if request["action"] == "subscribe":
                    entries = [{**each, "status": "success"} for each in request["symbols"]]
                    answer = {"type": "subscribe", "request_id": request["request_id"]}
                    connection.send(json.dumps({**answer, "subscriptions": entries}))


def put(path: Path, text: str, mode: int) -> None:
    """Write a file that is the daemon's."""
    path.touch(mode=mode)
    path.write_text(text)
    os.chown(path, DAEMON, DAEMON)


@contextlib.contextmanager
def keyed_venue() -> Iterator[tuple[KeyedVenue, str]]:
    """Serve on a free port."""
    venue = KeyedVenue()
    with serve(venue.talk, "127.0.0.1", 0, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield venue, f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def manager(folder: Path) -> Iterator[tuple[list[bytes], str]]:
    """Be the service manager: collect what it is told."""
    told: list[bytes] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        path = str(folder / "notify")
        ear.bind(path)
        Path(path).chmod(0o666)

        def listen() -> None:
            while message := ear.recv(1 << 16):
                told.append(message)

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield told, path
        finally:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as us:
                us.sendto(b"", path)
            thread.join()


@contextlib.contextmanager
def guarded() -> Iterator[Stage]:
    """Run it until the block ends; skip where the host does not have what it takes."""
    try:
        gid = grp.getgrnam(GROUP).gr_gid
    except KeyError:
        pytest.skip(f"this host has no group {GROUP}")
    if (python := interpreter()) is None:
        pytest.skip("every interpreter lies where other users cannot reach it")
    folder = Path(tempfile.mkdtemp(prefix="mdsys-security-", dir="/tmp"))
    name = new_name()
    try:
        folder.chmod(0o755)
        for part in ("run", "run/mdsys", "config", "config/mdsys", "config/mdsys/credentials"):
            (folder / part).mkdir(mode=0o700 if part.startswith("config") else 0o755)
            os.chown(folder / part, DAEMON, DAEMON)
        (folder / "loud").mkdir()
        (folder / "loud" / "sitecustomize.py").write_text(LOUD)
        with (
            Venue().listening() as venue,
            keyed_venue() as (keyed, url),
            manager(folder) as (told, address),
        ):
            yield from _staged(name, python, folder, gid, venue, keyed, url, told, address)
    finally:
        for path in Path("/dev/shm").glob(f"mdsys.{name}.*"):
            path.unlink()
        shutil.rmtree(folder)


def _staged(
    name: str,
    python: str,
    folder: Path,
    gid: int,
    venue: Venue,
    keyed: KeyedVenue,
    url: str,
    told: list[bytes],
    address: str,
) -> Iterator[Stage]:
    """Have the daemon meet its venues, and a wrong secret before the right one."""
    secret = folder / "config" / "mdsys" / "credentials" / "key_a"
    put(secret, STALE, 0o600)
    config = folder / "config.toml"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    put(
        config,
        f"""
instance = "{name}"
group = "{GROUP}"
[rings]
num_buffers = 1
max_symbols = 64
[feeds]
num_processes = 1
[metrics]
listen = "127.0.0.1:{port}"
[[venue]]
name = "binance"
symbols = ["BTCUSDT"]
channels = ["trade"]
url = "{venue.url}"
[[venue]]
name = "openalgo"
symbols = ["NSE:INFY"]
channels = ["quote"]
url = "{url}"
credentials = ["key_a"]
""",
        0o640,
    )
    environment = {
        "XDG_RUNTIME_DIR": str(folder / "run"),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "HOME": str(folder),
        "PYTHONPATH": HERE,
    }
    process = subprocess.Popen(
        [python, "-m", "mdsys", "run", "--config", str(config)],
        user=DAEMON,
        group=DAEMON,
        extra_groups=[gid],
        env={
            **os.environ,
            **environment,
            "PYTHONPATH": f"{folder / 'loud'}:{HERE}",
            "NOTIFY_SOCKET": address,
        },
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        umask=0,  # whoever starts it may have none
    )
    running = Daemon(name, process)
    metrics = f"http://127.0.0.1:{port}/metrics"
    stage = Stage(name, python, folder, running, venue, environment, gid, told, metrics)
    try:
        running.wait_for_line(r"openalgo.*denied")
        venue.next_socket().send(trade("BTCUSDT", 1))
        out = folder / "captures"
        out.mkdir()
        os.chown(out, DAEMON, DAEMON)
        recorder = stage.start(
            *("-m", "mdsys", "record", "--out", str(out), "--instance", name),
            user=DAEMON,
            stderr=subprocess.PIPE,
        )
        assert recorder.stderr is not None
        stage.said += [recorder.stderr.readline() for _ in range(1)]
        put(secret, SECRET, 0o600)
        stage.said.append(stage.ask("ctl", "reload", "--instance", name, user=DAEMON)[1])
        assert keyed.entered.wait(PATIENCE_S)
        running.wait_for_line(r"(?i)openalgo.*confirmed")
        yield stage
        recorder.send_signal(signal.SIGINT)
        recorder.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        running.wait()
        assert process.stderr is not None
        process.stderr.close()
