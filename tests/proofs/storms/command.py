"""Plays the storm on each database."""

from __future__ import annotations

import argparse
import tempfile
from contextlib import closing
from pathlib import Path

from tests.proofs.options import names_of
from tests.servers import Servers

from .run import run_storm, wrong

DATABASES = ("sqlite", "postgresql", "mariadb")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the program."""
    parser.add_argument(
        "--engines", type=names_of(DATABASES), default=DATABASES, help=f"databases ({','.join(DATABASES)})"
    )
    parser.add_argument("--sessions", type=int, default=10, help="users who have signed in (%(default)s)")
    parser.add_argument("--requests", type=int, default=8, help="at once, of each user (%(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="processes that serve them (%(default)s)")


def run(options: argparse.Namespace) -> int:
    """Play the storms and print their figures; 1 if the extension lost anything, or its control nothing."""
    failed = False
    size = [f"--{name}={getattr(options, name)}" for name in ("sessions", "requests", "processes")]
    for engine in options.engines:
        with (
            tempfile.TemporaryDirectory(prefix="tokenrotate-storms-") as folder,
            closing(Servers(Path(folder))) as servers,
        ):
            done, figures = run_storm(Path(folder), *size, "--database", servers.new_database(engine))
        print(f"{engine}:\n{done.stdout}", flush=True)
        for problem in wrong(figures, requests=options.sessions * options.requests):
            print(f"wrong: {problem}")
            failed = True
    return int(failed)
