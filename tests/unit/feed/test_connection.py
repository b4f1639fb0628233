"""One connection's life against servers that forget and hang up."""

from __future__ import annotations

import errno
import json
import logging
import os
from typing import Any

import pytest

from mdsys.feed.dialling import _lost_by
from mdsys.feed.pace import STABLE_S
from mdsys.record.record import Status
from tests.connections import Life, answer_all
from tests.feeds import CLOSE, Peer, frame, run, serving, trade


def test_subscribes_over_the_socket_and_says_so_when_answered() -> None:
    async def main() -> None:
        life = Life("BTCUSDT", "ETHUSDT")
        asked = []

        async def script(peer: Any) -> None:
            _, payload = await peer.receive()
            asked.append(json.loads(payload))
            await life.until("streams", "requested")
            assert ("streams", "confirmed") not in life.stages
            await peer.say(id=1, result=None)
            await peer.receive_close()

        async with serving(script) as address, life.running(address):
            await life.until("state", "ready")
        assert asked == [
            {"method": "SUBSCRIBE", "params": ["BTCUSDT@trade", "ETHUSDT@trade"], "id": 1}
        ]
        assert life.stages == [
            ("state", "connecting"),
            ("state", "open"),
            ("streams", "requested"),
            ("streams", "confirmed"),
            ("state", "ready"),
            ("lost", ""),
            ("state", "closed"),
        ]
        assert life.streams("confirmed") == ["BTCUSDT@trade", "ETHUSDT@trade"]

    run(main())


def test_nothing_is_dialled_without_leave_and_its_use_and_end_are_told() -> None:
    async def main() -> None:
        life = Life()
        life.free_leaves = 0
        visits = 0

        async def script(peer: Any) -> None:
            nonlocal visits
            visits += 1
            await answer_all(peer)
            await peer.receive_close()

        async with serving(script) as address, life.running(address):
            await life.until("permit", "connect")
            assert life.told == [("permit", 1)]
            assert visits == 0
            life.give_leave()
            await life.until("state", "ready")
            assert life.told == [("permit", 1), ("used", 1)]
        assert life.told == [("permit", 1), ("used", 1), ("ended", 1)]

    run(main())


def test_cancelling_closes_with_1000_and_tells_the_rings() -> None:
    async def main() -> None:
        life = Life()
        codes = []

        async def script(peer: Any) -> None:
            await answer_all(peer)
            codes.append(await peer.receive_close())
            await peer.send(frame(b"\x03\xe8", CLOSE))

        async with serving(script) as address, life.running(address):
            await life.until("state", "ready")
        assert codes == [1000]
        whats = [what for what, _, _ in life.memory.statuses()]
        assert whats == [Status.CONNECTION_UP, Status.CONNECTION_DOWN]

    run(main())


def test_lost_connection_is_made_again_and_subscribed_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        life = Life()
        visits = 0

        async def script(peer: Any) -> None:
            nonlocal visits
            visits += 1
            await answer_all(peer)
            await peer.send(frame(trade(visits)))
            if visits == 3:
                await peer.receive_close()
            elif visits == 2:
                await peer.send(frame(b"\x03\xf0slow down", CLOSE))

        async with serving(script) as address, life.running(address):
            await life.until("state", "ready", 3)
            await life.frames(3)
        assert life.count("lost") == 3
        records = life.memory.records()
        assert [int(r["trade_id"]) for r in records[records["kind"] == 1]] == [1, 2, 3]
        assert life.delays == [1.0, 2.0]  # data flowed, but not for long: the backoff goes on
        assert [told["first"] for event, told in life.events if event == "permit"] == [
            True,
            False,
            False,
        ]
        waiting = [told for event, told in life.events if told.get("state") == "waiting"]
        assert "1008 slow down" in waiting[1]["words"]
        assert waiting[1]["delay_s"] == 2.0

    with caplog.at_level(logging.INFO, "mdsys.feed"):
        run(main())
    assert "the server hung up without a CLOSE; next try in 1.0 s" in caplog.text
    assert "closed by the venue: 1008 slow down; next try in 2.0 s" in caplog.text


def test_socket_that_is_reset_is_said_to_be_reset() -> None:
    async def main() -> None:
        life = Life()
        visits = 0

        async def script(peer: Peer) -> None:
            nonlocal visits
            visits += 1
            await answer_all(peer)
            if visits == 1:
                peer.reset()
            else:
                await peer.receive_close()

        async with serving(script) as address, life.running(address):
            await life.until("state", "ready", 2)
        (waiting,) = [told for _, told in life.events if told.get("state") == "waiting"]
        assert "connection reset by peer (RST)" in waiting["words"]

    run(main())


def test_what_the_venue_said_before_it_hung_up_is_told_with_its_end() -> None:
    async def main() -> None:
        life = Life()
        visits = 0

        async def script(peer: Peer) -> None:
            nonlocal visits
            visits += 1
            await answer_all(peer)
            if visits == 1:
                await peer.say(**{"id": 0, "is": "notice", "words": "token has expired"})
                await peer.hang_up()
            else:
                await peer.receive_close()

        async with serving(script) as address, life.running(address):
            await life.until("state", "ready", 2)
        (waiting,) = [told for _, told in life.events if told.get("state") == "waiting"]
        assert waiting["words"].endswith("without a CLOSE; it had said: token has expired")

    run(main())


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ECONNRESET, "reset by peer"),
        (errno.EPIPE, "had closed the connection"),
        (errno.ETIMEDOUT, "no longer answers"),
        (errno.ENETUNREACH, "no way to the server any more: [Errno 101] Network is unreachable"),
        (errno.EIO, "lost: OSError: [Errno 5]"),
    ],
)
def test_each_cause_of_a_lost_socket_has_words_of_its_own(number: int, words: str) -> None:
    assert words in _lost_by(OSError(number, os.strerror(number)))
    assert "CLOSE" not in _lost_by(OSError(number, os.strerror(number)))


@pytest.mark.parametrize(("data", "delays"), [(True, [1.0, 1.0]), (False, [1.0, 2.0])])
def test_backoff_begins_anew_only_after_a_long_life_with_data(
    data: bool, delays: list[float]
) -> None:
    async def main() -> None:
        life = Life()
        visits = 0

        async def script(peer: Any) -> None:
            nonlocal visits
            visits += 1
            if visits == 3:
                await peer.receive_close()
                return
            await answer_all(peer)
            if data:
                await peer.send(frame(trade(visits)))
            life.now_s += STABLE_S

        async with serving(script) as address, life.running(address):
            await life.until("state", "open", 3)
        assert life.delays == delays

    run(main())


def test_server_that_is_not_there_is_tried_again_with_growing_delays(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        life = Life()

        async def script(peer: Any) -> None:
            pass

        async with serving(script) as address:
            pass  # and now nobody listens there
        async with life.running(address):
            await life.until("state", "waiting", 5)
        assert life.delays[:5] == [1.0, 2.0, 4.0, 8.0, 8.0]
        assert life.count("failed") >= 5
        assert life.memory.statuses() == []
        asked = [told["id"] for event, told in life.events if event == "permit"][:5]
        for number in asked:  # each gives its place back
            assert ("used", number) in life.told
            assert ("ended", number) in life.told

    run(main())
    assert "cannot connect to ws://127.0.0.1:" in caplog.text
