"""Connecting to servers that are not there, do not answer, or answer with something else."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import ssl
import zlib
from typing import Any

import pytest

from mdsys._listener import FrameListener
from mdsys.errors import HostError
from mdsys.feed import pins
from mdsys.feed.transport import open_socket
from mdsys.record.record import Kind
from tests.feeds import FeedMemory, acceptance, frame, run, serving, trade

TLS = ssl.create_default_context()


def bomb(size: int) -> bytes:
    """Return what permessage-deflate (RFC 7692) inflates to so many bytes: 1,000 times less."""
    deflate = zlib.compressobj(wbits=-15)
    parts = [deflate.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    return b"".join([*parts, deflate.flush(zlib.Z_SYNC_FLUSH)]).removesuffix(b"\0\0\xff\xff")


BOMB_SIZE = 64 << 20


def listener_of() -> tuple[Any, FrameListener]:
    memory = FeedMemory(["BTCUSDT"])
    return memory, FrameListener(memory.venue, 1, print)


@pytest.mark.parametrize("package", ["picows", "aiofastnet"])
def test_another_version_of_a_pinned_package_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(pins.PINS, package, "0.0.1")
    with pytest.raises(HostError, match=rf"pip install {package}==0\.0\.1"):
        pins.check_pins()


def test_server_that_is_not_there_is_a_connection_error() -> None:
    async def main() -> None:
        with socket.socket() as taken:  # bound, not listening: nobody else gets the port
            taken.bind(("127.0.0.1", 0))
            with pytest.raises(ConnectionRefusedError):
                await open_socket(
                    f"ws://127.0.0.1:{taken.getsockname()[1]}", listener_of()[1], tls=TLS
                )

    run(main())


def test_dead_peer_would_be_noticed_by_the_kernel_though_we_send_nothing() -> None:
    async def main() -> None:
        async def script(peer: Any) -> None:
            await peer.reader.read()

        async with serving(script) as address:
            transport = await open_socket(f"ws://{address}", listener_of()[1], tls=TLS)
            tcp = transport.underlying_transport.get_extra_info("socket")

            def option(name: str) -> int:
                value: int = tcp.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
                return value

            assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            silent_s = option("TCP_KEEPIDLE") + option("TCP_KEEPCNT") * option("TCP_KEEPINTVL")
            assert 5 <= silent_s <= 30
            # The kernel heeds the first of the two, and that must not be before the last probe.
            assert option("TCP_USER_TIMEOUT") == silent_s * 1000
            transport.disconnect(False)
            await transport.wait_disconnected()

    run(main())


def test_server_that_never_answers_the_upgrade_times_out_and_is_left() -> None:
    async def main() -> None:
        memory, listener = listener_of()
        gone = asyncio.Event()

        async def script(peer: Any) -> None:
            await peer.reader.readuntil(b"\r\n\r\n")
            await peer.reader.read()  # until we hang up
            gone.set()

        async with serving(script, raw=True) as address:
            with pytest.raises(TimeoutError, match=r"no answer within 0\.1 s"):
                await open_socket(f"ws://{address}", listener, tls=TLS, timeout_s=0.1)
            await gone.wait()
        assert memory.statuses() == []

    run(main())


def test_attempt_cancelled_during_the_handshake_hangs_up_when_the_answer_comes() -> None:
    async def main() -> None:
        memory, listener = listener_of()
        asked, answer, gone = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def script(peer: Any) -> None:
            request = await peer.reader.readuntil(b"\r\n\r\n")
            asked.set()
            await answer.wait()
            await peer.send(acceptance(request), frame(trade(1)))
            with contextlib.suppress(ConnectionError):
                await peer.reader.read()
            gone.set()

        async with serving(script, raw=True) as address:
            attempt = asyncio.create_task(open_socket(f"ws://{address}", listener, tls=TLS))
            await asked.wait()
            attempt.cancel()
            with pytest.raises(asyncio.CancelledError):
                await attempt
            answer.set()
            await gone.wait()
        assert len(memory.records()) == 0

    run(main())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/\r\n\r\n", "302"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "403"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "200"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "unknown protocol"),
        (acceptance(b"Sec-WebSocket-Key: another's\r\n"), "invalid sec-websocket-accept"),
        (b"HTTP/1.1 101 X\r\n" + b"A: b\r\n" * 9000, "max_size"),
        (b"", "hung up"),
        (b"HTTP/1.1 101 Switch", "hung up"),
    ],
)
def test_any_answer_but_an_upgrade_is_a_connection_error(answer: bytes, words: str) -> None:
    async def main() -> None:
        memory, listener = listener_of()

        async def script(peer: Any) -> None:
            await peer.reader.readuntil(b"\r\n\r\n")
            await peer.send(answer)

        async with serving(script, raw=True) as address:
            with pytest.raises(ConnectionError, match=words):
                await open_socket(f"ws://{address}", listener, tls=TLS)
        assert len(memory.records()) == 0

    run(main())


def test_redirect_is_not_followed() -> None:
    async def main() -> None:
        visits = 0

        async def elsewhere(peer: Any) -> None:
            nonlocal visits
            visits += 1

        async with serving(elsewhere, raw=True) as other:

            async def script(peer: Any) -> None:
                await peer.reader.readuntil(b"\r\n\r\n")
                await peer.send(f"HTTP/1.1 307 X\r\nLocation: ws://{other}/\r\n\r\n".encode())

            async with serving(script, raw=True) as address:
                with pytest.raises(ConnectionError, match="307"):
                    await open_socket(f"ws://{address}", listener_of()[1], tls=TLS)
        assert visits == 0

    run(main())


def test_no_extension_is_offered_and_least_of_all_compression() -> None:
    async def main() -> None:
        async def script(peer: Any) -> None:
            assert b"sec-websocket-key:" in peer.request.lower()
            assert b"sec-websocket-extensions" not in peer.request.lower()
            assert b"deflate" not in peer.request.lower()
            await peer.reader.read()

        async with serving(script) as address:
            transport = await open_socket(f"ws://{address}", listener_of()[1], tls=TLS)
            transport.disconnect(False)
            await transport.wait_disconnected()

    run(main())


def test_an_extension_that_nobody_offered_is_refused_before_any_frame() -> None:
    async def main() -> None:
        memory, listener = listener_of()
        gone = asyncio.Event()

        async def script(peer: Any) -> None:
            request = await peer.reader.readuntil(b"\r\n\r\n")
            header = b"\r\nsec-websocket-extensions: permessage-deflate\r\n\r\n"
            accepted = acceptance(request).removesuffix(b"\r\n\r\n") + header
            await peer.send(accepted, frame(trade(1)), frame(bomb(BOMB_SIZE), rsv=4))
            with contextlib.suppress(ConnectionError):
                await peer.reader.read()
            gone.set()

        async with serving(script, raw=True) as address:
            with pytest.raises(ConnectionError, match="not offer: 'permessage-deflate'"):
                await open_socket(f"ws://{address}", listener, tls=TLS)
            await gone.wait()
        assert len(memory.records()) == 0

    run(main())


def test_a_compressed_bomb_is_refused_and_never_inflated() -> None:
    async def main() -> None:
        memory, listener = listener_of()
        packed = bomb(BOMB_SIZE)
        code = 0

        async def script(peer: Any) -> None:
            nonlocal code
            await peer.send(frame(packed, rsv=4), frame(trade(1)))
            code = await peer.receive_close()

        async with serving(script) as address:
            before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            transport = await open_socket(f"ws://{address}", listener, tls=TLS)
            await transport.wait_disconnected()
            after_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            assert after_kib - before_kib < BOMB_SIZE >> 11  # half of it
        assert code == 1002
        assert Kind.TRADE not in memory.records()["kind"]

    run(main())
