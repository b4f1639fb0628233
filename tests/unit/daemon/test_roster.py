"""Symbols that come and go, and what the feeds are told of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from mdsys.daemon import look_ups
from mdsys.daemon import plan as plan_module
from mdsys.daemon import roster as module
from mdsys.daemon.plan import PIECE_SIZE
from mdsys.daemon.roster import Outcome, Roster
from mdsys.daemon.subscriptions import State
from mdsys.errors import ConfigError
from mdsys.feed.backoff import Backoff
from mdsys.feed.orders import Connect, Subscribe
from mdsys.feed.venue import Fetch, Resolution, Secret
from mdsys.ring.segment import Instance
from tests.instances import geometry, running
from tests.rosters import PLAIN, Instruments, Told, config_of, make_roster, with_list


@pytest.fixture
def instance() -> Iterator[Instance]:
    with running(geometry(rings=2, feeds=2, max_symbols=20)) as each:
        yield each


@pytest.fixture
def told() -> Told:
    return Told()


def plain(instance: Instance, told: Told, *symbols: str, **keys: Any) -> Roster:
    venues = {"binance": PLAIN}
    config = config_of({"name": "binance", "symbols": list(symbols), **keys}, facts=venues)
    return make_roster(instance, told, config.venues, venues)


def listed(instance: Instance, told: Told, instruments: Instruments, *symbols: str) -> Roster:
    venues = {"kite": with_list(instruments.resolve)}
    config = config_of(
        {"name": "kite", "symbols": list(symbols), "channels": ["ticker"], "credentials": ["k"]},
        facts=venues,
    )
    return make_roster(instance, told, config.venues, venues, {"key": "s3cret"})


def run(work: Callable[[], Awaitable[Any]]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(20):
            return await work()

    return asyncio.run(bounded())


def subscribe(roster: Roster, *names: str) -> Outcome:
    outcome: Outcome = run(lambda: roster.subscribe(names))
    return outcome


def unsubscribe(roster: Roster, *names: str) -> Outcome:
    outcome: Outcome = run(lambda: roster.unsubscribe(names))
    return outcome


def states(roster: Roster, name: str) -> tuple[str, str | None]:
    _, _, row = roster.find(name)
    assert row is not None
    (stream,) = roster.subscriptions.streams(row)
    return stream["state"], stream["words"]


def directory(instance: Instance) -> list[str]:
    symbols = instance.symbols
    return [symbols.entry(number)[0] for number in range(1, len(symbols) + 1)]


def test_configured_symbols_are_in_the_directory_and_in_the_feeds_plans(
    instance: Instance, told: Told
) -> None:
    roster = plain(instance, told, "A", "B", "C", max_symbols_per_connection=2)
    assert directory(instance) == ["BINANCE:A", "BINANCE:B", "BINANCE:C"]
    plans = [plan for feed in (0, 1) for plan in roster.carriage.plans_of_feed(feed)]
    assert [(plan.number, plan.symbols) for plan in plans] == [(1, ("A",)), (2, ("B", "C"))]
    assert roster.subscriptions.funnel()["desired"] == 3
    assert [each.shown_url for each in roster.connections.all.values()] == [PLAIN.url] * 2


def test_symbols_that_come_are_told_to_their_feed_and_touch_no_other(
    instance: Instance, told: Told
) -> None:
    roster = plain(instance, told, "A", "B", "C", max_symbols_per_connection=2)
    told.take()
    before = {each.number: list(each.symbols) for each in roster.placement.connections.values()}
    outcome = subscribe(roster, "BINANCE:D", "BINANCE:E", "BINANCE:A", "BINANCE:D")
    assert outcome.accepted == ["BINANCE:D", "BINANCE:E"]
    assert outcome.unchanged == ["BINANCE:A"]
    assert told.summary() == [("add", 1, ["D"]), ("connect", 3, ["E"])]
    for number, symbols in before.items():
        assert list(roster.placement.connections[number].symbols)[: len(symbols)] == symbols
    assert directory(instance)[3:] == ["BINANCE:D", "BINANCE:E"]


def test_large_change_is_made_piece_by_piece_each_of_which_a_feed_could_start_with(
    instance: Instance, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "PIECE_SIZE", 2)
    monkeypatch.setattr(module, "PIECE_SIZE", 2)
    roster = plain(instance, told, "A", max_symbols_per_connection=3)
    told.take()
    seen: list[tuple[int, int, int]] = []

    async def look() -> None:
        while True:
            known = directory(instance)
            plans = [each for feed in (0, 1) for each in roster.carriage.plans_of_feed(feed)]
            planned = [f"BINANCE:{symbol}" for plan in plans for symbol in plan.symbols]
            assert sorted(planned) == sorted(known)
            rows = [roster.find(name)[2] for name in planned]
            assert all(row is not None and roster.subscriptions.connection[row] for row in rows)
            seen.append((len(planned), len(roster.connections.all), len(told.orders)))
            await asyncio.sleep(0)

    async def subscribe_while_somebody_looks() -> None:
        looking = asyncio.create_task(look())
        outcome = await roster.subscribe([f"BINANCE:S{number}" for number in range(9)])
        assert len(outcome.accepted) == 9
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking

    run(subscribe_while_somebody_looks)
    # Symbols, connections, orders: the first is told before the last is placed.
    assert list(dict.fromkeys(seen)) == [
        *((1, 1, 0), (3, 1, 1), (5, 2, 2), (7, 3, 3), (9, 4, 4), (10, 4, 5))
    ]


def test_two_large_changes_at_once_do_not_take_the_same_room(
    instance: Instance, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "PIECE_SIZE", 2)
    venues = {"binance": PLAIN, "other": replace(PLAIN, name="other")}
    tables = [{"name": name, "symbols": ["A"]} for name in venues]
    roster = make_roster(instance, told, config_of(*tables, facts=venues).venues, venues)

    async def both() -> list[Outcome]:
        names = [[f"{venue}:S{number}" for number in range(12)] for venue in ("BINANCE", "OTHER")]
        return await asyncio.gather(*map(roster.subscribe, names))

    first, second = run(both)  # of 20
    assert (len(first.accepted), len(second.accepted)) == (12, 0)
    assert len(directory(instance)) == 14
    assert all("rings.max_symbols" in why for why in second.refused.values())


def test_symbols_that_go_leave_their_connection_and_close_it_with_the_last(
    instance: Instance, told: Told
) -> None:
    roster = plain(instance, told, "A", "B", "C", max_symbols_per_connection=2)
    told.take()
    outcome = unsubscribe(roster, "BINANCE:A", "BINANCE:B", "BINANCE:NOPE")
    assert outcome.accepted == ["BINANCE:A", "BINANCE:B"]
    assert outcome.unchanged == ["BINANCE:NOPE"]
    assert told.summary() == [("remove", 2, ["B"]), ("close", 1)]
    assert roster.subscriptions.funnel()["desired"] == 1
    assert list(roster.connections.all) == [2]


def test_symbol_that_comes_back_has_its_old_id_and_ring(instance: Instance, told: Told) -> None:
    roster = plain(instance, told, "A", "B")
    symbol_id = instance.symbols.find(b"BINANCE:A")
    ring = instance.symbols.entry(symbol_id)[2]
    unsubscribe(roster, "BINANCE:A", "BINANCE:B")
    subscribe(roster, "BINANCE:A")
    row = roster.subscriptions.row("binance", "A")
    assert row is not None
    assert roster.subscriptions.ids[row] == symbol_id
    (placed,) = roster.placement.connections.values()
    assert placed.feed == ring % 2
    assert len(directory(instance)) == 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("BTCUSDT", "names no venue"),
        ("KRAKEN:BTC/USD", "the configuration has no [[venue]] kraken; it has binance"),
        ("BINANCE:btcusdt", "did you mean BTCUSDT?"),
        ("binance:BTCUSDT", "a venue is written in capitals"),
        ("BINANCE:" + "X" * 80, "at most 63 fit"),
    ],
)
def test_name_that_is_none_is_refused_by_itself(
    instance: Instance, told: Told, name: str, words: str
) -> None:
    roster = plain(instance, told, "A")
    outcome = subscribe(roster, name, "BINANCE:B")
    assert words in outcome.refused[name]
    assert outcome.accepted == ["BINANCE:B"]


def test_more_symbols_than_the_directory_holds_are_refused_and_change_nothing(
    instance: Instance, told: Told
) -> None:
    roster = plain(instance, told, "A")
    told.take()
    outcome = subscribe(roster, *(f"BINANCE:N{number}" for number in range(20)))
    (words,) = set(outcome.refused.values())
    assert words == (
        "rings.max_symbols: 20, but 1 symbol that the directory has and 20 new ones need more; "
        f"ids are never reused: raise it, or run: mdsys clean --instance {instance.name}"
    )
    assert told.take() == []
    assert directory(instance) == ["BINANCE:A"]
    assert states(roster, "BINANCE:N0")[0] == "refused"
    assert subscribe(roster, "BINANCE:N0").accepted == ["BINANCE:N0"]  # alone it fits


def test_more_connections_than_the_venue_allows_are_refused_at_run_time_and_at_the_start(
    instance: Instance, told: Told
) -> None:
    limits: dict[str, Any] = {"max_symbols_per_connection": 1, "limits": {"connections": 2}}
    roster = plain(instance, told, "A", "B", **limits)
    outcome = subscribe(roster, "BINANCE:C")
    assert "need 3 connections of 1" in outcome.refused["BINANCE:C"]
    with pytest.raises(ConfigError, match="need 3 connections of 1"):
        plain(instance, told, "A", "B", "C", **limits)


def test_long_lists_go_in_orders_that_fit(told: Told) -> None:
    with running(geometry(rings=2, feeds=2, max_symbols=2_000)) as instance:
        roster = plain(instance, told, "A")
        told.take()
        subscribe(roster, *(f"BINANCE:{number:0>50}" for number in range(1_500)))
        orders = [order for _, order in told.take()]
        assert all(len(order.encode()) < 64 << 10 for order in orders)
        assert sum(isinstance(order, Connect) for order in orders) == 1
        names = [
            name
            for order in orders
            for name in (
                order.plan.symbols
                if isinstance(order, Connect)
                else [each for each, _ in order.symbols]
                if isinstance(order, Subscribe)
                else []
            )
        ]
        assert len(names) == len(set(names)) == 1_500


# ---- venues with a list -------------------------------------------------------------------------


def test_symbols_that_a_full_directory_has_already_still_fit(
    instance: Instance, told: Told
) -> None:
    names = [f"S{i}" for i in range(20)]
    plain(instance, told, *names)
    entries = [instance.symbols.entry(i) for i in range(1, 21)]
    again = plain(instance, told, *names[:15])
    assert len(again.placement.symbols("binance")) == 15
    assert subscribe(again, *(f"BINANCE:{name}" for name in names[15:])).refused == {}
    assert [instance.symbols.entry(i) for i in range(1, 21)] == entries
    (outcome,) = subscribe(again, "BINANCE:NEW").refused.values()
    assert "rings.max_symbols: 20" in outcome


def test_what_names_a_symbol_in_frames_is_forgotten_with_the_symbol(
    instance: Instance, told: Told
) -> None:
    roster = listed(instance, told, Instruments({"A": 1, "B": 2}), "C")
    subscribe(roster, "KITE:A", "KITE:B")
    unsubscribe(roster, "KITE:A")
    assert list(roster.desks["kite"].wires) == ["B"]


def test_list_of_the_venue_gives_wires_and_scales_and_unknown_names_reach_no_connection(
    instance: Instance, told: Told
) -> None:
    instruments = Instruments({"NSE:INFY": 408065, "NSE:SBIN": 779521})
    roster = listed(instance, told, instruments, "NSE:INFY", "NSE:NOPE", "NSE:SBIN")
    assert told.take() == []
    assert roster.subscriptions.funnel()["desired"] == 3

    async def look_up() -> None:
        roster.look_ups.start()
        while roster.look_ups.tasks:
            await asyncio.wait(roster.look_ups.tasks)

    run(look_up)
    ((_, order),) = told.take()
    assert isinstance(order, Connect)
    assert order.plan.symbols == ("NSE:INFY", "NSE:SBIN")
    assert order.plan.wires["NSE:SBIN"] == (779521).to_bytes(4, "big")
    assert order.plan.credential == "k"
    assert states(roster, "KITE:NSE:NOPE") == ("refused", "no such instrument")
    assert directory(instance) == ["KITE:NSE:INFY", "KITE:NSE:SBIN"]
    assert instance.symbols.entry(1)[3:] == (2, 0)
    assert instruments.secrets == [{"key": "s3cret"}]


def test_thousands_of_unknown_names_take_a_few_lines_of_the_log(
    instance: Instance, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"NSE:N{n}" for n in range(2_000)]
    roster = listed(instance, told, Instruments({}), *names)

    async def look_up() -> None:
        roster.look_ups.start()
        await asyncio.wait(roster.look_ups.tasks)

    with caplog.at_level(logging.WARNING):
        run(look_up)
    first = [f"kite: {name} refused: no such instrument" for name in names[:10]]
    more = "mdsys ctl status SYMBOL --instance " + instance.name
    assert caplog.messages == [*first, f"kite: ... and 1990 more refused: {more}"]
    assert roster.refused_unasked() == [f"KITE:{name}" for name in names]


def test_loop_goes_on_while_thousands_are_refused_each_in_its_own_words(
    instance: Instance, told: Told
) -> None:
    async def resolve(
        symbols: Collection[str], secret: Secret, fetch: Fetch
    ) -> Mapping[str, Resolution]:
        return {symbol: Resolution(refusal=f"no {symbol}") for symbol in symbols}

    instruments = Instruments({})
    instruments.resolve = resolve  # type: ignore[method-assign]
    roster = listed(instance, told, instruments, "NSE:INFY")
    longest = since = 0
    report = roster.subscriptions.report

    def counted(*args: Any, **keys: Any) -> list[int]:
        nonlocal longest, since
        since += 1
        longest = max(longest, since)
        return report(*args, **keys)

    async def turn() -> None:
        nonlocal since
        while True:
            since = 0
            await asyncio.sleep(0)

    async def subscribe() -> Outcome:
        turning = asyncio.create_task(turn())
        outcome = await roster.subscribe([f"KITE:NSE:N{n}" for n in range(2_000)])
        turning.cancel()
        return outcome

    roster.subscriptions.report = counted  # type: ignore[method-assign]
    outcome = run(subscribe)
    assert outcome.refused["KITE:NSE:N7"] == "no NSE:N7"
    assert longest <= PIECE_SIZE < len(outcome.refused)


def test_list_that_cannot_be_had_is_asked_for_again_and_nobody_waits_for_it(
    instance: Instance,
    told: Told,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class AtOnce(Backoff):
        def next_s(self) -> float:
            return 0.0

    monkeypatch.setattr(look_ups, "Backoff", AtOnce)
    instruments = Instruments({"NSE:INFY": 1})
    instruments.reachable = False
    roster = listed(instance, told, instruments, "NSE:INFY")

    async def look_up() -> None:
        roster.look_ups.start()
        while len(instruments.asked) < 3:  # noqa: ASYNC110 - it is the loop's turns that it takes
            await asyncio.sleep(0)
        instruments.reachable = True
        await asyncio.wait(roster.look_ups.tasks)

    with caplog.at_level(logging.WARNING):
        run(look_up)
    assert "kite: symbols cannot be looked up: kite: no answer" in caplog.messages[0]
    assert told.summary() == [("connect", 1, ["NSE:INFY"])]


def test_list_that_our_secret_does_not_open_is_not_asked_for_again_until_told_to(
    instance: Instance, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    instruments = Instruments({"NSE:INFY": 1})
    instruments.denies = True
    roster = listed(instance, told, instruments, "NSE:INFY")
    desk = roster.desks["kite"]

    async def look_up() -> None:
        roster.look_ups.start()
        while desk.trouble is None:  # noqa: ASYNC110 - it is the loop's turns that it takes
            await asyncio.sleep(0)
        assert desk.denied
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(instruments.asked) == 1
        instruments.denies = False
        roster.look_ups.again()
        await asyncio.wait(roster.look_ups.tasks)

    with caplog.at_level(logging.WARNING):
        run(look_up)
    (line,) = caplog.messages
    assert line == (
        "kite: symbols cannot be looked up: kite: HTTP 403: bad token; "
        "not asked again until told to: replace k"
    )
    assert told.summary() == [("connect", 1, ["NSE:INFY"])]
    assert desk.trouble is None


def test_subscription_while_the_list_cannot_be_had_is_refused_and_leaves_nothing(
    instance: Instance, told: Told
) -> None:
    instruments = Instruments({"NSE:INFY": 1})
    instruments.reachable = False
    roster = listed(instance, told, instruments, "NSE:X")
    outcome = subscribe(roster, "KITE:NSE:INFY")
    assert outcome.refused == {"KITE:NSE:INFY": "kite: no answer"}
    assert roster.find("KITE:NSE:INFY")[2] is None
    instruments.reachable = True
    assert subscribe(roster, "KITE:NSE:INFY").accepted == ["KITE:NSE:INFY"]


def test_wanted_symbol_stays_wanted_when_it_is_asked_for_while_the_list_cannot_be_had(
    instance: Instance, told: Told
) -> None:
    instruments = Instruments({"NSE:INFY": 1})
    instruments.reachable = False
    roster = listed(instance, told, instruments, "NSE:INFY")

    async def ask_and_wait() -> None:
        outcome = await roster.subscribe(["KITE:NSE:INFY"])
        assert (outcome.accepted, outcome.refused) == ([], {})
        assert outcome.unchanged == ["KITE:NSE:INFY"]
        assert states(roster, "KITE:NSE:INFY") == ("desired", None)
        instruments.reachable = True
        await asyncio.sleep(0)
        roster.look_ups.again()
        await asyncio.wait(roster.look_ups.tasks)

    run(ask_and_wait)
    assert told.summary() == [("connect", 1, ["NSE:INFY"])]


def test_symbol_that_the_venue_refused_is_asked_for_again_when_somebody_subscribes_again(
    instance: Instance, told: Told
) -> None:
    roster = plain(instance, told, "A", "B")
    told.take()
    for symbol in ("A", "B"):
        words = "no such thing" if symbol == "A" else None
        state = State.REFUSED if symbol == "A" else State.CONFIRMED
        roster.subscriptions.report("binance", [symbol], None, state, 1, words=words)
    outcome = subscribe(roster, "BINANCE:A", "BINANCE:B")
    assert (outcome.accepted, outcome.unchanged) == (["BINANCE:A"], ["BINANCE:B"])
    assert told.summary() == [("remove", 1, ["A"]), ("add", 1, ["A"])]
    assert states(roster, "BINANCE:A") == ("desired", None)


def test_symbol_that_the_list_did_not_know_is_looked_up_again_when_it_is_asked_for_again(
    instance: Instance, told: Told
) -> None:
    instruments = Instruments({})
    roster = listed(instance, told, instruments, "NSE:X")
    assert subscribe(roster, "KITE:NSE:NEW").refused == {"KITE:NSE:NEW": "no such instrument"}
    instruments.tokens["NSE:NEW"] = 5
    assert subscribe(roster, "KITE:NSE:NEW").accepted == ["KITE:NSE:NEW"]
    assert told.summary() == [("connect", 1, ["NSE:NEW"])]
    assert states(roster, "KITE:NSE:NEW") == ("desired", None)


def test_symbol_that_is_unsubscribed_while_it_is_looked_up_is_not_subscribed_after_all(
    instance: Instance, told: Told
) -> None:
    instruments = Instruments({"NSE:INFY": 1, "NSE:SBIN": 2})
    roster = listed(instance, told, instruments, "NSE:X")

    async def both() -> None:
        coming = asyncio.create_task(roster.subscribe(["KITE:NSE:INFY", "KITE:NSE:SBIN"]))
        going = asyncio.create_task(roster.unsubscribe(["KITE:NSE:INFY"]))
        await asyncio.gather(coming, going)

    run(both)
    assert set(roster.placement.symbols("kite")) == {"NSE:SBIN"}
    assert roster.find("KITE:NSE:INFY")[2] is None


def test_fault_of_a_venue_is_a_refusal_with_its_kind(instance: Instance, told: Told) -> None:
    async def broken(*_: Any) -> Any:
        raise ZeroDivisionError("of a plug-in")

    venues = {"kite": with_list(broken)}
    config = config_of(
        {"name": "kite", "symbols": ["X"], "channels": ["ticker"], "credentials": ["k"]},
        facts=venues,
    )
    roster = make_roster(instance, told, config.venues, venues)
    outcome = subscribe(roster, "KITE:Y")
    assert outcome.refused == {"KITE:Y": "ZeroDivisionError: of a plug-in"}
