"""The listener against servers that send what a venue should not."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from picows import WSFrame, WSMsgType, WSProtocolError, WSTransport

from mdsys import _listener
from mdsys._listener import Feed, FrameListener, VenueFeed
from mdsys.feed.frame import FRAME_SIZE_MAX, FrameResult, Record, SymbolInfo
from mdsys.feed.simple_decoder import Out, SimpleDecoder
from mdsys.feed.transport import open_socket
from mdsys.record.record import ABSENT, TICK, Flag, Kind, Status
from tests.feeds import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    FeedMemory,
    Peer,
    acceptance,
    frame,
    run,
    serving,
    trade,
)

TLS = ssl.create_default_context()


class Client:
    """One socket with a listener into a fresh feed.

    Args:
        symbols: What it knows.
        past_picows: Text may go past picows when the script begins; else picows has a part of a
            frame by then, and gets all that comes with the rest of it.
    """

    def __init__(self, symbols: list[str] | None = None, *, past_picows: bool = True) -> None:
        self.memory = FeedMemory(symbols or ["BTCUSDT"])
        self.past_picows = past_picows
        self.controls: list[bytes] = []
        self.listener = FrameListener(self.memory.venue, 7, self.controls.append)
        self.error: WSProtocolError | None = None

    async def talk(self, script: Callable[[Any], Awaitable[None]]) -> None:
        """Connect to a server that follows ``script``, and stay until the socket is gone."""
        connected = asyncio.Event()
        pong = frame(b"pong", PONG)

        async def begin(peer: Peer) -> None:
            await connected.wait()
            if self.past_picows:
                ring = self.memory.writers[0]
                before_ns = ring.watermark_ns
                await peer.send(pong)
                await until(lambda: ring.watermark_ns != before_ns)
                await script(peer)
            else:
                peer.writer.write(pong[:3])
                await script(LatePeer(peer, pong[3:]))

        async with serving(begin) as address:
            transport = await open_socket(f"ws://{address}/ws", self.listener, tls=TLS)
            connected.set()
            try:
                await transport.wait_disconnected()
            except WSProtocolError as error:
                self.error = error

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Callable[[bytes], None]]:
        """Connect; yields what has the protocol read bytes, cut as they are given."""

        async def script(peer: Peer) -> None:
            await peer.reader.read()

        async with serving(script) as address:
            transport = await open_socket(f"ws://{address}", self.listener, tls=TLS)
            protocol: Any = transport.underlying_transport.get_protocol()

            def read(data: bytes) -> None:
                while data:
                    room = protocol.get_buffer(-1)
                    size = min(len(room), len(data))
                    room[:size] = data[:size]
                    protocol.buffer_updated(size)
                    data = data[size:]

            read(frame(b"", PONG))  # from here on text may go past picows
            yield read
            transport.disconnect(False)
            await transport.wait_disconnected()

    def trade_ids(self) -> list[int]:
        """Return the ids of the trades published since the last look."""
        records = self.memory.records()
        return [int(each) for each in records[records["kind"] == 1]["trade_id"]]


async def until(there: Callable[[], bool]) -> None:
    """Wait for what nothing awaitable tells: that bytes were read."""
    for _ in range(1_000_000):
        if there():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not come")


class LatePeer(Peer):
    """A peer that has something left to send before all else."""

    def __init__(self, peer: Peer, late: bytes) -> None:
        super().__init__(peer.reader, peer.writer)
        self.late = late

    async def send(self, *parts: bytes) -> None:
        """See Peer."""
        late, self.late = self.late, b""
        await super().send(late, *parts)


@pytest.fixture(params=["past-picows", "through-picows"])
def client(request: pytest.FixtureRequest) -> Client:
    return Client(past_picows=request.param == "past-picows")


def test_frames_of_one_read_are_published_between_connection_up_and_down(client: Client) -> None:
    async def script(peer: Any) -> None:
        await peer.send(*(frame(trade(i)) for i in range(1, 6)))

    run(client.talk(script))
    records = client.memory.records()
    assert [int(r["kind"]) for r in records] == [7, 1, 1, 1, 1, 1, 7]
    assert int(records[0]["what"]) == Status.CONNECTION_UP
    assert int(records[-1]["what"]) == Status.CONNECTION_DOWN
    assert int(records[0]["connection"]) == int(records[-1]["connection"]) == 7
    assert int(records[1]["price"]) == 6154001000000
    assert len(set(records[1:6]["ts_recv"])) == 1
    assert int(records[0]["ts_recv"]) <= int(records[1]["ts_recv"]) <= time.time_ns()
    assert client.memory.counter("frames") == 5
    assert client.memory.counter("connects") == client.memory.counter("disconnects") == 1
    assert client.memory.counter("connections") == 0


def test_cursor_and_watermark_follow_each_read(client: Client) -> None:
    async def script(peer: Any) -> None:
        await peer.send(frame(trade(1)), frame(trade(2)))
        await peer.send(frame(b"", PING))
        await peer.receive()
        ring = client.memory.writers[0]
        assert ring.cursor == 3
        newest = client.memory.records()[-1]
        assert ring.watermark_ns >= int(newest["ts_recv"])

    run(client.talk(script))


def test_ping_last_in_the_buffer_is_answered_and_the_buffer_still_ends(client: Client) -> None:
    async def script(peer: Any) -> None:
        await peer.send(frame(trade(1)), frame(b"are you there", PING))
        assert await peer.receive() == (PONG, b"are you there")
        assert client.memory.writers[0].cursor == 2

    run(client.talk(script))
    assert client.memory.counter("pings") == 1


def test_ping_storm_is_answered_once_per_read_with_the_last_payload(client: Client) -> None:
    async def script(peer: Any) -> None:
        await peer.send(*(frame(b"%d" % i, PING) for i in range(500)))
        answers = [await peer.receive()]
        while answers[-1] != (PONG, b"499"):
            answers.append(await peer.receive())
        assert len(answers) < 10

    run(client.talk(script))
    assert client.memory.counter("pings") < 10


def test_fragments_are_joined_around_control_frames(client: Client) -> None:
    whole = trade(1)

    async def script(peer: Any) -> None:
        await peer.send(frame(whole[:20], fin=False))
        await peer.send(frame(b"now", PING))
        assert await peer.receive() == (PONG, b"now")
        await peer.send(frame(b"", CONTINUATION, fin=False))
        await peer.send(frame(whole[20:90], CONTINUATION, fin=False))
        await peer.send(frame(whole[90:], CONTINUATION), frame(trade(2)))

    run(client.talk(script))
    assert client.trade_ids() == [1, 2]
    assert client.memory.counter("frames") == 2


def test_fragmented_message_beyond_the_bound_is_refused_with_1009(client: Client) -> None:
    async def script(peer: Any) -> None:
        part = b" " * (FRAME_SIZE_MAX // 4)
        await peer.send(frame(part, fin=False))
        for _ in range(4):
            await peer.send(frame(part, CONTINUATION, fin=False))
        assert await peer.receive_close() == 1009

    run(client.talk(script))
    assert client.memory.counter("frames_too_long") == 1
    assert (Status.FRAME_REFUSED, 1, 1) in client.memory.statuses()


def test_fragmented_message_up_to_the_bound_is_taken(client: Client) -> None:
    whole = trade(1).ljust(FRAME_SIZE_MAX)

    async def script(peer: Any) -> None:
        half = FRAME_SIZE_MAX // 2
        await peer.send(frame(whole[:half], fin=False))
        await peer.send(frame(whole[half:], CONTINUATION))

    run(client.talk(script))
    assert client.trade_ids() == [1]


def test_frame_beyond_the_bound_is_counted_and_refused_with_1009(client: Client) -> None:
    async def script(peer: Any) -> None:
        await peer.send(frame(trade(1)), frame(b" " * (FRAME_SIZE_MAX + 1)))
        assert await peer.receive_close() == 1009

    run(client.talk(script))
    assert client.memory.counter("frames_too_long") == 1
    assert client.trade_ids() == [1]
    assert client.error is not None
    assert client.error.code == 1009


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param(lambda: frame(b"x", CONTINUATION), id="continuation-of-nothing"),
        pytest.param(
            lambda: frame(b"{", fin=False) + frame(trade(1)),
            id="message-inside-a-message",
        ),
        pytest.param(lambda: frame(trade(1), rsv=4), id="rsv1"),
        pytest.param(lambda: frame(trade(1), rsv=2), id="rsv2"),
        pytest.param(lambda: frame(trade(1), rsv=1), id="rsv3"),
        pytest.param(lambda: frame(b"x", PING, rsv=4), id="rsv-on-ping"),
        pytest.param(lambda: frame(b"x", 3), id="reserved-opcode"),
        pytest.param(lambda: frame(b"x", PING, fin=False), id="fragmented-ping"),
        pytest.param(lambda: frame(b"x" * 126, PING), id="long-ping"),
        pytest.param(lambda: b"\x81\x81maskx", id="masked"),
        pytest.param(lambda: b"\x81\x7e\x00\x7d".ljust(4 + 125), id="16-bit-length-below-126"),
        pytest.param(
            lambda: b"\x81\x7f" + struct.pack(">Q", 65535).ljust(8 + 65535),
            id="64-bit-length-below-65536",
        ),
        pytest.param(lambda: b"\x81\x7f" + b"\xff" * 8, id="64-bit-length-with-its-top-bit"),
    ],
)
def test_broken_framing_is_closed_with_1002_and_nothing_of_it_published(
    client: Client, parts: Callable[[], bytes]
) -> None:
    async def script(peer: Any) -> None:
        await peer.send(frame(trade(8)), parts(), frame(trade(9)))
        assert await peer.receive_close() == 1002

    run(client.talk(script))
    assert client.trade_ids() == [8]
    assert client.memory.counter("frames_protocol") == 1


def test_nothing_behind_a_close_is_taken(client: Client) -> None:
    async def script(peer: Any) -> None:
        await peer.send(
            frame(trade(1)),
            frame(b"\x03\xe9going", CLOSE),
            frame(trade(2)),
            frame(b"?", PING),
        )
        assert await peer.receive() == (CLOSE, b"\x03\xe8")  # and no PONG before it

    run(client.talk(script))
    assert client.trade_ids() == [1]


def test_close_without_a_code_is_answered_with_a_code_that_may_be_sent(client: Client) -> None:
    async def script(peer: Any) -> None:
        await peer.send(frame(b"", CLOSE))
        assert await peer.receive_close() == 1000

    run(client.talk(script))


def test_binary_where_text_is_due_is_counted_and_skipped(client: Client) -> None:
    async def script(peer: Any) -> None:
        await peer.send(
            frame(b"\x00\x01", BINARY),
            frame(b"\x00", BINARY, fin=False),
            frame(trade(8), CONTINUATION),
            frame(trade(9)),
        )

    run(client.talk(script))
    assert client.memory.counter("frames_binary") == 2
    records = client.memory.records()
    assert [int(each) for each in records[records["kind"] == 1]["trade_id"]] == [9]
    statuses = records[records["kind"] == 7]
    refused = statuses[statuses["what"] == Status.FRAME_REFUSED]
    assert [(int(r["first_lost"]), int(r["last_lost"])) for r in refused] == [(1, 2)]


def test_refused_frames_are_counted_told_and_the_rest_goes_on(client: Client) -> None:
    async def script(peer: Any) -> None:
        await peer.send(
            frame(b"{nonsense"),
            frame(b'{"e":"nobodyKnows","s":"BTCUSDT"}'),
            frame(trade(1, symbol="ETHUSDT")),
            frame(trade(2, price="99999999999999.1")),
            frame(trade(3)),
        )

    run(client.talk(script))
    counter = client.memory.counter
    assert counter("frames") == 5
    assert counter("frames_malformed") == 1
    assert counter("frames_unknown_event") == 1
    assert counter("frames_unknown_symbol") == 1
    assert counter("frames_value_refused") == 1
    records = client.memory.records()
    assert [int(r["trade_id"]) for r in records[records["kind"] == 1]] == [3]
    whats = [int(r["what"]) for r in records[records["kind"] == 7]]
    assert whats.count(Status.FRAME_REFUSED) == 1  # one for the read, naming both
    assert whats.count(Status.VALUE_REFUSED) == 1


def test_refused_frames_are_logged_once_a_second_with_an_excerpt(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(peer: Any) -> None:
        await peer.send(frame(b'{"first\n":' + b"x" * 300), *[frame(b"{")] * 50)

    with caplog.at_level(logging.WARNING, "mdsys.feed"):
        run(client.talk(script))
    (line,) = [r.getMessage() for r in caplog.records if "refused" in r.getMessage()]
    assert "connection 7" in line
    assert '{"first\\n":xxx' in line
    assert len(line) < 300
    assert client.memory.counter("log_suppressed") == 50


def refusals(memory: FeedMemory) -> list[tuple[int, int]]:
    """Return (first, last) of the refused frames told since the last look."""
    return [
        (first, last) for what, first, last in memory.statuses() if what == Status.FRAME_REFUSED
    ]


def test_flood_of_refused_frames_is_told_twice_and_counted_in_full(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_listener, "REFUSED_INTERVAL_S", 1000.0)

    async def script(peer: Any) -> None:
        ring = client.memory.writers[0]
        for _ in range(200):  # reads
            before_ns = ring.watermark_ns
            await peer.send(frame(b"{") * 100)
            await until(lambda: ring.watermark_ns != before_ns)  # noqa: B023 - called here
        await peer.send(frame(trade(1)))

    run(client.talk(script))
    records = client.memory.records()
    told = records[records["kind"] == 7]
    told = told[told["what"] == Status.FRAME_REFUSED]
    spans = [(int(each["first_lost"]), int(each["last_lost"])) for each in told]
    assert len(spans) == 2  # at once, and at the end
    assert spans[0][0] == 1
    assert spans[1] == (spans[0][1] + 1, 20_000)
    assert client.memory.counter("frames_malformed") == 20_000
    assert client.memory.counter("statuses") == 4
    assert [int(each) for each in records[records["kind"] == 1]["trade_id"]] == [1]


def test_refused_frames_are_told_in_time_also_when_nothing_more_comes(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_listener, "REFUSED_INTERVAL_S", 0.01)
    told: list[tuple[int, int]] = []

    def last_told() -> int:
        told.extend(refusals(client.memory))
        return told[-1][1] if told else 0

    async def script(peer: Any) -> None:
        for count in (2, 4, 6):
            await peer.send(frame(b"{"), frame(b"}"))
            await until(lambda: last_told() == count)  # noqa: B023 - called here
            ring = client.memory.writers[0]
            assert ring.cursor == ring.head

    run(client.talk(script))
    assert told[0][0] == 1
    assert told[-1][1] == 6
    assert all(late[0] == early[1] + 1 for early, late in itertools.pairwise(told))
    assert refusals(client.memory) == []


def test_answers_reach_the_handler_and_a_handler_that_fails_costs_nothing() -> None:
    client = Client()

    def fail(data: bytes) -> None:
        client.controls.append(data)
        raise RuntimeError("a bug")

    client.listener = FrameListener(client.memory.venue, 7, fail)
    answer = b'{"result":null,"id":1}'

    async def script(peer: Any) -> None:
        await peer.send(frame(answer), frame(trade(1)))

    run(client.talk(script))
    assert client.controls == [answer]
    assert client.trade_ids() == [1]
    assert client.memory.counter("frames_control") == 1


def test_server_that_hangs_up_inside_a_frame_costs_only_that_frame(client: Client) -> None:
    async def script(peer: Any) -> None:
        await peer.send(frame(trade(1)), frame(trade(2))[:-7])

    run(client.talk(script))
    assert client.trade_ids() == [1]
    assert client.memory.counter("disconnects") == 1


def test_our_close_is_sent_and_does_not_wait_for_a_server_that_never_answers(
    client: Client,
) -> None:
    async def main() -> None:
        closed = asyncio.Event()

        async def script(peer: Any) -> None:
            assert await peer.receive_close() == 1000
            await peer.send(frame(trade(1)))  # too late: ignored
            await closed.wait()

        async with serving(script) as address:
            transport = await open_socket(f"ws://{address}", client.listener, tls=TLS)
            client.listener.close(1000, "")
            await transport.wait_disconnected()
            closed.set()

    run(main())
    assert client.trade_ids() == []


def test_peer_that_takes_nothing_gets_no_pongs_until_it_does(client: Client) -> None:
    seen = asyncio.Event()
    client.listener = FrameListener(client.memory.venue, 7, lambda _: seen.set())

    async def script(peer: Peer) -> None:
        await peer.send(frame(b"a", PING))
        assert await peer.receive() == (PONG, b"a")
        client.listener.pause_writing()  # as the transport calls it above its high-water mark
        await peer.send(frame(b"b", PING))
        await peer.send(frame(b'{"result":null,"id":1}'))
        await seen.wait()
        client.listener.resume_writing()
        await peer.send(frame(b"c", PING))
        assert await peer.receive() == (PONG, b"c")

    run(client.talk(script))
    assert client.memory.counter("pings") == 2


def test_nothing_is_taken_after_a_close_that_picows_refuses(client: Client) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(frame(trade(8)), frame(b"\x03\xe7", CLOSE))  # 999 is no code
        assert await peer.receive_close() == 1002
        await peer.send(frame(trade(9)), frame(trade(10))[:9])

    run(client.talk(script))
    assert client.trade_ids() == [8]


def test_firehose_is_read_in_parts_of_a_bounded_size(client: Client) -> None:
    sizes: list[int] = []

    async def main() -> None:
        async def script(peer: Peer) -> None:
            for first in range(1, 100_001, 10_000):  # 13 MB
                await peer.send(*(frame(trade(i)) for i in range(first, first + 10_000)))

        async with serving(script) as address:
            transport = await open_socket(f"ws://{address}", client.listener, tls=TLS)
            protocol: Any = transport.underlying_transport.get_protocol()
            while not transport.is_disconnected:
                sizes.append(len(protocol.get_buffer(-1)))
                await asyncio.sleep(0)

    run(main())
    assert client.memory.counter("frames") == 100_000
    assert 1 << 16 <= max(sizes) <= 1 << 18


@pytest.mark.parametrize("head", [b"\x81\xfe", b"\x81\x7e\x00\x05", b"\x83"])
def test_frame_that_its_head_condemns_is_not_waited_for(client: Client, head: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(frame(trade(8)), head.ljust(4))
        assert await peer.receive_close() == 1002

    run(client.talk(script))
    assert client.trade_ids() == [8]


def test_frames_that_come_with_the_answer_to_the_upgrade_are_taken() -> None:
    client = Client()

    async def main() -> None:
        async def script(peer: Peer) -> None:
            answer = acceptance(await peer.reader.readuntil(b"\r\n\r\n"))
            second = frame(trade(2))
            await peer.send(answer, frame(trade(1)), frame(b"there?", PING), second[:50])
            assert await peer.receive() == (PONG, b"there?")
            assert client.memory.writers[0].cursor == 2  # connection_up and the trade
            await peer.send(second[50:], frame(trade(3)))

        async with serving(script, raw=True) as address:
            transport = await open_socket(f"ws://{address}", client.listener, tls=TLS)
            await transport.wait_disconnected()

    run(main())
    assert client.trade_ids() == [1, 2, 3]


def test_handler_that_closes_ends_the_read(client: Client) -> None:
    client.listener = FrameListener(
        client.memory.venue, 7, lambda _: client.listener.close(1000, "enough")
    )

    async def script(peer: Peer) -> None:
        await peer.send(frame(trade(1)), frame(b'{"result":null,"id":1}'), frame(trade(2)))
        assert await peer.receive_close() == 1000
        await peer.send(frame(b"\x03\xe8", CLOSE))

    run(client.talk(script))
    assert client.trade_ids() == [1]


class Watched(FrameListener):
    """Notes what comes by way of picows."""

    seen: list[WSMsgType]

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """See WSListener."""
        self.seen.append(frame.msg_type)
        super().on_ws_frame(transport, frame)


def test_picows_sees_nothing_but_what_is_no_text_and_what_came_behind_it_in_a_read() -> None:
    client = Client()
    client.listener = listener = Watched(client.memory.venue, 7, client.controls.append)
    listener.seen = []

    async def script(peer: Peer) -> None:
        await peer.send(*(frame(trade(i)) for i in range(1, 11)))
        await peer.send(frame(trade(11)), frame(b"a", PING), frame(trade(12)))
        assert await peer.receive() == (PONG, b"a")
        await peer.send(frame(trade(13)), frame(b"b", PING))
        assert await peer.receive() == (PONG, b"b")

    run(client.talk(script))
    assert client.trade_ids() == list(range(1, 14))
    kinds = [WSMsgType.PONG, WSMsgType.PING, WSMsgType.TEXT, WSMsgType.PING]
    assert listener.seen == kinds


def test_text_frame_within_another_frame_is_no_message_wherever_reads_begin() -> None:
    client = Client()
    outer = frame(frame(trade(666)), BINARY)

    async def main() -> None:
        async with client.reading() as read:
            for cut in range(1, len(outer)):
                read(outer[:cut])
                read(outer[cut:])
                read(frame(b"", PONG) + outer[:cut])
                read(outer[cut:])
                read(frame(trade(cut)))

    run(main())
    assert client.trade_ids() == list(range(1, len(outer)))
    assert client.memory.counter("frames_binary") == 2 * (len(outer) - 1)


def test_message_inside_a_message_is_refused_also_in_a_read_of_its_own() -> None:
    client = Client()

    async def main() -> None:
        async with client.reading() as read:
            read(frame(b"{", fin=False))
            read(frame(trade(1)))

    run(main())
    assert client.trade_ids() == []
    assert client.memory.counter("frames_protocol") == 1


@pytest.mark.parametrize("seed", range(8))
def test_each_message_is_taken_once_and_in_order_however_reads_cut_the_stream(seed: int) -> None:
    client = Client()
    chance = random.Random(seed)
    answers: list[bytes] = []

    def answer() -> bytes:
        answers.append(b'{"result":null,"id":1}'.ljust(chance.choice((0, 124, 125, 126, 127))))
        return frame(answers[-1])

    def message(number: int) -> bytes:
        sizes = (0, 126, 127, 255, 256, 65535, 65536, 300_000)
        whole = trade(number).ljust(chance.choice(sizes) if chance.random() < 0.1 else 0)
        cut = chance.randrange(len(whole))
        match chance.randrange(50):
            case 0:
                return frame(b"ping", PING) + frame(whole)
            case 1:
                return frame(b"binary", BINARY) + frame(whole)
            case 2:
                rest = frame(whole[cut:], CONTINUATION)
                return frame(whole[:cut], fin=False) + frame(b"", PONG) + rest
            case 3 | 4 | 5 | 6:
                return answer() + frame(whole)
        return frame(whole)

    async def main() -> None:
        async with client.reading() as read:
            binaries = 0
            for first in range(1, 2000, 50):
                numbers = range(first, first + 50)
                parts = [message(number) for number in numbers]
                stream = b"".join(parts)
                binaries += stream.count(b"binary")
                ends = [0]
                for part in parts:
                    ends.append(ends[-1] + len(part))
                near = [max(chance.choice(ends) + chance.randrange(-9, 9), 0) for _ in range(20)]
                cuts = sorted({*near, *chance.choices(ends, k=10), 0, len(stream)})
                for start, end in itertools.pairwise(cuts):
                    read(stream[start:end])
                assert client.trade_ids() == list(numbers)
                assert client.controls == answers
                assert client.memory.counter("frames_binary") == binaries

    run(main())


def speak(client: Client, decoder: Any) -> None:
    """Let the client's frames go to another decoder."""
    memory = client.memory
    memory.venue = VenueFeed(
        memory.feed, decoder, "BINANCE", ["BTCUSDT"], memory.symbols, memory.cache
    )
    client.listener = FrameListener(memory.venue, 7, client.controls.append)


def test_book_is_unusable_from_the_torn_frame_on_also_when_refusals_were_told_just_now(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_listener, "REFUSED_INTERVAL_S", 1000.0)
    speak(client, "coinbase_exchange")
    whole = b'{"type":"snapshot","product_id":"BTCUSDT","bids":[["100","1"]],"asks":[]}'

    async def script(peer: Any) -> None:
        await peer.send(*map(frame, (b"{", whole, b"{", b"{", whole, whole[:40], whole, b"{")))

    run(client.talk(script))
    records = client.memory.records()
    whats = [int(each["what"]) for each in records if each["kind"] == Kind.STATUS]
    assert whats.count(Status.RESYNC) == 3  # one for each that was in step
    bids, asks = np.zeros((10, 2), np.int64), np.zeros((10, 2), np.int64)
    book = client.memory.cache.load_book(1, bids, asks)
    assert book is not None
    assert book[3] == 0


class Made:
    """A decoder of a user's own, whose frames name what it makes of them."""

    def __init__(self, **made: list[Record]) -> None:
        self._made = made

    def decode(
        self, frame: bytes, ts_recv: int, connection: int
    ) -> tuple[FrameResult, list[Record]]:
        """See mdsys.feed.venue.Decoder."""
        return FrameResult.OK, self._made[frame.decode()]


def made(kind: Kind, flags: int = Flag.LAST, price: int = 1, symbol_id: int = 1) -> Record:
    return Record(5, 5, symbol_id, int(kind), int(flags), 8, 8, (price, 2, ABSENT, ABSENT))


BID, ASK = made(Kind.LEVEL, Flag.BUY | Flag.SNAPSHOT), made(Kind.LEVEL, Flag.SELL | Flag.LAST)


@pytest.mark.parametrize(
    "bad",
    [
        [made(Kind.TRADE), made(Kind.TRADE, symbol_id=99)],
        [made(Kind.TRADE), made(Kind.TRADE, price=1 << 63)],
        [BID, made(Kind.TRADE), ASK],
        [BID, made(Kind.STATUS), ASK],
        [BID, made(Kind.LEVEL, symbol_id=2), ASK],
        [made(Kind.TRADE), BID],
        [made(Kind.TRADE), made(Kind.BAR)],
        [made(Kind.TRADE), made(Kind.BAR_VOLUME)],
        [made(Kind.TRADE), made(Kind.TRADE, symbol_id=0)],
        [made(Kind.TRADE), made(Kind.TICKER)._replace(late=True)],
        [made(Kind.LEVEL, Flag.LAST)],
        [made(Kind.LEVEL, Flag.SNAPSHOT)],
        [BID, made(Kind.LEVEL, Flag.SNAPSHOT | Flag.LAST)],
    ],
)
def test_frame_whose_records_a_decoder_in_python_got_wrong_publishes_none_of_them(
    bad: list[Record],
) -> None:
    client = Client()
    speak(client, Made(fill=[made(Kind.TRADE, price=777)] * 1024, bad=bad, good=[BID, ASK]))

    async def script(peer: Any) -> None:
        await peer.send(frame(b"fill"), frame(b"bad"), frame(b"good"))

    run(client.talk(script))
    records = client.memory.records()
    assert client.memory.counter("frames_malformed") == 1
    assert client.memory.counter("trades") == 1024
    ticks = records[records["kind"] != Kind.STATUS]
    assert [int(each["kind"]) for each in ticks[-2:]] == [Kind.LEVEL, Kind.LEVEL]
    assert client.memory.counter("levels") == 2


class Toy(SimpleDecoder):
    """Frames that are a trade's id, or ``whole`` or ``change`` and a book's."""

    def read(self, frame: bytes, out: Out) -> None:
        """See SimpleDecoder."""
        kind, number = frame.decode().split()
        if kind == "trade":
            out.trade("BTCUSDT", 7, number, "1", trade_id=int(number))
        else:
            bids = [("5", "1")] if kind != "empty" else []
            out.book("BTCUSDT", 7, bids, [], snapshot=kind != "change", update_id=int(number))


def talk_toy(client: Client, decoder: Any, *said: str) -> list[Any]:
    """Have a decoder in Python read frames; return the records that they make."""
    speak(client, decoder)

    async def script(peer: Any) -> None:
        await peer.send(*(frame(each.encode()) for each in said))

    run(client.talk(script))
    connection = (Status.CONNECTION_UP, Status.CONNECTION_DOWN)
    records = client.memory.records()
    return [
        each for each in records if each["kind"] != Kind.STATUS or each["what"] not in connection
    ]


def test_late_trade_of_a_decoder_in_python_passes_the_cell_and_all_is_counted() -> None:
    client = Client()
    told = talk_toy(client, Toy({"BTCUSDT": SymbolInfo(1)}), *map("trade {}".format, (1, 4, 2, 4)))
    assert [int(each["trade_id"]) for each in told if each["kind"] == Kind.TRADE] == [1, 4, 2]
    cell = np.zeros(1, TICK)
    client.memory.cache.load(1, 1, cell)
    assert int(cell[0]["trade_id"]) == 4
    names = ("trades", "gaps", "gap_ids", "reordered", "duplicates")
    assert [client.memory.counter(name) for name in names] == [3, 1, 2, 1, 1]


def test_ids_of_a_decoder_in_python_stay_in_the_cell_for_the_feed_after_it() -> None:
    client = Client()
    talk_toy(client, Toy({"BTCUSDT": SymbolInfo(1)}), "trade 7", "whole 40", "change 41", "trade 6")
    assert client.memory.cache.venue_ids(1) == (7, 41, 0)
    info = SymbolInfo(1, 8, 8, *client.memory.cache.venue_ids(1)[:2])
    told = talk_toy(client, Toy({"BTCUSDT": info}), "trade 9", "whole 50")
    gaps = [each for each in told if each["kind"] == Kind.STATUS and each["what"] == Status.GAP]
    assert [(int(g["first_lost"]), int(g["last_lost"])) for g in gaps] == [(8, 8), (42, 49)]


def test_empty_book_of_a_decoder_in_python_is_published_and_usable() -> None:
    client = Client()
    told = talk_toy(client, Toy({"BTCUSDT": SymbolInfo(1)}), "whole 1", "empty 2")
    levels = [each for each in told if each["kind"] == Kind.LEVEL]
    whole = Flag.SNAPSHOT | Flag.LAST
    assert [(int(each["flags"]), int(each["price"])) for each in levels] == [
        (whole | Flag.BUY, 5 * 10**8),
        (whole, ABSENT),
    ]


def test_quote_of_a_decoder_in_python_that_both_sockets_bring_is_published_once() -> None:
    client = Client()
    speak(client, Made(quote=[made(Kind.QUOTE)]))
    client.memory.venue.overlap(1)

    async def script(peer: Any) -> None:
        await peer.send(frame(b"quote"), frame(b"quote"))

    run(client.talk(script))
    assert client.memory.counter("quotes") == 1
    assert client.memory.counter("duplicates") == 1


# ---- hops ----


@pytest.mark.parametrize(("frames", "timed"), [(1, 1), (61, 1), (62, 2), (611, 11)])
def test_one_frame_in_61_is_timed_however_many_a_read_brings(frames: int, timed: int) -> None:
    client = Client()

    async def main() -> None:
        async with client.reading() as read:
            read(b"".join(frame(trade(number)) for number in range(1, frames + 1)))

    run(main())
    assert client.memory.histogram("recv_to_decode").count == timed
    assert client.memory.histogram("decode_to_ring").count == timed
    assert client.memory.histogram("ring_to_flush").count == 1
    assert client.memory.histogram("recv_to_ring").count == frames


def test_one_read_in_61_is_timed_to_its_flush() -> None:
    client = Client()

    async def main() -> None:
        async with client.reading() as read:
            for number in range(1, 63):
                read(frame(trade(number)))
            read(frame(b"", PONG))  # which brings nothing that is flushed

    run(main())
    assert client.memory.histogram("ring_to_flush").count == 2


def test_hops_of_a_frame_lie_within_the_way_of_its_read() -> None:
    client = Client()

    async def main() -> None:
        async with client.reading() as read:
            read(frame(trade(1)))

    run(main())
    whole = client.memory.histogram("recv_to_ring")
    first, second = map(client.memory.histogram, ("recv_to_decode", "decode_to_ring"))
    assert first.min_ns >= 0
    assert second.min_ns > 0
    assert first.sum_ns + second.sum_ns <= whole.sum_ns


def test_refused_frame_has_reached_the_decoder_and_not_the_ring() -> None:
    client = Client()

    async def main() -> None:
        async with client.reading() as read:
            read(frame(b"{nonsense"))

    run(main())
    assert client.memory.counter("frames_malformed") == 1
    assert client.memory.histogram("recv_to_decode").count == 1
    assert client.memory.histogram("decode_to_ring").count == 0


def test_depths_of_the_feeds_queues_are_what_was_last_said() -> None:
    memory = FeedMemory(["BTCUSDT"])
    listener = FrameListener(memory.venue, 7, lambda _: None)
    memory.feed.note_reports(5)
    listener.count_waiting(1)
    listener.count_waiting(1)
    listener.count_waiting(-1)
    assert (memory.counter("reports_waiting"), memory.counter("messages_waiting")) == (5, 1)
    Feed(memory.writers, memory.counter_segment, 0)  # its successor has none yet
    assert (memory.counter("reports_waiting"), memory.counter("messages_waiting")) == (0, 0)


BAR = (
    b'[{"T":"b","S":"BTCUSDT","o":1.5,"h":2.5,"l":1.25,"c":2,"v":7,"n":3,"vw":1.75,'
    b'"t":"2021-02-22T19:15:00Z"}]'
)


def test_bar_bears_the_time_of_its_beginning_which_is_no_way_and_no_clock() -> None:
    client = Client()
    memory = client.memory
    speak(client, "alpaca")
    memory.feed.connection_state(7, 3)

    async def script() -> None:
        async with client.reading() as read:
            read(frame(BAR))

    run(script())
    (connection,) = memory.counter_segment.connections(0)
    assert memory.counter("bars") == 1
    assert memory.histogram("recv_to_ring").count == 2
    assert memory.histogram("event_to_recv").count == 0
    assert connection["offset_ns"] == ABSENT
