"""How long a call waits, and that nothing of a request arrives after its sender gave up, stopped or died."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flask_tokenrotate.providers import call as call_module
from flask_tokenrotate.rotation.verdict import NotSent, Rotated, Unknown

from .conftest import Client, Server, SystemClock, http, says

TOKENS = {"access_token": "at-2", "refresh_token": "rt-2", "expires_in": 3600}
Serve = Callable[..., Server]
Certificate = tuple[Path, ssl.SSLContext]
LARGE = {"filler": "x" * 200_000, "last": "the-end"}
"""More than a server takes in that does not read, and less than the kernel takes from its sender."""


TCP_CLOSE = 7
"""The state of a connection after a reset; after an ordinary end it is CLOSE_WAIT (8)."""


class End:
    """Reads a connection to its end, or that of the request, and notes what came and how it ended."""

    def __init__(self) -> None:
        self.came = threading.Event()
        self.received = b""
        self.was_reset = False

    def read(self, connection: socket.socket) -> None:
        with contextlib.suppress(ConnectionResetError):
            while b"the-end" not in self.received:
                select.select([connection], [], [])
                # Not by the exception, and before reading: TLS reports some resets as an ordinary end, and
                # writes after one.
                state = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
                self.was_reset = state == TCP_CLOSE
                piece = connection.recv(65536)
                if not piece:
                    break
                self.received += piece
        self.came.set()


@pytest.fixture(params=["plain", "tls"])
def secured(
    request: pytest.FixtureRequest, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> ssl.SSLContext | None:
    """The server's side of TLS, or None for plain HTTP."""
    if request.param == "plain":
        return None
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    return certificate[1]


def test_a_response_after_send_by_is_read(
    serve: Serve, client: Client, clock: SystemClock, secured: ssl.SSLContext | None
) -> None:
    """A request that was acknowledged waits as long as it may, far beyond the time for sending it."""
    asked = 0

    def keep_waiting() -> float:
        nonlocal asked
        asked += 1
        return clock.monotonic() + 0.1

    def script(connection: socket.socket) -> None:
        server.done.wait(1.2)
        connection.sendall(http(200, TOKENS))

    server = serve(script, tls=secured)
    client.at(server.url)
    assert isinstance(client.redeem(seconds=0.8, keep_waiting=keep_waiting), Rotated)
    assert asked > 8, "each moment that passes without a byte asks again"


def test_the_call_ends_when_it_may_not_wait(serve: Serve, client: Client, clock: SystemClock) -> None:
    """A moment that has passed ends the call, and the server sees a reset."""
    end, moments = End(), [0.1, 0.1, -0.001]
    client.at(serve(end.read).url)
    result = client.redeem(keep_waiting=lambda: clock.monotonic() + moments.pop(0))
    assert result == Unknown(cause="no_response", timed_out=True)
    assert moments == []
    assert end.came.wait(5)
    assert end.was_reset


def test_what_has_arrived_is_read_after_the_end_of_the_waiting(
    serve: Serve,
    client: Client,
    clock: SystemClock,
    secured: ssl.SSLContext | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process that was stopped for long finds the response there, perhaps the only copy of a token set."""
    was_sent = threading.Event()

    def script(connection: socket.socket) -> None:
        connection.sendall(http(200, TOKENS))
        was_sent.set()

    calls: list[call_module.Call] = []
    use = call_module.Call.use
    monkeypatch.setattr(call_module.Call, "use", lambda call, sock: (calls.append(call), use(call, sock))[1])

    def be_stopped() -> float:
        assert was_sent.wait(5)
        (call,) = calls
        if not call._late_reads:
            assert select.select([call._sock], [], [], 5)[0]
        return clock.monotonic() - 60

    client.at(serve(script, tls=secured).url)
    assert isinstance(client.redeem(keep_waiting=be_stopped), Rotated)


def test_it_is_asked_before_each_read(serve: Serve, client: Client, clock: SystemClock) -> None:
    """A server that sends byte by byte does not keep the call alive."""
    asked = 0

    def keep_waiting() -> float:
        nonlocal asked
        asked += 1
        return clock.monotonic() + (5 if asked <= 10 else -1)

    def script(connection: socket.socket) -> None:
        while not server.done.wait(0.01):
            connection.sendall(b"a")

    server = serve(script)
    client.at(server.url)
    assert client.redeem(seconds=60, keep_waiting=keep_waiting) == Unknown(
        cause="no_response", timed_out=True
    )
    assert 11 <= asked <= 11 + call_module.MOST_LATE_READS


@pytest.mark.parametrize("error", [KeyError, TimeoutError, ConnectionResetError, KeyboardInterrupt])
@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\n\r\n"], ids=["headers", "body"])
def test_an_error_of_the_callback_is_not_swallowed(
    serve: Serve, client: Client, clock: SystemClock, error: type[BaseException], start: bytes
) -> None:
    """The callback must not raise; if it does, the connection is aborted and the caller is told."""
    end, raised = End(), error("a defect")

    def script(connection: socket.socket) -> None:
        if start:
            connection.sendall(start)
        end.read(connection)

    def keep_waiting() -> float:
        if start and not reads:
            reads.append(1)
            return clock.monotonic() + 5
        raise raised

    reads: list[int] = []
    client.at(serve(script, reads=False).url)
    with pytest.raises(error) as caught:
        client.redeem(keep_waiting=keep_waiting)
    assert caught.value is raised
    assert end.came.wait(5)
    assert end.was_reset


@pytest.mark.parametrize("normally", [True, False], ids=["real", "control"])
def test_a_complete_response_ends_normally(
    serve: Serve,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    secured: ssl.SSLContext | None,
    normally: bool,
) -> None:
    """After a complete response the server sees an ordinary end. Control: it would see a reset."""
    end = End()

    def script(connection: socket.socket) -> None:
        connection.sendall(http(200, TOKENS))
        end.read(connection)

    if not normally:
        monkeypatch.setattr(call_module, "close_normally", lambda sock: None)
    client.at(serve(script, tls=secured).url)
    assert isinstance(client.redeem(), Rotated)
    assert end.came.wait(5)
    assert end.was_reset is not normally


def unread(end: End, go: threading.Event) -> Callable[[socket.socket], None]:
    """Return a script that reads nothing before ``go``."""

    def script(connection: socket.socket) -> None:
        go.wait(10)
        end.read(connection)

    return script


@pytest.mark.parametrize("aborts", [True, False], ids=["real", "control"])
def test_giving_up_discards_what_is_queued(
    serve: Serve, client: Client, monkeypatch: pytest.MonkeyPatch, aborts: bool
) -> None:
    """What the server's side has not taken in is never delivered. Control: without SO_LINGER it is."""
    if not aborts:
        monkeypatch.setattr(call_module, "abort_on_close", lambda sock: None)
    monkeypatch.setattr(call_module, "drop_unacknowledged", lambda sock, seconds: None)
    end, go = End(), threading.Event()
    client.at(serve(unread(end, go), reads=False, buffer=4096).url, token_params=LARGE)
    result = client.redeem(keep_waiting=lambda: client.clock.monotonic() - 1)
    assert result == Unknown(cause="no_response", timed_out=True)
    go.set()
    assert end.came.wait(5)
    assert (b"the-end" in end.received) is not aborts


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the platform has no TCP_USER_TIMEOUT")
@pytest.mark.parametrize("drops", [True, False], ids=["real", "control"])
def test_a_stopped_sender_delivers_nothing_late(
    serve: Serve, client: Client, clock: SystemClock, monkeypatch: pytest.MonkeyPatch, drops: bool
) -> None:
    """The kernel drops what was not acknowledged by ``send_by``, though nothing runs in the sender.

    Control: without TCP_USER_TIMEOUT it delivers the rest as soon as the server reads.
    """
    if not drops:
        monkeypatch.setattr(call_module, "drop_unacknowledged", lambda sock, seconds: None)
    end, go, stopped = End(), threading.Event(), threading.Event()

    def stop() -> float:
        stopped.set()
        end.came.wait(10)
        return clock.monotonic() - 1

    client.at(serve(unread(end, go), reads=False, buffer=4096).url, token_params=LARGE)
    sender = threading.Thread(target=client.redeem, kwargs={"seconds": 0.8, "keep_waiting": stop})
    sender.start()
    assert stopped.wait(5), "everything is in the kernel's hands"
    time.sleep(1.0)  # not to make a race happen: the time that the kernel must let pass
    go.set()
    assert end.came.wait(5)
    sender.join(15)
    assert (b"the-end" in end.received) is not drops


HOLDER = """
import os, signal, sys, time
from flask_tokenrotate.clock import SystemClock
from flask_tokenrotate.providers import call
from flask_tokenrotate.providers.endpoint import OAuthEndpoint
from flask_tokenrotate.provider import Provider
from flask_tokenrotate.rotation.tokens import Secret

url, closes = sys.argv[1:]
if not closes:
    call._open_calls.add = lambda call: None
clock = SystemClock()
profile = Provider(name="acme", client_id="me", client_auth="none",
                   authorization_endpoint=url + "/authorize", token_endpoint=url + "/token")

def fork_and_die():
    child = os.fork()
    if child == 0:
        print(os.getpid(), flush=True)
        os.close(1)
        time.sleep(60)
        os._exit(0)
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)

OAuthEndpoint(lambda name: profile, clock, connect_seconds=3.0).redeem(
    "acme", Secret("rt-1"), send_by=clock.monotonic() + 5, keep_waiting=fork_and_die)
"""


@pytest.mark.parametrize("closes", [True, False], ids=["real", "control"])
def test_a_forked_child_does_not_keep_the_connection(
    serve: Serve, secured: ssl.SSLContext | None, closes: bool
) -> None:
    """The sender dies by SIGKILL, and the connection with it. Control: its child would keep it open."""
    end = End()
    server = serve(end.read, tls=secured)
    arguments = [sys.executable, "-c", HOLDER, server.url, "closes" if closes else ""]
    sender = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert sender.stdout is not None
    child = int(sender.stdout.readline())
    try:
        assert sender.wait(10) == -signal.SIGKILL
        assert end.came.wait(5 if closes else 0.5) is closes
        assert end.was_reset is closes
        assert end.received == b"", "the child has sent nothing"
        os.kill(child, 0)  # the child lives
    finally:
        os.kill(child, signal.SIGKILL)
        sender.stdout.close()
    assert end.came.wait(5)


def test_a_child_leaves_other_files_alone(serve: Serve, client: Client, tmp_path: Path) -> None:
    """A descriptor that has become another file's since is not closed in the child."""
    client.at(serve(says(http(200, TOKENS))).url)
    made: list[call_module.Call] = []
    take = call_module.Call.use

    def use(self: call_module.Call, sock: socket.socket) -> None:
        take(self, sock)
        made.append(self)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(call_module.Call, "use", use)
        client.redeem()
    assert made[0].descriptor is not None
    with (tmp_path / "other").open("w") as other:
        # As if the number had been given to this file after the connection was closed.
        made[0].descriptor = other.fileno(), made[0].descriptor[1]
        child = os.fork()
        if child == 0:
            os._exit(0 if os.fstat(other.fileno()).st_ino == os.stat(other.name).st_ino else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_too_little_time_for_the_kernel_to_give_up(serve: Serve, client: Client) -> None:
    """Nothing is sent when the kernel could send it again after the time for sending."""
    server = serve(says(http(200, TOKENS)))
    client.at(server.url)
    assert client.redeem(seconds=0.3) == NotSent(cause="too_late_to_send")
    assert server.requests == []
