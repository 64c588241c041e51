"""``python -m tests.proofs.failover [--scenarios …] [--sessions 40] [--seconds 20]``: the storms in full."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from .scenarios import SCENARIOS, Figures, play


def main() -> int:
    """Run the storms one after the other and print their figures; 1 if anything was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.failover", description=__doc__)
    parser.add_argument("--scenarios", default=",".join(SCENARIOS))
    parser.add_argument("--sessions", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: list[Figures] = []
    for scenario in options.scenarios.split(",") * options.rounds:
        with tempfile.TemporaryDirectory(prefix="tokenrotate-failover-") as folder:
            figures = play(scenario, Path(folder), sessions=options.sessions, seconds=options.seconds)
        print(", ".join(f"{name} {value}" for name, value in asdict(figures).items()), flush=True)
        found.append(figures)
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(each) for each in found], indent=2))
    return int(any(is_bad(each) for each in found))


def is_bad(figures: Figures) -> bool:
    """Return whether anything happened that must not."""
    return bool(
        figures.otherwise
        + figures.double_presentations
        + figures.families_revoked
        + (figures.sessions_lost or 0)
        + (figures.ledger_breaches or 0)
    )


if __name__ == "__main__":
    sys.exit(main())
