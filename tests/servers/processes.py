"""Starts and stops processes: servers run as an unprivileged user, on free loopback ports."""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The folder from which child processes import ``tests`` and ``flask_tokenrotate``."""


class Unavailable(Exception):
    """A server is neither reachable nor can it be started here; the text says why."""


def free_port() -> int:
    """Return a loopback port that is free now.

    Below the range that outgoing connections are given, one of which could take it in the meantime.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def find_binary(name: str, *folders: str) -> str:
    """Return the path of a server's binary. Raises `Unavailable`."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", *folders])
    found = shutil.which(name, path=path)
    if found is None:
        raise Unavailable(f"{name} is not installed")
    return found


def server_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a new folder for servers.

    Not one of pytest's: it closes its folders to all other users, and the servers refuse to run as root.
    """
    folder = tempfile.TemporaryDirectory(prefix="tokenrotate-", ignore_cleanup_errors=True)
    Path(folder.name).chmod(0o755)
    return folder


def hand_over(folder: Path, user: str) -> None:
    """Give ``folder`` to ``user`` where we are root."""
    if os.geteuid() == 0:
        account = pwd.getpwnam(user)
        os.chown(folder, account.pw_uid, account.pw_gid)


def run_as(user: str, command: Sequence[str]) -> None:
    """Run ``command`` as ``user`` to its end. Raises `Unavailable` with its output when it fails."""
    done = subprocess.run(command, **_identity(user), capture_output=True, text=True, cwd="/", check=False)
    if done.returncode:
        raise Unavailable(f"{command[0]} failed: {(done.stderr or done.stdout)[-500:]}")


class ServerProcess:
    """A server in the background, in a process group of its own: `stop` ends it and waits."""

    def __init__(
        self,
        user: str | None,
        command: Sequence[str],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                **_identity(user),
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=environment,
                start_new_session=True,
            )

    def wait_until(self, ready: Callable[[], bool], *, seconds: float = 60.0) -> None:
        """Wait until ``ready`` says so. Raises `Unavailable` with the end of the log."""
        give_up_at = time.monotonic() + seconds
        while time.monotonic() < give_up_at and self._process.poll() is None:
            if ready():
                return
            time.sleep(0.1)
        self.stop()
        raise Unavailable(f"the server did not start: {self.log.read_text(errors='replace')[-800:]}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the server and wait for it."""
        if self._process.poll() is None:
            self._process.send_signal(how)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def kill_group(self) -> None:
        """Kill the server and its children at once, and wait for it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, such as SIGSTOP."""
        self._process.send_signal(number)


def kill(pid: int) -> None:
    """End a process as a crash would."""
    os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Keep a process stopped (SIGSTOP) for the time of the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def is_stopped(pid: int) -> bool:
    """Return whether a process is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def _identity(user: str | None) -> dict[str, object]:
    if user is None or os.geteuid() != 0:
        return {}
    account = pwd.getpwnam(user)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
