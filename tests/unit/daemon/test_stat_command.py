"""The text of ``mdsys stat``, and who reads; the rest of the picture is held by tests/system."""

from __future__ import annotations

import io
import json
import os
from typing import Any

import pytest

import mdsys
from mdsys._listener import Feed
from mdsys.consume.registration import register
from mdsys.daemon.stat_command import print_picture, take_picture
from mdsys.ring import control_socket
from tests.control import serving
from tests.instances import geometry, running, trades, writer

LATENCY = {"count": 7, "min": 5, "p50": 1234, "p99": None, "p999": None, "max": 72_102_554_237_186}


def picture(**changes: Any) -> dict[str, Any]:
    """Return what take_picture returns for a small instance."""
    return {
        "instance": "unit",
        "state": "running",
        "supervisor": {"pid": 7, "alive": True},
        "dir": "/dev/shm",
        "symbols": 2,
        "system": {"total_messages_processed": 1_234_567, "peak_throughput": 8_901},
        "buffer_pool": {"overall_utilization": 0.25},
        "consumer": {"drop_rate": 0.125},
        "subscriptions": {"active_connections": 3},
        "rings": [],
        "balance": {"symbols_max_to_mean": 1.0, "records_max_to_mean": 1.0},
        "feeds": [
            {
                "feed": 0,
                "pid": 8,
                "alive": True,
                "rings": [0],
                "counters": {"frames": 1_000, "gaps": 0},
                "latency_ns": {"recv_to_ring": LATENCY},
            }
        ],
        "readers": [],
        "readers_unknown": None,
        **changes,
    }


def text(shown: dict[str, Any]) -> str:
    out = io.StringIO()
    print_picture(shown, out)
    return out.getvalue()


def test_percentile_beyond_the_buckets_is_not_shown_as_a_number() -> None:
    line = next(each for each in text(picture()).splitlines() if "recv_to_ring" in each)
    assert line.split(maxsplit=1)[1] == (
        "p50 1.23 µs  p99 beyond 17 min  p999 beyond 17 min  max 20 h 1 min"
    )


def test_stat_prints_a_latency_in_the_unit_that_top_has_it_in() -> None:
    shown = picture()
    shown["feeds"][0]["latency_ns"] = {"recv_to_ring": {**LATENCY, "p50": 1_802_239, "max": 850}}
    line = next(each for each in text(shown).splitlines() if "recv_to_ring" in each)
    assert "p50 1.80 ms" in line
    assert line.endswith("max 850 ns")


def test_one_symbol_is_no_plural() -> None:
    assert "2 symbols," in text(picture())
    assert "1 symbol," in text(picture(symbols=1))


def test_counters_at_zero_are_left_out() -> None:
    shown = text(picture())
    assert "frames" in shown
    assert "gaps" not in shown


NO_LATENCY = {"count": 0, "min": None, "p50": None, "p99": None, "p999": None, "max": None}


def reader(**changes: Any) -> dict[str, Any]:
    """Return what the daemon tells of one reader."""
    return {
        "reader": (1 << 32) + 1,
        "name": "s1",
        "pid": 4711,
        "core": 3,
        "core_now": 3,
        "policy": "drop_oldest",
        "wait": "park",
        "batch": {"now": 1, "min": 1, "max": 200},
        "lag": 1_234,
        "lost": 0,
        "dropped": 77,
        "idle_s": 2.4,
        "rings": [{"ring": 0, "ejected": None}, {"ring": 3, "ejected": None}],
        "latency_ns": {"recv_to_handler": LATENCY},
        **changes,
    }


def test_each_reader_has_a_line_under_the_words_that_explain_it() -> None:
    lines = text(
        picture(readers=[reader(), reader(name="s2", core=None, core_now=None)])
    ).splitlines()
    head = next(number for number, line in enumerate(lines) if line.startswith("reader "))
    assert " ".join(lines[head].split()) == (
        "reader pid core policy wait batch lag lost dropped idle recv_to_handler"
    )
    assert " ".join(lines[head + 1].split()) == (
        "s1 4711 3 drop_oldest park 1 1,234 0 77 2 s p50 1.23 µs p99 beyond 17 min"
    )
    assert lines[head + 2].split()[:3] == ["s2", "4711", "-"]
    assert len(lines) == head + 3


@pytest.mark.parametrize(
    ("wished", "now", "shown"),
    [(None, None, "-"), (None, 2, "2"), (3, 3, "3"), (3, None, "- (3)"), (3, 2, "2 (3)")],
)
def test_reader_that_is_not_on_its_core_shows_both(
    wished: int | None, now: int | None, shown: str
) -> None:
    line = text(picture(readers=[reader(core=wished, core_now=now)])).splitlines()[-1]
    assert " ".join(line.split()).startswith(f"s1 4711 {shown} drop_oldest")


def test_reader_without_a_handler_has_no_latency() -> None:
    shown = text(picture(readers=[reader(latency_ns={"recv_to_handler": NO_LATENCY})]))
    assert shown.splitlines()[-1].endswith(" s")


def test_reader_that_was_ejected_is_told_with_ring_and_sequence() -> None:
    rings = [{"ring": 0, "ejected": None}, {"ring": 3, "ejected": 99}]
    shown = text(picture(readers=[reader(policy="lossless", rings=rings)]))
    assert shown.splitlines()[-1] == "  ejected from ring 3: not lossless from 99 on"


def test_nobody_who_reads_and_nobody_who_knows_are_told_apart() -> None:
    assert text(picture()).endswith("\nno registered readers\n")
    unknown = picture(readers=None, readers_unknown="no daemon can be reached")
    assert text(unknown).endswith("\nwho reads is not known: no daemon can be reached\n")


def test_readers_are_those_that_the_daemon_names_and_null_when_it_is_gone() -> None:
    with running(geometry(rings=2)) as instance:
        with serving(instance):
            registered = register(
                instance.name, os.getpid(), "s1", "conflate", "park", [0, 1], core=0
            )
            assert registered is not None
            alive = take_picture(instance.name)
            registered.close()
        dead = take_picture(instance.name)
    (shown,) = alive["readers"]
    assert (shown["name"], shown["pid"], shown["reader"]) == (
        "s1",
        os.getpid(),
        registered.reader,
    )
    assert alive["readers_unknown"] is None
    assert dead["readers"] is None
    assert dead["readers_unknown"] == f"no daemon of instance {instance.name!r} can be reached"
    assert "s1" in text(alive)
    assert json.loads(json.dumps(alive)) == alive


def test_daemon_that_does_not_answer_is_no_reason_to_tell_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(control_socket, "TIMEOUT_S", 0.05)
    with running() as instance:
        path = control_socket.socket_path(instance.lock.path.parent, instance.name)
        with control_socket.listen(path, os.getegid()):
            shown = take_picture(instance.name)
        path.unlink()
    assert shown["readers"] is None
    assert shown["readers_unknown"] == "the daemon did not answer in 0.05 s"
    assert shown["state"] == "running"


# The summary


def test_summary_is_of_what_the_rings_hold_and_of_what_readers_gave_up() -> None:
    with running(geometry(rings=2, depth=64), symbols=2) as instance:
        first, second = writer(instance, 0), writer(instance, 1)
        with serving(instance), mdsys.attach(instance.name) as md:
            reader = md.reader(policy="drop_oldest")
            for number in range(10):
                first.publish_records(trades(10, first=10 * number))  # more than a ring holds
            second.publish_records(trades(16, symbol_id=2))
            first.flush(1)
            second.flush(1)
            while len(reader.poll(8)):
                pass
            behind = trades(24, symbol_id=2, first=16)
            for part in (behind[:12], behind[12:]):
                second.publish_records(part)
            second.flush(2)
            shown = take_picture(instance.name)
            given_up = reader.lost + reader.dropped
            reader.close()
        dead = take_picture(instance.name)
    assert given_up > 0
    assert shown["system"]["total_messages_processed"] == 140
    assert shown["buffer_pool"]["overall_utilization"] == 24 / 128
    assert shown["consumer"]["drop_rate"] == given_up / 116
    assert [ring["unread"] for ring in shown["rings"]] == [0, 24]
    assert dead["system"]["total_messages_processed"] == 140
    assert dead["buffer_pool"]["overall_utilization"] is None
    assert dead["consumer"]["drop_rate"] is None


def test_nobody_reads_is_nothing_dropped() -> None:
    with running() as instance, serving(instance):
        shown = take_picture(instance.name)
    assert shown["consumer"]["drop_rate"] == 0
    assert shown["buffer_pool"]["overall_utilization"] == 0


def test_connection_is_active_while_it_has_a_socket_and_the_daemon_lives() -> None:
    with running() as instance:
        feed = Feed({0: writer(instance)}, instance.counters, 0)
        for number, state in enumerate((1, 2, 3, 3, 4, 5), 1):
            feed.connection_state(number, state)
        shown = take_picture(instance.name)
        instance.symbols.stop()
        instance.symbols.take_over(os.getpid(), 1, 1)  # of another start: it is gone
        dead = take_picture(instance.name)
    states = [each["state"] for each in shown["connections"]]
    assert states == ["connecting", "open", "ready", "ready", "waiting", "denied"]
    assert shown["subscriptions"]["active_connections"] == 3
    assert dead["subscriptions"]["active_connections"] == 0
    assert dead["state"] == "dead"


def test_summary_is_one_line_that_says_what_is_not_known() -> None:
    line = text(picture()).splitlines()[1]
    assert line == (
        "1,234,567 messages, at most 8,901 a second; 25 % of the rings unread, "
        "12 % dropped or lost; 3 connections up"
    )
    unknown = picture(buffer_pool={"overall_utilization": None}, consumer={"drop_rate": None})
    assert "an unknown share of the rings unread" in text(unknown)
