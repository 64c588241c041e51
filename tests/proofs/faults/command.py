"""Plays the whole fault table."""

from __future__ import annotations

import argparse
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.proofs.options import names_of

from .cells import Result, run_cells
from .page import page

ENGINES = ("sqlite", "postgresql", "mariadb")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the program."""
    parser.add_argument(
        "--engines", type=names_of(ENGINES), default=ENGINES, help=f"databases ({','.join(ENGINES)})"
    )
    parser.add_argument("--rounds", type=int, default=1, help="how often the table is played (%(default)s)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table to this file")


def run(options: argparse.Namespace) -> int:
    """Play the table, print the cells that are not as expected, and write the page; 1 if there are any."""
    results: list[Result] = []
    for number in range(1, options.rounds + 1):
        began = time.perf_counter()
        with ThreadPoolExecutor(len(options.engines)) as threads:
            found = [result for each in threads.map(_run_one, options.engines) for result in each]
        red = [result for result in found if result.faults]
        took = time.perf_counter() - began
        engines = ", ".join(options.engines)
        print(f"round {number}: {len(found)} cells on {engines}, {len(red)} red, {took:.0f} s", flush=True)
        for result in red:
            print(f"  {result}")
        results += found
    if options.write is not None:
        options.write.parent.mkdir(exist_ok=True)
        options.write.write_text(page(results, rounds=options.rounds, engines=options.engines))
    return int(any(result.faults for result in results))


def _run_one(engine: str) -> list[Result]:
    with tempfile.TemporaryDirectory(prefix="tokenrotate-faults-") as folder:
        return run_cells(engine, Path(folder))
