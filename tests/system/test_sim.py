"""``mdsys sim`` as a program."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from mdsys.sim.dialects import DIALECTS
from mdsys.sim.faults import FAULTS

pytestmark = pytest.mark.system

COMMAND = [sys.executable, "-m", "mdsys", "sim"]
FRAME = '{"stream":"btcusdt@trade","data":{"e":"trade","s":"BTCUSDT","t":%d}}'


@contextmanager
def sim(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the program and yield it with the address that it tells."""
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("listening on ws"), process.communicate()
            yield process, line.removeprefix("listening on ").rstrip("\n")
        finally:
            process.kill()


def refused(*arguments: str) -> tuple[int, str]:
    """Return the exit code and the message of a program that does not come up."""
    done = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def receive(url: str, count: int, context: ssl.SSLContext | None = None) -> list[str]:
    async def program() -> list[str]:
        async with connect(url, ssl=context, close_timeout=0.05) as client:
            return [str(await client.recv()) for _ in range(count)]

    return asyncio.run(asyncio.wait_for(program(), 60))


@pytest.mark.parametrize(
    ("venue", "signal_number"),
    [("binance", signal.SIGTERM), ("binance_usdm", signal.SIGINT)],
)
def test_a_market_is_served_until_a_signal(venue: str, signal_number: int) -> None:
    arguments = ("--listen", "127.0.0.1:0", "--symbols", "3", "--rate", "2000", "--seed", "4")
    with sim("--venue", venue, *arguments) as (process, url):
        frames = [json.loads(text) for text in receive(url + "/ws/sym000001@bookTicker", 50)]
        assert {frame["s"] for frame in frames} == {"SYM000001"}
        assert ("T" in frames[0]) == (venue == "binance_usdm")
        process.send_signal(signal_number)
        _, told = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "stopped" in told
        assert "quote" in told


def test_a_recording_is_served_and_the_end_told(tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_text("".join(f"{index} {FRAME % index}\n" for index in range(100)))
    arguments = ("--venue", "binance", "--listen", "127.0.0.1:0", "--replay", str(path))
    with sim(*arguments, "--speed", "max") as (process, url):
        frames = receive(url + "/stream?streams=btcusdt@trade", 100)
        assert frames == [FRAME % index for index in range(100)]
        assert process.stderr is not None
        while "finished" not in (line := process.stderr.readline()):
            assert line
        assert "100 trade" in line


def test_a_damaged_recording_ends_the_program(tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_text(f"1 {FRAME % 1}\nnonsense\n")
    arguments = ("--venue", "binance", "--listen", "127.0.0.1:0", "--replay", str(path))
    with sim(*arguments) as (process, url):
        receive(url + "/stream?streams=btcusdt@trade", 0)
        _, told = process.communicate(timeout=60)
        assert process.returncode == 1
        assert f"{path}:2: " in told
        assert "Traceback" not in told


def test_wss_is_served_with_the_given_certificate(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
        "-subj /CN=localhost -addext subjectAltName=DNS:localhost "
        f"-keyout {key} -out {certificate}".split(),
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("no openssl to make a certificate with")
    arguments = ("--venue", "binance", "--listen", "localhost:0", "--symbols", "1")
    with sim(*arguments, "--rate", "max", "--tls", str(certificate), str(key)) as (_, url):
        assert url.startswith("wss://localhost:")
        context = ssl.create_default_context(cafile=str(certificate))
        assert len(receive(url + "/ws/sym000000@trade", 5000, context)) == 5000


@pytest.mark.parametrize("venue", DIALECTS)
def test_every_venue_is_served(venue: str) -> None:
    arguments = ("--listen", "127.0.0.1:0", "--symbols", "50000", "--rate", "1000")
    with sim("--venue", venue, *arguments) as (process, _):
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "Traceback" not in told


async def until_closed(url: str) -> tuple[list[str], int | None]:
    """Return all frames, and the code of the venue's close."""
    async with connect(url, close_timeout=0.05) as client:
        frames = []
        with suppress(ConnectionClosed):
            while True:
                frames.append(str(await client.recv()))
        return frames, client.close_code


def test_faults_strike_and_are_told() -> None:
    arguments = ("--listen", "127.0.0.1:0", "--symbols", "1", "--rate", "2000")
    faults = "hole,after=5;close,after=20,code=1012"
    with sim("--venue", "binance", *arguments, "--faults", faults) as (process, url):
        frames, code = asyncio.run(asyncio.wait_for(until_closed(url + "/ws/sym000000@trade"), 60))
        ids = [json.loads(text)["t"] for text in frames]
        assert ids[4:6] == [ids[0] + 4, ids[0] + 6]
        assert code == 1012
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=60)
        assert "mdsys sim: connection 1: fault close\n" in told


def test_a_broken_limit_is_told_as_it_happens() -> None:
    arguments = ("--listen", "127.0.0.1:0", "--symbols", "1", "--rate", "1")

    async def flood(url: str) -> int | None:
        async with connect(url + "/ws", close_timeout=0.05) as client:
            for number in range(6):
                await client.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": number}))
            await client.wait_closed()
            return client.close_code

    with sim("--venue", "binance", *arguments) as (process, url):
        assert asyncio.run(asyncio.wait_for(flood(url), 60)) == 1008
        assert process.stderr is not None
        words = "connection 1: broke messages: more than 5 within 1 s"
        assert process.stderr.readline() == f"mdsys sim: {words}\n"


def test_the_faults_are_in_the_help() -> None:
    done = subprocess.run(
        [*COMMAND, "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    assert all(re.search(rf"^ +{name} ", done.stdout, re.MULTILINE) for name in FAULTS)


def test_a_taken_address_is_told_with_the_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        code, told = refused(
            "--venue", "binance", "--listen", listen, "--symbols", "1", "--rate", "1"
        )
    assert code == 1
    assert f"{listen}: Address already in use; choose another port" in told


LISTEN = ("--listen", "127.0.0.1:0")
SPOT = ("--venue", "binance", *LISTEN)
ONE = ("--symbols", "1", "--rate", "1")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--venue", "binanse", *LISTEN, *ONE), 64, "did you mean binance?"),
        (("--venue", "binance", "--listen", "9001", *ONE), 64, "expected HOST:PORT"),
        (("--venue", "binance", "--listen", ":9001", *ONE), 64, "expected HOST:PORT"),
        (("--venue", "binance", "--listen", "a:70000", *ONE), 64, "expected HOST:PORT"),
        (("--venue", "binance", "--listen", "no.such.invalid:1", *ONE), 1, "no.such.invalid"),
        ((*SPOT,), 64, "either --replay FILE... or --symbols"),
        ((*SPOT, *ONE, "--replay", "x"), 64, "either --replay FILE... or --symbols"),
        ((*SPOT, "--symbols", "0", "--rate", "1"), 64, "at least 1"),
        ((*SPOT, "--symbols", "99999999", "--rate", "1"), 64, "at most 1048576"),
        ((*SPOT, "--symbols", "1"), 64, "needs --rate"),
        ((*SPOT, "--symbols", "1", "--rate", "fast"), 64, "--rate fast"),
        ((*SPOT, "--symbols", "1", "--rate", "-1"), 64, "--rate -1"),
        ((*SPOT, "--symbols", "1", "--rate", "1" + "0" * 30), 64, "--rate"),
        ((*SPOT, *ONE, "--seed", "-1"), 64, "--seed -1"),
        ((*SPOT, *ONE, "--speed", "2"), 64, "--speed belongs to --replay"),
        ((*SPOT, "--replay", "/no/such.gz"), 1, "/no/such.gz: No such file"),
        ((*SPOT, "--replay", "/no/such.gz", "--speed", "0"), 64, "--speed 0"),
        ((*SPOT, "--replay", "/no/such.gz", "--rate", "5"), 64, "--rate belongs to --symbols"),
        ((*SPOT, *ONE, "--tls", "/no/cert", "/no/key"), 1, "/no/cert"),
        ((*SPOT, *ONE, "--faults", "mutte"), 64, "did you mean mute?"),
        ((*SPOT, *ONE, "--faults", "mute,after=soon"), 64, "after=soon"),
        (("--venue", "kite", *LISTEN, "--replay", "x"), 64, "only Binance's recordings"),
        ((*SPOT, "--replay", "{recording}", "--faults", "clock"), 64, "times cannot be changed"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    arguments: tuple[str, ...], code: int, words: str, tmp_path: Path
) -> None:
    recording = tmp_path / "recording"
    recording.write_text(f"1 {FRAME % 1}\n")
    found, told = refused(*(each.replace("{recording}", str(recording)) for each in arguments))
    assert found == code
    assert words in told
    assert told.count("\n") == 1
