"""``python -m tests.proofs.soak --rotations 100000 --grants 2000 [--engine NAME]``: the soak in full."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.engines import Servers

from .run import soak


def main() -> int:
    """Run a soak and print its figures; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.soak", description=__doc__)
    parser.add_argument("--rotations", type=int, default=5000)
    parser.add_argument("--grants", type=int, default=200)
    parser.add_argument("--engine", default="postgresql", choices=("postgresql", "mariadb", "sqlite"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tokenrotate-soak-") as folder:
        servers = Servers(Path(folder))
        try:
            figures = soak(
                Path(folder),
                servers,
                options.engine,
                rotations=options.rotations,
                grants=options.grants,
                seed=options.seed,
            )
        finally:
            servers.close()
    print(json.dumps(asdict(figures), indent=2))
    print(f"{figures.rotations / figures.seconds:.0f} rotations a second")
    for wrong in figures.wrong():
        print(f"wrong: {wrong}")
    return int(bool(figures.wrong()))


if __name__ == "__main__":
    sys.exit(main())
