"""``mdsys.MarketDataSystem``: the whole daemon inside a program, as a child process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from mdsys.config import Config
from mdsys.config_checks import did_you_mean
from mdsys.daemon import handover
from mdsys.daemon.handover import Handover
from mdsys.daemon.stat_command import take_picture
from mdsys.errors import HostError, MdsysError, NotRunning, UsageError
from mdsys.ring.control_client import Answer, Control

SETTLE_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 10.0
"""The daemon gives its feeds two; then it is killed, which its segments survive."""
LOOK_S_MAX: Final = 0.1
"""Between two looks at what the venues have answered."""
STATUS_KEYS: Final = ("subscriptions", "stale", "connections", "limits")


class MarketDataSystem:
    """Runs ``mdsys run`` for a program, and ends with it, however that ends.

        with mdsys.MarketDataSystem("mdsys.toml") as system:
            state = system.start(["BINANCE:BTCUSDT"])
            print(state["subscriptions"], mdsys.attach(system.instance).last_trade(...))

    The daemon is a process: a program that is slow or holds the GIL does not hold it up. Its
    segments stay when it stops, for the next start (``mdsys clean`` removes them). A Ctrl-C is the
    program's alone. Needs ``pip install 'mdsys[daemon]'``.

    Args:
        config: A file, or its tables as ``tomllib`` returns them; file names in those are relative
            to the current directory. A venue may be without symbols here.
        log: Where the daemon's log goes, a file or a descriptor; None: this program's stderr.

    Raises:
        ConfigError: The configuration is wrong; every mistake is told.
        NoPermission: The file may not be read.
    """

    def __init__(
        self,
        config: str | os.PathLike[str] | Mapping[str, Any],
        *,
        log: IO[Any] | int | None = None,
    ) -> None:
        self._tables: Mapping[str, Any] = config if isinstance(config, Mapping) else {}
        self._file = None if isinstance(config, Mapping) else str(Path(config).absolute())
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._credentials_fd = -1
        self._config = self._handover(-1).read_config()
        self.instance = self._config.instance
        """For ``mdsys.attach``."""
        self._control = Control(self.instance)

    def __enter__(self) -> Self:
        """Return itself; nothing runs yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the daemon."""
        self.stop()

    @property
    def running(self) -> bool:
        """Whether the daemon lives."""
        return self._process is not None and self._process.poll() is None

    def start(
        self,
        symbols: Iterable[str] = (),
        credentials: Mapping[str, Mapping[str, str]] | None = None,
        *,
        timeout: float = SETTLE_TIMEOUT_S,
    ) -> Answer:
        """Start the daemon if it does not run, and have it subscribe to more symbols.

        Returns when each stream is confirmed or refused; where the venue does not acknowledge, when
        it has been asked for. What waits for a credential that a venue does not take is not waited
        for.

        Args:
            symbols: ``VENUE:SYMBOL``, in addition to those of the configuration.
            credentials: Name, as the configuration has it, -> fields. They go before those that
                docs/credentials.md tells of, and stand in no argument, environment or file.
            timeout: Seconds until the state is returned as it is then.

        Returns:
            What ``mdsys ctl status --json`` tells, and in ``not_subscribed`` name -> why of those
            that could not even be asked for. Only ``confirmed`` and ``ticking`` are success.

        Raises:
            ConfigError, InstanceInUse, NoPermission, HostError: The daemon does not start; it says
                why.
            UsageError: A credential is none of the configuration's, or has no fields.
        """
        deadline = time.monotonic() + timeout
        names = [symbols] if isinstance(symbols, str) else list(symbols)
        if not self.running:
            self._launch(credentials or {})
        elif credentials is not None:
            self.reload(credentials)
        try:
            refused = self._control.subscribe(names)["refused"] if names else {}
            return {**self._settled(deadline), "not_subscribed": refused}
        except NotRunning:
            raise self._death() from None

    def subscribe(self, symbols: Iterable[str]) -> Answer:
        """Have the daemon take more symbols; what becomes of them, ``status`` tells.

        Returns:
            As ``mdsys.Control.subscribe``.
        """
        return self._control.subscribe([symbols] if isinstance(symbols, str) else symbols)

    def unsubscribe(self, symbols: Iterable[str]) -> Answer:
        """Have the daemon take some symbols no more; the others are not touched.

        Returns:
            As ``mdsys.Control.unsubscribe``.
        """
        return self._control.unsubscribe([symbols] if isinstance(symbols, str) else symbols)

    def reload(self, credentials: Mapping[str, Mapping[str, str]] | None = None) -> Answer:
        """Have the daemon reread its configuration, where that is a file, and the credentials.

        Args:
            credentials: All of them, instead of those given before; None: those stay.

        Returns:
            As ``mdsys.Control.reload``.
        """
        if credentials is not None:
            self._hand(credentials)
        return self._control.reload()

    def status(self, symbol: str | None = None) -> Answer:
        """Return what ``mdsys ctl status --json`` tells: of everything, or of one symbol."""
        return self._control.status(symbol)

    def stats(self) -> Answer:
        """Return what ``mdsys stat --json`` tells, with ``STATUS_KEYS`` as the daemon tells them.

        There ``subscriptions`` counts a stream in each stage that it has reached, as ``ctl status``
        does; ``mdsys stat`` has each stream once, in its own.

        Raises:
            NotRunning: The daemon does not run.
        """
        state = self._control.status()
        picture = take_picture(self.instance)
        own = {key: state[key] for key in STATUS_KEYS}
        own["subscriptions"] = {**picture["subscriptions"], **state["subscriptions"]}
        return {**picture, **own}

    def stop(self) -> None:
        """Stop the daemon in order, and wait for its end; it can be started again."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._credentials_fd >= 0:
            os.close(self._credentials_fd)
            self._credentials_fd = -1

    # ---- the child ----

    def _handover(self, answer_fd: int) -> Handover:
        return Handover(
            parent_pid=os.getpid(),
            credentials_fd=self._credentials_fd,
            answer_fd=answer_fd,
            file=self._file,
            tables=self._tables,
            folder=str(Path.cwd()),
        )

    def _hand(self, credentials: Mapping[str, Mapping[str, str]]) -> None:
        _check(credentials, self._config)
        plain = {name: dict(fields) for name, fields in credentials.items()}
        self._credentials_fd = handover.to_memfd("mdsys-credentials", plain, self._credentials_fd)

    def _launch(self, credentials: Mapping[str, Mapping[str, str]]) -> None:
        """Start the daemon, and wait until it is up."""
        self.stop()  # reaps one that has ended by itself
        self._hand(credentials)
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
        with os.fdopen(read_fd, "rb") as answer:
            try:
                self._start(write_fd)
            finally:
                os.close(write_fd)
            try:
                error = handover.error_of(answer.read())  # which ends when it answers, or ends
            except ValueError:
                raise self._death() from None
            except BaseException:  # Ctrl-C
                self.stop()
                raise
        if error is not None:
            self.stop()
            raise error

    def _start(self, answer_fd: int) -> None:
        fd = handover.offer(self._handover(answer_fd))
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mdsys", "run", "--handover", str(fd)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._log,
                pass_fds=(fd, answer_fd, self._credentials_fd),
                process_group=0,
            )
        finally:
            os.close(fd)

    def _death(self) -> MdsysError:
        """Return the error that tells of an unexpected end, and clear away what is left."""
        process = self._process
        self.stop()
        how = "is gone" if process is None else f"ended with {process.returncode}"
        return HostError(f"the daemon of instance {self.instance!r} {how}; its log tells why")

    def _settled(self, deadline: float) -> Answer:
        """Return the state once everything has been answered, or at the deadline."""
        pause_s = 0.005
        while True:
            answer = self._control.status()
            left_s = deadline - time.monotonic()
            if answer["settled"] or left_s <= 0:
                return answer
            time.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, LOOK_S_MAX)


def _check(credentials: Mapping[str, Mapping[str, str]], config: Config) -> None:
    """Refuse what is not named in the configuration, or has no fields; no value is shown."""
    known = {name for venue in config.venues for name in venue.credentials}
    for name, fields in credentials.items():
        if name not in known:
            hint = did_you_mean(str(name), known) or f"; there are {', '.join(known) or 'none'}"
            raise UsageError(f"the configuration names no credential {name!r}{hint}")
        if not isinstance(fields, Mapping) or not all(
            isinstance(each, str) for pair in fields.items() for each in pair
        ):
            raise UsageError(f"credential {name}: not a mapping of fields to strings")
