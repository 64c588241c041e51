"""Counts the instructions that a fresh token adds to a request, which a noisy machine does not change.

``python -m tests.proofs.benchmarks.instructions`` measures and prints, ``--check`` fails where the figure
is more than 10 % above the committed one, ``--write`` commits a new one. Two runs under valgrind start
the same way and differ only in which application they ask: the one with the extension, or the one without.
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

from tests.engines.processes import find_binary

from .contestants import make_app, make_tables
from .inprocess import Caller, signed_in_cookie

COMMITTED = Path(__file__).with_suffix(".json")
REQUESTS = 200
WARM_UP = 20
TOLERANCE = 1.10
TOKENS = {"access_token": "a" * 43, "refresh_token": "r" * 43, "token_type": "Bearer", "expires_in": 86_400}


def versions() -> dict[str, str]:
    """Return what the figure depends on; with other versions it has to be measured anew."""
    packages = {name: version(name) for name in ("Flask", "Werkzeug")}
    return {"Python": platform.python_version(), "machine": platform.machine(), **packages}


def ask(which: str, folder: Path) -> None:
    """Set both applications up, then send the requests that are counted to one of them."""
    database = f"sqlite:///{folder}/grants.sqlite3"
    endpoint = {"TOKEN_ENDPOINT": "http://127.0.0.1:9/token", "CLIENT_ID": "c", "CLIENT_SECRET": "s"}
    # The cache must not run out while valgrind takes its time.
    place = {"INSTANCE": str(folder), "DATABASE": database, "CACHE_SECONDS": "86400", **endpoint}
    make_tables("tokenrotate", database)
    callers = {}
    for name, path in (("floor", "/plain"), ("tokenrotate", "/token")):
        app = make_app(name, place)
        callers[name] = Caller(app, path, signed_in_cookie(app, {**TOKENS, "user": "ada"}))
        callers[name].microseconds(WARM_UP)
    callers[which].microseconds(REQUESTS)


def counted(which: str) -> int:
    """Return how many instructions a run that asks the application ``which`` takes."""
    with tempfile.TemporaryDirectory() as folder:
        command = [find_binary("valgrind"), "--tool=callgrind", "--callgrind-out-file=/dev/null"]
        command += [sys.executable, "-m", __spec__.name, "--ask", which, "--folder", folder]
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or found is None:
        raise RuntimeError(f"valgrind failed: {done.stderr[-2000:]}")
    return int(found[1])


def measured() -> dict[str, Any]:
    """Return the instructions that a fresh token adds to each request."""
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


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.proofs.benchmarks.instructions", description=__doc__
    )
    parser.add_argument("--check", action="store_true", help="fail above the committed figure + 10 %%")
    parser.add_argument("--write", action="store_true", help=f"write {COMMITTED.name}")
    parser.add_argument("--ask", choices=("floor", "tokenrotate"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        ask(options.ask, options.folder)
        return
    now = measured()
    print(json.dumps(now, indent=1))
    if options.write:
        COMMITTED.write_text(json.dumps(now, indent=1) + "\n")
    if options.check and (mistake := check(json.loads(COMMITTED.read_text()), now)):
        sys.exit(mistake)


if __name__ == "__main__":
    main()
