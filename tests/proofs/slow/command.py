"""Plays the scenarios, several at once: almost all they do is wait."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.proofs.options import names_of

from .figures import Figures
from .scenarios import SCENARIOS


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the program."""
    known = tuple(SCENARIOS)
    parser.add_argument("--scenarios", type=names_of(known), default=known, help=", ".join(known))
    parser.add_argument("--rounds", type=int, default=1, help="how often each is played (%(default)s)")
    parser.add_argument("--at-once", type=int, default=5, help="how many at the same time (%(default)s)")


def run(options: argparse.Namespace) -> int:
    """Play the scenarios and print their figures; 1 if anything was lost, or a control lost nothing."""
    scenarios = [SCENARIOS[name] for name in options.scenarios] * options.rounds
    failed = False
    with ThreadPoolExecutor(options.at_once) as threads:
        for found in [threads.submit(play, scenario) for scenario in scenarios]:
            try:
                figures = found.result()
            except (TimeoutError, OSError) as error:
                failed = True
                print(f"  wrong: a scenario did not come to its end: {error}", flush=True)
                continue
            print(line(figures), flush=True)
            for problem in figures.problems:
                failed = True
                print(f"  wrong: {problem}", flush=True)
    return int(failed)


def play(scenario: Callable[[Path], Figures]) -> Figures:
    """Play a scenario in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="tokenrotate-slow-") as folder:
        return scenario(Path(folder))


def line(figures: Figures) -> str:
    """Return the figures as one line."""
    statuses = " ".join(f"{status}:{count}" for status, count in figures.statuses.items())
    more = "".join(f", {name.replace('_', ' ')} {value}" for name, value in figures.more.items())
    return (
        f"{figures.scenario}: sessions {figures.sessions}, redemptions {figures.redemptions}, "
        f"presented twice {figures.twice}, lost {figures.families_revoked}, "
        f"requests {figures.requests} ({statuses}), longest wait {figures.longest_wait} s{more}"
    )
