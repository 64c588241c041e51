"""``python -m example_app``: the demo page, or the storm without a browser."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from .processes import ChildEnded, Children, free_ports, start_app, start_provider
from .storm import APPLICATIONS, Plan, run_storm, table

PAGE_PORTS = 11
"""Six connections of a browser to each make 66: enough for a storm of 64 requests."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo or the storm and return the exit code: 1 when the extension lost anything."""
    options = _parser().parse_args(arguments)
    # Session files and the SQLite database: new for each start, gone afterwards.
    with tempfile.TemporaryDirectory(prefix="tokenrotate-demo-") as folder:
        try:
            return _storm(options, Path(folder)) if options.storm else _page(options, Path(folder))
        except ChildEnded as problem:
            print(problem, file=sys.stderr)
            return 1


def _page(options: argparse.Namespace, folder: Path) -> int:
    with Children() as children:
        seconds = 0.5 if options.provider_seconds is None else options.provider_seconds
        (provider_port,) = free_ports(1, options.provider_port)
        provider = start_provider(children, provider_port, response_seconds=seconds)
        site = start_app(
            children,
            "app",
            folder,
            free_ports(PAGE_PORTS, options.port),
            provider=provider,
            processes=options.processes,
            database=options.database,
        )
        print(
            f"\nThe demo runs at {site}\n\n"
            "  1. Open it and sign in; any name will do.\n"
            '  2. Press "Expire and storm": 64 requests at once, with an access token that has run out.\n'
            f"  3. Look at what the provider was asked: {provider}/log\n\n"
            "Ctrl-C stops everything.",
            flush=True,
        )
        while True:
            children.check()
            time.sleep(0.2)


def _storm(options: argparse.Namespace, folder: Path) -> int:
    plan = Plan(
        sessions=options.sessions,
        requests=options.requests,
        processes=options.processes,
        provider_seconds=0.1 if options.provider_seconds is None else options.provider_seconds,
        database=options.database,
    )
    results = {}
    traffic = f"{plan.sessions} sessions × {plan.requests} requests at once, {plan.processes} processes"
    for name in APPLICATIONS:
        print(f"{name}: {traffic} …", file=sys.stderr)
        results[name] = run_storm(name, plan, folder)
    print(table(results))
    if options.json is not None:
        figures = {name: asdict(result) for name, result in results.items()}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if results["protected"].nothing_lost() else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m example_app",
        description="Runs a page that shows what Flask-TokenRotate does, with a provider to sign in at.",
    )
    parser.add_argument("--port", type=_positive, default=5000, help="first port to try (%(default)s)")
    parser.add_argument(
        "--provider-port", type=_positive, default=9400, help="first port to try for it (%(default)s)"
    )
    parser.add_argument("--processes", type=_positive, default=4, help="worker processes (%(default)s)")
    parser.add_argument("--database", metavar="URI", help="where grants live (a new SQLite file)")
    parser.add_argument(
        "--provider-seconds", type=float, help="time that the provider takes for an answer (0.5; storm: 0.1)"
    )
    parser.add_argument(
        "--storm", action="store_true", help="no page: measure, next to an application without the extension"
    )
    parser.add_argument("--sessions", type=_positive, default=50, help="signed-in users (%(default)s)")
    parser.add_argument("--requests", type=_positive, default=16, help="at once, of each (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the storm's figures to a file")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return number


if __name__ == "__main__":
    sys.exit(main())
