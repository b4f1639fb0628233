"""Venues that do not let us in."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.connections import Life, StubVenue, answer_all
from tests.feeds import run, serving

SECRET = {"key": "s3cr3t/value"}


def refusing(*answers: bytes) -> tuple[Callable[[Any], Awaitable[None]], list[bytes]]:
    """Return a script that answers upgrades with these, then lets us in; and the requests."""
    requests: list[bytes] = []
    left = list(answers)

    async def script(peer: Any) -> None:
        request = await peer.reader.readuntil(b"\r\n\r\n")
        requests.append(request)
        if left:
            await peer.send(left.pop(0))
            return
        await peer.accept(request)
        await answer_all(peer)
        await peer.receive_close()

    return script, requests


FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\n\r\nInvalid s3cr3t/value or s3cr3t%2Fvalue by eulav/t3rc3s"


def test_403_stops_dialling_until_told_and_the_secret_is_in_nothing_that_is_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        life = Life()
        life.secret = SECRET
        script, requests = refusing(FORBIDDEN)
        async with serving(script, raw=True) as address, life.running(address) as connection:
            await life.until("state", "denied")
            assert len(requests) == 1
            assert b"GET /stream?key=s3cr3t/value HTTP" in requests[0]
            assert b"X-Key: s3cr3t/value" in requests[0]
            assert life.told == [("permit", 1), ("used", 1), ("ended", 1)]
            told = next(each for _, each in life.events if each.get("state") == "denied")
            assert (told["http"], told["words"]) == (403, "Invalid *** or *** by ***")
            assert life.delays == []
            connection.redial()
            await life.until("state", "ready")
        assert "s3cr3t" not in repr(life.events)

    with caplog.at_level(logging.DEBUG):
        run(main())
    assert "s3cr3t" not in caplog.text


@pytest.mark.parametrize("status", [429, 406, 418, 503])
def test_venue_that_turns_us_away_is_left_alone_as_long_as_it_asks(status: int) -> None:
    async def main() -> None:
        life = Life()
        script, _ = refusing(
            b"HTTP/1.1 %d X\r\nRetry-After: 120\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"8\r\ntoo many\r\n0\r\n\r\n" % status
        )
        async with serving(script, raw=True) as address, life.running(address):
            await life.until("state", "ready")
        told = next(each for _, each in life.events if each.get("state") == "waiting")
        assert told["http"] == status
        assert "too many" in told["words"]
        assert 120 <= told["delay_s"] <= 132
        assert life.delays == [told["delay_s"]]

    run(main())


def test_no_leave_stops_dialling_until_told() -> None:
    async def main() -> None:
        life = Life()
        life.refusal = "credential key_a: /etc/mdsys/credentials/key_a is not there"

        async def script(peer: Any) -> None:
            await answer_all(peer)
            await peer.receive_close()

        async with serving(script) as address, life.running(address) as connection:
            await life.until("state", "denied")
            assert life.words("denied") == [life.refusal]
            life.refusal = None
            connection.redial()
            await life.until("state", "ready")

    run(main())


def test_secret_that_the_venue_s_module_cannot_use_is_denied_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def dial(self: StubVenue, base: str, secret: Any) -> Any:
        raise ValueError(f"{secret['key']} is no PEM")

    monkeypatch.setattr(StubVenue, "dial", dial)

    async def main() -> None:
        life = Life()
        life.secret = SECRET
        async with life.running("127.0.0.1:1"):
            await life.until("state", "denied")
        assert life.words("denied") == ["cannot be dialled: ValueError: *** is no PEM"]
        assert life.told == [("permit", 1), ("ended", 1)]

    run(main())
    assert "s3cr3t" not in caplog.text


def test_denial_on_the_socket_stops_dialling_until_told() -> None:
    async def main() -> None:
        life = Life()
        life.secret = SECRET
        visits = 0

        async def script(peer: Any) -> None:
            nonlocal visits
            visits += 1
            if visits == 1:
                await peer.say(id=None, **{"is": "denied"}, words="bad key s3cr3t/value")
            else:
                await answer_all(peer)
            await peer.receive_close()

        async with serving(script) as address, life.running(address) as connection:
            await life.until("state", "denied")
            assert life.words("denied") == ["bad key ***"]
            assert visits == 1
            connection.redial()
            await life.until("state", "ready")

    run(main())


def test_busy_venue_is_dialled_again_no_sooner_than_it_says() -> None:
    async def main() -> None:
        life = Life()
        visits = 0

        async def script(peer: Any) -> None:
            nonlocal visits
            visits += 1
            if visits == 1:
                await peer.say(id=None, **{"is": "busy"}, words="connection limit exceeded")
            else:
                await answer_all(peer)
            await peer.receive_close()

        async with serving(script) as address, life.running(address):
            await life.until("state", "ready")
        assert len(life.delays) == 1
        assert life.delays[0] >= 5.0
        assert "connection limit exceeded" in life.words("waiting")[0]

    run(main())


def test_redial_ends_a_long_wait() -> None:
    async def main() -> None:
        life = Life()
        life.sleeps = False
        script, _ = refusing(b"HTTP/1.1 429 X\r\n\r\n")
        async with serving(script, raw=True) as address, life.running(address) as connection:
            await life.until("state", "waiting")
            connection.redial()
            await life.until("state", "ready")

    run(main())
