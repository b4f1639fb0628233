"""The end of a chaos run: what must hold, and whether it does."""

from __future__ import annotations

import signal
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mdsys
from mdsys.errors import MdsysError
from tests.chaos.reader import COUNTS
from tests.chaos.stage import Stage, results
from tests.chaos.truth import Account, Truth
from tests.daemons import PATIENCE_S


@dataclass(frozen=True, slots=True)
class Law:
    """One thing that must hold."""

    name: str
    held: bool
    words: str


def close(stage: Stage) -> None:
    """Bring everything to rest: the market closes, all is read, daemon and readers end in order."""
    for source in stage.sources().values():
        stage.sims.call(source.close_market)  # type: ignore[attr-defined]
    auditor = stage.readers[0]
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        told = [each for each in results(stage) if each["manner"] == auditor.manner]
        if told and told[-1]["complete"]:
            break
        time.sleep(0.1)
    stage.ending = True
    stage.stop_recorder()
    if stage.daemon is not None:
        daemon, stage.daemon = stage.daemon, None
        daemon.process.send_signal(signal.SIGTERM)
        if (code := stage.bury(daemon)) != 0:
            stage.broken.append(f"daemon: stopped, it ended with code {code}: {daemon.lines[-5:]}")
    for reader in stage.readers:
        reader.process.send_signal(signal.SIGCONT)
        reader.process.send_signal(signal.SIGTERM)
    for reader in stage.readers:
        if (code := reader.process.wait(PATIENCE_S)) != 0 and not reader.killed:
            log = reader.out.with_suffix(".log").read_text()[-800:]
            stage.broken.append(f"reader {reader.manner}: it ended with code {code}: {log}")


def laws(stage: Stage) -> Iterator[Law]:
    """Hold everything to what must hold."""
    found = results(stage)
    yield from _readers(found)
    yield from _venues(found)
    yield from _captures(stage)
    yield from _footprints(stage)
    breaches = stage.sims.breaches
    yield Law("venues' limits", not breaches, str(breaches) if breaches else "none broken")
    yield Law(
        "nothing unforeseen",
        not stage.broken,
        "; ".join(stage.broken) or "no process ended that was not killed, no log has a traceback",
    )


def _readers(found: Sequence[dict[str, Any]]) -> Iterator[Law]:
    totals = {name: sum(each["counts"][name] for each in found) for name in COUNTS}
    published = sum(each["published"] for each in found)
    unlawful = sum(each["unlawful"] for each in found)
    sums = " + ".join(f"{count:,} {name}" for name, count in totals.items())
    yield Law(
        "each reader's counts",
        unlawful == 0 and sum(totals.values()) == published > 0,
        f"{sums} = {sum(totals.values()):,}, published {published:,}; {len(found)} readers; "
        f"after {unlawful} reads it did not hold",
    )
    behind = [each["manner"] for each in found if each["ended"] and not each["at_heads"]]
    yield Law(
        "read to the heads",
        not behind,
        f"not by {behind}" if behind else "by every reader that was not killed",
    )
    torn = sum(each["torn"] for each in found)
    checked = sum(each["checked"] for each in found)
    examples = [text for each in found for text in each["examples"]][:3]
    yield Law(
        "no torn record",
        torn == 0 and checked > 0,
        f"{checked:,} trades and quotes are what was sent, {torn} are not"
        + "".join(f"\n    {text}" for text in examples),
    )


def _venues(found: Sequence[dict[str, Any]]) -> Iterator[Law]:
    audits = [each for each in found if each["manner"] == "auditor"]
    audit = audits[-1]
    balance, counts = audit["balance"], audit["counts"]
    missed = counts["lost"] + counts["dropped"]
    words = ", ".join(f"{count:,} {name}" for name, count in balance.items())
    held = bool(balance) and balance["twice"] == 0 and balance["unaccounted"] <= missed
    yield Law(
        "venues' ids",
        held and len(audits) == 1 and audit["complete"],
        f"{words or 'nothing'}; the reader itself missed {missed}; "
        f"the last of each symbol has {'' if audit['complete'] else 'not '}come; "
        f"{audit['restarts']} takings over were told"
        + "".join(f"\n    {text}" for text in audit["examples"]),
    )


def _captures(stage: Stage) -> Iterator[Law]:
    """Read every capture back: its records are what was sent, and its ids are accounted for."""
    truths = {path.name[:-5]: Truth(path.parent, path.name[:-5]) for path in _ends(stage)}
    torn = checked = lost = read = mismatches = 0
    problems: list[str] = []
    seen: list[str] = []
    total: dict[str, int] = defaultdict(int)
    for folder, killed in stage.captures:
        if not any(folder.glob("*")):
            continue
        account = Account(truths)
        try:
            capture = mdsys.open_capture(folder)
            reader = capture.reader()
            names = {each.id: each.name for each in capture.symbols.values()}
            account.learn(names)
            for ticks in reader:
                account.take(ticks)
                read += len(ticks)
        except (MdsysError, OSError) as error:
            problems.append(f"{folder.name}{' (killed)' if killed else ''}: {error!r}")
            continue
        torn, checked, lost = torn + account.torn, checked + account.checked, lost + reader.lost
        if not killed:
            mismatches += reader.mismatches
        balance = account.balance(to_the_end=False)
        for name, count in balance.items():
            total[name] += count
        wrong = {name: balance[name] for name in ("twice", "unaccounted") if balance[name]}
        if wrong or (reader.mismatches and not killed):
            seen.append(
                f"{folder.name}{' (killed)' if killed else ''}: {reader.mismatches} mismatches, "
                f"{reader.lost} lost, {wrong} {account.examples}"
            )
    words = ", ".join(f"{count:,} {name}" for name, count in total.items())
    yield Law(
        "captures",
        not problems
        and torn == mismatches == 0
        and (total["unaccounted"] == 0 or lost > 0)
        and total["twice"] == 0
        and (checked > 0 or not stage.captures),
        f"{len(stage.captures)} read back, {read:,} records, {torn} torn, {mismatches} mismatches, "
        f"{lost:,} frames lost; {words}" + "".join(f"\n    {each}" for each in problems + seen),
    )


def _ends(stage: Stage) -> list[Path]:
    return sorted((stage.folder / "truth").glob("*.ends"))


def _footprints(stage: Stage) -> Iterator[Law]:
    grown = [
        f"{name}: {then} -> {now}"
        for name, (then, now) in stage.footprints.items()
        if now.has_more_descriptors(then)
    ]
    settled = [
        now.descriptors for name, (_, now) in stage.footprints.items() if name.startswith("daemon")
    ]
    yield Law(
        "descriptors",
        not grown and bool(settled),
        "".join(f"\n    {each}" for each in grown)
        or f"of {len(stage.footprints)} processes none has more than when it had settled; "
        f"the daemon {min(settled, default=0)} to {max(settled, default=0)} in its lives",
    )
    grown = [
        f"{name}: {then.memory_kib} -> {now.memory_kib} KiB"
        for name, (then, now) in stage.footprints.items()
        if now.has_more_memory(then) and name.split()[0] in ("feed", "daemon")
    ]
    most = max(
        (
            now.memory_kib - then.memory_kib
            for name, (then, now) in stage.footprints.items()
            if name.split()[0] in ("feed", "daemon")
        ),
        default=0,
    )
    yield Law(
        "memory",
        not grown,
        "".join(f"\n    {each}" for each in grown)
        or f"no feed and no daemon has grown by more than {most:,} KiB",
    )


def report(
    stage: Stage, held: list[Law], head: Mapping[str, Any], done: Mapping[str, int]
) -> dict[str, Any]:
    """Return everything as numbers."""
    return {
        **head,
        "held": all(law.held for law in held),
        "laws": [{"name": law.name, "held": law.held, "words": law.words} for law in held],
        "strokes": dict(sorted(done.items())),
        "daemons": stage.daemon_lives,
        "feeds": stage.feed_lives,
        "readers": len(stage.outs),
        "recorders": stage.recorder_lives,
        "killed_in_a_store": {role: stage.host.struck(role) for role in ("feed", "daemon")},
        "slowest_s": round(stage.slowest_s, 1),
        "small_tmpfs": stage.memory is not None,
    }


def shown(made: Mapping[str, Any]) -> str:
    """Return a report for people."""
    lines = [
        f"chaos: {made['seconds']:.0f} s, seed {made['seed']}",
        *(f"  {count:4} {kind}" for kind, count in made["strokes"].items()),
        f"  {made['daemons']} daemons, {made['feeds']} feeds, {made['readers']} readers, "
        f"{made['recorders']} recorders; died after one of their stores: "
        + ", ".join(f"{count} {role}s" for role, count in made["killed_in_a_store"].items()),
        f"  longest from a stroke until all was well: {made['slowest_s']} s",
    ]
    if not made["small_tmpfs"]:
        lines.append("  no small tmpfs: mounting one needs root; a full one is not shown here")
    lines += [
        f"{'holds ' if law['held'] else 'BROKEN'}  {law['name']}: {law['words']}"
        for law in made["laws"]
    ]
    return "\n".join(lines)
