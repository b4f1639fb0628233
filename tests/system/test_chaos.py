"""A short chaos run, and that its judges see what is wrong; `make chaos` plays long ones."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mdsys import ABSENT, TICK, Flag, Kind, Status
from mdsys.record.record import Ticks
from tests.chaos import reader as chaos_reader
from tests.chaos.host import Host
from tests.chaos.plan import CALM_FIRST_S, CALM_LAST_S, KINDS, schedule
from tests.chaos.truth import Account, Truth
from tests.instances import cleaned, geometry, new_name, start, writer

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

SECONDS = 18
LAWS = {
    *("each reader's counts", "read to the heads", "no torn record", "venues' ids", "captures"),
    *("descriptors", "memory", "venues' limits", "nothing unforeseen"),
}


def test_every_law_holds_after_a_short_run(repository: Path) -> None:
    played = subprocess.run(
        [
            *(sys.executable, "-m", "tests.chaos", "--json", "--seed", "4", "--readers", "4"),
            *("--minutes", str(SECONDS / 60)),
        ],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert played.returncode in (0, 1), played.stderr
    made = json.loads(played.stdout)
    broken = {law["name"]: law["words"] for law in made["laws"] if not law["held"]}
    assert not broken, f"{broken}\n{played.stderr}"
    assert played.returncode == 0
    assert {law["name"] for law in made["laws"]} == LAWS
    assert made["strokes"]["daemon killed, and its successor in a store"] == 1
    assert made["killed_in_a_store"]["feed"] > 0


def test_capture_is_what_was_published_whichever_of_its_stores_a_feed_was_killed_after(
    repository: Path, tmp_path: Path
) -> None:
    """One of seven stores here; ``tests.capture_victims FOLDER 1`` kills after each."""
    played = subprocess.run(
        [sys.executable, "-P", "-m", "tests.capture_victims", str(tmp_path), "7"],
        cwd=repository,
        env=Host(tmp_path).environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert played.returncode == 0, played.stderr
    made = json.loads(played.stdout)
    assert made["wrong"] == []
    assert min(made["killed"]) > 30, "the host kills nobody"


def test_same_seed_is_the_same_schedule_and_another_is_not() -> None:
    assert schedule(5, 600) == schedule(5, 600)
    assert schedule(5, 600) != schedule(6, 600)


def test_ten_minutes_have_everything_and_leave_time_to_recover() -> None:
    strokes = schedule(1, 600)
    assert {stroke.kind for stroke in strokes} == set(KINDS)
    assert strokes[0].at_s >= CALM_FIRST_S
    assert strokes[-1].at_s <= 600 - CALM_LAST_S


def test_what_is_shipped_knows_nothing_of_it(repository: Path) -> None:
    extensions = list((repository / "mdsys").glob("*.so"))
    assert extensions
    for each in extensions:
        assert b"chaos_after_store" not in each.read_bytes(), each


# ---- the readers ---------------------------------------------------------------------------------


def test_slow_reader_whose_segments_are_made_anew_is_not_unregistered_for_minutes(
    truth: Truth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads what is left, which is its right, but without its naps of 5 to 60 s."""
    assert truth.venue == "binance"
    slept: list[float] = []
    with cleaned(new_name()) as name:
        lives = [start(name, geometry(depth=128))]
        lives[0].symbols.add(b"BINANCE:SYM000000", 0, 8, 8)

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            if len(lives) == 1:
                writer(lives[0]).publish_records(trades(*range(20)))
                lives[0].lock.release()
                lives.append(start(name, geometry(depth=256)))
            elif seconds != chaos_reader.NO_DAEMON_S:  # it naps again, in the new ones or the old
                program._stop = True

        clock = SimpleNamespace(monotonic=lambda: sum(slept), sleep=sleep)
        monkeypatch.setattr(chaos_reader, "time", clock)
        monkeypatch.setattr(signal, "signal", lambda *_: None)
        out = tmp_path / "reader.json"
        program = chaos_reader.Program(name, "overrun", tmp_path, out)
        program.run()
        lives[-1].lock.release()
    found = json.loads(out.read_text())
    assert (found["attachments"], found["counts"]["received"], found["torn"]) == (2, 20, 0)
    assert slept == [0.2, chaos_reader.NO_DAEMON_S, 0.2]


# ---- the judges ----------------------------------------------------------------------------------

FIRST = 10**8


def trades(*ids: int, symbol_id: int = 1) -> Ticks:
    """Return trades as `truth` has them: 100 ticks and an id's worth of lots, of 2 decimals."""
    ticks = np.zeros(len(ids), TICK)
    ticks["kind"], ticks["symbol_id"], ticks["flags"] = Kind.TRADE, symbol_id, Flag.BUY
    ticks["price_scale"] = ticks["size_scale"] = 8
    ticks["trade_id"] = FIRST + np.array(ids)
    ticks["price"], ticks["size"] = 100 * 10**6, (np.array(ids) + 1) * 10**6
    return ticks


def gap(first: int, last: int) -> Ticks:
    ticks = np.zeros(1, TICK)
    ticks["kind"], ticks["symbol_id"], ticks["what"] = Kind.STATUS, 1, Status.GAP
    ticks["first_lost"], ticks["last_lost"] = FIRST + first, FIRST + last
    ticks["connection"] = ABSENT
    return ticks


@pytest.fixture
def truth(tmp_path: Path) -> Truth:
    made = Truth(tmp_path, "binance", [(2, 2)])
    for number in range(20):
        made.add_trade(0, FIRST + number, 100, number + 1, buy=True)
    made.add_quote(0, (99, 5), (101, 6))
    return made


@pytest.fixture
def account(truth: Truth) -> Account:
    made = Account({"binance": truth})
    made.learn({1: "BINANCE:SYM000000"})
    return made


def test_record_of_two_trades_words_is_called_torn(account: Account) -> None:
    ticks = trades(3, 4, 5)
    ticks["size"][1] = ticks["size"][2]
    account.take(ticks)
    assert (account.checked, account.torn) == (3, 1)


@pytest.mark.parametrize("name", ["bid_price", "ask_price", "bid_size", "ask_size"])
def test_quote_with_another_word_is_called_torn(account: Account, name: str) -> None:
    tick = np.zeros(2, TICK)
    tick["kind"], tick["symbol_id"], tick["price_scale"], tick["size_scale"] = Kind.QUOTE, 1, 8, 8
    for each, value in (("bid_price", 99), ("bid_size", 5), ("ask_price", 101), ("ask_size", 6)):
        tick[each] = value * 10**6
    tick[name][1] += 10**6
    account.take(tick)
    assert (account.checked, account.torn) == (2, 1)


def test_hole_that_nobody_announced_is_unaccounted(account: Account) -> None:
    account.take(np.concatenate([trades(2, 3), gap(4, 6), trades(7, 9)], dtype=TICK))
    balance = account.balance(to_the_end=False)
    assert balance["sent"] == 8
    assert (balance["received"], balance["announced"], balance["unaccounted"]) == (4, 3, 1)


def test_trade_that_came_twice_is_seen(account: Account) -> None:
    account.take(trades(2, 3, 3))
    assert account.balance(to_the_end=False)["twice"] == 1


def test_tail_that_never_came_is_unaccounted(account: Account) -> None:
    account.take(trades(*range(18)))
    assert not account.is_complete()
    assert account.balance()["unaccounted"] == 2
    account.take(trades(18, 19))
    assert account.is_complete()
    assert account.balance()["unaccounted"] == 0


def test_what_was_sent_while_the_segments_were_made_anew_is_nobodys_fault(
    account: Account,
) -> None:
    account.take(trades(2, 3))
    account.attach_anew()
    account.take(trades(6, 8))
    balance = account.balance(to_the_end=False)
    assert (balance["unattached"], balance["unaccounted"]) == (2, 1)
