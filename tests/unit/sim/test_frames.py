from __future__ import annotations

import pytest

from mdsys.sim.frames import BINARY, header, to_frame


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, b"\x81\x00"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (0xFFFF, b"\x81\x7e\xff\xff"),
        (0x10000, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_headers_take_the_fewest_bytes(size: int, expected: bytes) -> None:
    assert header(size) == expected
    assert header(size, BINARY) == b"\x82" + expected[1:]


def test_text_goes_as_text_and_bytes_as_binary() -> None:
    assert to_frame("né") == b"\x81\x03n\xc3\xa9"
    assert to_frame(b"\x00") == b"\x82\x01\x00"
