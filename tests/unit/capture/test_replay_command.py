"""The command line of ``mdsys replay``."""

from __future__ import annotations

import argparse

import pytest

from mdsys.capture.replay_command import add_arguments


def parsed(speed: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="replay")
    add_arguments(parser)
    return parser.parse_args(["captures", "--instance", "a", "--speed", speed])


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "fast", ""])
def test_a_speed_that_is_none_is_refused_with_what_is_expected(
    capsys: pytest.CaptureFixture[str], text: str
) -> None:
    with pytest.raises(SystemExit):
        parsed(text)
    said = capsys.readouterr().err
    assert f"argument --speed: {text!r}: expected a number above 0, or max" in said
    assert "_speed" not in said


@pytest.mark.parametrize(("text", "speed"), [("2.5", 2.5), ("max", None)])
def test_a_speed_is_a_number_or_max(text: str, speed: float | None) -> None:
    assert parsed(text).speed == speed
