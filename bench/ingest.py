"""What the ingest benches share: a venue that only sends, and the programs that take it in.

The venue is the bench itself, on a core of its own: it does the handshake and answers SUBSCRIBE,
and then writes blocks of frames that were made (and, for TLS, encrypted, one frame a record)
beforehand. So each receiver gets the very same bytes, the sender costs next to nothing a frame and
is never what is waited for, and what every record must hold is known. `mdsys sim` could not give
that: it makes its frames while it sends.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from bench.frames import SYMBOLS, Block, FrameMaker
from bench.lib import ROOT, Skipped, compile_c, fail
from mdsys import _native
from mdsys.ring.segment import segment_path

DEPTH = 65536
HEADER_SIZE = 4096
START_SECONDS_MAX = 20.0
TAKE_SECONDS_MAX = 60.0


# ---- the venue -----------------------------------------------------------------------------------


@dataclass
class Tls:
    """The venue's side of an encrypted connection, and the files that both sides need."""

    context: ssl.SSLContext
    authority: Path


def make_tls(folder: Path) -> Tls:
    """Make a certificate for 127.0.0.1 that is its own authority.

    Raises:
        Skipped: There is no openssl program.
    """
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += [
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=bench",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ]
    command += ["-keyout", str(key), "-out", str(certificate)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        raise Skipped("openssl: no such program, so no certificate for TLS") from None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return Tls(context, certificate)


class Line:
    """The venue's side of one connection: handshakes, answers, and then frames."""

    def __init__(self, client: socket.socket, tls: Tls | None) -> None:
        """Take an accepted socket, and shake hands over TLS."""
        self._socket = client
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(START_SECONDS_MAX)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._session: ssl.SSLObject | None = None
        self.streams: list[str] = []
        """What the client has subscribed to."""
        if tls:
            self._session = tls.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
            self._shake_hands(self._session)

    def serve(self, stream_count: int) -> None:
        """Upgrade the connection and answer until so many streams are subscribed."""
        protocol = ServerProtocol()
        while len(self.streams) < stream_count:
            protocol.receive_data(self._receive())
            for event in protocol.events_received():
                if isinstance(event, Request):
                    protocol.send_response(protocol.accept(event))
                elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                    request: dict[str, Any] = json.loads(bytes(event.data))
                    self.streams += request["params"]
                    answer = json.dumps({"result": None, "id": request["id"]})
                    protocol.send_text(answer.encode())
            for part in protocol.data_to_send():
                self.send(self.encrypted(part) if self._session else memoryview(part))

    def _shake_hands(self, session: ssl.SSLObject) -> None:
        while True:
            try:
                session.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._socket.sendall(self._outgoing.read())
                self._incoming.write(self._take())
        self._socket.sendall(self._outgoing.read())

    def _take(self) -> bytes:
        data = self._socket.recv(65536)
        if not data:
            fail("ingest: the receiver has hung up")
        return data

    def _receive(self) -> bytes:
        if self._session is None:
            return self._take()
        while True:
            try:
                return self._session.read(65536)
            except ssl.SSLWantReadError:
                self._incoming.write(self._take())

    def encrypted(self, data: memoryview | bytes) -> memoryview:
        """Return one write as TLS sends it: a record."""
        assert self._session is not None
        self._session.write(data)
        return memoryview(self._outgoing.read())

    def prepared(self, data: memoryview, ends: Sequence[int]) -> memoryview:
        """Return frames as they go over the wire; over TLS each frame in a record of its own.

        Args:
            data: The frames, one behind the other.
            ends: Where each ends in data.
        """
        if self._session is None:
            return data
        start = 0
        for end in ends:
            self._session.write(data[start:end])
            start = end
        return memoryview(self._outgoing.read())

    def send(self, data: memoryview) -> None:
        """Send bytes; blocks while the receiver is behind."""
        self._socket.sendall(data)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


class Venue:
    """One listening socket, and the connections that are made to it."""

    def __init__(self, tls: Tls | None = None) -> None:
        """Listen on a free port."""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._listener.settimeout(START_SECONDS_MAX)
        self.port: int = self._listener.getsockname()[1]
        self._tls = tls
        self.lines: list[Line] = []

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'wss' if self._tls else 'ws'}://127.0.0.1:{self.port}"

    def accept(self, stream_count: int) -> Line:
        """Take a connection, and serve it until so many streams are subscribed on it."""
        client, _ = self._listener.accept()
        line = Line(client, self._tls)
        self.lines.append(line)
        line.serve(stream_count)
        return line

    def close(self) -> None:
        """Hang up."""
        self._listener.close()
        for line in self.lines:
            line.close()


# ---- the receivers -------------------------------------------------------------------------------


class Receiver:
    """A program that takes frames in and publishes records in memory that we map.

    Every record it publishes is followed by looking at one 64-bit word, so that no reader's work
    comes in between.
    """

    def __init__(self, core: int, folder: Path, tls: Tls | None = None) -> None:
        """Start it, let it subscribe, and pin it."""
        self.venue = Venue(tls)
        self.frames = FrameMaker()
        self.environment = dict(os.environ)
        if tls:
            self.environment["SSL_CERT_FILE"] = str(tls.authority)
        self._process = self.start(folder)
        try:
            self.connect()
            self.pid = self.find_pid()
            os.sched_setaffinity(self.pid, {core})
            time.sleep(0.2)  # what it still does after the last answer
            self.words = self.map_words()
            self.taken = self.published()
        except BaseException:
            self.close()
            raise

    def start(self, folder: Path) -> subprocess.Popen[bytes]:
        """Start the program."""
        raise NotImplementedError

    def connect(self) -> None:
        """Be the venue until all is subscribed."""
        self.line = self.venue.accept(2 * len(SYMBOLS))

    def find_pid(self) -> int:
        """Return the process whose time counts."""
        return self._process.pid

    def map_words(self) -> memoryview:
        """Return the ring's file as 64-bit words."""
        raise NotImplementedError

    def published(self) -> int:
        """Return how many records it has published."""
        raise NotImplementedError

    def is_published(self, number: int) -> bool:
        """Return whether the record of that number, from 1, is published."""
        raise NotImplementedError

    def check(self, block: Block) -> None:
        """Hold the newest records against what the block's frames were made of."""
        raise NotImplementedError

    def take(self, frame_count: int) -> tuple[float, float]:
        """Send it a block of fresh frames and wait until all is published.

        Returns:
            ns of its processor time a frame, and of wall time.
        """
        block = self.frames.block(frame_count)
        data = self.line.prepared(block.data, block.ends.tolist())
        last = self.taken + len(block)
        cpu, start = self.cpu_ns(), time.perf_counter_ns()
        self.line.send(data)
        deadline = time.monotonic() + TAKE_SECONDS_MAX
        while not self.is_published(last):
            time.sleep(0.0002)
            if time.monotonic() > deadline:
                fail(f"ingest: {self.published() - self.taken} of {len(block)} records came")
        wall, cpu = time.perf_counter_ns() - start, self.cpu_ns() - cpu
        self.taken = last
        if self.published() != last:
            fail(f"ingest: {self.published() - last} records more than frames")
        self.check(block)
        return cpu / len(block), wall / len(block)

    def cpu_ns(self) -> int:
        """Return the processor time that it has used: its clock by clock_getcpuclockid(3)."""
        return time.clock_gettime_ns(~self.pid << 3 | 2)

    def pause(self) -> None:
        """Stop it where it is, so that it spins on nobody's core."""
        for pid in (self._process.pid, self.pid):  # a supervisor first: it would find its feed hung
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        for pid in (self.pid, self._process.pid):
            os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        """End it."""
        self.venue.close()
        with contextlib.suppress(ProcessLookupError, AttributeError):
            self.resume()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class RingReceiver(Receiver):
    """One that publishes into an mdsys ring."""

    first_record: int
    """The ring's sequence before our first frame's record."""

    def ring_file(self) -> Path:
        """Return the ring's file."""
        raise NotImplementedError

    def map_words(self) -> memoryview:
        """See Receiver."""
        memory = map_file(self.ring_file(), writable=False)
        self.ring = _native.Ring(memory)
        self.first_record = self.ring.head
        return memoryview(memory).cast("Q")

    def published(self) -> int:
        """See Receiver."""
        return self.ring.head - self.first_record

    def is_published(self, number: int) -> bool:
        """See Receiver."""
        seq = self.first_record + number
        return bool(self.words[HEADER_SIZE // 8 + seq % DEPTH * 8] >= seq)

    def check(self, block: Block) -> None:
        """See Receiver: each word of every body that the ring still holds."""
        slots = np.frombuffer(self.words, np.int64)[HEADER_SIZE // 8 :].reshape(-1, 8)[:DEPTH]
        count = min(len(block), DEPTH - 1)
        last = self.ring.head
        places = np.arange(last - count + 1, last + 1) % DEPTH
        if not np.array_equal(slots[places, 4:], block.bodies[-count:]):
            fail(f"ingest: {type(self).__name__} published other values than were sent")


class MdsysReceiver(RingReceiver):
    """mdsys run: supervisor and one feed process with one ring; the feed's time counts."""

    spin: ClassVar[bool] = False

    def __init__(self, core: int, folder: Path, tls: Tls | None = None) -> None:
        """See Receiver."""
        self.core = core
        self.instance = f"bench-{os.getpid()}-{id(self) % 100_000}"
        super().__init__(core, folder, tls)

    def start(self, folder: Path) -> subprocess.Popen[bytes]:
        """See Receiver."""
        config = folder / f"{self.instance}.toml"
        config.write_text(self.config())
        return subprocess.Popen(
            [sys.executable, "-m", "mdsys", "run", "--config", str(config)],
            env=self.environment,
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
        )

    def config(self) -> str:
        """Return its configuration."""
        return f"""
            instance = "{self.instance}"
            rings = {{num_buffers = 1, buffer_size = "{DEPTH * 64 // 2**20} MiB", max_symbols = 64}}
            feeds = {{num_processes = 1{f", cores = [{self.core}]" if self.spin else ""}}}
            [[venue]]
            name = "binance_usdm"
            symbols = {json.dumps(SYMBOLS)}
            channels = ["trade", "quote"]
            url = "{self.venue.url}"
            """

    def ring_file(self) -> Path:
        """See RingReceiver."""
        return segment_path(Path("/dev/shm"), self.instance, "ring.0")

    def find_pid(self) -> int:
        """Return the feed's process, which is the ring's writer."""
        return _native.Ring(map_file(self.ring_file(), writable=False)).writer_pid

    def close(self) -> None:
        """See Receiver; and remove the instance."""
        super().close()
        subprocess.run(
            [sys.executable, "-m", "mdsys", "clean", "--instance", self.instance],
            cwd=ROOT,
            check=False,
            capture_output=True,
        )


class SpinningMdsysReceiver(MdsysReceiver):
    """The same on a core of its own, never sleeping."""

    spin = True


class EpollReceiver(RingReceiver):
    """bench_ingest_epoll.c."""

    mode: ClassVar[str] = "sleep"

    def start(self, folder: Path) -> subprocess.Popen[bytes]:
        """See Receiver."""
        sources = ["bench/bench_ingest_epoll.c"]
        parts = ("audience", "book", "feed", "publish", "decode_binance", "segment")
        sources += [f"native/src/{name}.c" for name in parts]
        program = compile_c("bench_ingest_epoll", sources)
        self._file = make_file(folder, f"epoll-{self.venue.port}", _native.ring_size(DEPTH))
        memory = map_file(self._file, writable=True)
        _native.Ring.create(memory, DEPTH, 0, 0)
        _native.publish_segment(memory, time.time_ns())
        return subprocess.Popen(
            [program, str(self.venue.port), self._file, self.mode, *SYMBOLS],
        )

    def ring_file(self) -> Path:
        """See RingReceiver."""
        return self._file

    def close(self) -> None:
        """See Receiver."""
        super().close()
        self._file.unlink()


class SpinningEpollReceiver(EpollReceiver):
    """The same, never sleeping."""

    mode = "spin"


class PlainReceiver(Receiver):
    """bench_ingest_plain.py."""

    def start(self, folder: Path) -> subprocess.Popen[bytes]:
        """See Receiver."""
        self._file = make_file(folder, f"plain-{self.venue.port}", HEADER_SIZE + DEPTH * 64)
        program = ROOT / "bench" / "bench_ingest_plain.py"
        return subprocess.Popen(
            [sys.executable, program, self.venue.url, self._file, str(DEPTH), *SYMBOLS],
            env=self.environment,
        )

    def map_words(self) -> memoryview:
        """See Receiver."""
        return memoryview(map_file(self._file, writable=False)).cast("Q")

    def published(self) -> int:
        """See Receiver."""
        return self.words[0]

    def is_published(self, number: int) -> bool:
        """See Receiver."""
        return self.words[0] >= number

    def check(self, block: Block) -> None:
        """See Receiver; its floats may differ in the last place."""
        records = np.frombuffer(self.words, np.float64)[HEADER_SIZE // 8 :].reshape(-1, 8)
        count = min(len(block), DEPTH)
        places = np.arange(self.taken - count, self.taken) % DEPTH
        bodies = block.bodies[-count:].astype(np.float64)
        trades = block.bodies[-count:, 3] == 0  # a quote has an ask size
        bodies[:, [0, 1, 3]] *= 1e-8
        bodies[:, 2] *= np.where(trades, 1, 1e-8)
        if not np.allclose(records[places, 4:], bodies, rtol=1e-12, atol=0):
            fail("ingest: the plain pipeline stored other values than were sent")

    def close(self) -> None:
        """See Receiver."""
        super().close()
        self._file.unlink()


def make_file(folder: Path, name: str, size: int) -> Path:
    """Make a zeroed file in shared memory, whose name is the folder's."""
    path = Path("/dev/shm") / f"{folder.name}-{name}"
    with path.open("wb") as file:
        file.truncate(size)
    return path


def map_file(path: Path, *, writable: bool) -> mmap.mmap:
    """Map a whole file."""
    with path.open("r+b" if writable else "rb") as file:
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        return mmap.mmap(file.fileno(), 0, access=access)


@contextlib.contextmanager
def receivers(
    cores: tuple[int, int], *kinds: type[Receiver], tls: bool = False
) -> Iterator[list[Any]]:
    """Start one receiver of each kind on the first core; we are the venue on the second."""
    home = os.sched_getaffinity(0)
    with TemporaryDirectory(prefix="mdsys-bench-") as name, contextlib.ExitStack() as stack:
        stack.callback(os.sched_setaffinity, 0, home)
        folder = Path(name)
        certificate = make_tls(folder) if tls else None
        started: list[Receiver] = []
        for kind in kinds:
            receiver = kind(cores[0], folder, certificate)
            stack.callback(receiver.close)
            receiver.pause()
            started.append(receiver)
        os.sched_setaffinity(0, {cores[1]})
        yield started
