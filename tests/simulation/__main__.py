"""``python -m tests.simulation --schedules 20000 [--seed N]``: many schedules by one command."""

from __future__ import annotations

import argparse
import sys
import time

from .search import first_violation


def main() -> int:
    """Search, and print a summary or the schedule that fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--schedules", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began = time.perf_counter()
    violation = first_violation(options.schedules, seed=options.seed)
    took = time.perf_counter() - began
    if violation is not None:
        print(violation)
        return 1
    rate = options.schedules / took
    print(f"{options.schedules} schedules (seed {options.seed}), no violation, {rate:.0f} a second")
    return 0


if __name__ == "__main__":
    sys.exit(main())
