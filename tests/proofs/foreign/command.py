"""Runs other projects' own tests with this extension's sessions: what passes, and what does not and why."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from .run import compare
from .suites import SUITES


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the program."""
    parser.add_argument(
        "--suites", default=",".join(SUITES), help=f"which projects, of {', '.join(SUITES)} (default: all)"
    )


def run(options: argparse.Namespace) -> int:
    """Run the suites and print what they came to; 1 if a test differs for no known reason."""
    unexpected = 0
    for name in options.suites.split(","):
        with tempfile.TemporaryDirectory(prefix="tokenrotate-foreign-") as folder:
            comparison = compare(SUITES[name], Path(folder))
        flasks = list(comparison.flasks.values()).count("passed")
        print(f"{name}: {comparison.passed} pass with our sessions, {flasks} with Flask's own")
        for test in sorted(comparison.differ):
            print(f"  {test}: {SUITES[name].expected.get(test, 'NOT EXPECTED')}")
        unexpected += len(comparison.unexpected)
    return int(unexpected > 0)
