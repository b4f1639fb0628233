"""``mdsys sim``: the simulated venue as a program."""

from __future__ import annotations

import argparse
import asyncio
import errno
import os
import signal
import ssl as tls
import sys
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from mdsys.errors import MdsysError, UsageError
from mdsys.progress import Progress
from mdsys.sim import faults
from mdsys.sim.dialects import DIALECTS
from mdsys.sim.market import RandomMarket
from mdsys.sim.replay import Replay
from mdsys.sim.server import Simulator

PROGRESS_INTERVAL_S = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument(
        "--venue", required=True, metavar="V", help=f"whose manners: {', '.join(DIALECTS)}"
    )
    parser.add_argument(
        "--listen",
        required=True,
        metavar="HOST:PORT",
        help="where to listen; port 0 takes a free one. The first line of output names it",
    )
    replay = parser.add_argument_group("a recording")
    replay.add_argument(
        "--replay",
        nargs="+",
        metavar="FILE",
        help="lines of '<receive_ns> <frame>', plain or gzip; several are merged by time. Begins "
        "with the first subscription",
    )
    replay.add_argument(
        "--speed",
        metavar="X",
        help="times the recorded pace (default 1), or 'max': as fast as the clients take it",
    )
    market = parser.add_argument_group("an invented market")
    market.add_argument(
        "--symbols", type=int, metavar="N", help="so many: SYM000000, SYM000001, ..."
    )
    market.add_argument(
        "--rate",
        metavar="R",
        help="messages a second, of all symbols together, or 'max': as fast as the clients take",
    )
    market.add_argument(
        "--seed",
        type=int,
        metavar="S",
        help="the same seed, the same market and the same faults (default 0)",
    )
    faulty = parser.add_argument_group("what goes wrong on purpose", faults.describe())
    faulty.add_argument(
        "--faults",
        default="",
        metavar="SPEC",
        help="NAME[,KEY=VALUE]..[;NAME..], as 'mute,connection=2,after=5s;hole,every=10000'",
    )
    parser.add_argument(
        "--tls", nargs=2, metavar=("CERT", "KEY"), help="PEM files: serve wss instead of ws"
    )


def main(args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    host, port = _address(args.listen)
    with Progress("mdsys sim").during("making the market"):
        source = _source(args)
    context = None if args.tls is None else _tls_context(*args.tls)
    try:
        simulator = Simulator(
            source,
            venue=args.venue,
            host=host,
            port=port,
            ssl=context,
            faults=args.faults,
            seed=_seed(args),
            tell=_say,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    return _run(_serve(simulator, args.listen))


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isdecimal() and port.isascii() and int(port) <= 65535):
        raise UsageError(f"--listen {text}: expected HOST:PORT, for example 127.0.0.1:9001")
    return host, int(port)


def _source(args: argparse.Namespace) -> Replay | RandomMarket:
    if (args.replay is None) == (args.symbols is None):
        raise UsageError("give either --replay FILE... or --symbols N --rate R")
    if args.replay is not None:
        if args.rate is not None:
            raise UsageError("--rate belongs to --symbols; a replay takes --speed")
        return Replay(*args.replay, speed=_speed(args.speed))
    if args.speed is not None:
        raise UsageError("--speed belongs to --replay; a market takes --rate")
    if args.symbols < 1:
        raise UsageError(f"--symbols {args.symbols}: at least 1")
    return RandomMarket(args.symbols, rate=_rate(args.rate), seed=_seed(args))


def _seed(args: argparse.Namespace) -> int:
    seed = args.seed or 0
    if not 0 <= seed < 2**64:
        raise UsageError(f"--seed {seed}: in [0, 2^64)")
    return seed


def _speed(text: str | None) -> float | None:
    if text == "max":
        return None
    with suppress(ValueError):
        speed = 1.0 if text is None else float(text)
        if 0 < speed < float("inf"):
            return speed
    raise UsageError(f"--speed {text}: expected a number above 0, or max")


def _rate(text: str | None) -> int | None:
    if text is None:
        raise UsageError("--symbols needs --rate R: messages a second, or max")
    if text in ("max", "0"):
        return None
    if text.isdecimal() and text.isascii() and 1 <= int(text[:12]) <= 1_000_000_000:
        return int(text[:12])
    raise UsageError(f"--rate {text}: expected messages a second in [1, 10^9], or max")


def _tls_context(certificate: str, key: str) -> tls.SSLContext:
    context = tls.SSLContext(tls.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, tls.SSLError) as error:
        raise MdsysError(
            f"--tls {certificate} {key}: {error.strerror or error}; both are PEM files"
        ) from error
    return context


def _run(program: Coroutine[Any, Any, int]) -> int:
    """Run on uvloop where it is installed: half the cost of a wake-up."""
    try:
        from uvloop import new_event_loop
    except ModuleNotFoundError:
        return asyncio.run(program)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(program)


async def _serve(simulator: Simulator, listen: str) -> int:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    try:
        with Progress("mdsys sim").during("opening the venue"):
            await simulator.__aenter__()
    except OSError as error:
        raise MdsysError(f"--listen {listen}: {_reason(error)}") from error
    try:
        print(f"listening on {simulator.url}", flush=True)
        await _watch(simulator, stopped)
    finally:
        await simulator.__aexit__(None, None, None)
    return 0


def _reason(error: OSError) -> str:
    # asyncio's own wording repeats the address as a tuple.
    reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
    remedy = "; choose another port, or 0 for a free one"
    return f"{reason}{remedy if error.errno == errno.EADDRINUSE else ''}"


async def _watch(simulator: Simulator, stopped: asyncio.Event) -> None:
    """Tell on stderr how far it is, until ``stopped`` is set or the source fails."""
    began = time.monotonic()
    finished = asyncio.create_task(simulator.finished())
    stop = asyncio.create_task(stopped.wait())
    told = -1
    while not stop.done():
        waiting = {stop} if finished.done() else {stop, finished}
        done, _ = await asyncio.wait(
            waiting, timeout=PROGRESS_INTERVAL_S, return_when=asyncio.FIRST_COMPLETED
        )
        if finished in done:
            finished.result()  # a damaged recording ends the program
            _tell(simulator, began, "finished; connections stay open: ")
        elif not done and simulator.stats.size != told:
            told = simulator.stats.size
            _tell(simulator, began, "")
    _tell(simulator, began, "stopped: ")
    finished.cancel()


def _tell(simulator: Simulator, began: float, lead: str) -> None:
    stats = simulator.stats
    frames = ", ".join(f"{count:,} {kind}" for kind, count in sorted(stats.frames.items()))
    _say(
        f"{lead}{simulator.progress()}; sent {frames or 'nothing'} "
        f"({stats.size / 1e6:,.1f} MB) in {time.monotonic() - began:.1f} s, "
        f"{stats.clients} clients, {stats.streams} streams, "
        f"{len(simulator.breaches)} limits broken"
    )


def _say(words: str) -> None:
    print(f"mdsys sim: {words}", file=sys.stderr, flush=True)
