"""The supervisor's heart, its stop, its reloads, starts that fail; the rest is in tests/system."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from mdsys.config_file import load
from mdsys.daemon import supervisor
from mdsys.daemon.readers import Refused
from mdsys.daemon.supervisor import Supervisor
from mdsys.errors import HostError, InstanceInUse
from mdsys.ring import segment
from mdsys.ring.lock import run_dir
from mdsys.ring.segment import ROOT_DIR, Instance
from tests.instances import cleaned, new_name


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
        _news=None,
        _feeds=SimpleNamespace(start=note("feeds"), stop=lambda: stand_in._done.set()),  # noqa: PLW0108 - later
        _roster=SimpleNamespace(
            look_ups=SimpleNamespace(start=note("look up"), stop=note("no look up"))
        ),
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


class Reloads:
    """A supervisor that is nothing but asked for reloads, each of which the test ends."""

    def __init__(self) -> None:
        self.begun = 0
        self.ends: asyncio.Queue[Exception | None] = asyncio.Queue()
        self.supervisor: Any = SimpleNamespace(
            _reload_asked=False,
            _reloading=None,
            _stopping=False,
            _service=SimpleNamespace(reloading=nullcontext),
            _reload=self._reload,
            reload=lambda: Supervisor.reload(self.supervisor),
            _reload_as_asked=lambda: Supervisor._reload_as_asked(self.supervisor),
        )

    def ask(self) -> None:
        """Have it hear a SIGHUP."""
        Supervisor.reload_soon(self.supervisor)

    async def _reload(self) -> dict[str, Any]:
        self.begun += 1
        if (error := await self.ends.get()) is not None:
            raise error
        return {}

    async def over(self) -> None:
        """Wait for the last to end."""
        await self.supervisor._reloading

    async def settle(self) -> None:
        """Let everything happen that nobody waits for."""
        for _ in range(10):
            await asyncio.sleep(0)


def with_reloads(main: Callable[[Reloads], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await main(Reloads())

    asyncio.run(bounded())


def test_reloads_that_are_asked_for_during_one_are_done_once_after_it() -> None:
    async def main(reloads: Reloads) -> None:
        reloads.ask()
        await reloads.settle()
        assert reloads.begun == 1
        for _ in range(3):
            reloads.ask()
            await reloads.settle()
        assert reloads.begun == 1, "they follow one another"
        reloads.ends.put_nowait(None)
        await reloads.settle()
        assert reloads.begun == 2, "what the first may have missed is read anew"
        reloads.ends.put_nowait(None)
        await reloads.settle()
        assert reloads.begun == 2
        assert reloads.supervisor._reloading is None
        reloads.ask()
        await reloads.settle()
        assert reloads.begun == 3
        reloads.ends.put_nowait(None)
        await reloads.over()

    with_reloads(main)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Refused("F: a: b"), "not reloaded, nothing has changed: F: a: b"),
        (ZeroDivisionError("ours"), "a reload broke off"),
    ],
)
def test_reload_that_fails_is_logged_and_the_next_is_done(
    error: Exception, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(reloads: Reloads) -> None:
        reloads.ask()
        await reloads.settle()
        reloads.ask()
        reloads.ends.put_nowait(error)
        await reloads.settle()
        assert reloads.begun == 2
        reloads.ends.put_nowait(None)
        await reloads.over()

    with_reloads(main)
    (record,) = caplog.records
    assert record.getMessage() == words
    fault = not isinstance(error, Refused)
    assert (record.levelname, record.exc_info is not None) == (
        "ERROR" if fault else "WARNING",
        fault,
    )


def test_daemon_that_stops_begins_no_reload() -> None:
    async def main(reloads: Reloads) -> None:
        reloads.ask()
        await reloads.settle()
        reloads.ask()
        reloads.supervisor._stopping = True
        reloads.ends.put_nowait(None)
        await reloads.over()
        reloads.ask()
        await reloads.settle()
        assert reloads.begun == 1

    with_reloads(main)


# Starts that fail


class Starts:
    """Starts of one instance, none of which gets as far as its feeds."""

    def __init__(self, name: str, folder: Path, port: int) -> None:
        self._name = name
        self._path = folder / "c.toml"
        self._port = port

    def start(self, *, metrics: bool, buffer_size: str = "64 KiB") -> Supervisor:
        """Return a supervisor with no processes; its metrics are on a port that is taken."""
        self._path.write_text(
            f'''instance = "{self._name}"
{f'metrics.listen = "127.0.0.1:{self._port}"' if metrics else ""}
[rings]
num_buffers = 2
buffer_size = "{buffer_size}"
max_symbols = 64
[feeds]
num_processes = 1
[[venue]]
name = "binance"
symbols = ["BTCUSDT"]
'''
        )

        async def make() -> Supervisor:
            made = Supervisor(load(self._path))
            made._feeds.discard()
            made._control._listener.close()
            return made

        return asyncio.run(make())

    def leave(self) -> Instance:
        """Start, and end as a daemon that was killed does: nothing is marked, all is there."""
        made = self.start(metrics=False)
        made.instance.lock.release()
        (run_dir() / f"{self._name}.limits").write_text("{}")
        return made.instance

    def files(self) -> dict[str, int]:
        """Return what there is of it, with the number of each file's own."""
        places = (ROOT_DIR.glob(f"mdsys.{self._name}.*"), run_dir().glob(f"{self._name}.*"))
        return {path.name: path.stat().st_ino for place in places for path in place}


@pytest.fixture
def starts(tmp_path: Path) -> Iterator[Starts]:
    with cleaned(new_name()) as name, socket.create_server(("127.0.0.1", 0)) as taken:
        try:
            yield Starts(name, tmp_path, taken.getsockname()[1])
        finally:
            (run_dir() / f"{name}.sock").unlink(missing_ok=True)


def test_first_start_whose_metrics_port_is_taken_leaves_nothing(starts: Starts) -> None:
    with pytest.raises(HostError, match=r"metrics\.listen: .*: Address already in use"):
        starts.start(metrics=True)
    assert starts.files() == {}


@pytest.mark.parametrize("buffer_size", ["64 KiB", "128 KiB"])
def test_start_whose_metrics_port_is_taken_leaves_what_was_there_to_be_adopted(
    starts: Starts, buffer_size: str
) -> None:
    left = starts.leave()
    before = starts.files(), left.symbols.epoch, left.symbols.state
    assert len(before[0]) == 5 + len(("lock", "limits", "sock"))
    with pytest.raises(HostError, match=r"metrics\.listen"):
        starts.start(metrics=True, buffer_size=buffer_size)
    assert (starts.files(), left.symbols.epoch, left.symbols.state) == before
    next_one = starts.leave()
    assert next_one.adopted
    assert next_one.symbols.epoch == left.symbols.epoch


def test_second_daemon_is_told_of_the_first_rather_than_of_its_port(starts: Starts) -> None:
    first = starts.start(metrics=False)
    with pytest.raises(InstanceInUse):
        starts.start(metrics=True)
    first.instance.discard()


def test_daemon_with_another_lock_is_told_of_rather_than_its_port(
    starts: Starts, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts.leave()
    monkeypatch.setattr(segment, "_living_writer", lambda _: (1, 0))
    with pytest.raises(InstanceInUse, match="in use by process 1 of user root, whose lock is not"):
        starts.start(metrics=True)


@pytest.mark.parametrize("failing", ["Roster", "Control", "Tally"])
def test_start_that_fails_later_removes_what_it_made_and_keeps_what_it_adopted(
    starts: Starts, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise HostError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(supervisor, failing, fail)
        with pytest.raises(HostError, match="no room"):
            starts.start(metrics=False)
        assert starts.files() == {}
    starts.leave()
    before = starts.files()
    with monkeypatch.context() as patch:
        patch.setattr(supervisor, failing, fail)
        with pytest.raises(HostError, match="no room"):
            starts.start(metrics=False)
    if failing == "Tally":  # the dead daemon's socket had been replaced by then
        before = {name: inode for name, inode in before.items() if not name.endswith(".sock")}
    assert starts.files() == before
    assert starts.leave().adopted
