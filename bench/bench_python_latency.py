"""How long does a record take from one Python program to another, both spinning?

    process A, core A                          process B, core B
    writer.publish_records(record)  -- ring -> poller.poll_into(record)
    poller.poll_into(record)       <-- ring -- writer.publish_records(record)

A sample is half a round trip, of a block of ten so that the clock's own 40 ns do not count; the
value is the median block of a round. Rounds of the tight C ping-pong between the same two processes
lie before and after. The peers do the same with the same 64 bytes, each as its manual shows: a
blocking receive where there is one, else a loop over a receive that returns at once. Their ratio
says how many times slower they are than mdsys in the round beside. For the plot, further rounds
time every single trip, half of the clock's reading included.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import mmap
import os
import signal
import statistics
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np

from bench.lib import (
    STEADY,
    Context,
    Pair,
    Result,
    bucket_ns,
    by_placement,
    compile_extension,
    fail,
    name_of,
    placement,
    summarise,
)
from mdsys import _consume, _native
from mdsys.record.record import TICK

DEPTH = 65536
BLOCK = 10
FLOOR_TRIPS = 5000
NAMES = (
    "python.latency_p50",
    "peer.iceoryx2_p50",
    "peer.pyzmq_p50",
    "peer.pipe_p50",
)


class Link(Protocol):
    """A way between the two processes. ping and pong are its whole loops: no call is added."""

    trips: int
    """Of a round, a multiple of BLOCK."""

    def open(self, me: int) -> None:
        """Make what must be made after the fork; me: 0 is A."""

    def ping(self, blocks: list[int]) -> None:
        """Send and wait for the answer; add the ns that each block took."""

    def sample(self, trips: list[int]) -> None:
        """Do the same; add the ns that each trip took."""

    def pong(self) -> None:
        """Answer as often."""

    def close(self) -> None:
        """Remove what was made."""


class Mdsys:
    """Two rings in shared memory."""

    trips = 20000

    def __init__(self) -> None:
        """Make the rings."""
        self.buffers = [mmap.mmap(-1, _native.ring_size(DEPTH)) for _ in range(2)]
        for index, buffer in enumerate(self.buffers):
            buffer.madvise(mmap.MADV_HUGEPAGE)
            _native.Ring.create(buffer, DEPTH, index, 0)
            _native.publish_segment(buffer, time.time_ns())

    def open(self, me: int) -> None:
        """Take one ring to write and the other to read."""
        self.writer = _native.RingWriter(self.buffers[me], os.getpid(), 1, time.time_ns())
        self.poller = _consume.Poller([_native.Ring(self.buffers[1 - me])])
        self.record = np.zeros(1, TICK)
        self.record["symbol_id"] = 1

    def ping(self, blocks: list[int]) -> None:
        """See Link. Every block sends another price and must get it back."""
        publish, poll, record = self.writer.publish_records, self.poller.poll_into, self.record
        price, seq = record["price"], record["seq"]
        clock = time.perf_counter_ns
        for number in range(self.trips // BLOCK):
            price[0] = number
            start = clock()
            for _ in range(BLOCK):
                publish(record)
                while not poll(record):
                    pass
            blocks.append(clock() - start)
            if price[0] != number or seq[0] != self.writer.next - 1:
                fail(f"python.latency: block {number} came back as {price[0]} of {seq[0]}")

    def sample(self, trips: list[int]) -> None:
        """See Link."""
        publish, poll, record = self.writer.publish_records, self.poller.poll_into, self.record
        clock = time.perf_counter_ns
        start = clock()
        for _ in range(self.trips):
            publish(record)
            while not poll(record):
                pass
            now = clock()
            trips.append(now - start)
            start = now

    def pong(self) -> None:
        """See Link."""
        publish, poll, record = self.writer.publish_records, self.poller.poll_into, self.record
        for _ in range(self.trips):
            while not poll(record):
                pass
            publish(record)

    def close(self) -> None:
        """Nothing: the memory has no name."""


class BytesLink:
    """What the peers have in common: 64 bytes go out and must come back."""

    trips = 300
    send: Callable[[bytes], Any]
    receive: Callable[[], bytes]

    def open(self, me: int) -> None:
        """See Link; sets send and receive."""
        raise NotImplementedError

    def close(self) -> None:
        """See Link."""
        raise NotImplementedError

    def ping(self, blocks: list[int]) -> None:
        """See Link."""
        send, receive, clock = self.send, self.receive, time.perf_counter_ns
        for number in range(self.trips // BLOCK):
            message = number.to_bytes(64, "little")
            start = clock()
            for _ in range(BLOCK):
                send(message)
                answer = receive()
            blocks.append(clock() - start)
            if answer != message:
                fail(f"{type(self).__name__}: another message came back")

    def sample(self, trips: list[int]) -> None:
        """See Link."""
        send, receive, clock = self.send, self.receive, time.perf_counter_ns
        message = bytes(64)
        start = clock()
        for _ in range(self.trips):
            send(message)
            receive()
            now = clock()
            trips.append(now - start)
            start = now

    def pong(self) -> None:
        """See Link."""
        send, receive = self.send, self.receive
        for _ in range(self.trips):
            send(receive())


class PipeLink(BytesLink):
    """multiprocessing.Pipe, blocking."""

    def __init__(self) -> None:
        """Make the pipe, which the fork shares."""
        self.ends = Pipe()

    def open(self, me: int) -> None:
        """Take one end."""
        self.send, self.receive = self.ends[me].send_bytes, self.ends[me].recv_bytes

    def close(self) -> None:
        """Close both ends."""
        for end in self.ends:
            end.close()


class ZmqLink(BytesLink):
    """pyzmq: a PAIR of sockets over ipc, blocking."""

    def __init__(self) -> None:
        """Choose the address; sockets must be made after the fork."""
        import_peer("zmq")
        self.folder = TemporaryDirectory(prefix="mdsys-bench-")

    def open(self, me: int) -> None:
        """Bind or connect."""
        zmq = import_peer("zmq")
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.PAIR)
        address = f"ipc://{self.folder.name}/pair"
        (self.socket.bind if me == 0 else self.socket.connect)(address)
        self.send, self.receive = self.socket.send, self.socket.recv

    def close(self) -> None:
        """Close the socket and remove its file."""
        self.socket.close(linger=0)
        self.context.term()
        self.folder.cleanup()


class Bytes64(ctypes.Structure):
    """The message of iceoryx2."""

    _fields_ = (("bytes", ctypes.c_ubyte * 64),)

    @staticmethod
    def type_name() -> str:
        """Return the name that both ends agree on."""
        return "MdsysBench64"


class IceoryxLink(BytesLink):
    """iceoryx2: two publish-subscribe services, spinning on receive()."""

    def __init__(self) -> None:
        """Choose names of this run alone."""
        import_peer("iceoryx2")
        self.prefix = f"mdsys-bench-{os.getpid()}-"
        self.folder = TemporaryDirectory(prefix=self.prefix)

    def open(self, me: int) -> None:
        """Publish on one service and subscribe to the other."""
        self.me = me
        iox2 = import_peer("iceoryx2")
        iox2.set_log_level(iox2.LogLevel.Error)
        config = iox2.config.default()
        config.global_cfg.prefix = iox2.FileName.new(self.prefix)
        config.global_cfg.root_path = iox2.Path.new(self.folder.name)
        self.node = iox2.NodeBuilder.new().config(config).create(iox2.ServiceType.Ipc)
        self.services = [
            self.node.service_builder(iox2.ServiceName.new(f"bench-{i}"))
            .publish_subscribe(Bytes64)
            .open_or_create()
            for i in range(2)
        ]
        publisher = self.publisher = self.services[me].publisher_builder().create()
        subscriber = self.subscriber = self.services[1 - me].subscriber_builder().create()

        def send(message: bytes) -> None:
            publisher.send_copy(Bytes64.from_buffer_copy(message))

        def receive() -> bytes:
            while (sample := subscriber.receive()) is None:
                pass
            message = bytes(sample.payload().contents)
            sample.delete()
            return message

        self.send, self.receive = send, receive

    def close(self) -> None:
        """Remove the ports, services and node; and what iceoryx2 leaves for other programs."""
        del self.send, self.receive
        self.publisher.delete()
        self.subscriber.delete()
        del self.publisher, self.subscriber, self.services, self.node
        if self.me == 0:
            self.folder.cleanup()
            for left in Path("/dev/shm").glob(f"{self.prefix}*"):
                left.unlink(missing_ok=True)


PEERS: dict[str, tuple[str, type[BytesLink]]] = {
    "peer.iceoryx2_p50": ("iceoryx2", IceoryxLink),
    "peer.pyzmq_p50": ("pyzmq", ZmqLink),
    "peer.pipe_p50": ("multiprocessing.Pipe", PipeLink),
}


def import_peer(module: str) -> Any:
    """Import a package that need not be there."""
    return importlib.import_module(module)


class Ends:
    """The two processes, and the word by which A tells B what comes next.

    Plain stores to a shared mapping: on x86-64 others see them in order.
    """

    STOP = 2**63

    def __init__(self, cores: tuple[int, int], links: list[Link]) -> None:
        """Fork B, which serves until told to stop."""
        self.links = links
        self.line = mmap.mmap(-1, 4096)
        self.control = memoryview(self.line).cast("Q")
        self.step = 0
        self.floor_next = 1
        self.native = importlib.import_module("_bench")
        self.tick_ns: float = self.native.ns_per_tick()
        parent = os.getpid()
        self.child = os.fork()
        self.me = int(self.child == 0)
        os.sched_setaffinity(0, {cores[self.me]})
        if self.child == 0:
            status = 1
            try:
                ctypes.CDLL(None).prctl(1, signal.SIGKILL)
                if os.getppid() == parent:
                    self.serve()
                    status = 0
            except BaseException:  # noqa: BLE001 - the fork ends here whatever happened
                traceback.print_exc()
            finally:
                os._exit(status)

    def tell(self, what: int) -> None:
        """A: name the link that is played next, len(links) for the floor."""
        self.control[17] = what
        self.step += 1
        self.control[16] = self.step

    def serve(self) -> None:
        """B: play what A tells."""
        for link in self.links:
            link.open(1)
        while True:
            self.step += 1
            while self.control[16] != self.step:
                pass
            what = self.control[17]
            if what == self.STOP:
                break
            if what == len(self.links):
                self.play_floor()
            else:
                self.links[what].pong()
        for link in self.links:
            link.close()

    def play_floor(self) -> float:
        """Half a round trip of a bare cache line, in ns."""
        first, self.floor_next = self.floor_next, self.floor_next + FLOOR_TRIPS
        ticks: float = self.native.ping_pong(self.line, self.me, first, FLOOR_TRIPS)
        return ticks * self.tick_ns

    def floor(self) -> float:
        """A: measure the floor."""
        self.tell(len(self.links))
        return self.play_floor()

    def ping(self, index: int) -> float:
        """A: play a link for one round; the median block's half round trip, in ns."""
        blocks: list[int] = []
        self.tell(index)
        self.links[index].ping(blocks)
        return statistics.median(blocks) / BLOCK / 2

    def sample(self, index: int) -> Counter[float]:
        """A: play a link for one round; how often half a round trip took how long."""
        trips: list[int] = []
        self.tell(index)
        self.links[index].sample(trips)
        return Counter(bucket_ns(trip / 2) for trip in trips)

    def stop(self) -> None:
        """A: end B and wait for it."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self.tell(self.STOP)
        _, status = os.waitpid(self.child, 0)
        for link in self.links:
            link.close()
        if status != 0:
            fail(f"python.latency: the other end ended with {status}")


@contextlib.contextmanager
def two_ends(cores: tuple[int, int], links: list[Link]) -> Iterator[Ends]:
    """Run B while the block runs; if B dies, A is told by an exception instead of spinning on."""
    home = os.sched_getaffinity(0)
    ends = Ends(cores, links)
    signal.signal(signal.SIGCHLD, lambda *_: fail("python.latency: the other end died"))
    try:
        for link in links:
            link.open(0)
        yield ends
        ends.stop()
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(ends.child, signal.SIGKILL)
            os.waitpid(ends.child, 0)
        os.sched_setaffinity(0, home)


def run(context: Context) -> list[Result]:
    """Play floor, mdsys, peers, floor, mdsys ... and pair each with its neighbours."""
    compile_extension("_bench", "bench/native.c")
    links: list[Link] = [Mdsys()]
    names: list[str] = []
    for name, (package, link) in PEERS.items():
        try:
            links.append(link())
            names.append(name)
        except ImportError:
            context.notice(f"{name}: {package} is not installed (pip install 'mdsys[bench]')")
    ours: list[Pair] = []
    peers: dict[str, list[Pair]] = {name: [] for name in names}
    trips: dict[tuple[str, str], Counter[float]] = defaultdict(Counter)
    with two_ends(context.cores, links) as ends:
        end = time.monotonic() + context.seconds
        while time.monotonic() < end or len(ours) < 3:
            before = ends.floor()
            value = ends.ping(0)
            after = ends.floor()
            floor = (before + after) / 2
            if max(before, after) < STEADY * min(before, after) or not ours:
                ours.append(Pair(value, floor, placement(floor)))
            for index, name in enumerate(names, start=1):
                peers[name].append(Pair(ends.ping(index), value, placement(floor)))
            for index, name in enumerate((NAMES[0], *names)):
                trips[name, placement(floor)] += ends.sample(index)
    context.save(
        "python_latency",
        [
            {"name": name, "placement": where, "counts": sorted(counts.items())}
            for (name, where), counts in trips.items()
        ],
    )
    results: list[Result] = []
    for name, yardstick, pairs in (
        (NAMES[0], "ping-pong", ours),
        *((name, "mdsys", pairs) for name, pairs in peers.items()),
    ):
        for where, group in by_placement(pairs).items():
            line = name_of(name, where, results)
            results.append(summarise(line, "ns", f"{yardstick}, {where}", group))
    return results
