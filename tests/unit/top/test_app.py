"""The view: real widgets, keys pressed by Textual's pilot, numbers made by hand."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from unittest.mock import patch

import pytest
from textual.events import Key
from textual.pilot import Pilot
from textual.widgets import Input

from mdsys.errors import NotRunning
from mdsys.top.app import Top, shares
from mdsys.top.daemon_words import Told, told
from mdsys.top.head import DEAD, HOPS
from mdsys.top.lines import STYLES
from mdsys.top.screens import Sheet
from mdsys.top.source import Look
from mdsys.top.symbols import Ranking
from mdsys.top.table import Table
from tests.tops import Fed, feed, histogram, later, look, mark, reader, ring, status, symbol

Play = Callable[[Pilot[None], Top, Fed], Awaitable[None]]


def show(play: Play, fed: Fed | None = None, size: tuple[int, int] = (170, 50)) -> None:
    """Run the view, and what a test does with it; no clock moves it."""

    feeding = fed or Fed()
    app = Top(feeding, every_s=None)

    async def quiet(*_seconds: float) -> None:
        """Wait until nothing is left to do. Textual's own sleeps, 20 ms and more after each key."""
        ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
        for _ in range(3):  # what is drawn may lay out anew, and that is drawn again
            while ready:  # noqa: ASYNC110  to sleep is to let them run
                await asyncio.sleep(0)
            if app.is_running:
                if app._resize_timer is not None:
                    app._check_resize()  # at once: a terminal's is put off while more may come
                app.screen._on_timer_update()

    async def run() -> None:
        async with asyncio.timeout(20), app.run_test(size=size) as pilot:
            await pilot.pause()
            await play(pilot, app, feeding)

    with (
        patch("textual.app.wait_for_idle", quiet),
        patch("textual.pilot.wait_for_idle", quiet),
    ):
        asyncio.run(run())


def screen(app: Top) -> list[str]:
    """Return what stands on the terminal, line by line."""
    strips = app.screen._compositor.render_strips()
    return ["".join(segment.text for segment in each) for each in strips]


def line_with(app: Top, words: str) -> str:
    """Return the first line that holds some words."""
    found = [line for line in screen(app) if words in line]
    assert found, f"{words!r} is not in\n" + "\n".join(screen(app))
    return found[0]


def tone_of(app: Top, words: str) -> str:
    """Return in which tone some words are drawn."""
    for strip in app.screen._compositor.render_strips():
        for segment in strip:
            if words in segment.text and segment.style is not None:
                return next(t for t, s in STYLES.items() if s.color == segment.style.color)
    raise AssertionError(words)


async def tick(pilot: Pilot[None], app: Top, fed: Fed, **changes: Any) -> None:
    """Let half a second pass."""
    fed.next = later(fed.next, **changes)
    app.tick()
    await pilot.pause()


async def burst(pilot: Pilot[None], app: Top, *keys: str) -> None:
    """Type so fast that all of it is there before the first key is looked at."""
    for key in keys:
        app.post_message(Key("slash" if key == "/" else key, key if len(key) == 1 else None))
    await pilot.pause()


def rows(app: Top, key: str) -> list[Any]:
    return list(app.query_one(f"#{key}", Table).rows)


def test_everything_is_to_be_seen_in_a_wide_terminal() -> None:
    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        await tick(pilot, app, fed, rings=[ring(0, head=36_000), ring(1)])
        text = "\n".join(screen(app))
        for words in (
            *("mdsys top  unit", "running for 2 h 14 min", "nothing amiss", "socket → ring"),
            *("connections", "readers", "rings", "hottest symbols", "stalest symbols"),
            *("binance", "strategy-1", "BINANCE:BTCUSDT", "61540.01", "BINANCE:XLMUSDT"),
            *("301 streams, 300 ticking", "help", "end"),
        ):
            assert words in text
        assert "52,000" in line_with(app, "52,000")  # 26,000 in half a second

    show(play)


@pytest.mark.parametrize("size", [(40, 10), (80, 24), (100, 60), (150, 30), (300, 80)])
def test_nothing_is_wider_or_higher_than_the_terminal(size: tuple[int, int]) -> None:
    many = Fed(look(connections=[mark(i) for i in range(1, 60)], rings=[ring(i) for i in range(9)]))

    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        for _ in range(5):
            await tick(pilot, app, fed)
            await pilot.press("tab")
        lines = screen(app)
        assert len(lines) == size[1]
        assert {len(line) for line in lines} == {size[0]}
        assert any("─" in line for line in lines), "a table is to be seen"

    show(play, many, size)


def test_small_terminal_shows_the_table_that_has_the_keys() -> None:
    full = look(
        connections=[mark(i) for i in range(1, 60)],
        rings=[ring(i) for i in range(20)],
        told=told([reader(i) for i in range(20)], status()),
    )
    fed = Fed(full)
    fed.hottest = fed.stalest = [symbol(f"BINANCE:S{i}") for i in range(40)]

    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        seen = []
        for _ in range(6):
            titles = ("connections", "readers", "rings", "hottest symbols", "stalest symbols")
            there = [each for each in titles if any(f"─ {each}" in line for line in screen(app))]
            assert len(there) == 1
            seen += there
            await pilot.press("tab")
            await pilot.pause()
        assert seen[:5] == ["connections", "readers", "rings", "hottest symbols", "stalest symbols"]
        assert seen[5] == "connections"
        await pilot.press("shift+tab", "shift+tab")
        await pilot.pause()
        assert line_with(app, "─ stalest symbols")

    show(play, fed, size=(80, 24))


@pytest.mark.parametrize(("size", "count"), [((120, 35), 5), ((100, 30), 5), ((80, 24), 4)])
def test_lines_do_not_stay_empty_while_other_tables_would_fit(
    size: tuple[int, int], count: int
) -> None:
    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        assert sum(line.startswith("─ ") for line in screen(app)) == count
        assert line_with(app, "strategy-1")
        await pilot.press("shift+tab")
        await pilot.pause()
        assert line_with(app, "─ stalest symbols"), "the one with the keys is always there"

    show(play, size=size)


SIZES = [
    (40, 12),
    (46, 14),
    (60, 12),
    (60, 16),
    (80, 16),
    (80, 24),
    (170, 20),
    (200, 18),
    (200, 50),
]


def busy(connections: int = 4, readers: int = 2) -> Fed:
    """Return an instance whose ticks have gone over every hop that has a name."""
    return Fed(
        look(
            hops={hop: histogram({100: 10}) for hop in HOPS},
            connections=[mark(number) for number in range(1, connections + 1)],
            told=told([reader(number) for number in range(1, readers + 1)], status()),
        )
    )


async def busier(pilot: Pilot[None], app: Top, fed: Fed) -> None:
    """Let a minute's first latencies come."""
    await tick(pilot, app, fed)
    fed.next = later(fed.next, hops={hop: histogram({100: 10, 330: 30}) for hop in HOPS})
    await tick(pilot, app, fed)


@pytest.mark.parametrize("size", SIZES)
def test_every_terminal_has_its_keys_and_rows_below_whole_latencies(size: tuple[int, int]) -> None:
    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        await busier(pilot, app, fed)
        lines = screen(app)
        assert "? help" in lines[-1]
        assert "q end" in lines[-1]
        rows = [line for line in lines if line.split()[1:2] in (["binance"], ["ready"])]
        assert len(rows) == (4 if size[1] > 12 else 3)
        hops = [line for line in lines if line[1:21].rstrip() in HOPS.values()]
        assert hops
        for line in hops:
            assert re.match(r".{21}( +[\d.]+ [µm]s){2,4}( |$)", line), line
            assert line.rstrip(" ▁▂▃▄▅▆▇█").endswith("s"), "never cut through the unit"
        titles = next(line for line in lines if line.startswith(" conn▴"))
        assert re.search(r" (lost|words|refused) ", titles), "whole columns"

    show(play, busy(), size)


def test_table_that_has_the_keys_is_whole_and_others_have_what_is_left() -> None:
    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        await busier(pilot, app, fed)
        assert line_with(app, "   7  binance")
        assert line_with(app, "strategy-1 ")
        assert not any("strategy-9 " in line for line in screen(app))

    show(play, busy(7, readers=20), (80, 30))


@pytest.mark.parametrize(("connections", "hops"), [(1, 10), (4, 7)])
def test_two_readers_are_seen_beside_the_connections_and_no_line_stays_empty(
    connections: int, hops: int
) -> None:
    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        await busier(pilot, app, fed)
        lines = screen(app)
        assert sum(line[1:21].rstrip() in HOPS.values() for line in lines) == hops
        assert line_with(app, f"   {connections}  binance")
        assert line_with(app, "strategy-1")
        assert "strategy-2" in lines[-2]

    show(play, busy(connections), (80, 24))


def test_hops_that_matter_most_stay_in_a_low_terminal_in_their_order() -> None:
    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        await busier(pilot, app, fed)
        seen = [line[1:21].rstrip() for line in screen(app)]
        assert [each for each in seen if each in HOPS.values()] == [
            *("socket → ring", "socket → reader", "socket → handler"),
        ]

    show(play, busy(9), (80, 16))


def test_bars_begin_beside_their_numbers_and_a_steady_rate_is_no_block() -> None:
    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        for second in range(1, 6):
            await tick(pilot, app, fed)
            await tick(pilot, app, fed, rings=[ring(0, head=second * 1_000), ring(1)])
        assert re.search(r"records/s ▅{5} +peak", line_with(app, "records/s ▅"))

    show(play, Fed(look(rings=[ring(0, head=0), ring(1)])))


def test_narrow_terminal_leaves_whole_numbers_out() -> None:
    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        line = line_with(app, "records/s ")
        assert "peak" in line
        assert "frames" not in line
        worse = told([reader(1, lost=10**9), reader(2, lost=10**9)], status())
        await tick(pilot, app, fed, told=worse)
        assert line_with(app, "falls behind").rstrip().endswith("…")

    show(play, busy(), (60, 24))


def test_terminal_that_changes_its_size_is_followed() -> None:
    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert {len(line) for line in screen(app)} == {80}
        assert not any("─ stalest" in line for line in screen(app))
        await pilot.resize_terminal(170, 50)
        await pilot.pause()
        assert {len(line) for line in screen(app)} == {170}
        assert line_with(app, "─ stalest")

    show(play)


def test_one_table_alone_and_all_again() -> None:
    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        await pilot.press("tab", "z")
        await pilot.pause()
        assert line_with(app, "─ readers")
        assert not any("─ connections" in line for line in screen(app))
        await pilot.press("z")
        await pilot.pause()
        assert line_with(app, "─ connections")

    show(play)


def test_keys_sort_and_reverse() -> None:
    names = Fed(look(connections=[mark(1, records=9), mark(2, records=500), mark(3, records=70)]))

    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        def order() -> list[int]:
            return [row.connection for row in rows(app, "connections")]

        grown = [mark(1, records=9), mark(2, records=900), mark(3, records=100)]
        await tick(pilot, app, fed, connections=grown)
        assert order() == [1, 2, 3]
        await pilot.press("r")
        assert order() == [3, 2, 1]
        await pilot.press("right", "right", "right", "right")
        await pilot.pause()
        assert "records/s▾" in line_with(app, "records/s▾")
        assert order() == [2, 3, 1]
        await pilot.press("r")
        await pilot.pause()
        assert order() == [1, 3, 2]
        assert line_with(app, "records/s▴")
        await pilot.press("left", "left", "left", "left")
        assert order() == [1, 2, 3]

    show(play, names)


def test_click_sorts_by_a_column_and_picks_a_row() -> None:
    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        fed.hottest = [symbol("BINANCE:B", rate=9.0), symbol("BINANCE:A", rate=5.0)]
        await tick(pilot, app, fed)
        await pilot.click("#hottest", offset=(3, 1))
        assert [row.symbol for row in rows(app, "hottest")] == ["BINANCE:A", "BINANCE:B"]
        await pilot.click("#hottest", offset=(3, 3))
        assert app.query_one("#hottest", Table).cursor == 1
        assert app.focused is app.query_one("#hottest")

    show(play)


def test_cursor_stays_in_sight_and_within_the_rows() -> None:
    many = Fed(look(connections=[mark(i) for i in range(1, 61)]))

    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        table = app.query_one("#connections", Table)
        await pilot.press("end")
        await pilot.pause()
        assert table.cursor == 59
        assert line_with(app, "  60  binance")
        assert not any("   1  binance" in line for line in screen(app))
        await pilot.press("down", "pageup", "pageup", "pageup", "pageup", "pageup", "up")
        await pilot.pause()
        assert table.cursor == 0
        assert line_with(app, "   1  binance")
        await pilot.press("end")
        await tick(pilot, app, fed, connections=[mark(1)])
        assert table.cursor == 0, "the others have gone"

    show(play, many)


def test_filter_is_applied_while_it_is_typed_and_taken_away_by_escape() -> None:
    two = look(connections=[mark(1), mark(2, state="waiting")])

    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        await pilot.press("slash", *"wait")
        await pilot.pause()
        assert [row.connection for row in rows(app, "connections")] == [2]
        assert "1 of 2" in line_with(app, "─ connections")
        assert fed.patterns[-1] == "wait", "symbols are picked before they are ranked"
        await pilot.press("enter", "down")
        assert app.focused is app.query_one("#connections")
        assert [row.connection for row in rows(app, "connections")] == [2]
        await pilot.press("escape")
        await pilot.pause()
        assert len(rows(app, "connections")) == 2
        assert fed.patterns[-1] == ""

    show(play, Fed(two))


def test_filter_can_be_seen_while_it_is_typed_and_as_long_as_it_is_on() -> None:
    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        assert "q end" in screen(app)[-1]
        await pilot.press("slash", *"bin")
        await pilot.pause()
        assert screen(app)[-2].startswith(" filter bin")
        assert screen(app)[-1].strip() == "Enter keep the filter  Esc take it away"
        await pilot.press("enter")
        await pilot.pause()
        assert screen(app)[-2].startswith(" filter bin")
        assert "q end" in screen(app)[-1]
        await pilot.press("escape")
        await pilot.pause()
        assert not any("filter bin" in line for line in screen(app))
        await pilot.press("slash", "x", "escape")
        await pilot.pause()
        assert fed.patterns[-1] == ""
        assert not any(line.startswith(" filter") for line in screen(app))

    show(play)


def test_filter_that_hides_everything_says_so() -> None:
    class Picky(Fed):
        def ranking(self, look: Look, pattern: str) -> Ranking:
            return Ranking((), (), 0, 0, 0) if pattern else super().ranking(look, pattern)

    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        await pilot.press("slash", *"zzz", "enter")
        await pilot.pause()
        said = [line for line in screen(app) if 'none has "zzz" in its name' in line]
        assert sum(line.count("the filter hides all") for line in said) == 5
        await pilot.press("escape")
        await pilot.pause()
        assert not any("hides all" in line for line in screen(app))

    show(play, Picky())


def test_symbol_that_does_not_move_is_not_hidden_by_the_filter() -> None:
    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        fed.hottest = []
        await pilot.press("slash", *"binance", "enter")
        await pilot.pause()
        assert "hides all" not in line_with(app, "of 0 that move")
        assert not any("hides all" in line for line in screen(app)[-12:])

    show(play)


def test_keys_of_the_view_are_text_in_the_filter() -> None:
    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        await pilot.press("slash", *"qzp")
        await pilot.pause()
        assert app.is_running
        assert fed.patterns[-1] == "qzp"

    show(play)


def test_filter_has_every_key_that_is_typed_behind_its_own_however_fast() -> None:
    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        await burst(pilot, app, *"/qzr")
        assert app.is_running
        assert app.query_one(Input).value == "qzr"
        await burst(pilot, app, *"/x", "enter")
        assert app.query_one(Input).value == "qzr/x", "in the filter it is a letter: BTC/USD"
        assert fed.patterns[-1] == "qzr/x"
        await burst(pilot, app, "/", "escape")
        assert app.query_one(Input).value == ""
        assert app.focused is app.query_one("#connections")

    show(play)


def test_blanks_around_a_filter_are_no_part_of_it() -> None:
    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        await pilot.press("slash", "space", "x", "space")
        assert fed.patterns[-1] == "x"

    show(play)


def test_head_leaves_whole_words_out_where_it_is_narrow() -> None:
    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        head = line_with(app, "mdsys top")
        assert "pid 4711  ·  1 feed" in head
        assert "streams" not in head
        assert "…" not in head

    show(play, size=(80, 24))


def test_instance_that_does_not_run_is_not_called_well() -> None:
    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        assert line_with(app, "nothing amiss")
        await tick(pilot, app, fed, state="stopped")
        assert not any("nothing amiss" in line for line in screen(app))

    show(play)


def test_filter_is_not_opened_behind_a_sheet() -> None:
    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        await pilot.press("question_mark")
        await burst(pilot, app, *"/x")
        assert isinstance(app.screen, Sheet)
        assert not app.query_one("#filter").has_class("open")
        assert app.query_one(Input).value == ""

    show(play)


@pytest.mark.parametrize("size", [(170, 50), (80, 24)])
def test_open_filter_takes_its_line_from_the_tables_not_from_the_keys(
    size: tuple[int, int],
) -> None:
    many = Fed(look(connections=[mark(i) for i in range(1, 60)]))

    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        await pilot.press("slash", "b")
        await pilot.pause()
        lines = screen(app)
        assert "filter" in lines[-2]
        assert "keep the filter" in lines[-1]
        body = app.query_one("#body").size.height
        heights = {each.region.y: each.size.height for each in app.query(Table) if each.size.height}
        assert max(y + height for y, height in heights.items()) == size[1] - 2
        assert body == size[1] - 2 - app.query_one("#body").region.y

    show(play, many, size)


def test_symbols_that_were_never_heard_are_counted_beside_the_silent_ones() -> None:
    class Half(Fed):
        def ranking(self, look: Look, pattern: str) -> Ranking:
            return Ranking(self.hottest, self.stalest, 1, 4_321, look.symbols)

    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        assert line_with(app, "of 100, 4,321 never heard")

    show(play, Half())


def test_held_screen_stands_still_while_numbers_are_gathered() -> None:
    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        await pilot.press("space")
        await pilot.pause()
        assert line_with(app, "paused")
        before = screen(app)
        await tick(pilot, app, fed, rings=[ring(0, head=99_999)])
        assert screen(app) == before
        assert app.history.look is fed.next
        await pilot.press("space")
        await pilot.pause()
        assert not any("paused" in line for line in screen(app))
        assert screen(app) != before

    show(play)


def test_help_names_the_keys_and_any_of_them_takes_it_away() -> None:
    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        await pilot.press("question_mark")
        await pilot.pause()
        assert isinstance(app.screen, Sheet)
        assert line_with(app, "filter every table")
        await tick(pilot, app, fed)
        await pilot.press("tab", "escape")
        await pilot.pause()
        assert not isinstance(app.screen, Sheet)

    show(play)


ANSWER: Mapping[str, Any] = {
    "state": "confirmed",
    "why": "binance has confirmed it and has sent no trade yet",
    "remedy": None,
    "streams": [{"channel": "trade", "state": "confirmed", "last_tick_s": None, "stale": True}],
    "connection": {"connection": 3, "state": "ready", "url": "wss://x"},
}


def test_symbol_is_explained_by_the_daemon() -> None:
    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        fed.answers["BINANCE:XLMUSDT"] = ANSWER
        app.query_one("#stalest").focus()
        await pilot.press("enter")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert line_with(app, "has sent no trade yet")
        assert line_with(app, "no tick yet, stale")

    show(play)


def test_answer_that_comes_when_its_sheet_is_gone_is_dropped() -> None:
    class Slow(Fed):
        def __init__(self) -> None:
            super().__init__()
            self.asked, self.may_answer = threading.Event(), threading.Event()

        def explain(self, symbol: str) -> Mapping[str, Any]:
            self.asked.set()
            assert self.may_answer.wait(20)
            return ANSWER

    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        assert isinstance(fed, Slow)
        app.query_one("#stalest").focus()
        await pilot.press("enter")
        await asyncio.to_thread(fed.asked.wait, 20)
        assert line_with(app, "asking the daemon")
        await pilot.press("escape")
        await pilot.pause()
        assert not isinstance(app.screen, Sheet)
        fed.may_answer.set()
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert app.is_running
        assert not any("has sent no trade yet" in line for line in screen(app))

    show(play, Slow())


def test_daemon_that_cannot_explain_is_quoted() -> None:
    class Silent(Fed):
        def explain(self, symbol: str) -> Mapping[str, Any]:
            raise NotRunning("no daemon of instance 'unit' can be reached")

    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        app.query_one("#stalest").focus()
        await pilot.press("enter")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert line_with(app, "can be reached")

    show(play, Silent())


def test_connection_is_explained_by_its_venues_words() -> None:
    denied = Fed(look(connections=[mark(1, state="denied", words="token has expired")]))

    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        await pilot.press("enter")
        await pilot.pause()
        assert line_with(app, "token has expired")

    show(play, denied)


def test_explained_rows_speak_as_the_tables_do_not_as_the_program() -> None:
    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        for words in ("connection 1", "reader strategy-1", "ring 0"):
            await pilot.press("enter")
            await pilot.pause()
            assert isinstance(app.screen, Sheet)
            text = "\n".join(screen(app))
            assert words in text
            for internal in ("age s", "offset ns", "holds s", "idle s", "True", "False", "None"):
                assert internal not in text
            await pilot.press("escape", "tab")

    show(play)


@pytest.mark.parametrize("size", [(170, 50), (80, 24), (60, 20)])
def test_help_and_end_are_among_the_keys_however_narrow_it_is(size: tuple[int, int]) -> None:
    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        bar = screen(app)[-1]
        assert "? help" in bar
        assert "q end" in bar
        assert "Tab table  / filter" in bar
        assert ("r reverse" in bar) == (size[0] > 90), "never cut in the middle"
        await pilot.click("#keys", offset=(bar.index("? help"), 0))
        await pilot.pause()
        assert isinstance(app.screen, Sheet)

    show(play, size=size)


def test_dead_daemon_is_said_in_the_head_and_its_numbers_stay() -> None:
    dead = look(state="dead", feeds=[feed(up=0)], told=Told(None, None, "the daemon is dead"))

    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        assert DEAD in line_with(app, "mdsys top")
        assert tone_of(app, DEAD) == "bad"
        assert "not known: the daemon is dead" in line_with(app, "─ readers")
        assert line_with(app, "whole life")
        assert " - " not in line_with(app, "socket → ring"), "what it measured is still there"
        assert line_with(app, "gone")
        assert [row.head for row in rows(app, "rings")] == [10_000, 10_000]

    show(play, Fed(dead))


def test_next_life_begins_with_a_fresh_history() -> None:
    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        fed.waiting_for = "instance 'unit' is not there"
        await tick(pilot, app, fed, state="replaced")
        assert "waiting for its next start" in line_with(app, "mdsys top")
        fed.waiting_for, fed.serial = "", object()
        await tick(pilot, app, fed, state="running", rings=[ring(0, head=5)])
        assert "running" in line_with(app, "mdsys top")
        assert app.history.seconds == 0
        assert len(rows(app, "rings")) == 1

    show(play)


def test_colour_is_for_what_is_wrong() -> None:
    lossy = look(connections=[mark(1), mark(2, state="denied")], told=told([reader()], status()))

    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        assert tone_of(app, "denied") == "warn"  # the line of troubles, first
        worse = told([reader(lost=1_204)], status())
        await tick(pilot, app, fed, told=worse)
        assert tone_of(app, "1,204 lost") == "warn"
        bad = [
            segment.text
            for strip in app.screen._compositor.render_strips()
            for segment in strip
            if segment.style is not None and segment.style.color == STYLES["bad"].color
        ]
        assert sorted(text.strip() for text in bad) == ["1,204", "denied"]

    show(play, Fed(lossy))


def test_unchanged_lines_are_not_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        await tick(pilot, app, fed)
        drawn: list[Any] = []
        for table in app.query(Table):
            monkeypatch.setattr(table, "refresh", lambda *regions, **_: drawn.extend(regions))
        app.tick()
        assert drawn == []
        fed.hottest = [symbol("BINANCE:BTCUSDT", rate=13.0)]
        app.tick()
        assert [(each.y, each.height) for each in drawn] == [(2, 1)]

    show(play)


def test_names_that_are_too_long_are_cut_and_wide_ones_stay_aligned() -> None:
    names = [f"BINANCE:{'X' * 200}", "KRAKEN:日本円/USD"]

    async def play(pilot: Pilot[None], app: Top, fed: Fed) -> None:
        fed.hottest = [symbol(name) for name in names]
        await tick(pilot, app, fed)
        assert "…" in line_with(app, "XXXX")
        strips = app.screen._compositor.render_strips()
        assert {strip.cell_length for strip in strips} == {170}

    show(play)


def test_q_and_ctrl_c_end_it() -> None:
    for key in ("q", "ctrl+c"):

        async def play(pilot: Pilot[None], app: Top, fed: Fed, key: str = key) -> None:
            await pilot.press(key)
            await pilot.pause()
            assert app.return_code == 0

        show(play)


def test_lines_are_shared_out_and_all_used() -> None:
    assert shares([4, 4, 60], 40) == [4, 4, 32]
    assert shares([60, 60], 41) == [20, 21]
    assert shares([3, 3], 40) == [3, 37]
    for wanted in ([1], [5, 90, 7], [50, 50, 50, 50, 50]):
        assert sum(shares(wanted, 30)) == 30
