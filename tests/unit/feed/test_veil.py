from __future__ import annotations

import pytest

from mdsys.feed.veil import CUT, HIDDEN, WORDS_SIZE_MAX, Veil, beginning
from mdsys.feed.venue import Dial

SECRET = {"api_key": "abc/def+1=", "access_token": "tök en", "mode": "x"}


@pytest.mark.parametrize(
    "said",
    [
        "Invalid api_key abc/def+1=",
        "GET /?api_key=abc%2Fdef%2B1%3D&access_token=t%C3%B6k%20en",
        "api_key=abc/def%2B1%3D",
        "access_token=t%C3%B6k+en",
        "abc/def+1=abc/def+1=",
    ],
)
def test_secret_is_hidden_however_a_url_writes_it(said: str) -> None:
    veil = Veil(SECRET)
    for shown in (veil.text(said), veil.words(said)):
        assert HIDDEN in shown
        for part in ("abc/def", "abc%2F", "k en", "k%20en", "k+en"):
            assert part not in shown


def test_address_and_headers_are_hidden_too() -> None:
    veil = Veil({"key": "secretive"})
    veil.add(Dial("wss://v/?sig=4711", "wss://v/?sig=***", {"Authorization": "Bearer eyJhbGci"}))
    assert veil.words("wss://v/?sig=4711 isn't valid") == "wss://v/?sig=*** isn't valid"
    assert veil.words("header Bearer eyJhbGci") == f"header {HIDDEN}"


def test_what_is_too_short_to_be_a_secret_hides_nothing() -> None:
    assert Veil(SECRET).words("exit") == "exit"


def test_words_are_one_short_line_that_a_terminal_can_show() -> None:
    words = Veil({}).words("no\x1b[2J\r\n\tsuch \ud800symbol\u202e " + "!" * 999)
    assert words.startswith("no [2J such symbol !!!")
    assert len(words) == WORDS_SIZE_MAX
    assert words.isprintable()


def test_secret_across_the_cut_leaves_no_part_of_itself() -> None:
    veil = Veil({"key": "k" * 40})
    assert "kk" not in veil.words("x" * (WORDS_SIZE_MAX - 20) + "k" * 40)


KEY = "q7Zx-0123456789-abcdef"


@pytest.mark.parametrize("kept", range(4, len(KEY)))
def test_half_of_a_secret_that_was_cut_before_is_hidden_too(kept: int) -> None:
    said = beginning("no such key: " + KEY + ", sorry", len("no such key: ") + kept)
    assert said.endswith(KEY[:kept] + CUT)
    for text in (said, f"{said} (code 7)", f"HTTP 403: {said[:-1]}", f"a frame: {said!r}"):
        shown = Veil({"key": KEY}).words(text)
        assert KEY[:4] not in shown
        assert f"no such key: {HIDDEN}" in shown


def test_words_that_a_secret_does_not_begin_with_are_left() -> None:
    veil = Veil({"key": KEY})
    assert veil.words(f"a q7Z{CUT} and q7Z") == f"a q7Z{CUT} and q7Z"  # too short for one
    assert veil.words(f"0123456789-abcdef{CUT} x") == f"0123456789-abcdef{CUT} x"
    veil.add(Dial("wss://v/?sig=4711", "wss://v/?sig=***", {}))
    assert veil.words("cannot connect to wss://v/") == "cannot connect to wss://v/"


def test_a_beginning_is_marked_as_one_and_a_whole_is_not() -> None:
    assert beginning("12345", 5) == "12345"
    assert beginning("123456", 5) == f"12345{CUT}"
    assert beginning(b"12345", 5) == "12345"
    assert beginning("1234é".encode(), 5) == f"1234{CUT}"
    assert beginning(b"12\xff456", 5) == f"12\ufffd45{CUT}"
