"""examples/mdsys-venue-toy: a venue from outside the tree, installed, found, and served."""

from __future__ import annotations

import contextlib
import json
import queue
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

import mdsys
from mdsys.daemon.stat_command import take_picture
from mdsys.record.record import Ticks
from tests.daemons import PATIENCE_S, Daemon, instance, read_until, statuses
from tests.simulated import status_when, symbol_when

pytestmark = pytest.mark.system

KNOWN = ("ACME",)
SECOND_NS = 1_000_000_000


class ToyVenue:
    """The other side of the example's dialect."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: queue.Queue[dict[str, Any]] = queue.Queue()
        """Those that were granted."""
        self._socket: ServerConnection | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator[ToyVenue]:
        """Serve until the block ends."""
        with serve(self._talk, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
            self.url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()

    def _talk(self, socket: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            for message in socket:
                request = json.loads(message)
                answer = {"op": request["op"], "id": request["id"]}
                unknown = [each for each in request["symbols"] if each not in KNOWN]
                if unknown:
                    answer["error"] = f"TOY does not list {', '.join(unknown)}"
                socket.send(json.dumps(answer))
                if not unknown:
                    self._socket = socket
                    self.requests.put(request)

    def next_request(self, op: str, channel: str) -> None:
        """Wait for a request of a kind; others are passed over."""
        while True:
            request = self.requests.get(timeout=PATIENCE_S)
            if (request["op"], request["channel"]) == (op, channel):
                return

    def say(self, **message: Any) -> None:
        """Send market data."""
        assert self._socket is not None
        self._socket.send(json.dumps({"symbol": "ACME", "ms": 1_000, **message}))

    def trade(self, number: int, price: str = "10.25") -> None:
        """Send a trade."""
        self.say(id=number, price=price, size="3", side="sell")

    def book(self, number: int, *bids: tuple[str, str], whole: bool = False) -> None:
        """Send levels."""
        self.say(id=number, bids=bids, asks=[("10.30", "1")] if whole else [], whole=whole)


@pytest.fixture(scope="module")
def installed(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that the example is installed into, as `pip install` does it."""
    pytest.importorskip("pip")
    folder = tmp_path_factory.mktemp("toy")
    source = shutil.copytree(repository / "examples" / "mdsys-venue-toy", folder / "source")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    offline = ["--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, *offline, "--target", folder / "site", source], check=True)
    return folder / "site"


@contextlib.contextmanager
def running(name: str, url: str, installed: Path, folder: Path) -> Iterator[Daemon]:
    """Run the daemon where the example is installed."""
    file = folder / "toy.toml"
    file.write_text(
        f'instance = "{name}"\n[rings]\nnum_buffers = 1\nbuffer_size = "64 KiB"\n'
        f'[[venue]]\nname = "toy"\nurl = "{url}"\nsymbols = ["ACME", "NOPE"]\n'
    )
    environment = {"PYTHONPATH": str(installed), "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    with subprocess.Popen(
        [sys.executable, "-m", "mdsys", "run", "--config", str(file)],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        daemon = Daemon(name, process)
        try:
            yield daemon
        finally:
            process.kill()
            daemon.wait()


def kinds(ticks: Ticks) -> list[mdsys.Kind]:
    return [mdsys.Kind(int(each)) for each in ticks["kind"]]


def test_a_venue_from_outside_ticks_keeps_a_book_tells_gaps_and_refusals(
    installed: Path, tmp_path: Path
) -> None:
    with (
        ToyVenue().listening() as toy,
        instance() as name,
        running(name, toy.url, installed, tmp_path) as daemon,
    ):
        daemon.wait_ready()
        state = status_when(name, lambda answer: bool(answer["settled"]))
        assert state["subscriptions"] == {
            "desired": 4,  # trade and book of both
            "requested": 2,
            "confirmed": 2,
            "ticking": 0,
            "refused": 2,
        }
        refused = mdsys.control(name).status("TOY:NOPE")
        assert refused["words"] == "TOY does not list NOPE"
        assert refused["state"] == "refused"
        toy.next_request("subscribe", "book")

        with mdsys.attach(name) as md:
            reader = md.reader(["TOY:ACME"])

            def read(count: int) -> Ticks:
                return read_until(reader, lambda ticks: len(ticks) >= count)

            toy.trade(7)
            toy.trade(7)
            toy.trade(10)
            first, gap, second = read(3)
            assert (first["price"], first["size"], first["trade_id"]) == (1_025_000_000, 3e8, 7)
            assert first["flags"] == mdsys.Flag.SELL | mdsys.Flag.LAST
            assert first["ts_event"] == SECOND_NS
            assert (gap["what"], gap["first_lost"], gap["last_lost"]) == (mdsys.Status.GAP, 8, 9)
            assert second["trade_id"] == 10

            toy.trade(11, "0.000000001")
            assert statuses(read(1)) == [mdsys.Status.VALUE_REFUSED]

            toy.book(40, ("10.20", "5"), ("10.10", "4"), whole=True)
            toy.book(41, ("10.20", "0"))
            assert kinds(read(4)) == [mdsys.Kind.LEVEL] * 4
            book = md.book("TOY:ACME")
            assert book is not None
            assert book.usable
            assert [str(price) for price, _ in book.levels("bids")] == ["10.10000000"]

            toy.book(43, ("10.15", "1"))
            ticks = read(3)
            assert statuses(ticks) == [mdsys.Status.GAP, mdsys.Status.RESYNC]
            out = md.book("TOY:ACME")
            assert out is not None
            assert not out.usable
            toy.next_request("subscribe", "book")  # by itself
            toy.book(43, ("10.15", "1"), whole=True)
            read(2)
            again = md.book("TOY:ACME")
            assert again is not None
            assert again.usable

            toy.say(id=12, price="1", side="buy", size="1", symbol="OTHER")
            toy.say(nonsense=True, id=13)
            assert statuses(read(2)) == [mdsys.Status.RESYNC, mdsys.Status.FRAME_REFUSED]
        counters = take_picture(name)["feeds"][0]["counters"]
        assert (counters["gaps"], counters["book_resyncs"]) == (2, 2)
        symbol_when(name, "TOY:ACME", lambda answer: bool(answer["state"] == "ticking"))


def test_the_page_goes_through_all_of_the_example(repository: Path) -> None:
    page = (repository / "docs" / "venues.md").read_text()
    example = repository / "examples" / "mdsys-venue-toy"
    shown = "\n".join(
        re.findall(r"^```(?:python|toml)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    )
    for file in ("mdsys_venue_toy.py", "pyproject.toml"):
        for line in (example / file).read_text().splitlines():
            assert line in shown.splitlines(), f"{file}: {line}"


def test_it_is_about_fifty_lines(repository: Path) -> None:
    code = (repository / "examples" / "mdsys-venue-toy" / "mdsys_venue_toy.py").read_text()
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 60
