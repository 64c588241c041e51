"""The demo's child processes: the FakeProvider, and an application under gunicorn."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import requests

ROOT = Path(__file__).parent.parent
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
START_SECONDS = 30.0
STOP_SECONDS = 5.0


class ChildEnded(Exception):
    """A child process ended by itself, or did not start to answer."""


class Children:
    """Child processes that end with the ``with`` block, whatever ends that.

    Inside the block SIGINT, SIGTERM and SIGHUP raise SystemExit with 128 plus the signal's number.
    Each child leads a process group of its own, so that Ctrl-C reaches it through us alone, in order.
    """

    def __init__(self) -> None:
        self._children: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._starting = False
        self._asked_to_stop = 0
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Children:
        self._handlers = {number: signal.signal(number, self._on_signal) for number in STOP_SIGNALS}
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number in STOP_SIGNALS:
            # A second Ctrl-C would leave the rest of the children behind.
            signal.signal(number, signal.SIG_IGN)
        for _, child in reversed(self._children):
            child.terminate()
        for _, child in reversed(self._children):
            _end(child)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def start(self, name: str, command: Sequence[str], environment: dict[str, str]) -> None:
        """Start a child; ``environment`` is added to ours."""
        # A signal between the start of the child and its entry in the list would lose the child.
        self._starting = True
        try:
            child = subprocess.Popen(
                command, cwd=ROOT, env={**os.environ, **environment}, start_new_session=True
            )
            self._children.append((name, child))
        finally:
            self._starting = False
        if self._asked_to_stop:
            raise SystemExit(128 + self._asked_to_stop)

    def check(self) -> None:
        """Raise `ChildEnded` when a child is no longer there."""
        for name, child in self._children:
            if child.poll() is not None:
                raise ChildEnded(f"{name} ended with exit code {child.returncode}; its output says why.")

    def wait_for(self, url: str) -> None:
        """Wait until ``url`` answers. Raises `ChildEnded` when a child ends before or nothing answers."""
        give_up_at = time.monotonic() + START_SECONDS
        while time.monotonic() < give_up_at:
            self.check()
            try:
                requests.get(url, timeout=START_SECONDS, allow_redirects=False)
            except requests.ConnectionError:
                time.sleep(0.05)
            else:
                return
        raise ChildEnded(f"{url} did not answer within {START_SECONDS:.0f} s.")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        asked_before, self._asked_to_stop = self._asked_to_stop, number
        if not self._starting and not asked_before:
            raise SystemExit(128 + number)


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.returncode is not None:
        return
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(STOP_SECONDS)
    # The whole group, also where its leader went in time: gunicorn may leave a worker that was booting.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def free_ports(count: int, first: int = 0) -> list[int]:
    """Return ``count`` consecutive loopback ports that are free: any, or the next from ``first`` on.

    Raises `OSError` when there are none.
    """
    if not first:
        with socket.create_server(("127.0.0.1", 0)) as anywhere:
            first = anywhere.getsockname()[1]
    for start in range(first, 65536 - count):
        ports = list(range(start, start + count))
        if all(_is_free(port) for port in ports):
            return ports
    raise OSError(f"There are no {count} free ports in a row from {first} on.")


def _is_free(port: int) -> bool:
    try:
        with socket.create_server(("127.0.0.1", port)):
            return True
    except OSError:
        return False


def start_provider(children: Children, port: int, *, response_seconds: float) -> str:
    """Start the FakeProvider and return its address once it answers."""
    command = [sys.executable, "-m", "flask_tokenrotate.testing.provider", "--quiet", "--port", str(port)]
    command += ["--response-seconds", str(response_seconds)]
    children.start("The FakeProvider", command, {})
    url = f"http://127.0.0.1:{port}"
    children.wait_for(f"{url}/log")
    return url


def start_app(
    children: Children,
    module: str,
    folder: Path,
    ports: Sequence[int],
    *,
    provider: str,
    processes: int,
    database: str | None = None,
) -> str:
    """Start an application of this package under gunicorn and return its address once it answers.

    ``folder`` is where it keeps its files; ``database`` is a SQLAlchemy URI, whose tables are made.
    Raises `ChildEnded` when it does not start.
    """
    application = f"example_app.{module}:create_app({str(folder)!r})"
    environment = {
        "FLASK_SECRET_KEY": f"demo-{secrets.token_hex(32)}",
        "FLASK_DEMO_PROVIDER_URL": provider,
        "FLASK_DEMO_PORTS": json.dumps(list(ports)),
    }
    if module == "unprotected":
        # As its documentation says for plain http; the extension needs no such switch on loopback.
        environment["OAUTHLIB_INSECURE_TRANSPORT"] = "1"
    if database is not None:
        environment["FLASK_TOKENROTATE_DATABASE_URI"] = database
        create_tables(application, environment)
    command = [sys.executable, "-m", "gunicorn", "--config", "python:example_app.gunicorn_config"]
    command += ["--workers", str(processes), *(f"--bind=127.0.0.1:{port}" for port in ports), application]
    children.start("The application", command, environment)
    url = f"http://127.0.0.1:{ports[0]}"
    children.wait_for(url)
    return url


def create_tables(application: str, environment: dict[str, str]) -> None:
    """Run ``flask tokenrotate create-tables``. Raises `ChildEnded` when it fails."""
    command = [sys.executable, "-m", "flask", "--app", application, "tokenrotate", "create-tables"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, check=False
    )
    if done.returncode:
        raise ChildEnded("The tables could not be made; the output above says why.")
