"""A socket that is replaced before its end, over real sockets."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from mdsys.feed import succession as module
from mdsys.feed.venue import Limits
from mdsys.record.record import Status
from tests.connections import Life, answer_all
from tests.feeds import CLOSE, TEXT, frame, run, serving, trade, until


class Visits:
    """A venue's sockets, in the order they came, each with what it does after its upgrade."""

    def __init__(self, *scripts: Callable[[Any], Awaitable[None]]) -> None:
        self.scripts = list(scripts)
        self.count = 0
        self.open = 0
        self.open_max = 0

    async def __call__(self, peer: Any) -> None:
        script = self.scripts[self.count]
        self.count += 1
        self.open += 1
        self.open_max = max(self.open_max, self.open)
        try:
            await script(peer)
        finally:
            self.open -= 1


async def polite(peer: Any) -> None:
    """Answer everything until the client leaves, and answer that too."""
    while True:
        opcode, payload = await peer.receive()
        if opcode == CLOSE:
            await peer.send(frame(payload, CLOSE))
            return
        if opcode == TEXT:
            await peer.say(id=json.loads(payload)["id"])


async def leaving(peer: Any) -> None:
    """Answer, and say that the end is near; then wait for the client to leave."""
    await answer_all(peer)
    await peer.say(id=None, **{"is": "leaving"}, words="24 hours")
    await polite(peer)


def whats(life: Life) -> list[int]:
    return [what for what, _, _ in life.memory.statuses()]


def test_successor_has_everything_before_the_old_socket_is_closed() -> None:
    async def main() -> None:
        life = Life("A", "B")
        order: list[str] = []

        async def old(peer: Any) -> None:
            await leaving(peer)
            order.append("old closed")

        async def new(peer: Any) -> None:
            await peer.receive()
            order.append("new asked")
            await peer.say(id=1)
            await polite(peer)

        visits = Visits(old, new)
        async with serving(visits) as address, life.running(address):
            await life.until("overlap", "off")
            assert order == ["new asked", "old closed"]
            assert life.overlaps == [1, -1]
            assert life.count("lost") == 0
            assert life.count("state", "waiting") == 0
            assert whats(life) == [Status.CONNECTION_UP]  # readers notice nothing
        assert whats(life) == [Status.CONNECTION_DOWN]
        assert visits.count == 2
        assert life.streams("confirmed") == ["A@trade", "B@trade"] * 2
        assert life.streams("requested") == ["A@trade", "B@trade"]  # never taken back
        assert [told["first"] for event, told in life.events if event == "permit"] == [True, True]
        assert life.told[-1] == ("ended", 2)
        assert ("ended", 1) in life.told

    run(main())


def test_socket_of_age_is_replaced_before_its_lifetime_is_over() -> None:
    async def main() -> None:
        life = Life()
        life.venue = replace(life.venue, lifetime_s=1_000.0)
        visits = Visits(polite, polite, polite)
        async with serving(visits) as address, life.running(address):
            await life.until("overlap", "off", 2)
        assert visits.count >= 3
        assert set(life.delays) == {1_000.0 * module.AGE_SHARE[1]}
        assert life.count("state", "waiting") == 0

    run(main())


def test_what_the_venue_sends_on_both_sockets_is_published_once() -> None:
    async def main() -> None:
        life = Life()
        both = asyncio.Event()

        async def old(peer: Any) -> None:
            await answer_all(peer)
            await peer.send(frame(trade(1)))
            await peer.say(id=None, **{"is": "leaving"}, words="soon")
            await both.wait()
            await peer.send(frame(trade(2)))
            await polite(peer)

        async def new(peer: Any) -> None:
            _, payload = await peer.receive()
            await peer.send(frame(trade(2)), frame(trade(3)))
            both.set()
            await life.frames(4)
            await peer.say(id=json.loads(payload)["id"])
            await polite(peer)

        async with serving(Visits(old, new)) as address, life.running(address):
            await life.until("overlap", "off")
        records = life.memory.records()
        assert [int(r["trade_id"]) for r in records[records["kind"] == 1]] == [1, 2, 3]

    run(main())


def test_venue_that_allows_one_socket_never_sees_two() -> None:
    async def main() -> None:
        life = Life()
        visits = Visits(leaving, polite)
        limits = Limits(connections=1)
        async with serving(visits) as address, life.running(address, limits=limits):
            await life.until("state", "ready", 2)
            assert visits.open_max == 1
            assert life.told.index(("ended", 1)) < life.told.index(("used", 2))
        assert visits.count == 2
        assert life.count("lost") == 2
        up_and_down = [Status.CONNECTION_UP, Status.CONNECTION_DOWN]
        assert whats(life) == up_and_down * 2

    run(main())


def test_old_socket_makes_room_when_there_is_none_for_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TURN_S", 0.05)

    async def main() -> None:
        life = Life()
        life.free_leaves = 1  # the venue's places are all taken
        visits = Visits(leaving, polite)
        async with serving(visits) as address, life.running(address):
            await life.until("permit", "connect", 2)
            await until(lambda: ("ended", 1) in life.told)
            await life.until("state", "connecting", 2)
            life.give_leave()
            await life.until("state", "ready", 2)
            assert visits.open_max == 1

    run(main())


def test_old_socket_that_is_lost_early_is_succeeded_by_the_one_that_is_open() -> None:
    async def main() -> None:
        life = Life("A", "B")
        asked = asyncio.Event()
        answer = asyncio.Event()

        async def old(peer: Any) -> None:
            await answer_all(peer)
            await peer.say(id=None, **{"is": "leaving"}, words="now")
            await asked.wait()  # and hang up

        async def new(peer: Any) -> None:
            await peer.receive()
            asked.set()
            await answer.wait()
            await peer.say(id=1)
            await polite(peer)

        visits = Visits(old, new)
        async with serving(visits) as address, life.running(address):
            await life.until("state", "open", 2)
            assert life.count("lost") == 1
            assert life.count("state", "waiting") == 1  # its streams are lost, for the moment
            assert life.streams("requested") == ["A@trade", "B@trade"] * 2
            assert life.streams("confirmed") == ["A@trade", "B@trade"]
            answer.set()
            await life.until("state", "ready", 2)
            assert life.streams("confirmed") == ["A@trade", "B@trade"] * 2
            assert whats(life) == [
                Status.CONNECTION_UP,
                Status.CONNECTION_DOWN,
                Status.CONNECTION_UP,
            ]
        assert visits.count == 2
        assert life.delays == []

    run(main())


def test_old_socket_that_is_lost_while_the_next_is_dialled_costs_no_second_dial() -> None:
    async def main() -> None:
        life = Life()
        life.free_leaves = 1
        asked = asyncio.Event()

        async def old(peer: Any) -> None:
            await answer_all(peer)
            await peer.say(id=None, **{"is": "leaving"}, words="now")
            await asked.wait()

        visits = Visits(old, polite)
        async with serving(visits) as address, life.running(address):
            await life.until("permit", "connect", 2)
            asked.set()
            await life.until("state", "connecting", 2)
            life.give_leave()
            await life.until("state", "ready", 2)
        assert visits.count == 2
        assert [event for event, _ in life.told].count("permit") == 2

    run(main())


def test_successor_that_is_lost_is_tried_again_and_the_old_socket_serves_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        life = Life()

        async def fails(peer: Any) -> None:
            await peer.receive()

        visits = Visits(leaving, fails, polite)
        async with serving(visits) as address, life.running(address):
            await life.until("overlap", "off", 2)
            assert life.overlaps == [1, -1, 1, -1]
            assert life.count("lost") == 0
            assert whats(life) == [Status.CONNECTION_UP]
        assert life.delays == [1.0]

    with caplog.at_level(logging.INFO):
        run(main())
    assert "its successor is gone: the server hung up" in caplog.text


def test_successor_that_is_denied_is_not_tried_again_while_the_old_socket_lives() -> None:
    async def main() -> None:
        life = Life()
        last = asyncio.Event()

        async def old(peer: Any) -> None:
            await answer_all(peer)
            await peer.say(id=None, **{"is": "leaving"}, words="now")
            await last.wait()

        async def denied(peer: Any) -> None:
            await peer.say(id=None, **{"is": "denied"}, words="token expired")
            await peer.receive_close()

        visits = Visits(old, denied, denied)
        async with serving(visits) as address, life.running(address):
            await life.until("overlap", "off")
            assert life.count("state", "denied") == 0
            assert life.delays == []
            last.set()
            await life.until("state", "denied")
        assert visits.count == 3

    run(main())


@pytest.mark.parametrize("data", [True, False])
def test_successor_at_a_venue_that_does_not_answer_waits_for_the_first_data_but_not_for_ever(
    data: bool,
) -> None:
    async def main() -> None:
        life = Life()
        life.venue = replace(life.venue, acknowledges=False)
        sent = asyncio.Event()

        async def old(peer: Any) -> None:
            await peer.receive()
            await peer.say(id=None, **{"is": "leaving"}, words="now")
            await peer.receive_close()
            assert sent.is_set() is data

        async def new(peer: Any) -> None:
            await peer.receive()
            await until(lambda: not data or life.delays.count(module.LOOK_S) >= 3)
            if data:
                sent.set()
                await peer.send(frame(trade(1)))
            await polite(peer)

        async with serving(Visits(old, new)) as address, life.running(address):
            await life.until("state", "ready", 2)
        looks = life.delays.count(module.LOOK_S)
        assert looks <= round(module.FIRST_DATA_S / module.LOOK_S)
        assert looks >= (3 if data else round(module.FIRST_DATA_S / module.LOOK_S))

    run(main())


def test_symbols_that_come_and_go_during_the_change_are_as_wanted_after_it() -> None:
    async def main() -> None:
        life = Life("A", "B")
        answer = asyncio.Event()
        at_venue: set[str] = set()

        async def new(peer: Any) -> None:
            while True:
                opcode, payload = await peer.receive()
                if opcode == CLOSE:
                    return
                request = json.loads(payload)
                await answer.wait()
                change = {"SUBSCRIBE": at_venue.update, "UNSUBSCRIBE": at_venue.difference_update}
                change[request["method"]](request["params"])
                await peer.say(id=request["id"])

        async with serving(Visits(leaving, new)) as address, life.running(address) as connection:
            await life.until("overlap", "on")
            connection.subscribe({"C": b""})
            connection.unsubscribe(["A"])
            answer.set()
            await life.until("overlap", "off")
            await until(lambda: at_venue == {"B@trade", "C@trade"})
            assert life.streams("removed") == ["A@trade"]
            assert connection.symbols == ["B", "C"]

    run(main())


def test_order_to_close_during_the_change_closes_both() -> None:
    async def main() -> None:
        life = Life()
        codes = []

        async def until_closed(peer: Any) -> None:
            await peer.receive()
            codes.append(await peer.receive_close())

        async def old(peer: Any) -> None:
            await answer_all(peer)
            await peer.say(id=None, **{"is": "leaving"}, words="now")
            codes.append(await peer.receive_close())

        async with serving(Visits(old, until_closed)) as address, life.running(address):
            await life.until("overlap", "on")
        await until(lambda: codes == [1000, 1000])
        assert life.overlaps == [1, -1]

    run(main())
