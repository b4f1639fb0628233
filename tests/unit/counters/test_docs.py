from __future__ import annotations

import re

from mdsys.counters.docs import PAGE, fresh
from mdsys.counters.schema import metrics


def test_page_is_what_the_schema_says() -> None:
    page = PAGE.read_text()
    assert page == fresh(page), "run python -m mdsys.counters.docs"


SUMMARY = {
    *("system.total_messages_processed", "system.peak_throughput", "consumer.drop_rate"),
    *("buffer_pool.overall_utilization", "subscriptions.active_connections"),
}
OTHER = {"frame_refused", "value_refused", "latency_ns"}
"""Statuses in the ring, and a key of the JSON."""


def test_page_names_no_number_that_does_not_exist() -> None:
    known = {metric.family for metric in metrics()} | {metric.field for metric in metrics()}
    text = PAGE.read_text().partition("<!--")[0]
    named = set(re.findall(r"`([a-z]+(?:[_.][a-z]+)+)`", text))
    assert named - known == SUMMARY | OTHER
    assert named & known
