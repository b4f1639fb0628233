"""What the benches share: cores, programs, rounds and their statistics.

The two virtual cores of a rented machine wander between placements every few seconds: a cache line
goes from one to the other in some 25, 60 or 240 ns. An absolute time means little there, and so
does the ratio of two that were taken a second apart. So every measure is taken in short rounds,
yardstick, ours, yardstick, ours ..., each round is judged against the yardstick beside it, and what
is reported is the median of the rounds' ratios.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

ROOT: Final = Path(__file__).resolve().parent.parent
BIN_DIR: Final = ROOT / ".bench" / "bin"
PLACEMENT_NS_MAX: Final = {"shared": 33.0, "near": 130.0, "far": float("inf")}
"""By the tight ping-pong, half a round trip: less than the first is two threads of one core."""
STEADY: Final = 1.25
"""A round counts if the yardsticks before and after it differ by less: the placement held."""


class Skipped(Exception):
    """A bench cannot run here; the text says why."""


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table and of latest.json."""

    name: str
    value: float
    unit: str
    yardstick: str
    ratio: float
    spread: str = ""
    """What the table shows beside the ratio: quartiles of the rounds, placements."""


@dataclass
class Context:
    """What a bench is given."""

    cores: tuple[int, int]
    seconds: float
    """For one measure, all its rounds together."""
    wanted: list[str] = field(default_factory=list)
    """Names of the lines that were asked for."""
    notices: list[str] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    """Of the host, which every figure depends on."""

    def save(self, name: str, curves: Sequence[Mapping[str, Any]]) -> None:
        """Write what bench/plot.py draws: .bench/NAME.json."""
        path = BIN_DIR.parent / f"{name}.json"
        text = json.dumps({"facts": self.facts, "curves": list(curves)})
        path.write_text(f"{text}\n")

    def wants(self, name: str) -> bool:
        """Return whether a line was asked for."""
        return name in self.wanted

    def notice(self, text: str) -> None:
        """Say something that belongs under the table."""
        if text not in self.notices:
            self.notices.append(text)


def choose_cores(wanted: Sequence[int] | None = None) -> tuple[int, int]:
    """Return the two cores to use: isolated ones if there are any, else the last two.

    Raises:
        Skipped: There are not two.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if wanted:
        if len(set(wanted)) != 2 or not set(wanted) <= set(allowed):
            raise Skipped(f"cores {wanted}: not two of {allowed}")
        return wanted[0], wanted[1]
    isolated = [core for core in isolated_cores() if core in allowed]
    cores = isolated if len(isolated) >= 2 else allowed
    if len(cores) < 2:
        raise Skipped("needs two cores")
    return cores[-2], cores[-1]


def isolated_cores() -> list[int]:
    """Return the cores that the kernel keeps free of other work."""
    try:
        text = Path("/sys/devices/system/cpu/isolated").read_text().strip()
    except OSError:
        return []
    cores: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        cores += range(int(first), int(last or first) + 1)
    return cores


# ---- programs ------------------------------------------------------------------------------------


def compile_c(
    name: str, sources: Sequence[str], *, flags: Sequence[str] = (), libs: Sequence[str] = ()
) -> Path:
    """Compile a bench program as the extensions are compiled, and return its path.

    Args:
        name: Of the program, in .bench/bin.
        sources: Relative to the repository's root; .cpp by c++, the rest by cc.
        flags: More compiler flags.
        libs: More linker arguments.

    Raises:
        Skipped: There is no compiler.
    """
    BIN_DIR.mkdir(parents=True, exist_ok=True)
    common = ["-O2", f"-I{ROOT}/native/include", f"-I{ROOT}/native/src", f"-I{ROOT}/bench"]
    common += ["-D_GNU_SOURCE", "-Wall", "-Wextra", *flags]
    objects: list[str] = []
    for source in sources:
        compiler = ["c++", "-std=c++17"] if source.endswith(".cpp") else ["cc", "-std=c17"]
        output = BIN_DIR / f"{name}.{Path(source).stem}.o"
        command = [*compiler, *common, "-c", str(ROOT / source), "-o", str(output)]
        try:
            subprocess.run(command, check=True)
        except FileNotFoundError:
            raise Skipped(f"{compiler[0]}: no such compiler") from None
        objects.append(str(output))
    program = BIN_DIR / name
    linker = "c++" if any(source.endswith(".cpp") for source in sources) else "cc"
    subprocess.run([linker, *objects, "-o", str(program), *libs], check=True)
    return program


def compile_extension(name: str, source: str) -> None:
    """Compile a Python extension module into .bench/bin, where the benches find it."""
    include = sysconfig.get_paths()["include"]
    program = compile_c(
        f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}",
        [source],
        flags=["-fPIC", f"-I{include}"],
        libs=["-shared"],
    )
    assert program.exists()
    importlib.invalidate_caches()  # the folder may be newer than the first look for it


def run_program(command: Sequence[str | Path | int], *, timeout: float) -> list[dict[str, Any]]:
    """Run a bench program and return the objects that it printed, one a line.

    Raises:
        RuntimeError: It failed, or found a wrong checksum; or it hung.
    """
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        timeout=timeout,
        check=False,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{Path(str(command[0])).name} ended with {done.returncode}")
    return [json.loads(line) for line in done.stdout.splitlines()]


# ---- rounds --------------------------------------------------------------------------------------


def placement(floor_ns: float) -> str:
    """Name where the two cores were when the tight ping-pong took ``floor_ns``."""
    return next(name for name, limit in PLACEMENT_NS_MAX.items() if floor_ns < limit)


def bucket_ns(ns: float) -> float:
    """Return the middle of the bucket that a time falls into, as bench_histogram_add (bench.h)."""
    value = max(int(ns * 64), 64)
    octave = value.bit_length() - 7
    return ((value >> octave) + 0.5) / 64 * 2**octave


@dataclass(frozen=True, slots=True)
class Pair:
    """One measure of ours and the yardstick's beside it."""

    ours: float
    yardstick: float
    placement: str = ""

    @property
    def ratio(self) -> float:
        """Ours over the yardstick."""
        return self.ours / self.yardstick


def alternate(
    seconds: float, yardstick: Callable[[], float], ours: Callable[[], float]
) -> list[Pair]:
    """Measure yardstick, ours, yardstick ... for a while; pair each of ours with its neighbours.

    Rounds whose two neighbours differ by more than STEADY are dropped, unless all do.
    """
    pairs: list[Pair] = []
    unsteady: list[Pair] = []
    before = yardstick()
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(pairs) + len(unsteady) < 3:
        value = ours()
        after = yardstick()
        steady = max(before, after) < STEADY * min(before, after)
        (pairs if steady else unsteady).append(Pair(value, (before + after) / 2))
        before = after
    return pairs or unsteady


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """Return the first and the third quartile."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def summarise(
    name: str, unit: str, yardstick: str, pairs: Iterable[Pair], *, inverse: bool = False
) -> Result:
    """Make a table line of rounds: median value, median ratio and the ratio's quartiles.

    Args:
        name: Of the line.
        unit: Of the value.
        yardstick: What it is compared with, in words; its own median is put behind.
        pairs: The rounds, at least one.
        inverse: Ratio = yardstick / ours, "how many times better" for what is better smaller.
    """
    rounds = list(pairs)
    ratios = [1 / pair.ratio if inverse else pair.ratio for pair in rounds]
    low, high = quartiles(ratios)
    beside = statistics.median(pair.yardstick for pair in rounds)
    return Result(
        name=name,
        value=statistics.median(pair.ours for pair in rounds),
        unit=unit,
        yardstick=f"{yardstick}: {beside:.4g} {unit}",
        ratio=statistics.median(ratios),
        spread=f"{low:.3g}..{high:.3g} of {len(rounds)}",
    )


def name_of(base: str, where: str, results: Sequence[Result]) -> str:
    """Return the line's name: the first placement's is bare, the next ones' bear theirs."""
    return f"{base}.{where}" if any(each.name == base for each in results) else base


def by_placement(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    """Split rounds by placement, the one to quote first: near, else far, else shared."""
    groups: dict[str, list[Pair]] = {}
    for name in ("near", "far", "shared"):
        if group := [pair for pair in pairs if pair.placement == name]:
            groups[name] = group
    return groups


def fail(text: str) -> NoReturn:
    """End a bench whose checksum is wrong: its times mean nothing."""
    raise RuntimeError(text)
