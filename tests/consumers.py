"""The example consumers (native/examples) as processes, and what their reports must say."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mdsys
from mdsys.ring.control_socket import ask, connect
from tests.daemons import PATIENCE_S

TERMS = ("received", "filtered", "conflated", "dropped", "lost")


class Consumer:
    """An example as a process, reading before the constructor returns."""

    def __init__(self, program: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        self.said = ""
        while not (line := self.process.stderr.readline()).startswith("consumer: reads"):
            assert line, f"it ended: {self.said}"
            self.said += line

    def freeze(self) -> None:
        """Stop it, and return when it has stopped."""
        self.process.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(self.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def thaw(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def end(self, number: int | None = signal.SIGTERM) -> dict[str, Any]:
        """Stop it in order; return what it says became of every record, which must add up."""
        if number is not None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=PATIENCE_S)
        self.said += err
        assert self.process.returncode == 0, (out, self.said)
        report: dict[str, Any] = json.loads(out)
        check(report)
        return report

    def kill(self) -> None:
        """End it at once, stopped or not."""
        self.process.kill()
        self.process.communicate()


def check(report: dict[str, Any]) -> None:
    """Hold a report to the conservation law, by sums of our own."""
    published = sum(ring["next"] - ring["first"] for ring in report["rings"])
    assert sum(report[each] for each in TERMS) == published == report["published"]
    assert report["handled"] == report["received"]
    assert report["holds"] is True


def check_promise(report: dict[str, Any]) -> None:
    """Hold a lossless reader's report to what its writers had promised: no such record is lost."""
    assert report["dropped"] == report["conflated"] == 0
    if not any(ring["ejected"] for ring in report["rings"]):
        before = sum(max(ring["granted_from"] - ring["first"], 0) for ring in report["rings"])
        assert report["lost"] <= before, "record lost that was promised"


@contextlib.contextmanager
def consuming(program: Path, *arguments: str) -> Iterator[Consumer]:
    """Run an example until the block ends."""
    consumer = Consumer(program, *arguments)
    try:
        yield consumer
    finally:
        consumer.kill()


def registered(name: str) -> list[dict[str, Any]]:
    """Return the readers that the daemon knows."""
    return registered_when(name, lambda _: True)


def registered_when(
    name: str, enough: Callable[[list[dict[str, Any]]], bool]
) -> list[dict[str, Any]]:
    """Return the readers that the daemon knows, once they are as they should be."""
    with mdsys.attach(name) as md:
        connection = connect(name, md.directory.writer_pid)
    with connection:
        while True:  # each answer takes a turn of the daemon's loop; the bound is the test's
            readers: list[dict[str, Any]] = ask(connection, {"op": "readers"})[0]["readers"]
            if enough(readers):
                return readers


def granted(reader: dict[str, Any]) -> bool:
    """Whether all its writers wait for it, or never have to."""
    return reader["policy"] != "lossless" or all(
        ring["granted_from"] is not None for ring in reader["rings"]
    )
