"""A feed process against a venue that does what venues must not, seen by a reader."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

import mdsys
from mdsys.daemon.stat_command import take_picture
from mdsys.feed.frame import FRAME_SIZE_MAX
from tests.daemons import Venue, daemon, instance, read_until, statuses, trade, trade_ids

pytestmark = pytest.mark.system
Status = mdsys.Status


@pytest.fixture
def name() -> Iterator[str]:
    with instance() as each:
        yield each


def test_feed_outlives_everything_a_venue_can_send_and_loses_nothing_that_was_good(
    tmp_path: Path, name: str
) -> None:
    with Venue().listening() as venue, daemon(tmp_path, venue.url, name=name) as running:
        pid = running.feed_pid()
        running.wait_ready()
        good = venue.next_socket()
        with mdsys.attach(name) as md:
            reader = md.reader()
            good.send(
                trade("BTCUSDT", 1),
                '{"e":"trade"',
                trade("BTCUSDT", 2)[:-9],
                b"\x00\x01binary",
                "",
                "[" * 5000,
                '{"e":"weather","s":"BTCUSDT"}',
                trade("STRANGER", 7),
                trade("BTCUSDT", 2, "99999999999999999999"),
                trade("BTCUSDT", 3, "0.123456789"),
                trade("BTCUSDT", 4),
            )
            good.send_raw(b"\x81\x7e\x01\x00{half a frame")
            good.hang_up()

            too_long = venue.next_socket()
            too_long.send(trade("BTCUSDT", 5))
            with suppress(ConnectionClosed):  # it need not hear the end of it
                too_long.send("x" * (FRAME_SIZE_MAX + 1))

            broken = venue.next_socket()
            broken.send(trade("BTCUSDT", 6))
            broken.send_raw(b"\xf1\x02{}")  # RSV bits

            last = venue.next_socket()
            last.send(trade("BTCUSDT", 7))
            ticks = read_until(reader, lambda ticks: 7 in trade_ids(ticks))
        assert trade_ids(ticks) == [1, 4, 5, 6, 7]  # 2 and 3 had values that do not fit
        whats = statuses(ticks)
        assert whats.count(Status.CONNECTION_DOWN) == whats.count(Status.CONNECTION_UP) == 3
        assert Status.GAP not in whats
        assert whats.count(Status.VALUE_REFUSED) == 2
        assert Status.FRAME_REFUSED in whats
        running.wait_for_line("1 stream confirmed", 4)
        counters = take_picture(name)["feeds"][0]["counters"]
        assert counters["frames_malformed"] == 4
        assert counters["frames_unknown_event"] == 1
        assert counters["frames_unknown_symbol"] == 1
        assert counters["frames_value_refused"] == 2
        assert counters["frames_binary"] == 1
        assert counters["frames_too_long"] == 1
        assert counters["frames_protocol"] == 1
        assert counters["disconnects"] == 3
        assert counters["connections"] == 1
        assert counters["subscriptions_confirmed"] == 1
        assert writer_pid(name) == pid
        assert running.end() == 0
    assert "frame refused: malformed" in running.log
    assert "closed by us: 1009" in running.log
    assert "closed by us: 1002" in running.log


def writer_pid(name: str) -> int:
    """Return the process that writes ring 0."""
    with mdsys.attach(name) as md:
        return md.rings[0].writer_pid


def test_daemon_started_before_its_venue_finds_it_when_it_comes(tmp_path: Path, name: str) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with daemon(tmp_path, f"ws://127.0.0.1:{port}", name=name) as running:
            running.wait_for_line(r"cannot connect to ws://127\.0\.0\.1:\d+/ws: .*; next try in")
            taken.close()
            with Venue().listening(port):
                running.wait_ready()
                assert take_picture(name)["feeds"][0]["counters"]["connect_failures"] >= 1


def test_venue_that_goes_away_is_told_and_found_again(tmp_path: Path, name: str) -> None:
    with Venue().listening() as venue, daemon(tmp_path, venue.url, name=name) as running:
        running.wait_ready()
        with mdsys.attach(name) as md:
            reader = md.reader()
            venue.next_socket().hang_up()
            venue.next_socket().send(trade("BTCUSDT", 1))
            ticks = read_until(reader, lambda ticks: bool(trade_ids(ticks)))
    assert statuses(ticks) == [Status.CONNECTION_DOWN, Status.CONNECTION_UP]
    assert "the server hung up without a CLOSE" in running.log


def test_feed_that_is_told_to_stop_by_itself_is_started_again(tmp_path: Path, name: str) -> None:
    with Venue().listening() as venue, daemon(tmp_path, venue.url, name=name) as running:
        os.kill(running.feed_pid(), signal.SIGTERM)
        running.wait_for_line("feed 0 ended with code 0; starting it again")
        assert running.feed_pid(life=2)


def test_pings_are_answered_while_data_flows(tmp_path: Path, name: str) -> None:
    with Venue().listening() as venue, daemon(tmp_path, venue.url, name=name) as running:
        running.wait_ready()
        client = venue.next_socket()
        for i in range(1, 50):
            client.send(trade("BTCUSDT", i))
            pong = client.socket.ping(b"%d" % i)
            assert pong.wait(30)
        with mdsys.attach(name) as md:
            last = md.last_trade("BINANCE:BTCUSDT")
            assert last is not None
            assert int(last["trade_id"]) == 49
