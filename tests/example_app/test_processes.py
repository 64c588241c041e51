"""What the demo starts, it ends, whatever ends the demo."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import Any

import pytest
import requests

from example_app import processes
from example_app.processes import ChildEnded, Children, free_ports

from .demo import demo, demo_page, left_over, wait_for_descendants

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
DEAF = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)",
]


@pytest.mark.parametrize("how", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)])
def test_the_page_leaves_no_child(how: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end the provider, gunicorn and its workers, and then the demo itself."""
    with demo_page("--processes", "2") as (process, page, log):
        assert requests.get(page, timeout=10).status_code == 200
        assert requests.get(log, timeout=10).status_code == 200
        children = wait_for_descendants(process, 4)
        process.send_signal(how)
        assert process.wait(20) == 128 + how
    assert left_over(children) == set()


@pytest.mark.long
def test_the_storm_leaves_no_child() -> None:
    """A storm that is stopped in the middle ends its children too."""
    with demo("--storm", "--sessions", "2", "--processes", "2", "--provider-seconds", "5") as process:
        children = wait_for_descendants(process, 4)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM
    assert left_over(children) == set()


def test_a_child_that_is_deaf_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who ignores SIGTERM is killed after a while."""
    monkeypatch.setattr(processes, "STOP_SECONDS", 0.1)
    started = _record(monkeypatch)
    with Children() as children:
        children.start("deaf", DEAF, {})
        assert started[0].stdout is not None
        started[0].stdout.readline()
    assert started[0].returncode == -signal.SIGKILL
    started[0].stdout.close()


def test_a_signal_while_a_child_starts_does_not_lose_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal that comes before the new child is noted stops the demo after it was noted."""
    started = _record(monkeypatch, then=lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as stopped, Children() as children:
        children.start("early", SLEEP, {})
    assert stopped.value.code == 128 + signal.SIGTERM
    assert started[0].returncode == -signal.SIGTERM
    assert started[0].stdout is not None
    started[0].stdout.close()


def test_the_handlers_are_put_back() -> None:
    """After the block signals do what they did before."""
    before = signal.getsignal(signal.SIGTERM)
    with Children():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_child_that_ends_by_itself_is_told() -> None:
    """A child that fails ends the demo with its name and exit code, not with a wait."""
    with Children() as children:
        children.start("The thing", [sys.executable, "-c", "raise SystemExit(3)"], {})
        with pytest.raises(ChildEnded, match="The thing ended with exit code 3"):
            children.wait_for(f"http://127.0.0.1:{free_ports(1)[0]}")


def test_takes_the_next_ports_when_some_are_taken() -> None:
    """Ports in a row are looked for from the first on, past those that are taken."""
    first = free_ports(3)[0]
    with socket.create_server(("127.0.0.1", first + 1)):
        assert free_ports(2, first)[0] >= first + 2


def _record(monkeypatch: pytest.MonkeyPatch, then: Any = None) -> list[subprocess.Popen[bytes]]:
    """Keep every process that is started, with its output in a pipe; call ``then`` right after."""
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def recording(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(popen(*arguments, **options, stdout=subprocess.PIPE))
        if then is not None:
            then()
        return started[-1]

    monkeypatch.setattr(processes.subprocess, "Popen", recording)
    return started
