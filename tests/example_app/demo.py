"""The demo as a process, as somebody starts it who has just cloned the repository."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from example_app.processes import free_ports

from ..servers.processes import ROOT


@contextmanager
def demo(*options: str) -> Iterator[subprocess.Popen[str]]:
    """Run ``python -m example_app`` with ``options``; whatever is left of it at the end is stopped."""
    command = [sys.executable, "-m", "example_app", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


@contextmanager
def demo_page(*options: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """Run the demo's page on free ports; yield the process, the page's address and the provider's log."""
    ports = ["--port", str(free_ports(11)[0]), "--provider-port", str(free_ports(1)[0])]
    with demo(*ports, *options) as process:
        told = ""
        for line in process.stdout or ():
            told += line
            if line.startswith("Ctrl-C"):
                break
        page, log = re.findall(r"http://127\.0\.0\.1:\d+\S*", told)
        yield process, page, log


def descendants(pid: int) -> set[int]:
    """Return the processes below ``pid``."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                # The name in parentheses may contain anything, so the fields are counted from its end.
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    found, new = set(), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new}
        found |= new
    return found


def left_over(pids: set[int]) -> set[int]:
    """Return which of the processes are still there, as soon as none is, or after 10 s.

    Whoever was killed is gone a moment later only.
    """
    give_up_at = time.monotonic() + 10
    while (left := {pid for pid in pids if _is_running(pid)}) and time.monotonic() < give_up_at:
        time.sleep(0.01)
    return left


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for_descendants(process: subprocess.Popen[str], count: int) -> set[int]:
    """Return the processes below ``process`` as soon as there are ``count``; fail after 30 s."""
    give_up_at = time.monotonic() + 30
    while time.monotonic() < give_up_at:
        found = descendants(process.pid)
        if len(found) >= count:
            return found
        time.sleep(0.01)
    raise AssertionError(f"only {len(found)} child processes after 30 s")
