"""The FakeProvider as a program of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import requests

from flask_tokenrotate.testing.provider import serve
from flask_tokenrotate.testing.provider.command import main

from .conftest import free_port

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start the program with some arguments; it is ended after the test."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "flask_tokenrotate.testing.provider", *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_says_when_it_is_ready_and_stops_when_told(start: Start, stop: signal.Signals) -> None:
    """One line once it can be asked, its knobs from the options, and a clean end on either signal."""
    port = free_port()
    process = start("--port", str(port), "--lifetime", "2", "--no-rotation", "--scope", "a b")
    assert process.stdout is not None
    line = process.stdout.readline()
    assert f"http://127.0.0.1:{port} " in line
    knobs = requests.get(f"http://127.0.0.1:{port}/control", timeout=20).json()
    assert (knobs["lifetime"], knobs["rotation"], knobs["scope"], knobs["fail_next"]) == (
        2.0,
        False,
        "a b",
        0,
    )
    process.send_signal(stop)
    rest, complaints = process.communicate(timeout=20)
    assert (process.returncode, rest, complaints) == (0, "", "")


def test_a_taken_port_is_told_in_one_line(start: Start) -> None:
    """No traceback, and a status that a script can see."""
    port = free_port()
    first = start("--port", str(port))
    assert first.stdout is not None
    first.stdout.readline()
    second = start("--port", str(port))
    _, complaints = second.communicate(timeout=20)
    assert second.returncode == 2
    assert "in use" in complaints
    assert "Traceback" not in complaints


def test_an_impossible_knob_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The command says which option, and does not start."""
    with pytest.raises(SystemExit) as ended:
        main(["--response-seconds", "-1"])
    assert ended.value.code == 2
    assert "response_seconds" in capsys.readouterr().err


def test_serve_checks_before_it_listens() -> None:
    """Knobs and host are refused with an error that a caller can show."""
    with pytest.raises(ValueError, match="no knob 'speed'"):
        serve(0, quiet=True, speed=9)
    with pytest.raises(ValueError, match="does not listen on"):
        serve(0, host="192.0.2.1", quiet=True)
