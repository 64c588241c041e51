"""``python -m tests.proofs.faults [--engines sqlite,…] [--rounds N] [--write FILE]``: the whole table."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.engines import Unavailable

from .page import page
from .run import Result, run

ALL = "sqlite,postgresql,mariadb"


def main() -> int:
    """Run the table, print what is red, and write the page; 1 if a cell is red."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.faults", description=__doc__)
    parser.add_argument("--engines", default=ALL)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--write", type=Path, help="write the table to this file")
    options = parser.parse_args()
    engines = options.engines.split(",")
    results: list[Result] = []
    for number in range(1, options.rounds + 1):
        began = time.perf_counter()
        with ThreadPoolExecutor(len(engines)) as threads:
            found = [result for each in threads.map(_run_one, engines) for result in each]
        red = [result for result in found if result.faults]
        took = time.perf_counter() - began
        print(f"round {number}: {len(found)} cells on {', '.join(engines)}, {len(red)} red, {took:.0f} s")
        for result in red:
            print(f"  {result}")
        results += found
    if options.write is not None:
        options.write.parent.mkdir(exist_ok=True)
        options.write.write_text(page(results, rounds=options.rounds, engines=engines))
    return int(any(result.faults for result in results))


def _run_one(engine: str) -> list[Result]:
    with tempfile.TemporaryDirectory(prefix="tokenrotate-faults-") as folder:
        try:
            return run(engine, Path(folder))
        except Unavailable as reason:
            raise SystemExit(f"{engine}: {reason}") from None


if __name__ == "__main__":
    sys.exit(main())
