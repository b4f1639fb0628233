"""Asking a daemon without waiting for it; the control socket is the real one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from mdsys.consume.registration import register
from mdsys.ring.control_socket import Question
from mdsys.ring.segment import Instance
from mdsys.top.daemon_words import OLD_S, PERIODS_S, DaemonWords, Told
from tests.control import PATIENCE_S, Server, serving
from tests.instances import geometry, running


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def instance() -> Iterator[Instance]:
    with running(geometry()) as made:
        yield made


def answered(words: DaemonWords, clock: Clock, server: Server) -> Told:
    """Return what is told once the daemon has answered what it was asked."""
    words.now(os.getpid())
    server.call(lambda: None)  # its loop has come round: the question is read
    server.call(lambda: None)
    clock.now_s += 0.5
    return words.now(os.getpid())


def test_readers_are_told_at_a_later_look(instance: Instance) -> None:
    clock = Clock()
    words = DaemonWords(instance.name, clock)
    with serving(instance) as server:
        registered = register(
            instance.name, os.getpid(), name="s1", policy="drop_oldest", wait="park", rings=[0]
        )
        assert registered is not None
        told = answered(words, clock, server)
        while told.readers is None:  # the server's thread may be slow
            told = answered(words, clock, server)
        assert [each.labels["reader"] for each in told.readers] == ["s1"]
        assert told.why is None
        registered.close()
        words.close()


def test_absent_daemon_is_looked_for_now_and_then(instance: Instance) -> None:
    clock = Clock()
    words = DaemonWords(instance.name, clock)
    told = words.now(os.getpid())
    assert told.readers is None
    assert "can be reached" in str(told.why)
    with serving(instance) as server:
        assert words.now(os.getpid()) is told, "not at every look"
        clock.now_s += 10
        found = answered(words, clock, server)
        while found.readers is None:
            found = answered(words, clock, server)
        assert found.why is None
        words.close()


def test_stuck_daemon_holds_nobody_up_and_is_called_silent(instance: Instance) -> None:
    clock = Clock()
    words = DaemonWords(instance.name, clock)
    with serving(instance) as server:
        while words.now(os.getpid()).readers is None:
            answered(words, clock, server)
        clock.now_s += max(PERIODS_S.values())
        with server.stuck():
            words.now(os.getpid())
            clock.now_s += OLD_S + 1
            told = words.now(os.getpid())  # an answer may have come before it stood still
            clock.now_s += OLD_S + 1
            for _ in range(3):
                told = words.now(os.getpid())
                clock.now_s += OLD_S + 1
            assert told.readers is None
            assert told.why == "the daemon does not answer"
        words.close()


def test_no_answer_is_ever_waited_for(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    answer = Question.answer

    def watched(question: Question, timeout_s: float) -> tuple[dict[str, Any], list[int]] | None:
        waits.append(timeout_s)
        return answer(question, timeout_s)

    monkeypatch.setattr(Question, "answer", watched)
    clock = Clock()
    words = DaemonWords(instance.name, clock)
    with serving(instance) as server:
        while words.now(os.getpid()).readers is None:
            answered(words, clock, server)
        words.close()
    assert set(waits) == {0}


def test_daemon_that_ends_takes_its_words_along(instance: Instance) -> None:
    clock = Clock()
    words = DaemonWords(instance.name, clock)
    with serving(instance) as server:
        told = answered(words, clock, server)
        while told.readers is None:
            told = answered(words, clock, server)
    clock.now_s += PATIENCE_S
    words.now(os.getpid())
    clock.now_s += PATIENCE_S
    assert words.now(os.getpid()).readers is None


def test_daemon_that_refuses_a_question_is_quoted(instance: Instance) -> None:
    clock = Clock()
    words = DaemonWords(instance.name, clock)
    with serving(instance) as server:  # a server without operations knows no status
        told = answered(words, clock, server)
        while told.why is None or "asked yet" in told.why:
            told = answered(words, clock, server)
        assert "refused" in told.why
        words.close()
