"""Counts the instructions that a fresh token adds to a request, which a noisy machine does not change.

Two runs under valgrind start the same way (`hot_path`) and differ only in which application they ask: the one
with the extension, or the one without. The figure must not be more than 10 % above the committed one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.servers.processes import find_binary

from . import hot_path
from .hot_path import REQUESTS

COMMITTED = Path(__file__).with_suffix(".json")
TOLERANCE = 1.10


def versions() -> dict[str, str]:
    """Return what the figure depends on; with other versions it has to be measured anew."""
    packages = {name: version(name) for name in ("Flask", "Werkzeug")}
    return {"Python": platform.python_version(), "machine": platform.machine(), **packages}


def counted(which: str) -> int:
    """Return how many instructions a run that asks the application ``which`` takes."""
    with tempfile.TemporaryDirectory() as folder:
        command = [find_binary("valgrind"), "--tool=callgrind", "--callgrind-out-file=/dev/null"]
        command += [sys.executable, "-m", hot_path.__name__, which, folder]
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or found is None:
        raise RuntimeError(f"valgrind failed: {done.stderr[-2000:]}")
    return int(found[1])


def measured() -> dict[str, Any]:
    """Return the instructions that a fresh token adds to each request."""
    with tempfile.TemporaryDirectory() as folder:
        # Not counted: it compiles modules that have changed, which would count in one of the two runs.
        subprocess.run(
            [sys.executable, "-m", hot_path.__name__, "floor", folder], check=True, capture_output=True
        )
    with ThreadPoolExecutor(2) as threads:
        ours, floor = threads.map(counted, ("tokenrotate", "floor"))
    return {"added_instructions_per_request": round((ours - floor) / REQUESTS), "versions": versions()}


def check(committed: dict[str, Any], now: dict[str, Any]) -> str | None:
    """Return why the check fails, or None: what was measured with other versions cannot be compared."""
    if committed["versions"] != now["versions"]:
        print(f"Not compared: the committed figure is for {committed['versions']}. Run with --write.")
        return None
    before, after = (each["added_instructions_per_request"] for each in (committed, now))
    if after > before * TOLERANCE:
        return f"A fresh token now costs {after} instructions instead of {before}: more than 10 % more."
    if after * TOLERANCE < before:
        print(f"Cheaper than the committed {before}: run with --write, so that it stays so.")
    return None


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the program."""
    parser.add_argument(
        "--write", action="store_true", help=f"write the figure to {COMMITTED.name} and compare nothing"
    )


def run(options: argparse.Namespace) -> int:
    """Count, print the figure, and compare it with the committed one; 1 if it is more than 10 % above."""
    now = measured()
    print(json.dumps(now, indent=1))
    if options.write:
        COMMITTED.write_text(json.dumps(now, indent=1) + "\n")
        return 0
    mistake = check(json.loads(COMMITTED.read_text()), now)
    if mistake is not None:
        print(mistake)
    return int(mistake is not None)
