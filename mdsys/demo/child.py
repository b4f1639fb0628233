"""A process of the demo: speaks JSON lines on stdout, logs to stderr, ends when stdin does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Self

from mdsys.errors import MdsysError
from mdsys.feed.parent import die_with_parent

LAST_WORDS: Final = 12
"""Lines of a dead child's stderr that are shown."""


class ChildDied(MdsysError):
    """A process of the demo ended before its time; the message has its last words."""


class Child:
    """A running process, read from as it speaks.

    Args:
        name: What people call it.
        process: It, its three streams piped.
        on_log: Called with each line of its stderr.
    """

    def __init__(self, name: str, process: Process, on_log: Callable[[str], None]) -> None:
        self.name = name
        self._process = process
        self._words: deque[str] = deque(maxlen=LAST_WORDS)
        self._log = asyncio.create_task(self._read_log(on_log))

    @classmethod
    async def start(
        cls,
        name: str,
        *arguments: str,
        pass_fds: Sequence[int] = (),
        on_log: Callable[[str], None] = lambda _: None,
    ) -> Self:
        """Start ``python -m ARGUMENTS``."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *arguments),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            pass_fds=pass_fds,
            process_group=0,  # a Ctrl-C is the parent's alone: it knows the order of the end
            # SIGTERM: the daemon then stops in order; the other two do not handle it.
            preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGTERM),
        )
        return cls(name, process, on_log)

    async def hear(self) -> dict[str, Any]:
        """Return its next message.

        Raises:
            ChildDied: It ended instead.
        """
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise await self.death()
        message: dict[str, Any] = json.loads(line)
        return message

    def tell(self, word: str) -> None:
        """Send it a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n".encode())

    def finish(self) -> None:
        """Let it come to its end: its stdin closes."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def terminate(self) -> None:
        """Send SIGTERM, if it still lives."""
        self._signal(signal.SIGTERM)

    async def ended(self) -> int:
        """Wait for its end; return the exit status, negative for a signal."""
        return await self._process.wait()

    async def death(self) -> ChildDied:
        """Wait for its end; return the error that tells of it."""
        code = await self.ended()
        with contextlib.suppress(TimeoutError):  # somebody else may hold its stderr open
            await asyncio.wait_for(asyncio.shield(self._log), 1.0)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        words = "".join(f"\n  {line}" for line in self._words)
        return ChildDied(f"the {self.name} {how}{'; it said:' if words else ''}{words}")

    async def kill(self) -> None:
        """End it now, whatever it does."""
        self._signal(signal.SIGKILL)
        await self.ended()
        self._log.cancel()

    def _signal(self, number: signal.Signals) -> None:
        # Not by the process object: it would take a dead child's status away from the watcher that
        # asyncio has on it, which then reports 255.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    async def _read_log(self, on_log: Callable[[str], None]) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            text = line.decode(errors="replace").rstrip()
            self._words.append(text)
            on_log(text)


def say(**message: object) -> None:
    """In a child: send the parent a message."""
    print(json.dumps(message), flush=True)
