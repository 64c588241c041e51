"""Plays the fail-overs one after the other."""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.proofs.options import names_of

from .scenarios import SCENARIOS, Figures, play


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the program."""
    known = tuple(SCENARIOS)
    parser.add_argument("--scenarios", type=names_of(known), default=known, help=", ".join(known))
    parser.add_argument("--sessions", type=int, default=16, help="users who have signed in (%(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=9.0, help="how long each sends requests (%(default)s)"
    )
    parser.add_argument(
        "--rounds", type=int, default=1, help="how often each scenario is played (%(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")


def run(options: argparse.Namespace) -> int:
    """Play the scenarios and print their figures; 1 if anything was lost."""
    found: list[Figures] = []
    for scenario in options.scenarios * options.rounds:
        with tempfile.TemporaryDirectory(prefix="tokenrotate-failover-") as folder:
            figures = play(scenario, Path(folder), sessions=options.sessions, seconds=options.seconds)
        print(", ".join(f"{name} {value}" for name, value in asdict(figures).items()), flush=True)
        found.append(figures)
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(each) for each in found], indent=2))
    return int(any(each.is_bad for each in found))
