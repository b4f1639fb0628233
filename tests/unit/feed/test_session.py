"""What is said on one socket, and what comes of the answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from mdsys.feed import session as session_module
from mdsys.feed.venue import Limits, Stream, Window
from tests.connections import Life, StubTalk, answer_all
from tests.feeds import CLOSE, PING, PONG, TEXT, frame, run, serving


def test_refused_symbol_is_found_and_told_with_the_venues_words_and_the_rest_goes_on() -> None:
    async def main() -> None:
        life = Life("A", "B", "C")

        async def script(peer: Any) -> None:
            while True:
                opcode, payload = await peer.receive()
                if opcode == CLOSE:
                    return
                request = json.loads(payload)
                bad = "B@trade" in request["params"]
                await peer.say(id=request["id"], **{"error": "no such symbol"} if bad else {})

        async with serving(script) as address, life.running(address):
            await life.until("state", "ready")
        assert sorted(life.streams("confirmed")) == ["A@trade", "C@trade"]
        assert life.streams("refused") == ["B@trade"]
        assert life.words("refused") == ["no such symbol"]

    run(main())


def test_subscribe_that_nobody_answers_ends_the_socket(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "ANSWER_TIMEOUT_S", 0.05)

    async def main() -> None:
        life = Life()

        async def script(peer: Any) -> None:
            await peer.receive()
            assert await peer.receive_close() == 1000

        async with serving(script) as address, life.running(address):
            await life.until("state", "waiting")
        assert ("state", "ready") not in life.stages

    run(main())
    assert "no answer to a subscribe message in 0.05 s" in caplog.text


def test_one_stream_that_is_never_answered_does_not_cost_the_others_their_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_module, "ANSWER_TIMEOUT_S", 0.05)

    async def main() -> None:
        life = Life("A", "B", "C")

        async def script(peer: Any) -> None:
            while True:
                opcode, payload = await peer.receive()
                if opcode == CLOSE:
                    return
                params = json.loads(payload)["params"]
                answered = [name for name in params if name != "B@trade"]
                await peer.say(id=None, streams=answered)

        async with serving(script) as address, life.running(address):
            await life.until("state", "ready")
        assert life.streams("confirmed") == ["A@trade", "C@trade"]
        assert life.streams("refused") == ["B@trade"]
        assert life.words("refused") == ["no answer to a subscribe message in 0.05 s"]
        assert life.count("lost") == 1

    run(main())


def test_socket_that_cannot_be_subscribed_is_closed_and_made_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribe = StubTalk.subscribe
    attempts = 0

    def fail_once(self: StubTalk, streams: Sequence[Stream], request_id: int) -> list[str]:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise KeyError("a bug")
        return subscribe(self, streams, request_id)

    monkeypatch.setattr(StubTalk, "subscribe", fail_once)

    async def main() -> None:
        life = Life()
        codes: list[int] = []

        async def script(peer: Any) -> None:
            if codes:  # its second visit
                await answer_all(peer)
            codes.append(await peer.receive_close())

        async with serving(script) as address, life.running(address):
            await life.until("state", "ready")
        assert codes == [1000, 1000]

    run(main())
    assert "binance connection 3: cannot talk" in caplog.text
    assert "cannot talk: KeyError: 'a bug'; next try in 1.0 s" in caplog.text


def test_what_the_venue_says_by_itself_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        life = Life()

        async def script(peer: Any) -> None:
            await peer.say(id=None, **{"is": "notice"}, words="maintenance")
            await peer.say(id=99, error="whose?")
            await peer.say(id=None, **{"is": "nonsense"}, words="gibberish")
            await peer.send(frame(b'{"id":1,"streams":7}'))  # the stub's own hear fails at it
            await answer_all(peer)
            await peer.receive_close()

        async with serving(script) as address, life.running(address):
            await life.until("state", "ready")

    run(main())
    assert "the venue says: maintenance" in caplog.text
    assert "the venue refuses: whose?" in caplog.text
    assert "gibberish" in caplog.text
    assert "cannot read a control frame" in caplog.text


def test_messages_keep_the_venues_window() -> None:
    async def main() -> None:
        life = Life("A", "B", "C", "D", "E")
        limits = Limits(messages=(Window(2, 10.0),), streams_per_message=1)

        async def script(peer: Any) -> None:
            await answer_all(peer, 5)
            await peer.receive_close()

        async with serving(script) as address, life.running(address, limits=limits):
            await life.until("state", "ready")
        assert len(life.delays) == 2  # two at once, then two more, then one
        assert all(10.0 < delay < 10.5 for delay in life.delays)

    run(main())


def test_pongs_keep_it_too_where_they_count() -> None:
    async def main() -> None:
        life = Life()
        limits = Limits(messages=(Window(1, 10.0),), control_frames_count=True)
        pongs: list[bytes] = []
        done = asyncio.Event()

        async def script(peer: Any) -> None:
            await answer_all(peer)
            await peer.send(*(frame(payload, PING) for payload in (b"one", b"two", b"three")))
            while b"three" not in pongs:
                opcode, payload = await peer.receive()
                assert opcode == PONG
                pongs.append(payload)
            done.set()
            await peer.receive_close()

        async with serving(script) as address, life.running(address, limits=limits):
            await done.wait()
        assert len(life.delays) == len(pongs)  # the subscription had the first window to itself
        assert all(10.0 < delay < 10.5 for delay in life.delays)

    run(main())


def test_each_message_has_leave_where_the_address_is_limited() -> None:
    async def main() -> None:
        life = Life("A", "B")
        limits = Limits(address_messages=(Window(8, 1.0),), streams_per_message=1)

        async def script(peer: Any) -> None:
            await answer_all(peer, 2)
            await peer.receive_close()

        async with serving(script) as address, life.running(address, limits=limits):
            await life.until("state", "ready")
        asked = [told["what"] for event, told in life.events if event == "permit"]
        assert asked == ["connect", "message", "message"]
        assert [event for event, _ in life.told if event == "used"] == ["used"] * 3

    run(main())


def test_nothing_is_subscribed_before_the_venue_opens_the_stream() -> None:
    async def main() -> None:
        life = Life()
        life.venue = replace(life.venue, opens=True, opening=('{"auth":1}',))
        heard = []

        async def script(peer: Any) -> None:
            opcode, payload = await peer.receive()
            heard.append((opcode, payload))
            await peer.send(frame(b"are you there?", PING))
            assert (await peer.receive())[0] == PONG  # and nothing else has come
            await peer.say(id=None, **{"is": "opened"})
            await answer_all(peer)
            await peer.receive_close()

        async with serving(script) as address, life.running(address):
            await life.until("state", "ready")
        assert heard == [(TEXT, b'{"auth":1}')]

    run(main())


def test_stream_that_is_never_opened_ends_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "ANSWER_TIMEOUT_S", 0.05)

    async def main() -> None:
        life = Life()
        life.venue = replace(life.venue, opens=True)

        async def script(peer: Any) -> None:
            await peer.receive_close()

        async with serving(script) as address, life.running(address):
            await life.until("state", "waiting")
        assert "the venue did not open the stream in 0.05 s" in life.words("waiting")[0]

    run(main())


@pytest.mark.parametrize("message", [None, '{"ping":1}'])
def test_socket_is_kept_alive_as_the_venue_wants_it(
    message: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StubTalk, "keepalive", lambda _: message)

    async def main() -> None:
        life = Life()
        life.venue = replace(life.venue, keepalive_s=7.0)
        heard: list[tuple[int, bytes]] = []
        enough = asyncio.Event()

        async def script(peer: Any) -> None:
            while len(heard) < 3:
                opcode, payload = await peer.receive()
                if opcode == TEXT and b"SUBSCRIBE" in payload:
                    await peer.say(id=1)
                else:
                    heard.append((opcode, payload))
            enough.set()
            await peer.receive_close()

        async with serving(script) as address, life.running(address):
            await enough.wait()
        assert set(heard) == {(PING, b"") if message is None else (TEXT, message.encode())}
        assert set(life.delays) == {7.0}

    run(main())


def test_venue_that_does_not_answer_is_ready_when_all_is_asked() -> None:
    async def main() -> None:
        life = Life("A", "B")
        life.venue = replace(life.venue, acknowledges=False)

        async def script(peer: Any) -> None:
            await peer.receive()
            await peer.receive_close()

        async with serving(script) as address, life.running(address):
            await life.until("state", "ready")
        assert life.streams("requested") == ["A@trade", "B@trade"]
        assert life.streams("confirmed") == []

    run(main())
