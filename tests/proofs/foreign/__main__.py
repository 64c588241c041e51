"""``python -m tests.proofs.foreign [--suites Flask,Flask-Login]``: what passes, and what does not and why."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from .run import compare
from .suites import SUITES


def main() -> int:
    """Run the suites and print what they came to; 1 if a test differs for no known reason."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.foreign", description=__doc__)
    parser.add_argument("--suites", default=",".join(SUITES))
    unexpected = 0
    for name in parser.parse_args().suites.split(","):
        with tempfile.TemporaryDirectory(prefix="tokenrotate-foreign-") as folder:
            comparison = compare(SUITES[name], Path(folder))
        flasks = list(comparison.flasks.values()).count("passed")
        print(f"{name}: {comparison.passed} pass with our sessions, {flasks} with Flask's own")
        for test in sorted(comparison.differ):
            print(f"  {test}: {SUITES[name].expected.get(test, 'NOT EXPECTED')}")
        unexpected += len(comparison.unexpected)
    return int(unexpected > 0)


if __name__ == "__main__":
    sys.exit(main())
