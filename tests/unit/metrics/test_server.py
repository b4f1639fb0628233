"""The metrics' HTTP server against scrapers of every kind: honest, slow, hostile, many."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import http.client
import logging
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from mdsys.errors import HostError, NoPermission
from mdsys.metrics import server as module
from mdsys.metrics.server import CONNECTION_COUNT_MAX, CONTENT_TYPE, MetricsServer, Render, listen
from tests.daemons import PATIENCE_S

TEXT = b"# HELP mdsys_up x\n# TYPE mdsys_up gauge\nmdsys_up 1\n"


class Scraped:
    """A server on a loop of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.now_s = 100.0
        self.render: Render = lambda: [TEXT]
        self.gathered: list[int] = []
        """The thread of each time that numbers were taken."""
        self.server = MetricsServer(listen("127.0.0.1:0"), self._gather, lambda: self.now_s)
        self.port = int(self.server.url.rsplit(":", 1)[1].split("/")[0])
        self.thread = threading.Thread(target=self.loop.run_forever)

    def _gather(self) -> Render:
        self.gathered.append(threading.get_ident())
        return self.render

    def call(self, make: Callable[[], object]) -> None:
        """Await in the loop what a function returns."""

        async def work() -> None:
            await make()  # type: ignore[misc]

        asyncio.run_coroutine_threadsafe(work(), self.loop).result(PATIENCE_S)

    def noted(self, monkeypatch: pytest.MonkeyPatch, method: str) -> threading.Semaphore:
        """Return what counts the calls of a method of the server's door."""
        door, count = self.server._door, threading.Semaphore(0)
        original = getattr(door, method)

        def noting(handler: object) -> None:
            original(handler)
            count.release()

        monkeypatch.setattr(door, method, noting)
        return count

    def client(self) -> http.client.HTTPConnection:
        """Return a client of its own connection."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)

    def raw(self) -> socket.socket:
        """Return a connection to write to by hand."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)

    def get(self, path: str = "/metrics", method: str = "GET", **headers: str) -> Answer:
        """Return the answer to one request."""
        with contextlib.closing(self.client()) as client:
            client.request(method, path, headers=headers)
            answer = client.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())


class Answer:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body


@pytest.fixture
def scraped() -> Iterator[Scraped]:
    each = Scraped()
    each.thread.start()
    try:
        each.call(each.server.start)
        yield each
    finally:
        each.call(each.server.close)
        each.call(each.loop.shutdown_default_executor)
        each.loop.call_soon_threadsafe(each.loop.stop)
        each.thread.join(PATIENCE_S)
        each.loop.close()


def ended(connection: socket.socket) -> bool:
    """Whether the server has hung up, waiting for it."""
    try:
        while connection.recv(1 << 16):
            pass
    except ConnectionResetError:
        pass
    return True


def test_scrape_is_the_text_with_the_type_that_prometheus_reads(scraped: Scraped) -> None:
    answer = scraped.get()
    assert (answer.status, answer.body) == (200, TEXT)
    assert answer.headers["Content-Type"] == CONTENT_TYPE
    assert "Content-Encoding" not in answer.headers


@pytest.mark.parametrize("accepted", ["gzip", "br, GZIP;q=0.5", "deflate,gzip;q=1.0"])
def test_who_takes_gzip_gets_it(scraped: Scraped, accepted: str) -> None:
    answer = scraped.get(**{"Accept-Encoding": accepted})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(answer.body) == TEXT


@pytest.mark.parametrize("accepted", ["", "identity", "gzip;q=0", "gzip; q=0.0", "gzipped", "br"])
def test_who_does_not_take_gzip_gets_it_plain(scraped: Scraped, accepted: str) -> None:
    answer = scraped.get(**{"Accept-Encoding": accepted})
    assert "Content-Encoding" not in answer.headers
    assert answer.body == TEXT
    assert answer.headers["Vary"] == "Accept-Encoding"


def test_head_tells_the_size_and_sends_no_body(scraped: Scraped) -> None:
    answer = scraped.get(method="HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Content-Length"] == str(len(TEXT))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_not_allowed(scraped: Scraped, method: str) -> None:
    answer = scraped.get(method=method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
    assert scraped.gathered == []


@pytest.mark.parametrize("path", ["/metricsx", "/metrics/", "/../metrics", "/%2e", "//metrics"])
def test_other_paths_are_not_found(scraped: Scraped, path: str) -> None:
    answer = scraped.get(path)
    assert (answer.status, answer.body) == (404, b"not found: the numbers are at /metrics\n")
    assert scraped.gathered == []


def test_root_says_where_the_numbers_are(scraped: Scraped) -> None:
    assert b"/metrics" in scraped.get("/").body


def test_query_is_no_other_path(scraped: Scraped) -> None:
    assert scraped.get("/metrics?x=1").body == TEXT


def test_numbers_are_taken_in_the_loop_and_the_text_is_made_in_a_thread(scraped: Scraped) -> None:
    made_in: list[int] = []

    def render() -> list[bytes]:
        made_in.append(threading.get_ident())
        return [TEXT]

    scraped.render = render
    scraped.get()
    assert scraped.gathered == [scraped.thread.ident]
    assert made_in != [scraped.thread.ident]


def test_loop_goes_on_while_a_text_is_made_and_all_who_wait_get_the_same(scraped: Scraped) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def render() -> list[bytes]:
        begun.set()
        assert may_end.wait(PATIENCE_S)
        return [TEXT]

    scraped.render = render
    answers: list[Answer] = []
    threads = [threading.Thread(target=lambda: answers.append(scraped.get())) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert begun.wait(PATIENCE_S)
    assert scraped.get("/").status == 200  # on the same loop
    may_end.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert [each.body for each in answers] == [TEXT] * 8
    assert len(scraped.gathered) == 1


def test_young_text_is_given_again_and_an_old_one_made_anew(scraped: Scraped) -> None:
    for seconds, count in ((0.0, 1), (0.4, 1), (0.2, 2), (5.0, 3)):
        scraped.now_s += seconds
        scraped.get()
        assert len(scraped.gathered) == count


def test_failure_is_told_and_logged_and_the_next_scrape_is_tried_anew(
    scraped: Scraped, caplog: pytest.LogCaptureFixture
) -> None:
    def render() -> list[bytes]:
        raise ValueError("a secret detail")

    scraped.render = render
    with caplog.at_level(logging.ERROR):
        answer = scraped.get()
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert "the metrics cannot be made" in caplog.text
    scraped.render = lambda: [TEXT]
    scraped.now_s += 1
    assert scraped.get().body == TEXT


def test_one_connection_serves_scrape_after_scrape(scraped: Scraped) -> None:
    with contextlib.closing(scraped.client()) as client:
        client.connect()
        local = client.sock.getsockname()
        for _ in range(3):
            client.request("GET", "/metrics")
            assert client.getresponse().read() == TEXT
            assert client.sock.getsockname() == local


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 5000 + b"\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 40 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /metrics HTTP/9.9\r\nContent-Length: -1\r\n\r\n",
        b"\r\n\r\n\r\nnonsense\r\n\r\n",
    ],
    ids=["line", "header", "headers", "tls", "length", "nonsense"],
)
def test_wrong_and_oversized_requests_are_refused_and_log_nothing(
    scraped: Scraped, request_: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with contextlib.closing(scraped.raw()) as client:
        client.sendall(request_)
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1 << 16).split(b"\r\n")[0].split()[1] == b"400"
        assert ended(client)
    assert scraped.gathered == []
    assert caplog.text == ""
    assert scraped.get().status == 200


def test_body_of_a_request_is_not_read(scraped: Scraped) -> None:
    with contextlib.closing(scraped.raw()) as client:
        client.sendall(
            b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\nx"
        )
        assert b"200 OK" in client.recv(1 << 16)
        assert ended(client)


def test_who_takes_no_answer_is_cut_off(scraped: Scraped, monkeypatch: pytest.MonkeyPatch) -> None:
    text = TEXT * (1 << 18)  # more than the kernel's buffers take
    scraped.render = lambda: [text[:99], text[99:]]
    assert scraped.get().body == text  # from now on it is ready to be sent
    monkeypatch.setattr(module, "ANSWER_S", 0.2)
    aborted = scraped.noted(monkeypatch, "abort")
    with contextlib.closing(socket.socket()) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(PATIENCE_S)
        client.connect(("127.0.0.1", scraped.port))
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert aborted.acquire(timeout=PATIENCE_S)
        came = 0
        with contextlib.suppress(ConnectionResetError):
            while piece := client.recv(1 << 20):
                came += len(piece)
        assert 0 < came < len(text)


def test_who_asks_for_nothing_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_S", 0.05)
    each = Scraped()
    each.thread.start()
    each.call(each.server.start)
    with contextlib.closing(each.raw()) as silent, contextlib.closing(each.raw()) as slow:
        slow.sendall(b"GET /metrics HTTP/1.1\r\nHos")
        assert ended(silent)
        assert ended(slow)
    each.call(each.server.close)
    each.loop.call_soon_threadsafe(each.loop.stop)
    each.thread.join(PATIENCE_S)
    each.loop.close()


def test_who_sits_on_connections_keeps_nobody_out(scraped: Scraped) -> None:
    with contextlib.ExitStack() as stack:
        honest = stack.enter_context(contextlib.closing(scraped.client()))
        honest.request("GET", "/metrics")
        honest.getresponse().read()
        idle = [
            stack.enter_context(contextlib.closing(scraped.raw()))
            for _ in range(CONNECTION_COUNT_MAX - 1)
        ]
        honest.request("GET", "/metrics")  # so it is no more the one that asked longest ago
        assert honest.getresponse().read() == TEXT
        newcomer = stack.enter_context(contextlib.closing(scraped.client()))
        newcomer.request("GET", "/metrics")
        assert newcomer.getresponse().read() == TEXT
        assert ended(idle[0])
        honest.request("GET", "/metrics")
        assert honest.getresponse().read() == TEXT


def test_clients_that_are_being_answered_are_not_thrown_out_for_a_new_one(
    scraped: Scraped, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end = threading.Semaphore(0), threading.Event()

    def render() -> list[bytes]:
        begun.release()
        assert may_end.wait(PATIENCE_S)
        return [TEXT]

    scraped.render = render
    with contextlib.ExitStack() as stack:
        busy = [
            stack.enter_context(contextlib.closing(scraped.client()))
            for _ in range(CONNECTION_COUNT_MAX)
        ]
        asked = scraped.noted(monkeypatch, "begin")
        for each in busy:
            each.request("GET", "/metrics")
            assert asked.acquire(timeout=PATIENCE_S)
        late = stack.enter_context(contextlib.closing(scraped.raw()))
        assert ended(late)
        may_end.set()
        assert [each.getresponse().read() for each in busy] == [TEXT] * CONNECTION_COUNT_MAX


def test_close_waits_for_the_text_in_the_making_and_ends_all_clients(
    scraped: Scraped, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def render() -> list[bytes]:
        begun.set()
        assert may_end.wait(PATIENCE_S)
        return [TEXT]

    scraped.render = render
    with contextlib.closing(scraped.raw()) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert begun.wait(PATIENCE_S)
        closing = asyncio.run_coroutine_threadsafe(scraped.server.close(), scraped.loop)
        assert ended(client)
        scraped.call(lambda: asyncio.sleep(0))  # a turn of the loop: it had its chance to end
        assert not closing.done()
        may_end.set()
        closing.result(PATIENCE_S)


# ---- the address ---------------------------------------------------------------------------------


def test_port_that_is_taken_is_told_with_the_remedy() -> None:
    with contextlib.closing(listen("127.0.0.1:0")) as first:
        port = first.getsockname()[1]
        with pytest.raises(HostError, match=rf"metrics.listen: 127.0.0.1:{port}: Address already"):
            listen(f"127.0.0.1:{port}")
    with pytest.raises(HostError, match=r"203\.0\.113\.5:9464: no address of this host"):
        listen("203.0.113.5:9464")  # of a network for documents


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70, "192.0.2.1", "[2001:db8::1]"])
def test_host_that_is_not_ours_is_told(host: str) -> None:
    with pytest.raises(HostError, match=r"^metrics\.listen: .*:9464: "):
        listen(f"{host}:9464")


def test_port_of_root_is_told_as_a_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refused, raising=False)
    with pytest.raises(NoPermission, match="choose a port from 1024 on"):
        listen("127.0.0.1:80")


def test_ipv6_address_is_shown_in_brackets() -> None:
    try:
        listener = listen("[::1]:0")
    except HostError:
        pytest.skip("no IPv6 here")
    with contextlib.closing(listener):
        port = listener.getsockname()[1]
        server = MetricsServer(listener, lambda: list)
        assert server.url == f"http://[::1]:{port}/metrics"
