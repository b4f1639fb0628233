"""``mdsys ctl``: asks a running daemon for symbols more or fewer, for a reload, for its state."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any, TextIO

from mdsys.errors import ExitCode, UsageError
from mdsys.progress import Progress
from mdsys.ring.control_client import Answer, Control
from mdsys.ring.instance_argument import add_instance_argument
from mdsys.wording import plural, printable

ACTIONS = ("subscribe", "unsubscribe", "reload", "status")
REFUSED_SHOWN_MAX = 20
"""Names; ``--json`` has them all, up to what one answer holds."""
STAGES = ("desired", "requested", "confirmed", "ticking", "refused")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("action", choices=ACTIONS, help="what to do")
    parser.add_argument(
        "symbols", nargs="*", default=[], metavar="SYMBOL", help="as BINANCE:BTCUSDT"
    )
    add_instance_argument(parser)
    parser.add_argument("--json", action="store_true", help="the daemon's answer, one JSON object")


def main(arguments: argparse.Namespace) -> int:
    """Ask, and print the answer.

    Raises:
        UsageError: So many symbols are not meant for this action.
        NotRunning: No daemon of this instance can be reached.
        NoPermission: It does not let this user in.
        HostError: It refused the request, or did not answer in time.
    """
    with Progress("mdsys ctl").during(_doing(arguments.action, arguments.symbols)):
        answer = _ask(Control(arguments.instance), arguments.action, arguments.symbols)
    if arguments.json:
        print(json.dumps(answer))
    else:
        print_answer(arguments.action, answer, sys.stdout)
    return ExitCode.FAILURE if _refused(arguments.action, answer) else ExitCode.OK


def _doing(action: str, symbols: list[str]) -> str:
    """Return what is being waited for."""
    if action in ("subscribe", "unsubscribe"):
        return f"having the daemon {action} {plural(len(symbols), 'symbol')}"
    return f"asking the daemon for {'a reload' if action == 'reload' else 'its state'}"


def _ask(control: Control, action: str, symbols: list[str]) -> Answer:
    if action in ("subscribe", "unsubscribe"):
        if not symbols:
            raise UsageError(f"{action} needs at least one SYMBOL, as BINANCE:BTCUSDT")
        change = control.subscribe if action == "subscribe" else control.unsubscribe
        return change(symbols)
    if action == "reload":
        if symbols:
            raise UsageError("reload takes no SYMBOL: it rereads the whole configuration")
        return control.reload()
    if len(symbols) > 1:
        raise UsageError("status takes one SYMBOL, or none for everything")
    return control.status(symbols[0] if symbols else None)


def _refused(action: str, answer: Answer) -> bool:
    if action == "reload":
        return bool(answer["subscribed"]["refused_count"] or answer["credential_problems"])
    return action != "status" and answer["refused_count"] > 0


def print_answer(action: str, answer: Answer, out: TextIO) -> None:
    """Print it for people."""
    if action == "status":
        if "why" in answer:
            _print_symbol(answer, out)
        else:
            _print_all(answer, out)
    elif action == "reload":
        _print_change("subscribed", answer["subscribed"], out)
        _print_change("unsubscribed", answer["unsubscribed"], out)
        changed = ", ".join(answer["credentials_changed"]) or "none"
        out.write(f"credentials changed: {changed}\n")
        out.writelines(f"{problem}\n" for problem in answer["credential_problems"].values())
        if answer["redialled"]:
            numbers = ", ".join(map(str, answer["redialled"]))
            out.write(f"dialled again: connection {numbers}\n")
        if answer["not_reloaded"]:
            keys = ", ".join(answer["not_reloaded"])
            out.write(f"a restart alone takes over: {keys}\n")
    else:
        _print_change(f"{action}d", answer, out)


def _print_change(word: str, change: Mapping[str, Any], out: TextIO) -> None:
    out.write(
        f"{word}: {plural(change['accepted'], 'symbol')}, {change['unchanged']:,} unchanged, "
        f"{change['refused_count']:,} refused\n"
    )
    shown = list(change["refused"].items())[:REFUSED_SHOWN_MAX]
    out.writelines(f"  {printable(name)}: {printable(why)}\n" for name, why in shown)
    if (more_count := change["refused_count"] - len(shown)) > 0:
        in_json = len(change["refused"])
        which = "all" if in_json == change["refused_count"] else f"the first {in_json:,}"
        out.write(f"  and {more_count:,} more: --json shows {which}\n")


def _print_all(answer: Answer, out: TextIO) -> None:
    out.write(f"instance {answer['instance']}\n\n{'':<9}")
    out.write("".join(f"{stage:>11}" for stage in STAGES) + "      stale\n")
    for name, key in (("streams", "subscriptions"), ("symbols", "symbols")):
        counts = answer[key]
        out.write(f"{name:<9}" + "".join(f"{counts[stage]:>11,}" for stage in STAGES))
        out.write(f"{answer['stale']:>11,}\n" if key == "subscriptions" else "\n")
    out.write(
        f"\n{'conn':>4} {'venue':<18} {'feed':>4} {'state':<10} {'symbols':>7} {'streams':>7} "
        f"{'confirmed':>9} {'ticking':>7} {'refused':>7} {'frame':>8} {'lost':>5}\n"
    )
    for each in answer["connections"]:
        frame = each["last_frame_s"]
        out.write(
            f"{each['connection']:>4} {each['venue']:<18} {each['feed']:>4} {each['state']:<10} "
            f"{each['symbols']:>7,} {each['streams']:>7,} {each['confirmed']:>9,} "
            f"{each['ticking']:>7,} {each['refused']:>7,} "
            f"{'never' if frame is None else f'{frame:,.1f} s':>8} {each['reconnects']:>5,}\n"
        )
        if each["words"] and each["state"] not in ("open", "ready"):
            out.write(f"     {printable(each['words'])}\n")
    out.write(f"\n{'feed':>4} {'pid':>8} {'state':<9} {'restarts':>8} {'core':>4} {'beat':>9}\n")
    for each in answer["feeds"]:
        beat = each["beat_age_s"]
        out.write(
            f"{each['feed']:>4} {_or_dash(each['pid']):>8} {each['state']:<9} "
            f"{each['restarts']:>8,} {_or_dash(each['core']):>4} "
            f"{'-' if beat is None else f'{beat:,.2f} s':>9}\n"
        )
    for each in answer["lists"].values():
        out.write(f"\n{printable(each['why'])}\n  {printable(each['remedy'])}\n")
    if answer["limits"]:
        out.write(f"\n{'limit':<17} {'of':<28} {'used':>9} {'allowed':>9} {'within':>9} waiting\n")
    for each in answer["limits"]:
        seconds = each["seconds"]
        out.write(
            f"{each['what']:<17} {each['scope']:<28} {each['used']:>9,} {each['count']:>9,} "
            f"{'at once' if seconds is None else f'{seconds:g} s':>9} {each['waiting']:>7,}\n"
        )
    for venue, session in answer["sessions"].items():
        state = "open" if session["open"] else "closed: nothing is stale"
        out.write(f"\nmarket of {venue}: {state}\n")


def _print_symbol(answer: Answer, out: TextIO) -> None:
    out.write(f"{answer['symbol']}: {answer['state']}\n")
    for each in answer["streams"]:
        tick = _ago(each["last_tick_s"], "no tick yet")
        stale = ", STALE" if each["stale"] else ""
        out.write(f"  {each['channel']:<7} {each['state']:<10} {tick}{stale}\n")
    out.write(f"why:        {printable(answer['why'])}\n")
    if answer["remedy"]:
        out.write(f"remedy:     {printable(answer['remedy'])}\n")
    if (connection := answer["connection"]) is not None:
        age_s, retry_s = answer["last_frame_s"], connection["retry_s"]
        frame = "no frame yet" if age_s is None else f"last frame {_ago(age_s, '')}"
        again = "" if retry_s is None else f", dialled again in {retry_s:,.1f} s"
        out.write(
            f"connection: {connection['connection']} to {connection['url']}, feed "
            f"{connection['feed']}, {connection['state']} for {connection['since_s']:,.1f} s"
            f"{again}, {frame}\n"
        )
    if answer["session"] != "none":
        out.write(f"session:    {answer['session']}\n")


def _ago(age_s: float | None, never: str) -> str:
    return never if age_s is None else f"{age_s:,.1f} s ago"


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)
