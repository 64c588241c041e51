"""Feeds every parser of outside data with made-up input."""

from __future__ import annotations

import argparse
import time

from .parsers import TARGETS
from .search import feed


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the program."""
    parser.add_argument(
        "--examples", type=int, default=10_000, help="inputs in all, shared by the parsers (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="other seeds make other inputs (%(default)s)")


def run(options: argparse.Namespace) -> int:
    """Feed each parser; an input that breaks one is raised, in its shortest form."""
    share = -(-options.examples // len(TARGETS))
    began, total = time.perf_counter(), 0
    for name, target in TARGETS.items():
        ran = feed(target, share, seed_=options.seed)
        total += ran
        print(f"{name:16} {ran:7}")
    print(f"{total} examples (seed {options.seed}), none fails, {time.perf_counter() - began:.0f} s")
    return 0
