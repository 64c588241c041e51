"""``python -m tests.proofs.fuzz --examples 100000 [--seed N]``: so many examples, shared by all parsers."""

from __future__ import annotations

import argparse
import sys
import time

from .parsers import TARGETS
from .search import feed


def main() -> int:
    """Feed each parser and print what it took; a failing example is printed shrunk."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.fuzz", description=__doc__)
    parser.add_argument("--examples", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    share = -(-options.examples // len(TARGETS))
    began, total = time.perf_counter(), 0
    for name, target in TARGETS.items():
        ran = feed(target, share, seed_=options.seed)
        total += ran
        print(f"{name:16} {ran:7}")
    print(f"{total} examples (seed {options.seed}), none fails, {time.perf_counter() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
