"""The command: ``python -m tests.proofs.benchmarks [--workloads a,b] [--contestants x,y] [--short] …``."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.engines import Servers

from .contestants import TITLES
from .lab import Lab
from .page import machine, summary, write_page
from .provider import provider_process
from .report import Report
from .workloads import NAMES, workload


def names_of(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """Return what argparse turns a list such as ``storm,slow`` into names by."""

    def read(value: str) -> tuple[str, ...]:
        names = tuple(value.split(","))
        unknown = sorted(set(names) - set(known))
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not among {', '.join(known)}")
        return names

    return read


def main() -> None:
    """Run the workloads, print what they measured and write it where asked."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.benchmarks", description=__doc__)
    parser.add_argument("--workloads", type=names_of(NAMES), default=NAMES, help=", ".join(NAMES))
    parser.add_argument(
        "--contestants", type=names_of(tuple(TITLES)), default=tuple(TITLES), help=", ".join(TITLES)
    )
    parser.add_argument("--rounds", type=int, default=5, help="scales the work of each workload (5)")
    parser.add_argument("--short", action="store_true", help="little of everything, to see that it works")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument(
        "--write", type=Path, help="write the page (markdown), and plots into a folder beside it"
    )
    parser.add_argument("--figures", type=Path, help="measure nothing; take what --json wrote")
    options = parser.parse_args()
    if options.figures:
        figures = json.loads(options.figures.read_text())
        reports, facts = [Report.of(report) for report in figures["reports"]], figures["machine"]
    else:
        reports = run(options.workloads, options.contestants, options.rounds, options.short)
        facts = machine()
    print(summary(reports))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        figures = {"machine": facts, "reports": [asdict(report) for report in reports]}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    if options.write:
        write_page(options.write, reports, facts)


def run(workloads: Sequence[str], contestants: tuple[str, ...], rounds: int, short: bool) -> list[Report]:
    """Measure the workloads one after the other and print each as it is done."""
    reports = []
    with (
        tempfile.TemporaryDirectory(prefix="tokenrotate-benchmarks-") as name,
        provider_process() as provider,
    ):
        servers = Servers(Path(name))
        try:
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
        finally:
            servers.close()
    return reports


if __name__ == "__main__":
    main()
