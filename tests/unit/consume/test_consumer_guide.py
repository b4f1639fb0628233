"""The programs of docs/consumers.md do what it says."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mdsys import Consumer, Kind, Status
from mdsys.record.record import TICK
from tests.instances import geometry, running, trades, writer

REPOSITORY = Path(__file__).parents[3]
GUIDE = (REPOSITORY / "docs/consumers.md").read_text()
BLOCKS = [
    block
    for block in re.findall(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    if "md.book" not in block  # tests/unit/consume/test_book.py
]


def test_guide_has_its_programs() -> None:
    assert len(BLOCKS) == 4


@pytest.mark.parametrize("block", BLOCKS, ids=["first", "numba", "events", "iterate"])
def test_program_of_the_guide_runs(
    block: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if "mdsys.handler" in block:
        pytest.importorskip("numba")
    with running(geometry(depth=1024)) as instance:
        instance.symbols.add(b"BINANCE:BTCUSDT", 0, 8, 8)
        ring = writer(instance)
        attach, run = Consumer.attach, Consumer.run

        def attach_and_publish(self: Consumer) -> Consumer:
            if not self.stats()["attached"]:
                attach(self)
                status = trades(1, symbol_id=0)
                status["kind"], status["what"] = Kind.STATUS, Status.CONNECTION_UP
                ring.publish_records(np.concatenate([status, trades(5)], dtype=TICK))
            return attach(self)

        def run_out(self: Consumer) -> None:
            self.stop()
            run(self)

        monkeypatch.setattr(Consumer, "attach", attach_and_publish)
        monkeypatch.setattr(Consumer, "run", run_out)
        core = min(os.sched_getaffinity(0))
        text = block.replace('"default"', repr(instance.name)).replace("core=3", f"core={core}")
        scope: dict[str, Any] = {}
        exec(compile(text, "docs/consumers.md", "exec"), scope)
        said = capsys.readouterr().out
        if "state" in scope:
            assert scope["state"]["volume"][0] == trades(5)["size"].sum()
            assert "CONNECTION_UP" in said
        elif "on_event" in scope:
            assert scope["consumer"].stats()["received"] == 0, "it is made, not run"
        else:
            assert "price" in said or "'count': 6" in said
