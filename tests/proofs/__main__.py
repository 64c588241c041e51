"""``python -m tests.proofs``: lists the programs, runs one of them, or all."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence

from tests.servers import Unavailable
from tests.servers.processes import ROOT

from .programs import PROGRAMS, Program

USAGE = """usage: python -m tests.proofs NAME [--full] [options]   run one; NAME --help shows its options
       python -m tests.proofs all [--full]              run all of them, one after the other"""


def main(arguments: Sequence[str]) -> int:
    """Run what the arguments ask for and return the exit code: 1 where a program fails."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(listing())
        return 0
    name, *rest = arguments
    if name == "all":
        parser = argparse.ArgumentParser(prog="python -m tests.proofs all")
        parser.add_argument("--full", action="store_true", help="the full form of each program")
        return run_all(PROGRAMS, ["--full"] if parser.parse_args(rest).full else [])
    program = next((program for program in PROGRAMS if program.name == name), None)
    if program is None:
        print(f"There is no program {name!r}.\n\n{listing()}", file=sys.stderr)
        return 2
    try:
        return program.run(program.parse(rest))
    except Unavailable as reason:
        print(f"{name}: {reason}", file=sys.stderr)
        return 1


def listing() -> str:
    """Return what ``python -m tests.proofs`` prints: each program with how long it takes."""
    lines = [f"{'':14}{'short':8}{'full':8}shows"]
    lines += [f"{each.name:14}{each.short_takes:8}{each.full_takes:8}{each.shows}" for each in PROGRAMS]
    return "\n".join([USAGE, "", *lines])


def run_all(programs: Sequence[Program], options: Sequence[str]) -> int:
    """Run the programs one after the other, each in a process of its own, and print a line for each."""
    summary, failed = [], False
    for program in programs:
        print(f"== {program.name}", flush=True)
        began = time.monotonic()
        command = [sys.executable, "-m", str(__package__), program.name, *options]
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        failed |= code != 0
        outcome = f"failed (exit code {code})" if code else "passed"
        summary.append(f"{program.name:14}{outcome}, {time.monotonic() - began:.0f} s")
    print("\n".join(["== summary", *summary]), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
