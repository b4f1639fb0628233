from __future__ import annotations

import pytest

from mdsys.wording import plural


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 feeds"), (1, "1 feed"), (2, "2 feeds"), (1000, "1000 feeds")]
)
def test_one_thing_is_no_plural(count: int, words: str) -> None:
    assert plural(count, "feed") == words
