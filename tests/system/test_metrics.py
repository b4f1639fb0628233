"""A daemon, its venue, a reader, and Debian's Prometheus: what is scraped, asked and alerted on."""

from __future__ import annotations

import json
import math
import re
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import mdsys
from mdsys.counters.schema import Metric, metrics
from mdsys.daemon.stat_command import take_picture
from mdsys.metrics.collector import last_minute_name
from tests.daemons import PATIENCE_S, daemon, instance
from tests.prometheus import Prometheus, free_port, needs_prometheus, prometheus, promtool
from tests.simulated import daemon_on, street, venue_text

pytestmark = pytest.mark.system

BOARDS = sorted((Path(__file__).parent.parent.parent / "deploy" / "grafana").glob("*.json"))


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Give an instance's name and the address of its numbers; a consumer reads all it has."""
    port = free_port()
    folder = tmp_path_factory.mktemp("daemon")
    with (
        instance() as name,
        street(["binance"], rate=500) as venues,
        daemon_on(
            folder,
            name,
            f'[metrics]\nlisten = "127.0.0.1:{port}"\n',
            venue_text("binance", venues["binance"]),
            rings=2,
        ) as running,
    ):
        running.wait_ready()
        seen = threading.Event()
        consumer = mdsys.Consumer(name, lambda ticks: seen.set(), name="counted")
        reading = threading.Thread(target=consumer.run)
        reading.start()
        try:
            assert seen.wait(PATIENCE_S)
            counted_when(name, lambda reader: reader["received"] > 0)
            yield name, running.wait_for_line(r"metrics at (\S+)").group(1)
        finally:
            consumer.stop()
            reading.join(PATIENCE_S)


def counted_when(name: str, enough: Callable[[dict[str, Any]], bool]) -> None:
    """Wait until the consumer has written down enough: it does so after its handler returned."""
    deadline = time.monotonic() + PATIENCE_S
    while not any(enough(each) for each in take_picture(name)["readers"] or ()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def server(
    scraped: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """Give a Prometheus that has scraped often enough for every rate."""
    target = re.fullmatch(r"http://([^/]+)/metrics", scraped[1])
    assert target
    with prometheus(tmp_path_factory.mktemp("prometheus"), target.group(1)) as each:
        each.until(lambda: bool(each.query("count_over_time(mdsys_up[1m]) > 2")), "it has scraped")
        yield each


def text_of(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
        body = answer.read()
        assert isinstance(body, bytes)
        return body


@needs_prometheus
def test_promtool_has_nothing_to_say_of_a_real_scrape(scraped: tuple[str, str]) -> None:
    assert promtool("check", "metrics", text=text_of(scraped[1])) == ""


def test_numbers_are_those_that_stat_shows(scraped: tuple[str, str]) -> None:
    name, url = scraped
    found = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text_of(url).decode())
        for sample in family.samples
    }
    (feed,) = take_picture(name)["feeds"]
    own = (("feed", "0"), ("system", name))
    assert 0 < found["mdsys_feed_records_total", own] <= feed["counters"]["records"]
    assert found["mdsys_feed_connections", own] == feed["counters"]["connections"] == 1
    assert found["mdsys_feed_up", own] == 1
    assert any(
        each == "mdsys_reader_records_total" and value > 0 and dict(labels)["reader"] == "counted"
        for (each, labels), value in found.items()
    )
    published = found["mdsys_feed_recv_to_ring_seconds_count", own]
    p99_s = found[
        "mdsys_feed_recv_to_ring_last_minute_seconds", (("feed", "0"), ("quantile", "0.99"), own[1])
    ]
    assert published > 0
    assert 0 < p99_s < PATIENCE_S


def test_port_that_is_taken_is_an_error_at_start(scraped: tuple[str, str], tmp_path: Path) -> None:
    port = scraped[1].rsplit(":", 1)[1].split("/")[0]
    with (
        instance() as other,
        daemon(
            tmp_path,
            "ws://127.0.0.1:9",
            name=other,
            extra=f'[metrics]\nlisten = "127.0.0.1:{port}"',
        ) as refused,
    ):
        assert refused.wait() == 1
        assert f"metrics.listen: 127.0.0.1:{port}: Address already in use" in refused.log


@needs_prometheus
@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_every_panels_query_returns_data(server: Prometheus, path: Path) -> None:
    for panel in json.loads(path.read_text())["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"].replace("$system", ".*").replace("$__rate_interval", "9s")
            server.until(lambda asked=expression: bool(server.query(asked)), expression)  # type: ignore[misc]


@needs_prometheus
def test_choosers_of_the_dashboards_have_something_to_choose(
    server: Prometheus, scraped: tuple[str, str]
) -> None:
    assert server.get("label/system/values") == [scraped[0]]


@needs_prometheus
def test_every_rule_is_evaluated_without_error(server: Prometheus) -> None:
    def rules() -> list[dict[str, Any]]:
        return [rule for group in server.get("rules")["groups"] for rule in group["rules"]]

    daemons = [each for each in rules() if each["name"].startswith("Mdsys")]
    server.until(
        lambda: all(each["health"] == "ok" for each in rules() if each["type"] == "alerting"),
        "the alerts are evaluated",
    )
    assert len(daemons) > 20
    assert [each["lastError"] for each in rules() if each.get("lastError")] == []


def is_known(server: Prometheus, metric: Metric) -> bool:
    """Whether its quantile is a number: a reader's first minute begins when it is first seen."""
    values = server.query(f'{last_minute_name(metric)}{{quantile="0.99"}}')
    return any(not math.isnan(float(each["value"][1])) for each in values)


@needs_prometheus
def test_hops_that_every_record_takes_have_quantiles(server: Prometheus) -> None:
    for metric in metrics():
        if metric.field in ("recv_to_ring", "event_to_recv", "recv_to_handler", "loop_lag"):
            server.until(partial(is_known, server, metric), metric.name)
