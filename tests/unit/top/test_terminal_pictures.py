"""Pictures of the terminal: nothing is cut off, nothing is fetched."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.pictures import terminal


def test_last_line_of_a_picture_has_room_for_what_hangs_below_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(terminal, "ROOT", tmp_path)
    terminal.draw("tap", "mdsys tap", 40, "first\nCOINBASE_EXCHANGE")
    svg = (tmp_path / "docs" / "tap.svg").read_text()
    (clip,) = re.findall(r'clip-terminal">\s*<rect [^>]*height="([\d.]+)"', svg)
    (base,) = re.findall(r'y="([\d.]+)"[^>]*>COINBASE_EXCHANGE', svg)
    assert float(clip) - float(base) >= 20 / 3, "a third of the letters' size"
    assert "http" not in re.sub(r"http://www.w3.org/2000/svg|https://www.textualize.io", "", svg)
