"""Measures the workloads and prints or writes the results."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from tests.proofs.options import names_of
from tests.servers import Servers
from tests.servers.fake_provider import provider_process

from .contestants import TITLES
from .lab import Lab
from .report import Report
from .workloads import NAMES, workload

NEEDED = ("authlib", "flask_dance", "pygal")
"""What only ``pip install -e ".[bench]"`` installs."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the program."""
    contestants = tuple(TITLES)
    parser.add_argument("--workloads", type=names_of(NAMES), default=NAMES, help=", ".join(NAMES))
    parser.add_argument(
        "--contestants", type=names_of(contestants), default=contestants, help=", ".join(contestants)
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="scales the work of each workload (%(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="write the page, and plots into a folder next to it"
    )
    parser.add_argument(
        "--figures", type=Path, metavar="FILE", help="measure nothing; take what --json has written"
    )


def run(options: argparse.Namespace) -> int:
    """Run the workloads, print what they measured and write it where asked; 1 if something is missing."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        print(f'Not installed: {", ".join(missing)}. Run: python -m pip install -e ".[bench]"')
        return 1
    from .page import machine, summary, write_page

    if options.figures:
        figures = json.loads(options.figures.read_text())
        reports, facts = [Report.of(report) for report in figures["reports"]], figures["machine"]
    else:
        reports = measure(
            options.workloads, options.contestants, rounds=options.rounds, short=not options.full
        )
        facts = machine()
    print(summary(reports))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        figures = {"machine": facts, "reports": [asdict(report) for report in reports]}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    if options.write:
        write_page(options.write, reports, facts)
    return 0


def measure(
    workloads: Sequence[str], contestants: tuple[str, ...], *, rounds: int, short: bool
) -> list[Report]:
    """Measure the workloads one after the other and print each as it is done."""
    reports = []
    with (
        tempfile.TemporaryDirectory(prefix="tokenrotate-benchmarks-") as name,
        provider_process() as provider,
        closing(Servers(Path(name))) as servers,
    ):
        lab = Lab(
            contestants=contestants,
            rounds=rounds,
            short=short,
            servers=servers,
            folder=Path(name),
            provider=provider,
        )
        for each in workloads:
            start = time.monotonic()
            reports.append(workload(each)(lab))
            print(reports[-1].markdown(), f"\n\n({each}: {time.monotonic() - start:.0f} s)\n", flush=True)
    return reports
