"""One call: what a broken network or a hostile server does to it, and what is known afterwards."""

from __future__ import annotations

import errno
import gzip
import socket
import ssl
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_tokenrotate.errors import ConfigurationError
from flask_tokenrotate.providers import transport
from flask_tokenrotate.providers.transport import MAX_BODY, ignore_surroundings, send
from flask_tokenrotate.rotation.verdict import (
    Busy,
    HttpResponse,
    Misconfigured,
    NotSent,
    Rotated,
    Unknown,
)

from .conftest import Client, Server, SystemClock, call_until, http, says

TOKENS = {"access_token": "at-2", "refresh_token": "rt-2", "expires_in": 3600}
Serve = Callable[..., Server]


def reset(connection: socket.socket) -> None:
    """Close with RST instead of FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def drip(server: Server, connection: socket.socket) -> None:
    """Send a byte now and then until the client or the test ends it."""
    while not server.done.wait(0.02):
        connection.sendall(b"a")


def test_answer_is_read(serve: Serve, client: Client) -> None:
    """The plain case: the request arrives once and its answer is understood."""
    server = serve(says(http(200, TOKENS)))
    client.at(server.url)
    assert isinstance(client.redeem(), Rotated)
    assert [request.form["refresh_token"] for request in server.requests] == ["rt-1"]


def test_refused_connection(client: Client) -> None:
    """Nobody listens: nothing was sent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client.at(f"http://127.0.0.1:{port}")
    assert client.redeem() == NotSent(cause="not_connected")


def test_unknown_name(client: Client) -> None:
    """A name that does not resolve: nothing was sent."""
    client.at("https://provider.invalid")
    assert client.redeem() == NotSent(cause="name_not_resolved")


def test_connect_timeout(client: Client) -> None:
    """A host that does not answer SYN is given up after the time to connect: nothing was sent."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        client.at(f"http://127.0.0.1:{listener.getsockname()[1]}")
        client.give(connect_seconds=0.5)
        assert client.redeem(seconds=60) == NotSent(cause="not_connected")
        for filler in fillers:
            filler.close()


def test_a_dead_address_leaves_time_for_the_next(
    serve: Serve, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two addresses, the first swallows its share of the time and the second is still reached."""
    server = serve(says(http(200, TOKENS)))
    client.at(f"http://localhost:{server.port}")
    tried: list[tuple[str, float]] = []
    real = transport._Connection._connected

    def connect(self: object, family: int, address: tuple[str, int], seconds: float) -> socket.socket:
        tried.append((address[0], seconds))
        if address[0] == "192.0.2.1":
            raise TimeoutError
        return real(self, family, address, seconds)  # type: ignore[arg-type]

    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, server.port))
        for host in ("192.0.2.1", "127.0.0.1")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: found)
    monkeypatch.setattr(transport._Connection, "_connected", connect)
    assert isinstance(client.redeem(), Rotated)
    assert [host for host, _ in tried] == ["192.0.2.1", "127.0.0.1"]
    assert tried[0][1] <= 1.5


def test_untrusted_certificate(
    serve: Serve, client: Client, certificate: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS with an unknown CA fails before anything is sent; with the CA configured it works."""
    server = serve(says(http(200, TOKENS)), tls=certificate[1])
    client.at(server.url)
    assert client.redeem() == NotSent(cause="tls_failed")
    assert server.requests == []
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    assert isinstance(client.redeem(), Rotated)


def test_silent_tls_server(serve: Serve, client: Client) -> None:
    """A server that accepts and never shakes hands costs the time to connect; nothing was sent."""
    server = serve(lambda connection: None)
    client.at(server.url.replace("http:", "https:"))
    client.give(connect_seconds=0.5)
    assert client.redeem(seconds=60) == NotSent(cause="tls_failed")


def test_reset_while_connecting(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reset before the connection stands is no lost answer: nothing was sent."""

    def connect(*args: object) -> socket.socket:
        raise ConnectionResetError(errno.ECONNRESET, "reset")

    monkeypatch.setattr(transport._Connection, "_connected", connect)
    assert client.redeem() == NotSent(cause="not_connected")


@pytest.mark.long
def test_connecting_and_tls_share_their_time(
    serve: Serve, client: Client, clock: SystemClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handshake gets what connecting has left of the time to connect, not as much again."""
    server = serve(lambda connection: None)
    client.at(server.url.replace("http:", "https:"))
    client.give(connect_seconds=60)
    real = transport._Connection._connected
    made: list[socket.socket] = []

    def slow(*args: Any) -> socket.socket:
        made.append(real(*args))
        clock.pushed += 55
        return made[0]

    monkeypatch.setattr(transport._Connection, "_connected", slow)
    assert client.redeem(seconds=100) == NotSent(cause="tls_failed")
    left = made[0].gettimeout()
    assert left is not None
    assert 0 < left <= 5


def test_server_that_does_not_read(
    serve: Serve, client: Client, certificate: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that fills the buffers of the way ends by the deadline too, and is in doubt."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    server = serve(
        lambda connection: server.done.wait(15) and None, tls=certificate[1], reads=False, buffer=65536
    )
    client.at(server.url, token_params={"filler": "x" * 6 * MAX_BODY})
    started = time.monotonic()
    result = client.redeem(seconds=1.5)
    assert isinstance(result, Unknown)  # timed out, or dropped by the kernel
    assert result.cause == "no_response"
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("reads", [False, True], ids=["before the request was read", "after it was read"])
def test_reset_after_sending(serve: Serve, client: Client, reads: bool) -> None:
    """Once bytes may have left, a reset leaves the outcome unknown."""

    def script(connection: socket.socket) -> None:
        # Without reading, wait for the first byte: a reset before it would be a refused connection.
        if not reads:
            connection.recv(1, socket.MSG_PEEK)
        reset(connection)

    client.at(serve(script, reads=reads).url)
    assert client.redeem() == Unknown(cause="no_response")


def test_read_timeout(serve: Serve, client: Client) -> None:
    """No answer by the deadline: unknown, and told apart as a time-out."""
    server = serve(lambda connection: server.done.wait(10) and None)
    client.at(server.url)
    assert client.redeem(seconds=0.7) == Unknown(cause="no_response", timed_out=True)


HEADERS = b"HTTP/1.1 200 OK\r\nX-Slow: "


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (b"", Unknown(cause="no_response", timed_out=True)),
        (HEADERS, Unknown(cause="no_response", timed_out=True)),
        (HEADERS + b"\r\n\r\n", Unknown(cause="unreadable_response", timed_out=True)),
        (b"HTTP/1.1 503 No\r\n\r\n", Busy(cause="http_503")),
        (b"HTTP/1.1 307 No\r\nLocation: /\r\n\r\n", None),
    ],
    ids=["status line", "headers", "body", "body of a 503", "body of a redirect"],
)
def test_slow_drip_ends_at_the_deadline(serve: Serve, client: Client, start: bytes, expected: object) -> None:
    """A byte now and then resets every read time-out, but not the deadline of the whole call."""

    def script(connection: socket.socket) -> None:
        connection.sendall(start)
        drip(server, connection)

    server = serve(script)
    client.at(server.url)
    started = time.monotonic()
    result = client.redeem(seconds=0.7)
    assert 0.3 < time.monotonic() - started < 10
    assert result == expected or (expected is None and isinstance(result, Misconfigured))


def test_a_read_timeout_alone_does_not_stop_a_drip(serve: Serve) -> None:
    """Control: the same drip outlives requests' own time-out, which counts from byte to byte."""

    def script(connection: socket.socket) -> None:
        connection.sendall(HEADERS)
        for _ in range(40):
            server.done.wait(0.02)
            connection.sendall(b"a")
        connection.sendall(b"\r\nContent-Length: 0\r\n\r\n")

    server = serve(script)
    started = time.monotonic()
    assert requests.post(f"{server.url}/token", timeout=0.3).status_code == 200
    assert time.monotonic() - started > 0.6


def test_a_whole_body_that_never_ends_is_kept(serve: Serve, client: Client) -> None:
    """Tokens that arrived are saved even if the server then neither closes nor ends the body."""

    def script(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + http(200, TOKENS).partition(b"\r\n\r\n")[2])
        server.done.wait(10)

    server = serve(script)
    client.at(server.url)
    result = client.redeem(seconds=0.7)
    assert isinstance(result, Rotated)
    assert result.complaints == ("the body was cut after the tokens",)


@pytest.mark.parametrize(
    "answer",
    [
        http(200, TOKENS)[:-10],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n" + b'{"access_token": "at-2", "x": "',
        b"HTTP/1.1 200 OK\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 40\r\n\r\n"
        b"access_token=at-2&refresh_tok",
    ],
    ids=["length", "chunked", "form"],
)
def test_cut_body(serve: Serve, client: Client, answer: bytes) -> None:
    """A 200 that ends too early is unknown: the tokens in it may be halves."""
    server = serve(says(answer))
    client.at(server.url)
    assert client.redeem() == Unknown(cause="unreadable_response")


def test_oversized_body(serve: Serve, client: Client) -> None:
    """No more than the limit is read, however much is sent; tokens up to the limit are found."""
    server = serve(says(http(200, b"{" + b" " * (2 * MAX_BODY))))
    client.at(server.url)
    assert client.redeem() == Unknown(cause="unreadable_response")
    fitting = b'{"access_token": "a"}'.ljust(MAX_BODY)
    client.at(serve(says(http(200, fitting))).url)
    assert isinstance(client.redeem(), Rotated)


def test_endless_body(serve: Serve, client: Client) -> None:
    """Reading stops at the limit and the connection is closed, long before the deadline."""
    sent = 0

    def script(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while sent < 64 * MAX_BODY:
            connection.sendall(b" " * 65536)
            sent += 65536

    server = serve(script)
    client.at(server.url)
    assert client.redeem(seconds=30) == Unknown(cause="unreadable_response")
    server.close()
    assert sent < 32 * MAX_BODY


def test_gzip_bomb(serve: Serve, clock: SystemClock) -> None:
    """A body that was compressed unasked is opened up to the limit and not beyond."""
    server = serve(says(http(200, gzip.compress(b" " * (64 * MAX_BODY)), "Content-Encoding: gzip")))
    call = call_until(clock, 5)
    answer = send(call, "POST", f"{server.url}/token", headers={}, form="a=b")
    assert isinstance(answer, HttpResponse)
    assert (len(answer.body), answer.complete) == (MAX_BODY, False)
    assert server.requests[0].headers["accept-encoding"] == "identity"


def test_compressed_tokens_are_not_lost(serve: Serve, client: Client) -> None:
    """A server that compresses unasked is understood: its tokens were paid for."""
    plain = http(200, TOKENS).partition(b"\r\n\r\n")[2]
    server = serve(says(http(200, gzip.compress(plain), "Content-Encoding: gzip")))
    client.at(server.url)
    assert isinstance(client.redeem(), Rotated)


@pytest.mark.parametrize("location", ["{other}/token", "http://[::1", "gopher://x/", ""])
def test_redirect_is_not_followed(serve: Serve, client: Client, location: str) -> None:
    """A 307 would carry the refresh token to wherever it points: it is an error of the configuration."""
    other = serve(says(http(200, TOKENS)))
    server = serve(says(http(307, b"", f"Location: {location.format(other=other.url)}")))
    client.at(server.url)
    result = client.redeem()
    assert isinstance(result, Misconfigured)
    assert result.error == "http_307"
    assert other.connections == 0


def test_deadline_is_looked_at_right_before_sending(
    serve: Serve, client: Client, clock: SystemClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that was stopped while it connected must not post: its claim may be another's by now."""
    server = serve(says(http(200, TOKENS)))
    client.at(server.url)
    connect = transport._Connection.connect

    def connect_and_oversleep(self: transport._Connection) -> None:
        connect(self)
        clock.pushed += stopped

    monkeypatch.setattr(transport._Connection, "connect", connect_and_oversleep)
    stopped = 60.0
    assert client.redeem() == NotSent(cause="too_late_to_send")
    assert server.requests == []
    stopped = 0.0
    assert isinstance(client.redeem(), Rotated)


def test_slow_name_resolution_sends_nothing(
    serve: Serve, client: Client, clock: SystemClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Name resolution cannot be interrupted, so the deadline is looked at after it."""
    server = serve(says(http(200, TOKENS)))
    client.at(server.url)
    resolve = socket.getaddrinfo

    def slow(*args: object, **options: object) -> object:
        clock.pushed += 60.0
        return resolve(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    assert client.redeem() == NotSent(cause="not_connected")
    assert server.connections == 0


def test_deadline_in_the_past(serve: Serve, client: Client) -> None:
    """A call that is over before it starts connects to nobody."""
    server = serve(says(http(200, TOKENS)))
    client.at(server.url)
    assert isinstance(client.redeem(seconds=-1), NotSent)
    assert server.connections == 0


def test_surroundings_are_ignored(
    serve: Serve, client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither a proxy variable nor .netrc changes where a token goes or who sends it."""
    proxy = serve(says(http(200, TOKENS)))
    server = serve(says(http(200, TOKENS)))
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login intruder password x\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
    client.at(server.url, client_auth="none")
    assert isinstance(client.redeem(), Rotated)
    assert "authorization" not in server.requests[0].headers
    assert proxy.connections == 0

    trusting = requests.Session()  # control: the same session, open to its surroundings
    ignore_surroundings(trusting)
    trusting.trust_env = True
    trusting.post(f"{server.url}/token", timeout=5)
    assert proxy.requests[0].headers["authorization"].startswith("Basic ")


@pytest.mark.parametrize("url", ["http://example.com/token", "http://10.0.0.1/token"])
def test_plain_http_to_another_host(clock: SystemClock, url: str) -> None:
    """Plain http is refused by the transport too, whatever made the address, naming the host."""
    call = call_until(clock, 5)
    with pytest.raises(ConfigurationError, match=url.split("/")[2]):
        send(call, "POST", url, headers={}, form="refresh_token=rt-1")
    assert not call.sent


def test_oauthlibs_switch_changes_nothing(clock: SystemClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process-wide variable that opens http for oauthlib does not open it here."""
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    with pytest.raises(ConfigurationError):
        send(call_until(clock, 5), "POST", "http://example.com/token", headers={})


pieces = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Encoding: gzip\r\n",
        b"Location: http://[\r\n",
        b"Connection: keep-alive\r\n",
        b"\r\n",
        b"5\r\nhello\r\n",
        b"zz\r\n",
        b'{"access_token": "at-2"}',
        b": no name\r\n",
        b"X: " + b"y" * 70_000,
    ]
)


@settings(deadline=None, max_examples=150)
@given(st.lists(pieces | st.binary(max_size=20), max_size=8).map(b"".join))
def test_no_bytes_on_the_wire_raise(answer: bytes) -> None:
    """Whatever a server sends, the call ends with a verdict."""
    server = Server(says(answer))
    client = Client(SystemClock())
    client.at(server.url)
    try:
        assert isinstance(client.redeem(seconds=2), Rotated | Unknown | Busy | Misconfigured)
    finally:
        server.close()
