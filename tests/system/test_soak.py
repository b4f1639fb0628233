"""A short soak of everything at full size; `make soak` plays long ones."""

from __future__ import annotations

import shutil

import pytest

from tests.soak import Plan, soak

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not shutil.which("openssl"), reason="makes certificates with openssl(1)"),
]


def test_fifty_thousand_symbols_outlive_killed_feeds_without_a_silent_loss_or_a_leak() -> None:
    it = soak(Plan(symbols=50_000, seed=7), kills=2, seconds=0)
    assert it.ledger.trades > 50_000
    assert it.ledger.announced > 0, "what was traded while a feed was dead is announced"
