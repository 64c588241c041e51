"""A partition of the network: the acknowledgements of a request are lost, and later arrive again."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from flask_tokenrotate.providers import call as call_module
from flask_tokenrotate.rotation.verdict import Unknown

from .conftest import Client

HERE, THERE, PORT = "10.211.77.1", "10.211.77.2", 9443
SPACE, OUR_LINK, THEIR_LINK = "tokenrotate-far", "trfar0", "trfar1"
SEND_SECONDS = 2.0

ACCEPTS = f"""
import socket, time
listener = socket.create_server(("{THERE}", {PORT}))
print("ready", flush=True)
while True:
    connection, _ = listener.accept()
    print("accepted", flush=True)
    time.sleep(30)
"""


def run(command: str) -> None:
    subprocess.run(command.split(), check=True, capture_output=True)


@pytest.fixture
def far_host() -> Iterator[subprocess.Popen[str]]:
    """A host of its own behind a link, with a server that accepts and does not respond."""
    if shutil.which("ip") is None:
        pytest.skip("needs the command ip")
    try:
        run(f"ip netns add {SPACE}")
    except subprocess.CalledProcessError:
        pytest.skip("needs the right to make network namespaces")
    inside = f"ip netns exec {SPACE}"
    try:
        run(f"ip link add {OUR_LINK} type veth peer name {THEIR_LINK} netns {SPACE}")
        run(f"ip addr add {HERE}/30 dev {OUR_LINK}")
        run(f"ip link set {OUR_LINK} up")
        run(f"{inside} ip addr add {THERE}/30 dev {THEIR_LINK}")
        run(f"{inside} ip link set {THEIR_LINK} up")
        command = [*inside.split(), sys.executable, "-c", ACCEPTS]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        server.stdout.readline()
        try:
            yield server
        finally:
            server.kill()
            server.wait()
            server.stdout.close()
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            run(f"ip link del {OUR_LINK}")
        run(f"ip netns del {SPACE}")


def lose_what_comes_back() -> None:
    """Let the far host send to a machine that does not exist."""
    nobody = "lladdr 02:00:00:00:00:99 nud permanent"
    run(f"ip netns exec {SPACE} ip neigh replace {HERE} {nobody} dev {THEIR_LINK}")


@pytest.mark.long
@pytest.mark.parametrize("drops", [True, False], ids=["real", "control"])
def test_nothing_is_sent_again_after_the_time_for_sending(
    far_host: subprocess.Popen[str], client: Client, monkeypatch: pytest.MonkeyPatch, drops: bool
) -> None:
    """No segment with a byte of the request leaves after ``send_by``. Control: retransmissions do."""
    monkeypatch.setattr("flask_tokenrotate.provider.check_url", lambda url, what: None)
    monkeypatch.setattr("flask_tokenrotate.providers.transport.check_url", lambda url, what: None)
    if not drops:
        monkeypatch.setattr(call_module, "drop_unacknowledged", lambda sock, seconds: None)
    abort_on_close = call_module.abort_on_close

    def partition(sock: socket.socket) -> None:
        abort_on_close(sock)
        lose_what_comes_back()

    monkeypatch.setattr(call_module, "abort_on_close", partition)
    client.at(f"http://{THERE}:{PORT}")
    left_at: list[float] = []
    over = threading.Event()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3)) as wire:
        wire.bind((OUR_LINK, 0))
        wire.settimeout(0.2)

        def watch() -> None:
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    packet, source = wire.recvfrom(65536)
                    if source[2] == socket.PACKET_OUTGOING and b"rt-1" in packet:
                        left_at.append(time.monotonic())

        watcher = threading.Thread(target=watch)
        watcher.start()
        send_by = time.monotonic() + SEND_SECONDS
        wait_until = send_by + 4
        result = client.redeem(seconds=SEND_SECONDS, keep_waiting=lambda: wait_until)
        ended_at = time.monotonic()
        over.set()
        watcher.join()
    assert result == Unknown(cause="no_response", timed_out=True)
    assert left_at, "the request was on the wire"
    assert (max(left_at) > send_by) is not drops
    assert (ended_at > send_by) is not drops
