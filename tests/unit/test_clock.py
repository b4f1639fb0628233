"""The clock: the machine's tells the epoch's time, and a report goes by the one it is given."""

from __future__ import annotations

import time

from mdsys.clock import SYSTEM_CLOCK
from mdsys.daemon.stat_command import take_picture
from tests.instances import NOW, running, writer


class StoppedClock:
    """Stands 250 ms after the time that tests stamp with."""

    def now_ns(self) -> int:
        return NOW + 250_000_000


def test_system_time_is_that_of_the_epoch() -> None:
    before = time.time_ns()
    assert before <= SYSTEM_CLOCK.now_ns() <= time.time_ns()


def test_a_report_goes_by_the_clock_it_is_given() -> None:
    with running() as instance:
        writer(instance).flush(NOW)
        (ring,) = take_picture(instance.name, StoppedClock())["rings"]
    assert ring["watermark_age_ms"] == 250
