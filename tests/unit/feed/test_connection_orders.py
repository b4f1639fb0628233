"""The supervisor's orders to one connection."""

from __future__ import annotations

from typing import Any

import pytest

from tests.connections import Life, answer_all
from tests.feeds import run, serving


def test_symbols_come_and_go_on_an_open_socket() -> None:
    async def main() -> None:
        life = Life("A", "B")
        requests = []

        async def script(peer: Any) -> None:
            for _ in range(3):
                requests.extend(await answer_all(peer))
            await peer.receive_close()

        async with serving(script) as address, life.running(address) as connection:
            await life.until("state", "ready")
            connection.subscribe({"C": b"\x07", "A": b""})
            await life.until("streams", "confirmed", 2)
            connection.unsubscribe(["A", "X"])
            await life.until("streams", "removed")
            assert connection.symbols == ["B", "C"]
        assert [(each["method"], each["params"]) for each in requests] == [
            ("SUBSCRIBE", ["A@trade", "B@trade"]),
            ("SUBSCRIBE", ["C@trade"]),
            ("UNSUBSCRIBE", ["A@trade"]),
        ]
        assert life.streams("removed") == ["A@trade"]

    run(main())


def test_symbols_that_come_and_go_between_two_sockets_are_asked_of_the_next() -> None:
    async def main() -> None:
        life = Life("A", "B")
        life.free_leaves = 0
        requests = []

        async def script(peer: Any) -> None:
            requests.extend(await answer_all(peer))
            await peer.receive_close()

        async with serving(script) as address, life.running(address) as connection:
            await life.until("permit", "connect")
            connection.unsubscribe(["A"])
            connection.subscribe({"C": b""})
            assert life.streams("removed") == ["A@trade"]
            life.give_leave()
            await life.until("state", "ready")
        assert requests[0]["params"] == ["B@trade", "C@trade"]

    run(main())


def test_symbol_that_was_leaving_when_the_socket_was_lost_has_left() -> None:
    async def main() -> None:
        life = Life("A", "B")
        visits = 0

        async def script(peer: Any) -> None:
            nonlocal visits
            visits += 1
            requests = await answer_all(peer)
            if visits == 1:
                await peer.receive()  # UNSUBSCRIBE, and no answer
                return
            assert requests[0]["params"] == ["B@trade"]
            await peer.receive_close()

        async with serving(script) as address, life.running(address) as connection:
            await life.until("state", "ready")
            connection.unsubscribe(["A"])
            await life.until("state", "ready", 2)
        assert life.streams("removed") == ["A@trade"]

    run(main())


def test_mute_stream_is_asked_for_again() -> None:
    async def main() -> None:
        life = Life("A", "B")
        requests = []

        async def script(peer: Any) -> None:
            requests.extend(await answer_all(peer, 3))
            await peer.receive_close()

        async with serving(script) as address, life.running(address) as connection:
            await life.until("state", "ready")
            assert connection.resubscribe(["B", "X"], "trade") == []
            assert connection.resubscribe(["B"], "quote") == []
            await life.until("streams", "confirmed", 2)
        assert [(each["method"], each["params"]) for each in requests[1:]] == [
            ("UNSUBSCRIBE", ["B@trade"]),
            ("SUBSCRIBE", ["B@trade"]),
        ]

    run(main())


def test_mute_socket_is_replaced_at_once_when_told(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        life = Life()

        async def script(peer: Any) -> None:
            await answer_all(peer)
            await peer.receive_close()

        async with serving(script) as address, life.running(address) as connection:
            await life.until("state", "ready")
            connection.reconnect("no frame for 12 s")
            await life.until("state", "ready", 2)
        assert life.delays == []
        assert "no frame for 12 s" in life.words("waiting")[0]

    run(main())


def test_order_to_close_while_waiting_for_leave_gives_it_back_when_it_comes() -> None:
    async def main() -> None:
        life = Life()
        life.free_leaves = 0
        async with life.running("127.0.0.1:1"):
            await life.until("permit", "connect")
        life.give_leave()
        assert life.told == [("permit", 1), ("ended", 1)]

    run(main())
