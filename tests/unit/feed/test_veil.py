from __future__ import annotations

import pytest

from mdsys.feed.veil import HIDDEN, WORDS_SIZE_MAX, Veil
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
