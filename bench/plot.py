"""Draw what the benches have measured: docs/bench/*.png from .bench/*.json.

The benches leave their distributions in .bench; `make plots` runs them and draws. A distribution
is of all rounds in one placement of the two cores: a mixture of two says nothing of either.
"""

from __future__ import annotations

import io
import json
import statistics
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from PIL import Image

from bench.lib import BIN_DIR, ROOT, quartiles

OUT: Final = ROOT / "docs" / "bench"
CURVES: Final = {
    "floor": ("one cache line (floor)", "#7a7a7a"),
    "ring": ("mdsys, C to C", "#0b62c4"),
    "python.latency_p50": ("mdsys, Python to Python", "#00897b"),
    "peer.iceoryx2_p50": ("iceoryx2, Python", "#c77700"),
    "peer.pipe_p50": ("multiprocessing.Pipe", "#a5368f"),
    "peer.pyzmq_p50": ("pyzmq", "#c62828"),
}
"""What stands beside a curve, and its colour; in the order of the legend."""
PLACEMENTS: Final = {
    "near": ("cores near each other", "#0b62c4"),
    "far": ("cores far apart", "#c77700"),
    "shared": ("two threads of one core", "#7a7a7a"),
}
ROUNDS_MIN: Final = 3
"""Fewer in a placement say nothing."""
QUANTILES: Final = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999)
STYLE: Final[dict[str, Any]] = {
    # A card of its own colour: the same picture stands on light pages and on dark ones.
    "figure.facecolor": "#fbfbf8",
    "axes.facecolor": "#fbfbf8",
    "axes.edgecolor": "#8a8a85",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dcdcd6",
    "grid.linewidth": 0.8,
    "font.size": 10,
    "legend.frameon": False,
}


def main() -> int:
    """Draw all; 1 if a bench that a plot needs has not run."""
    plt.rcParams.update(STYLE)
    OUT.mkdir(parents=True, exist_ok=True)
    try:
        latency(load("ring_latency"), load("python_latency"))
        throughput(load("ring_batches"))
    except FileNotFoundError as error:
        print(f"{error.filename}: not measured yet; make plots measures and draws", file=sys.stderr)
        return 1
    return 0


def load(name: str) -> dict[str, Any]:
    """Return what a bench has left."""
    text = (BIN_DIR.parent / f"{name}.json").read_text()
    return dict(json.loads(text))


def latency(in_c: dict[str, Any], in_python: dict[str, Any]) -> None:
    """Draw how long a record takes from one process to another, quantile by quantile."""
    curves = {
        (curve["name"], curve["placement"]): curve["counts"]
        for curve in [*in_c["curves"], *in_python["curves"]]
    }
    most = common_placement(curves)
    figure, axes = plt.subplots(figsize=(8.6, 5.8))
    for name, (label, colour) in CURVES.items():
        for where in (most, *PLACEMENTS):
            if (name, where) in curves:
                text = label if where == most else f"{label}, {PLACEMENTS[where][0]}"
                draw_distribution(axes, curves[name, where], text, colour)
                break
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda ns, _: time_text(ns)))
    axes.set_yscale("function", functions=(nines, from_nines))
    axes.set_ylim(0, QUANTILES[-1])
    axes.set_yticks(QUANTILES, [f"{100 * q:.6g}%" for q in QUANTILES])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("half a round trip of 64 bytes, log scale")
    axes.set_ylabel("share of messages that took no longer")
    title = f"One way between two processes, {PLACEMENTS[most][0]}"
    axes.set_title(title, loc="left", weight="bold")
    figure.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 0.04),
        ncols=2,
        fontsize=9,
        title="in brackets: messages timed",
        title_fontsize=8,
    )
    pages = next(curve["pages"] for curve in in_c["curves"])
    save(figure, "latency", in_c["facts"], f"ring in {pages}", legend=0.17)


def common_placement(curves: Iterable[tuple[str, str]]) -> str:
    """Return the placement that most of our curves have, then most of all; the nearer of equals."""
    found = {where: {name for name, at in curves if at == where} for where in PLACEMENTS}
    ours = {"ring", "python.latency_p50"}
    return max(
        PLACEMENTS, key=lambda where: (len(found[where] & ours), len(found[where] & CURVES.keys()))
    )


def draw_distribution(
    axes: Axes, counts: Sequence[tuple[float, int]], label: str, colour: str
) -> None:
    """Draw one curve, no further than its samples reach: a quantile needs ten beyond it."""
    total = sum(count for _, count in counts)
    times, shares, seen = [], [], 0
    for ns, count in counts:
        seen += count
        if seen > total - 10:
            break
        times.append(ns)
        shares.append(seen / total)
    axes.plot(times, shares, color=colour, linewidth=1.8, label=f"{label} ({total:,})")


def nines(share: Any) -> Any:
    """Return how far up a share stands: each further nine takes as much room."""
    return -np.log10(1 - np.clip(share, 0, 1 - 1e-7))


def from_nines(height: Any) -> Any:
    """Undo `nines`."""
    return 1 - 10.0 ** (-height)


def time_text(ns: float) -> str:
    """Return a time with a unit that suits it."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if ns >= size:
            return f"{ns / size:g} {unit}"
    return f"{ns:g} ns"


def throughput(measured: dict[str, Any]) -> None:
    """Draw how many records a second go through by the size of the batch."""
    figure, axes = plt.subplots(figsize=(8.6, 4.6))
    for where, (text, colour) in PLACEMENTS.items():
        rounds = [curve for curve in measured["curves"] if curve["placement"] == where]
        if len(rounds) < ROUNDS_MIN:
            continue
        batches = rounds[0]["batch"]
        columns = list(zip(*(curve["M/s"] for curve in rounds), strict=True))
        middle = [statistics.median(column) for column in columns]
        label = f"{text} (median of {len(rounds)} rounds, and their quartiles)"
        axes.plot(batches, middle, color=colour, linewidth=1.8, marker="o", label=label)
        low, high = zip(*map(quartiles, columns), strict=True)
        axes.fill_between(batches, low, high, color=colour, alpha=0.15)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda batch, _: f"{batch:g}"))
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylim(top=4 * axes.get_ylim()[1])  # room for the legend
    axes.set_xlabel("records a frame and a read, log scale")
    axes.set_ylabel("million records of 64 bytes a second, log scale")
    axes.set_title(
        "One writer, one reader, nothing lost: by the size of the batch", loc="left", weight="bold"
    )
    axes.legend(loc="upper left")
    save(figure, "throughput", measured["facts"], "ring of 65,536 slots")


def save(
    figure: Figure, name: str, facts: dict[str, str], text: str, *, legend: float = 0.0
) -> None:
    """Write the picture, with what its figures depend on below; legend: its share of the height."""
    kernel = facts["kernel"].partition(";")[0].partition("-")[0]
    figure.text(
        0.01,
        0.012,
        f"{facts['cpu']}; Linux {kernel}; {text}; {facts['versions'].partition(',')[0]};"
        f" commit {facts['commit']}; {facts['date']}",
        fontsize=7.5,
        color="#5d5d58",
    )
    figure.tight_layout(rect=(0, 0.03 + legend, 1, 1))
    path = OUT / f"{name}.png"
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=110, format="png")
    # A palette is a third of the size and looks the same; and without the program's version in it
    # the same figures make the same file.
    Image.open(drawn).convert("RGB").quantize(128).save(path, optimize=True)
    plt.close(figure)
    print(path.relative_to(ROOT))


if __name__ == "__main__":
    raise SystemExit(main())
