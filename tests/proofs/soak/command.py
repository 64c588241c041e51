"""Runs a soak and prints its figures."""

from __future__ import annotations

import argparse
import json
import tempfile
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from tests.servers import Servers

from .run import soak


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the program."""
    parser.add_argument("--rotations", type=int, default=5000, help="when it ends (%(default)s)")
    parser.add_argument("--grants", type=int, default=200, help="users who have signed in (%(default)s)")
    parser.add_argument(
        "--engine",
        default="postgresql",
        choices=("postgresql", "mariadb", "sqlite"),
        help="database (%(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="other seeds draw other disruptions (%(default)s)"
    )


def run(options: argparse.Namespace) -> int:
    """Run a soak and print its figures; 1 if anything is wrong."""
    with (
        tempfile.TemporaryDirectory(prefix="tokenrotate-soak-") as folder,
        closing(Servers(Path(folder))) as servers,
    ):
        figures = soak(
            Path(folder),
            servers,
            options.engine,
            rotations=options.rotations,
            grants=options.grants,
            seed=options.seed,
        )
    print(json.dumps(asdict(figures), indent=2))
    print(f"{figures.rotations / figures.seconds:.0f} rotations a second")
    for wrong in figures.wrong():
        print(f"wrong: {wrong}")
    return int(bool(figures.wrong()))
